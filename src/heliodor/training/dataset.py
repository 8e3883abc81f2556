"""The training set: which images, which labels on them, and how many particles to expect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from heliodor.conventions import to_working
from heliodor.data.coordinates.label_assignment import (
    LabeledSource,
    check_frame,
    check_sampling,
    drop_outside,
)
from heliodor.data.coordinates.label_margin import find_label_margin
from heliodor.data.coordinates.labels import (
    LabeledImage,
    class_prior,
    guess_particles,
)
from heliodor.data.micrographs.normalization import Normalizer
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import (
    MAX_COARSENING,
    MAX_UPSAMPLING,
    Failure,
    WorkingImage,
    WorkingImages,
    prepare_working_images,
    store_pixels,
    too_coarse_failure,
)
from heliodor.errors import BadInput
from heliodor.training.settings import DataSettings
from heliodor.utils.array_store import ArrayStore
from heliodor.utils.console import count_of

if TYPE_CHECKING:
    from heliodor.data.coordinates.frame_detection import FrameVerdict

#: With fewer labeled micrographs than this, none is kept for validation.
FEWEST_TO_VALIDATE = 5
#: With fewer labels, or fewer than the second number on a single micrograph, a warning is given.
FEW_LABELS, ENOUGH_ON_ONE = 10, 30
#: Smallest diameter of a particle, in pixels, whose shape can be learned.
FEWEST_PX = 6.0


@dataclass(frozen=True)
class TrainingSet:
    """Everything the training loop needs, and what the user should know of it."""

    images: list[LabeledImage]
    validation: list[LabeledImage]
    names: list[str]
    validation_names: list[str]
    normalizer: Normalizer
    prior: float
    expected_particles: float
    radius_px: float
    labelled_particles: int
    labelled_negatives: int
    failures: list[Failure]
    #: Sentences the user should read.
    notes: list[str]
    #: How the labels fit the images; None if that was not checked.
    frame: FrameVerdict | None = None

    @property
    def margin_px(self) -> int:
        """Width of the margin along the edges in which labels are missing, in working pixels."""
        return self.images[0].margin_px

    def with_expected_particles(self, particles: float) -> TrainingSet:
        """Return the same with another expected number of particles per micrograph."""
        prior = class_prior(particles, self.images, self.radius_px)
        return replace(self, prior=prior, expected_particles=particles)


def choose_sources(
    labelled: Sequence[LabeledSource], validation_share: float, seed: int
) -> tuple[list[LabeledSource], list[LabeledSource], list[str]]:
    """Choose the micrographs to train on and those to validate on, by the seed.

    Only micrographs with labels are used: unlabeled regions of others would teach the network to
    distinguish micrographs, by defocus or ice, instead of particles.

    Returns
    -------
    training, validation, notes
        With fewer than five labeled micrographs there are none to validate on.
    """
    having = [item for item in labelled if len(item.xy_px)]
    kept = 0
    notes: list[str] = []
    if validation_share > 0:
        if len(having) < FEWEST_TO_VALIDATE:
            notes.append(
                f"only {len(having)} micrographs have labels, too few to keep one for validation;"
                " the last epoch is used"
            )
        else:
            kept = min(len(having) - 1, max(1, round(validation_share * len(having))))
    random = np.random.default_rng(seed)
    held = set(random.permutation(len(having))[:kept].tolist())
    training = [item for i, item in enumerate(having) if i not in held]
    return training, [item for i, item in enumerate(having) if i in held], notes


def describe_few_labels(labels: int, micrographs: int) -> str | None:
    """Return a warning if there are too few labels to rely on the result, otherwise None."""
    if labels >= FEW_LABELS and (micrographs > 1 or labels >= ENOUGH_ON_ONE):
        return None
    return (
        f"{count_of(labels, 'label')} on {count_of(micrographs, 'micrograph')}: the expected"
        " precision and recall are unreliable. Label 30 or more particles on several micrographs"
    )


def assemble_training_set(
    training: Sequence[LabeledSource],
    validation: Sequence[LabeledSource],
    images: WorkingImages,
    settings: DataSettings,
    progress: Callable[[int, int], None] | None = None,
    store: ArrayStore | None = None,
) -> TrainingSet:
    """Read, crop and normalize the images and put the labels onto them.

    The images are kept in the array store; in memory by default.

    Raises
    ------
    BadInput
        If no image can be used, or the labels do not match their images.
    """
    items = [*training, *validation]
    notes: list[str] = []
    store = store or ArrayStore()
    prepared, failures = _prepare(items, images, settings, notes, progress, store)
    working = {image.source: image for image in prepared}
    items, frame = _check_labels(items, working, settings, notes)
    held_out = {item.source for item in validation}
    to_train = [item for item in items if item.source not in held_out]
    to_validate = [item for item in items if item.source in held_out]
    if not any(len(item.xy_px) for item in to_train):
        reason = failures[0].reason if failures else "all labels are outside the micrographs"
        raise BadInput(f"no labeled micrograph can be used for training: {reason}")
    if validation and not to_validate:
        notes.append("no validation micrograph could be read; the last epoch is used")
    working_pixel_size = images.working_pixel_size_angstrom
    train_working = [working[item.source] for item in to_train]
    normalizer = Normalizer.fit(
        [image.image for image in train_working],
        settings.normalization,
        settings.background_angstrom / working_pixel_size,
    )
    train_images, validation_images = (
        [_label(item, working[item.source], normalizer, store) for item in own]
        for own in (to_train, to_validate)
    )
    if settings.use_label_margin:
        size = train_working[0].working_pixel_size_angstrom
        margin_px = _find_margin(
            [*train_images, *validation_images], settings.diameter_angstrom, size, notes
        )
        train_images, validation_images = (
            [replace(image, margin_px=margin_px) for image in own]
            for own in (train_images, validation_images)
        )
    radius_px = settings.radius_angstrom / working_pixel_size
    most_labels = max(len(item.xy_px) for item in items)
    expected = _expected_particles(settings, most_labels, train_working, notes)
    prior = class_prior(expected, train_images, radius_px)
    return TrainingSet(
        images=train_images,
        validation=validation_images,
        names=[item.source.name for item in to_train],
        validation_names=[item.source.name for item in to_validate],
        normalizer=normalizer,
        prior=prior,
        expected_particles=expected,
        radius_px=radius_px,
        labelled_particles=sum(len(item.xy_px) for item in to_train),
        labelled_negatives=sum(len(item.negative_xy_px) for item in to_train),
        failures=failures,
        notes=notes,
        frame=frame,
    )


def _check_labels(
    items: Sequence[LabeledSource],
    working: dict[Source, WorkingImage],
    settings: DataSettings,
    notes: list[str],
) -> tuple[list[LabeledSource], FrameVerdict | None]:
    """Return the micrographs that could be read, without the labels outside them, and their fit.

    Raises
    ------
    BadInput
        If the labels do not match their images.
    """
    overruled = settings.pixel_size_angstrom is not None or not settings.check_frame
    notes += check_sampling(items, working, overruled)
    items = [item for item in items if item.source in working]
    frame = check_frame(items, working) if settings.check_frame else None
    return drop_outside(items, working, notes), frame


def _find_margin(
    images: Sequence[LabeledImage],
    diameter_angstrom: float,
    pixel_size_angstrom: float,
    notes: list[str],
) -> int:
    """Return the width of the margin along the edges without labels, in working pixels."""
    margin_px = int(
        find_label_margin(
            [image.xy_px for image in images],
            [image.shape for image in images],
            diameter_angstrom / pixel_size_angstrom,
        )
    )
    if margin_px:
        notes.append(
            f"no label is within {margin_px * pixel_size_angstrom:.0f} Å of an edge of a"
            " micrograph, so nothing is picked there; to change this, pick with --edge-margin"
        )
    return margin_px


def _label(
    item: LabeledSource,
    image: WorkingImage,
    normalizer: Normalizer,
    store: ArrayStore,
) -> LabeledImage:
    """Return a normalized image, kept in the array store, with its labels in working pixels."""
    xy, negative_xy = (
        to_working(positions, image.original_shape, image.shape)
        for positions in (item.xy_px, item.negative_xy_px)
    )
    return LabeledImage(store.add(normalizer.apply(image.image)), xy, negative_xy)


def _prepare(
    items: Sequence[LabeledSource],
    images: WorkingImages,
    settings: DataSettings,
    notes: list[str],
    progress: Callable[[int, int], None] | None,
    store: ArrayStore,
) -> tuple[list[WorkingImage], list[Failure]]:
    """Read the images at one scale: the working pixel size, or the originals' if that is coarser.

    A single micrograph that is coarser than the rest, most likely because of a wrong header, is
    skipped instead of making all coarser.
    """
    images.coarsest_angstrom = max(
        settings.diameter_angstrom / FEWEST_PX, images.working_pixel_size_angstrom
    )
    prepared, failures = prepare_working_images(
        [item.source for item in items], images, progress, store
    )
    usual = sorted(image.pixel_size_angstrom for image in prepared)[len(prepared) // 2]
    suits = MAX_UPSAMPLING if images.finer else 1.001  # headers are rounded
    too_coarse = usual > suits * images.working_pixel_size_angstrom
    if too_coarse and images.finer:
        raise BadInput(
            f"the micrographs have {usual:.3g} Å/pixel, too coarse for starting weights of a"
            f" model that works at {images.working_pixel_size_angstrom:.3g} Å/pixel; use --from"
            " scratch"
        )
    if too_coarse:
        notes.append(
            f"the micrographs have {usual:.3g} Å/pixel, coarser than the"
            f" {images.working_pixel_size_angstrom:.3g} Å/pixel that suit the network; training"
            " and picking use the coarser pixel size"
        )
        images.coarsen(usual)
        prepared = [store_pixels(images.get(image.source), store) for image in prepared]
    images.coarsest_angstrom = None  # from here on: what a model for this scale can use
    limit = MAX_UPSAMPLING if images.finer else MAX_COARSENING
    limit *= images.working_pixel_size_angstrom
    failures += [
        too_coarse_failure(usual, image) for image in prepared if image.pixel_size_angstrom > limit
    ]
    return [image for image in prepared if image.pixel_size_angstrom <= limit], failures


def _expected_particles(
    settings: DataSettings, most: int, images: Sequence[WorkingImage], notes: list[str]
) -> float:
    """Return the expected particles per micrograph: the user's number, or a first guess."""
    expected = settings.expected_particles
    if expected is None:
        area = float(np.mean([_area(image) for image in images]))
        expected = guess_particles(area, settings.diameter_angstrom, most)
    elif expected < most:
        notes.append(
            f"expecting {expected:g} particles per micrograph, but one micrograph has {most}"
            " labels; the expected number should include unlabeled particles"
        )
    return expected


def _area(image: WorkingImage) -> float:
    height, width = image.original_shape
    return height * width * image.pixel_size_angstrom**2
