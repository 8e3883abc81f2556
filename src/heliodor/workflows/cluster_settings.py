"""How several processes work on one job, on this computer or on a cluster.

Light to import: the command line is made from this class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from heliodor.errors import BadInput
from heliodor.utils.settings import option, options_of

#: local: on this computer; slurm: as a job array.
Cluster = Literal["local", "slurm"]

_CLUSTER = "Cluster"
#: Options that only a scheduler heeds.
_OF_SCHEDULERS: Final = (
    *("partition", "account", "time", "memory", "setup", "array_parallelism", "dry_run"),
)
#: Options whose defaults a site or a user may set; see `heliodor.workflows.site_settings`.
SITE_OPTIONS: Final = (
    *("account", "array_parallelism", "gpus", "jobs", "memory", "partition", "setup", "time"),
)
#: The number of processes that pick, and the time limit of a job in minutes, where none is given.
DEFAULT_JOBS: Final = 4
DEFAULT_MINUTES: Final = 240


@dataclass(frozen=True)
class ClusterSettings:
    """How many processes work, and where; see `heliodor.workflows.cluster`.

    None is not a choice: what a site or a user has set counts, or otherwise the default.
    """

    cluster: Cluster | None = option(
        None,
        help="Start the work in other processes: local, on this computer; slurm, as jobs that are"
        " submitted to SLURM, with the site's and your own defaults in heliodor.toml.",
        group=_CLUSTER,
        metavar="WHERE",
        default="work in this process",
    )
    jobs: int | None = option(
        None,
        help="Number of processes that pick.",
        group=_CLUSTER,
        metavar="N",
        default=str(DEFAULT_JOBS),
    )
    gpus: int | None = option(
        None,
        help="slurm: GPUs of each process; local: GPUs of this computer, of which each process"
        " uses one.",
        group=_CLUSTER,
        metavar="N",
        default="0",
    )
    partition: str | None = option(
        None, help="SLURM's partition.", group=_CLUSTER, metavar="NAME", default="SLURM's"
    )
    account: str | None = option(
        None, help="SLURM's account.", group=_CLUSTER, metavar="NAME", default="SLURM's"
    )
    time_min: int | None = option(
        None,
        help="Time limit of each process in minutes; one that reaches it is queued again, and"
        " continues.",
        group=_CLUSTER,
        metavar="MINUTES",
        name="time",
        default=str(DEFAULT_MINUTES),
    )
    memory_gb: float | None = option(
        None,
        help="Memory of each process.",
        group=_CLUSTER,
        metavar="GB",
        default="SLURM's",
    )
    setup: list[str] | None = option(
        None,
        help="A shell command to run before each process, such as 'module load cuda'; may be"
        " given several times.",
        group=_CLUSTER,
        metavar="COMMAND",
        default="none",
    )
    array_parallelism: int | None = option(
        None,
        help="Most processes that SLURM runs at a time.",
        group=_CLUSTER,
        metavar="N",
        default="all",
    )
    dry_run: bool = option(
        False, help="Print the job scripts, and submit nothing.", group=_CLUSTER
    )

    def __post_init__(self) -> None:
        given = {
            name
            for name, each in options_of(type(self)).items()
            if not any(getattr(self, each.name) is no for no in (None, False))
            and getattr(self, each.name) != []
        }
        if self.cluster not in (None, "local", "slurm"):
            raise BadInput(
                f"the cluster must be local or slurm, not {self.cluster!r}", parameter="cluster"
            )
        wrong = given if self.cluster is None else {*_OF_SCHEDULERS} & given
        if self.cluster != "slurm" and wrong:
            name = min(wrong)
            what = "a cluster; add --cluster local or slurm" if self.cluster is None else "slurm"
            raise BadInput(f"{name.replace('_', ' ')} is an option for {what}", parameter=name)
        limits = {"jobs": (self.jobs, 1), "gpus": (self.gpus, 0), "time": (self.time_min, 5)}
        limits["array_parallelism"] = (self.array_parallelism, 1)
        for name, (value, least) in limits.items():
            if value is not None and not least <= value < 10**6:
                raise BadInput(f"{name.replace('_', ' ')} must be {least} or more", parameter=name)
        if self.memory_gb is not None and not 0.5 <= self.memory_gb < 1e6:
            raise BadInput("a process needs 0.5 GB of memory or more", parameter="memory")

    @property
    def processes(self) -> int:
        """The number of processes that pick."""
        return DEFAULT_JOBS if self.jobs is None else self.jobs

    def with_defaults(self, values: Mapping[str, Any]) -> ClusterSettings:
        """Return the settings with others where none were chosen.

        Parameters
        ----------
        values
            By the names of options.

        Raises
        ------
        BadInput
            If a value is not possible.
        """
        declared = options_of(type(self))
        own = {declared[name].name: value for name, value in values.items()}
        return replace(self, **{k: v for k, v in own.items() if getattr(self, k) in (None, [])})
