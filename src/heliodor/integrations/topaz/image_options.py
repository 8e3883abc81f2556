"""The options of `downsample`, `normalize` and `preprocess`."""

from __future__ import annotations

from heliodor.integrations.topaz.option_groups import Command, Commands


def add_downsample(parser: Command) -> None:
    """Add the options of `downsample`."""
    parser.add_argument("file", help="micrograph")
    parser.option("-s", "--scale", type=int, default=4, about="how many times smaller")
    parser.output("file to write")
    parser.flag("-v", "--verbose", about="say what is being done")


def add_preprocess(parser: Command) -> None:
    """Add the options of `preprocess`, which are those of `normalize`."""
    parser.add_argument("files", nargs="+", help="micrographs")
    parser.option("-s", "--scale", type=int, default=1, about="how many times smaller")
    parser.flag(
        "--affine",
        about="normalise by mean and standard deviation instead of a mixture of two Gaussians",
    )
    parser.option("--sample", type=int, default=10, about="ignored: all pixels are used")
    parser.option("--niters", type=int, default=100, about="ignored: the fit runs to its end")
    parser.option("-a", "--alpha", type=float, default=900.0, about="ignored: no prior")
    parser.option("-b", "--beta", type=float, default=1.0, about="ignored: no prior")
    parser.flag("--metadata", about="write what was fitted to each micrograph beside it")
    parser.device(default=-1)
    parser.option(
        "-t",
        "--num-workers",
        type=int,
        default=0,
        about="micrographs at a time; below 0, as many as there are CPUs",
    )
    parser.threads()
    parser.option("-o", "--destdir", metavar="FOLDER", about="where the results go")
    parser.option(
        "--format",
        default="mrc",
        metavar="FORMATS",
        about="mrc, tiff, png, or several with commas between them",
    )
    parser.flag("-v", "--verbose", about="say what is being done")


COMMANDS: Commands = {
    "downsample": ("make a micrograph smaller by cropping its Fourier transform", add_downsample),
    "normalize": ("normalise micrographs by a mixture of two Gaussians", add_preprocess),
    "preprocess": ("make micrographs smaller and normalise them", add_preprocess),
}
