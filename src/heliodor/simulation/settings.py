"""Settings of simulated micrographs.

Light to import: the command line is made from this class.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from heliodor.errors import BadInput
from heliodor.simulation.contaminant_levels import ContaminantLevels, parse_contaminant_levels
from heliodor.utils.settings import option, parse_shape

if TYPE_CHECKING:
    import numpy as np

    from heliodor.conventions import Shape
    from heliodor.simulation.builtin_particles import Particle
    from heliodor.simulation.filament_kinds import FilamentKind
    from heliodor.simulation.filament_placement import FilamentLayout

Orientations = Literal["random", "preferred"]
Detector = Literal["counting", "integrating"]

#: The usual signal-to-noise ratio; in negative stain particles stand out more.
SNR, SNR_IN_STAIN = 0.12, 1.0
#: Usual mean thickness of the ice of a dataset; that of each micrograph varies around it.
MEAN_ICE_NM = 45.0
#: What the names of randomly generated particles begin with.
_DRAWN = "drawn-"

_PARTICLE, _SPECIMEN, _IMAGING, _OUTPUT = "Particle", "Specimen", "Imaging", "Output"
#: One filament for this width of the micrograph beyond five widths of the filament.
_ROOM_ANGSTROM = 500.0


@dataclass(frozen=True)
class SimulationSettings:
    """How to simulate a dataset of micrographs.

    Raises
    ------
    BadInput
        If a value is out of range, two values contradict each other, or the particle's file
        cannot be used.
    """

    #: Also a `Particle`, for example from `read_structure`.
    particle: str | Particle | None = option(
        None,
        help="barrel, ribosome, trimer, shell or stick, or drawn-N: a randomly generated particle"
        " with seed N.",
        group=_PARTICLE,
        metavar="NAME",
        default="barrel",
    )
    structure: str | Path | None = option(
        None,
        help="Simulate this particle instead: an atomic model (.cif, .pdb, .ent) or a density"
        " map (.mrc, .map, .ccp4).",
        group=_PARTICLE,
        metavar="FILE",
    )
    assembly: str | None = option(
        None,
        help="Biological assembly of the atomic model, or none.",
        group=_PARTICLE,
        metavar="NAME",
        default="its first",
    )
    contour: float | None = option(
        None,
        help="Contour level of the density map.",
        group=_PARTICLE,
        metavar="LEVEL",
        default="found in the map",
    )
    diameter_angstrom: float | None = option(
        None,
        help="Longest diameter of the particle of --structure or drawn-N.",
        group=_PARTICLE,
        metavar="ANGSTROM",
        default="its own",
    )
    filament: str | None = option(
        None,
        help="Simulate filaments instead of particles: amyloid, microtubule, actin or tube.",
        group=_PARTICLE,
        metavar="KIND",
    )
    rise_angstrom: float | None = option(
        None,
        help="Distance between subunits along the filament.",
        group=_PARTICLE,
        metavar="ANGSTROM",
        default="that of the kind",
    )
    twist_deg: float | None = option(
        None,
        help="Rotation between subunits; positive is right-handed.",
        group=_PARTICLE,
        metavar="DEGREES",
        default="that of the kind",
        name="twist",
    )
    #: Not counting those beside them in bundles; fewer where there is no room.
    filaments_per_micrograph: int | None = option(
        None,
        help="Filaments per micrograph.",
        group=_PARTICLE,
        metavar="N",
        default="random, around the usual number for the kind",
        name="filaments",
    )
    persistence_angstrom: float | None = option(
        None,
        help="Distance over which filaments keep their direction: smaller is more curved.",
        group=_PARTICLE,
        metavar="ANGSTROM",
        default="that of the kind",
    )
    bundles: float = option(
        0.0, help="Share of filaments with others beside them.", group=_PARTICLE, metavar="SHARE"
    )
    breaks: float = option(
        0.0, help="Share of filaments that are broken.", group=_PARTICLE, metavar="SHARE"
    )
    count: int = option(16, help="Number of micrographs.", group=_OUTPUT, metavar="N")
    #: (height, width)
    shape: Shape = option(
        (1024, 1024),
        help="Width and height in pixels.",
        group=_OUTPUT,
        metavar="WxH",
        default="1024x1024",
        name="size_px",
        parse=partial(parse_shape, name="--size-px"),
    )
    pixel_size_angstrom: float = option(4.0, help="Pixel size.", group=_OUTPUT, metavar="ANGSTROM")
    #: Particles whose centers are inside the field of view; fewer where there is no room. None:
    #: one per square with a side of 1.5 particle diameters + 150 A.
    particles_per_micrograph: int | None = option(
        None,
        help="Particles per micrograph, 0 for none.",
        group=_PARTICLE,
        metavar="N",
        default="the usual number for the particle",
        name="particles",
    )
    #: At 4 A per pixel (a bandwidth of 1/8 per angstrom): the variance of the noise-free
    #: particles after the contrast transfer inside discs of the particle's diameter, at the
    #: middle of the defocus range and averaged over orientations, over the variance of the shot
    #: noise, in ice of average thickness. It does not depend on `pixel_size_angstrom`: at p A per
    #: pixel the shot noise of one pixel has (4 / p)^2 times the variance. Infinity disables shot
    #: noise, but not the noise of the ice.
    snr: float | None = option(
        None,
        help="Signal-to-noise ratio of particles at 4 Å/pixel.",
        group=_IMAGING,
        metavar="RATIO",
        default=f"{SNR}; in negative stain {SNR_IN_STAIN:g}",
    )
    #: Underfocus in micrometers; each micrograph has its own between these.
    defocus_min_um: float = option(1.0, help="Minimum defocus.", group=_IMAGING, metavar="UM")
    defocus_max_um: float = option(2.2, help="Maximum defocus.", group=_IMAGING, metavar="UM")
    voltage_kv: float = option(300.0, help="Accelerating voltage.", group=_IMAGING, metavar="KV")
    #: Cs in millimeters.
    spherical_aberration_mm: float = 2.7
    #: Fraction of amplitude contrast.
    amplitude_contrast: float = 0.1
    #: ``exp(-b_factor k^2 / 4)``, square angstrom.
    b_factor: float = option(
        150.0, help="B-factor of the CTF envelope.", group=_IMAGING, metavar="ANGSTROM2"
    )
    #: That of each micrograph is 0.7 to 1.4 times as large. Thicker ice is noisier and transmits
    #: fewer electrons.
    ice_nm: float = option(
        MEAN_ICE_NM, help="Mean thickness of the ice.", group=_SPECIMEN, metavar="NM"
    )
    #: Relative to the thickness in the center; None: random for each micrograph.
    ice_gradient: float | None = option(
        None,
        help="Change of the ice thickness from the center to the far edge.",
        group=_SPECIMEN,
        metavar="SHARE",
        default="random, up to 0.35",
    )
    #: Dark, uneven stain.
    negative_stain: bool = option(
        False, help="Bright particles in heavy metal, not in ice.", group=_SPECIMEN
    )
    #: 2 is twice as many. Negative stain has no carbon edges and no crystals.
    contaminants: float | ContaminantLevels = option(
        1.0,
        help="Carbon, ice, gold, aggregates: 0 none, 1 usual; or by kind, as in"
        " carbon=4,crystals=0 or 0,gold=2 (also clumps, fragments).",
        group=_SPECIMEN,
        metavar="LEVELS",
        default="1",
        parse=parse_contaminant_levels,
    )
    carbon_only: bool = option(
        False, help="Only carbon film on every micrograph, no particles.", group=_SPECIMEN
    )
    #: Uniform over the sphere, or around the particle's preferred views.
    orientations: Orientations = option(
        "random", help="random or preferred.", group=_SPECIMEN, metavar="HOW"
    )
    #: Otherwise the centers of particles are at least one diameter apart.
    overlap: bool = option(
        False, help="Let particles overlap, and filaments cross.", group=_SPECIMEN
    )
    #: Counting: an ideal electron counter. Integrating: the image rolls off towards the Nyquist
    #: frequency and has read noise and a lower quantum efficiency; `snr` still refers to the shot
    #: noise of the electrons.
    detector: Detector = option(
        "counting",
        help="counting, or integrating: blur, read noise and a lower DQE.",
        group=_IMAGING,
        metavar="KIND",
    )
    #: About the image's mean.
    inverted: bool = option(False, help="Invert the contrast: bright particles.", group=_IMAGING)
    #: Mean 0, 25 gray values per standard deviation, clipped.
    eight_bit: bool = option(
        False, help="Write MRC mode 0: one byte per pixel, stretched.", group=_OUTPUT
    )
    #: Mean pixel value in clean ice of average thickness.
    mean_counts: float = 1000.0
    #: All particles if there are fewer.
    labels: int = option(
        0, help="Also write N random labels to labels.star.", group=_OUTPUT, metavar="N"
    )
    masks: bool = option(
        False,
        help="Also write masks/NAME.png: 255 on carbon, crystals, gold, aggregates.",
        group=_OUTPUT,
    )
    #: Micrograph i depends on (seed, i) and on the other settings except `count` and `labels`.
    seed: int = option(
        0, help="The same seed gives the same results.", group="Compute", metavar="S"
    )

    def __post_init__(self) -> None:
        particle = self.resolved_particle
        _check_integer("The number of micrographs", self.count, 1, "count")
        if len(self.shape) != 2:
            raise BadInput(
                "The shape of a micrograph must be two numbers, height and width.",
                parameter="size_px",
            )
        for side in self.shape:
            _check_integer("Each side of a micrograph in pixels", side, 16, "size_px")
            _check_range("Each side of a micrograph in pixels", side, 16, 20000, "size_px")
        _check_range("The pixel size in Å", self.pixel_size_angstrom, 0.1, 100.0, "pixel_size")
        coarsest = particle.diameter_angstrom / 4.0
        if self.pixel_size_angstrom > coarsest:
            raise BadInput(
                f"A pixel size of {self.pixel_size_angstrom:g} Å is too coarse for the"
                f" {particle.name}; it must be at most {coarsest:g} Å.",
                parameter="pixel_size",
            )
        if self.particles_per_micrograph is not None:
            what = "The number of particles per micrograph"
            _check_integer(what, self.particles_per_micrograph, 0, "particles")
        if self.snr is not None and not self.snr > 0.0:
            raise BadInput(
                f"The signal-to-noise ratio must be greater than 0, not {self.snr:g}.",
                parameter="snr",
            )
        for name, defocus in zip(("defocus_min", "defocus_max"), self.defocus_um, strict=True):
            _check_range("The defocus in µm", defocus, 0.05, 20.0, name)
        if self.defocus_min_um > self.defocus_max_um:
            raise BadInput(
                f"The minimum defocus, {self.defocus_min_um:g} µm, is larger than the maximum,"
                f" {self.defocus_max_um:g} µm.",
                parameter="defocus_min",
            )
        _check_range("The voltage in kV", self.voltage_kv, 10.0, 3000.0, "voltage")
        _check_range("The spherical aberration in mm", self.spherical_aberration_mm, 0.0, 20.0)
        _check_range("The amplitude contrast", self.amplitude_contrast, 0.0, 1.0)
        _check_range("The B-factor in Å²", self.b_factor, 0.0, 5000.0, "b_factor")
        _ = self.contaminant_levels  # checks the levels
        _check_range("The mean thickness of the ice in nm", self.ice_nm, 5.0, 500.0, "ice")
        if self.ice_gradient is not None:
            _check_range("The gradient of the ice", self.ice_gradient, 0.0, 1.0, "ice_gradient")
        _check_range("The mean counts of a pixel", self.mean_counts, 1e-6, 1e9)
        if self.orientations not in get_args(Orientations):
            raise BadInput(
                f"Orientations must be random or preferred, not {self.orientations!r}.",
                parameter="orientations",
            )
        if self.detector not in get_args(Detector):
            raise BadInput(
                f"The detector must be counting or integrating, not {self.detector!r}.",
                parameter="detector",
            )
        if self.filaments_per_micrograph is not None:
            what = "The number of filaments per micrograph"
            _check_integer(what, self.filaments_per_micrograph, 0, "filaments")
        if self.rise_angstrom is not None:
            _check_range("The rise in Å", self.rise_angstrom, 0.5, 500.0, "rise")
        if self.twist_deg is not None:
            _check_range("The twist in degrees", self.twist_deg, -180.0, 180.0, "twist")
        if self.persistence_angstrom is not None:
            what = "The persistence length in Å"
            _check_range(what, self.persistence_angstrom, 500.0, 1e9, "persistence")
        _check_range("The share of bundles", self.bundles, 0.0, 1.0, "bundles")
        _check_range("The share of broken filaments", self.breaks, 0.0, 1.0, "breaks")
        _check_integer("The number of labels", self.labels, 0, "labels")
        _check_integer("The seed", self.seed, 0, "seed")
        self._check_together()

    def _check_together(self) -> None:
        """Check combinations of settings."""
        self._check_filament()
        levels = self.contaminants
        by_kind = levels if isinstance(levels, ContaminantLevels) else None
        if self.carbon_only:
            if self.particles_per_micrograph:
                raise BadInput(
                    "There are no particles on carbon-only micrographs; do not set a number.",
                    parameter="particles",
                )
            if self.negative_stain:
                raise BadInput(
                    "Carbon-only micrographs are for ice, not for negative stain.",
                    parameter="carbon_only",
                )
            if by_kind is not None and by_kind.carbon is not None:
                raise BadInput(
                    "Carbon-only micrographs have no level of carbon; leave it out.",
                    parameter="contaminants",
                )
        has_none = self.carbon_only or (
            self.filaments_per_micrograph == 0
            if self.filament is not None
            else self.particles_to_place == 0
        )
        if self.labels and has_none:
            raise BadInput(
                "There are no labels without particles; set the number of labels to 0.",
                parameter="labels",
            )
        if self.negative_stain:
            if self.ice_nm != MEAN_ICE_NM or self.ice_gradient is not None:
                raise BadInput(
                    "There is no ice in negative stain; do not set its thickness or gradient.",
                    parameter="ice" if self.ice_gradient is None else "ice_gradient",
                )
            if by_kind is not None and (by_kind.carbon or by_kind.crystals):
                raise BadInput(
                    "There are no carbon edges and no ice crystals in negative stain; leave out"
                    " their levels.",
                    parameter="contaminants",
                )

    def _check_filament(self) -> None:
        """Refuse settings of filaments without filaments, and of particles with them."""
        of_filaments = {
            "rise": self.rise_angstrom is not None,
            "twist": self.twist_deg is not None,
            "filaments": self.filaments_per_micrograph is not None,
            "persistence": self.persistence_angstrom is not None,
            "bundles": self.bundles != 0.0,
            "breaks": self.breaks != 0.0,
        }
        of_particles = {
            "particle": self.particle is not None,
            "structure": self.structure is not None,
            "assembly": self.assembly is not None,
            "contour": self.contour is not None,
            "diameter": self.diameter_angstrom is not None,
            "particles": self.particles_per_micrograph is not None,
            "orientations": self.orientations != "random",
        }
        has_filaments = self.filament is not None
        for name, is_given in (of_particles if has_filaments else of_filaments).items():
            if is_given:
                only = "not for filaments; leave it out" if has_filaments else "for --filament"
                raise BadInput(f"--{name} is {only}", parameter=name)

    @cached_property
    def resolved_filament(self) -> FilamentKind | None:
        """The filament, with the rise, twist and persistence that were given."""
        if self.filament is None:
            return None
        from heliodor.simulation.filament_kinds import FILAMENTS

        if self.filament not in FILAMENTS:
            raise BadInput(
                f"Unknown filament {self.filament!r}; it must be one of {', '.join(FILAMENTS)}.",
                parameter="filament",
            )
        kind = FILAMENTS[self.filament]
        rise, twist, persistence = self.rise_angstrom, self.twist_deg, self.persistence_angstrom
        return replace(
            kind,
            rise_angstrom=kind.rise_angstrom if rise is None else rise,
            twist_deg=kind.twist_deg if twist is None else twist,
            persistence_angstrom=(
                kind.persistence_angstrom if persistence is None else persistence
            ),
        )

    def draw_layout(self, rng: np.random.Generator) -> FilamentLayout | None:
        """Return how the filaments of a micrograph lie, None if there are only particles."""
        kind = self.resolved_filament
        if kind is None or self.carbon_only:
            return None
        from heliodor.simulation.filament_placement import FilamentLayout

        count = self.filaments_per_micrograph
        if count is None:
            side = min(self.shape) * self.pixel_size_angstrom
            usual = side / (5.0 * kind.width_angstrom + _ROOM_ANGSTROM)
            count = max(1, round(rng.uniform(0.5, 1.5) * usual))
        return FilamentLayout(kind, count, self.bundles, self.breaks, self.overlap)

    @cached_property
    def resolved_particle(self) -> Particle:
        """The particle itself: built in, randomly generated, or read from its file.

        Of filaments: a short stretch, by which contrast and contaminants are measured.
        """
        if self.resolved_filament is not None:
            return self.resolved_filament.as_particle()
        if self.structure is not None:
            return self._read_particle(self.structure)
        if isinstance(self.particle, str) and self.particle.startswith(_DRAWN):
            self._refuse_for_structures_only("assembly", "contour")
            return self._draw_particle(self.particle)
        self._refuse_for_structures_only("assembly", "contour", "diameter")
        if self.particle is not None and not isinstance(self.particle, str):
            return self.particle
        from heliodor.simulation.builtin_particles import PARTICLES

        name = "barrel" if self.particle is None else self.particle
        if name not in PARTICLES:
            raise BadInput(
                f"Unknown particle {name!r}; it must be one of {', '.join(PARTICLES)}.",
                parameter="particle",
            )
        return PARTICLES[name]

    def _read_particle(self, structure: str | Path) -> Particle:
        if self.particle is not None:
            raise BadInput("give either --particle or --structure, not both")
        from heliodor.simulation.structures import read_structure

        return read_structure(
            structure,
            assembly=self.assembly,
            contour=self.contour,
            diameter_angstrom=self.diameter_angstrom,
        )

    def _draw_particle(self, name: str) -> Particle:
        from heliodor.simulation.training_world.random_particles import draw_particle

        number = name.removeprefix(_DRAWN)
        if not number.isdecimal() or len(number) > 9:
            raise BadInput(
                f"{name} is not a particle: drawn- must be followed by a number, 0 or more",
                parameter="particle",
            )
        return draw_particle(int(number), self.diameter_angstrom)

    def _refuse_for_structures_only(self, *names: str) -> None:
        """Refuse settings of the particle's file where there is no file."""
        given = {
            "assembly": self.assembly,
            "contour": self.contour,
            "diameter": self.diameter_angstrom,
        }
        for name in names:
            if given[name] is not None:
                raise BadInput(f"--{name} is only for the particle of --structure", parameter=name)

    @property
    def resolved_snr(self) -> float:
        """The signal-to-noise ratio: the one given, otherwise the usual one."""
        if self.snr is not None:
            return self.snr
        return SNR_IN_STAIN if self.negative_stain else SNR

    @property
    def defocus_um(self) -> tuple[float, float]:
        """(minimum, maximum) underfocus in micrometers."""
        return self.defocus_min_um, self.defocus_max_um

    @property
    def contaminant_levels(self) -> ContaminantLevels:
        """The level of each kind of contaminant."""
        levels = self.contaminants
        if not isinstance(levels, ContaminantLevels):
            levels = ContaminantLevels(levels)
        return replace(levels, carbon=0.0, crystals=0.0) if self.negative_stain else levels

    @property
    def contrast(self) -> float:
        """The standard deviation of the relative intensity inside a particle's disc."""
        from heliodor.simulation.negative_stain import STAIN_CONTRAST

        return self.resolved_particle.contrast * (STAIN_CONTRAST if self.negative_stain else 1.0)

    @property
    def total_amplitude_contrast(self) -> float:
        """The amplitude contrast, including that of stain."""
        from heliodor.simulation.negative_stain import STAIN_AMPLITUDE_CONTRAST

        more = STAIN_AMPLITUDE_CONTRAST if self.negative_stain else 0.0
        return min(self.amplitude_contrast + more, 1.0)

    @property
    def total_b_factor(self) -> float:
        """The B-factor of the envelope, including that of stain, square angstrom."""
        from heliodor.simulation.negative_stain import STAIN_B_FACTOR

        return self.b_factor + (STAIN_B_FACTOR if self.negative_stain else 0.0)

    @property
    def particles_to_place(self) -> int:
        """The number of particles to place on a micrograph."""
        if self.carbon_only or self.filament is not None:
            return 0
        if self.particles_per_micrograph is not None:
            return self.particles_per_micrograph
        height, width = (side * self.pixel_size_angstrom for side in self.shape)
        return max(
            1,
            round(height * width / (1.5 * self.resolved_particle.diameter_angstrom + 150.0) ** 2),
        )


def _check_integer(what: str, value: int, least: int, parameter: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadInput(
            f"{what} must be an integer of at least {least}, not {value!r}.", parameter=parameter
        )


def _check_range(
    what: str, value: float, least: float, most: float, parameter: str | None = None
) -> None:
    if not least <= value <= most:
        raise BadInput(
            f"{what} must be between {least:g} and {most:g}, not {value!r}.", parameter=parameter
        )
