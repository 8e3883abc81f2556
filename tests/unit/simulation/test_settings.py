"""What can be chosen about simulated micrographs beside the particle: stain, detector, dirt."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import starfile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from scipy import ndimage

from heliodor.conventions import FloatArray, Image
from heliodor.data.micrographs.micrograph import read_micrograph
from heliodor.errors import BadInput
from heliodor.simulation import (
    PARTICLES,
    ContaminantLevels,
    SimulationSettings,
    simulate,
    simulate_layers,
    simulate_micrograph,
)
from heliodor.simulation.contaminant_levels import CONTAMINANT_KINDS, parse_contaminant_levels
from heliodor.simulation.detector import modulation_transfer, to_eight_bit
from helpers.atomic_models import body, write_pdb
from helpers.cli import call

SMALL = SimulationSettings(
    shape=(300, 256), pixel_size_angstrom=6.0, particles_per_micrograph=12, contaminants=0.0
)
STAIN = replace(SMALL, negative_stain=True)


def power(image: Image) -> FloatArray:
    """Return the mean power at each radius, in units of half a cycle a pixel, 20 of them."""
    window = np.hanning(image.shape[0])[:, None] * np.hanning(image.shape[1])
    spectrum = np.abs(np.fft.fft2(window * (image - image.mean()))) ** 2
    rows, columns = (np.fft.fftfreq(side) for side in image.shape)
    radius = np.minimum((np.hypot(rows[:, None], columns) * 40).astype(int), 20)
    means = ndimage.mean(spectrum, radius, np.arange(20))
    return np.asarray(means)


def near_particles(settings: SimulationSettings, index: int = 0) -> float:
    """Return the signal in the middles of particles, relative to their surroundings."""
    layers = simulate_layers(settings, index)
    rows, columns = np.indices(settings.shape)
    inside = np.zeros(settings.shape, np.bool_)
    for x, y in layers.micrograph.xy_px:
        inside |= np.hypot(columns - x, rows - y) < 8
    return float(layers.signal[inside].mean() - layers.signal[~inside].mean())


# ---- the defaults ----


def test_micrographs_of_the_defaults_have_not_changed() -> None:
    # Made by the program before any of this could be chosen; other machines round otherwise.
    settings = SimulationSettings(shape=(300, 256), pixel_size_angstrom=6.0, contaminants=8.0)
    image = simulate_micrograph(replace(settings, seed=4), 1).image
    expected = [
        [702.035, 1013.102, 1059.114, 1078.026],
        [382.601, 1014.376, 1032.568, 1074.768],
        [983.905, 1030.604, 1025.992, 993.739],
        [1092.603, 1081.774, 978.593, 917.768],
        [1039.718, 949.62, 988.748, 966.123],
    ]
    assert np.allclose(image[::60, ::64], expected, rtol=2e-5)


# ---- white particles, bytes ----


def test_inverted_is_the_mirror_image_about_the_mean() -> None:
    plain, inverted = (
        simulate_micrograph(replace(SMALL, inverted=flag), 1).image for flag in (False, True)
    )
    mean = plain.mean(dtype=np.float64)
    assert np.allclose(inverted, 2.0 * mean - plain, rtol=1e-5)
    assert inverted.mean(dtype=np.float64) == pytest.approx(mean, rel=1e-6)


@given(st.integers(0, 2**32), st.floats(-1e6, 1e6), st.floats(1e-3, 1e4))
def test_eight_bits_keep_the_picture(seed: int, mean: float, spread: float) -> None:
    noise = np.random.default_rng(seed).standard_normal((60, 70))
    image = (mean + max(spread, 1e-4 * abs(mean)) * noise).astype(np.float32)
    small = to_eight_bit(image)
    assert small.dtype == np.int8
    assert np.corrcoef(image.ravel(), small.ravel())[0, 1] > 0.999
    assert abs(float(small.mean())) < 0.5
    assert float(small.std()) == pytest.approx(25.0, rel=0.03)


def test_eight_bits_clip_what_is_far_and_allow_for_a_constant() -> None:
    image = np.zeros((50, 50), np.float32)
    image[0, :2] = 1e6, -1e6
    assert {int(to_eight_bit(image).max()), int(to_eight_bit(image).min())} == {127, -128}
    assert not to_eight_bit(np.full((40, 40), 7.0, np.float32)).any()


def test_eight_bits_on_disk_are_mode_0_and_read_back(tmp_path: Path) -> None:
    simulate(tmp_path, replace(SMALL, count=1, eight_bit=True))
    path = tmp_path / "micrographs" / "barrel_0001.mrc"
    with mrcfile.open(path) as mrc:
        assert int(mrc.header.mode) == 0
        assert mrc.data.dtype == np.int8
    assert mrcfile.validate(path)
    expected = to_eight_bit(simulate_micrograph(SMALL, 0).image)
    assert np.array_equal(read_micrograph(path).image, expected.astype(np.float32))


# ---- the detector ----


def test_integrating_detectors_roll_off_and_count_less_well() -> None:
    counting, integrating = (
        simulate_layers(replace(SMALL, detector=kind), 0) for kind in ("counting", "integrating")
    )
    assert np.array_equal(counting.micrograph.xy_px, integrating.micrograph.xy_px)
    one, other = power(counting.shot), power(integrating.shot)
    ratio = other / one
    # 1 / DQE, and the read noise, at low frequencies; the roll-off towards Nyquist's.
    assert ratio[1:4].mean() == pytest.approx(1.0 / 0.5 + 0.25**2, rel=0.15)
    assert ratio[18] == pytest.approx(0.28 / 0.5 + 0.25**2, rel=0.2)
    seen = np.sqrt(power(integrating.background) / power(counting.background))
    assert seen[1] == pytest.approx(1.0, abs=0.05)
    # Signal falls faster than noise: the quantum efficiency falls too.
    efficiency = seen**2 / ratio
    assert efficiency[1:4].mean() > 2.0 * efficiency[16:19].mean()
    whole = 1000.0 * (integrating.background + integrating.signal + integrating.shot)
    assert np.allclose(whole, integrating.micrograph.image, rtol=1e-4, atol=0.05)


def test_the_modulation_transfer_is_one_at_rest_and_a_quarter_at_nyquist() -> None:
    transfer = modulation_transfer((64, 48))
    assert transfer.shape == (64, 25)
    assert transfer[0, 0] == 1.0
    assert transfer[0, 24] == transfer[32, 0] == pytest.approx(0.25)
    quiet = replace(SMALL, detector="integrating", snr=math.inf)
    assert not simulate_layers(quiet, 0).shot.any()


# ---- negative stain ----


@pytest.mark.parametrize("particle", ["barrel", "ribosome", "stick"])
def test_particles_are_bright_in_stain_and_dark_in_ice(particle: str) -> None:
    assert near_particles(replace(SMALL, particle=particle)) < 0.0
    in_stain = replace(STAIN, particle=particle)
    assert near_particles(in_stain) > 0.0
    assert near_particles(replace(in_stain, inverted=True)) > 0.0  # layers are before that


def test_nothing_finer_than_the_stain_shows() -> None:
    fine = {"shape": (512, 512), "pixel_size_angstrom": 3.0, "snr": math.inf}
    ice, stain = (
        power(simulate_micrograph(replace(base, **fine), 0).image) for base in (SMALL, STAIN)
    )
    # Between 12 and 8 A, over what is between 60 and 30 A.
    fraction = [one[10:15].mean() / one[2:4].mean() for one in (ice, stain)]
    assert fraction[1] < 0.02 * fraction[0]


def test_stain_is_uneven_and_has_no_ice_in_it() -> None:
    layers = simulate_layers(replace(STAIN, contaminants=5.0), 0)
    assert layers.transmission.std() / layers.transmission.mean() > 0.02
    wide = {"shape": (700, 700), "particles_per_micrograph": 0}
    for index in range(3):
        made = simulate_micrograph(
            replace(STAIN, **wide, contaminants=ContaminantLevels(10.0, gold=0.0, clumps=0.0)),
            index,
        )
        assert not made.blocked.any()
    gold = replace(STAIN, **wide, contaminants=ContaminantLevels(0.0, gold=10.0))
    made = simulate_micrograph(gold, 0)
    assert made.blocked.any()
    assert made.image[made.blocked].mean() < made.image[~made.blocked].mean()
    clumps = simulate_micrograph(
        replace(STAIN, **wide, contaminants=ContaminantLevels(0.0, clumps=9.0)), 0
    )
    assert clumps.blocked.any()
    assert clumps.image[clumps.blocked].mean() > clumps.image[~clumps.blocked].mean()


def test_the_star_file_says_the_amplitude_contrast_of_stain(tmp_path: Path) -> None:
    simulate(tmp_path, replace(STAIN, count=1))
    optics = starfile.read(tmp_path / "micrographs.star")["optics"]
    assert optics["rlnAmplitudeContrast"].tolist() == pytest.approx([0.3])


# ---- ice ----


def test_thicker_ice_is_darker_and_noisier() -> None:
    thin, thick = (simulate_layers(replace(SMALL, ice_nm=nm), 2) for nm in (45.0, 135.0))
    assert thick.transmission.mean() < 0.8 * thin.transmission.mean()
    rough = [np.std(one.background / one.transmission) for one in (thin, thick)]
    assert rough[1] == pytest.approx(math.sqrt(3.0) * rough[0], rel=0.05)
    relative = [np.std(one.shot / one.transmission) for one in (thin, thick)]
    assert relative[1] > 1.1 * relative[0]


def test_the_gradient_of_the_ice_is_as_told() -> None:
    def slope(gradient: float) -> float:
        total = 0.0
        for index in range(4):
            light = np.log(
                simulate_layers(replace(SMALL, ice_gradient=gradient), index).transmission
            )
            height, width = light.shape
            rows, columns = np.indices(light.shape)
            design = np.stack([np.ones(light.size), rows.ravel(), columns.ravel()], axis=1)
            fit = np.linalg.lstsq(design, light.ravel(), rcond=None)[0]
            total += float(np.hypot(fit[1], fit[2])) * max(height, width)
        return total

    assert slope(0.8) > 2.0 * slope(0.3) > 2.0 * slope(0.0)


# ---- contaminants ----


@pytest.mark.parametrize("kind", ["carbon", "crystals", "gold", "clumps"])
def test_one_kind_alone(kind: str) -> None:
    alone = replace(
        SMALL, particles_per_micrograph=0, contaminants=ContaminantLevels(0.0, **{kind: 6.0})
    )
    wide = replace(alone, shape=(500, 500))
    images = [simulate_micrograph(wide, index) for index in range(3)]
    assert all(len(one.xy_px) == 0 for one in images)
    assert any(one.blocked.any() for one in images)
    assert not any(
        simulate_micrograph(
            replace(wide, contaminants=ContaminantLevels(6.0, 0, 0, 0, 0)), index
        ).blocked.any()
        for index in range(3)
    )
    shares = [float(one.blocked.mean()) for one in images]
    if kind == "gold":
        assert max(shares) < 0.03
    if kind == "carbon":
        assert min(shares) > 0.02


@pytest.mark.parametrize("level", [4.0, 10.0])
def test_from_level_4_on_every_micrograph_has_carbon(level: float) -> None:
    settings = replace(SMALL, contaminants=ContaminantLevels(0.0, carbon=level))
    shares = [float(simulate_micrograph(settings, index).blocked.mean()) for index in range(12)]
    assert min(shares) > 0.02
    assert max(shares) < 0.98


def test_a_number_is_that_level_of_all() -> None:
    for settings in (replace(SMALL, contaminants=2.0), replace(STAIN, contaminants=2.0)):
        named = replace(settings, contaminants=ContaminantLevels(2.0))
        one, other = simulate_micrograph(settings, 1), simulate_micrograph(named, 1)
        assert np.array_equal(one.image, other.image)


def test_carbon_only_is_carbon_everywhere_and_rougher() -> None:
    ice = replace(SMALL, particles_per_micrograph=0)
    carbon = replace(SMALL, particles_per_micrograph=None, carbon_only=True)
    empty, film = simulate_layers(ice, 0), simulate_layers(carbon, 0)
    assert film.micrograph.blocked.all()
    assert len(film.micrograph.xy_px) == 0
    rough = [np.std(one.background / one.transmission) for one in (empty, film)]
    assert rough[1] > 2.5 * rough[0]
    assert film.transmission.mean() < empty.transmission.mean()


@given(
    st.dictionaries(st.sampled_from(CONTAMINANT_KINDS), st.floats(0.0, 10.0)),
    st.none() | st.floats(0, 10),
)
def test_levels_are_read_as_they_are_written(named: dict[str, float], usual: float | None) -> None:
    parts = [] if usual is None else [repr(usual)]
    parts += [f"{kind}={level!r}" for kind, level in named.items()]
    if not parts:
        return
    read = parse_contaminant_levels(",".join(parts))
    levels = read if isinstance(read, ContaminantLevels) else ContaminantLevels(read)
    for kind in CONTAMINANT_KINDS:
        assert levels.level_of(kind) == named.get(kind, 1.0 if usual is None else usual)


@pytest.mark.parametrize(
    "text",
    " x carbon carbon= carbon=x wood=1 carbon=1,2 1,2 gold=1,gold=2 others=2 carbon=nan =3"
    " 1,,gold=2".split(" "),
)
def test_levels_that_cannot_be_read(text: str) -> None:
    with pytest.raises(BadInput, match="contaminants must be a number or levels"):
        parse_contaminant_levels(text)


# ---- masks ----


def test_masks_are_the_blocked_places(tmp_path: Path) -> None:
    dirty = replace(SMALL, count=2, contaminants=ContaminantLevels(1.0, carbon=4.0), masks=True)
    simulate(tmp_path, dirty)
    for index in range(2):
        with Pillow.open(tmp_path / "masks" / f"barrel_000{index + 1}.png") as picture:
            assert picture.mode == "L"
            mask = np.asarray(picture)
        blocked = simulate_micrograph(dirty, index).blocked
        assert np.array_equal(mask, np.where(blocked, 255, 0))


# ---- what makes no sense ----


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"ice_nm": 0.0}, "thickness of the ice"),
        ({"ice_nm": math.nan}, "thickness of the ice"),
        ({"ice_gradient": 1.5}, "gradient of the ice"),
        ({"detector": "film"}, "counting or integrating"),
        ({"negative_stain": True, "ice_nm": 60.0}, "no ice in negative stain"),
        ({"negative_stain": True, "ice_gradient": 0.1}, "no ice in negative stain"),
        (
            {"negative_stain": True, "contaminants": ContaminantLevels(crystals=1.0)},
            "no ice crystals",
        ),
        (
            {"negative_stain": True, "contaminants": ContaminantLevels(carbon=1.0)},
            "no carbon edges",
        ),
        ({"negative_stain": True, "carbon_only": True}, "Carbon-only micrographs are for ice"),
        (
            {"carbon_only": True, "particles_per_micrograph": 3},
            "no particles on carbon-only micrographs",
        ),
        (
            {"carbon_only": True, "contaminants": ContaminantLevels(carbon=2.0)},
            "no level of carbon",
        ),
        ({"carbon_only": True, "labels": 3}, "no labels without"),
        ({"particles_per_micrograph": 0, "labels": 3}, "no labels without"),
    ],
)
def test_settings_that_make_no_sense(bad: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        SimulationSettings(**bad)
    assert str(caught.value).endswith(".")


def test_levels_out_of_range() -> None:
    for bad in ({"others": 11.0}, {"gold": -1.0}, {"carbon": math.nan}):
        with pytest.raises(BadInput, match="level of contaminants"):
            ContaminantLevels(**bad)


# ---- the particle ----


def test_the_particle_is_built_in_drawn_or_read_from_a_file(tmp_path: Path) -> None:
    assert SimulationSettings().resolved_particle is PARTICLES["barrel"]
    own = PARTICLES["stick"]
    assert SimulationSettings(particle=own).resolved_particle is own
    drawn = SimulationSettings(particle="drawn-3", diameter_angstrom=200.0)
    assert drawn.resolved_particle is drawn.resolved_particle
    assert drawn.resolved_particle.diameter_angstrom == 200.0
    model = write_pdb(tmp_path / "lobes.pdb", *body())
    read = SimulationSettings(structure=model, assembly="none", diameter_angstrom=130.0)
    assert (read.resolved_particle.name, read.resolved_particle.diameter_angstrom) == (
        "lobes",
        130.0,
    )


@pytest.mark.parametrize(
    ("bad", "parameter"),
    [
        ({"particle": "cat"}, "particle"),
        ({"particle": "drawn-x"}, "particle"),
        ({"particle": PARTICLES["stick"], "diameter_angstrom": 90.0}, "diameter"),
        ({"particle": "drawn-1", "contour": 1.0}, "contour"),
        ({"assembly": "1"}, "assembly"),
    ],
)
def test_particles_that_there_are_not(bad: dict[str, Any], parameter: str) -> None:
    with pytest.raises(BadInput) as caught:
        SimulationSettings(**bad)
    assert caught.value.parameter == parameter


def test_the_usual_signal_is_stronger_in_stain() -> None:
    assert SMALL.resolved_snr == 0.12
    assert STAIN.resolved_snr == 1.0
    assert replace(STAIN, snr=0.5).resolved_snr == 0.5


# ---- the command ----


def test_every_option_at_the_command_line(tmp_path: Path) -> None:
    model = write_pdb(tmp_path / "lobes.pdb", *body())
    out = tmp_path / "out"
    options = "--count 1 --size-px 256x200 --pixel-size 6 --particles 5 --diameter 130"
    options += " --assembly none --ice 60 --ice-gradient 0.2 --detector integrating --inverted"
    options += " --eight-bit --masks --contaminants 0,carbon=4 --labels 3"
    result = call("simulate", out, "--structure", model, *options.split())
    assert result.code == 0
    assert "lobes: 3955 atoms of lobes.pdb (no assembly)" in result.err
    assert "diameter set to 130 Å" in result.err
    assert (out / "masks" / "lobes_0001.png").is_file()
    with mrcfile.open(out / "micrographs" / "lobes_0001.mrc") as mrc:
        assert mrc.data.dtype == np.int8


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--structure absent.pdb", "absent.pdb does not exist"),
        ("--structure absent.pdb --particle shell", "not both"),
        ("--diameter 100", "--diameter is only for the particle"),
        ("--assembly 1", "--assembly is only for the particle"),
        ("--contour 1", "--contour is only for the particle"),
        ("--negative-stain --ice 60", "do not set its thickness or gradient (--ice)."),
        ("--contaminants carbon", "not 'carbon' (--contaminants)"),
        ("--contaminants carbon=11", "not 11.0 (--contaminants)."),
        ("--detector film", "counting or integrating, not 'film' (--detector)."),
        ("--carbon-only --particles 4", "do not set a number (--particles)."),
        ("--size-px 5y", "--size-px must be like 1024 or 5760x4092 (width x height), not '5y'"),
        ("--size-px 8", "an integer of at least 16, not 8 (--size-px)."),
        ("--defocus-min 3", "larger than the maximum, 2.2 µm (--defocus-min)."),
        ("--defocus-max 30", "between 0.05 and 20, not 30.0 (--defocus-max)."),
        ("--pixel-size 50", "too coarse for the barrel"),
        ("--particle cat", "stick (--particle)."),
    ],
)
def test_the_command_refuses_in_one_sentence(options: str, said: str, tmp_path: Path) -> None:
    result = call("simulate", tmp_path / "out", *options.split())
    assert result.code == 2
    assert said in result.err
    assert result.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_particles_of_the_family_are_drawn_by_their_number(tmp_path):
    out = tmp_path / "drawn"
    size = ("--size-px", "128x128", "--count", 1, "--diameter", 150)
    assert call("simulate", out, "--particle", "drawn-12", *size).code == 0
    assert (out / "micrographs" / "drawn-12_0001.mrc").is_file()
    result = call("simulate", tmp_path / "none", "--particle", "drawn-x", *size)
    assert result.code == 2
    assert "number" in result.sentence
