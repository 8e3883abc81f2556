"""The options of `train`, `segment`, `extract` and `precision_recall_curve`."""

from __future__ import annotations

from heliodor.integrations.topaz.option_groups import CommandParser, Commands


def add_train(parser: CommandParser) -> None:
    """Add the options of `train`."""
    parser.flag("--describe", help_text="say what the network is and stop")
    parser.device()
    parser.option(
        "--num-workers", type=int, default=0, help_text="ignored: nothing waits for data"
    )
    parser.threads()
    _add_data(parser)
    _add_objective(parser)
    _add_schedule(parser)
    _add_network(parser)
    parser.option("--save-prefix", metavar="PATH", help_text="where models go: PATH_epochN.sav")
    parser.output("table of the training's progress")
    parser.option("--test-batch-size", type=int, default=1, help_text="ignored: set by itself")


def _add_data(parser: CommandParser) -> None:
    for part in ("train", "test"):
        parser.option(
            f"--{part}-images",
            metavar="PATH",
            help_text=f"{part} images: a table with image_name and path, or a folder",
        )
        parser.option(
            f"--{part}-targets",
            metavar="PATH",
            help_text=f"particles labeled in the {part} images",
        )
    parser.option(
        "--format",
        choices=["auto", "coord", "csv", "star", "box"],
        default="auto",
        help_text="format of the particle files, else told from their content",
    )
    parser.option(
        "--image-ext",
        default="",
        metavar=".EXT",
        help_text="take only images of a folder that end like this",
    )
    parser.option(
        "-k",
        "--k-fold",
        type=int,
        default=0,
        help_text="hold one of N parts of the training images back for testing",
    )
    parser.option("--fold", type=int, default=0, help_text="which of the parts that is")
    parser.option(
        "--cross-validation-seed",
        type=int,
        default=42,
        help_text="seed by which images come into parts",
    )


def _add_objective(parser: CommandParser) -> None:
    parser.option(
        "-n",
        "--num-particles",
        type=float,
        default=-1.0,
        help_text="particles expected on a micrograph",
    )
    parser.option("--pi", type=float, help_text="share of positive pixels, instead of -n")
    parser.option(
        "-r",
        "--radius",
        type=int,
        default=3,
        help_text="pixels around a labeled center that are positive",
    )
    parser.option(
        "--method",
        choices=["PN", "GE-KL", "GE-binomial", "PU"],
        default="GE-binomial",
        help_text="what is minimized",
    )
    parser.option(
        "--slack",
        type=float,
        default=-1.0,
        help_text="weight of the GE term; below 0, the method's own",
    )
    parser.option(
        "--autoencoder",
        type=float,
        default=0.0,
        help_text="weight of an autoencoder's reconstruction error",
    )
    parser.option("--l2", type=float, default=0.0, help_text="weight of the squared parameters")


def _add_schedule(parser: CommandParser) -> None:
    parser.option("--learning-rate", type=float, default=0.0002, help_text="step of the optimizer")
    parser.flag("--natural", help_text="draw pixels as they come, particles not more often")
    parser.option("--minibatch-size", type=int, default=256, help_text="crops an update")
    parser.option(
        "--minibatch-balance",
        type=float,
        default=0.0625,
        help_text="share of the crops that are of particles",
    )
    parser.option("--epoch-size", type=int, default=1000, help_text="updates an epoch")
    parser.option("--num-epochs", type=int, default=10, help_text="epochs")
    parser.option("--preload", default="auto", help_text="ignored: set by itself")


def _add_network(parser: CommandParser) -> None:
    parser.option(
        "--pretrained",
        action="store_true",
        default=True,
        help_text="begin from a trained model, if there is one [on]",
    )
    parser.option(
        "--no-pretrained",
        action="store_false",
        dest="pretrained",
        default=True,
        help_text="begin from random weights",
    )
    parser.option("-m", "--model", default="resnet8", help_text="network to train")
    parser.option("--units", type=int, default=32, help_text="channels of the first layer")
    parser.option("--dropout", type=float, default=0.0, help_text="share of channels dropped")
    parser.option("--bn", choices=["on", "off"], default="on", help_text="batch normalization")
    parser.option("--pooling", help_text="pooling instead of strides")
    parser.option(
        "--unit-scaling",
        type=int,
        default=2,
        help_text="factor of the channels at each stride",
    )
    parser.option("--ngf", type=int, default=32, help_text="channels of the autoencoder's decoder")
    parser.option("-s", "--patch-size", type=int, default=96, help_text="ignored: set by itself")
    parser.option(
        "-p", "--patch-padding", type=int, default=48, help_text="ignored: set by itself"
    )


def add_segment(parser: CommandParser) -> None:
    """Add the options of `segment`."""
    parser.add_argument("paths", nargs="+", help="micrographs")
    parser.option("-m", "--model", default="resnet16", help_text="model to score with")
    parser.option("-o", "--destdir", metavar="FOLDER", help_text="where the score maps go")
    parser.device()
    parser.threads()
    parser.option("-p", "--patch-size", type=int, help_text="ignored: set by itself")
    parser.flag("-v", "--verbose", help_text="say what is being done")


def add_extract(parser: CommandParser) -> None:
    """Add the options of `extract`, those of RELION's version of it too."""
    parser.add_argument(
        "paths", nargs="*", default=[], help="micrographs [their names on standard input]"
    )
    parser.option(
        "-m",
        "--model",
        default="resnet16",
        help_text="model to score with; none where the images are score maps",
    )
    parser.option("-r", "--radius", type=int, help_text="no two picks are nearer than this")
    parser.option(
        "-t",
        "--threshold",
        type=float,
        default=-6.0,
        help_text="log-odds above which there is a pick",
    )
    parser.scales()
    parser.option("--num-workers", type=int, default=0, help_text="ignored: set by itself")
    parser.threads()
    parser.option("-p", "--patch-size", type=int, default=0, help_text="ignored: set by itself")
    parser.option("--batch-size", type=int, default=1, help_text="ignored: set by itself")
    parser.option(
        "--assignment-radius",
        type=int,
        help_text="largest distance of a pick from its target [the radius]",
    )
    parser.option("--min-radius", type=int, default=5, help_text="smallest radius tried")
    parser.option("--max-radius", type=int, default=100, help_text="largest radius tried")
    parser.option("--step-radius", type=int, default=5, help_text="step between radii tried")
    parser.option(
        "--targets",
        metavar="PATH",
        help_text="particles, to find the radius by which the picks rank best",
    )
    parser.flag("--only-validate", help_text="judge the picks by the targets, but write none")
    parser.device()
    parser.output()
    parser.flag("--per-micrograph", help_text="write a file for each micrograph")
    parser.option("--suffix", default="", help_text="what follows the stem in names of such files")
    parser.option(
        "--format",
        choices=["coord", "csv", "star", "json", "box"],
        default="coord",
        help_text="format to write",
    )
    parser.option("--dims", type=int, choices=[2, 3], default=2, help_text="3 for tomograms")
    parser.flag("-v", "--verbose", help_text="say what is being done")
    parser.flag("-f", "--filaments", help_text="pick along filaments")
    parser.option(
        "-fl",
        "--filaments_length",
        type=float,
        default=-1.0,
        help_text="least length of a filament",
    )
    parser.flag("-fp", "--filaments_plot", help_text="draw how filaments were found")
    parser.flag(
        "--no-worker", help_text="leave no process with the model in memory for later calls"
    )


def add_curve(parser: CommandParser) -> None:
    """Add the options of `precision_recall_curve`."""
    parser.option("--predicted", metavar="PATH", help_text="picks with scores")
    parser.option("--targets", metavar="PATH", help_text="labeled particles")
    parser.option(
        "-r",
        "--assignment-radius",
        type=int,
        required=True,
        help_text="largest distance of a pick from its particle",
    )
    parser.option(
        "--images",
        choices=["target", "predicted", "union"],
        default="target",
        help_text="whose micrographs count",
    )


COMMANDS: Commands = {
    "train": ("train a network on labeled micrographs", add_train),
    "segment": ("write the score map of each micrograph", add_segment),
    "extract": ("pick particles", add_extract),
    "precision_recall_curve": ("judge scored picks by labeled particles", add_curve),
}
