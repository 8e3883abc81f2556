"""A parser for the options of one command, and the options that have no effect."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import Any

#: Options that are accepted but have no effect, by command: the destination, and its values that
#: ask for what is done anyway (these are not reported).
OPTIONS_WITHOUT_EFFECT: dict[str, dict[str, tuple[Any, ...]]] = {
    "train": dict.fromkeys(
        ("num_workers", "preload", "ngf", "patch_size", "patch_padding", "test_batch_size"), ()
    ),
    "segment": {"patch_size": ()},
    "extract": dict.fromkeys(("num_workers", "patch_size", "batch_size"), ()),
    "preprocess": {
        # All pixels are used (from their histogram), so no sample is drawn.
        "sample": (1, 10),
        "niters": (100,),
        "alpha": (900,),
        "beta": (1,),
        "device": (-1,),
    },
}
OPTIONS_WITHOUT_EFFECT["normalize"] = OPTIONS_WITHOUT_EFFECT["preprocess"]
# Training never starts from pretrained weights.
OPTIONS_WITHOUT_EFFECT["train"]["pretrained"] = (False,)


def _is_given(option: str) -> Callable[[argparse.Namespace], bool]:
    """Return a function that checks whether an option has a value."""
    return lambda args: bool(getattr(args, option))


def _searches_radius(args: argparse.Namespace) -> bool:
    return args.radius is None and bool(args.targets)


#: Options that have an effect only with others, by command and destination, with the condition.
#: Hosts write out many defaults, so a default is not reported.
CONDITIONAL_OPTIONS: dict[str, dict[str, Callable[[argparse.Namespace], bool]]] = {
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
        "filaments_length": _is_given("filaments"),
        "filaments_plot": _is_given("filaments"),
        "suffix": _is_given("per_micrograph"),
        "assignment_radius": _is_given("targets"),
        "min_radius": _searches_radius,
        "max_radius": _searches_radius,
        "step_radius": _searches_radius,
    },
    "convert": {"imagedir": _is_given("invert_y")},
    "train_test_split": {"image_ext": _is_given("image_dir")},
    **{
        command: {"imagedir": _is_given("invert_y"), "image_ext": _is_given("invert_y")}
        for command in (
            "boxes_to_coordinates",
            "coordinates_to_boxes",
            "coordinates_to_eman2_json",
        )
    },
}

_METAVARS: dict[Any, str] = {int: "N", float: "F"}


class CommandParser(argparse.ArgumentParser):
    """The parser of one command; options appear in its result only if they are given."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: Values of the options that are not given.
        self.defaults: dict[str, Any] = {}
        #: Whether the command is not available; then any arguments are accepted.
        self.is_missing = False
        super().__init__(*args, **kwargs)

    def add_argument(self, *flags: Any, **kwargs: Any) -> argparse.Action:
        """Add an argument and store its default separately."""
        action = super().add_argument(*flags, **kwargs)
        if action.default is not argparse.SUPPRESS:
            self.defaults[action.dest] = action.default
            action.default = argparse.SUPPRESS
        return action

    def option(self, *flags: str, help_text: str, **kwargs: Any) -> None:
        """Add an option whose help ends with its default, if there is one."""
        default = kwargs.get("default")
        if default not in (None, "") and not isinstance(default, bool):
            help_text = (
                f"{help_text} [{default:g}]"
                if isinstance(default, float)
                else f"{help_text} [{default}]"
            )
        if "action" not in kwargs and "choices" not in kwargs:
            kwargs.setdefault("metavar", _METAVARS.get(kwargs.get("type"), "TEXT"))
        self.add_argument(*flags, help=help_text.replace("%", "%%"), **kwargs)

    def flag(self, *flags: str, help_text: str) -> None:
        """Add a switch that is off by default."""
        self.option(*flags, help_text=help_text, action="store_true")

    def device(self, default: int = 0) -> None:
        """Add ``-d``."""
        help_text = "GPU number; CPU if negative"
        self.option("-d", "--device", type=int, default=default, help_text=help_text)

    def threads(self) -> None:
        """Add ``-j``."""
        help_text = "number of threads; all available ones if 0 or less"
        self.option("-j", "--num-threads", type=int, default=0, help_text=help_text)

    def output(self, help_text: str = "file to write [standard output]") -> None:
        """Add ``-o``."""
        self.option("-o", "--output", metavar="PATH", help_text=help_text)

    def scales(self) -> None:
        """Add ``-s`` and ``-x``, which scale coordinates."""
        for short, word, what in (("-s", "down", "divide"), ("-x", "up", "multiply")):
            help_text = f"{what} coordinates by this"
            self.option(short, f"--{word}-scale", type=float, default=1.0, help_text=help_text)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse as argparse does; accept anything if the command is not available."""
        if self.is_missing:
            return namespace or argparse.Namespace(), []
        return super().parse_known_args(args, namespace)


#: Commands by name, each with its description and the function that adds its options.
Commands = dict[str, tuple[str, Callable[[CommandParser], None]]]
