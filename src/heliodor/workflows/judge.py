"""The command `judge`: picks judged by 2D classes and by maps, with RELION's programs.

Without RELION, quick groups of crops take the place of 2D classes, and no maps are made.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.picks import Picks
from heliodor.data.coordinates.whole_boxes import mask_whole_boxes
from heliodor.data.micrographs.acquisition import find_lists, read_acquisition
from heliodor.data.micrographs.ctf import CtfParameters
from heliodor.data.micrographs.sources import MicrographInputs
from heliodor.errors import BadInput
from heliodor.picking.crop_groups import DIAMETER_PX, SIDE_PX
from heliodor.picking.decoy_sample import choose_decoy_micrographs
from heliodor.picking.reversed_candidates import search_reversed
from heliodor.picking.score_maps import open_working_images
from heliodor.picking.user_masks import UserMasks
from heliodor.reconstruction.classification import (
    ClassAssignment,
    Portion,
    plan_classification,
    read_classification,
)
from heliodor.reconstruction.crop_classes import (
    cut_position_crops,
    draw_rows,
    group_images,
)
from heliodor.reconstruction.decoys import count_particles, draw_random_positions
from heliodor.reconstruction.initial_model import choose_images, plan_initial_model
from heliodor.reconstruction.judgement import (
    CLASS_WORDS,
    BinJudgement,
    ClassAverages,
    Judgement,
    MadeBy,
    MapJudgement,
    find_junk_below,
    find_worse_below,
    join_bins,
    recommend_by_classes,
    recommend_by_maps,
)
from heliodor.reconstruction.judgement_tables import as_dict, render_bins, render_sets
from heliodor.reconstruction.junk import ClassCounts, pool_shares, spread_junk
from heliodor.reconstruction.map_scores import (
    MapScores,
    plan_control,
    render_map_scores,
    score_images,
)
from heliodor.reconstruction.particles import (
    PICK,
    RANDOM,
    REVERSED,
    ImageSettings,
    ImageTable,
    Positions,
    choose_box_px,
    plan_extraction,
)
from heliodor.reconstruction.programs import FOR_CLASSES, FOR_MAPS, RelionPrograms
from heliodor.reconstruction.refinement import (
    FEWEST_PER_HALF,
    HalfSettings,
    check_symmetry,
    count_operators,
    plan_reference,
    plan_split,
    read_split,
)
from heliodor.reconstruction.steps import Step, is_finished, run_steps
from heliodor.utils import console
from heliodor.utils.console import count_of
from heliodor.utils.files import (
    atomic_write,
    create_output_folder,
    create_subfolder,
    remove_partial_files,
    write_json,
    write_text,
)
from heliodor.utils.locking import lock_folder
from heliodor.utils.threads import resolve_threads
from heliodor.workflows.judge_inputs import (
    FEWEST_PICKS,
    JudgedPicks,
    match_picks,
    picks_on,
    read_judged_picks,
)
from heliodor.workflows.judge_settings import (
    IMAGE_PX,
    SETS,
    SMALLEST_IMAGE,
    SPLITS,
    JudgeSettings,
)
from heliodor.workflows.run_record import RunRecord, flatten_settings, write_failures

log = logging.getLogger(__name__)

#: How each pick agrees with the map of the other half.
MAP_SCORES = "map_scores.tsv"
#: Below the output folder: what RELION reads and writes.
WORK = "work"
#: CPU seconds that one image takes in 2D, and in 3D with the symmetry D7, with images of
#: `IMAGE_PX`; measured with RELION 3.1.3 on one core, and no more than a first guess elsewhere.
_SECONDS_2D, _SECONDS_3D, _OPERATORS_3D = 0.19, 0.08, 14
#: The same for an initial model, which takes a fixed number of images.
_SECONDS_INITIAL = 250.0
#: Bytes on disk per image beyond its pixels, and of a step of the refinement.
_BYTES_PER_ROW, _BYTES_PER_STEP = 4000, 40_000_000


def judge(
    picks: str | Path,
    micrographs: MicrographInputs,
    out: str | Path,
    settings: JudgeSettings,
    pixel_size_angstrom: float | None = None,
    seed: int = 0,
    threads: int | None = None,
    command_line: str = "",
) -> tuple[Judgement, RunRecord]:
    """Judge picks by their 2D classes and maps, and write the judgement.

    Writes ``judge.tsv``, ``bins.tsv``, ``judge.html``, ``judge.png`` and ``judge.json``; the work
    of RELION is in the folder ``work``, whose finished steps are not done again.

    Parameters
    ----------
    picks
        A folder of `heliodor pick`, best with ``--threshold-series``, or coordinates.
    micrographs
        Those that the picks are on; for maps, a STAR file with their defocus.
    out
        Folder for the results.
    pixel_size_angstrom
        Of all micrographs; None takes those in the STAR file or the headers.
    seed
        Of the random positions, the classification and the splits.
    threads
        Most programs that run at a time.

    Returns
    -------
    Judgement, RunRecord
        The result, and the record with micrographs that could not be used.

    Raises
    ------
    BadInput
        If something cannot be used, a program is missing or fails, or the disk is too small.
    """
    if seed < 0:
        raise BadInput(f"the seed must be 0 or more, not {seed}")
    arguments = {
        "picks": picks,
        "micrographs": micrographs,
        "seed": seed,
        "threads": threads,
        "pixel_size_angstrom": pixel_size_angstrom,
        **flatten_settings(settings),
    }
    record = RunRecord("judge", arguments, command_line)
    programs = _find_programs(settings)
    given, images, symmetry = _read_inputs(
        picks, micrographs, settings, pixel_size_angstrom, programs is not None
    )
    record.add_inputs("judging", given.sources)
    record.skip(given.failures)
    ctf = dict[str, CtfParameters]()
    if programs is None:
        ctf = _read_ctf(micrographs, given, record)
    elif not given.table.has_ctf:
        record.warn(
            "the defocus of the micrographs is not known, so that images are classified without"
            " correction of the contrast transfer function"
        )
    folder = create_output_folder(out)
    with lock_folder(folder):
        remove_partial_files(folder)
        run = _Run(
            programs, given, ctf, settings, images, symmetry, seed,
            resolve_threads(threads), create_subfolder(folder, WORK), record,
        )  # fmt: skip
        judgement, averages = run.judge()
        _write(folder, judgement, averages, record)
    return judgement, record


def check_inputs(
    picks: str | Path,
    micrographs: MicrographInputs,
    settings: JudgeSettings,
    pixel_size_angstrom: float | None = None,
) -> None:
    """Refuse what can be refused before a judgement on another computer, which has RELION.

    Raises
    ------
    BadInput
        If something cannot be used.
    """
    # Whether there is RELION, which does not read all micrographs, is known there.
    _read_inputs(picks, micrographs, settings, pixel_size_angstrom, not settings.quick)


def _read_inputs(
    picks: str | Path,
    micrographs: MicrographInputs,
    settings: JudgeSettings,
    pixel_size_angstrom: float | None,
    for_relion: bool,
) -> tuple[JudgedPicks, ImageSettings, str]:
    """Return the picks, the sizes of their images, and the point group."""
    symmetry = check_symmetry(settings.symmetry or "C1")
    given = read_judged_picks(str(picks), micrographs, settings, pixel_size_angstrom, for_relion)
    if not settings.quick and not given.table.has_ctf:
        raise BadInput(
            "maps need the defocus, voltage, spherical aberration and amplitude contrast of each"
            " micrograph: give --micrographs as a STAR file of RELION after CTF estimation, or"
            " judge the picks by their 2D classes alone with --quick"
        )
    images = _choose_images(given, settings)
    if settings.reference is not None:
        plan_reference(Path(settings.reference), images)  # refused now, not after the 2D classes
    return given, images, symmetry


def _find_programs(settings: JudgeSettings) -> RelionPrograms | None:
    """Return RELION's programs; None if there is no RELION and 2D classes are enough.

    Raises
    ------
    BadInput
        If a program is missing that is needed, or an option is for RELION alone.
    """
    names = FOR_CLASSES if settings.quick else (*FOR_CLASSES, *FOR_MAPS)
    is_missing = settings.relion is None and not any(map(shutil.which, FOR_CLASSES))
    if not settings.quick or not is_missing:
        return RelionPrograms.find(settings.relion, names)
    if settings.image_px is not None:
        raise BadInput(
            "RELION is not on the PATH, and heliodor's own averages have a fixed size; leave out"
            " --image-px, or give the folder of RELION's programs with --relion",
            parameter="image_px",
        )
    return None


def _read_ctf(
    micrographs: MicrographInputs, given: JudgedPicks, record: RunRecord
) -> dict[str, CtfParameters]:
    """Return the contrast transfer functions that are known, by the names of micrographs."""
    inputs = [micrographs] if isinstance(micrographs, str | Path) else micrographs
    found = read_acquisition(find_lists([*map(str, inputs)])).ctf or {}
    names = [source.name for source in given.sources]
    unknown = sum(name not in found for name in names)
    if unknown:
        record.warn(
            f"the defocus of {unknown} of {count_of(len(names), 'micrograph')} is not known:"
            " phases are not flipped there"
        )
    return {name: found[name] for name in names if name in found}


def _choose_images(given: JudgedPicks, settings: JudgeSettings) -> ImageSettings:
    """Return the sizes of boxes and images.

    Raises
    ------
    BadInput
        If the diameter is not known, or the box is too small for it.
    """
    diameter = settings.diameter_angstrom
    if diameter is None and given.picker is not None:
        diameter = given.picker.model.card.diameter_angstrom
    if diameter is None:
        raise BadInput(
            "the diameter of the particle is not known; give --diameter in angstrom",
            parameter="diameter",
        )
    size = given.pixel_size_angstrom
    box = settings.box_px or choose_box_px(diameter, size)
    if box * size < 1.15 * diameter:
        raise BadInput(
            f"a box of {box} pixels is {box * size:.0f} Å wide, too small for a particle of"
            f" {diameter:g} Å",
            parameter="box_px",
        )
    image = min(settings.image_px or IMAGE_PX, box)
    if image < SMALLEST_IMAGE:
        raise BadInput(
            f"the particle is only {diameter / size:.0f} pixels long on these micrographs; judge"
            " it on less binned ones"
        )
    return ImageSettings(box, image, size, diameter)


@dataclass(frozen=True)
class _Run:
    """What all parts of a run share."""

    #: None: crops are grouped without RELION.
    programs: RelionPrograms | None
    given: JudgedPicks
    #: By the names of micrographs; used without RELION, which reads them from its own files.
    ctf: Mapping[str, CtfParameters]
    settings: JudgeSettings
    images: ImageSettings
    symmetry: str
    seed: int
    threads: int
    work: Path
    record: RunRecord

    def judge(self) -> tuple[Judgement, ClassAverages]:
        """Do all steps, and return what they say."""
        given = self.given
        picked, left_out = self._positions(PICK, given.picks)
        if len(picked) < FEWEST_PICKS:
            raise BadInput(
                f"only {len(picked)} of {len(given.picks)} picks have whole boxes of"
                f" {self.images.box_px} pixels; at least {FEWEST_PICKS} are needed"
            )
        if left_out:
            log.info(f"{count_of(left_out, 'pick')} cut off by an edge of a micrograph: left out")
        diameter_px = self.images.diameter_angstrom / given.pixel_size_angstrom
        random = draw_random_positions(
            list(given.table.micrographs), given.picks.micrograph_index, given.picks.xy_px,
            self.images.box_px, diameter_px, self.seed,
        )  # fmt: skip
        sets = self._choose_sets(picked)
        self._announce(len(picked), len(random), sets, picked)
        with self.record.stage("reversed contrast"):
            reversed_found, factor = self._find_reversed()
        positions = Positions.join([picked, random])
        images, depends = None, list[str]()
        if self.programs is None:
            with self.record.stage("groups"):
                kept, found = self._group(positions, reversed_found)
        else:
            images, depends = self._extract(positions)
            kept = images.positions
            with self.record.stage("2D classification"):
                portions = self._classify(images, depends)
            found = [read_classification(self.work, portion, images) for portion in portions]
        bins, averages = self._judge_classes(kept, found, reversed_found, factor)
        all_sets = join_bins(bins)
        if images is not None and sets:
            with self.record.stage("3D refinement"):
                reference = self._find_reference(images, found, depends)
                maps, compared = self._refine(images, sets, reference, depends)
            bins = self._compare_with_maps(bins, compared, images)
            all_sets = [replace(one, maps=maps.get(_spell(one.threshold))) for one in all_sets]
        ranked = not math.isnan(given.thresholds[0])
        judgement = Judgement(
            tuple(bins),
            tuple(all_sets),
            recommend_by_classes(all_sets) if ranked else None,
            recommend_by_maps(all_sets) if sets and ranked else None,
            find_junk_below(bins) if ranked else None,
            find_worse_below(all_sets) if sets and ranked else None,
            left_out,
            reversed_found is not None,
            averages.made_by,
        )
        return judgement, averages

    @property
    def splits(self) -> int:
        """How often each set is split into halves."""
        return self.settings.splits or SPLITS

    def _positions(self, kind: int, picks: Picks) -> tuple[Positions, int]:
        """Return positions at whole pixels with whole boxes, and how many have none."""
        positions = Positions.of_kind(
            kind, picks.micrograph_index, picks.xy_px, picks.score
        ).round_to_pixels()
        whole = np.zeros(len(positions), dtype=bool)
        for index, micrograph in enumerate(self.given.table.micrographs):
            own = positions.micrograph == index
            whole[own] = mask_whole_boxes(
                positions.xy_px[own], micrograph.shape, self.images.box_px
            )
        return positions.select(whole), int(np.count_nonzero(~whole))

    def _choose_sets(self, picked: Positions) -> list[float]:
        """Return the thresholds of the sets of which maps are made, falling."""
        if self.settings.quick:
            return []
        thresholds = self.given.thresholds
        if math.isnan(thresholds[0]):
            usable = [thresholds[0]]
        else:
            least = 2.5 * FEWEST_PER_HALF
            usable = [t for t in thresholds if np.count_nonzero(picked.score >= t) >= least]
        if not usable:
            raise BadInput(
                f"too few picks for maps: {len(picked)}; add micrographs, or give --quick"
            )
        count = min(self.settings.sets or SETS, len(usable))
        places = np.unique(np.round(np.linspace(0, len(usable) - 1, count)).astype(int))
        return [usable[place] for place in places]

    def _rows_of_set(self, positions: Positions, threshold: float) -> np.ndarray[Any, Any]:
        own = positions.kind == PICK
        if not math.isnan(threshold):
            own &= positions.score >= threshold
        return np.flatnonzero(own)

    def _announce(self, picks: int, random: int, sets: Sequence[float], picked: Positions) -> None:
        """Say how long it takes and how much disk; refuse a disk that is too small."""
        if self.programs is None:
            size = self.images.diameter_angstrom / DIAMETER_PX
            log.info(
                f"{picks} picks and {random} random positions; there is no RELION on the PATH, so"
                f" that heliodor groups crops itself, {SIDE_PX} pixels of {size:.3g} Å, in place"
                " of 2D classes"
            )
            return
        scale = (self.images.image_px / IMAGE_PX) ** 2
        seconds = _SECONDS_2D * (picks + random) * scale
        refined = sum(
            self.splits * len(self._rows_of_set(picked, threshold)) for threshold in sets
        )
        searched = _OPERATORS_3D / count_operators(self.symmetry)
        seconds += _SECONDS_3D * refined * scale * searched
        if sets and self.settings.reference is None:
            seconds += _SECONDS_INITIAL * scale * searched
        pixels = 4 * self.images.image_px**2
        need = (picks + random) * (pixels + _BYTES_PER_ROW) + 3 * refined * _BYTES_PER_ROW
        need += min(self.threads, 2 * len(sets) * self.splits + 1) * _BYTES_PER_STEP
        free = shutil.disk_usage(self.work).free
        log.info(
            f"{picks} picks and {random} random positions, {self.images.image_px} pixels of"
            f" {self.images.image_pixel_size_angstrom:.3g} Å; RELION {self.programs.version} will"
            f" take roughly {_spell_time(seconds)} of CPU time ({self.threads} at a time) and"
            f" {need / 1e9:.1f} GB of disk"
        )
        if need > free:
            raise BadInput(
                f"{self.work} has {free / 1e9:.1f} GB of free disk, and about {need / 1e9:.1f} GB"
                " are needed; choose another folder with -o, or judge fewer micrographs"
            )

    @property
    def _knows_reversed(self) -> bool:
        return self.settings.reversed_picks is not None or (
            self.given.picker is not None and not math.isnan(self.given.thresholds[0])
        )

    def _find_reversed(self) -> tuple[Positions | None, float]:
        """Return the candidates with reversed contrast, and what each of them stands for.

        They are those with whole boxes; None if they are not known.
        """
        given, lowest = self.given, self.given.thresholds[-1]
        if not self._knows_reversed:
            return None, 1.0
        if self.settings.reversed_picks is not None:
            where = self.settings.reversed_picks
            table = match_picks(
                read_picks(where, candidates=True), given.sources, where,
                given.pixel_size_angstrom,
            )  # fmt: skip
            if math.isnan(lowest) or np.isnan(table.score).any():
                raise BadInput(
                    f"{where} can only be compared if both it and the picks have scores",
                    parameter="reversed_picks",
                )
            chosen = table.select(np.flatnonzero(table.score >= lowest))
            return self._positions(REVERSED, picks_on(chosen, given.sources))[0], 1.0
        assert given.picker is not None
        names = choose_decoy_micrographs(source.name for source in given.sources)
        sources = [source for source in given.sources if source.name in names]
        model = given.picker.model
        with console.progress("reversed contrast") as progress:
            found, failures = search_reversed(
                model, sources, open_working_images(model, given.pixel_size_angstrom),
                given.picker.settings, UserMasks.find(given.picker.settings.mask, sources),
                lowest, given.picker.levels_of(sources), progress=progress,
            )  # fmt: skip
        self.record.skip(failures)
        done = len(sources) - len(failures)
        if not done:
            return None, 1.0
        positions = self._positions(REVERSED, picks_on(found, given.sources))[0]
        return positions, len(given.sources) / done

    def _extract(self, positions: Positions) -> tuple[ImageTable, list[str]]:
        """Let RELION cut out all images."""
        table = self.given.table
        table.link(self.work)
        step = plan_extraction("images", positions, table, self.images)
        self._run([step], "extraction")
        return ImageTable.read(self.work, step, positions), [step.key]

    def _group(
        self, positions: Positions, reversed_found: Positions | None
    ) -> tuple[Positions, list[ClassAssignment]]:
        """Group crops without RELION.

        Parameters
        ----------
        reversed_found
            Candidates with reversed contrast, which show what false picks look like.

        Returns
        -------
        Positions, list of ClassAssignment
            The positions on micrographs that can be used, and the groups of those that were
            drawn, by their rows there.
        """
        if reversed_found is not None:
            positions = Positions.join([positions, reversed_found])
        drawn = draw_rows(len(positions), self.seed)
        if len(drawn) < len(positions):
            log.info(f"{len(drawn)} of {len(positions)} images, drawn at random, are grouped")
        with console.progress("groups") as progress:
            crops, rows, failures = cut_position_crops(
                positions.select(drawn), self.given.table, self.images.diameter_angstrom,
                self.ctf, self.threads, progress,
            )  # fmt: skip
        self.record.skip(failures)
        failed = {failure.name for failure in failures}
        usable = np.array([source.name not in failed for source in self.given.sources])
        kept = usable[positions.micrograph]
        row = np.cumsum(kept) - 1
        found = [
            replace(one, rows=row[drawn[rows[one.rows]]]) for one in group_images(crops, self.seed)
        ]
        return positions.select(kept), found

    def _run(self, steps: Sequence[Step], what: str) -> None:
        assert self.programs is not None
        remaining = sum(not is_finished(self.work, step) for step in steps)
        if remaining < len(steps):
            log.info(f"{what}: {len(steps) - remaining} of {count_of(len(steps), 'step')} done")
        with console.progress(what) as progress:
            run_steps(self.work, steps, self.programs, self.threads, progress)

    def _classify(self, images: ImageTable, depends: Sequence[str]) -> list[Portion]:
        portions = plan_classification(
            images, self.images, self.given.table.has_ctf, self.seed, depends
        )
        self._run([portion.step for portion in portions], "2D classification")
        return portions

    def _judge_classes(
        self,
        positions: Positions,
        found: Sequence[ClassAssignment],
        reversed_found: Positions | None,
        factor: float,
    ) -> tuple[list[BinJudgement], ClassAverages]:
        """Return the shares of false picks in each bin of scores, and the class averages.

        Parameters
        ----------
        reversed_found
            The candidates with reversed contrast; None if they are not known.
        factor
            How many such candidates each of these stands for.
        """
        kind, score = positions.kind, positions.score
        counts = [_count_classes(one, kind) for one in found]
        made_by: MadeBy = "heliodor" if self.programs is None else "RELION"
        small = "" if self.programs is None else "too small (--image-px) "
        if all(each.is_collapsed for each in counts):
            self.record.warn(
                f"all images are in one {CLASS_WORDS[made_by]}: either all picks are junk, or"
                f" these images are too few, {small}or too noisy to be classified"
            )
        area = sum(
            float(np.prod(m.shape)) * m.pixel_size_angstrom**2
            for m in self.given.table.micrographs
        )
        thresholds = self.given.thresholds
        bins, particles = list[BinJudgement](), 0.0
        for low, high in zip(thresholds, (math.inf, *thresholds[:-1]), strict=True):
            own = kind == PICK
            if not math.isnan(low):
                own &= (score >= low) & (score < high)
            number = int(np.count_nonzero(own))
            in_bin = [
                _in_classes(one, own, len(each.picks))
                for one, each in zip(found, counts, strict=True)
            ]
            junk, count, false = pool_shares(counts, in_bin), None, math.nan
            if reversed_found is None:
                false = junk.value
            else:
                reversed_score = reversed_found.score
                in_range = (reversed_score >= low) & (reversed_score < high)
                count = factor * float(np.count_nonzero(in_range))
                own_particles = count_particles(
                    number, count, particles, self.images.diameter_angstrom, area
                )
                particles += own_particles
                if number:
                    false = 1.0 - own_particles / number
            bins.append(BinJudgement(low, high, number, junk, count, false))
        first, each = found[0], counts[0]
        marked = each.junk_of_each()
        gathered = _in_classes(first, kind == REVERSED, len(each.picks))
        share = join_bins(bins)[-1].false_share
        if gathered.any() and not math.isnan(share):
            # These look as false picks do, which random positions need not; but what lies around
            # them is reversed too.
            marked = np.fmax(marked, spread_junk(each.picks, gathered, share))
        averages = ClassAverages(first.averages, each.picks, each.decoys, marked, made_by)
        return bins, averages

    def _find_reference(
        self, images: ImageTable, found: Sequence[ClassAssignment], depends: Sequence[str]
    ) -> Step:
        """Return the step that prepared the reference: the map given, or an initial model."""
        path = self.settings.reference
        if path is None:
            assert self.programs is not None
            kind = images.positions.kind
            junk = [_count_classes(one, kind).junk_of_each() for one in found]
            rows = choose_images(images, found, junk, self.seed)
            step = plan_initial_model(
                images, rows, self.images, self.symmetry, self.programs.version, self.seed, depends
            )
            log.info(f"initial model of {len(rows)} picks")
            self._run([step], "initial model")
            path = str(self.work / step.commands[0].outputs[0])
        reference = plan_reference(Path(path), self.images)
        self._run([reference], "reference")
        return reference

    def _refine(
        self,
        images: ImageTable,
        thresholds: Sequence[float],
        reference: Step,
        depends: Sequence[str],
    ) -> tuple[dict[str, MapJudgement], MapScores]:
        """Return the maps of sets, by their thresholds as text, and how images agree with them."""
        halves = HalfSettings(self.symmetry, self.seed, self.splits)
        plans = {
            _spell(threshold): [
                plan_split(
                    f"maps/{_spell(threshold)}", images, self._rows_of_set(images.positions,
                                                                           threshold),
                    self.images, halves, number, (*depends, reference.key),
                )
                for number in range(halves.splits)
            ]
            for threshold in thresholds
        }  # fmt: skip
        steps = [step for splits in plans.values() for split in splits for step in split.steps]
        self._run(steps, "3D refinement")
        judged = {}
        for name, splits in plans.items():
            done = [read_split(self.work, split, images, self.images) for split in splits]
            judged[name] = MapJudgement(
                np.array([one.shells.resolution_angstrom for one in done]),
                np.array([one.shells.area for one in done]),
                float(np.median(np.concatenate([one.offsets_angstrom for one in done]))),
                any(one.shells.reaches_nyquist for one in done),
            )
        # The largest set is the last one.
        resolution = float(judged[name].resolution_angstrom[0])
        control = plan_control(images, splits[0], resolution, self.images, halves)
        self._run([plan.step for plan in control], "comparison with the maps")
        scores = [score_images(self.work, plan, images, self.images) for plan in control]
        return judged, MapScores.join(control, scores, images)

    def _compare_with_maps(
        self, bins: Sequence[BinJudgement], compared: MapScores, images: ImageTable
    ) -> list[BinJudgement]:
        """Return the bins with the shares that agree with the maps as random positions do."""
        where = self.work.parent / MAP_SCORES
        names = [source.name for source in self.given.sources]
        write_text(where, render_map_scores(compared, images.positions, names))
        score, found = images.positions.score, list[BinJudgement]()
        for each in bins:
            own = images.positions.kind == PICK
            if not math.isnan(each.low):
                own &= (score >= each.low) & (score < each.high)
            share = compared.share_of(np.flatnonzero(own))
            is_known = not math.isnan(share.value)
            found.append(replace(each, as_decoys_in_map=share if is_known else None))
        return found


def _count_classes(one: ClassAssignment, kind: np.ndarray[Any, Any]) -> ClassCounts:
    kinds = kind[one.rows]
    return ClassCounts.count(
        one.number[kinds == PICK], one.number[kinds == RANDOM], len(one.averages)
    )


def _in_classes(
    one: ClassAssignment, chosen: np.ndarray[Any, Any], classes: int
) -> np.ndarray[Any, Any]:
    """Return the number of chosen images in each class of a portion, shape (k,)."""
    numbers = one.number[chosen[one.rows]]
    return np.bincount(numbers, minlength=classes + 1)[1:].astype(np.float64)


def _spell(threshold: float) -> str:
    """Return a threshold as the name of a folder."""
    return "all" if math.isnan(threshold) else f"{threshold:.9g}"


def _spell_time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _write(folder: Path, judgement: Judgement, averages: ClassAverages, record: RunRecord) -> None:
    """Write the tables, the page with the figures, and the record."""
    from heliodor.report.judge_page import render_judge_page
    from heliodor.report.judge_plots import draw_judgement

    if all(one.maps is None for one in judgement.sets):
        (folder / MAP_SCORES).unlink(missing_ok=True)  # of an earlier judgement
    write_text(folder / "judge.tsv", render_sets(judgement))
    write_text(folder / "bins.tsv", render_bins(judgement))
    with atomic_write(folder / "judge.png") as aside:
        aside.write_bytes(draw_judgement(judgement, averages))
    write_text(folder / "judge.html", render_judge_page(judgement, averages, record.notes))
    record.results["judgement"] = as_dict(judgement)
    write_failures(folder / "failed.tsv", record.failures)
    write_json(folder / "judge.json", record.as_dict())
    log.info(f"wrote judge.html, judge.png, judge.tsv, bins.tsv and judge.json into {folder}")
