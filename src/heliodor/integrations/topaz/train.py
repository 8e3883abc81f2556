"""The command `train`: write one model per epoch and the learning curve.

One pixel of the images is the unit of length: hosts pass images that they have downsampled and
normalized, and coordinates in those pixels.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

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

#: Images on which the threshold of each epoch's model is set; more would change it little.
THRESHOLD_IMAGES = 2
#: A disc of this radius is one pixel, like one of radius 0, which is not a valid length.
LEAST_RADIUS_PX = 0.5
#: Entry of the model card: lengths are in pixels.
UNITS = {"units": "pixels"}


def train(args: argparse.Namespace) -> int:
    """Train a network, and write a model for each epoch and the learning curve.

    Parameters
    ----------
    args
        The options; `given` has the names of those on the command line.

    Returns
    -------
    int
        Exit code: 0, or 3 if some images could not be used.

    Raises
    ------
    BadInput
        If an option or a file is invalid.
    """
    choice = choose_recipe(args)
    if args.describe:
        recipe = choice.settings
        print(build_network(recipe.network, recipe.width, recipe.dropout, recipe.norm))
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
    recorder = _EpochRecorder(
        prefix=args.save_prefix,
        curve=TrainingLogFile(args.output, settings, prior.adjustment),
        choice=choice,
        settings=settings,
        dataset=dataset,
        prior=prior,
        class_prior=class_prior,
        device=device,
    )
    train_network(
        dataset.images,
        [],
        dataset.radius_px,
        class_prior,
        settings,
        device,
        snapshot=recorder.record,
    )
    report("Done!")
    return SOME_FAILED if dataset.failures else 0


def _read_labeled_images(
    args: argparse.Namespace,
) -> tuple[list[LabeledSource], list[LabeledSource]]:
    """Return the labeled images for training and those for testing."""
    for option in ("train_images", "train_targets"):
        if not getattr(args, option):
            raise BadInput(f"--{option.replace('_', '-')} is missing; training requires it")
    labeled = read_labeled(args.train_images, args.train_targets, args.image_ext, args.format)
    testing: list[LabeledSource] = []
    if args.k_fold > 1:
        seed = args.cross_validation_seed
        labeled, testing = split_folds(labeled, args.k_fold, args.fold, seed)
        report(
            f"fold {args.fold} of {args.k_fold}: {len(labeled)} training images,"
            f" {len(testing)} test images"
        )
        if args.test_images:
            report("--test-images has no effect: the fold is the test set")
    elif args.test_images and args.test_targets:
        testing = read_labeled(args.test_images, args.test_targets, args.image_ext, args.format)
    elif args.test_images or args.test_targets:
        report("no test images: testing needs both --test-images and --test-targets")
    return _keep_labeled("train", labeled), _keep_labeled("test", testing)


def _keep_labeled(what: str, labeled: Sequence[LabeledSource]) -> list[LabeledSource]:
    having = [item for item in labeled if len(item.xy_px)]
    if len(having) < len(labeled):
        report(
            f"ignored {len(labeled) - len(having)} of {len(labeled)} {what} images without labeled"
            " particles"
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
        expected_particles=float(most),  # replaced below: the prior is determined later
        training_radius_angstrom=max(radius_px, LEAST_RADIUS_PX),
        working_pixel_size_angstrom=1.0,
        pixel_size_angstrom=1.0,
        normalization=choice.normalization,
        flatten_angstrom=choice.flatten_px,
        check_frame=False,  # hosts cannot override the check, so only warn
        use_label_margin=False,
    )
    images = WorkingImages(1.0, 1.0, choice.diameter_px)
    dataset = assemble_training_set(training, testing, images, data)
    for note in dataset.notes:
        report(note)
    for failure in dataset.failures:
        report(f"skipped {failure.name}: {failure.reason}")
    read = [item for item in training if item.source.name in dataset.names]
    verdict = judge_label_frame(read, {item.source: images.get(item.source) for item in read})
    if verdict.is_wrong or verdict.is_chance:
        report(f"warning: {verdict}")
    particles = sum(len(item.xy_px) for item in dataset.validation)
    report(
        f"{dataset.labelled_particles} labeled particles on {len(dataset.images)} training images,"
        f" {particles} on {len(dataset.validation)} test images"
    )
    return dataset


def _choose_objective(
    settings: TrainingSettings, prior: ClassPrior
) -> tuple[TrainingSettings, float]:
    """Return the recipe and the class prior of its objective.

    Generalized expectation requires unlabeled particles. If none are expected, all unlabeled
    regions are taken as background, as in Topaz.
    """
    expects = settings.objective in ("ge-kl", "ge-binomial")
    if expects and prior.total <= prior.observed:
        report(
            f"pi = {prior.total:.5f} does not exceed the labeled fraction {prior.observed:.5f}, so"
            " the method is PN; use a larger -n or --pi for the other methods"
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
            f"using the recipe of heliodor ({what}); use --method GE-binomial for that of Topaz"
        )
    else:
        report(f"using the recipe of Topaz ({what})")


@dataclass(frozen=True)
class _EpochRecorder:
    """Evaluate, save and report each epoch of a training."""

    #: What the names of the models begin with; None writes no models.
    prefix: str | None
    curve: TrainingLogFile
    choice: ChosenRecipe
    settings: TrainingSettings
    dataset: TrainingSet
    prior: ClassPrior
    class_prior: float
    device: torch.device

    def record(self, epoch: Epoch, network: Network, costs: FloatArray) -> None:
        """Test the network of an epoch, extend the learning curve and write the model."""
        dataset, test = self.dataset, None
        if dataset.validation:
            test = measure_test_metrics(
                network, dataset.validation, dataset.radius_px, self.device
            )
        self.curve.add(epoch.epoch, costs, test)
        if self.prefix is not None:
            self._save(network, epoch, self._find_threshold(network), test)
        tested = "" if test is None else f", test average precision {test.average_precision:.3f}"
        report(
            f"epoch {epoch.epoch} of {self.settings.epochs}: loss {epoch.loss:.4f}{tested},"
            f" {epoch.seconds:.0f} s"
        )

    def _find_threshold(self, network: Network) -> OperatingPoint:
        images = [*self.dataset.validation, *self.dataset.images][:THRESHOLD_IMAGES]
        exclusion, margin = PickSettings().distances_px(self.choice.diameter_px, 1.0)
        return find_operating_point(
            network,
            images,
            self.prior.expected_particles,
            exclusion,
            margin,
            self.device,
            self.dataset.radius_px,
        )

    def _save(
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
