"""Files as other programs leave them are understood, or refused in a sentence.

The situations, and what is right for each, stand in `helpers.corpus`.
"""

from __future__ import annotations

import csv
import gzip
import shlex
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from heliodor.data.micrographs.micrograph import read_micrograph
from heliodor.errors import BadInput
from heliodor.workflows import train
from helpers import corpus, topaz_cli
from helpers.cli import Result, call, done

ROWS = {f"{row.kind}: {row.name}": row for row in corpus.ROWS}
#: Rows per situation: the reported one, or its test elsewhere, and three neighbors.
FEWEST = 3


def write(folder: Path, files: corpus.Files) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def run(command: str) -> Result:
    if command.startswith("topaz "):
        return topaz_cli.run(command)
    return call(*shlex.split(command))


@pytest.fixture(autouse=True)
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(*_: object, **__: object) -> None:
        raise BadInput(corpus.BEGINS)

    monkeypatch.setattr(train, "train_network", begin)
    # The diameter that labels show takes longer than all the rest, and is tested elsewhere.
    monkeypatch.setattr(train, "find_diameter_conflict", lambda *_, **__: None)


@pytest.mark.parametrize("name", ROWS)
def test_what_is_right(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = ROWS[name]
    if row.has_micrographs:
        write(tmp_path, corpus.micrographs())
    write(tmp_path, row.files())
    for link, target in row.links.items():
        (tmp_path / link).parent.mkdir(exist_ok=True)
        (tmp_path / link).symlink_to(target)
    monkeypatch.chdir(tmp_path / row.folder)
    result = run(row.command)
    said = result.out + result.err
    assert result.code == row.code, said
    assert "Traceback" not in said
    for words in row.said:
        assert words in said
    for words in row.unsaid:
        assert words not in said
    if row.rows:
        with open("out.csv", encoding="utf-8", newline="") as stream:
            found = [(r["micrograph"], float(r["x_px"]), float(r["y_px"]))
                     for r in csv.DictReader(stream)]  # fmt: skip
        assert found == list(row.rows)


def test_each_situation_has_neighbors() -> None:
    names = [f"{row.kind}: {row.name}" for row in corpus.ROWS]
    assert len(set(names)) == len(names)
    assert min(Counter(row.kind for row in corpus.ROWS).values()) >= FEWEST


def test_rows_for_heliodor_topaz_count_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their results have no micrographs' paths, and so only their numbers are compared."""
    monkeypatch.chdir(tmp_path)
    counts = {"empty file": 40, "one behind another": 240, "comments": 1, "shifts": 120}
    for row in corpus.ROWS:
        if row.command.startswith("topaz "):
            write(tmp_path, row.files())
            out = Path(row.command.partition(" -o ")[2].split()[0])
            topaz_cli.good(row.command)
            assert len(out.read_text().splitlines()) - 1 == counts.pop(row.kind)
    assert not counts


def without_extremes(raw: bytes) -> bytes:
    """Return an MRC file whose header does not have the minimum and maximum."""
    return raw[:76] + bytes(12) + raw[88:]


def test_unsigned_pixels_in_signed_modes_give_the_same_working_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    image = corpus.discs(corpus.SHAPE, corpus.centers("a"), 2.0)
    forms = {
        "stamped.mrc": corpus.as_unsigned_bytes(image, True),
        "bare.mrc": corpus.as_unsigned_bytes(image, False),
        "packed.mrc.gz": gzip.compress(corpus.as_unsigned_bytes(image, False)),
        "integers.mrc": corpus.as_unsigned_integers(image),
        "unknown.mrc": without_extremes(corpus.as_unsigned_integers(image)),
        "packed_unknown.mrc.gz": gzip.compress(
            without_extremes(corpus.as_unsigned_integers(image))
        ),
    }
    write(Path("M"), forms)
    done("preprocess", "M", "--working-pixel-size", 8, "--normalization", "standard", "-o", "out")
    images = [read_micrograph(path).image for path in sorted(Path("out").glob("*.mrc"))]
    assert len(images) == len(forms)
    for one in images[1:]:
        np.testing.assert_allclose(one, images[0], atol=0.1)
    expected = image - image.mean()
    assert np.corrcoef(images[0].ravel(), expected[::2, ::2].ravel())[0, 1] > 0.5
