"""What filaments to trace and with what: the request, and the setup that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from heliodor import __version__
from heliodor.data.micrographs.sources import (
    MicrographInputs,
    Source,
    find_sources,
    leave_out_listed,
)
from heliodor.picking.filaments.batch import MicrographTracer, Predictor, TracedMicrograph
from heliodor.picking.filaments.resuming import ResumableTracing
from heliodor.picking.filaments.settings import FilamentSettings
from heliodor.picking.joined_journals import JoinedJournals
from heliodor.picking.settings import PickSettings
from heliodor.picking.user_masks import UserMasks
from heliodor.utils.compute import ComputeSettings
from heliodor.workflows.filament_model import NetworkPredictor, load_predictor
from heliodor.workflows.run_record import flatten_settings

#: Settings that change the results, and not what is found on a micrograph.
_AFTER = frozenset({"filaments", "segments_angstrom", "to"})


@dataclass(frozen=True)
class FilamentRequest:
    """What to trace, with what; for the fields see `pick_filaments`."""

    model: str | Path | None
    micrographs: MicrographInputs
    settings: FilamentSettings
    picking: PickSettings = PickSettings()
    pixel_size_angstrom: float | None = None
    exclude: str | Path | None = None
    report: bool = False

    @property
    def mask(self) -> str | list[str] | None:
        """Masks of contamination that the user gives."""
        return self.picking.mask

    def as_arguments(self, compute: ComputeSettings | None = None) -> dict[str, Any]:
        """Return the arguments for the record, with those of the computer if they are given."""
        settings = [self.settings] if compute is None else [self.settings, compute]
        return {
            "model": self.model,
            "micrographs": self.micrographs,
            **flatten_settings(*settings),
            "threshold": self.picking.threshold,
            "bad_areas": self.picking.bad_areas,
            "bad_area_masks": self.picking.bad_area_masks,
            "mask": self.picking.mask,
            "pixel_size_angstrom": self.pixel_size_angstrom,
            "exclude": self.exclude,
            "report": self.report,
        }

    def leave_out(self, sources: Sequence[Source]) -> list[Source]:
        """Return the micrographs without those that the user excludes.

        Raises
        ------
        BadInput
            If none is left, or the list cannot be read.
        """
        if self.exclude is None:
            return list(sources)
        return leave_out_listed(sources, self.exclude)

    def find_sources(self) -> list[Source]:
        """Return the micrographs without those that the user excludes.

        Raises
        ------
        BadInput
            If none is left, or a list cannot be read.
        """
        return self.leave_out(find_sources(self.micrographs))

    def load_predictor(self, device: torch.device) -> NetworkPredictor:
        """Load the network that says where filaments are."""
        return load_predictor(self.model, self.settings.width_angstrom, device)


@dataclass(frozen=True)
class TracingSetup:
    """All that the filaments of the micrographs follow from, ready to trace."""

    request: FilamentRequest
    predictor: Predictor
    sources: Sequence[Source]
    masks: UserMasks
    on_cpu: bool

    @classmethod
    def create(
        cls,
        request: FilamentRequest,
        predictor: Predictor,
        sources: Sequence[Source],
        device: torch.device,
    ) -> TracingSetup:
        """Find the masks.

        Raises
        ------
        BadInput
            If a mask cannot be used.
        """
        masks = UserMasks.find(request.mask, sources)
        return cls(request, predictor, sources, masks, device.type == "cpu")

    @property
    def key(self) -> dict[str, Any]:
        """All that determines the candidates of a given micrograph, ready for JSON."""
        settings = asdict(self.request.settings).items()
        return {
            "heliodor": __version__,
            "model of filaments": self.predictor.fingerprint,
            **{name: value for name, value in settings if name not in _AFTER},
            "pixel_size_angstrom": self.request.pixel_size_angstrom,
            "bad_areas": self.request.picking.bad_areas,
            **({"masks": self.masks.fingerprints()} if self.masks.files else {}),
        }

    @property
    def tracer(self) -> MicrographTracer:
        """The steps of tracing one micrograph."""
        request = self.request
        return MicrographTracer(
            self.predictor, request.settings, request.pixel_size_angstrom,
            request.picking.bad_areas, self.masks,
        )  # fmt: skip

    def start(self, journal: JoinedJournals[TracedMicrograph]) -> ResumableTracing:
        """Return the tracing that continues where a journal ends."""
        return ResumableTracing(self.tracer, journal, torch.get_num_threads(), self.on_cpu)
