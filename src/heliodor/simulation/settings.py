"""Settings of simulated micrographs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

from heliodor.errors import BadInput
from heliodor.simulation.builtin_particles import PARTICLES, Particle
from heliodor.simulation.contaminant_levels import ContaminantLevels
from heliodor.simulation.negative_stain import (
    STAIN_AMPLITUDE_CONTRAST,
    STAIN_B_FACTOR,
    STAIN_CONTRAST,
)
from heliodor.simulation.scene import MEAN_ICE_NM

if TYPE_CHECKING:
    from heliodor.conventions import Shape

Orientations = Literal["random", "preferred"]
Detector = Literal["counting", "integrating"]


@dataclass(frozen=True)
class SimulationSettings:
    """How to simulate a dataset of micrographs.

    Raises
    ------
    BadInput
        If a value is out of range or two values contradict each other.
    """

    particle: str | Particle = "barrel"
    """A name in `PARTICLES`, or a `Particle`, for example from `read_structure`."""
    count: int = 16
    """Number of micrographs."""
    shape: Shape = (1024, 1024)
    """(height, width) in pixels."""
    pixel_size_angstrom: float = 4.0
    """Sampling, angstrom per pixel."""
    particles_per_micrograph: int | None = None
    """Particles whose centers are inside the field of view; fewer where there is no room. None:
    one per square with a side of 1.5 particle diameters + 150 A."""
    snr: float = 0.12
    """Signal-to-noise ratio at 4 A per pixel (a bandwidth of 1/8 per angstrom): the variance of
    the noise-free particles after the contrast transfer inside discs of the particle's diameter,
    at the middle of the defocus range and averaged over orientations, over the variance of the
    shot noise, in ice of average thickness. It does not depend on `pixel_size_angstrom`: at p A
    per pixel the shot noise of one pixel has (4 / p)^2 times the variance. Infinity disables shot
    noise, but not the noise of the ice."""
    defocus_um: tuple[float, float] = (1.0, 2.2)
    """(minimum, maximum) underfocus in micrometers; each micrograph has its own."""
    voltage_kv: float = 300.0
    """Acceleration voltage in kilovolts."""
    spherical_aberration_mm: float = 2.7
    """Cs in millimeters."""
    amplitude_contrast: float = 0.1
    """Fraction of amplitude contrast."""
    b_factor: float = 150.0
    """Envelope of the contrast transfer, ``exp(-b_factor k^2 / 4)``, square angstrom."""
    contaminants: float | ContaminantLevels = 1.0
    """Level of carbon edges, ice crystals, gold, aggregates and fragments: 0 is none, 1 is usual,
    2 is twice as many; or a level for each kind. Negative stain has no carbon edges and no
    crystals."""
    carbon_only: bool = False
    """Every micrograph shows only carbon film and no particles."""
    ice_nm: float = MEAN_ICE_NM
    """Mean thickness of the ice; that of each micrograph is 0.7 to 1.4 times as large. Thicker ice
    is noisier and transmits fewer electrons."""
    ice_gradient: float | None = None
    """Relative change of the thickness from the center of a micrograph to its far edge; None:
    random for each micrograph, up to 0.35."""
    negative_stain: bool = False
    """Bright particles in dark, uneven stain instead of dark particles in ice."""
    detector: Detector = "counting"
    """Counting: an ideal electron counter. Integrating: the image rolls off towards the Nyquist
    frequency and has read noise and a lower quantum efficiency; `snr` still refers to the shot
    noise of the electrons."""
    inverted: bool = False
    """Reverse the contrast about the image's mean."""
    eight_bit: bool = False
    """Write MRC mode 0: mean 0, 25 gray values per standard deviation, clipped."""
    masks: bool = False
    """Also write masks of carbon, crystals, gold and aggregates."""
    overlap: bool = False
    """Allow particles to overlap; otherwise their centers are at least one diameter apart."""
    orientations: Orientations = "random"
    """Uniform over the sphere, or around the particle's preferred views."""
    mean_counts: float = 1000.0
    """Mean pixel value in clean ice of average thickness."""
    labels: int = 0
    """Number of random particles to write as labels; all if there are fewer."""
    seed: int = 0
    """Micrograph i depends on (seed, i) and on the other settings except `count` and `labels`."""

    def __post_init__(self) -> None:
        if isinstance(self.particle, str) and self.particle not in PARTICLES:
            raise BadInput(
                f"Unknown particle {self.particle!r}; it must be one of {', '.join(PARTICLES)}."
            )
        _check_integer("The number of micrographs", self.count, 1)
        if len(self.shape) != 2:
            raise BadInput("The shape of a micrograph must be two numbers, height and width.")
        for side in self.shape:
            _check_integer("Each side of a micrograph in pixels", side, 16)
            _check_range("Each side of a micrograph in pixels", side, 16, 20000)
        _check_range("The pixel size in Å", self.pixel_size_angstrom, 0.1, 100.0)
        coarsest = self.resolved_particle.diameter_angstrom / 4.0
        if self.pixel_size_angstrom > coarsest:
            raise BadInput(
                f"A pixel size of {self.pixel_size_angstrom:g} Å is too coarse for the"
                f" {self.resolved_particle.name}; it must be at most {coarsest:g} Å."
            )
        if self.particles_per_micrograph is not None:
            _check_integer(
                "The number of particles per micrograph", self.particles_per_micrograph, 0
            )
        if math.isnan(self.snr) or self.snr <= 0.0:
            raise BadInput(f"The signal-to-noise ratio must be greater than 0, not {self.snr:g}.")
        if len(self.defocus_um) != 2:
            raise BadInput("The defocus range must be two numbers, minimum and maximum.")
        for defocus in self.defocus_um:
            _check_range("The defocus in µm", defocus, 0.05, 20.0)
        if self.defocus_um[0] > self.defocus_um[1]:
            raise BadInput(
                f"The minimum defocus, {self.defocus_um[0]:g} µm, is larger than the maximum,"
                f" {self.defocus_um[1]:g} µm."
            )
        _check_range("The voltage in kV", self.voltage_kv, 10.0, 3000.0)
        _check_range("The spherical aberration in mm", self.spherical_aberration_mm, 0.0, 20.0)
        _check_range("The amplitude contrast", self.amplitude_contrast, 0.0, 1.0)
        _check_range("The B-factor in Å²", self.b_factor, 0.0, 5000.0)
        _ = self.contaminant_levels  # checks the levels
        _check_range("The mean thickness of the ice in nm", self.ice_nm, 5.0, 500.0)
        if self.ice_gradient is not None:
            _check_range("The gradient of the ice", self.ice_gradient, 0.0, 1.0)
        _check_range("The mean counts of a pixel", self.mean_counts, 1e-6, 1e9)
        if self.orientations not in get_args(Orientations):
            raise BadInput(f"Orientations must be random or preferred, not {self.orientations!r}.")
        if self.detector not in get_args(Detector):
            raise BadInput(f"The detector must be counting or integrating, not {self.detector!r}.")
        _check_integer("The number of labels", self.labels, 0)
        _check_integer("The seed", self.seed, 0)
        self._check_together()

    def _check_together(self) -> None:
        """Check combinations of settings."""
        if self.carbon_only:
            if self.particles_per_micrograph:
                raise BadInput(
                    "There are no particles on carbon-only micrographs; do not set a number."
                )
            if self.negative_stain:
                raise BadInput("Carbon-only micrographs are for ice, not for negative stain.")
            if (
                isinstance(self.contaminants, ContaminantLevels)
                and self.contaminants.carbon is not None
            ):
                raise BadInput("Carbon-only micrographs have no level of carbon; leave it out.")
        if self.labels and self.particles_to_place == 0:
            raise BadInput("There are no labels without particles; set the number of labels to 0.")
        if self.negative_stain:
            if self.ice_nm != MEAN_ICE_NM or self.ice_gradient is not None:
                raise BadInput(
                    "There is no ice in negative stain; do not set its thickness or gradient."
                )
            if isinstance(self.contaminants, ContaminantLevels) and (
                self.contaminants.carbon or self.contaminants.crystals
            ):
                raise BadInput(
                    "There are no carbon edges and no ice crystals in negative stain; leave out"
                    " their levels."
                )

    @property
    def resolved_particle(self) -> Particle:
        """Return the particle, also where it is given by name."""
        return PARTICLES[self.particle] if isinstance(self.particle, str) else self.particle

    @property
    def contaminant_levels(self) -> ContaminantLevels:
        """Return the level of each kind of contaminant."""
        levels = self.contaminants
        if not isinstance(levels, ContaminantLevels):
            levels = ContaminantLevels(levels)
        return replace(levels, carbon=0.0, crystals=0.0) if self.negative_stain else levels

    @property
    def contrast(self) -> float:
        """Return the standard deviation of the relative intensity inside a particle's disc."""
        return self.resolved_particle.contrast * (STAIN_CONTRAST if self.negative_stain else 1.0)

    @property
    def total_amplitude_contrast(self) -> float:
        """Return the amplitude contrast, including that of stain."""
        more = STAIN_AMPLITUDE_CONTRAST if self.negative_stain else 0.0
        return min(self.amplitude_contrast + more, 1.0)

    @property
    def total_b_factor(self) -> float:
        """Return the B-factor of the envelope, including that of stain, square angstrom."""
        return self.b_factor + (STAIN_B_FACTOR if self.negative_stain else 0.0)

    @property
    def particles_to_place(self) -> int:
        """Return the number of particles to place on a micrograph."""
        if self.carbon_only:
            return 0
        if self.particles_per_micrograph is not None:
            return self.particles_per_micrograph
        height, width = (side * self.pixel_size_angstrom for side in self.shape)
        return max(
            1,
            round(height * width / (1.5 * self.resolved_particle.diameter_angstrom + 150.0) ** 2),
        )


def _check_integer(what: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadInput(f"{what} must be an integer of at least {least}, not {value!r}.")


def _check_range(what: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise BadInput(f"{what} must be between {least:g} and {most:g}, not {value!r}.")
