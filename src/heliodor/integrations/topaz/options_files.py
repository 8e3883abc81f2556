"""The options of the commands for coordinate files and images."""

from __future__ import annotations

import math

from heliodor.integrations.topaz.option_groups import CommandParser, Commands

READABLE = ["auto", "coord", "csv", "star", "box"]
WRITABLE = ["auto", "coord", "csv", "star", "json", "box"]


def add_convert(parser: CommandParser) -> None:
    """Add the options of `convert`."""
    parser.add_argument("files", nargs="+", help="coordinate files, which are merged")
    parser.output("file, or folder for one file per micrograph [standard output]")
    parser.option(
        "--from",
        choices=READABLE,
        default="auto",
        dest="from_format",
        help_text="input format; auto detects it from the content",
    )
    parser.option(
        "--to",
        choices=WRITABLE,
        default="auto",
        dest="to_format",
        help_text="output format; auto chooses it by the name; json and box need a folder",
    )
    parser.option("--suffix", default="", help_text="suffix of the names of files in a folder")
    _add_threshold(parser)
    parser.option(
        "-s", "--down-scale", type=float, default=1.0, help_text="divide coordinates by this"
    )
    parser.option(
        "-x", "--up-scale", type=float, default=1.0, help_text="multiply coordinates by this"
    )
    _add_metadata(parser, "voltage", "detector-pixel-size", "magnification", "amplitude-contrast")
    parser.flag("--invert-y", help_text="mirror y within the height of the images in --imagedir")
    parser.option("--imagedir", metavar="FOLDER", help_text="folder with the images")
    parser.option("--image-ext", default=".mrc", help_text="suffix of the images' names")
    parser.option("--boxsize", type=int, default=0, help_text="box size in pixels")
    parser.option("-v", "--verbose", type=int, default=0, help_text="1 to report progress")


def add_split(parser: CommandParser) -> None:
    """Add the options of `split`."""
    parser.add_argument("file", help="coordinate file")
    parser.output("folder to write to")
    parser.option(
        "--format",
        choices=["auto", "coord", "star"],
        default="auto",
        help_text="input and output format; auto detects it from the content",
    )
    parser.option("--suffix", default="", help_text="suffix of the files' names")
    _add_threshold(parser)


def add_train_test_split(parser: CommandParser) -> None:
    """Add the options of `train_test_split`."""
    parser.add_argument("file", help="coordinate file")
    parser.option("--image-dir", metavar="FOLDER", help_text="folder with the images")
    parser.option("--image-ext", default="*", help_text="suffix of the images' names")
    parser.option(
        "--format",
        choices=READABLE,
        default="auto",
        help_text="input format; auto detects it from the content",
    )
    parser.option("-n", "--number", type=int, help_text="number of test images")
    parser.option("--seed", type=int, default=0, help_text="seed of the random choice")


def add_scale_coordinates(parser: CommandParser) -> None:
    """Add the options of `scale_coordinates`."""
    parser.add_argument("file", help="coordinate file")
    parser.option(
        "-s", "--scale", type=float, default=0.25, help_text="multiply coordinates by this"
    )
    parser.output()


def add_boxes_to_coordinates(parser: CommandParser) -> None:
    """Add the options of `boxes_to_coordinates`."""
    parser.add_argument("files", nargs="+", help="box files")
    _add_mirror(parser)
    parser.output()


def add_star_to_coordinates(parser: CommandParser) -> None:
    """Add the options of `star_to_coordinates`."""
    parser.add_argument("file", help="STAR file")
    parser.output()


def add_coordinates_to_star(parser: CommandParser) -> None:
    """Add the options of `coordinates_to_star`."""
    parser.add_argument("file", help="coordinate file")
    parser.option("--image-ext", default=".mrc", help_text="suffix of the images' names")
    _add_metadata(
        parser,
        "voltage",
        "defocus-u",
        "defocus-v",
        "defocus-angle",
        "spherical-aberation",
        "amplitude-contrast",
        "detector-pixel-size",
        "magnification",
    )
    # Topaz has no -o here and writes to standard output; this is an addition.
    parser.output()


def add_coordinates_to_boxes(parser: CommandParser) -> None:
    """Add the options of `coordinates_to_boxes`."""
    add_coordinates_to_eman2_json(parser)
    parser.option("--boxsize", type=int, required=True, help_text="box size in pixels")


def add_coordinates_to_eman2_json(parser: CommandParser) -> None:
    """Add the options of `coordinates_to_eman2_json`."""
    parser.add_argument("paths", nargs="+", help="coordinate files")
    parser.option(
        "--destdir",
        required=True,
        metavar="FOLDER",
        help_text="folder for the files, one per image",
    )
    _add_mirror(parser)


def add_star_particles_threshold(parser: CommandParser) -> None:
    """Add the options of `star_particles_threshold`."""
    parser.add_argument("file", help="STAR file")
    parser.output()
    _add_threshold(parser)


def _add_threshold(parser: CommandParser) -> None:
    parser.option(
        "-t",
        "--threshold",
        type=float,
        default=-math.inf,
        help_text="keep particles with at least this score",
    )


def _add_metadata(parser: CommandParser, *names: str) -> None:
    for name in names:
        parser.option(
            f"--{name}",
            type=float,
            default=-1.0,
            help_text=f"{name.replace('-', ' ')} column of the STAR file; none if negative",
        )


def _add_mirror(parser: CommandParser) -> None:
    parser.flag("--invert-y", help_text="mirror y within the height of the images in --imagedir")
    parser.option("--imagedir", metavar="FOLDER", help_text="folder with the images")
    parser.option(
        "--image-ext", default="tiff", help_text="suffix of the images' names; * for any"
    )


FILE_COMMANDS: Commands = {
    "convert": ("convert coordinates to another format or scale", add_convert),
    "split": ("split a coordinate file into one per micrograph", add_split),
    "train_test_split": ("split micrographs into training and test sets", add_train_test_split),
}
DEPRECATED: Commands = {
    "scale_coordinates": ("multiply coordinates by a factor", add_scale_coordinates),
    "boxes_to_coordinates": ("convert box files to a table", add_boxes_to_coordinates),
    "star_to_coordinates": ("convert a STAR file to a table", add_star_to_coordinates),
    "coordinates_to_star": ("convert a table to a STAR file", add_coordinates_to_star),
    "coordinates_to_boxes": ("convert tables to box files", add_coordinates_to_boxes),
    "coordinates_to_eman2_json": ("convert tables to EMAN2 files", add_coordinates_to_eman2_json),
    "star_particles_threshold": (
        "keep particles of a STAR file above a threshold",
        add_star_particles_threshold,
    ),
}


def add_downsample(parser: CommandParser) -> None:
    """Add the options of `downsample`."""
    parser.add_argument("file", help="micrograph")
    parser.option("-s", "--scale", type=int, default=4, help_text="downsampling factor")
    parser.output("file to write")
    parser.flag("-v", "--verbose", help_text="report progress")


def add_preprocess(parser: CommandParser) -> None:
    """Add the options of `preprocess`, which are those of `normalize`."""
    parser.add_argument("files", nargs="+", help="micrographs")
    parser.option("-s", "--scale", type=int, default=1, help_text="downsampling factor")
    parser.flag(
        "--affine",
        help_text="normalize by mean and standard deviation instead of a two-Gaussian mixture",
    )
    parser.option("--sample", type=int, default=10, help_text="ignored: all pixels are used")
    parser.option(
        "--niters", type=int, default=100, help_text="ignored: the fit runs to convergence"
    )
    parser.option("-a", "--alpha", type=float, default=900.0, help_text="ignored: no prior")
    parser.option("-b", "--beta", type=float, default=1.0, help_text="ignored: no prior")
    parser.flag(
        "--metadata", help_text="write the fitted parameters of each micrograph to a JSON file"
    )
    parser.device(default=-1)
    parser.option(
        "-t",
        "--num-workers",
        type=int,
        default=0,
        help_text="micrographs to process at a time; one per CPU if negative",
    )
    parser.threads()
    parser.option("-o", "--destdir", metavar="FOLDER", help_text="output folder")
    parser.option(
        "--format",
        default="mrc",
        metavar="FORMATS",
        help_text="mrc, tiff, png, or several separated by commas",
    )
    parser.flag("-v", "--verbose", help_text="report progress")


IMAGE_COMMANDS: Commands = {
    "downsample": ("downsample a micrograph by Fourier cropping", add_downsample),
    "normalize": ("normalize micrographs with a two-Gaussian mixture", add_preprocess),
    "preprocess": ("downsample and normalize micrographs", add_preprocess),
}
