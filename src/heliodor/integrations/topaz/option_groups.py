"""What the tables of options share: how one is added, and which ones change nothing here."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import Any

#: Options that are taken without complaint and change nothing, by command: the destination, and
#: the values of it that ask for nothing else than what is done anyway.
IDLE: dict[str, dict[str, tuple[Any, ...]]] = {
    "train": dict.fromkeys(
        ("num_workers", "preload", "ngf", "patch_size", "patch_padding", "test_batch_size"), ()
    ),
    "segment": {"patch_size": ()},
    "extract": dict.fromkeys(("num_workers", "patch_size", "batch_size"), ()),
    "preprocess": {
        # All pixels are used, from their histogram, so a sample is never needed.
        "sample": (1, 10),
        "niters": (100,),
        "alpha": (900,),
        "beta": (1,),
        "device": (-1,),
    },
}
IDLE["normalize"] = IDLE["preprocess"]
# Nothing is begun from trained weights, whatever is asked for.
IDLE["train"]["pretrained"] = (False,)


def _has(option: str) -> Callable[[argparse.Namespace], bool]:
    """Return what tells whether an option says something."""
    return lambda args: bool(getattr(args, option))


def _tunes(args: argparse.Namespace) -> bool:
    return args.radius is None and bool(args.targets)


#: Options that mean something only beside others: when, by command and destination. Hosts write
#: out the defaults of many, so that a default asks for nothing.
BESIDE: dict[str, dict[str, Callable[[argparse.Namespace], bool]]] = {
    "train": {
        "fold": lambda args: args.k_fold > 1,
        "cross_validation_seed": lambda args: args.k_fold > 1,
        "slack": lambda args: args.method.startswith("GE"),
        "minibatch_balance": lambda args: not args.natural,
        "image_ext": lambda args: any(
            os.path.isdir(images or "") for images in (args.train_images, args.test_images)
        ),
    },
    "extract": {
        "filaments_length": _has("filaments"),
        "filaments_plot": _has("filaments"),
        "suffix": _has("per_micrograph"),
        "assignment_radius": _has("targets"),
        "min_radius": _tunes,
        "max_radius": _tunes,
        "step_radius": _tunes,
    },
    "convert": {"imagedir": _has("invert_y")},
    "train_test_split": {"image_ext": _has("image_dir")},
    **{
        command: {"imagedir": _has("invert_y"), "image_ext": _has("invert_y")}
        for command in (
            "boxes_to_coordinates",
            "coordinates_to_boxes",
            "coordinates_to_eman2_json",
        )
    },
}

_METAVARS: dict[Any, str] = {int: "N", float: "F"}


class Command(argparse.ArgumentParser):
    """The parser of one command, whose options leave no trace unless they are given."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: What the options are where they are not given.
        self.defaults: dict[str, Any] = {}
        #: Whether this is no command at all, so that whatever follows it is no error.
        self.absent = False
        super().__init__(*args, **kwargs)

    def add_argument(self, *flags: Any, **kwargs: Any) -> argparse.Action:
        """Add an argument and keep its default aside."""
        action = super().add_argument(*flags, **kwargs)
        if action.default is not argparse.SUPPRESS:
            self.defaults[action.dest] = action.default
            action.default = argparse.SUPPRESS
        return action

    def option(self, *flags: str, about: str, **kwargs: Any) -> None:
        """Add an option whose help ends with its default, if that says anything."""
        default = kwargs.get("default")
        if default not in (None, "") and not isinstance(default, bool):
            about = (
                f"{about} [{default:g}]" if isinstance(default, float) else f"{about} [{default}]"
            )
        if "action" not in kwargs and "choices" not in kwargs:
            kwargs.setdefault("metavar", _METAVARS.get(kwargs.get("type"), "TEXT"))
        self.add_argument(*flags, help=about.replace("%", "%%"), **kwargs)

    def flag(self, *flags: str, about: str) -> None:
        """Add a switch that is off unless given."""
        self.option(*flags, about=about, action="store_true")

    def device(self, default: int = 0) -> None:
        """Add ``-d``."""
        about = "number of the GPU; below 0, the CPU"
        self.option("-d", "--device", type=int, default=default, about=about)

    def threads(self) -> None:
        """Add ``-j``."""
        about = "threads; 0 and less take all that this process may have"
        self.option("-j", "--num-threads", type=int, default=0, about=about)

    def output(self, about: str = "file to write [standard output]") -> None:
        """Add ``-o``."""
        self.option("-o", "--output", metavar="PATH", about=about)

    def scales(self) -> None:
        """Add ``-s`` and ``-x``, by which coordinates change."""
        for short, word, what in (("-s", "down", "divide"), ("-x", "up", "multiply")):
            about = f"{what} coordinates by this"
            self.option(short, f"--{word}-scale", type=float, default=1.0, about=about)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse as argparse does, or take everything where the command is absent."""
        if self.absent:
            return namespace or argparse.Namespace(), []
        return super().parse_known_args(args, namespace)


#: Commands by name: what the help says of each, and what adds its options.
Commands = dict[str, tuple[str, Callable[[Command], None]]]
