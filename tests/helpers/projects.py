"""Small projects of RELION and cryoSPARC, as these programs leave them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from helpers.corpus import Content, Files, cs, cs_table, lines, loop, micrographs, optics

MOVIES = "MotionCorr/job002/Movies/{stem}.mrc"
CORRECTED = "J2/motioncorrected/{stem}_patch_aligned_doseweighted.mrc"


def write(folder: Path, files: Files) -> Path:
    """Write files below a folder, which is returned."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def pipeline(states: dict[str, str], old: bool = False) -> str:
    """Return the states of jobs as RELION 4 and later keep them, or as RELION 3 does."""
    ends = ("Name", "Alias", "Type", "Status") if old else (
        "Name", "Alias", "TypeLabel", "StatusLabel")  # fmt: skip
    rows = "".join(f"{job}/ None 5 {state}\n" for job, state in states.items())
    return "data_pipeline_general\n\n_rlnPipeLineJobCounter 9\n\n" + loop(
        " ".join(f"PipeLineProcess{end}" for end in ends), rows, "pipeline_processes"
    )


def micrograph_list(stems: str = "abc", ctf: bool = True, size: str = "4.0") -> str:
    """Return a list of micrographs, with the CTF or without."""
    rows = "".join(f"{MOVIES.format(stem=stem)} 1{' 12000' * ctf}\n" for stem in stems)
    labels = "MicrographName OpticsGroup" + " DefocusU" * ctf
    return optics(size) + loop(labels, rows, "micrographs")


def particle_table(scale: float = 1.0, stems: tuple[str, ...] = ("a", "b", "c")) -> str:
    """Return extracted particles; their optics table has no pixel size of the micrographs."""
    head = loop("OpticsGroup ImagePixelSize", "1 8.0\n", "optics")
    rows = lines("{x} {y} " + MOVIES + " 1", stems, scale)
    return head + loop("CoordinateX CoordinateY MicrographName OpticsGroup", rows, "particles")


def coordinate_list(stems: str, job: str) -> str:
    """Return a list of the coordinate files of a job."""
    rows = "".join(
        f"{MOVIES.format(stem=stem)} {job}/Movies/{stem}_manualpick.star\n" for stem in stems
    )
    return loop("MicrographName MicrographCoordinates", rows, "coordinate_files")


def relion_project() -> Files:
    """Return a project in which particles were picked, extracted and classified."""
    pictures: dict[str, Content] = {
        MOVIES.format(stem=stem): micrographs()[f"M/{stem}.mrc"] for stem in "abc"
    }
    picked = {
        f"ManualPick/job004/Movies/{stem}_manualpick.star": loop(
            "CoordinateX CoordinateY", lines("{x} {y}", (stem,))
        )
        for stem in "ab"
    }
    return {
        **pictures,
        **picked,
        "Import/job001/movies.star": loop("MicrographMovieName", "Movies/a.tif\n", "movies"),
        "MotionCorr/job002/corrected_micrographs.star": micrograph_list("abcd", False),
        "CtfFind/job003/micrographs_ctf.star": micrograph_list(),
        "ManualPick/job004/manualpick.star": coordinate_list("abc", "ManualPick/job004"),
        "ManualPick/job004/Movies/c_manualpick.star": "",
        "Extract/job005/particles.star": particle_table(),
        "Class2D/job006/run_it000_data.star": particle_table(),
        "Class2D/job006/run_it025_data.star": particle_table(),
        "Class2D/job006/run_it025_model.star": "data_model_general\n\n_rlnNrClasses 2",
        "Select/job007/particles.star": particle_table(stems=("a", "b")),
        "default_pipeline.star": pipeline({"Select/job007": "Succeeded"}),
    }


def exposures(names: Sequence[str], size: float) -> Any:
    """Return exposures with micrographs and their pixel size."""
    fields = [("uid", "<u8"), ("micrograph_blob/path", "S99"), ("micrograph_blob/psize_A", "<f4")]
    table = np.zeros(len(names), fields)
    table["uid"] = np.arange(len(names)) + 1
    table["micrograph_blob/path"] = [name.encode() for name in names]
    table["micrograph_blob/psize_A"] = size
    return table


def job(kind: str, status: str = "completed") -> str:
    """Return the description of a job of cryoSPARC."""
    return json.dumps({"job_type": kind, "status": status})


def cryosparc_project() -> Files:
    """Return a project in which particles were picked and selected, and a group exported."""
    names = [CORRECTED.format(stem=stem) for stem in "abc"]
    pictures: dict[str, Content] = {
        name: micrographs()[f"M/{stem}.mrc"] for name, stem in zip(names, "abc", strict=True)
    }
    ctf = np.zeros(3, [("uid", "<u8"), ("ctf/df1_A", "<f4")])
    selected = cs_table(CORRECTED)[:60]
    exported = "exports/groups/J7_particles_selected/J7_particles_selected_exported"
    return {
        **pictures,
        "J2/job.json": job("patch_motion_correction_multi"),
        "J2/micrographs_rigid_aligned.cs": cs(exposures(names, 4.0)),
        "J3/job.json": job("patch_ctf_estimation_multi"),
        "J3/exposures_ctf_estimated.cs": cs(ctf),
        "J3/J3_passthrough_exposures.cs": cs(exposures(names, 4.0)),
        "J5/job.json": job("blob_picker_gpu"),
        "J5/picked_particles.cs": cs(cs_table(CORRECTED)),
        "J7/job.json": job("select_2D"),
        "J7/particles_selected.cs": cs(selected),
        "J7/particles_excluded.cs": cs(cs_table(CORRECTED)[60:]),
        f"{exported}.cs": cs(cs_table(">" + CORRECTED)[:60]),
        f"{exported}.csg": "group:\n  name: particles_selected\nresults:\n  location:\n"
        "    metafile: '>J7_particles_selected_exported.cs'\n    num_items: 60\n",
    }
