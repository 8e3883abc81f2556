from __future__ import annotations

from dataclasses import fields

import pytest

from heliodor.errors import BadInput
from heliodor.picking.filaments.settings import (
    OF_FILAMENTS,
    FilamentSettings,
    refuse_particle_options,
)
from heliodor.picking.settings import PickSettings

#: A value of each option of picking that is not its default.
OTHER = {
    "threshold": 1.0,
    "max_fdr": 0.1,
    "exclusion_radius_angstrom": 50.0,
    "edge_margin_angstrom": 20.0,
    "box_px": 200,
    "scores": "dense",
    "threshold_series": 3,
    "bad_areas": "keep",
    "mask": ["masks"],
    "max_contamination": 0.5,
    "bad_area_masks": True,
}


def test_every_option_of_picking_is_used_or_refused() -> None:
    assert {*OTHER} == {each.name for each in fields(PickSettings)}
    for name, value in OTHER.items():
        picking = PickSettings(**{name: value})
        if name in OF_FILAMENTS:
            refuse_particle_options(picking, {})
            continue
        with pytest.raises(BadInput, match="for particles") as error:
            refuse_particle_options(picking, {})
        assert error.value.parameter == name.removesuffix("_angstrom")


def test_other_options_are_refused_where_they_are_given() -> None:
    refuse_particle_options(PickSettings(), {"adapt": False, "diameter": None})
    for name, value in {"adapt": True, "diameter": 120.0, "part": "1/2"}.items():
        with pytest.raises(BadInput) as error:
            refuse_particle_options(PickSettings(), {name: value})
        assert error.value.parameter == name


@pytest.mark.parametrize(
    ("values", "parameter"),
    [
        ({"width_angstrom": 70.0}, "width"),
        ({"gap_angstrom": 70.0}, "gap"),
        ({"to": ["box"]}, "to"),
        ({"segments_angstrom": 40.0}, "segments"),
        ({"filaments": True, "width_angstrom": 70.0, "gap_angstrom": -1.0}, "gap"),
        ({"filaments": True, "width_angstrom": 70.0, "min_radius_angstrom": 0.0}, "min_radius"),
        ({"filaments": True, "width_angstrom": 70.0, "segments_angstrom": 0.0}, "segments"),
        ({"filaments": True, "width_angstrom": 70.0, "to": ["csv"]}, "to"),
        ({"filaments": True, "width_angstrom": 70.0, "to": ["filaments"]}, "to"),
    ],
)
def test_what_cannot_be_is_refused(values: dict, parameter: str) -> None:
    with pytest.raises(BadInput) as error:
        FilamentSettings(**values)
    assert error.value.parameter == parameter


def test_lengths_follow_from_the_width_and_the_pixel_size() -> None:
    geometry = FilamentSettings(True, min_length_angstrom=100.0).geometry_px(80.0, 2.0)
    assert geometry.width_px == 40.0
    assert geometry.gap_px == 80.0
    assert geometry.radius_px == 160.0
    assert geometry.least_length_px == 50.0
