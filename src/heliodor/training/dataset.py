"""The training set: which images, which labels on them, and how many particles to expect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from heliodor.conventions import to_working
from heliodor.data.coordinates.label_assignment import (
    LabeledSource,
    check_frame,
    check_sampling,
    drop_outside,
)
from heliodor.data.coordinates.labels import (
    LabeledImage,
    class_prior,
    guess_particles,
)
from heliodor.data.micrographs.normalization import Normalizer
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

#: With fewer labelled micrographs than this, none is kept for validation.
FEWEST_TO_VALIDATE = 5
#: A particle needs at least so many pixels for its shape to be learnt.
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

    def with_expected_particles(self, particles: float) -> TrainingSet:
        """Return the same with another number of particles expected a micrograph."""
        prior = class_prior(particles, self.images, self.radius_px)
        return replace(self, prior=prior, expected_particles=particles)


def choose_sources(
    labelled: Sequence[LabeledSource], settings: DataSettings
) -> tuple[list[LabeledSource], list[LabeledSource], list[str]]:
    """Choose the micrographs to train on and those to validate on, by the seed.

    Only micrographs with labels are used: unlabelled regions of others would teach the network
    to tell micrographs apart, by defocus or ice, instead of particles.

    Returns
    -------
    training, validation, notes
        With fewer than five labelled micrographs there are none to validate on.
    """
    having = [item for item in labelled if len(item.xy_px)]
    kept = 0
    notes: list[str] = []
    if settings.validation_share > 0:
        if len(having) < FEWEST_TO_VALIDATE:
            notes.append(
                f"labels lie on {len(having)} of the micrographs, too few to keep one for"
                " validation, so the last epoch is used"
            )
        else:
            kept = min(len(having) - 1, max(1, round(settings.validation_share * len(having))))
    random = np.random.default_rng(settings.seed)
    held = set(random.permutation(len(having))[:kept].tolist())
    training = [item for i, item in enumerate(having) if i not in held]
    return training, [item for i, item in enumerate(having) if i in held], notes


def assemble_training_set(
    training: Sequence[LabeledSource],
    validation: Sequence[LabeledSource],
    images: WorkingImages,
    settings: DataSettings,
    progress: Callable[[int, int], None] | None = None,
    shelf: ArrayStore | None = None,
) -> TrainingSet:
    """Read, crop and normalise the images and put the labels onto them.

    The images are kept on the shelf; in memory by default.

    Raises
    ------
    BadInput
        If no image can be used, or the labels plainly do not lie on their images.
    """
    items = [*training, *validation]
    notes: list[str] = []
    shelf = shelf or ArrayStore()
    prepared, failures = _prepare(items, images, settings, notes, progress, shelf)
    working = {image.source: image for image in prepared}
    check_sampling(items, working)
    items = [item for item in items if item.source in working]
    if settings.check_frame:
        check_frame(items, working)
    items = drop_outside(items, working, notes)
    validating = {item.source for item in validation}
    learn = [item for item in items if item.source not in validating]
    check = [item for item in items if item.source in validating]
    if not any(len(item.xy_px) for item in learn):
        reason = failures[0].reason if failures else "their labels lie outside of them"
        raise BadInput(f"none of the labelled micrographs can be trained on: {reason}")
    if validation and not check:
        notes.append("no micrograph kept for validation could be read, so the last epoch is used")
    normalizer = Normalizer.fit(
        [working[item.source].image for item in learn],
        settings.normalization,
        settings.background_angstrom / images.working_pixel_size_angstrom,
    )

    def labelled(item: LabeledSource) -> LabeledImage:
        image = working[item.source]
        xy, negative_xy = (
            to_working(own, image.original_shape, image.shape)
            for own in (item.xy_px, item.negative_xy_px)
        )
        return LabeledImage(shelf.store(normalizer.apply(image.image)), xy, negative_xy)

    train_images = [labelled(item) for item in learn]
    radius_px = settings.radius_angstrom / images.working_pixel_size_angstrom
    most = max(len(item.xy_px) for item in items)
    expected = _expected(settings, most, [working[item.source] for item in learn], notes)
    prior = class_prior(expected, train_images, radius_px)
    return TrainingSet(
        images=train_images,
        validation=[labelled(item) for item in check],
        names=[item.source.name for item in learn],
        validation_names=[item.source.name for item in check],
        normalizer=normalizer,
        prior=prior,
        expected_particles=expected,
        radius_px=radius_px,
        labelled_particles=sum(len(item.xy_px) for item in learn),
        labelled_negatives=sum(len(item.negative_xy_px) for item in learn),
        failures=failures,
        notes=notes,
    )


def _prepare(
    items: Sequence[LabeledSource],
    images: WorkingImages,
    settings: DataSettings,
    notes: list[str],
    progress: Callable[[int, int], None] | None,
    shelf: ArrayStore,
) -> tuple[list[WorkingImage], list[Failure]]:
    """Read the images at one scale: the wanted one, or the originals' where those are coarser.

    A single micrograph that is coarser than the rest, by a wrong header most likely, is left
    out rather than allowed to coarsen all.
    """
    images.coarsest_angstrom = max(
        settings.diameter_angstrom / FEWEST_PX, images.working_pixel_size_angstrom
    )
    prepared, failures = prepare_working_images(
        [item.source for item in items], images, progress, shelf
    )
    usual = sorted(image.pixel_size_angstrom for image in prepared)[len(prepared) // 2]
    suits = MAX_UPSAMPLING if images.finer else 1.001  # headers are rounded
    too_coarse = usual > suits * images.working_pixel_size_angstrom
    if too_coarse and images.finer:
        raise BadInput(
            f"the micrographs have {usual:.3g} A a pixel, too coarse for a model to start from"
            f" that works at {images.working_pixel_size_angstrom:.3g} A; give --from scratch"
        )
    if too_coarse:
        notes.append(
            f"the micrographs have {usual:.3g} A a pixel, coarser than the"
            f" {images.working_pixel_size_angstrom:.3g} A that suit the network: it learns and"
            " picks at the coarser"
        )
        images.coarsen(usual)
        prepared = [store_pixels(images.get(image.source), shelf) for image in prepared]
    images.coarsest_angstrom = None  # from here on what a model made for this scale can use
    limit = MAX_UPSAMPLING if images.finer else MAX_COARSENING
    limit *= images.working_pixel_size_angstrom
    failures += [
        too_coarse_failure(usual, image) for image in prepared if image.pixel_size_angstrom > limit
    ]
    return [image for image in prepared if image.pixel_size_angstrom <= limit], failures


def _expected(
    settings: DataSettings, most: int, images: Sequence[WorkingImage], notes: list[str]
) -> float:
    """Return the particles expected a micrograph: the user's number, else a first guess."""
    expected = settings.expected_particles
    if expected is None:
        area = float(np.mean([_area(image) for image in images]))
        expected = guess_particles(area, settings.diameter_angstrom, most)
    elif expected < most:
        notes.append(
            f"{expected:g} particles a micrograph are expected, but one micrograph has {most}"
            " labels; the expected number should count labelled and unlabelled ones"
        )
    return expected


def _area(image: WorkingImage) -> float:
    height, width = image.original_shape
    return height * width * image.pixel_size_angstrom**2
