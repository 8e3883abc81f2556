"""Tables of heliodor and coordinates of Scipion."""

import pytest

from heliodor_em import convert


@pytest.mark.parametrize(
    ("position", "pixel"),
    [(0.0, 0), (0.49, 0), (0.5, 1), (2.5, 3), (7.51, 8), (-0.4, 0), (-0.6, -1)],
)
def test_a_position_is_in_the_nearest_pixel(position, pixel):
    assert convert.to_pixel(position) == pixel


def test_the_box_is_even_and_holds_the_particle():
    assert convert.default_box_size(180, 4) == 68
    assert convert.default_box_size(100, 1) == 150
    assert convert.default_box_size(181, 1.01) % 2 == 0


def test_picks_of_a_run_are_split_by_micrograph(tmp_path):
    head = "micrograph\tx_px\ty_px\tlog_odds\tprobability\tselected\n"
    rows = ["a b.mrc\t1.5\t2\t3\t0.9\t1\n", 'c".mrc\t4\t5\t6\t0.9\t1\n']
    rows.append("a b.mrc\t7\t8\t-9\t0\t0\n")  # not selected
    (tmp_path / "picks.tsv").write_text(head + "".join(rows))
    paths = {name: str(tmp_path / f"{n}.tsv") for n, name in enumerate(("a b.mrc", 'c".mrc', "d"))}
    convert.split_picks(str(tmp_path), paths)
    assert convert.read_picks(paths["a b.mrc"]) == [(1.5, 2, 3)]
    assert convert.read_picks(paths['c".mrc']) == [(4, 5, 6)]
    assert convert.read_picks(paths["d"]) == []
    assert not list(tmp_path.glob("*.new"))


def test_many_failures_are_counted_and_the_first_are_named():
    lines = convert.describe_failures([(f"{n}.mrc", "damaged") for n in range(12)])
    assert lines[0] == "*12 micrographs could not be used:*"
    assert lines[1] == "0.mrc: damaged"
    assert lines[-1].startswith("and 2 more")
    assert convert.describe_failures([]) == []
