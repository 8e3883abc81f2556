"""Files that ask for much work or memory in few bytes, and what they come to."""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from heliodor.errors import BadInput
from heliodor.models.importers import safe_pickle
from heliodor.models.importers.safe_pickle import read_pickle
from heliodor.models.importers.topaz import read_topaz_model
from heliodor.models.networks import tensor_shapes
from helpers.cpu_time import at_most_reference_work
from helpers.networks import scrambled
from helpers.topaz_files import (
    as_topaz,
    legacy_file,
    save,
    topaz_named,
    zip_file,
)

MANY = 20_000
DICT = b"ccollections\nOrderedDict\n"
CLASSIFIER = b"ctopaz.model.classifier\nLinearClassifier\n"
KEYS = b"(" + b"".join(b"J" + struct.pack("<i", i) + b"N" for i in range(MANY)) + b"u"
ONES = b"](" + b"K\x01" * MANY + b"e"


def text(length: int, letter: bytes = b"B") -> bytes:
    return b"X" + struct.pack("<I", length) + letter * length


#: Pickles of half a megabyte at most that call for billions of steps, or gigabytes.
BOMBS = {
    "one list made into many dictionaries": DICT
    + b"q\x00]("
    + text(1)
    + b"K\x01\x86q\x01"
    + b"h\x01" * MANY
    + b"e\x85q\x02"
    + b"h\x00h\x02R" * MANY
    + b".",
    "one list made into many sets": b"cbuiltins\nset\nq\x00"
    + ONES
    + b"\x85q\x01"
    + b"h\x00h\x01R" * MANY
    + b".",
    "one state stored again and again": CLASSIFIER
    + b")\x81}q\x00"
    + KEYS
    + b"b"
    + b"h\x00b" * MANY
    + b".",
    "a shape of many sides": b"ctorch._utils\n_rebuild_tensor_v2\nq\x00(("
    + b"\x8c\x07storagectorch\nFloatStorage\n\x8c\x010\x8c\x03cpuK\x01"
    + b"tQK\x00"
    + ONES
    + b"q\x02h\x02tq\x01"
    + b"h\x00h\x01R" * MANY
    + b".",
    "marks": b"(" * 1_000_000 + b".",
    "dictionaries": b"}" * 1_000_000 + b".",
    "lists in lists": b"]" * 500_000 + b"a" * 499_999 + b".",
    "a memory of one thing": b"N" + b"\x94" * 1_000_000 + b".",
    "a long text": text(8_000_000) + b".",
}


@pytest.mark.slow
@pytest.mark.parametrize("form", [legacy_file, zip_file])
@pytest.mark.parametrize("bomb", BOMBS)
def test_work_is_bounded(bomb: str, form: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "m.sav"
    program = BOMBS[bomb]
    if form is legacy_file:  # its storages say of which other one they are a part
        program = program.replace(b"tQ", b"NtQ")
    path.write_bytes(form(b"\x80\x04" + program))
    with (
        at_most_reference_work(100),
        pytest.raises(BadInput, match="pickle is too long"),
    ):
        read_topaz_model(path)


def long_number(bytes_: int) -> bytes:
    return b"\x8b" + struct.pack("<i", bytes_) + b"\x7f" * bytes_


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (long_number(1_000_000) + b".", "number that is too large"),
        (CLASSIFIER[:-1] + b"A" * 1000 + b"\n.", "which is not allowed"),
        (text(22, b"t") + b"\x94" + text(9_000) + b"\x94" + b"h\x00h\x01\x93" * 9 + b".", "names"),
        (b"c\x1b[2Jtopaz\nmodel\n.", r"names \\x1b\[2Jtopaz.model, which"),
        (b"\x95" + b"\xff" * 8 + b".", "damaged"),
        (b"\x8e" + struct.pack("<Q", 2**62) + b".", "damaged"),
    ],
)
def test_what_is_longer_than_in_any_model(program: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m.sav"
    for form in (legacy_file, zip_file):
        path.write_bytes(form(b"\x80\x04" + program))
        with pytest.raises(BadInput, match=message) as caught:
            read_topaz_model(path)
        assert len(str(caught.value)) < 300 + len(str(path))


def test_laughs_by_the_billion_stay_few() -> None:
    program = b"\x80\x02](K\x01eq\x00" + b"](h\x00h\x00eq\x00" * 1000 + b"."
    assert len(read_pickle(BytesIO(program))) == 2


# ---- tensors ----


def number(value: int) -> bytes:
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little")
    return b"\x8a" + bytes([len(raw)]) + raw


def word(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def weights(width: int, key: str = "0", count: int | None = None, stride: int = 1) -> bytes:
    """Pickle the state dictionary of a conv31, all its tensors of one storage."""
    program = b"\x80\x04}("
    for name, shape in tensor_shapes("conv31", width, norm=False).items():
        if name.startswith("layers"):
            _, place, part, own = name.split(".")
            name = f"features.features.{2 * int(place) + (part == 'activation')}.{own}"
        strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
        if len(shape) == 4 and shape[1] == 1:
            strides[1] *= stride
        held = math.prod(shape) if count is None else count
        program += word(name) + b"ctorch._utils\n_rebuild_tensor_v2\n((" + word("storage")
        program += b"ctorch\nFloatStorage\n" + word(key) + word("cpu") + number(held) + b"tQK\x00"
        program += b"(" + b"".join(map(number, shape)) + b"t"
        program += b"(" + b"".join(map(number, strides)) + b"t\x89}tR"
    return program + b"u."


def zipped(program: bytes, numbers: int) -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("m/data.pkl", program)
        archive.writestr("m/data/0", b"\0" * 4 * numbers)
    return out.getvalue()


def refused(raw: bytes, message: str, path: Path) -> None:
    path.write_bytes(raw)
    with pytest.raises(BadInput, match=message):
        read_topaz_model(path)


def test_strides_that_no_memory_has(tmp_path: Path) -> None:
    for stride in (2**40, 2**62, 2**70):
        program = weights(1, stride=stride)
        refused(zipped(program, 1000), "outside its storage", tmp_path / "m.sav")


def test_weights_that_the_file_has_no_room_for(tmp_path: Path) -> None:
    path = tmp_path / "m.sav"
    refused(zip_file(weights(1024)), "is truncated", path)
    refused(legacy_file(weights(1024)), "damaged", path)
    # The directory of a zip file may promise what is not there.
    raw = bytearray(zip_file(weights(1024)))
    place = raw.find(b"PK\x01\x02", raw.find(b"PK\x01\x02") + 1)
    raw[place + 24 : place + 28] = b"\xf0\xff\xff\xff"
    refused(bytes(raw), "is truncated", path)
    # All weights may be the same numbers, so that there are more of them than in the file.
    refused(zipped(weights(32), 128 * 64 * 25), "smaller than its weights", path)


def test_zip_files_of_endless_parts(tmp_path: Path) -> None:
    path, many = tmp_path / "m.sav", 60_000
    entry = b"PK\x01\x02" + b"\0" * 24 + struct.pack("<H", 5) + b"\0" * 16
    listed = b"".join(entry + b"%05d" % i for i in range(many))
    end = struct.pack("<HHHHLLH", 0, 0, many, many, len(listed), 4, 0)
    refused(b"PK\x03\x04" + listed + b"PK\x05\x06" + end, "list of parts is too long", path)
    # One whose parts are nowhere.
    raw = bytearray(zip_file(b"\x80\x02}."))
    place = raw.find(b"PK\x01\x02")
    for offset in (len(raw) - 5, 2**31 - 1):
        raw[place + 42 : place + 46] = struct.pack("<L", offset)
        refused(bytes(raw), "damaged", path)


def test_files_larger_than_any_model_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "m.sav"
    with path.open("wb") as stream:
        stream.truncate(2**36)
    with pytest.raises(BadInput, match="has 65536 MB"):
        read_topaz_model(path)


@pytest.mark.parametrize("legacy", [True, False])
def test_real_modules_are_far_from_the_limits(
    legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safe_pickle, "MAX_STEPS", safe_pickle.MAX_STEPS // 20)
    with topaz_named() as classes:
        read_topaz_model(
            save(as_topaz(scrambled("resnet16", 2), classes), tmp_path / "m.sav", legacy)
        )
