"""The options of `train`, `segment`, `extract` and `precision_recall_curve`."""

from __future__ import annotations

from heliodor.integrations.topaz.option_groups import Command, Commands


def add_train(parser: Command) -> None:
    """Add the options of `train`."""
    parser.flag("--describe", about="say what the network is and stop")
    parser.device()
    parser.option("--num-workers", type=int, default=0, about="ignored: nothing waits for data")
    parser.threads()
    _add_data(parser)
    _add_objective(parser)
    _add_schedule(parser)
    _add_network(parser)
    parser.option("--save-prefix", metavar="PATH", about="where models go: PATH_epochN.sav")
    parser.output("table of the training's progress")
    parser.option("--test-batch-size", type=int, default=1, about="ignored: set by itself")


def _add_data(parser: Command) -> None:
    for part in ("train", "test"):
        parser.option(
            f"--{part}-images",
            metavar="PATH",
            about=f"{part} images: a table with image_name and path, or a folder",
        )
        parser.option(
            f"--{part}-targets",
            metavar="PATH",
            about=f"particles labelled in the {part} images",
        )
    parser.option(
        "--format",
        choices=["auto", "coord", "csv", "star", "box"],
        default="auto",
        about="format of the particle files, else told from their content",
    )
    parser.option(
        "--image-ext",
        default="",
        metavar=".EXT",
        about="take only images of a folder that end like this",
    )
    parser.option(
        "-k",
        "--k-fold",
        type=int,
        default=0,
        about="hold one of N parts of the training images back for testing",
    )
    parser.option("--fold", type=int, default=0, about="which of the parts that is")
    parser.option(
        "--cross-validation-seed",
        type=int,
        default=42,
        about="seed by which images come into parts",
    )


def _add_objective(parser: Command) -> None:
    parser.option(
        "-n",
        "--num-particles",
        type=float,
        default=-1.0,
        about="particles expected on a micrograph",
    )
    parser.option("--pi", type=float, about="share of positive pixels, instead of -n")
    parser.option(
        "-r",
        "--radius",
        type=int,
        default=3,
        about="pixels around a labelled centre that are positive",
    )
    parser.option(
        "--method",
        choices=["PN", "GE-KL", "GE-binomial", "PU"],
        default="GE-binomial",
        about="what is minimised",
    )
    parser.option(
        "--slack",
        type=float,
        default=-1.0,
        about="weight of the GE term; below 0, the method's own",
    )
    parser.option(
        "--autoencoder",
        type=float,
        default=0.0,
        about="weight of an autoencoder's reconstruction error",
    )
    parser.option("--l2", type=float, default=0.0, about="weight of the squared parameters")


def _add_schedule(parser: Command) -> None:
    parser.option("--learning-rate", type=float, default=0.0002, about="step of the optimiser")
    parser.flag("--natural", about="draw pixels as they come, particles not more often")
    parser.option("--minibatch-size", type=int, default=256, about="crops an update")
    parser.option(
        "--minibatch-balance",
        type=float,
        default=0.0625,
        about="share of the crops that are of particles",
    )
    parser.option("--epoch-size", type=int, default=1000, about="updates an epoch")
    parser.option("--num-epochs", type=int, default=10, about="epochs")
    parser.option("--preload", default="auto", about="ignored: set by itself")


def _add_network(parser: Command) -> None:
    parser.option(
        "--pretrained",
        action="store_true",
        default=True,
        about="begin from a trained model, if there is one [on]",
    )
    parser.option(
        "--no-pretrained",
        action="store_false",
        dest="pretrained",
        default=True,
        about="begin from random weights",
    )
    parser.option("-m", "--model", default="resnet8", about="network to train")
    parser.option("--units", type=int, default=32, about="channels of the first layer")
    parser.option("--dropout", type=float, default=0.0, about="share of channels dropped")
    parser.option("--bn", choices=["on", "off"], default="on", about="batch normalisation")
    parser.option("--pooling", about="pooling instead of strides")
    parser.option(
        "--unit-scaling",
        type=int,
        default=2,
        about="factor of the channels at each stride",
    )
    parser.option("--ngf", type=int, default=32, about="channels of the autoencoder's decoder")
    parser.option("-s", "--patch-size", type=int, default=96, about="ignored: set by itself")
    parser.option("-p", "--patch-padding", type=int, default=48, about="ignored: set by itself")


def add_segment(parser: Command) -> None:
    """Add the options of `segment`."""
    parser.add_argument("paths", nargs="+", help="micrographs")
    parser.option("-m", "--model", default="resnet16", about="model to score with")
    parser.option("-o", "--destdir", metavar="FOLDER", about="where the score maps go")
    parser.device()
    parser.threads()
    parser.option("-p", "--patch-size", type=int, about="ignored: set by itself")
    parser.flag("-v", "--verbose", about="say what is being done")


def add_extract(parser: Command) -> None:
    """Add the options of `extract`, those of RELION's version of it too."""
    parser.add_argument(
        "paths", nargs="*", default=[], help="micrographs [their names on standard input]"
    )
    parser.option(
        "-m",
        "--model",
        default="resnet16",
        about="model to score with; none where the images are score maps",
    )
    parser.option("-r", "--radius", type=int, about="no two picks are nearer than this")
    parser.option(
        "-t",
        "--threshold",
        type=float,
        default=-6.0,
        about="log-odds above which there is a pick",
    )
    parser.scales()
    parser.option("--num-workers", type=int, default=0, about="ignored: set by itself")
    parser.threads()
    parser.option("-p", "--patch-size", type=int, default=0, about="ignored: set by itself")
    parser.option("--batch-size", type=int, default=1, about="ignored: set by itself")
    parser.option(
        "--assignment-radius",
        type=int,
        about="largest distance of a pick from its target [the radius]",
    )
    parser.option("--min-radius", type=int, default=5, about="smallest radius tried")
    parser.option("--max-radius", type=int, default=100, about="largest radius tried")
    parser.option("--step-radius", type=int, default=5, about="step between radii tried")
    parser.option(
        "--targets",
        metavar="PATH",
        about="particles, to find the radius by which the picks rank best",
    )
    parser.flag("--only-validate", about="judge the picks by the targets, but write none")
    parser.device()
    parser.output()
    parser.flag("--per-micrograph", about="write a file for each micrograph")
    parser.option("--suffix", default="", about="what follows the stem in names of such files")
    parser.option(
        "--format",
        choices=["coord", "csv", "star", "json", "box"],
        default="coord",
        about="format to write",
    )
    parser.option("--dims", type=int, choices=[2, 3], default=2, about="3 for tomograms")
    parser.flag("-v", "--verbose", about="say what is being done")
    parser.flag("-f", "--filaments", about="pick along filaments")
    parser.option(
        "-fl",
        "--filaments_length",
        type=float,
        default=-1.0,
        about="least length of a filament",
    )
    parser.flag("-fp", "--filaments_plot", about="draw how filaments were found")
    parser.flag("--no-worker", about="leave no process with the model in memory for later calls")


def add_curve(parser: Command) -> None:
    """Add the options of `precision_recall_curve`."""
    parser.option("--predicted", metavar="PATH", about="picks with scores")
    parser.option("--targets", metavar="PATH", about="labelled particles")
    parser.option(
        "-r",
        "--assignment-radius",
        type=int,
        required=True,
        about="largest distance of a pick from its particle",
    )
    parser.option(
        "--images",
        choices=["target", "predicted", "union"],
        default="target",
        about="whose micrographs count",
    )


COMMANDS: Commands = {
    "train": ("train a network on labelled micrographs", add_train),
    "segment": ("write the score map of each micrograph", add_segment),
    "extract": ("pick particles", add_extract),
    "precision_recall_curve": ("judge scored picks by labelled particles", add_curve),
}
