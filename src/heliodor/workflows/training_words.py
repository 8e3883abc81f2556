"""What a training says while it goes on, and of what it found."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from heliodor.models.pretrained import NAME, SCRATCH
from heliodor.training.history import Epoch
from heliodor.training.recipes import TrainingSettings
from heliodor.utils import console

#: A number of particles this many times off the estimate's band is worth a word.
FAR_OFF = 1.5


def about_number(counts: Sequence[float], given: float | None) -> str:
    """Say the estimated particles a micrograph; return a note where the user's are others."""
    estimate, low, high = counts
    console.say(
        f"an estimated {estimate:.0f} particles a micrograph ({low:.0f} to {high:.0f}), labelled"
        " or not"
    )
    if given is None or max(given / high, low / given) < FAR_OFF:
        return ""
    return (
        f"{given:g} particles a micrograph were expected, but the scores speak for {estimate:.0f}"
        f" ({low:.0f} to {high:.0f})"
    )


def start_in_words(recipe: TrainingSettings) -> str:
    """Say what a training starts from, where it is a model."""
    starts = {SCRATCH: "", NAME: ", from the general model"}
    return starts.get(recipe.start, f", from {recipe.start}")


def and_negatives(number: int) -> str:
    """Name the labelled negatives, where there are some."""
    return f" and {number} labelled negatives" if number else ""


def say_epoch(epochs: int) -> Callable[[Epoch], None]:
    """Return what says how an epoch went, of so many."""

    def say(epoch: Epoch) -> None:
        ap = f", validation AP {epoch.validation_ap:.3f}" if epoch.validation_ap >= 0 else ""
        console.say(
            f"epoch {epoch.epoch} of {epochs}: loss {epoch.loss:.4f}{ap}, {epoch.seconds:.0f} s"
        )

    return say
