from __future__ import annotations

import csv
import io
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from heliodor.conventions import Image
from heliodor.data.coordinates.formats import eman2, read_picks
from heliodor.data.micrographs.micrograph import read_map, read_micrograph
from heliodor.data.micrographs.sources import Source
from heliodor.errors import BadInput
from heliodor.evaluation.matching import match_picks
from heliodor.evaluation.ranking import precision_recall
from heliodor.integrations.topaz import extract
from heliodor.integrations.topaz.precision_recall import read_targets
from heliodor.models.model_file import (
    Model,
    load_model,
    save_model,
)
from heliodor.models.networks import Network
from heliodor.models.pretrained import load_general_model, rescale_to_diameter
from heliodor.picking.candidates import find_candidates
from heliodor.picking.nms import suppress
from heliodor.picking.score_maps import (
    compute_score_maps,
    open_working_images,
    score_micrograph,
)
from heliodor.picking.scoring import score_image
from heliodor.picking.settings import PickSettings
from helpers.cpu_time import at_most_reference_work
from helpers.networks import (
    card,
    discs,
    noise,
    scattered,
    scrambled,
    write_mrc,
)
from helpers.topaz_project import (
    Project,
    as_relion,
    as_scipion,
    make,
    run,
)

#: RELION 5's line with its defaults; the executable is called once a micrograph.
RELION = "extract  -t -6 -r 4 -d -1 -x 4 -m {model} -o {out} {image}"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make(tmp_path_factory.mktemp("project"), number=3)


@pytest.fixture(scope="module")
def ours(project: Project) -> Path:
    """A model as train leaves it."""
    path = project.folder / "model_epoch10.sav"
    lengths = {"working_pixel_size_angstrom": 1.0, "diameter_angstrom": 15.0}
    own = card(**lengths, normalization={"mode": "standard"}, background=-1.0)
    save_model(path, Model(scrambled("conv31"), own))
    return path


@pytest.fixture(scope="module")
def topaz(project: Project) -> tuple[Path, Network]:
    """A model as Topaz ships them, and the same network."""
    network = scrambled("resnet8", width=2, norm=False)
    names = {"project": "proj"}
    weights = {}
    for key, value in network.state_dict().items():
        parts = [names.get(part, part) for part in key.split(".")]
        if parts[0] == "layers":
            parts[0] = "features.features"
        weights[".".join(parts)] = value
    path = project.folder / "topaz.sav"
    torch.save(weights, path)
    return path, network


def our_scores(model: Path, image: Path) -> Image:
    loaded = load_model(model)
    working = open_working_images(loaded, 1.0).get(Source("x", image, "x"))
    return score_micrograph(loaded, working)


def table(score: Image, radius: float, threshold: float = -6.0) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    places, scores = suppress(score, radius, threshold)
    return places[:, ::-1], scores


def test_relion_reads_the_picks_of_one_micrograph(
    project: Project, ours: Path, tmp_path: Path
) -> None:
    image, out = project.images[0], tmp_path / "proc" / "rank000000.txt"
    assert run(RELION.format(model=ours, out=out, image=image)) == 0
    xy, scores = as_relion(out)
    expected, ranked = table(our_scores(ours, image), 4)
    np.testing.assert_array_equal(xy, 4 * expected)
    np.testing.assert_allclose(scores, ranked, rtol=1e-6)
    assert (np.diff(scores) <= 0).all()
    # Nothing beside the file.
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_scipion_reads_micrographs_by_number(project: Project, ours: Path, tmp_path: Path) -> None:
    images = []
    for i, path in enumerate(project.images):
        images.append(tmp_path / f"{12 + i}.mrc")
        images[-1].write_bytes(path.read_bytes())
    out = tmp_path / "coordinates.txt"
    line = f"extract -t -6 -r 5 -m {ours} -o {out} --num-workers 2 --device 0"
    assert run(line, *images) == 0
    found = as_scipion(out)
    assert list(found) == [12, 13, 14]
    for image in images:
        _, scores = table(our_scores(ours, image), 5)
        assert [score for _, _, score in found[int(image.stem)]] == pytest.approx(scores.tolist())


@pytest.mark.parametrize(
    ("line", "scale"),
    [
        # relion_run_topaz; REPIC, HPC guides and the tutorial; cryoSPARC.
        (
            "--model {model} --radius 5 --threshold 0 --up-scale 1 --batch-size 1 --min-radius 5"
            " --max-radius 100 --step-radius 5 --num-workers -1 --device -1 --output {out}",
            1,
        ),
        ("-r 5 -t 0 -x 8 -m {model} -o {out}", 8),
        ("-r 5 -t 0 -s 2 -m {model} -o {out} --per-micrograph", 0.5),
    ],
)
def test_the_lines_of_other_hosts(
    line: str, scale: float, project: Project, ours: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.txt"
    assert run("extract", line.format(model=ours, out=out), *project.images) == 0
    files = sorted(out.iterdir()) if out.is_dir() else [out]
    picks = {name: own for file in files for name, own in read_picks(file).split_by_micrograph()}
    assert list(picks) == project.names
    for name, image in zip(project.names, project.images, strict=True):
        xy, scores = table(our_scores(ours, image), 5, 0.0)
        # To whole pixels, halves to the even one.
        np.testing.assert_array_equal(picks[name].xy_px, np.rint(xy * scale))
        np.testing.assert_allclose(picks[name].score, scores, rtol=1e-6)


def test_models_of_topaz_score_as_topaz_does(
    project: Project, topaz: tuple[Path, Network], tmp_path: Path
) -> None:
    # The pixels as they are, zeros around them, no leveling.
    path, network = topaz
    out = tmp_path / "out.txt"
    assert run(f"extract -r 6 -t -100 -m {path} -o {out}", project.images[0]) == 0
    image = read_micrograph(project.images[0]).image
    score = score_image(network, np.pad(image, 60))[60:-60, 60:-60]
    expected, ranked = table(score, 6, -100)
    xy, scores = as_relion(out)
    np.testing.assert_allclose(np.sort(scores), np.sort(ranked), rtol=1e-5, atol=1e-5)
    assert len(xy) == len(expected) > 20


def test_models_by_name(
    project: Project, ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELIODOR_MODELS", str(tmp_path))
    with pytest.raises(BadInput, match=r"no model resnet16: .*heliodor model import"):
        run("extract -r 4 -m resnet16", project.images[0])
    # Without a width Topaz means its wide network.
    (tmp_path / "resnet16_u64.safetensors").write_bytes(ours.read_bytes())
    assert run(f"extract -r 4 -o {tmp_path}/a.txt", project.images[0]) == 0
    assert run(f"extract -r 4 -m {ours} -o {tmp_path}/b.txt", project.images[0]) == 0
    assert (tmp_path / "a.txt").read_bytes() == (tmp_path / "b.txt").read_bytes()


def test_without_a_model_the_general_one_is_told_the_radius(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELIODOR_MODELS", str(tmp_path))
    radius, image = 12, project.images[0]
    for name, model in (("a", ""), ("b", "-m general")):
        assert run(f"extract -r {radius} -x 2 {model} -t -9 -o {tmp_path}/{name}", image) == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    # As `pick --diameter` with pixels of which a particle's diameter is twice the radius.
    diameter = 180.0
    own = rescale_to_diameter(load_general_model(), diameter)
    working = open_working_images(own, diameter / 24).get(Source("x", image, "x"))
    look = compute_score_maps(own, working, own.normalizer.apply(working.image))
    settings = PickSettings(threshold=-9.0)
    found = find_candidates(own, working, look.score, settings, look.contamination)
    xy, scores = as_relion(tmp_path / "a")
    assert len(found.score) > 5
    np.testing.assert_array_equal(xy, np.rint(2 * found.xy_px))
    np.testing.assert_allclose(scores, found.score, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("extract -r 6", "radius of 6 pixels is too small .* needs 7"),
        ("segment -m general", "needs the size of the particle"),
        ("extract --targets {targets}", "needs the size of the particle"),
    ],
)
def test_the_general_model_needs_a_particle_of_some_pixels(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, says: str
) -> None:
    monkeypatch.setenv("HELIODOR_MODELS", str(tmp_path))
    targets = tmp_path / "targets.txt"
    targets.write_text(f"image_name\tx_coord\ty_coord\n{project.images[0].stem}\t20\t20\n")
    with pytest.raises(BadInput, match=says):
        run(words.format(targets=targets) + f" -o {tmp_path}/o", project.images[0])


def test_imported_models_score_as_topaz_does(
    project: Project, topaz: tuple[Path, Network], tmp_path: Path
) -> None:
    path, network = topaz
    imported = tmp_path / "model.safetensors"
    own = card(network="resnet8", width=2, norm=False, extra={"imported": {"program": "Topaz"}})
    save_model(imported, Model(network, own))
    for name, model in (("a", path), ("b", imported)):
        assert run(f"extract -r 6 -t -99 -m {model} -o {tmp_path}/{name}", project.images[0]) == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_no_model_is_a_sentence(project: Project, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.sav"
    wrong.write_bytes(b"not a model at all")
    with pytest.raises(BadInput, match=r"wrong\.sav"):
        run(f"extract -r 4 -m {wrong}", project.images[0])


@pytest.mark.parametrize("suffix", [".mrc", ".tiff"])
def test_score_maps_are_taken_as_they_are(suffix: str, tmp_path: Path) -> None:
    score = noise((50, 40), 3) * 40
    score[10, 20], score[30, 5], score[:3] = 5000.0, np.nan, -np.inf
    path = tmp_path / f"map{suffix}"
    if suffix == ".mrc":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pixels that are not finite
            write_mrc(path, score)
    else:
        tifffile.imwrite(path, score)
    np.testing.assert_array_equal(read_map(path), score)
    assert run(f"extract -m none -r 7 -t 1.5 -o {tmp_path}/out.txt", path) == 0
    xy, scores = as_relion(tmp_path / "out.txt")
    expected, ranked = table(score, 7, 1.5)
    np.testing.assert_array_equal(xy, expected)
    np.testing.assert_allclose(scores, ranked)
    assert tuple(xy[0]) == (20, 10)


def test_the_threshold_itself_is_no_pick(tmp_path: Path) -> None:
    score = np.zeros((40, 40), np.float32)
    score[5, 5], score[20, 20] = 2.0, 2.5
    tifffile.imwrite(tmp_path / "m.tif", score)
    assert run(f"extract -m none -r 3 -t 2 -o {tmp_path}/o", tmp_path / "m.tif") == 0
    assert as_relion(tmp_path / "o")[0].tolist() == [[20, 20]]


def test_segment_and_extract_are_extract(project: Project, ours: Path, tmp_path: Path) -> None:
    assert run(f"segment -m {ours} -o {tmp_path}/seg", *project.images) == 0
    maps = sorted((tmp_path / "seg").iterdir())
    assert [path.name for path in maps] == [f"{name}.tiff" for name in project.names]
    assert read_map(maps[0]).dtype == np.float32
    np.testing.assert_array_equal(read_map(maps[0]), our_scores(ours, project.images[0]))
    assert run(f"extract -m none -r 5 -o {tmp_path}/a.txt", *maps) == 0
    assert run(f"extract -m {ours} -r 5 -o {tmp_path}/b.txt", *project.images) == 0
    assert (tmp_path / "a.txt").read_bytes() == (tmp_path / "b.txt").read_bytes()


def test_dead_borders_are_finite_in_score_maps(ours: Path, tmp_path: Path) -> None:
    image = noise((80, 80), 1)
    image[:6] = image[5]
    write_mrc(tmp_path / "a.mrc", image)
    assert run(f"segment -m {ours} -o {tmp_path}/seg {tmp_path}/a.mrc") == 0
    score = read_map(tmp_path / "seg" / "a.tiff")
    assert (score[:6] == extract.DEAD_BORDER_SCORE).all()
    assert score[20:].min() > extract.DEAD_BORDER_SCORE


def test_paths_come_on_standard_input(
    project: Project, ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "\n".join(map(str, project.images)) + "\n\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert run(f"extract -m {ours} -r 5 -o {tmp_path}/a.txt") == 0
    assert run(f"extract -m {ours} -r 5 -o {tmp_path}/b.txt", *project.images) == 0
    assert (tmp_path / "a.txt").read_bytes() == (tmp_path / "b.txt").read_bytes()
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(BadInput, match="standard input"):
        run(f"extract -m {ours} -r 5")


def test_the_table_goes_to_standard_output_or_into_a_folder(
    project: Project, ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"extract -m {ours} -r 5 -v -d -1", *project.images) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("image_name\tx_coord\ty_coord\tscore\nmic000000\t")
    assert captured.err.count("# scored ") == 3
    assert run(f"extract -m {ours} -r 5 -o {tmp_path}", *project.images) == 0
    assert (tmp_path / "extracted_particles.txt").read_text() == captured.out


@pytest.mark.parametrize("form", ["coord", "csv", "star", "json", "box"])
def test_a_file_a_micrograph(form: str, project: Project, ours: Path, tmp_path: Path) -> None:
    line = f"extract -m {ours} -r 5 -t 0 -x 2 --per-micrograph --format {form} --suffix _x"
    assert run(f"{line} -o {tmp_path}/new", *project.images) == 0
    files = sorted((tmp_path / "new").iterdir())
    assert [path.name for path in files] == [f"{name}_x.{form}" for name in project.names]
    expected, scores = table(our_scores(ours, project.images[0]), 5, 0.0)
    expected = 2 * expected
    text = files[0].read_text()
    if form == "csv":
        rows = list(csv.DictReader(text.splitlines()))
        assert {row["filename"] for row in rows} == {f"{project.names[0]}.png"}
        points = [json.loads(row["region_shape_attributes"]) for row in rows]
        found = [[point["cx"], point["cy"]] for point in points]
        said = [float(json.loads(row["region_attributes"])["score"]) for row in rows]
        assert said == pytest.approx(scores.tolist())
    elif form == "json":
        found = [box[:2] for box in json.loads(text)["boxes"]]
    elif form == "box":
        corners = np.array([line.split() for line in text.splitlines()], dtype=int)
        assert (corners[:, 2:] == 20).all()
        found = (corners[:, :2] + 10).tolist()
    else:
        picks = read_picks(files[0])
        assert picks.micrographs[0].removesuffix(".mrc") == project.names[0]
        np.testing.assert_allclose(picks.score, scores, rtol=1e-6)
        found = picks.xy_px.tolist()
    np.testing.assert_array_equal(found, expected)


def test_without_a_folder_the_files_lie_beside_their_micrographs(
    project: Project, ours: Path, tmp_path: Path
) -> None:
    image = tmp_path / "here" / "a.mrc"
    write_mrc(image, discs((60, 60), scattered((60, 60), 3, 12)))
    assert run(f"extract -m {ours} -r 5 --per-micrograph", image) == 0
    assert (tmp_path / "here" / "a.coord").exists()


@pytest.mark.parametrize("form", ["csv", "star"])
def test_one_table_in_other_formats(
    form: str, project: Project, ours: Path, tmp_path: Path
) -> None:
    line = f"extract -m {ours} -r 5 -t 0 --format {form} -o {tmp_path}/all.{form}"
    assert run(line, *project.images) == 0
    text = (tmp_path / f"all.{form}").read_text()
    assert all(name in text for name in project.names)


def validation(line: str) -> dict[str, float]:
    assert line.startswith("# ")
    return {key: float(value) for key, value in (p.split("=") for p in line[2:].split(", "))}


@pytest.fixture(scope="module")
def targets(project: Project) -> Path:
    """Particles of two of the three images, named as hosts do."""
    project.lists("test", [0, 1])
    return project.folder / "proc" / "target_list_test.txt"


def test_the_radius_that_ranks_best_is_found(
    project: Project,
    ours: Path,
    targets: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = f"extract -m {ours} --targets {targets} --min-radius 3 --max-radius 12 --step-radius 3"
    assert run(f"{line} --assignment-radius 4 -o {tmp_path}/a.txt", *project.images) == 0
    figures = [validation(text) for text in capsys.readouterr().out.splitlines()]
    assert [own["radius"] for own in figures] == [3, 6, 9, 12]
    for own in figures:
        hits, ranked, squares = [], [], 0.0
        for image, xy in zip(project.images[:2], project.xy[:2], strict=True):
            picks, scores = table(our_scores(ours, image), own["radius"])
            pairs = match_picks(picks, xy, 4)
            hits.append(pairs.is_true_positive)
            ranked.append(scores)
            squares += float(np.nansum(pairs.distance**2))
        hit, score = np.concatenate(hits), np.concatenate(ranked)
        assert own["targets"] == 16
        assert own["recall"] == hit.sum()
        assert own["rmse"] == pytest.approx((squares / hit.sum()) ** 0.5)
        average = precision_recall(hit, score, 16).average_precision
        assert own["auprc"] == pytest.approx(average)
    best = max(figures, key=lambda own: own["auprc"])
    assert (
        run(f"extract -m {ours} -r {best['radius']:.0f} -o {tmp_path}/b.txt", *project.images) == 0
    )
    assert (tmp_path / "a.txt").read_bytes() == (tmp_path / "b.txt").read_bytes()


def test_validation_alone_writes_no_picks(
    project: Project,
    ours: Path,
    targets: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = f"extract -m {ours} -r 5 --targets {targets} --only-validate"
    assert run(line, *project.images) == 0
    (only,) = capsys.readouterr().out.splitlines()
    assert validation(only)["radius"] == 5
    folder = tmp_path / "none"
    assert run(f"{line} --per-micrograph -o {folder}", *project.images) == 0
    assert not folder.exists()


def test_targets_must_be_of_these_images(
    project: Project, ours: Path, targets: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="name none of the images"):
        run(f"extract -m {ours} --targets {targets}", project.images[2])
    other = tmp_path / project.images[0].name
    other.write_bytes(project.images[0].read_bytes())
    with pytest.raises(BadInput, match="two images are called mic000000"):
        run(f"extract -m {ours} --targets {targets}", project.images[0], other)


@pytest.mark.parametrize("command", ["extract -r 5 -o {out}", "segment -o {out}"])
def test_one_bad_micrograph_spoils_no_other(
    command: str,
    project: Project,
    ours: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = tmp_path / "bad.mrc"
    bad.write_bytes(b"truncated")
    line = f"{command} -m {ours}"
    images = [project.images[0], bad, project.images[1]]
    assert run(line.format(out=tmp_path / "a"), *images) == 3
    said = capsys.readouterr().err
    assert f"skipped {bad}" in said
    assert "1 of 3 images" in said
    assert run(line.format(out=tmp_path / "b"), images[0], images[2]) == 0

    def content(folder: Path) -> list[bytes]:
        files = sorted(folder.iterdir()) if folder.is_dir() else [folder]
        return [file.read_bytes() for file in files]

    assert content(tmp_path / "a") == content(tmp_path / "b")
    # RELION stops where the file is missing, and would take an empty one for no particles.
    with pytest.raises(BadInput, match="none of the images"):
        run(line.format(out=tmp_path / "c"), bad)
    assert not (tmp_path / "c").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "no radius: give -r"),
        ("-r -1", "0 pixels or more"),
        ("-r 5 --dims 3", "tomograms"),
        ("-r 5 --filaments", "particles"),
        ("-f", "half of their width"),
        ("-r 5 -f --targets x", "leave it out for filaments"),
        ("-r 5 -f --format box --per-micrograph", "no starts and ends"),
        ("-r 5 -t nan", "must be a number"),
        ("-r 5 -x 0", "greater than 0"),
        ("-r 5 --only-validate", "needs --targets"),
        ("-r 5 --format box", "add --per-micrograph"),
        ("--targets x --min-radius 9 --max-radius 8", "no radius to try from 9 to 8"),
        ("-r 5 --targets nowhere.txt", "nowhere.txt"),
    ],
)
def test_what_cannot_be_honoured_is_a_sentence(
    options: str, message: str, project: Project, ours: Path
) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        run(f"extract -m {ours} {options}", project.images[0])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", ["extract -r 5 --per-micrograph", "segment"])
def test_images_of_one_name_do_not_overwrite_each_other(
    line: str, project: Project, ours: Path, tmp_path: Path
) -> None:
    other = tmp_path / project.images[0].name
    other.write_bytes(project.images[0].read_bytes())
    with pytest.raises(BadInput, match="two images are called mic000000"):
        run(f"{line} -m {ours} -o {tmp_path}/out", project.images[0], other)


def test_segment_needs_a_folder(project: Project, ours: Path) -> None:
    with pytest.raises(BadInput, match="-o is missing"):
        run(f"segment -m {ours}", project.images[0])


def test_eman2_files_keep_what_they_know(project: Project, ours: Path, tmp_path: Path) -> None:
    path = tmp_path / f"{project.names[0]}_info.json"
    path.write_text('{"quality": 5}')
    line = f"extract -m {ours} -r 5 --per-micrograph --format json --suffix _info -o {tmp_path}"
    assert run(line, project.images[0]) == 0
    assert json.loads(path.read_text())["quality"] == 5
    assert np.isnan(eman2.read_picks(path).score).all()


@pytest.mark.slow
def test_little_is_imported_for_one_micrograph() -> None:
    # RELION waits for it at each of thousands of micrographs.
    import subprocess
    import sys

    code = (
        "import sys; import heliodor.integrations.topaz.main;"
        "import heliodor.integrations.topaz.extract;"
        "slow = {'pandas', 'matplotlib', 'starfile', 'typer', 'rich', 'tifffile', 'mrcfile',"
        " 'scipy.optimize', 'scipy.interpolate', 'scipy.ndimage', 'scipy.spatial', 'scipy.fft'};"
        "print(sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_images_of_one_name_in_one_table_are_mentioned(
    project: Project, ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / project.images[0].name
    again.write_bytes(project.images[0].read_bytes())
    line = f"extract -r 5 -d -1 -m {ours} -o {tmp_path / 'out.txt'}"
    assert run(line, project.images[0], again) == 0
    assert f"Several images are called {again.stem}" in capsys.readouterr().err
    assert run(line, *project.images) == 0
    assert "Several" not in capsys.readouterr().err


def test_a_missing_file_of_a_model_is_not_taken_for_a_name(project: Project) -> None:
    for name in ("run/model_epoch10.sav", "model_epoch10.sav", "/no/such"):
        with pytest.raises(BadInput, match=f"the model {name} does not exist; give"):
            run(f"extract -r 5 -m {name}", project.images[0])


def test_lists_of_many_images_take_no_time(tmp_path: Path) -> None:
    names = [f"mic{i:06d}" for i in range(30_000)]
    table_ = tmp_path / "targets.txt"
    table_.write_text("image_name\tx_coord\ty_coord\n" + "".join(f"{n}\t1\t2\n" for n in names))
    with at_most_reference_work(150):
        assert len(read_targets(str(table_), names)) == len(names)
        with pytest.raises(BadInput, match="two images"):
            read_targets(str(table_), [*names, names[-1]])
