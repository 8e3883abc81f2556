"""The command that makes micrographs with known truth."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from heliodor.cli.options import Seed, choice, flag, number
from heliodor.errors import BadInput
from heliodor.utils import console
from heliodor.utils.settings import parse_shape as shape_of

log = logging.getLogger(__name__)

_SPECIMEN, _IMAGING = "Specimen", "Imaging"
#: In negative stain particles stand out more.
SNR, SNR_IN_STAIN = 0.12, 1.0


def simulate(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the results.")] = Path(
        "simulated"
    ),
    particle: Annotated[
        str | None,
        choice(
            "NAME",
            "barrel, ribosome, trimer, shell or stick, or drawn-N: a randomly generated particle"
            " with seed N.",
            "Particle",
            default="barrel",
        ),
    ] = None,
    structure: Annotated[
        Path | None,
        choice(
            "FILE",
            "Simulate this particle instead: an atomic model (.cif, .pdb, .ent) or a density"
            " map (.mrc, .map, .ccp4).",
            "Particle",
        ),
    ] = None,
    assembly: Annotated[
        str | None,
        choice(
            "NAME",
            "Biological assembly of the atomic model, or none.",
            "Particle",
            default="its first",
        ),
    ] = None,
    contour: Annotated[
        float | None,
        number("LEVEL", "Contour level of the density map.", "Particle", "found in the map"),
    ] = None,
    diameter: Annotated[
        float | None,
        number(
            "ANGSTROM",
            "Longest diameter of the particle of --structure or drawn-N.",
            "Particle",
            "its own",
        ),
    ] = None,
    count: Annotated[int, choice("N", "Number of micrographs.", "Output", default="16")] = 16,
    size_px: Annotated[
        str,
        choice("WxH", "Width and height in pixels.", "Output", "--size-px", default="1024x1024"),
    ] = "1024x1024",
    pixel_size: Annotated[float, number("ANGSTROM", "Pixel size.", "Output", "4")] = 4.0,
    particles: Annotated[
        int | None,
        choice(
            "N",
            "Particles per micrograph, 0 for none.",
            "Particle",
            default="the usual number for the particle",
        ),
    ] = None,
    snr: Annotated[
        float | None,
        number(
            "RATIO",
            "Signal-to-noise ratio of particles at 4 Å/pixel.",
            _IMAGING,
            f"{SNR}; in negative stain {SNR_IN_STAIN:g}",
        ),
    ] = None,
    defocus_min: Annotated[float, number("UM", "Minimum defocus.", _IMAGING, "1")] = 1.0,
    defocus_max: Annotated[float, number("UM", "Maximum defocus.", _IMAGING, "2.2")] = 2.2,
    voltage: Annotated[float, number("KV", "Accelerating voltage.", _IMAGING, "300")] = 300.0,
    b_factor: Annotated[
        float, number("ANGSTROM2", "B-factor of the CTF envelope.", _IMAGING, "150")
    ] = 150.0,
    ice: Annotated[
        float | None, number("NM", "Mean thickness of the ice.", _SPECIMEN, "45")
    ] = None,
    ice_gradient: Annotated[
        float | None,
        number(
            "SHARE",
            "Change of the ice thickness from the center to the far edge.",
            _SPECIMEN,
            "random, up to 0.35",
        ),
    ] = None,
    negative_stain: Annotated[
        bool,
        flag("--negative-stain", "Bright particles in heavy metal, not in ice.", _SPECIMEN),
    ] = False,
    contaminants: Annotated[
        str,
        choice(
            "LEVELS",
            "Carbon, ice, gold, aggregates: 0 none, 1 usual; or by kind, as in"
            " carbon=4,crystals=0 or 0,gold=2 (also clumps, fragments).",
            _SPECIMEN,
            default="1",
        ),
    ] = "1",
    carbon_only: Annotated[
        bool,
        flag("--carbon-only", "Only carbon film on every micrograph, no particles.", _SPECIMEN),
    ] = False,
    orientations: Annotated[
        str, choice("HOW", "random or preferred.", _SPECIMEN, default="random")
    ] = "random",
    overlap: Annotated[bool, flag("--overlap", "Let particles overlap.", _SPECIMEN)] = False,
    detector: Annotated[
        str,
        choice(
            "KIND",
            "counting, or integrating: blur, read noise and a lower DQE.",
            _IMAGING,
            default="counting",
        ),
    ] = "counting",
    inverted: Annotated[
        bool, flag("--inverted", "Invert the contrast: bright particles.", _IMAGING)
    ] = False,
    eight_bit: Annotated[
        bool, flag("--eight-bit", "Write MRC mode 0: one byte per pixel, stretched.", "Output")
    ] = False,
    labels: Annotated[
        int, choice("N", "Also write N random labels to labels.star.", "Output", default="0")
    ] = 0,
    masks: Annotated[
        bool,
        flag(
            "--masks",
            "Also write masks/NAME.png: 255 on carbon, crystals, gold, aggregates.",
            "Output",
        ),
    ] = False,
    seed: Seed = 0,
) -> None:
    """Simulate micrographs with known particles: MRC files, micrographs.star, truth.star."""
    from heliodor.simulation import SimulationSettings
    from heliodor.simulation import simulate as make
    from heliodor.simulation.contaminant_levels import parse_contaminant_levels

    more: dict[str, Any] = {} if ice is None else {"ice_nm": ice}
    settings = SimulationSettings(
        particle=_particle(particle, structure, assembly, contour, diameter),
        count=count,
        shape=shape_of(size_px, "--size-px"),
        pixel_size_angstrom=pixel_size,
        particles_per_micrograph=particles,
        snr=snr if snr is not None else (SNR_IN_STAIN if negative_stain else SNR),
        defocus_um=(defocus_min, defocus_max),
        voltage_kv=voltage,
        b_factor=b_factor,
        ice_gradient=ice_gradient,
        negative_stain=negative_stain,
        contaminants=parse_contaminant_levels(contaminants),
        carbon_only=carbon_only,
        orientations=orientations,  # type: ignore[arg-type]
        overlap=overlap,
        detector=detector,  # type: ignore[arg-type]
        inverted=inverted,
        eight_bit=eight_bit,
        labels=labels,
        masks=masks,
        seed=seed,
        **more,
    )
    if structure is not None:
        log.info(f"{settings.resolved_particle.name}: {settings.resolved_particle.description}")
    with console.progress(f"simulating {settings.resolved_particle.name}") as progress:
        made = make(out, settings, progress)
    log.info(f"{made.micrograph_count} micrographs with {made.particle_count} particles in {out}")


def _particle(
    name: str | None,
    structure: Path | None,
    assembly: str | None,
    contour: float | None,
    diameter: float | None,
) -> Any:
    """Return the name of a particle, or the particle that is in a file."""
    drawn = name is not None and name.startswith("drawn-")
    if drawn and structure is None and assembly is None and contour is None:
        from heliodor.simulation.training_world.random_particles import draw_particle

        number = str(name).removeprefix("drawn-")
        if not number.isdecimal() or len(number) > 9:
            raise BadInput(
                f"{name} is not a particle: drawn- must be followed by a number, 0 or more"
            )
        return draw_particle(int(number), diameter)
    if structure is None:
        for option, value in (
            ("assembly", assembly),
            ("contour", contour),
            ("diameter", diameter),
        ):
            if value is not None:
                raise BadInput(f"--{option} is only for the particle of --structure")
        return "barrel" if name is None else name
    if name is not None:
        raise BadInput("give either --particle or --structure, not both")
    from heliodor.simulation import read_structure

    return read_structure(
        structure, assembly=assembly, contour=contour, diameter_angstrom=diameter
    )
