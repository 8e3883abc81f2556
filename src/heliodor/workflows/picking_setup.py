"""What to pick and with what: the request, and the setup that follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from heliodor.data.micrographs.relion_project import RelionProject
from heliodor.data.micrographs.sources import MicrographInputs, Source, leave_out_listed
from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.errors import BadInput
from heliodor.models.model_file import Model
from heliodor.models.pretrained import load_model_for_picking
from heliodor.picking.corrections import NO_CORRECTIONS, Corrections
from heliodor.picking.joined_journals import JoinedJournals
from heliodor.picking.journal import MicrographResult
from heliodor.picking.recalibration import choose_decoy_search
from heliodor.picking.resuming import ResumablePicking
from heliodor.picking.run_key import journal_key
from heliodor.picking.score_maps import open_working_images
from heliodor.picking.settings import PickSettings
from heliodor.picking.user_masks import UserMasks
from heliodor.utils.compute import ComputeSettings
from heliodor.workflows.run_record import RunRecord, flatten_settings

if TYPE_CHECKING:
    from heliodor.workflows.adapt import Turn


#: The fields of a request that change the results, and not what is found on a micrograph.
ADDITIONS = (
    "labels", "negatives", "exclude", "app_scores", "relion_project", "threshold_offsets",
)  # fmt: skip


@dataclass(frozen=True)
class PickAdditions:
    """What the user adds to what is found on the micrographs."""

    corrections: Corrections = NO_CORRECTIONS
    #: A project of heliodor app, whose scores are used.
    app_scores: Path | None = None
    #: Whose paths RELION's list has.
    relion_project: RelionProject | None = None
    #: Whether scores may be made comparable between micrographs: not those of the app, whose page
    #: shows them as they are, and the threshold for them.
    level: bool = True


NO_ADDITIONS = PickAdditions()


@dataclass(frozen=True)
class PickRequest:
    """What to pick, with what; for the fields see `pick`."""

    model: str | Path | Model | None
    micrographs: MicrographInputs
    settings: PickSettings
    pixel_size_angstrom: float | None = None
    diameter_angstrom: float | None = None
    report: bool = False
    adapt: bool = False
    labels: str | Path | None = None
    negatives: str | Path | None = None
    exclude: str | Path | None = None
    app_scores: str | Path | None = None
    relion_project: str | Path | None = None
    threshold_offsets: str | Path | None = None

    @property
    def mask(self) -> str | list[str] | None:
        """Masks of contamination that the user gives."""
        return self.settings.mask

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

    def read_additions(self, sources: Sequence[Source]) -> PickAdditions:
        """Return what the user adds to the results of the micrographs.

        Raises
        ------
        BadInput
            If a file or a folder cannot be used.
        """
        project = self.relion_project
        corrections = Corrections.read(
            self.labels, self.negatives, sources, self.threshold_offsets
        )
        if self.settings.box_px is not None:
            corrections = corrections.without_cut_boxes(sources, self.settings.box_px)
        return PickAdditions(
            corrections,
            None if self.app_scores is None else Path(self.app_scores),
            None if project is None else RelionProject.open(project, sources),
            level=self.app_scores is None,
        )

    def refuse_additions(self, why: str) -> None:
        """Refuse what only one process that picks all micrographs can add to the results.

        Parameters
        ----------
        why
            What is done instead; it begins the message.

        Raises
        ------
        BadInput
            If there is any of it.
        """
        for name in ADDITIONS:
            if getattr(self, name) is not None:
                option = f"--{name.replace('_', '-')}"
                raise BadInput(
                    f"{why} cannot be combined with {option}; leave it out, and afterwards give it"
                    " to heliodor pick with the same OUT, which keeps what has been found",
                    parameter=name,
                )

    def as_arguments(self, compute: ComputeSettings | None = None) -> dict[str, Any]:
        """Return the arguments for the record, with those of the computer if they are given."""
        settings = [self.settings] if compute is None else [self.settings, compute]
        return {
            "model": "(in memory)" if isinstance(self.model, Model) else self.model,
            "micrographs": self.micrographs,
            **flatten_settings(*settings),
            "pixel_size_angstrom": self.pixel_size_angstrom,
            "diameter_angstrom": self.diameter_angstrom,
            "report": self.report,
            "adapt": self.adapt,
            **{name: getattr(self, name) for name in ADDITIONS},
        }

    def load_model(self) -> Model:
        """Return the model, before it has adapted."""
        if isinstance(self.model, Model):
            return self.model
        return load_model_for_picking(self.model, self.diameter_angstrom)


@dataclass(frozen=True)
class PickingSetup:
    """All that the candidates of the micrographs follow from, ready to pick."""

    model: Model
    sources: Sequence[Source]
    images: WorkingImages
    settings: PickSettings
    masks: UserMasks
    device: torch.device

    @classmethod
    def create(
        cls,
        model: Model,
        sources: Sequence[Source],
        images: WorkingImages,
        settings: PickSettings,
        device: torch.device,
    ) -> PickingSetup:
        """Find the masks, and check that the settings have an effect.

        Raises
        ------
        BadInput
            If a setting or a mask cannot be used.
        """
        settings.check_for(model.card.contaminant)
        model.network.to(device)
        masks = UserMasks.find(settings.mask, sources)
        return cls(model, sources, images, settings, masks, device)

    @property
    def key(self) -> dict[str, Any]:
        """All that determines the candidates of a given micrograph, ready for JSON."""
        return journal_key(self.model, self.settings, self.images, self.masks)

    def start(
        self, journal: JoinedJournals[MicrographResult], excluded: Mapping[str, str]
    ) -> ResumablePicking:
        """Return the picking that continues where a journal ends."""
        search = choose_decoy_search(self.model, self.sources)
        return ResumablePicking(
            self.model, self.images, self.settings, self.device, journal, search, excluded,
            self.masks,
        )  # fmt: skip


def prepare_picking(
    request: PickRequest,
    loaded: Model,
    sources: Sequence[Source],
    folder: Path,
    compute: ComputeSettings,
    record: RunRecord,
    resume: bool = True,
    turn: Turn | None = None,
) -> PickingSetup:
    """Adapt the model if that is asked for, and prepare picking.

    Parameters
    ----------
    loaded
        The model of the request.
    turn
        Where several processes adapt the model; see `adapt_model`.
    """
    device = compute.start()
    if request.adapt:
        from heliodor.workflows.adapt import NAME, adapt_model

        if not resume:
            (folder / NAME).unlink(missing_ok=True)
        with record.stage("adapting"):
            loaded = adapt_model(
                loaded, sources, request.pixel_size_angstrom, request.settings, device,
                folder / NAME, turn,
            )  # fmt: skip
    images = open_working_images(loaded, request.pixel_size_angstrom)
    return PickingSetup.create(loaded, sources, images, request.settings, device)
