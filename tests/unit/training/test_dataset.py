from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliodor.conventions import FloatArray, disc_area_px
from heliodor.data.coordinates.label_assignment import LabeledSource, assign_labels
from heliodor.data.coordinates.labels import make_label_mask
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.fourier_crop import fourier_crop
from heliodor.data.micrographs.modes import NORMALIZATION_MODES, NormalizationMode
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.errors import BadInput
from heliodor.training.dataset import (
    FEWEST_TO_VALIDATE,
    assemble_training_set,
    choose_sources,
    describe_few_labels,
)
from heliodor.training.settings import DataSettings
from helpers.networks import (
    discs,
    noise,
    write_mrc,
)

#: Particles of 40 A, 10 original pixels of 4 A, 5 working pixels of 8 A; training radius 1.25.
SETTINGS = DataSettings(40.0, expected_particles=20, training_radius_angstrom=10)
#: With micrographs kept aside.
SHAPE = (96, 120)


def at(*xy: tuple[float, float]) -> FloatArray:
    return np.array(xy, dtype=np.float64).reshape(-1, 2)


def source(name: str) -> Source:
    return Source(name, Path(name), name.removesuffix(".mrc"))


def labels(**xy: FloatArray) -> Picks:
    return Picks.concatenate([Picks.on(f"{name}.mrc", points) for name, points in xy.items()])


def grid(number: int) -> FloatArray:
    """Points well inside the images, none near another."""
    return at(*((10 + 12 * (i % 8), 10 + 12 * (i // 8 % 6)) for i in range(number)))


@pytest.fixture(scope="module")
def mics(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Source]:
    """Four micrographs of the usual shape, one of another, and one file that is none."""
    folder = tmp_path_factory.mktemp("mics")
    found = {n: write_mrc(folder / f"{n}.mrc", noise(SHAPE, ord(n))) for n in "abcd"}
    found["tall"] = write_mrc(folder / "tall.mrc", 5 + noise((130, 64), 9))
    (folder / "broken.mrc").write_bytes(b"no micrograph")
    found["broken"] = Source("broken.mrc", folder / "broken.mrc", "broken")
    return found


def images() -> WorkingImages:
    return WorkingImages(8.0)


def test_each_micrograph_gets_its_own_labels() -> None:
    sources = [source(n) for n in ("b.mrc", "a.mrc", "c.mrc")]
    table = labels(a=at((1, 2), (3, 4)), b=at((5, 6)))
    assigned, notes = assign_labels(table, sources)
    assert [item.source for item in assigned] == sources
    assert [item.xy_px.tolist() for item in assigned] == [[[5, 6]], [[1, 2], [3, 4]], []]
    assert all(item.xy_px.shape == (len(item.xy_px), 2) for item in assigned)
    assert notes == []


def test_scores_and_the_order_of_the_rows_do_not_matter() -> None:
    table = Picks.from_columns(["a", "b", "a"], at((1, 1), (2, 2), (3, 3)), np.zeros(3))
    assigned, _ = assign_labels(table, [source("x/a.mrc"), source("x/b.mrc")])
    assert [item.xy_px.tolist() for item in assigned] == [[[1, 1], [3, 3]], [[2, 2]]]


def test_two_names_of_one_micrograph_are_joined() -> None:
    table = Picks.from_columns(["a.mrc", "a"], at((1, 1), (2, 2)))
    assigned, notes = assign_labels(table, [source("a.mrc")])
    assert assigned[0].xy_px.tolist() == [[1, 1], [2, 2]]
    assert notes == []


def test_labels_of_strangers_are_noted() -> None:
    table = labels(a=at((1, 1)), x=grid(3), y=grid(4))
    assigned, notes = assign_labels(table, [source("a.mrc")])
    assert len(assigned[0].xy_px) == 1
    assert len(notes) == 1
    assert notes[0].startswith("ignored 7 labels on 2 micrographs (such as x.mrc)")


def test_a_stranger_without_labels_is_not_worth_a_note() -> None:
    assert assign_labels(labels(a=at((1, 1)), x=at()), [source("a.mrc")])[1] == []


def test_no_labels_at_all() -> None:
    for table in (Picks.empty(), Picks.empty(["a.mrc"])):
        with pytest.raises(BadInput, match="contain no particles"):
            assign_labels(table, [source("a.mrc")])


def test_labels_of_none_of_the_micrographs() -> None:
    with pytest.raises(BadInput, match=r"none of the 3 labels .* x.mrc.* like a.mrc"):
        assign_labels(labels(x=grid(3)), [source("a.mrc"), source("b.mrc")])
    # A micrograph that is listed with no label on it does not help.
    with pytest.raises(BadInput, match="none of the 3 labels"):
        assign_labels(labels(x=grid(3), a=at()), [source("a.mrc")])


def labelled(having: int, lacking: int = 0) -> list[LabeledSource]:
    """Micrographs with and without labels, in mixed order."""
    items = [LabeledSource(source(f"h{i}"), grid(2)) for i in range(having)]
    items += [LabeledSource(source(f"l{i}"), at()) for i in range(lacking)]
    return [items[i] for i in np.random.default_rng(0).permutation(len(items))]


@settings(max_examples=100, deadline=None)
@given(
    having=st.integers(1, 12),
    lacking=st.integers(0, 12),
    share=st.floats(0, 1, exclude_max=True),
    seed=st.integers(0, 2**32),
)
def test_the_law_of_the_split(having: int, lacking: int, share: float, seed: int) -> None:
    items = labelled(having, lacking)
    training, validation, notes = choose_sources(items, share, seed)
    names = [item.source.name for item in training + validation]
    assert len(set(names)) == len(names)
    known = {item.source.name: item for item in items}
    assert all(item is known[item.source.name] for item in training + validation)
    # Labeled micrographs only, none of them lost, and at least one to train on.
    assert all(len(item.xy_px) for item in training + validation)
    assert len(training) + len(validation) == having
    assert training
    few = having < FEWEST_TO_VALIDATE
    if share == 0 or few:
        assert not validation
    else:
        wanted = max(1, round(share * having))
        assert len(validation) == min(wanted, having - 1)
    assert (len(notes) == 1) == (share > 0 and few)
    # Each kind stays in the order given.
    for part in (training, validation):
        order = [list(known).index(item.source.name) for item in part]
        assert order == sorted(order)
    again = choose_sources(items, share, seed)
    assert again[:2] == (training, validation)


def test_the_seed_chooses() -> None:
    chosen = {choose_sources(labelled(10), 0.2, seed)[1][0].source.name for seed in range(30)}
    assert len(chosen) > 5


@pytest.mark.parametrize("having", [1, 4])
def test_few_labelled_micrographs_are_all_for_training(having: int) -> None:
    training, validation, notes = choose_sources(labelled(having, 2), 0.2, 0)
    assert len(training) == having
    assert validation == []
    assert f"only {having} micrographs have labels" in notes[0]
    assert "the last epoch is used" in notes[0]


def test_no_validation_wanted_is_no_reason_for_a_note() -> None:
    training, validation, notes = choose_sources(labelled(5), 0.0, 0)
    assert (len(training), validation, notes) == (5, [], [])


def test_negatives_go_to_their_micrographs() -> None:
    sources = [source("a"), source("b")]
    labels = Picks.from_columns(["a", "a"], at((1, 2), (3, 4)))
    negatives = Picks.from_columns(["a", "b", "z"], at((5, 6), (7, 8), (9, 9)))
    items, notes = assign_labels(labels, sources, negatives)
    assert [item.negative_xy_px.tolist() for item in items] == [[[5, 6]], [[7, 8]]]
    assert [item.xy_px.tolist() for item in items] == [[[1, 2], [3, 4]], []]
    assert notes[0].startswith("ignored 1 negatives on 1 micrographs (such as z)")
    assert notes[1].startswith("ignored 1 negatives on micrographs without labels")
    with pytest.raises(BadInput, match="none of the 1 negatives belongs to the given micrographs"):
        assign_labels(labels, sources, Picks.from_columns(["z"], at((1, 1))))
    with pytest.raises(BadInput, match="the negatives contain no coordinates"):
        assign_labels(labels, sources, Picks.empty(["a"]))


@pytest.mark.parametrize("mode", NORMALIZATION_MODES)
def test_images_and_labels_lie_on_each_other(
    mode: NormalizationMode, mics: dict[str, Source], tmp_path: Path
) -> None:
    xy = at((20, 16), (60.5, 33), (100, 80))
    dark = write_mrc(tmp_path / "dark.mrc", 50 + 2 * discs(SHAPE, xy.round(), depth=6))
    items = [LabeledSource(dark, xy), LabeledSource(mics["tall"], grid(1))]
    made = assemble_training_set(items, [], images(), replace(SETTINGS, normalization=mode))
    image, tall = made.images
    assert image.shape == (48, 60)
    assert tall.shape == (65, 32)
    np.testing.assert_allclose(image.xy_px, xy / 2)
    np.testing.assert_allclose(tall.xy_px, [[5, 5]])
    # The particle is where its label is.
    centre = [image.image[round(y), round(x)] for x, y in image.xy_px]
    around = float(np.median(image.image))
    assert max(centre) < around - 1.5
    assert image.image.dtype == np.float32
    if mode != "none":  # normalized, not merely cropped
        assert abs(np.median(image.image)) < 0.5
    expected = fourier_crop(50 + 2 * discs(SHAPE, xy.round(), depth=6), (48, 60))
    np.testing.assert_allclose(image.image, made.normalizer.apply(expected), atol=1e-4)
    assert made.normalizer.mode == mode


def test_what_it_says_of_itself(mics: dict[str, Source]) -> None:
    items = [
        LabeledSource(mics["a"], grid(4)),
        LabeledSource(mics["b"], grid(2)),
        LabeledSource(mics["c"], at()),
    ]
    check = [LabeledSource(mics["d"], grid(3))]
    steps: list[tuple[int, int]] = []
    made = assemble_training_set(
        items, check, images(), SETTINGS, lambda *step: steps.append(step)
    )
    assert made.names == ["a.mrc", "b.mrc", "c.mrc"]
    assert made.validation_names == ["d.mrc"]
    assert [len(i.xy_px) for i in made.images] == [4, 2, 0]
    assert [len(i.xy_px) for i in made.validation] == [3]
    assert made.labelled_particles == 6
    assert made.expected_particles == 20
    assert made.radius_px == pytest.approx(1.25)
    assert (made.failures, made.notes) == ([], [])
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    # 20 discs of 5 pixels an image, less those of its labels; images count as their labels do.
    covered = [make_label_mask(i.xy_px, i.shape, 1.25).sum() for i in made.images]
    assert disc_area_px(1.25) == 5
    assert covered == [20, 10, 0]
    first, second = ((20 * 5 - pixels) / (48 * 60 - pixels) for pixels in covered[:2])
    assert made.prior == pytest.approx((2 * first + second) / 3)


@pytest.mark.parametrize(
    ("count", "outside", "kept"), [(20, 1, True), (40, 2, True), (20, 2, False), (1, 1, False)]
)
def test_few_labels_outside_are_left_out_and_many_refused(
    count: int, outside: int, kept: bool, mics: dict[str, Source]
) -> None:
    # 120 is the width: the first x beyond the last pixel is 119.5.
    xy = grid(count)
    xy[:outside] = (119.6, 50)
    items = [LabeledSource(mics["a"], xy)]
    if kept:
        made = assemble_training_set(items, [], images(), replace(SETTINGS, expected_particles=50))
        assert made.labelled_particles == count - outside
        assert len(made.images[0].xy_px) == count - outside
        assert made.images[0].xy_px.max() < 60
        assert len(made.notes) == 1
        assert made.notes[0].startswith(f"ignored {outside} labels outside their micrograph")
        assert "a.mrc has 120 x 96 pixels, but there is a label at (119.6, 50)" in made.notes[0]
    else:
        with pytest.raises(BadInput, match=rf"^{outside} of {count} labels lie outside"):
            assemble_training_set(items, [], images(), SETTINGS)


def test_labels_of_validation_count_among_those_outside(mics: dict[str, Source]) -> None:
    wrong = LabeledSource(mics["b"], grid(10) + 1000)
    with pytest.raises(BadInput, match=r"10 of 14 labels lie outside .* x and y are swapped"):
        assemble_training_set([LabeledSource(mics["a"], grid(4))], [wrong], images(), SETTINGS)


def test_labels_on_the_very_edge_are_inside(mics: dict[str, Source]) -> None:
    edge = at((-0.5, -0.5), (119.5, 95.5), (0, 95), (119, 0))
    made = assemble_training_set([LabeledSource(mics["a"], edge)], [], images(), SETTINGS)
    assert made.labelled_particles == 4
    assert made.notes == []


def test_fewer_expected_than_labelled_is_noted(mics: dict[str, Source]) -> None:
    few = replace(SETTINGS, expected_particles=3)
    made = assemble_training_set([LabeledSource(mics["a"], grid(4))], [], images(), few)
    assert len(made.notes) == 1
    assert "expecting 3 particles per micrograph" in made.notes[0]
    assert "4 labels" in made.notes[0]
    assert made.expected_particles == 3
    assert made.prior == 1e-4
    enough = replace(SETTINGS, expected_particles=4)
    made = assemble_training_set([LabeledSource(mics["a"], grid(4))], [], images(), enough)
    assert made.notes == []


def test_without_a_number_it_starts_from_a_guess(mics: dict[str, Source]) -> None:
    unknown = replace(SETTINGS, expected_particles=None)
    made = assemble_training_set([LabeledSource(mics["a"], grid(4))], [], images(), unknown)
    area = 96 * 120 * 4.0**2
    guess = 0.15 * area / (math.pi * 20**2)
    assert guess > 4
    assert made.expected_particles == pytest.approx(guess)
    assert made.notes == []
    # A guess below what is labeled would be absurd, wherever that is labeled.
    full = LabeledSource(mics["b"], grid(40))
    made = assemble_training_set([LabeledSource(mics["a"], grid(4))], [full], images(), unknown)
    assert made.expected_particles == 40


def test_a_file_that_cannot_be_read_spoils_no_other(mics: dict[str, Source]) -> None:
    items = [
        LabeledSource(mics["broken"], grid(9) + 1000),
        LabeledSource(mics["a"], grid(4)),
    ]
    made = assemble_training_set(items, [], images(), SETTINGS)
    assert made.names == ["a.mrc"]
    assert made.labelled_particles == 4
    assert [failure.name for failure in made.failures] == ["broken.mrc"]
    assert made.notes == []


def test_validation_that_cannot_be_read_is_noted(mics: dict[str, Source]) -> None:
    made = assemble_training_set(
        [LabeledSource(mics["a"], grid(4))],
        [LabeledSource(mics["broken"], grid(4))],
        images(),
        SETTINGS,
    )
    assert (made.validation, made.validation_names) == ([], [])
    assert len(made.notes) == 1
    assert "last epoch is used" in made.notes[0]


def test_nothing_to_train_on(mics: dict[str, Source]) -> None:
    broken = LabeledSource(mics["broken"], grid(4))
    blank = LabeledSource(mics["a"], at())
    check = LabeledSource(mics["b"], grid(40))
    with pytest.raises(BadInput, match=r"broken\.mrc"):
        assemble_training_set([broken], [], images(), SETTINGS)
    with pytest.raises(BadInput, match=r"no labeled micrograph can be .*broken\.mrc"):
        assemble_training_set([broken, blank], [check], images(), SETTINGS)
    lost = LabeledSource(mics["a"], at((500, 500)))
    with pytest.raises(BadInput, match=r"no labeled micrograph can be .*outside"):
        assemble_training_set([lost], [check], images(), SETTINGS)


def test_micrographs_coarser_than_wanted_set_the_scale_of_all(tmp_path: Path) -> None:
    fine = write_mrc(tmp_path / "fine.mrc", noise((96, 96), 1), 4.0)
    coarse = write_mrc(tmp_path / "coarse.mrc", noise((64, 80), 2), 8.0)
    hopeless = write_mrc(tmp_path / "hopeless.mrc", noise((64, 64), 3), 11.0)
    items = [LabeledSource(s, grid(3)) for s in (fine, coarse, hopeless)]
    wanted = WorkingImages(5.0)
    made = assemble_training_set(items, [], wanted, DataSettings(60.0, expected_particles=20))
    # A particle of 60 A needs 6 pixels of 10 A at least.
    assert [failure.name for failure in made.failures] == ["hopeless.mrc"]
    assert wanted.working_pixel_size_angstrom == 8
    assert [image.shape for image in made.images] == [(48, 48), (64, 80)]
    np.testing.assert_allclose(made.images[0].xy_px, grid(3) / 2)
    np.testing.assert_allclose(made.images[1].xy_px, grid(3))
    assert made.radius_px == pytest.approx(60 / 8 / 8)
    assert len(made.notes) == 1
    assert "8 Å/pixel, coarser than the 5 Å/pixel" in made.notes[0]
    # Micrographs read later must suit the model, not merely the particle.
    later = write_mrc(tmp_path / "later.mrc", noise((64, 64), 4), 9.9)
    with pytest.raises(BadInput, match="too coarse"):
        wanted.get(later)


def test_one_coarse_header_does_not_coarsen_the_rest(tmp_path: Path) -> None:
    sources = [write_mrc(tmp_path / f"{i}.mrc", noise((96, 96), i), 4.0) for i in range(3)]
    odd = write_mrc(tmp_path / "odd.mrc", noise((96, 96), 9), 9.0)
    items = [LabeledSource(source, grid(3)) for source in (*sources, odd)]
    wanted = WorkingImages(5.0)
    made = assemble_training_set(items, [], wanted, DataSettings(60.0, expected_particles=20))
    assert [failure.name for failure in made.failures] == [odd.name]
    assert "9 Å/pixel, but the others have 4 Å/pixel" in made.failures[0].reason
    assert wanted.working_pixel_size_angstrom == 5
    assert made.notes == []


def test_labels_in_pixels_of_another_size_are_refused(mics: dict[str, Source]) -> None:
    actual = images().get(mics["a"]).pixel_size_angstrom
    said = replace(LabeledSource(mics["a"], grid(4)), pixel_size_angstrom=1.01 * actual)
    assemble_training_set([said], [], images(), SETTINGS)
    with pytest.raises(BadInput, match="are at 8 Å/pixel, but the micrograph is at 4 Å/pixel"):
        assemble_training_set(
            [replace(said, pixel_size_angstrom=2 * actual)], [], images(), SETTINGS
        )


@pytest.mark.parametrize(
    ("ratio", "changes"),
    [
        # A recalibration; and what the user knows better.
        (1.06, {}),
        (0.94, {}),
        (2.0, {"check_frame": False}),
        (2.0, {"pixel_size_angstrom": 4.0}),
    ],
)
def test_a_recalibration_or_the_user_overrules_the_pixel_size_of_labels(
    mics: dict[str, Source], ratio: float, changes: dict[str, Any]
) -> None:
    item = replace(LabeledSource(mics["a"], grid(4)), pixel_size_angstrom=4 * ratio)
    made = assemble_training_set([item], [], images(), replace(SETTINGS, **changes))
    (note,) = (note for note in made.notes if "used as they are" in note)
    assert f"a.mrc are at {4 * ratio:g} Å/pixel, but the micrograph is at 4 Å/pixel" in note
    assert len(made.images[0].xy_px) == 4


def test_micrographs_of_one_name_in_two_folders_are_two(tmp_path: Path) -> None:
    sources = []
    for folder in ("one", "two"):
        path = tmp_path / folder / "a.mrc"
        sources.append(replace(write_mrc(path, noise(SHAPE)), name=str(path)))
    items = [LabeledSource(s, grid(i + 1)) for i, s in enumerate(sources)]
    made = assemble_training_set([items[0]], [items[1]], images(), SETTINGS)
    assert [len(made.images[0].xy_px), len(made.validation[0].xy_px)] == [1, 2]
    assert made.names != made.validation_names


def test_the_training_radius_is_an_eighth_of_the_diameter() -> None:
    assert DataSettings(180.0).radius_angstrom == 22.5
    assert DataSettings(180.0, training_radius_angstrom=30).radius_angstrom == 30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"diameter_angstrom": 0.0}, "diameter"),
        ({"diameter_angstrom": math.nan}, "diameter"),
        ({"diameter_angstrom": 1e6}, "diameter"),
        ({"normalization": "topaz"}, "normalization"),
        ({"expected_particles": 0}, "expected number of particles"),
        ({"expected_particles": -3}, "expected number of particles"),
        ({"expected_particles": math.nan}, "expected number of particles"),
        ({"expected_particles": math.inf}, "expected number of particles"),
        ({"validation_share": 1.0}, "validation"),
        ({"validation_share": -0.1}, "validation"),
        ({"validation_share": math.nan}, "validation"),
        ({"training_radius_angstrom": 0.0}, "training radius"),
        ({"training_radius_angstrom": 40.0}, "training radius"),
        ({"working_pixel_size_angstrom": -1.0}, "working pixel size"),
        ({"working_pixel_size_angstrom": 41.0}, "working pixel size"),
        ({"pixel_size_angstrom": math.nan}, "pixel size"),
    ],
)
def test_bad_settings(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        replace(SETTINGS, **change)
    assert "\n" not in str(caught.value)


def test_the_background_follows_the_diameter_unless_a_length_is_given() -> None:
    assert DataSettings(200.0).background_angstrom == pytest.approx(120)
    assert DataSettings(200.0, flatten_angstrom=0).background_angstrom == 0
    assert DataSettings(200.0, flatten_angstrom=500).background_angstrom == 500
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(BadInput, match="flatten"):
            DataSettings(200.0, flatten_angstrom=wrong)


def test_few_labels_are_said() -> None:
    assert describe_few_labels(30, 1) is None
    assert describe_few_labels(10, 2) is None
    few = describe_few_labels(5, 1)
    assert few is not None
    assert few.startswith("5 labels on 1 micrograph: ")
    assert describe_few_labels(29, 1) is not None
    assert describe_few_labels(9, 9) is not None
