"""The Python API: pick, train, evaluate and convert, on files and on arrays.

Lengths are in angstrom unless a name ends in ``_px``. Nothing is written unless `out` is given,
and nothing outside a call changes: threads and the settings of PyTorch are as they were
afterwards. Messages go to the logger ``heliodor``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from heliodor.conventions import Image
from heliodor.data.coordinates.picks import PIXEL_SIZE, Picks
from heliodor.data.micrographs.micrograph import read_micrograph, write_mrc
from heliodor.data.micrographs.sources import MicrographInputs, Source, find_sources
from heliodor.data.micrographs.working_images import Failure, check_pixel_size
from heliodor.errors import BadInput
from heliodor.models import pretrained
from heliodor.models.model_file import Model, ModelCard, save_model
from heliodor.picking.filaments.settings import FilamentSettings
from heliodor.picking.score_maps import open_working_images, score_micrograph
from heliodor.picking.settings import InBadAreas, PickSettings
from heliodor.training.settings import TrainSettings
from heliodor.utils.compute import ComputeSettings, choose_device
from heliodor.utils.settings import build
from heliodor.utils.threads import resolve_threads
from heliodor.workflows.in_memory import pick_in_memory
from heliodor.workflows.settings import ConversionSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

    from heliodor.data.filaments.filament import Filaments
    from heliodor.evaluation.metrics import Evaluation
    from heliodor.evaluation.thresholds import ExpectedPerformance
    from heliodor.picking.filaments.batch import ExpectedLengths

#: Files as the command line takes them, or one image or several as arrays, each of shape (h, w).
Micrographs: TypeAlias = (
    "str | Path | Sequence[str | Path] | NDArray[Any] | Sequence[NDArray[Any]]"
)
#: A file of coordinates, picks, or for each micrograph an array of (x, y) in pixels.
Coordinates: TypeAlias = "str | Path | Picks | Sequence[ArrayLike]"


@dataclass(frozen=True, repr=False)
class ModelPicks(Picks):
    """Picks that a model found, with all candidates and what is expected of them."""

    #: Candidates with this score (log-odds) or more are picks.
    threshold: float = 0.0
    #: All candidates, picks and others, best first on each micrograph.
    candidates: Picks = field(default_factory=Picks.empty)
    #: Expected precision and recall, if the model's scores are calibrated.
    expected: ExpectedPerformance | None = None
    #: Micrographs that could not be used, and why.
    failures: tuple[Failure, ...] = ()
    #: The diameter in angstrom that the model was used with.
    diameter: float = 0.0
    _images: Mapping[str, Source] = field(default_factory=dict)
    _pixel_sizes: Mapping[str, float] = field(default_factory=dict)

    def plot(self, micrograph: int | str = 0) -> Figure:
        """Draw a micrograph with its picks.

        Parameters
        ----------
        micrograph
            Its position in `micrographs`, or its name.

        Returns
        -------
        matplotlib.figure.Figure
            Shown by a notebook; `figure.savefig("picks.png")` writes it.
        """
        from heliodor.report.notebook import draw_picks

        name = self.micrographs[micrograph] if isinstance(micrograph, int) else micrograph
        source = self._images[name]
        pixels = read_micrograph(source.path).image if source.pixels is None else source.pixels
        here = self.select(self.micrograph == name)
        diameter_px = self.diameter / self._pixel_sizes[name]
        return draw_picks(np.asarray(pixels, dtype=np.float32), here.xy_px, diameter_px, name)


class Picker:
    """A model with everything that picking needs.

    Get one with `from_pretrained`, `load` or `train`.
    """

    def __init__(self, model: Model, device: str = "auto") -> None:
        self._model = model
        self._device = device

    @classmethod
    def from_pretrained(
        cls, model: str = "general", *, diameter: float, device: str = "auto"
    ) -> Picker:
        """Return the general model for particles of a diameter.

        Parameters
        ----------
        model
            general, the one that comes with heliodor.
        diameter
            Longest diameter of the particle in angstrom.
        device
            auto, cpu, cuda, cuda:N or mps.
        """
        if model != pretrained.GENERAL_MODEL_NAME:
            raise BadInput(
                f"the pretrained model must be {pretrained.GENERAL_MODEL_NAME!r}, not {model!r};"
                " use Picker.load for a file"
            )
        return cls(pretrained.load_model_for_picking(None, diameter), device)

    @classmethod
    def load(
        cls, path: str | Path, *, diameter: float | None = None, device: str = "auto"
    ) -> Picker:
        """Return the model of a file, model.safetensors.

        Parameters
        ----------
        diameter
            Longest diameter of the particle in angstrom, for models that serve any diameter.
        """
        return cls(pretrained.load_model_for_picking(path, diameter), device)

    @property
    def card(self) -> ModelCard:
        """What the model is and what it was trained on."""
        return self._model.card

    @property
    def diameter(self) -> float:
        """The longest diameter of its particle in angstrom."""
        return self._model.card.diameter_angstrom

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return choose_device(self._device)

    def __repr__(self) -> str:
        """Return one line."""
        card = self._model.card
        return f"<Picker: {card.network} for particles of {card.diameter_angstrom:g} Å>"

    def pick(
        self,
        micrographs: Micrographs,
        *,
        pixel_size: float | None = None,
        out: str | Path | None = None,
        threads: int | None = None,
        **options: Any,
    ) -> ModelPicks:
        """Pick particles.

        Parameters
        ----------
        micrographs
            Files, folders, patterns, or a RELION STAR file, as on the command line; or an image
            or a list of images as arrays of shape (h, w). Particles are dark.
        pixel_size
            Pixel size of the micrographs in angstrom; arrays need it.
        out
            Also write everything that ``heliodor pick`` writes into this folder.
        threads
            Number of threads; by default as many as this process may use.
        options
            The options of `PickSettings`: threshold, max_fdr, exclusion_radius, edge_margin, ...

        Returns
        -------
        ModelPicks
            The picks of all micrographs, in pixels of the originals.

        Raises
        ------
        HeliodorError
            If an option is not possible or no micrograph can be used.
        """
        settings = build(PickSettings, options)
        if pixel_size is not None:
            check_pixel_size(pixel_size)
        files, arrays = _files_or_arrays(micrographs)
        with _computing(threads):
            if out is not None:
                if files is None:
                    raise BadInput("out needs files, as its results name them; arrays have none")
                from heliodor.workflows.pick import pick as pick_into_folder

                sources = find_sources(files)
                result = pick_into_folder(
                    self._model,
                    files,
                    out,
                    settings,
                    pixel_size,
                    _LibraryCompute(self._device, threads),
                )
            else:
                sources = _sources_of(arrays) if files is None else find_sources(files)
                if files is None:
                    _need(pixel_size)
                images = open_working_images(self._model, pixel_size)
                images.threads = resolve_threads(threads)
                result = pick_in_memory(self._model, sources, images, settings, self.device)
        sizes = {name: result.store.get(name).pixel_size_angstrom for name in result.micrographs}
        picks = _with_pixel_sizes(result.picks, sizes)
        return ModelPicks(
            picks.micrographs,
            picks.micrograph_index,
            picks.xy_px,
            picks.score,
            picks.extra,
            threshold=result.threshold,
            candidates=_with_pixel_sizes(result.candidates, sizes),
            expected=result.expected,
            failures=tuple(result.failures),
            diameter=self.diameter,
            _images={source.name: source for source in sources},
            _pixel_sizes=sizes,
        )

    def score(self, image: ArrayLike, *, pixel_size: float) -> Image:
        """Return the score map of an image.

        Parameters
        ----------
        image
            Shape (h, w).
        pixel_size
            In angstrom.

        Returns
        -------
        ndarray of float32, shape (h', w')
            Log-odds of a particle at every pixel of the working image, which has the model's
            working pixel size.
        """
        (source,) = _sources_of([np.asarray(image)])
        images = open_working_images(self._model, check_pixel_size(pixel_size))
        with _computing(None):
            self._model.network.to(self.device)
            return score_micrograph(self._model, images.get(source), self.device)

    def train(
        self,
        micrographs: Micrographs,
        labels: Coordinates,
        *,
        pixel_size: float | None = None,
        out: str | Path | None = None,
        **options: Any,
    ) -> Picker:
        """Return a new picker, trained further on labeled particles; see `heliodor.train`."""
        with tempfile.TemporaryDirectory(prefix="heliodor_") as folder:
            start = self.save(Path(folder) / "start.safetensors")
            return train(
                micrographs,
                labels,
                diameter=self.diameter,
                pixel_size=pixel_size,
                start=start,
                out=out,
                device=self._device,
                **options,
            )

    def adapt(
        self,
        micrographs: Micrographs,
        *,
        pixel_size: float | None = None,
        threads: int | None = None,
        **options: Any,
    ) -> Picker:
        """Return a picker whose general model has learned from its surest picks, without labels.

        Parameters
        ----------
        micrographs
            Those to pick; up to 8 of them are learned from, chosen by their names.
        pixel_size
            Pixel size of the micrographs in angstrom; arrays need it.
        threads
            Number of threads.
        options
            The options of `PickSettings`.

        Raises
        ------
        HeliodorError
            If the model was trained on labels, or no micrograph can be used.
        """
        from heliodor.workflows.adapt import adapt_model

        settings = build(PickSettings, options)
        if pixel_size is not None:
            check_pixel_size(pixel_size)
        files, arrays = _files_or_arrays(micrographs)
        if files is None:
            _need(pixel_size)
        sources = _sources_of(arrays) if files is None else find_sources(files)
        with _computing(threads):
            adapted = adapt_model(self._model, sources, pixel_size, settings, self.device)
        return Picker(adapted, self._device)

    def save(self, path: str | Path) -> Path:
        """Write the model to a file that `load` and ``heliodor pick --model`` read."""
        save_model(Path(path), self._model)
        return Path(path)


def pick(
    micrographs: Micrographs,
    *,
    diameter: float | None = None,
    pixel_size: float | None = None,
    model: str | Path | Picker | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    **options: Any,
) -> ModelPicks:
    """Pick particles with the general model or your own.

    Parameters
    ----------
    micrographs
        Files, folders, patterns, or a RELION STAR file; or an array of shape (h, w), or several.
    diameter
        Longest diameter of the particle in angstrom, for the general model.
    pixel_size
        Pixel size of the micrographs in angstrom; from the files if not given, arrays need it.
    model
        A `Picker` or a model file; by default the general model.
    out
        Also write everything that ``heliodor pick`` writes into this folder.
    device
        auto, cpu, cuda, cuda:N or mps.
    threads
        Number of threads.
    options
        The options of `PickSettings`: threshold, max_fdr, exclusion_radius, edge_margin, ...
    """
    if isinstance(model, Picker):
        if diameter is not None:
            raise BadInput("a Picker knows its diameter; leave diameter out", parameter="diameter")
        picker = model
    else:
        picker = Picker(pretrained.load_model_for_picking(model, diameter), device)
    return picker.pick(micrographs, pixel_size=pixel_size, out=out, threads=threads, **options)


@dataclass(frozen=True)
class FilamentPicks:
    """The filaments that `pick_filaments` found, in pixels of the micrographs."""

    #: Those at or above the threshold; their scores are log-odds.
    filaments: Filaments
    #: All that were traced.
    candidates: Filaments
    threshold: float
    #: What to expect of the filaments, from their scores.
    expected: ExpectedLengths
    #: The width that they look to have, nan if it cannot be measured.
    measured_width_angstrom: float
    failures: tuple[Failure, ...]

    def __len__(self) -> int:
        """Return the number of filaments."""
        return len(self.filaments)


def pick_filaments(
    micrographs: Micrographs,
    *,
    width: float | None = None,
    pixel_size: float | None = None,
    model: str | Path | None = None,
    threshold: float | None = None,
    mask: str | Path | Sequence[str | Path] | None = None,
    bad_areas: InBadAreas = "leave-out",
    out: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    **options: Any,
) -> FilamentPicks:
    """Trace filaments with the general filament model or your own.

    Parameters
    ----------
    micrographs
        Files, folders, patterns, or a RELION STAR file; or an array of shape (h, w), or several.
        Protein is dark.
    width
        Width of the filament in angstrom, for the general filament model.
    pixel_size
        Pixel size of the micrographs in angstrom; from the files if not given, arrays need it.
    model
        A model file of filaments; by default the general filament model.
    threshold
        Mean log-odds of filaments; by default the one with the highest expected F1.
    mask, bad_areas
        As for ``heliodor pick``.
    out
        Also write everything that ``heliodor pick --filaments`` writes into this folder.
    device
        auto, cpu, cuda, cuda:N or mps.
    threads
        Number of threads.
    options
        The other options of `FilamentSettings`: gap, min_length, min_radius; segments and to,
        which need `out`.

    Raises
    ------
    HeliodorError
        If an option is not possible or no micrograph can be used.
    """
    from heliodor.picking.filaments.batch import FLOOR
    from heliodor.workflows import pick_filaments as workflow
    from heliodor.workflows.tracing_setup import FilamentRequest

    settings = build(FilamentSettings, {"filaments": True, "width": width} | options)
    masks = None if mask is None else [str(one) for one in _as_list(mask)]
    picking = PickSettings(threshold=threshold, mask=masks, bad_areas=bad_areas)
    if pixel_size is not None:
        check_pixel_size(pixel_size)
    files, arrays = _files_or_arrays(micrographs)
    if out is None and (settings.segments_angstrom or settings.to):
        raise BadInput("segments and to are written into a folder; give out")
    if files is None:
        if out is not None:
            raise BadInput("out needs files, as its results name them; arrays have none")
        _need(pixel_size)
    request = FilamentRequest(model, files or [], settings, picking, pixel_size)
    compute = _LibraryCompute(device, threads)
    with _computing(threads):
        if out is not None:
            picked = workflow.pick_filaments(request, out, compute)
        else:
            sources = _sources_of(arrays) if files is None else find_sources(files)
            picked = workflow.trace_in_memory(request, sources, compute)
    result = picked.result
    return FilamentPicks(
        picked.filaments,
        result.filaments(FLOOR),
        result.threshold,
        result.expected,
        picked.measured_width_angstrom,
        tuple(result.failures),
    )


def _as_list(given: str | Path | Sequence[str | Path]) -> Sequence[str | Path]:
    return [given] if isinstance(given, str | Path) else given


def train(
    micrographs: Micrographs,
    labels: Coordinates,
    *,
    diameter: float,
    pixel_size: float | None = None,
    negatives: Coordinates | None = None,
    start: str | Path | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    **options: Any,
) -> Picker:
    """Train a model on some labeled particles.

    Parameters
    ----------
    micrographs
        Files, folders, patterns, or a RELION STAR file; or arrays of shape (h, w).
    labels
        A file of coordinates or `Picks`; for arrays one array of (x, y) in pixels per image.
    diameter
        Longest diameter of the particle in angstrom.
    pixel_size
        Pixel size of the micrographs in angstrom; from the files if not given, arrays need it.
    negatives
        Positions that are not particles, as `labels`.
    start
        general (the default), scratch, or a model file.
    out
        Keep everything that ``heliodor train`` writes in this folder; by default training uses a
        temporary folder, which is removed.
    options
        The options of `TrainSettings`: recipe, objective, epochs, seed, ...

    Returns
    -------
    Picker
        Ready to pick; `Picker.save` writes the model.

    Raises
    ------
    HeliodorError
        If an option is not possible, or nothing can be trained on.
    """
    from heliodor.workflows.train import train as train_into_folder

    given = {
        "diameter": diameter,
        "pixel_size": pixel_size,
        "start": None if start is None else str(start),
    }
    settings = build(TrainSettings, given | options)
    files, arrays = _files_or_arrays(micrographs)
    size = _need(pixel_size) if files is None else None
    with tempfile.TemporaryDirectory(prefix="heliodor_") as name, _computing(threads):
        folder = Path(name)
        names = None if size is None else _write_arrays(arrays, folder, size)
        trained = train_into_folder(
            files or names or [],
            _as_file(labels, folder / "labels.tsv", names),
            folder / "training" if out is None else out,
            settings.data,
            settings.training,
            _LibraryCompute(device, threads),
            negatives=(
                None if negatives is None else _as_file(negatives, folder / "negatives.tsv", names)
            ),
        )
    return Picker(trained.model, device)


def train_filaments(
    micrographs: str | Path | Sequence[str | Path],
    labels: str | Path,
    out: str | Path,
    *,
    negatives: str | Path | None = None,
    width: float | None = None,
    pixel_size: float | None = None,
    start: str | Path | None = None,
    start_end: bool = False,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
) -> Path:
    """Train a model on some labeled filaments, and return its file.

    Parameters
    ----------
    micrographs
        Files, folders, patterns, or a RELION STAR file.
    labels
        A file of filaments.
    out
        Folder for everything that ``heliodor train --filaments`` writes.
    negatives
        A file of axes that are not filaments, such as traced ones that are false.
    width
        Width of the filaments in angstrom; by default that in the file of labels.
    pixel_size
        Pixel size of the micrographs in angstrom; from the files if not given.
    start
        The model of filaments to start from; by default the general filament model.
    start_end
        Whether the rows of the labels are pairs of starts and ends.
    seed
        The same seed gives the same model.

    Raises
    ------
    HeliodorError
        If an option is not possible, or nothing can be trained on.
    """
    from heliodor.training.filaments.settings import FilamentTraining
    from heliodor.workflows import train_filaments as workflow

    if pixel_size is not None:
        check_pixel_size(pixel_size)
    given = None if start is None else str(start)
    settings = FilamentTraining(width, start_end, given, pixel_size, seed)
    files, _ = _files_or_arrays(micrographs)
    with _computing(threads):
        workflow.train_filament_model(
            files or [], labels, out, settings, _LibraryCompute(device, threads),
            negatives=negatives,
        )  # fmt: skip
    return Path(out) / workflow.MODEL


def evaluate(
    picks: Coordinates,
    truth: Coordinates,
    *,
    match_distance: float,
    pixel_size: float | None = None,
    threshold: float | None = None,
    out: str | Path | None = None,
) -> Evaluation:
    """Compare picks with the true particles: average precision, precision, recall and F1.

    Parameters
    ----------
    picks, truth
        Files of coordinates or `Picks` on micrographs of the same names; of `ModelPicks` all
        candidates are ranked, and the picks are those at its threshold.
    match_distance
        Maximum distance in angstrom between a pick and a true particle to count as a match.
    pixel_size
        Pixel size of the micrographs in angstrom; from the coordinates if they have it.
    threshold
        Score (log-odds) from which candidates count as picks.
    out
        Also write what ``heliodor evaluate`` writes into this folder.
    """
    from heliodor.workflows.evaluate import evaluate_files

    if isinstance(picks, ModelPicks):
        threshold = picks.threshold if threshold is None else threshold
        picks = picks.candidates
    with tempfile.TemporaryDirectory(prefix="heliodor_") as name:
        folder = Path(name)
        evaluation, _, _ = evaluate_files(
            _as_file(picks, folder / "picks.tsv", None),
            _as_file(truth, folder / "truth.tsv", None),
            match_distance,
            threshold=threshold,
            pixel_size_angstrom=pixel_size,
            out=out,
            compute=_LibraryCompute(),
        )
    return evaluation


def convert(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    to: str | None = None,
    micrographs: str | Path | Sequence[str | Path] | None = None,
    **options: Any,
) -> list[Path]:
    """Convert coordinates between programs; see ``heliodor convert``.

    Parameters
    ----------
    inputs
        Files, folders or patterns of coordinates.
    out
        The file, or the folder for formats with one file per micrograph.
    to
        star, autopick, box, eman2, cbox, cs, topaz, csv or tsv; by default by `out`'s suffix.
    micrographs
        The micrographs that the result is for.
    options
        The options of `ConversionSettings`: scale, flip_y, threshold, pixel_size, ...

    Returns
    -------
    list of Path
        The files written.
    """
    from heliodor.workflows.convert import convert as convert_files

    given = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    return convert_files(given, out, to, build(ConversionSettings, options), micrographs)


class _LibraryCompute(ComputeSettings):
    """Compute settings that change nothing in the process."""

    def start(self) -> torch.device:
        return choose_device(self.device)


@contextmanager
def _computing(threads: int | None) -> Iterator[None]:
    """Compute with a number of threads and deterministic kernels; restore both afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(resolve_threads(threads))
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            yield
    finally:
        torch.set_num_threads(before)


def _files_or_arrays(
    micrographs: Micrographs,
) -> tuple[MicrographInputs | None, list[NDArray[Any]]]:
    """Tell files, None if there are none, from images that are given as arrays."""
    if isinstance(micrographs, str | Path):
        return micrographs, []
    if isinstance(micrographs, np.ndarray):
        if micrographs.ndim not in (2, 3):
            raise BadInput(
                "an image must be an array of shape (h, w), or (n, h, w) for several, not"
                f" {micrographs.shape}"
            )
        return None, [micrographs] if micrographs.ndim == 2 else list(micrographs)
    files = [one for one in micrographs if isinstance(one, str | Path)]
    arrays = [np.asarray(one) for one in micrographs if not isinstance(one, str | Path)]
    if files and arrays:
        raise BadInput("give either files or arrays, not both")
    return (None, arrays) if arrays else (files, [])


def _need(pixel_size: float | None) -> float:
    if pixel_size is None:
        raise BadInput(
            "images given as arrays need their pixel size, in angstrom", parameter="pixel_size"
        )
    return check_pixel_size(pixel_size)


def _sources_of(arrays: Sequence[NDArray[Any]]) -> list[Source]:
    """Name arrays as micrographs."""
    names = [f"image_{index}" for index in range(len(arrays))]
    return [
        Source(name, Path(name), name, pixels=array)
        for name, array in zip(names, arrays, strict=True)
    ]


def _with_pixel_sizes(picks: Picks, sizes: Mapping[str, float]) -> Picks:
    """Return picks with a column that has the pixel size of each, which some formats need."""
    of_each = np.array([sizes[name] for name in picks.micrographs], dtype=np.float64)
    return replace(picks, extra={**picks.extra, PIXEL_SIZE: of_each[picks.micrograph_index]})


def _write_arrays(arrays: Sequence[NDArray[Any]], folder: Path, pixel_size: float) -> list[str]:
    """Write arrays as the micrographs of a training, and return their files."""
    files = []
    for source in _sources_of(arrays):
        path = folder / f"{source.name}.mrc"
        write_mrc(path, np.asarray(source.pixels, dtype=np.float32), pixel_size)
        files.append(str(path))
    return files


def _as_file(coordinates: Coordinates, path: Path, names: Sequence[str] | None) -> str:
    """Return coordinates as a file, written where they are not one.

    Parameters
    ----------
    names
        The micrographs' files, for coordinates that are arrays, one array per micrograph.
    """
    if isinstance(coordinates, str | Path):
        return str(coordinates)
    if isinstance(coordinates, Picks):
        if names is not None:  # image_0 and so on, which now are files
            files = {Path(name).stem: name for name in names}
            missing = [n for n in coordinates.micrographs if n not in files]
            if missing:
                raise BadInput(f"the labels name {missing[0]}, which is not one of the images")
            coordinates = coordinates.rename_micrographs(
                [files[n] for n in coordinates.micrographs]
            )
        coordinates.write(path, "tsv")
        return str(path)
    if names is None:
        raise BadInput("coordinates must be a file or Picks, if micrographs are files")
    tables = [np.asarray(table, dtype=np.float64).reshape(-1, 2) for table in coordinates]
    if len(tables) != len(names):
        raise BadInput(
            f"there are {len(names)} images and {len(tables)} arrays of coordinates; give one"
            " array per image"
        )
    return _as_file(
        Picks.concatenate(
            Picks.on(Path(name).stem, table) for name, table in zip(names, tables, strict=True)
        ),
        path,
        names,
    )
