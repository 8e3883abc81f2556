"""How well picks agree with a map that was made without them, beside positions without particles.

The picks of one half are compared with the map of the other, so that noise in a pick is not in
the map. Random positions are compared with it as well: each image is turned and shifted until it
agrees best, which lets noise agree to some degree, and they show to which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import mrcfile
import numpy as np
import scipy.fft
from scipy.ndimage import map_coordinates

from heliodor.conventions import FloatArray, Image, IndexArray
from heliodor.data.micrographs.ctf import CtfParameters, compute_chi
from heliodor.errors import BadInput
from heliodor.reconstruction.fsc import mask_sphere
from heliodor.reconstruction.junk import Share, estimate_share
from heliodor.reconstruction.micrograph_table import (
    ABERRATION,
    CONTRAST,
    DEFOCUS,
    PHASE_SHIFT,
    VOLTAGE,
)
from heliodor.reconstruction.particles import (
    PICK,
    ImageSettings,
    ImageTable,
    Positions,
    read_rows,
)
from heliodor.reconstruction.programs import Command
from heliodor.reconstruction.refinement import LOCAL, PADDING, HalfSettings, SplitPlan, split_rows
from heliodor.reconstruction.steps import Step

#: The folder of the steps.
NAME: Final = "control"
_POSE: Final = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst")
_IMAGE, _GROUP = "rlnImageName", "rlnOpticsGroup"


@dataclass(frozen=True)
class ControlPlan:
    """Images of one half, and some random positions, that are compared with the other's map.

    Attributes
    ----------
    step
        In which RELION turns and shifts them.
    rows
        The images, shape (n,).
    reference
        The map, relative to the folder of the work.
    finest_angstrom
        To which resolution they are compared.
    """

    step: Step
    rows: IndexArray
    reference: str
    finest_angstrom: float


def plan_control(
    images: ImageTable,
    split: SplitPlan,
    resolution_angstrom: float,
    settings: ImageSettings,
    halves: HalfSettings,
) -> list[ControlPlan]:
    """Return the steps that compare each half of a split with the map of the other.

    Parameters
    ----------
    images
        Of picks and random positions. Those that are in neither half, random positions and picks
        with lower scores, are compared with one of the maps each.
    resolution_angstrom
        Of the maps.
    """
    finest = max(resolution_angstrom, 2.2 * settings.image_pixel_size_angstrom)
    others = np.setdiff1d(np.arange(len(images)), np.concatenate(split.rows))
    parts = split_rows(others, len(images), halves.seed)
    plans = []
    for half, pair in enumerate(zip(split.rows, parts, strict=True), 1):
        rows = np.sort(np.concatenate(pair))
        other = split.steps[2 - half]
        reference = other.path(f"local_it{LOCAL:03d}_class001.mrc")
        name = f"{NAME}/half{half}"
        made = "run_it001_data.star"
        command = Command(
            "relion_refine",
            (
                *("--i", f"{name}/particles.star", "--ref", reference, "--o", f"{name}/run"),
                *("--firstiter_cc", "--ini_high", f"{finest:.1f}", "--iter", "1"),
                *("--healpix_order", "2", "--offset_range", "4", "--offset_step", "2"),
                *("--sym", halves.symmetry, "--ctf", "--ctf_intact_first_peak"),
                *("--particle_diameter", f"{settings.mask_diameter_angstrom:.1f}"),
                *("--flatten_solvent", "--zero_mask", "--norm", "--scale", "--K", "1"),
                *("--oversampling", "1", "--pad", f"{PADDING}", "--pool", "30", "--j", "1"),
                *("--dont_combine_weights_via_disc", "--preread_images"),
                *("--random_seed", str(halves.seed + 1)),
            ),
            (f"{name}/{made}",),
        )
        files = {"particles.star": images.render(rows)}
        step = Step(name, (command,), files, (other.key,), frozenset({made}))
        plans.append(ControlPlan(step, rows, reference, finest))
    return plans


def score_images(
    work: Path, plan: ControlPlan, images: ImageTable, settings: ImageSettings
) -> FloatArray:
    """Return the correlation of each image with the projection of the map that is like it most.

    Returns
    -------
    ndarray
        Shape (n,), in the order of the plan's rows; -1 to 1.

    Raises
    ------
    BadInput
        If a file cannot be read.
    """
    poses = read_rows(work / plan.step.path("run_it001_data.star"), _POSE, images, plan.rows)
    path = work / plan.reference
    try:
        with mrcfile.open(path, permissive=True) as mrc:
            density = np.array(mrc.data, dtype=np.float64)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read as a map ({error})") from error
    side, pixel = settings.image_px, settings.image_pixel_size_angstrom
    if density.shape != (side, side, side):
        raise BadInput(f"{path} is not a map of {side} pixels")
    projector = Projector(density)
    frequency = projector.frequency / pixel
    used = (frequency > 1 / (side * pixel)) & (frequency <= 1 / plan.finest_angstrom)
    mask = mask_sphere(side, settings.mask_diameter_angstrom / pixel)[side // 2]
    transfers: dict[CtfParameters, FloatArray] = {}
    stacks: dict[str, Image] = {}
    scores = np.empty(len(plan.rows))
    for place, (row, pose) in enumerate(zip(plan.rows, poses, strict=True)):
        number, _, name = str(images.columns[_IMAGE][row]).partition("@")
        if name not in stacks:
            stacks = {name: _read_stack(work / name)}  # rows are in the order of the stacks
        ctf = _ctf_of(images, int(row))
        if ctf not in transfers:
            transfers[ctf] = np.sin(compute_chi((side, side), pixel, ctf))
        expected = projector.project(pose[:3]) * transfers[ctf]
        found = _transform(stacks[name][int(number) - 1], pose[3:] / pixel, mask)
        scores[place] = _correlate(found[used], expected[used])
    return scores


class Projector:
    """Projections of a map, as slices of its Fourier transform.

    Attributes
    ----------
    frequency
        Of each place on the ``rfft2`` grid of a projection, cycles per pixel.
    """

    def __init__(self, density: FloatArray) -> None:
        self._side = side = len(density)
        padded = np.zeros((PADDING * side,) * 3)
        first = (PADDING * side) // 2 - side // 2
        padded[(slice(first, first + side),) * 3] = density
        # The center of the map is the origin of its transform.
        spectrum = scipy.fft.fftn(scipy.fft.ifftshift(padded))
        self._spectrum = scipy.fft.fftshift(spectrum)
        rows = scipy.fft.fftfreq(side)[:, None]
        columns = scipy.fft.rfftfreq(side)[None, :]
        self._rows, self._columns = np.broadcast_arrays(rows, columns)
        self.frequency = np.hypot(self._rows, self._columns)

    def project(self, angles_deg: Sequence[float] | FloatArray) -> FloatArray:
        """Return the transform of a projection, whose origin is the center of the particle.

        Parameters
        ----------
        angles_deg
            RELION's rot, tilt and psi.

        Returns
        -------
        ndarray of complex
            Shape (side, side // 2 + 1).
        """
        turned = rotation_of(angles_deg)[:2]
        # (x, y, z) of each frequency in the map.
        at = self._columns[..., None] * turned[0] + self._rows[..., None] * turned[1]
        places = np.moveaxis(at[..., ::-1], -1, 0) * (PADDING * self._side)
        places += (PADDING * self._side) // 2
        real, imaginary = (
            map_coordinates(part, places, order=1, mode="constant")
            for part in (self._spectrum.real, self._spectrum.imag)
        )
        return np.asarray(real + 1j * imaginary)


def rotation_of(angles_deg: Sequence[float] | FloatArray) -> FloatArray:
    """Return the rotation from the axes of a map to those of an image, shape (3, 3).

    The angles are RELION's rot, tilt and psi, about z, y and z (Heymann, Chagoyen & Belnap 2005,
    J. Struct. Biol. 151, 196-207).
    """
    (sa, sb, sg), (ca, cb, cg) = np.sin(np.radians(angles_deg)), np.cos(np.radians(angles_deg))
    return np.array(
        [
            [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
            [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
            [sb * ca, sb * sa, cb],
        ]
    )


def _transform(image: Image, shift_px: FloatArray, mask: FloatArray) -> FloatArray:
    """Return the transform of a masked image after a shift (x, y), with its center as origin."""
    side = len(image)
    rows, columns = scipy.fft.fftfreq(side)[:, None], scipy.fft.rfftfreq(side)[None, :]
    moved = scipy.fft.rfft2(image)
    moved *= np.exp(-2j * np.pi * (columns * shift_px[0] + rows * shift_px[1]))
    centered = scipy.fft.irfft2(moved, s=image.shape)
    inside = centered[mask > 0.5].mean()
    return np.asarray(scipy.fft.rfft2(scipy.fft.ifftshift((centered - inside) * mask)))


def _correlate(one: FloatArray, other: FloatArray) -> float:
    power = float((np.abs(one) ** 2).sum() * (np.abs(other) ** 2).sum())
    return float((one * other.conj()).real.sum()) / np.sqrt(power) if power > 0 else 0.0


def _read_stack(path: Path) -> Image:
    try:
        images: Image = mrcfile.read(path).astype(np.float32)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read ({error})") from error
    # A stack of one image is read as an image.
    return images.reshape(-1, *images.shape[-2:])


def _ctf_of(images: ImageTable, row: int) -> CtfParameters:
    """Return the contrast transfer function of an image, by its row and its optics group."""
    groups = [int(float(group)) for group in images.optics[_GROUP]]
    group = groups.index(int(float(images.columns[_GROUP][row])))
    u, v, angle = (float(images.columns[label][row]) for label in DEFOCUS)
    voltage, aberration, contrast = (
        float(images.optics[label][group]) for label in (VOLTAGE, ABERRATION, CONTRAST)
    )
    phase = float(images.columns[PHASE_SHIFT][row]) if PHASE_SHIFT in images.columns else 0.0
    return CtfParameters(u, v, angle, voltage, aberration, contrast, phase)


@dataclass(frozen=True)
class MapScores:
    """How well images agree with the maps, of both halves together.

    Attributes
    ----------
    rows
        The images, shape (n,).
    score
        Their correlations, shape (n,).
    as_decoys
        Whether each is at or below the median of the random positions that were compared with the
        same map, shape (n,).
    is_decoy
        Whether each is a random position, shape (n,).
    """

    rows: IndexArray
    score: FloatArray
    as_decoys: np.ndarray[tuple[int], np.dtype[np.bool_]]
    is_decoy: np.ndarray[tuple[int], np.dtype[np.bool_]]

    @classmethod
    def join(
        cls, plans: Sequence[ControlPlan], scores: Sequence[FloatArray], images: ImageTable
    ) -> MapScores:
        """Return the scores of all plans together, in the order of the images."""
        lower, decoys = [], []
        for plan, own in zip(plans, scores, strict=True):
            is_decoy = images.positions.kind[plan.rows] != PICK
            decoys.append(is_decoy)
            lower.append(own <= np.median(own[is_decoy]))
        rows = np.concatenate([plan.rows for plan in plans])
        order = np.argsort(rows)
        joined = (np.concatenate(parts)[order] for parts in (scores, lower, decoys))
        return cls(rows[order], *joined)

    def share_of(self, chosen: IndexArray) -> Share:
        """Return the share of some picks that agree with the map as random positions do.

        Half of these are below their median, and so is half of such picks; those of particles
        hardly are.

        Parameters
        ----------
        chosen
            Rows of images; those that were not compared do not count.
        """
        own = np.isin(self.rows, chosen) & ~self.is_decoy
        return estimate_share(
            float(np.count_nonzero(own & self.as_decoys)),
            float(np.count_nonzero(own)),
            float(np.count_nonzero(self.is_decoy & self.as_decoys)),
            float(np.count_nonzero(self.is_decoy)),
        )


def render_map_scores(
    compared: MapScores, positions: Positions, micrographs: Sequence[str]
) -> str:
    """Return a table of all images that were compared, as TSV.

    Parameters
    ----------
    positions
        Of all images.
    micrographs
        The names that their indices stand for.
    """
    lines = ["micrograph\tx\ty\tkind\tlog_odds\tcorrelation"]
    for row, value in zip(compared.rows, compared.score, strict=True):
        x, y = positions.xy_px[row]
        kind = "pick" if positions.kind[row] == PICK else "random"
        score = positions.score[row]
        spelled = "" if np.isnan(score) else f"{score:.6g}"
        name = micrographs[positions.micrograph[row]]
        lines.append(f"{name}\t{x:g}\t{y:g}\t{kind}\t{spelled}\t{value:.4f}")
    return "\n".join(lines) + "\n"
