"""Reading the modules and tensors in files of torch.save as data."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heliodor.errors import BadInput
from heliodor.models.importers.safe_pickle import (
    STORAGES,
    GlobalName,
    StorageSlice,
    TensorView,
    UnsupportedFile,
    escape_text,
    read_pickle,
)

#: Larger files are not read: the widest of Topaz's networks would take about 70 MB.
MAX_BYTES = 2**27
#: The longest list of parts of a zip file, in bytes; a network has about 100 parts.
_MAX_PARTS_BYTES = 2**20
#: The longest name of a storage.
_MAX_KEY_LENGTH = 100
#: The first values of the files that torch wrote before version 1.6, which are not zip files.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


@dataclass(frozen=True)
class TorchArchive:
    """The contents of a file: data, object records and tensor views, and the tensors' numbers."""

    value: Any
    #: Returns the bytes stored under a key, little-endian.
    numbers: Callable[[str], bytes]
    _flat: dict[tuple[str, torch.dtype], Tensor] = field(default_factory=dict)

    def tensor(self, view: TensorView) -> Tensor:
        """Return a copy of the tensor that a view describes.

        Raises
        ------
        UnsupportedFile
            If the file has too few numbers.
        """
        storage = view.storage
        flat = self._flat.get((storage.key, storage.dtype))
        if flat is None:
            raw = bytearray(self.numbers(storage.key))
            count = len(raw) // storage.dtype.itemsize
            flat = (
                torch.frombuffer(raw, dtype=storage.dtype, count=count)
                if count
                else torch.empty(0)
            )
            self._flat[storage.key, storage.dtype] = flat
        if len(flat) < storage.first + storage.count:
            raise UnsupportedFile("it is truncated")
        return flat.as_strided(view.shape, view.stride, storage.first + view.offset).clone()


class _StorageBudget:
    """The bytes that the storages of a file claim, together at most the size of the file."""

    def __init__(self, length: int) -> None:
        self._left = length
        self._sizes: dict[str, int] = {}

    def add(self, key: str, size: int) -> None:
        """Add the bytes that a storage claims."""
        known = self._sizes.get(key, 0)
        self._sizes[key] = max(known, size)
        self._left -= max(0, size - known)
        if self._left < 0:
            raise UnsupportedFile("it is truncated")


class _BoundedFile(BytesIO):
    """A file in memory that limits the size of a single read, while the limit is set."""

    limit: int | None = _MAX_PARTS_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        """Read like BytesIO; raise UnsupportedFile beyond the limit."""
        if self.limit is not None and (size is None or not 0 <= size <= self.limit):
            available = len(self.getbuffer()) - self.tell()
            if available > self.limit:
                raise UnsupportedFile("its list of parts is too long")
        return super().read(size)


def read_torch_archive(path: Path, allowed: Callable[[str], bool]) -> TorchArchive:
    """Read a file of torch.save, old or new, without executing anything in it.

    Parameters
    ----------
    allowed
        Whether a class with this full name is allowed in it.

    Raises
    ------
    BadInput
        If the file is missing.
    UnsupportedFile
        If it is not such a file, is damaged, or contains something that is not allowed.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UnsupportedFile(
                f"it has {size / 2**20:.0f} MB, but Topaz models have at most"
                f" {MAX_BYTES / 2**20:.0f} MB"
            )
        raw = path.read_bytes()
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read ({error.strerror}); check the path and its permissions"
        ) from error
    if sys.byteorder != "little":
        raise UnsupportedFile("big-endian machines are not supported")
    if raw.startswith(b"PK"):
        file = _BoundedFile(raw)
        try:
            archive = zipfile.ZipFile(file)
        except UnsupportedFile:
            raise
        except Exception as error:  # zipfile raises many types for damaged files
            raise UnsupportedFile("it is a damaged zip file") from error
        file.limit = None
        return _read_zip(archive, len(raw), allowed)
    return _read_legacy_stream(BytesIO(raw), len(raw), allowed)


def _read_zip(
    archive: zipfile.ZipFile, length: int, allowed: Callable[[str], bool]
) -> TorchArchive:
    entries = {info.filename: info for info in archive.infolist()}
    roots = [name[: -len("data.pkl")] for name in entries if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise UnsupportedFile("it is a zip file, but not one written by torch")
    root = roots[0]

    def content(name: str) -> bytes:
        info = entries.get(root + name)
        # torch does not compress, and a compressed part could be larger than memory.
        if info is None or info.compress_type != zipfile.ZIP_STORED:
            raise UnsupportedFile(f"its part {escape_text(name)} is missing or compressed")
        try:
            return archive.read(info)
        except Exception as error:  # zipfile raises many types for damaged files
            raise UnsupportedFile(f"its part {escape_text(name)} is damaged") from error

    if root + "byteorder" in entries and content("byteorder") != b"little":
        raise UnsupportedFile("its numbers are big-endian")

    claims = _StorageBudget(length)

    def stored(identifier: Any) -> StorageSlice:
        word, kind, key, _place, count = identifier
        storage = _parse_storage(word, kind, key, count)
        size = count * storage.dtype.itemsize
        if size > entries[f"{root}data/{key}"].file_size:
            raise UnsupportedFile("it is truncated")
        claims.add(key, size)
        return storage

    value = read_pickle(BytesIO(content("data.pkl")), allowed, stored)
    return TorchArchive(value, lambda key: content(f"data/{key}"))


def _read_legacy_stream(
    file: BytesIO, length: int, allowed: Callable[[str], bool]
) -> TorchArchive:
    try:
        head = [read_pickle(file) for _ in range(3)]
    except UnsupportedFile as error:
        raise UnsupportedFile("it is not a torch file") from error
    if head[:2] != [_MAGIC, _PROTOCOL] or not isinstance(head[2], dict):
        raise UnsupportedFile("it is not a torch file")
    if head[2].get("little_endian") is not True:
        raise UnsupportedFile("its numbers are big-endian")
    sizes: dict[str, int] = {}
    claims = _StorageBudget(length)

    def stored(identifier: Any) -> StorageSlice | GlobalName:
        if identifier[0] == "module":  # a class, with its source beside it
            name = identifier[1]
            if not isinstance(name, GlobalName):
                raise UnsupportedFile("its pickle is damaged")
            return name
        word, kind, key, _place, count, part = identifier
        storage = _parse_storage(word, kind, key, count)
        size = sizes.setdefault(key, storage.dtype.itemsize)
        if size != storage.dtype.itemsize:
            raise UnsupportedFile("one of its storages has two data types")
        claims.add(key, count * size)
        if part is None:
            return storage
        _, first, inner = part
        if not all(type(n) is int and n >= 0 for n in (first, inner)) or first + inner > count:
            raise UnsupportedFile("one of its tensors lies outside its storage")
        return StorageSlice(key, storage.dtype, first, inner)

    value = read_pickle(file, allowed, stored)
    numbers: dict[str, bytes] = {}
    keys = read_pickle(file)
    if not isinstance(keys, list) or not all(type(k) is str and k in sizes for k in keys):
        raise UnsupportedFile("its list of storages is damaged")
    for key in keys:
        count = int.from_bytes(file.read(8), "little", signed=True)
        if not 0 <= count <= length:
            raise UnsupportedFile("it is truncated")
        numbers[key] = file.read(count * sizes[key])
    return TorchArchive(value, lambda key: numbers.get(key, b""))


def _parse_storage(word: Any, kind: Any, key: Any, count: Any) -> StorageSlice:
    known = isinstance(kind, GlobalName) and kind.full in STORAGES
    known = known and isinstance(key, str) and len(key) <= _MAX_KEY_LENGTH
    if word != "storage" or not known or type(count) is not int or count < 0:
        raise UnsupportedFile("it refers to something other than a known storage")
    return StorageSlice(key, STORAGES[kind.full], 0, count)
