"""Programs that take RELION's arguments and write what RELION would, by much simpler means.

Images are really cut out of the micrographs; classes follow from how bright the middle of an image
is; maps are the reference with noise that falls with the number of particles.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

import mrcfile
import numpy as np

PROGRAMS = ("relion_preprocess", "relion_refine", "relion_image_handler", "relion_reconstruct")
_CLASSES_OF_PARTICLES = 2
_IMAGE_SIZES = ("Size", "PixelSize")


def install(folder: Path, version: str = "3.1.3", leave_out: tuple[str, ...] = ()) -> Path:
    """Write the programs into a folder, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in set(PROGRAMS) - set(leave_out):
        path = folder / name
        path.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            f"import fake_relion\nfake_relion.main({name!r}, sys.argv[1:], {version!r})\n"
        )
        path.chmod(0o755)
    return folder


def main(name: str, words: list[str], version: str) -> None:
    """Do what a program would."""
    if "--version" in words:
        print(f"RELION version: {version} \nPrecision: BASE=double\n")
        return
    after = dict(zip(words, [*words[1:], ""], strict=True))
    Path(after["--o"] if "--o" in after else after["--part_star"]).parent.mkdir(
        parents=True, exist_ok=True
    )
    if name == "relion_preprocess":
        _extract(after)
    elif name == "relion_image_handler":
        _rescale(after)
    elif name == "relion_reconstruct":
        _reconstruct(after)
    elif "--ref" in after:
        _refine(after)
    elif "--denovo_3dref" in words:
        _make_model(after)
    else:
        _classify(after)


def read_star(path: str) -> dict[str, tuple[list[str], list[list[str]]]]:
    """Return the labels and rows of each block."""
    blocks: dict[str, tuple[list[str], list[list[str]]]] = {}
    labels: list[str] = []
    rows: list[list[str]] = []
    for line in Path(path).read_text().splitlines():
        words = line.split()
        if line.startswith("data_"):
            labels, rows = [], []
            blocks[line.removeprefix("data_").strip()] = labels, rows
        elif line.startswith("_"):
            labels.append(words[0].removeprefix("_"))
        elif words and words[0] != "loop_" and not line.startswith("#"):
            rows.append(words)
    return blocks


def write_star(path: str, blocks: dict[str, tuple[list[str], list[list[str]]]]) -> None:
    """Write blocks with their labels and rows."""
    lines = []
    for name, (labels, rows) in blocks.items():
        lines += ["", f"data_{name}", "", "loop_"]
        lines += [f"_{label} #{number}" for number, label in enumerate(labels, 1)]
        lines += [" ".join(row) for row in rows] + [""]
    Path(path).write_text("\n".join(lines) + "\n")


def _extract(after: dict[str, str]) -> None:
    table = read_star(after["--i"])
    labels, rows = table["micrographs"]
    optics, groups = table["optics"]
    box = int(after["--extract_size"])
    side = int(after.get("--scale", box))
    sign = -1 if "--invert_contrast" in after else 1
    particles = []
    for row in rows:
        name = row[labels.index("rlnMicrographName")]
        stem = name.removesuffix(".mrc")
        coordinates = Path(f"{after['--coord_dir']}{stem}{after['--coord_suffix']}")
        if not coordinates.exists():
            continue
        image = mrcfile.read(name).astype(np.float32)
        columns, positions = read_star(str(coordinates))[""]
        places = [columns.index(f"rlnCoordinate{axis}") for axis in "XY"]
        stack = []
        target = Path(f"{after['--part_dir']}{stem}.mrcs")
        for number, values in enumerate(positions, 1):
            x, y = (int(float(values[place])) - box // 2 for place in places)
            cut = image[y : y + box, x : x + box]
            assert cut.shape == (box, box), "a box is cut off"
            picked = np.linspace(0, box - 1, side).round().astype(int)
            small = sign * cut[np.ix_(picked, picked)]
            stack.append((small - small.mean()) / small.std())
            particles.append(
                [*(values[place] for place in places), f"{number:06d}@{target}", *row]
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        mrcfile.write(target, np.array(stack, dtype=np.float32), overwrite=True)
    size = float(groups[0][optics.index("rlnMicrographPixelSize")]) * box / side
    keep = [place for place, label in enumerate(optics) if label != "rlnMicrographPixelSize"]
    of_images = [[*(row[place] for place in keep), f"{size}", f"{side}", "2"] for row in groups]
    names = [optics[place] for place in keep]
    names += ["rlnImagePixelSize", "rlnImageSize", "rlnImageDimensionality"]
    all_labels = ["rlnCoordinateX", "rlnCoordinateY", "rlnImageName", *labels]
    write_star(
        after["--part_star"], {"optics": (names, of_images), "particles": (all_labels, particles)}
    )


def _images(path: str) -> tuple[list[str], list[list[str]], np.ndarray]:
    labels, rows = read_star(path)["particles"]
    place = labels.index("rlnImageName")
    stacks: dict[str, np.ndarray] = {}
    images = []
    for row in rows:
        number, _, stack = row[place].partition("@")
        if stack not in stacks:
            stacks[stack] = mrcfile.read(stack)
        images.append(stacks[stack][int(number) - 1])
    return labels, rows, np.array(images)


def _classify(after: dict[str, str]) -> None:
    labels, rows, images = _images(after["--i"])
    side, count = images.shape[1], int(after["--K"])
    middle = slice(side // 3, side - side // 3)
    brightness = images[:, middle, middle].mean(axis=(1, 2))
    # What is bright in the middle is in the first classes, the rest in the others.
    threshold = 0.5 * (np.quantile(brightness, 0.05) + np.quantile(brightness, 0.95))
    number = np.where(
        brightness > threshold,
        np.arange(len(rows)) % _CLASSES_OF_PARTICLES,
        _CLASSES_OF_PARTICLES + np.arange(len(rows)) % (count - _CLASSES_OF_PARTICLES),
    )
    averages = np.zeros((count, side, side), dtype=np.float32)
    for own in np.unique(number):
        averages[own] = images[number == own].mean(axis=0)
    root = f"{after['--o']}_it{int(after['--iter']):03d}"
    rows = [[*row, str(own + 1)] for row, own in zip(rows, number, strict=True)]
    write_star(f"{root}_data.star", {"particles": ([*labels, "rlnClassNumber"], rows)})
    mrcfile.write(f"{root}_classes.mrcs", averages, overwrite=True)
    classes = [[f"{own + 1:06d}@classes", "20.0"] for own in range(count)]
    model = {"model_classes": (["rlnReferenceImage", "rlnEstimatedResolution"], classes)}
    write_star(f"{root}_model.star", model)


def _refine(after: dict[str, str]) -> None:
    blocks = read_star(after["--i"])
    labels, rows = blocks["particles"]
    shifts = ["rlnOriginXAngst", "rlnOriginYAngst"]
    if shifts[0] not in labels:
        labels = [*labels, *shifts, "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]
        rows = [[*row, "3.0", "4.0", "10.0", "20.0", "30.0"] for row in rows]
    root = f"{after['--o']}_it{int(after['--iter']):03d}"
    write_star(f"{root}_data.star", blocks | {"particles": (labels, rows)})
    with mrcfile.open(after["--ref"]) as mrc:
        _write_map(f"{root}_class001.mrc", np.array(mrc.data), float(mrc.voxel_size.x))


def _make_model(after: dict[str, str]) -> None:
    if "--sgd" in after:
        parts = ("ini", "inbetween", "fin")
        iterations = sum(int(after[f"--sgd_{part}_iter"]) for part in parts)
    else:
        iterations = int(after["--iter"])
    optics, groups = read_star(after["--i"])["optics"]
    side, size = (float(groups[0][optics.index(f"rlnImage{name}")]) for name in _IMAGE_SIZES)
    steps = np.arange(side) - side // 2
    radius = np.sqrt(steps[:, None, None] ** 2 + steps[None, :, None] ** 2 + steps**2)
    ball = 1 / (1 + np.exp(radius - float(after["--particle_diameter"]) / size / 2))
    _write_map(f"{after['--o']}_it{iterations:03d}_class001.mrc", ball, size)


def _reconstruct(after: dict[str, str]) -> None:
    _, rows = read_star(after["--i"])["particles"]
    folder = Path(after["--i"]).parent
    reference = next(folder.parents[1].parent.glob("reference/map.mrc"))
    with mrcfile.open(reference) as mrc:
        signal, voxel = np.array(mrc.data, dtype=np.float64), float(mrc.voxel_size.x)
    rng = np.random.default_rng(zlib.crc32(str(folder).encode()))
    noise = rng.normal(size=signal.shape) * 20 * signal.std() / np.sqrt(len(rows))
    _write_map(after["--o"], signal + noise, voxel)


def _rescale(after: dict[str, str]) -> None:
    side, size = int(after["--new_box"]), float(after["--rescale_angpix"])
    with mrcfile.open(after["--i"]) as mrc:
        given, voxel = np.array(mrc.data, dtype=np.float64), float(mrc.voxel_size.x)
    steps = (np.arange(side) - side // 2) * size / voxel + given.shape[0] // 2
    near = np.clip(np.round(steps), 0, given.shape[0] - 1).astype(int)
    _write_map(after["--o"], given[np.ix_(near, near, near)], size)


def _write_map(path: str, data: np.ndarray, voxel: float) -> None:
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(data.astype(np.float32))
        mrc.voxel_size = voxel
