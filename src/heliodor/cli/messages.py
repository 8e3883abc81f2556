"""Which messages a command shows, and how: the options of every command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from heliodor.errors import BadInput
from heliodor.utils import console
from heliodor.utils.files import refuse_other_content
from heliodor.utils.settings import option

_GROUP = "Messages"


@dataclass(frozen=True)
class MessageSettings:
    """Which messages a command shows, and how."""

    quiet: bool = option(
        False, help="Show warnings and errors only, and no progress.", group=_GROUP
    )
    verbose: bool = option(
        False, help="Also show details, with the time and the module.", group=_GROUP
    )
    log_file: Path | None = option(
        None,
        help="Also append all messages, with the time, to this file.",
        group=_GROUP,
        metavar="FILE",
        default="none",
    )
    progress: console.ProgressStyle = option(
        "auto",
        help="auto: a bar on a terminal, otherwise lines; lines; none; json: each message and each"
        " step of progress is a line of JSON on standard error.",
        group=_GROUP,
        metavar="STYLE",
    )

    def __post_init__(self) -> None:
        if self.quiet and self.verbose:
            raise BadInput("give --quiet or --verbose, not both")
        if self.progress not in get_args(console.ProgressStyle):
            raise BadInput(
                f"must be auto, lines, none or json, not {self.progress!r}", parameter="progress"
            )

    def apply(self) -> None:
        """Show messages in this way from now on.

        Raises
        ------
        BadInput
            If the log file cannot be written.
        """
        level: Literal["quiet", "usual", "verbose"] = "usual"
        if self.quiet or self.verbose:
            level = "quiet" if self.quiet else "verbose"
        console.show_messages(level, self.progress, timed=True)
        if self.log_file is not None:
            refuse_other_content(
                self.log_file, rb"\d{4}-\d\d-\d\d ", "a log of heliodor", "log_file"
            )
            try:
                console.log_to_file(self.log_file)
            except OSError as error:
                raise BadInput(
                    f"{self.log_file} cannot be written ({error.strerror})", parameter="log_file"
                ) from error
