"""``train``: a host's images and coordinates in, a model an epoch and the learning curve out.

One pixel of the images is the unit of length: hosts hand over images that they have downsampled
and normalized, and coordinates in those pixels.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from heliodor import __version__
from heliodor.conventions import FloatArray
from heliodor.data.coordinates.label_assignment import LabeledSource, judge_label_frame
from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.errors import SOME_FAILED, BadInput
from heliodor.integrations.topaz.class_prior import ClassPrior, find_class_prior
from heliodor.integrations.topaz.compute_device import start_compute
from heliodor.integrations.topaz.image_lists import read_labeled, split_folds
from heliodor.integrations.topaz.output import report
from heliodor.integrations.topaz.training_log import (
    TestMetrics,
    TrainingLogFile,
    measure_test_metrics,
)
from heliodor.integrations.topaz.training_recipe import ChosenRecipe, choose_recipe
from heliodor.models.model_file import (
    Model,
    ModelCard,
    save_model,
)
from heliodor.models.networks import Network, build_network
from heliodor.picking.candidates import OperatingPoint, find_operating_point
from heliodor.picking.settings import PickSettings
from heliodor.training.dataset import TrainingSet, assemble_training_set
from heliodor.training.history import Epoch
from heliodor.training.loop import train_network
from heliodor.training.settings import DataSettings, TrainingSettings

#: Images on which the threshold of each epoch's model is set; more change it little.
THRESHOLD_IMAGES = 2
#: A disc of this radius is one pixel, as one of radius 0 is, which no length may be.
LEAST_RADIUS_PX = 0.5
#: What the card of a model says of its lengths.
UNITS = {"units": "pixels"}


def train(args: argparse.Namespace) -> int:
    """Train, and write a model for each epoch and the curve.

    Parameters
    ----------
    args
        The options, and in `given` the names of those that the caller gave.

    Returns
    -------
    int
        The exit code: 0, or 3 where an image could not be used.

    Raises
    ------
    BadInput
        If something given cannot be used.
    """
    choice = choose_recipe(args)
    if args.describe:
        own = choice.settings
        print(build_network(own.network, own.width, own.dropout, own.norm))
        return 0
    training, testing = _read_labeled_images(args)
    device = start_compute(args.device, args.num_threads)
    dataset = _assemble_dataset(training, testing, choice, float(args.radius))
    prior = find_class_prior(
        None if args.num_particles < 0 else args.num_particles,
        args.pi,
        dataset.images,
        dataset.radius_px,
        choice.diameter_px,
    )
    settings = choice.settings_for(dataset.labelled_particles, prior.observed)
    settings, class_prior = _choose_objective(settings, prior)
    _report_recipe(choice, settings)
    curve = TrainingLogFile(args.output, settings, prior.adjustment)
    saving = _EpochSaver(args.save_prefix, choice, settings, dataset, prior, class_prior)

    def snapshot(epoch: Epoch, network: Network, costs: FloatArray) -> None:
        test = None
        if dataset.validation:
            test = measure_test_metrics(network, dataset.validation, dataset.radius_px, device)
        curve.add(epoch.epoch, costs, test)
        if saving.prefix is not None:
            probes = [*dataset.validation, *dataset.images][:THRESHOLD_IMAGES]
            exclusion, margin = PickSettings().distances_px(choice.diameter_px, 1.0)
            point = find_operating_point(
                network,
                probes,
                prior.expected_particles,
                exclusion,
                margin,
                device,
                dataset.radius_px,
            )
            saving.save(network, epoch, point, test)
        tested = "" if test is None else f", test average precision {test.average_precision:.3f}"
        report(
            f"epoch {epoch.epoch} of {settings.epochs}: loss {epoch.loss:.4f}{tested},"
            f" {epoch.seconds:.0f} s"
        )

    train_network(
        dataset.images, [], dataset.radius_px, class_prior, settings, device, snapshot=snapshot
    )
    report("Done!")
    return SOME_FAILED if dataset.failures else 0


def _read_labeled_images(
    args: argparse.Namespace,
) -> tuple[list[LabeledSource], list[LabeledSource]]:
    """Return the labeled images to train on, and those to test on."""
    for option in ("train_images", "train_targets"):
        if not getattr(args, option):
            raise BadInput(f"--{option.replace('_', '-')} is missing; training needs it")
    labeled = read_labeled(args.train_images, args.train_targets, args.image_ext, args.format)
    testing: list[LabeledSource] = []
    if args.k_fold > 1:
        seed = args.cross_validation_seed
        labeled, testing = split_folds(labeled, args.k_fold, args.fold, seed)
        report(
            f"Fold {args.fold} of {args.k_fold}: {len(labeled)} images to train on,"
            f" {len(testing)} to test on"
        )
        if args.test_images:
            report("--test-images is left aside: the fold is the test set.")
    elif args.test_images and args.test_targets:
        testing = read_labeled(args.test_images, args.test_targets, args.image_ext, args.format)
    elif args.test_images or args.test_targets:
        report("There is no test: it needs both --test-images and --test-targets.")
    return _keep_labeled("train", labeled), _keep_labeled("test", testing)


def _keep_labeled(what: str, labeled: Sequence[LabeledSource]) -> list[LabeledSource]:
    having = [item for item in labeled if len(item.xy_px)]
    if len(having) < len(labeled):
        report(
            f"{len(labeled) - len(having)} of {len(labeled)} {what} images have no labeled"
            " particle and are left aside."
        )
    return having


def _assemble_dataset(
    training: Sequence[LabeledSource],
    testing: Sequence[LabeledSource],
    choice: ChosenRecipe,
    radius_px: float,
) -> TrainingSet:
    most = max(len(item.xy_px) for item in [*training, *testing])
    data = DataSettings(
        diameter_angstrom=choice.diameter_px,
        expected_particles=float(most),  # a stopgap: the prior is found below
        training_radius_angstrom=max(radius_px, LEAST_RADIUS_PX),
        working_pixel_size_angstrom=1.0,
        pixel_size_angstrom=1.0,
        normalization=choice.normalization,
        flatten_angstrom=choice.flatten_px,
        check_frame=False,  # a host cannot overrule it: what the pictures say is only told
    )
    images = WorkingImages(1.0, 1.0, choice.diameter_px)
    dataset = assemble_training_set(training, testing, images, data)
    for note in dataset.notes:
        report(note)
    for failure in dataset.failures:
        report(f"{failure.name} was left out: {failure.reason}")
    read = [item for item in training if item.source.name in dataset.names]
    verdict = judge_label_frame(read, {item.source: images.get(item.source) for item in read})
    if verdict.is_wrong:
        report(f"Beware: {verdict}.")
    particles = sum(len(item.xy_px) for item in dataset.validation)
    report(
        f"{dataset.labelled_particles} labeled particles on {len(dataset.images)} images to"
        f" train on, {particles} on {len(dataset.validation)} to test on"
    )
    return dataset


def _choose_objective(
    settings: TrainingSettings, prior: ClassPrior
) -> tuple[TrainingSettings, float]:
    """Return the recipe and the prior in its objective.

    Generalized expectation needs unlabeled particles to expect; without any, all that is
    unlabeled is taken for background, as Topaz does.
    """
    expects = settings.objective in ("ge-kl", "ge-binomial")
    if expects and prior.total <= prior.observed:
        report(
            f"pi = {prior.total:.5f} is no more than the share that is labeled,"
            f" {prior.observed:.5f}, so the method is PN; a larger -n or --pi brings the"
            " method back."
        )
        settings = replace(settings, objective="pn", penalty_weight=None)
    if settings.objective == "pn":
        return settings, max(prior.total, prior.observed)
    return settings, prior.unlabeled


def _report_recipe(choice: ChosenRecipe, settings: TrainingSettings) -> None:
    assert settings.epochs != "auto"
    what = (
        f"{settings.network} of {settings.width} units, {settings.objective},"
        f" {settings.epochs} epochs of {settings.epoch_updates} updates of {settings.batch} crops"
    )
    if choice.is_heliodor_recipe:
        report(
            f"heliodor's own recipe is used ({what}); --method GE-binomial brings back Topaz's."
        )
    else:
        report(f"Topaz's way of learning is used ({what}).")


@dataclass(frozen=True)
class _EpochSaver:
    """Writes the model of an epoch."""

    prefix: str | None
    choice: ChosenRecipe
    settings: TrainingSettings
    dataset: TrainingSet
    prior: ClassPrior
    class_prior: float

    def save(
        self, network: Network, epoch: Epoch, point: OperatingPoint, test: TestMetrics | None
    ) -> None:
        assert self.settings.epochs != "auto"
        digits = math.ceil(math.log10(self.settings.epochs))
        ap = None if test is None or math.isnan(test.average_precision) else test.average_precision
        extra: dict[str, Any] = {
            **UNITS,
            "made_by": "heliodor-topaz train",
            "recipe": "fast" if self.choice.is_heliodor_recipe else "topaz",
            "epochs": self.settings.epochs,
        }
        card = ModelCard(
            network=self.settings.network,
            width=self.settings.width,
            norm=self.settings.norm,
            working_pixel_size_angstrom=1.0,
            diameter_angstrom=self.choice.diameter_px,
            training_radius_angstrom=self.dataset.radius_px,
            normalization=self.dataset.normalizer.as_dict(),
            objective=self.settings.objective,
            class_prior=self.class_prior,
            expected_particles=self.prior.expected_particles,
            threshold=0.0 if point.threshold is None else point.threshold,
            background=point.background,
            seed=self.settings.seed,
            version=__version__,
            training_micrographs=self.dataset.names,
            validation_micrographs=self.dataset.validation_names,
            labelled_particles=self.dataset.labelled_particles,
            best_epoch=epoch.epoch,
            updates=epoch.update,
            validation_ap=ap,
            extra=extra,
        )
        path = f"{self.prefix}_epoch{epoch.epoch:0{digits}d}.sav"
        save_model(path, Model(network, card))
