"""The options of `train`, `segment`, `extract` and `precision_recall_curve`."""

from __future__ import annotations

from heliodor.integrations.topaz.option_groups import CommandParser, Commands


def add_train(parser: CommandParser) -> None:
    """Add the options of `train`."""
    parser.flag("--describe", help_text="print the network and exit")
    parser.device()
    parser.option("--num-workers", type=int, default=0, help_text="ignored: not needed")
    parser.threads()
    _add_data(parser)
    _add_objective(parser)
    _add_schedule(parser)
    _add_network(parser)
    parser.option(
        "--save-prefix", metavar="PATH", help_text="prefix of the models: PATH_epochN.sav"
    )
    parser.output("table with the training progress [standard output]")
    parser.option(
        "--test-batch-size", type=int, default=1, help_text="ignored: chosen automatically"
    )


def _add_data(parser: CommandParser) -> None:
    for part, what in (("train", "training"), ("test", "test")):
        parser.option(
            f"--{part}-images",
            metavar="PATH",
            help_text=f"{what} images: a table with columns image_name and path, or a folder",
        )
        parser.option(
            f"--{part}-targets",
            metavar="PATH",
            help_text=f"coordinates of the labeled particles in the {what} images",
        )
    parser.option(
        "--format",
        choices=["auto", "coord", "csv", "star", "box"],
        default="auto",
        help_text="format of the coordinate files; auto detects it from their content",
    )
    parser.option(
        "--image-ext",
        default="",
        metavar=".EXT",
        help_text="suffix of the images to use, if a folder is given",
    )
    parser.option(
        "-k",
        "--k-fold",
        type=int,
        default=0,
        help_text="split the training images into N folds and test on one of them",
    )
    parser.option("--fold", type=int, default=0, help_text="fold to test on, from 0")
    parser.option(
        "--cross-validation-seed",
        type=int,
        default=42,
        help_text="seed for splitting images into folds",
    )


def _add_objective(parser: CommandParser) -> None:
    parser.option(
        "-n",
        "--num-particles",
        type=float,
        default=-1.0,
        help_text="expected number of particles per micrograph; guessed if negative",
    )
    parser.option(
        "--pi", type=float, help_text="fraction of positive pixels, as an alternative to -n"
    )
    parser.option(
        "-r",
        "--radius",
        type=int,
        default=3,
        help_text="radius around labeled centers that counts as positive, in pixels",
    )
    parser.option(
        "--method",
        choices=["PN", "GE-KL", "GE-binomial", "PU"],
        default="GE-binomial",
        help_text="training objective",
    )
    parser.option(
        "--slack",
        type=float,
        default=-1.0,
        help_text="weight of the GE term; default of the method if negative",
    )
    parser.option(
        "--autoencoder",
        type=float,
        default=0.0,
        help_text="weight of the reconstruction error of an autoencoder",
    )
    parser.option("--l2", type=float, default=0.0, help_text="weight of L2 regularization")


def _add_schedule(parser: CommandParser) -> None:
    parser.option(
        "--learning-rate", type=float, default=0.0002, help_text="learning rate of the optimizer"
    )
    parser.flag("--natural", help_text="sample pixels uniformly instead of oversampling particles")
    parser.option(
        "--minibatch-size", type=int, default=256, help_text="size of a minibatch in crops"
    )
    parser.option(
        "--minibatch-balance",
        type=float,
        default=0.0625,
        help_text="fraction of crops with particles in a minibatch",
    )
    parser.option("--epoch-size", type=int, default=1000, help_text="updates per epoch")
    parser.option("--num-epochs", type=int, default=10, help_text="number of epochs")
    parser.option("--preload", default="auto", help_text="ignored: chosen automatically")


def _add_network(parser: CommandParser) -> None:
    parser.option(
        "--pretrained",
        action="store_true",
        default=True,
        help_text="ignored: training starts from random weights",
    )
    parser.option(
        "--no-pretrained",
        action="store_false",
        dest="pretrained",
        default=True,
        help_text="start from random weights",
    )
    parser.option("-m", "--model", default="resnet8", help_text="network to train")
    parser.option(
        "--units", type=int, default=32, help_text="number of channels in the first layer"
    )
    parser.option("--dropout", type=float, default=0.0, help_text="dropout rate")
    parser.option("--bn", choices=["on", "off"], default="on", help_text="batch normalization")
    parser.option("--pooling", help_text="not available: the networks use strides")
    parser.option(
        "--unit-scaling",
        type=int,
        default=2,
        help_text="factor by which each stride increases the number of channels",
    )
    parser.option("--ngf", type=int, default=32, help_text="ignored: channels of the decoder")
    parser.option(
        "-s", "--patch-size", type=int, default=96, help_text="ignored: chosen automatically"
    )
    parser.option(
        "-p", "--patch-padding", type=int, default=48, help_text="ignored: chosen automatically"
    )


def add_segment(parser: CommandParser) -> None:
    """Add the options of `segment`."""
    parser.add_argument("paths", nargs="+", help="micrographs")
    parser.option("-m", "--model", default="resnet16", help_text="model")
    parser.option("-o", "--destdir", metavar="FOLDER", help_text="folder for the score maps")
    parser.device()
    parser.threads()
    parser.option("-p", "--patch-size", type=int, help_text="ignored: chosen automatically")
    parser.flag("-v", "--verbose", help_text="report progress")


def add_extract(parser: CommandParser) -> None:
    """Add the options of `extract`, including those of RELION's version."""
    parser.add_argument(
        "paths", nargs="*", default=[], help="micrographs [read from standard input]"
    )
    parser.option(
        "-m",
        "--model",
        default="resnet16",
        help_text="model (general if resnet16 is not imported); none if the images are score maps",
    )
    parser.option(
        "-r", "--radius", type=int, help_text="minimum distance between picks, in pixels"
    )
    parser.option(
        "-t",
        "--threshold",
        type=float,
        default=-6.0,
        help_text="minimum score (log-odds) of a pick",
    )
    parser.scales()
    parser.option("--num-workers", type=int, default=0, help_text="ignored: chosen automatically")
    parser.threads()
    parser.option(
        "-p", "--patch-size", type=int, default=0, help_text="ignored: chosen automatically"
    )
    parser.option("--batch-size", type=int, default=1, help_text="ignored: chosen automatically")
    _add_radius_search(parser)
    parser.device()
    _add_extract_output(parser)
    parser.option(
        "--dims",
        type=int,
        choices=[2, 3],
        default=2,
        help_text="must be 2: tomograms are not supported",
    )
    parser.flag("-v", "--verbose", help_text="report progress")
    parser.flag(
        "-f",
        "--filaments",
        help_text="trace filaments: two rows, start and end, for each straight part; -r is half of"
        " their width",
    )
    parser.option(
        "-fl",
        "--filaments_length",
        type=float,
        default=-1.0,
        help_text="shortest filament, in pixels [three widths if negative]",
    )
    parser.flag("-fp", "--filaments_plot", help_text="ignored: there are no plots of the steps")
    parser.flag(
        "--no-worker", help_text="do not keep a process with the model in memory for later calls"
    )


def _add_radius_search(parser: CommandParser) -> None:
    parser.option(
        "--assignment-radius",
        type=int,
        help_text="maximum distance between a pick and its target [the radius]",
    )
    parser.option("--min-radius", type=int, default=5, help_text="smallest radius to try")
    parser.option("--max-radius", type=int, default=100, help_text="largest radius to try")
    parser.option("--step-radius", type=int, default=5, help_text="step between radii to try")
    parser.option(
        "--targets",
        metavar="PATH",
        help_text="labeled particles, to find the radius with the best average precision",
    )
    parser.flag(
        "--only-validate",
        help_text="evaluate the picks against the targets, but do not write them",
    )


def _add_extract_output(parser: CommandParser) -> None:
    parser.output()
    parser.flag("--per-micrograph", help_text="write one file per micrograph")
    parser.option("--suffix", default="", help_text="suffix of the names of such files")
    parser.option(
        "--format",
        choices=["coord", "csv", "star", "json", "box"],
        default="coord",
        help_text="output format",
    )


def add_curve(parser: CommandParser) -> None:
    """Add the options of `precision_recall_curve`."""
    parser.option("--predicted", metavar="PATH", help_text="scored picks")
    parser.option("--targets", metavar="PATH", help_text="labeled particles")
    parser.option(
        "-r",
        "--assignment-radius",
        type=int,
        required=True,
        help_text="maximum distance between a pick and its particle",
    )
    parser.option(
        "--images",
        choices=["target", "predicted", "union"],
        default="target",
        help_text="micrographs to include: those of the targets, of the picks, or both",
    )


COMMANDS: Commands = {
    "train": ("train a network on labeled micrographs", add_train),
    "segment": ("write the score map of each micrograph", add_segment),
    "extract": ("pick particles", add_extract),
    "precision_recall_curve": ("evaluate scored picks against labeled particles", add_curve),
}
