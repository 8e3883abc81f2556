"""The options of the commands that turn coordinate files into others."""

from __future__ import annotations

import math

from heliodor.integrations.topaz.option_groups import CommandParser, Commands

READABLE = ["auto", "coord", "csv", "star", "box"]
WRITABLE = ["auto", "coord", "csv", "star", "json", "box"]


def add_convert(parser: CommandParser) -> None:
    """Add the options of `convert`."""
    parser.add_argument("files", nargs="+", help="coordinate files, joined into one")
    parser.output("file, or folder for one file a micrograph [standard output]")
    parser.option(
        "--from",
        choices=READABLE,
        default="auto",
        dest="from_format",
        help_text="format to read, else told from the content",
    )
    parser.option(
        "--to",
        choices=WRITABLE,
        default="auto",
        dest="to_format",
        help_text="format to write, else told from the name; json and box need a folder",
    )
    parser.option("--suffix", default="", help_text="what follows the stem in a folder's files")
    _add_threshold(parser)
    parser.option(
        "-s", "--down-scale", type=float, default=1.0, help_text="divide coordinates by this"
    )
    parser.option(
        "-x", "--up-scale", type=float, default=1.0, help_text="multiply coordinates by this"
    )
    _add_metadata(parser, "voltage", "detector-pixel-size", "magnification", "amplitude-contrast")
    parser.flag("--invert-y", help_text="mirror y, with the heights of the images of --imagedir")
    parser.option("--imagedir", metavar="FOLDER", help_text="where the images are")
    parser.option("--image-ext", default=".mrc", help_text="how the images' names end")
    parser.option("--boxsize", type=int, default=0, help_text="side of the boxes in pixels")
    parser.option("-v", "--verbose", type=int, default=0, help_text="1 to say what is being done")


def add_split(parser: CommandParser) -> None:
    """Add the options of `split`."""
    parser.add_argument("file", help="coordinate file")
    parser.output("folder to write to")
    parser.option(
        "--format",
        choices=["auto", "coord", "star"],
        default="auto",
        help_text="format to read and write, else told from the content",
    )
    parser.option("--suffix", default="", help_text="what follows the stem in the files' names")
    _add_threshold(parser)


def add_train_test_split(parser: CommandParser) -> None:
    """Add the options of `train_test_split`."""
    parser.add_argument("file", help="coordinate file")
    parser.option("--image-dir", metavar="FOLDER", help_text="where the images are")
    parser.option("--image-ext", default="*", help_text="how the images' names end")
    parser.option(
        "--format",
        choices=READABLE,
        default="auto",
        help_text="format to read, else told from the content",
    )
    parser.option("-n", "--number", type=int, help_text="images for the test")
    parser.option("--seed", type=int, default=0, help_text="seed of the choice")


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
    parser.option("--image-ext", default=".mrc", help_text="how the images' names end")
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
    # Topaz has no -o here and writes to standard output; the same option as elsewhere is handy.
    parser.output()


def add_coordinates_to_boxes(parser: CommandParser) -> None:
    """Add the options of `coordinates_to_boxes`."""
    add_coordinates_to_eman2_json(parser)
    parser.option("--boxsize", type=int, required=True, help_text="side of the boxes in pixels")


def add_coordinates_to_eman2_json(parser: CommandParser) -> None:
    """Add the options of `coordinates_to_eman2_json`."""
    parser.add_argument("paths", nargs="+", help="coordinate files")
    parser.option(
        "--destdir",
        required=True,
        metavar="FOLDER",
        help_text="where the files go, one an image",
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
        help_text="keep particles that score this or more",
    )


def _add_metadata(parser: CommandParser, *names: str) -> None:
    for name in names:
        parser.option(
            f"--{name}",
            type=float,
            default=-1.0,
            help_text=f"column of the STAR file: {name.replace('-', ' ')} [below 0: none]",
        )


def _add_mirror(parser: CommandParser) -> None:
    parser.flag("--invert-y", help_text="mirror y, with the heights of the images of --imagedir")
    parser.option("--imagedir", metavar="FOLDER", help_text="where the images are")
    parser.option("--image-ext", default="tiff", help_text="how the images' names end; * for any")


FILE_COMMANDS: Commands = {
    "convert": ("turn coordinates into another format or scale", add_convert),
    "split": ("write one coordinate file for each micrograph", add_split),
    "train_test_split": ("share micrographs out to training and test", add_train_test_split),
}
DEPRECATED: Commands = {
    "scale_coordinates": ("multiply coordinates by a factor", add_scale_coordinates),
    "boxes_to_coordinates": ("box files to a table", add_boxes_to_coordinates),
    "star_to_coordinates": ("a STAR file to a table", add_star_to_coordinates),
    "coordinates_to_star": ("a table to a STAR file", add_coordinates_to_star),
    "coordinates_to_boxes": ("tables to box files", add_coordinates_to_boxes),
    "coordinates_to_eman2_json": ("tables to EMAN2's files", add_coordinates_to_eman2_json),
    "star_particles_threshold": ("keep a STAR file's best", add_star_particles_threshold),
}


def add_downsample(parser: CommandParser) -> None:
    """Add the options of `downsample`."""
    parser.add_argument("file", help="micrograph")
    parser.option("-s", "--scale", type=int, default=4, help_text="how many times smaller")
    parser.output("file to write")
    parser.flag("-v", "--verbose", help_text="say what is being done")


def add_preprocess(parser: CommandParser) -> None:
    """Add the options of `preprocess`, which are those of `normalize`."""
    parser.add_argument("files", nargs="+", help="micrographs")
    parser.option("-s", "--scale", type=int, default=1, help_text="how many times smaller")
    parser.flag(
        "--affine",
        help_text="normalize by mean and standard deviation instead of a mixture of two Gaussians",
    )
    parser.option("--sample", type=int, default=10, help_text="ignored: all pixels are used")
    parser.option("--niters", type=int, default=100, help_text="ignored: the fit runs to its end")
    parser.option("-a", "--alpha", type=float, default=900.0, help_text="ignored: no prior")
    parser.option("-b", "--beta", type=float, default=1.0, help_text="ignored: no prior")
    parser.flag("--metadata", help_text="write what was fitted to each micrograph beside it")
    parser.device(default=-1)
    parser.option(
        "-t",
        "--num-workers",
        type=int,
        default=0,
        help_text="micrographs at a time; below 0, as many as there are CPUs",
    )
    parser.threads()
    parser.option("-o", "--destdir", metavar="FOLDER", help_text="where the results go")
    parser.option(
        "--format",
        default="mrc",
        metavar="FORMATS",
        help_text="mrc, tiff, png, or several with commas between them",
    )
    parser.flag("-v", "--verbose", help_text="say what is being done")


IMAGE_COMMANDS: Commands = {
    "downsample": ("make a micrograph smaller by cropping its Fourier transform", add_downsample),
    "normalize": ("normalize micrographs by a mixture of two Gaussians", add_preprocess),
    "preprocess": ("make micrographs smaller and normalize them", add_preprocess),
}
