"""Everything that is chosen about a training.

Light to import: the command line is made from these classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from heliodor.data.micrographs.modes import NORMALIZATION_MODES, NormalizationMode
from heliodor.errors import BadInput
from heliodor.utils.settings import ComposedSettings, OptionField, build, option, options_of

Schedule = Literal["one-cycle", "constant"]
Precision = Literal["auto", "float32", "bf16"]
Effort = Literal["quick", "normal", "thorough"]

#: Labeled particles per epoch, from scratch and from a model.
LABELS_PER_EPOCH, LABELS_PER_EPOCH_OF_START = 20, 40
#: Fewest epochs where a model's own picks are labels too.
FEWEST_EPOCHS_WITH_PICKS = 4

_PARTICLE, _DATA, _TRAINING = "Particle", "Training data", "Training"
_ADVANCED = "Advanced training"


@dataclass(frozen=True)
class DataSettings:
    """What a training set is made of; lengths in angstrom."""

    diameter_angstrom: float = option(
        help="Longest diameter of the particle.", group=_PARTICLE, metavar="ANGSTROM"
    )
    #: None estimates it, from a guess by the diameter.
    expected_particles: float | None = option(
        None,
        help="Average number of particles per micrograph, labeled or not; auto estimates it.",
        group=_PARTICLE,
        metavar="N",
        default="auto",
        auto=True,
    )
    training_radius_angstrom: float | None = option(
        None,
        help="Pixels closer than this to a label count as particle.",
        group=_ADVANCED,
        metavar="ANGSTROM",
        default="diameter / 8",
    )
    working_pixel_size_angstrom: float | None = option(
        None,
        help="Pixel size for training and picking; micrographs are resampled to it.",
        group=_ADVANCED,
        metavar="ANGSTROM",
        default="diameter / 25 for conv31, / 35 for resnet8, / 40 for conv63 and resnet16, / 70"
        " for conv127",
    )
    pixel_size_angstrom: float | None = option(
        None,
        help="Pixel size of the micrographs.",
        group="Input",
        metavar="ANGSTROM",
        default="from the STAR file, otherwise from the headers",
    )
    normalization: NormalizationMode = option(
        "micrograph",
        help="micrograph: two-Gaussian mixture fitted per micrograph; joint: fitted to the whole"
        " data set with one scale per micrograph, as in the paper; standard: mean and standard"
        " deviation; none: the micrographs are normalized already.",
        group=_ADVANCED,
        metavar="MODE",
    )
    #: 0 subtracts nothing, None takes 0.6 of the diameter.
    flatten_angstrom: float | None = option(
        None,
        help="Subtract the slowly varying background: a Gaussian average with this standard"
        " deviation; 0 subtracts nothing.",
        group=_ADVANCED,
        metavar="ANGSTROM",
        default="0.6 of the diameter; recipe paper: 0",
    )
    #: None are kept by default: their labels are worth more in training, and the schedule ends
    #: with weights that hardly change any more.
    validation_share: float = option(
        0.0,
        help="Share of the labeled micrographs that is kept out of training to choose the best"
        " epoch (with five or more labeled micrographs).",
        group=_ADVANCED,
        metavar="SHARE",
    )
    check_frame: bool = option(
        True,
        help="Train even if the micrographs suggest that the labels are flipped, scaled or"
        " displaced.",
        group=_DATA,
        name="trust_labels",
        inverted=True,
    )

    #: Whether training and picking leave out the edges of micrographs where labels do.
    use_label_margin: bool = True

    def __post_init__(self) -> None:
        from heliodor.data.micrographs.working_images import check_diameter

        check_diameter(self.diameter_angstrom)
        if self.normalization not in NORMALIZATION_MODES:
            raise BadInput(
                f"normalization must be one of {', '.join(NORMALIZATION_MODES)},"
                f" not {self.normalization!r}",
                parameter="normalization",
            )
        if self.expected_particles is not None and not 0 < self.expected_particles < 1e6:
            raise BadInput(
                "the expected number of particles per micrograph must be more than 0 and less"
                f" than a million, not {self.expected_particles:g}",
                parameter="expected_particles",
            )
        if not 0 <= self.validation_share < 1:
            raise BadInput(
                "the share of micrographs for validation must be at least 0 and less than 1",
                parameter="validation_share",
            )
        if self.flatten_angstrom is not None and not 0 <= self.flatten_angstrom < 1e5:
            raise BadInput(
                f"the length for flattening must be 0 Å or more, not {self.flatten_angstrom:g}",
                parameter="flatten",
            )
        for name in ("training_radius", "working_pixel_size", "pixel_size"):
            value = getattr(self, f"{name}_angstrom")
            if value is not None and not 0 < value < self.diameter_angstrom:
                raise BadInput(
                    f"the {name.replace('_', ' ')} must be between 0 and the particle's diameter"
                    f" of {self.diameter_angstrom:g} Å, not {value:g} Å",
                    parameter=name,
                )

    @property
    def background_angstrom(self) -> float:
        """The length of the background average: the one given, otherwise 0.6 of the diameter."""
        from heliodor.data.micrographs.normalization import FLATTEN_FRACTION

        length = self.flatten_angstrom
        return self.diameter_angstrom * FLATTEN_FRACTION if length is None else length

    @property
    def radius_angstrom(self) -> float:
        """The training radius: the one given, otherwise an eighth of the diameter."""
        from heliodor.conventions import TRAINING_RADIUS_FRACTION

        radius = self.training_radius_angstrom
        return self.diameter_angstrom * TRAINING_RADIUS_FRACTION if radius is None else radius


@dataclass(frozen=True)
class TrainingSettings:
    """How to train; the defaults are the `fast` recipe."""

    #: normal and thorough train several models, and one that learns from all of them; see
    #: `workflows.several_models`.
    effort: Effort = option(
        "normal",
        help="quick: less accurate, in a fraction of the time; normal; thorough: more accurate on"
        " faint particles, in two to three times the time. Picking takes equally long with each.",
        group=_TRAINING,
        metavar="NAME",
        default="normal",
    )
    network: str = option(
        "resnet8",
        help="conv31, conv63, conv127, resnet8 or resnet16.",
        group=_ADVANCED,
        metavar="NAME",
        default="resnet8; recipe paper: conv31",
    )
    width: int = option(
        16,
        help="Channels of the first layer.",
        group=_ADVANCED,
        metavar="N",
        default="32, as the general model has; from scratch: 16; recipe paper: 32",
    )
    dropout: float = option(
        0.0,
        help="Share of each layer's features that an update sets to zero at random.",
        group=_ADVANCED,
        metavar="SHARE",
        default="0",
    )
    #: Batch normalization in every layer.
    norm: bool = True
    objective: str = option(
        "pn-balanced",
        help="pn, pn-balanced, nnpu, ge-kl, ge-binomial or ge-binomial-exact.",
        group=_ADVANCED,
        metavar="NAME",
        default="pn-balanced; recipe paper: ge-binomial",
    )
    #: lambda, the weight of a generalized-expectation objective's penalty; None: its own.
    penalty_weight: float | None = None
    #: auto: 10 / N if N, the labeled particles, are 250 or fewer, otherwise 0 (Bepler et al.,
    #: Results 4).
    autoencoder: float | Literal["auto"] = option(
        0.0,
        help="Weight of the autoencoder's error; auto: 10 / N up to N = 250 labeled particles,"
        " otherwise 0.",
        group=_ADVANCED,
        metavar="WEIGHT",
        default="0; recipe paper: auto",
    )
    #: Minibatches (updates of the weights) per epoch, and the number of epochs.
    epoch_updates: int = option(
        50,
        help="Minibatches per epoch.",
        group=_ADVANCED,
        metavar="N",
        default="50; recipe paper: 1000",
    )
    #: auto: one epoch for twenty labeled particles (forty, with starting weights), but at least
    #: 2 and at most 10. With few labels a network soon knows them by heart and takes particles
    #: like them for background.
    epochs: int | Literal["auto"] = option(
        "auto",
        help="Number of epochs.",
        group=_ADVANCED,
        metavar="N",
        default="labels / 40, from 4 to 10 (from 2 without own picks); from scratch: labels / 20;"
        " effort quick: 2; recipe paper: 10",
    )
    #: Tiles per minibatch, how many of them are drawn for labeled regions, and the outputs
    #: along a tile's side: with 1 a tile is one region.
    batch: int = 64
    positives: int = 24
    side: int = 3
    #: Share of the unlabeled regions beside labeled ones, in the same tiles, that count.
    near: float = 0.3
    #: Whether the untrained network predicts the class prior instead of one half.
    start_at_prior: bool = True
    #: Peak of the one-cycle schedule, or the constant rate.
    learning_rate: float = option(
        3e-3,
        help="Highest learning rate of the schedule.",
        group=_ADVANCED,
        metavar="RATE",
        default="1e-3; from scratch: 3e-3; recipe paper: 2e-4",
    )
    schedule: Schedule = "one-cycle"
    weight_decay: float = 1e-2
    #: Half of this times the sum of all squared weights is added to the loss. It is not the
    #: weight decay above, which does not pass through the optimizer's step sizes.
    l2: float = 0.0
    #: Where the weights come from: scratch, general (the general model), or a model's file.
    start: str = "scratch"
    #: Weight of the distance to what the starting model predicts for unlabeled regions, as a
    #: cross entropy, up to thirty labeled particles; with more labels it falls in proportion.
    #: And the weight of the distance to its contamination output, where it has one.
    keep: float = 0.0
    keep_contaminant: float = 0.1
    own_picks: float = option(
        0.0,
        help="Also train on the surest picks of the starting model, as many as this share of the"
        " expected number of particles; 0: on labels only.",
        group=_ADVANCED,
        metavar="SHARE",
        default="0.9; with negatives, from scratch or with recipe paper: 0",
    )
    #: Convolutional layers, from the first on, whose weights are not trained.
    freeze: int = 0
    #: Of the network's products and features: bf16 rounds them to eight bits, with sums in
    #: float32, and is twice as fast where a processor has it. The weights stay float32.
    #: auto: bf16 on GPUs that have it, otherwise float32.
    precision: Precision = "auto"
    seed: int = option(
        0, help="The same seed gives the same picks.", group="Compute", metavar="S", default="0"
    )

    def __post_init__(self) -> None:
        from heliodor.models.networks import check_network
        from heliodor.training.objectives import objective

        check_network(self.network, self.width, self.dropout)
        objective(self.objective, self.penalty_weight)
        if self.epoch_updates < 1 or (self.epochs != "auto" and self.epochs < 1):
            raise BadInput("training needs at least one epoch of one update", parameter="epochs")
        if not 1 <= self.positives < self.batch:
            raise BadInput("a minibatch needs at least one labeled and one unlabeled region")
        if not 1 <= self.side <= 64:
            raise BadInput(f"a tile must have 1 to 64 outputs along a side, not {self.side}")
        if not 0 <= self.near <= 1:
            raise BadInput(f"the share of near regions must be from 0 to 1, not {self.near:g}")
        if self.autoencoder != "auto" and not 0 <= self.autoencoder < 1e6:
            raise BadInput(
                f"the autoencoder's weight must be 0 or more, or auto, not {self.autoencoder:g}",
                parameter="autoencoder",
            )
        kinds = (("schedule", Schedule), ("precision", Precision), ("effort", Effort))
        for name, choices in kinds:
            if getattr(self, name) not in get_args(choices):
                raise BadInput(
                    f"the {name} must be one of {', '.join(get_args(choices))}, not"
                    f" {getattr(self, name)!r}",
                    parameter=name if name == "effort" else None,
                )
        if not 0 < self.learning_rate <= 1:
            raise BadInput(
                f"the learning rate must be more than 0 and at most 1, not {self.learning_rate:g}",
                parameter="learning_rate",
            )
        if not 0 <= self.weight_decay <= 1:
            raise BadInput(f"the weight decay must be from 0 to 1, not {self.weight_decay:g}")
        for value in (self.keep, self.keep_contaminant):
            if not 0 <= value < 1e6:
                raise BadInput(f"the distillation weight must be 0 or more, not {value:g}")
        if not 0 <= self.own_picks <= 1:
            raise BadInput(
                f"the share of own picks must be from 0 to 1, not {self.own_picks:g}",
                parameter="own_picks",
            )
        if self.freeze < 0:
            raise BadInput(f"the number of frozen layers must be 0 or more, not {self.freeze}")
        if not 0 <= self.l2 < 1e6:
            raise BadInput(f"the weight of the squared weights must be 0 or more, not {self.l2:g}")
        if not 0 <= self.seed < 2**63:
            raise BadInput(
                f"the seed must be 0 or more, and less than 2^63, not {self.seed}",
                parameter="seed",
            )

    def epochs_for(self, labeled: int) -> int:
        """Return the number of epochs for a number of labeled particles."""
        if self.epochs != "auto":
            return self.epochs
        each = LABELS_PER_EPOCH if self.start == "scratch" else LABELS_PER_EPOCH_OF_START
        fewest = FEWEST_EPOCHS_WITH_PICKS if self.own_picks else 2
        return min(10, max(fewest, round(labeled / each)))


@dataclass(frozen=True)
class _Choice:
    """What a training is chosen by, before its other settings."""

    recipe: str = option(
        "fast",
        help="fast; paper: as in the Topaz paper. Other options override its settings.",
        group=_TRAINING,
        metavar="NAME",
    )
    #: Typed as --from, which cannot be the name of a parameter in Python.
    start: str | None = option(
        None,
        help="Starting weights. general: the general model; scratch: random; or a model file.",
        group=_TRAINING,
        metavar="START",
        default="general, if --network and --width match it",
        name="from",
    )


@dataclass(frozen=True)
class TrainSettings(ComposedSettings):
    """All that is chosen for a training: its data and its recipe."""

    data: DataSettings
    training: TrainingSettings

    @classmethod
    def options(cls) -> dict[str, OptionField]:
        """Return the options by name; those of the recipe have the default None, the recipe's."""
        return (
            options_of(DataSettings)
            | {each.name: each for each in options_of(_Choice).values()}
            | {
                name: replace(each, type=f"{each.type} | None", default=None)
                for name, each in options_of(TrainingSettings).items()
            }
        )

    @classmethod
    def from_options(cls, **values: Any) -> TrainSettings:
        """Return settings from the values of options; None is not a choice.

        Raises
        ------
        BadInput
            If there is no such option, or a value is not possible.
        """
        from heliodor.training.initialization import choose_start
        from heliodor.training.recipes import recipe

        name = values.pop("recipe", "fast")
        start = values.pop("start", None)
        chosen = {k: values.pop(k) for k in options_of(TrainingSettings) if k in values}
        chosen = {k: v for k, v in chosen.items() if v is not None}
        if name == "paper":
            start = start or "scratch"
            if values.get("flatten") is None:
                values["flatten"] = 0.0
        if values.get("working_pixel_size") is not None:
            start = start or "scratch"  # at another scale than the general model knows
        data = build(DataSettings, values)
        return cls(data, choose_start(recipe(name, **chosen), start, chosen))
