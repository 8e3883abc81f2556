"""Options that people type by habit from other programs, and what they are called here.

The names are those of Topaz, crYOLO, RELION, EMAN2 and Gautomatch; each is a hint only in a
command that has no such option itself.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

#: For each option here: its names in other programs, and the sentence about it.
_OPTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "--device": (
        ("--gpu", "-gpu", "-g", "--gpus", "--gpuid", "--gid", "--use_gpu", "-d"),
        "use --device, for example --device cuda:0, or --device cpu",
    ),
    "--pixel-size": (
        ("--angpix", "--apix", "--apixM", "--pixel_size", "--pixelsize", "--psize", "--pixsize"),
        "the pixel size of the micrographs is --pixel-size, in Å",
    ),
    "--diameter": (
        ("--particle_diameter", "--particle-diameter", "--diam", "--box-size", "--boxsize"),
        "the longest diameter of the particle is --diameter, in Å",
    ),
    "--micrographs": (
        ("-i", "--i", "--input", "--in_mics", "--train-images", "--images", "--micrograph"),
        "give the micrographs without an option, or with --micrographs",
    ),
    "--out": (
        ("--odir", "--output", "--outdir", "--output-dir", "--o", "-O", "--save-prefix"),
        "the folder for the results is -o",
    ),
    "--labels": (
        ("--train-targets", "--coords", "--in_coords", "--targets", "-a", "--annot"),
        "the coordinates of labeled particles are --labels",
    ),
    "--exclusion-radius": (
        ("-r", "--radius", "--distance", "--min_distance", "--min-distance", "--mindist"),
        "the minimum distance between picks is --exclusion-radius, in Å; by default it is half of"
        " the diameter",
    ),
    "--match-distance": (
        ("-r", "--assignment-radius", "--distance"),
        "the maximum distance between a pick and its particle is --match-distance, in Å",
    ),
    "--model": (
        ("-m", "-w", "--weights", "--saved_model", "--model_path"),
        "the model is --model",
    ),
    "--expected-particles": (
        ("-n", "--num-particles", "--expected-num-particles", "--nr_particles"),
        "the number of particles per micrograph is --expected-particles; without it, it is"
        " estimated",
    ),
    "--threads": (
        ("--num-workers", "--num-threads", "--cpus", "--ncpus", "--nthreads", "-nc", "--j", "-j"),
        "the number of threads is --threads",
    ),
    "--threshold": (
        ("-t", "--thresh", "--threshold_value", "--cutoff", "--cc_cutoff"),
        "the threshold is --threshold, in log-odds (0 is a probability of one half); without it,"
        " it is chosen automatically",
    ),
    "--working-pixel-size": (
        ("-s", "--scale", "--down-scale", "--downscale", "--bin"),
        "the pixel size of the results is --working-pixel-size, in Å",
    ),
    "--width": (
        ("--helical_tube_outer_diameter", "--filament_width", "-fw"),
        "the width of filaments is --width, in Å",
    ),
    "--min-length": (
        ("--helical_tube_length_min", "--minimum_filament_length", "-fl"),
        "the length of the shortest filament is --min-length, in Å",
    ),
    "--min-radius": (
        ("--helical_tube_kappa_max",),
        "how far filaments may bend is --min-radius, the smallest radius in Å",
    ),
    "--help": (
        ("-c", "--conf", "--config"),
        "there is no configuration file; --help shows the options",
    ),
}


#: Options of filaments, in commands that do not know them.
_FILAMENTS = (
    "filaments are learned with heliodor train --filaments, and traced with heliodor pick"
    " --filaments"
)

#: Commands of other programs, and those that do the same here.
_COMMANDS = {
    "extract": "pick",
    "predict": "pick",
    "autopick": "pick",
    "pick_particles": "pick",
    "segment": "pick",
    "normalize": "preprocess",
    "downsample": "preprocess",
    "precision_recall_curve": "evaluate",
    "import": "convert",
    "gui": "app",
}


def find_command_hint(words: Sequence[str]) -> str | None:
    """Return a hint if the first word is a command of another program, or None."""
    own = _COMMANDS.get(words[0].lower()) if words else None
    return None if own is None else f"there is no command {words[0]}: use heliodor {own}"


def find_hint(words: Sequence[str], known: Collection[str]) -> str | None:
    """Return a hint about the first option that is known from another program, or None.

    Parameters
    ----------
    words
        The words of a command, after its name.
    known
        The options that the command has itself.
    """
    for word in words:
        name = word.partition("=")[0]
        if name in known:
            continue
        if name.startswith("--") and name.replace("_", "-") in known:
            return f"there is no option {name}: it is {name.replace('_', '-')}"
        if name == "--filaments":
            return f"there is no option --filaments here: {_FILAMENTS}"
        for option, (names, hint) in _OPTIONS.items():
            spellings = {*names, *(one.replace("_", "-") for one in names)}
            if {name, name.replace("_", "-")} & spellings and option in known:
                return f"there is no option {name}: {hint}"
    return None
