"""Saved torch modules read as plain data: nothing in the file is ever called.

A pickle is a program for a small stack machine, some of whose instructions call whatever function
the file names. The machine here cannot call anything: names stay names, objects of a class become
records of what was stored in them, and the few functions that rebuild tensors and containers are
written out below. A name that is not expected, or an instruction that a saved module does not
need, is the end of the reading.
"""

from __future__ import annotations

import math
import pickletools
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import IO, Any

import torch

#: Storages of torch by name, and what their numbers are.
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
#: Steps that a pickle may take, where to copy an item is one too: some twenty times what the
#: largest of these networks needs. A few bytes could ask for any amount of work otherwise.
MAX_STEPS = 300_000
#: Characters of a text that count as one step.
_CHARACTERS_PER_STEP = 16
#: Longest name of a class, and longest number in bits; torch's magic number has 77.
_MAX_NAME_LENGTH, _MAX_NUMBER_BITS = 200, 128


class UnsupportedFile(ValueError):
    """A pickle that is not followed any further; the message says why, without the file."""


@dataclass(frozen=True)
class GlobalName:
    """A global that a pickle names; it is never looked up."""

    full: str


@dataclass
class PickledObject:
    """An object of a class: the class's full name and what was stored in it."""

    kind: str
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StorageSlice:
    """Some of the numbers that a file holds under a key."""

    key: str
    dtype: torch.dtype
    first: int
    count: int


@dataclass(frozen=True)
class TensorView:
    """A tensor: a shape, and where in a storage its numbers are."""

    storage: StorageSlice
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of a tensor of its own."""
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
        Whether a class of this full name may occur; its objects become `PickledObject`.
    stored
        What an identifier of something outside the pickle stands for.

    Raises
    ------
    Refused
        If the pickle is damaged, names anything else, or does what saved modules do not do.
    """
    machine = _PickleMachine(allowed, stored)
    try:
        # Of damaged text Python warns before it fails, and one word is enough.
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
                        f"its pickle has the instruction {code.name}, and nothing was run"
                    )
    except UnsupportedFile:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise UnsupportedFile("its pickle is damaged") from error
    raise UnsupportedFile("its pickle has no end")


def _count_steps(argument: Any) -> int:
    """Return the steps that an instruction with this argument counts for."""
    if isinstance(argument, int) and argument.bit_length() > _MAX_NUMBER_BITS:
        raise UnsupportedFile("its pickle has a number that no such model has")
    return 1 + len(argument) // _CHARACTERS_PER_STEP if isinstance(argument, str | bytes) else 1


def escape_text(text: Any) -> str:
    """Return the beginning of a text of the file in a form that does nothing to a terminal."""
    return ascii(str(text)[:80])[1:-1]


class _StackMark:
    """Where the items of a list, tuple or dictionary begin on the stack."""


class _PickleMachine:
    """The stack, and those instructions that build data on it."""

    def __init__(
        self, allowed: Callable[[str], bool], stored: Callable[[Any], Any] | None
    ) -> None:
        self.allowed = allowed
        self.stored = stored
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.left = MAX_STEPS

    def spend(self, steps: int) -> None:
        """Count steps, and refuse what takes more than any such model."""
        self.left -= steps
        if self.left < 0:
            raise UnsupportedFile("its pickle is longer than that of any such model")

    def name(self, module: str, name: str) -> None:
        """Name a function or class."""
        full = f"{module[:_MAX_NAME_LENGTH]}.{name[:_MAX_NAME_LENGTH]}"
        if len(full) > _MAX_NAME_LENGTH or (full not in _KNOWN and not self.allowed(full)):
            raise UnsupportedFile(
                f"it names {escape_text(full)}, which no such model needs, and nothing was run"
            )
        self.stack.append(GlobalName(full))

    def name_from_stack(self) -> None:
        """Name what two strings on the stack spell."""
        name, module = self.stack.pop(), self.stack.pop()
        self.name(module, name)

    def look_up(self) -> None:
        """Name something outside the pickle."""
        if self.stored is None:
            raise UnsupportedFile("its pickle refers to something outside it")
        self.stack.append(self.stored(self.stack.pop()))

    def call(self) -> None:
        """Put down what one of the few known functions would return."""
        arguments, function = self.stack.pop(), self.stack.pop()
        full = function.full if isinstance(function, GlobalName) else ""
        made: Any
        self.spend(sum(len(a) for a in arguments[:4] if isinstance(a, tuple | list | dict | set)))
        if full in _ORDERED and len(arguments) <= 1:
            # Python 2 hands over the items, Python 3 stores them afterwards.
            keys, values = zip(*arguments[0], strict=True) if any(arguments) else ((), ())
            made = dict(zip(_check_keys(keys), values, strict=True))
        elif full in _SETS and len(arguments) <= 1:
            made = set(_check_keys(arguments[0] if arguments else ()))
        elif full in _PARAMETERS and isinstance(arguments[0], TensorView):
            made = arguments[0]
        elif full in _TENSORS:
            made = _build_tensor_view(*arguments[:4])
        else:
            raise UnsupportedFile(f"it calls {full or 'something'} as no such model does")
        self.stack.append(made)

    def new(self) -> None:
        """Put down an empty object of a class."""
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, GlobalName) or name.full in _KNOWN or arguments != ():
            raise UnsupportedFile("it makes an object as no such model does")
        self.stack.append(PickledObject(name.full))

    def build(self) -> None:
        """Store what an object holds; the attributes of a dictionary are of no use here."""
        state, made = self.stack.pop(), self.stack[-1]
        if isinstance(made, PickledObject) and isinstance(state, dict):
            self.spend(len(state))
            made.state.update(state)
        elif not isinstance(made, dict):
            raise UnsupportedFile("its pickle is damaged")

    def set_items(self, items: list[Any]) -> None:
        """Fill the dictionary on top with keys and values in turn."""
        if not isinstance(self.stack[-1], dict):
            raise UnsupportedFile("its pickle is damaged")
        self.stack[-1].update(zip(_check_keys(items[::2]), items[1::2], strict=True))

    def extend(self, items: list[Any]) -> None:
        """Add to the list on top."""
        if not isinstance(self.stack[-1], list):
            raise UnsupportedFile("its pickle is damaged")
        self.stack[-1].extend(items)

    def gather(self, count: int) -> list[Any]:
        """Take the uppermost items."""
        items = self.stack[-count:]
        if len(items) != count:
            raise UnsupportedFile("its pickle is damaged")
        del self.stack[-count:]
        return items

    def since_mark(self) -> list[Any]:
        """Take the items down to the last mark, and the mark."""
        count = 0
        while not isinstance(self.stack[-1 - count], _StackMark):
            count += 1
        return self.gather(count + 1)[1:]

    def remember(self, place: int | None) -> None:
        """Remember what is on top."""
        self.memo[len(self.memo) if place is None else place] = self.stack[-1]


def _check_keys(keys: Iterable[Any]) -> list[Any]:
    """Let pass what keys of saved modules are; to hash a deep tuple may end the process."""
    keys = list(keys)
    if not all(type(key) in (str, int) for key in keys):
        raise UnsupportedFile("its pickle has keys that are neither words nor numbers")
    return keys


def _build_tensor_view(storage: Any, offset: Any, shape: Any, stride: Any) -> TensorView:
    view = TensorView(storage, offset, tuple(shape), tuple(stride))
    numbers = (offset, *view.shape, *view.stride)
    if not isinstance(storage, StorageSlice) or not all(
        type(n) is int and n >= 0 for n in numbers
    ):
        raise UnsupportedFile("one of its tensors is not described")
    if max(numbers) > storage.count:
        raise UnsupportedFile("one of its tensors is not where it should be")
    last = offset + sum((n - 1) * step for n, step in zip(view.shape, view.stride, strict=True))
    # A tensor may not be larger than what is stored, or little of a file asks for much memory.
    if 0 in view.shape or max(last + 1, math.prod(view.shape)) > storage.count:
        raise UnsupportedFile("one of its tensors is not where it should be")
    return view


#: Instructions that put down a number or a text.
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
    *("BINUNICODE", "SHORT_BINUNICODE"),
}
#: The other instructions that a saved module consists of.
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
