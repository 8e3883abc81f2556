"""Image formation for many fields at a time: microscope, camera and processing."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from heliodor.data.micrographs.ctf import wavelength_angstrom
from heliodor.data.micrographs.normalization import FLATTEN_FRACTION, low_frequency_cosines
from heliodor.simulation.training_world.contaminants import RandomSource, SceneryBatch
from heliodor.simulation.training_world.imaging_conditions import NOMINAL_PX, ImagingConditions

#: Relative change of intensity per angstrom of solid protein in ice, before the optics.
PER_ANGSTROM = 2.0e-3
LEAST_INTENSITY = 0.05
#: Interquartile range of a normal distribution over its standard deviation.
OF_QUARTILES = 1.349


def expose(
    conditions: ImagingConditions,
    scenery: SceneryBatch,
    particles: Tensor,
    power: Tensor,
    source: RandomSource,
) -> Tensor:
    """Return the images that the microscope records, in units of the mean intensity.

    Parameters
    ----------
    conditions, scenery
        Conditions and scenery of n fields of side s.
    particles
        Potential of the particles, shape (n, s, s).
    power
        Power spectrum of each field's particle at the nominal size, in rings of equal width up to
        the Nyquist frequency, shape (n, rings). The part that the optics transmit sets the noise.
    source
        Source of randomness.

    Returns
    -------
    Tensor
        Shape (n, s, s).
    """
    each = {name: value[:, None, None] for name, value in vars(conditions).items()}
    scale = PER_ANGSTROM * conditions.pixel_angstrom * (conditions.diameter_px / NOMINAL_PX) ** 2
    rings = power.shape[1]
    middle = (torch.arange(rings, device=power.device) + 0.5) / (2 * rings)
    ring = middle[None] / conditions.pixel_angstrom[:, None]
    flat = {name: value[:, :, 0] for name, value in each.items()}
    left = batch_contrast_transfer(flat, torch.zeros_like(ring), ring, ring**2) ** 2
    signal = (power * left).sum(dim=1) * scale**2
    shot = torch.sqrt(signal / conditions.energy)[:, None, None]
    side = particles.shape[1]
    rows = torch.fft.fftfreq(side, device=power.device)[:, None] / each["pixel_angstrom"]
    columns = torch.fft.rfftfreq(side, device=power.device)[None] / each["pixel_angstrom"]
    squared = rows**2 + columns**2
    noise = source.normal(*particles.shape) * scenery.grain
    slow = (1.0 + squared * each["slow_angstrom"] ** 2) ** -1.5
    amplitude = each["grain"] * shot * torch.sqrt(1.0 + each["slow"] ** 2 * slow)
    spectrum = torch.fft.rfft2(noise) * amplitude
    spectrum += torch.fft.rfft2(scenery.potential + particles)
    spectrum *= batch_contrast_transfer(each, rows, columns, squared)
    contrast = torch.fft.irfft2(spectrum, s=particles.shape[1:])
    bright = scenery.transmission * torch.clamp(1.0 + contrast, min=LEAST_INTENSITY)
    image: Tensor = bright + shot * torch.sqrt(bright) * source.normal(*particles.shape)
    # The blur of the detector, and a low-pass filter as users apply it before picking.
    blur = conditions.blur_px.square() + (conditions.low_pass_px / 2.355).square()
    if bool((blur > 0).any()):
        pixels = squared * each["pixel_angstrom"] ** 2
        passed = torch.exp(-2.0 * math.pi**2 * pixels * blur[:, None, None])
        image = torch.fft.irfft2(torch.fft.rfft2(image) * passed, s=image.shape[1:])
    return image


def batch_contrast_transfer(
    each: dict[str, Tensor], rows: Tensor, columns: Tensor, squared: Tensor
) -> Tensor:
    """Return the contrast transfer as `optics.contrast_transfer` does, for many micrographs.

    Parameters
    ----------
    each
        The imaging conditions by name, of shapes that broadcast with those below.
    rows, columns, squared
        Spatial frequencies along both directions, per angstrom, and the square of their norm.
    """
    volts = {kv: wavelength_angstrom(kv) for kv in (200.0, 300.0)}
    length = torch.where(each["voltage_kv"] > 250.0, volts[300.0], volts[200.0])
    angle = 2.0 * each["astigmatism_turn"]
    twofold = torch.cos(angle) * (columns**2 - rows**2) + torch.sin(angle) * 2 * columns * rows
    defocus = each["defocus_angstrom"] * squared + 0.5 * each["astigmatism_angstrom"] * twofold
    chi = math.pi * length * defocus
    chi = chi - 0.5 * math.pi * 1e7 * each["spherical_mm"] * length**3 * squared**2
    chi = chi + torch.asin(each["amplitude"])
    return -torch.sin(chi) * torch.exp(-0.25 * each["b_factor"] * squared)


def process(conditions: ImagingConditions, images: Tensor, source: RandomSource) -> Tensor:
    """Apply the preprocessing of a micrograph before a network scores it, shape (n, s, s)."""
    side = images.shape[1]
    levels = conditions.levels[:, None, None]
    spread = images.std(dim=(1, 2), keepdim=True)
    rounded = torch.round(images / spread * levels) / levels.clamp(min=1.0) * spread
    images = torch.where(levels > 0, rounded, images)
    waves, left = low_frequency_cosines(side, NOMINAL_PX * FLATTEN_FRACTION)
    down = torch.from_numpy(waves).to(images.device)
    weight = torch.from_numpy(left).to(images.device)
    images = images - images.mean(dim=(1, 2), keepdim=True)
    slow = (down @ images @ down.T) * weight[:, None] * weight
    images = images - down.T @ slow @ down
    sample = images.flatten(1)[:, ::7]
    marks = torch.tensor([0.25, 0.5, 0.75], device=images.device)
    low, middle, high = torch.quantile(sample, marks, dim=1)
    width = (high - low).clamp(min=1e-12) / OF_QUARTILES
    images = (images - middle[:, None, None]) / width[:, None, None]
    images = images * conditions.gain[:, None, None] + conditions.offset[:, None, None]
    return _add_dead_borders(conditions, images, source)


def _add_dead_borders(
    conditions: ImagingConditions, images: Tensor, source: RandomSource
) -> Tensor:
    """Add a dead border along one edge of some images."""
    n, side = len(images), images.shape[1]
    axis = torch.arange(side, device=images.device)
    strip = axis[None] < conditions.border_px[:, None]
    which = torch.randint(4, (n,), generator=source.generator, device=images.device)
    strip = torch.where((which % 2 == 0)[:, None], strip, strip.flip(1))[:, None, :]
    strip = torch.where((which < 2)[:, None, None], strip, strip.transpose(1, 2))
    level = 4.0 * source.normal(n, 1, 1)
    return torch.where(strip, level, images)
