"""Reading saved torch modules as plain data, without calling anything in the file.

A pickle is a program for a small stack machine, and some instructions call any function that the
file names. The machine here cannot call anything: names stay names, objects become records of
their state, and the few functions that rebuild tensors and containers are implemented below. An
unexpected name, or an instruction that a saved module does not need, raises `UnsupportedFile`.
"""

from __future__ import annotations

import math
import pickletools
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import IO, Any

import torch

#: Torch storage classes, and the types of their numbers.
STORAGES = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
}
_ORDERED = ("collections.OrderedDict",)
_SETS = ("builtins.set", "__builtin__.set")
_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
_TENSORS = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
_KNOWN = {*_ORDERED, *_SETS, *_PARAMETERS, *_TENSORS, *STORAGES}
#: Maximum number of steps of a pickle, including copied items: about twenty times what the largest
#: of these networks needs. Otherwise a few bytes could require any amount of work.
MAX_STEPS = 300_000
#: Number of characters of a text that count as one step.
_CHARACTERS_PER_STEP = 16
#: Longest name of a class, and longest number in bits; torch's magic number has 77.
_MAX_NAME_LENGTH, _MAX_NUMBER_BITS = 200, 128


class UnsupportedFile(ValueError):
    """A file that cannot be read safely; the message gives the reason, without the file name."""


@dataclass(frozen=True)
class GlobalName:
    """A function or class that a pickle names; it is never imported."""

    full: str


@dataclass
class PickledObject:
    """An object: the full name of its class and its state."""

    kind: str
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StorageSlice:
    """A range of the numbers that a file stores under a key."""

    key: str
    dtype: torch.dtype
    first: int
    count: int


@dataclass(frozen=True)
class TensorView:
    """A tensor: its shape, and the position of its numbers in a storage."""

    storage: StorageSlice
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Number of bytes of a contiguous copy."""
        return math.prod(self.shape) * self.storage.dtype.itemsize


def read_pickle(
    file: IO[bytes],
    allowed: Callable[[str], bool] = lambda name: False,
    stored: Callable[[Any], Any] | None = None,
) -> Any:
    """Read one pickle as data, up to its end and no further.

    Parameters
    ----------
    allowed
        Whether a class with this full name is allowed; its objects become `PickledObject`.
    stored
        Returns the value for a persistent identifier of something outside the pickle.

    Raises
    ------
    UnsupportedFile
        If the pickle is damaged, names something that is not allowed, or has other instructions
        than a saved module.
    """
    machine = _PickleMachine(allowed, stored)
    try:
        # Python warns about damaged text before it raises; the error is enough.
        with warnings.catch_warnings(action="ignore"):
            for code, argument, _ in pickletools.genops(file):
                machine.spend(_count_steps(argument))
                if code.name == "STOP":
                    return machine.stack.pop()
                if code.name in _LITERALS:
                    machine.stack.append(argument)
                elif code.name in _STEPS:
                    _STEPS[code.name](machine, argument)
                else:
                    raise UnsupportedFile(
                        f"its pickle has the instruction {code.name}, which is not allowed;"
                        " nothing was executed"
                    )
    except UnsupportedFile:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise UnsupportedFile("its pickle is damaged") from error
    raise UnsupportedFile("its pickle has no end")


def _count_steps(argument: Any) -> int:
    """Return the number of steps that an instruction with this argument counts as."""
    if isinstance(argument, int) and argument.bit_length() > _MAX_NUMBER_BITS:
        raise UnsupportedFile("its pickle has a number that is too large")
    return 1 + len(argument) // _CHARACTERS_PER_STEP if isinstance(argument, str | bytes) else 1


def escape_text(text: Any) -> str:
    """Return the start of a text from the file, escaped so that it is safe to print."""
    return ascii(str(text)[:80])[1:-1]


class _StackMark:
    """Marks where the items of a list, tuple or dictionary start on the stack."""


class _PickleMachine:
    """The stack machine of a pickle, with the instructions that build data."""

    def __init__(
        self, allowed: Callable[[str], bool], stored: Callable[[Any], Any] | None
    ) -> None:
        self.allowed = allowed
        self.stored = stored
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.left = MAX_STEPS

    def spend(self, steps: int) -> None:
        """Count steps, and raise UnsupportedFile if there are too many."""
        self.left -= steps
        if self.left < 0:
            raise UnsupportedFile("its pickle is too long")

    def name(self, module: str, name: str) -> None:
        """Push the name of a function or class."""
        full = f"{module[:_MAX_NAME_LENGTH]}.{name[:_MAX_NAME_LENGTH]}"
        if len(full) > _MAX_NAME_LENGTH or (full not in _KNOWN and not self.allowed(full)):
            raise UnsupportedFile(
                f"it names {escape_text(full)}, which is not allowed; nothing was executed"
            )
        self.stack.append(GlobalName(full))

    def name_from_stack(self) -> None:
        """Push the name that the two upper strings on the stack form."""
        name, module = self.stack.pop(), self.stack.pop()
        self.name(module, name)

    def look_up(self) -> None:
        """Replace the identifier on top by the value outside the pickle that it refers to."""
        if self.stored is None:
            raise UnsupportedFile("its pickle refers to external data")
        self.stack.append(self.stored(self.stack.pop()))

    def call(self) -> None:
        """Push the value that one of the few known functions would return."""
        arguments, function = self.stack.pop(), self.stack.pop()
        full = function.full if isinstance(function, GlobalName) else ""
        value: Any
        self.spend(sum(len(a) for a in arguments[:4] if isinstance(a, tuple | list | dict | set)))
        if full in _ORDERED and len(arguments) <= 1:
            # Python 2 passes the items, Python 3 stores them afterwards.
            keys, values = zip(*arguments[0], strict=True) if any(arguments) else ((), ())
            value = dict(zip(_check_keys(keys), values, strict=True))
        elif full in _SETS and len(arguments) <= 1:
            value = set(_check_keys(arguments[0] if arguments else ()))
        elif full in _PARAMETERS and isinstance(arguments[0], TensorView):
            value = arguments[0]
        elif full in _TENSORS:
            value = _build_tensor_view(*arguments[:4])
        else:
            raise UnsupportedFile(f"it calls {full or 'something'} in an unexpected way")
        self.stack.append(value)

    def new(self) -> None:
        """Push an empty object of a class."""
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, GlobalName) or name.full in _KNOWN or arguments != ():
            raise UnsupportedFile("it creates an object in an unexpected way")
        self.stack.append(PickledObject(name.full))

    def build(self) -> None:
        """Store the state of an object; the attributes of a dictionary are not needed."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, PickledObject) and isinstance(state, dict):
            self.spend(len(state))
            target.state.update(state)
        elif not isinstance(target, dict):
            raise UnsupportedFile("its pickle is damaged")

    def set_items(self, items: list[Any]) -> None:
        """Add alternating keys and values to the dictionary on top."""
        if not isinstance(self.stack[-1], dict):
            raise UnsupportedFile("its pickle is damaged")
        self.stack[-1].update(zip(_check_keys(items[::2]), items[1::2], strict=True))

    def extend(self, items: list[Any]) -> None:
        """Append items to the list on top."""
        if not isinstance(self.stack[-1], list):
            raise UnsupportedFile("its pickle is damaged")
        self.stack[-1].extend(items)

    def gather(self, count: int) -> list[Any]:
        """Pop the top `count` items."""
        items = self.stack[-count:]
        if len(items) != count:
            raise UnsupportedFile("its pickle is damaged")
        del self.stack[-count:]
        return items

    def since_mark(self) -> list[Any]:
        """Pop the items down to the last mark, and the mark."""
        count = 0
        while not isinstance(self.stack[-1 - count], _StackMark):
            count += 1
        return self.gather(count + 1)[1:]

    def remember(self, place: int | None) -> None:
        """Store the top item in the memo."""
        self.memo[len(self.memo) if place is None else place] = self.stack[-1]


def _check_keys(keys: Iterable[Any]) -> list[Any]:
    """Return keys if they are text or integers; hashing a deep tuple could crash the process."""
    keys = list(keys)
    if not all(type(key) in (str, int) for key in keys):
        raise UnsupportedFile("its pickle has keys that are neither text nor integers")
    return keys


def _build_tensor_view(storage: Any, offset: Any, shape: Any, stride: Any) -> TensorView:
    view = TensorView(storage, offset, tuple(shape), tuple(stride))
    numbers = (offset, *view.shape, *view.stride)
    if not isinstance(storage, StorageSlice) or not all(
        type(n) is int and n >= 0 for n in numbers
    ):
        raise UnsupportedFile("one of its tensors has an invalid description")
    if max(numbers) > storage.count:
        raise UnsupportedFile("one of its tensors lies outside its storage")
    last = offset + sum((n - 1) * step for n, step in zip(view.shape, view.stride, strict=True))
    # A tensor may not be larger than its storage, or a small file could require much memory.
    if 0 in view.shape or max(last + 1, math.prod(view.shape)) > storage.count:
        raise UnsupportedFile("one of its tensors lies outside its storage")
    return view


#: Instructions that push a number or a text.
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
    *("BINUNICODE", "SHORT_BINUNICODE"),
}
#: The other instructions of saved modules.
_STEPS: dict[str, Callable[[_PickleMachine, Any], None]] = {
    "PROTO": lambda m, a: None,
    "FRAME": lambda m, a: None,
    "MARK": lambda m, a: m.stack.append(_StackMark()),
    "NONE": lambda m, a: m.stack.append(None),
    "NEWTRUE": lambda m, a: m.stack.append(True),
    "NEWFALSE": lambda m, a: m.stack.append(False),
    "EMPTY_TUPLE": lambda m, a: m.stack.append(()),
    "EMPTY_LIST": lambda m, a: m.stack.append([]),
    "EMPTY_DICT": lambda m, a: m.stack.append({}),
    "TUPLE1": lambda m, a: m.stack.append(tuple(m.gather(1))),
    "TUPLE2": lambda m, a: m.stack.append(tuple(m.gather(2))),
    "TUPLE3": lambda m, a: m.stack.append(tuple(m.gather(3))),
    "TUPLE": lambda m, a: m.stack.append(tuple(m.since_mark())),
    "APPEND": lambda m, a: m.extend(m.gather(1)),
    "APPENDS": lambda m, a: m.extend(m.since_mark()),
    "SETITEM": lambda m, a: m.set_items(m.gather(2)),
    "SETITEMS": lambda m, a: m.set_items(m.since_mark()),
    "BINPUT": lambda m, a: m.remember(a),
    "LONG_BINPUT": lambda m, a: m.remember(a),
    "MEMOIZE": lambda m, a: m.remember(None),
    "BINGET": lambda m, a: m.stack.append(m.memo[a]),
    "LONG_BINGET": lambda m, a: m.stack.append(m.memo[a]),
    "GLOBAL": lambda m, a: m.name(*a.split(" ", 1)),
    "STACK_GLOBAL": lambda m, a: m.name_from_stack(),
    "BINPERSID": lambda m, a: m.look_up(),
    "REDUCE": lambda m, a: m.call(),
    "NEWOBJ": lambda m, a: m.new(),
    "BUILD": lambda m, a: m.build(),
}
