"""Simulated particles from files: atomic models, their assemblies, and density maps."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import gemmi
import mrcfile
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

from heliodor.conventions import FloatArray, Image
from heliodor.errors import BadInput
from heliodor.simulation import (
    Particle,
    SimulationSettings,
    read_structure,
    simulate,
)
from heliodor.simulation import atomic_models as atoms_module
from heliodor.simulation.assemblies import read_mmcif_assemblies
from heliodor.simulation.atomic_models import read_atoms
from heliodor.simulation.point_clouds import (
    bin_points,
    estimate_preferred_views,
    longest_extent,
)
from heliodor.simulation.projection import add_projection
from helpers.atomic_models import (
    OPERATORS,
    body,
    density,
    write_map,
    write_mmcif,
    write_pdb,
)

POINTS, ELEMENTS = body()
SIDE, PIXEL = 100, 2.0
#: Of a Gaussian of 6 A resolution.
SIGMA = 6.0 * 0.2251
ANGLES = ((0.0, 0.0, 0.0), (30.0, 60.0, 10.0), (-100.0, 90.0, 55.0), (75.0, 140.0, -20.0))
PARTS = ("1", "1,2", "A"), ("2", "1", "A")


def scattering(elements: list[str]) -> FloatArray:
    """Return f(0) as in the International Tables; for a share of each element it is a constant."""
    known = {"C": 2.509, "N": 2.214, "O": 1.983}
    return np.array([known[element] for element in elements])


def projected(particle: Particle, angles: tuple[float, float, float]) -> Image:
    image = np.zeros((SIDE, SIDE), np.float32)
    middle = np.array([SIDE / 2, SIDE / 2])
    add_projection(image, particle.blobs, np.array(angles), middle, PIXEL)
    return image


def summed(points: FloatArray, weights: FloatArray, angles: tuple[float, float, float]) -> Image:
    """Project atom by atom, with another library's rotations: ZYZ, intrinsic, inverted."""
    turned = (
        Rotation.from_euler("ZYZ", angles, degrees=True)
        .inv()
        .apply(points - np.average(points, axis=0, weights=weights))
    )
    axis = (np.arange(SIDE) - SIDE / 2) * PIXEL
    columns = np.exp(-0.5 * ((axis - turned[:, :1]) / SIGMA) ** 2)
    rows = np.exp(-0.5 * ((axis - turned[:, 1:2]) / SIGMA) ** 2)
    return np.asarray(rows.T @ (weights[:, None] * columns), dtype=np.float32)


def correlation(one: Image, other: Image) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@pytest.fixture(scope="module")
def pdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pdb(tmp_path_factory.mktemp("model") / "body.pdb", POINTS, ELEMENTS)


@pytest.fixture(scope="module")
def cif(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "body.cif"
    return write_mmcif(path, POINTS, ELEMENTS, assemblies=PARTS)


@pytest.fixture(scope="module")
def grid() -> NDArray[np.float32]:
    corner = np.full(3, -81.0)
    return density(POINTS, scattering(ELEMENTS), SIGMA, 1.5, corner, (108, 110, 112))


# ---- atoms ----


@pytest.mark.parametrize("angles", ANGLES)
def test_projections_agree_with_a_sum_over_atoms(
    pdb: Path, angles: tuple[float, float, float]
) -> None:
    image = projected(read_structure(pdb), angles)
    exact = summed(POINTS, scattering(ELEMENTS), angles)
    assert correlation(image, exact) > 0.995
    mirrored = exact[:, ::-1]
    assert correlation(image, mirrored) < 0.97


def test_a_large_assembly_in_few_blobs_still_agrees() -> None:
    rng = np.random.default_rng(3)
    copies = [
        turn.apply(POINTS + np.array([60.0, 0.0, 0.0]))
        for turn in Rotation.random(12, random_state=rng)
    ]
    points = np.concatenate(copies)
    weights = np.tile(scattering(ELEMENTS), 12)
    blobs = bin_points(points, weights, SIGMA, most=1500)
    assert 500 < len(blobs) <= 1500
    particle = Particle("many", "", 200.0, 0.03, estimate_preferred_views(blobs), lambda: blobs)
    for angles in ANGLES:
        assert correlation(projected(particle, angles), summed(points, weights, angles)) > 0.98


@given(st.integers(0, 2**32), st.integers(1, 400), st.floats(0.1, 300.0), st.integers(1, 60))
def test_gathering_keeps_mass_centre_and_second_moment(
    seed: int, count: int, spread: float, most: int
) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(scale=spread, size=(count, 3)) * [1.0, 0.3, 2.0]
    weights = rng.uniform(0.1, 3.0, count)
    blobs = bin_points(points, weights, 2.0, most)
    assert 1 <= len(blobs) <= most
    assert blobs.weights.sum() == pytest.approx(weights.sum())
    centre = (blobs.weights[:, None] * blobs.positions).sum(axis=0)
    assert np.allclose(centre, 0.0, atol=1e-6 * weights.sum() * (spread + 1.0))
    points = points - np.average(points, axis=0, weights=weights)
    trace = np.sum(weights * (np.sum(points**2, axis=1) + 3.0 * 4.0))
    gained = np.sum(blobs.positions**2, axis=1) + 3.0 * blobs.sigmas**2
    assert np.sum(blobs.weights * gained) == pytest.approx(trace)


@given(st.integers(0, 2**32), st.integers(2, 300), st.sampled_from([1.0, 0.05, 0.0]))
def test_longest_extent_is_that_of_all_pairs(seed: int, count: int, flatness: float) -> None:
    points = np.random.default_rng(seed).normal(scale=40.0, size=(count, 3)) * [1, flatness, 0.5]
    exact = float(pdist(points).max())
    assert 0.998 * exact <= longest_extent(points) <= exact * (1 + 1e-9)


def test_a_model_is_as_long_as_its_atoms_and_contrast_is_of_the_usual_size(pdb: Path) -> None:
    particle = read_structure(pdb)
    # Atoms are spheres about their centers.
    assert particle.diameter_angstrom == pytest.approx(pdist(POINTS).max() + 3.4, abs=0.5)
    assert particle.name == "body"
    assert "3955 atoms of body.pdb" in particle.description
    assert "99 Å long" in particle.description
    assert 0.005 < particle.contrast < 0.06
    told = read_structure(pdb, diameter_angstrom=140.0)
    assert told.diameter_angstrom == 140.0
    assert "diameter set to 140 Å" in told.description


def test_preferred_views_look_along_the_principal_axes(pdb: Path) -> None:
    particle = read_structure(pdb)
    spreads = []
    for view in particle.views:
        assert view.rot_deg is not None
        tilt, rot = np.deg2rad([view.tilt_deg, view.rot_deg])
        along = [np.sin(tilt) * np.cos(rot), np.sin(tilt) * np.sin(rot), np.cos(tilt)]
        spreads.append(float(np.std(POINTS @ along)))
        # The beam is that direction: nothing of it is left in the projection.
        turned = Rotation.from_euler("ZYZ", [rot, tilt, 0.0]).inv().apply([along])[0]
        assert np.allclose(turned, [0.0, 0.0, 1.0], atol=1e-9)
    # Flat on the broadest face most often.
    assert spreads == sorted(spreads)
    assert particle.views[0].share > particle.views[1].share > particle.views[2].share


def test_water_and_empty_sites_are_left_out_and_occupancies_count(tmp_path: Path) -> None:
    path = write_pdb(tmp_path / "some.pdb", POINTS[:200], ELEMENTS[:200])
    water = write_pdb(tmp_path / "water.pdb", POINTS[200:300], ELEMENTS[200:300], residue="HOH")
    lines = path.read_text().splitlines()[:-1]
    lines[0] = lines[0].replace("1.00 20.00", "0.00 20.00")
    lines[1] = lines[1].replace("1.00 20.00", "0.50 20.00")
    path.write_text("\n".join(lines) + "\n" + water.read_text())
    atoms = read_atoms(path)
    assert np.allclose(atoms.points, POINTS[1:200])
    known = scattering(ELEMENTS[1:200]) * 1.22  # with the hydrogens that are left out
    known[0] *= 0.5
    assert np.allclose(atoms.scattering, known, rtol=2e-3)


def test_the_first_model_of_several_counts(tmp_path: Path) -> None:
    one = write_pdb(tmp_path / "one.pdb", POINTS[:50], ELEMENTS[:50]).read_text()
    body_of = one.replace("END\n", "")
    path = tmp_path / "two.ent"
    path.write_text(f"MODEL        1\n{body_of}ENDMDL\nMODEL        2\n{body_of}ENDMDL\nEND\n")
    assert len(read_atoms(path).points) == 50


# ---- assemblies ----


def test_the_first_assembly_is_made_as_gemmi_makes_it(cif: Path, tmp_path: Path) -> None:
    structure = gemmi.read_structure(str(cif))
    made = gemmi.make_assembly(
        structure.assemblies[0], structure[0], gemmi.HowToNameCopiedChain.Short
    )
    expected = np.array([atom.pos.tolist() for chain in made for one in chain for atom in one])
    atoms = read_atoms(cif)
    assert atoms.assembly == "1"
    assert len(expected) == 2 * len(POINTS)
    assert np.allclose(np.sort(atoms.points, axis=0), np.sort(expected, axis=0), atol=1e-6)
    assert len(read_atoms(cif, "2").points) == len(POINTS)
    assert read_atoms(cif, "2").assembly == "2"
    assert read_atoms(cif, "none").assembly is None
    # gemmi knows of no assembly where columns that only describe are missing.
    bare = tmp_path / "bare.cif"
    bare.write_text(cif.read_text().replace("_pdbx_struct_assembly.", "_other."))
    assert not gemmi.read_structure(str(bare)).assemblies
    assert np.array_equal(read_atoms(bare).points, atoms.points)


def test_an_assembly_of_a_pdb_file_copies_its_chains_only(tmp_path: Path) -> None:
    remarks = ["REMARK 350 BIOMOLECULE: 1", "REMARK 350 APPLY THE FOLLOWING TO CHAINS: B"]
    for number, rows in enumerate(OPERATORS, 1):
        remarks += [
            f"REMARK 350   BIOMT{i} {number:3d}{a:10.6f}{b:10.6f}{c:10.6f}     {shift:10.5f}"
            for i, (a, b, c, shift) in enumerate(rows, 1)
        ]
    chains = ["A" if index < 100 else "B" for index in range(300)]
    path = write_pdb(tmp_path / "a.pdb", POINTS[:300], ELEMENTS[:300], chains, remarks)
    atoms = read_atoms(path)
    second = np.array(OPERATORS[1])
    kept = POINTS[100:300]
    by_hand = np.concatenate([kept, kept @ second[:, :3].T + second[:, 3]])
    assert np.allclose(atoms.points, by_hand, atol=1e-4)


@pytest.mark.parametrize(
    ("expression", "count"), [("1", 1), ("1,2", 2), ("(1-2)", 2), ("(1,2)(1-2)", 4), ("(2)(1)", 1)]
)
def test_expressions_of_operators(tmp_path: Path, expression: str, count: int) -> None:
    parts = [("7", expression, "A,B")]
    path = write_mmcif(tmp_path / "x.cif", POINTS[:20], ELEMENTS[:20], assemblies=parts)
    block = gemmi.cif.read(str(path)).sole_block()
    (copies,) = read_mmcif_assemblies(block)["7"]
    assert copies.chains == ("A", "B")
    assert len(copies.operators) == count
    first, second = (np.vstack([np.array(rows), [0, 0, 0, 1]]) for rows in OPERATORS)
    if expression == "(1,2)(1-2)":
        products = [a @ b for a in (first, second) for b in (first, second)]
        assert np.allclose(copies.operators, [product[:3] for product in products])


# ---- maps ----


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_the_map_of_a_structure_gives_the_same_particle(
    pdb: Path, grid: NDArray[np.float32], tmp_path: Path, noise: float, order: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(1)
    level = float(grid[grid > 0.2 * grid.max()].mean())
    noisy = grid + rng.normal(scale=noise * level + 1e-9, size=grid.shape).astype(np.float32)
    from_map = read_structure(write_map(tmp_path / "m.mrc", noisy, 1.5, order))
    from_atoms = read_structure(pdb)
    for angles in ANGLES:
        assert correlation(projected(from_map, angles), projected(from_atoms, angles)) > 0.97
    assert from_map.diameter_angstrom == pytest.approx(from_atoms.diameter_angstrom, rel=0.05)
    assert from_map.contrast == pytest.approx(from_atoms.contrast, rel=0.3)


def test_axes_are_those_that_gemmi_reads(grid: NDArray[np.float32], tmp_path: Path) -> None:
    from heliodor.simulation.density_maps import read_density_map

    path = write_map(tmp_path / "m.ccp4", grid, 1.5, (2, 3, 1))
    theirs = gemmi.read_ccp4_map(str(path))
    theirs.setup(0.0, gemmi.MapSetup.ReorderOnly)
    values = np.array(theirs.grid.array)
    assert values.shape == grid.shape
    volume = read_density_map(path, contour=0.3 * float(grid.max()))
    inside = np.argwhere(values >= 0.3 * values.max()) * 1.5
    assert np.allclose(np.unique(volume.points, axis=0), np.unique(inside, axis=0))


def test_a_contour_decides_and_packed_maps_are_read(
    grid: NDArray[np.float32], tmp_path: Path
) -> None:
    path = write_map(tmp_path / "m.map", grid, 1.5)
    tight = read_structure(path, contour=0.6 * float(grid.max()))
    loose = read_structure(path, contour=0.05 * float(grid.max()))
    assert tight.blobs.weights.sum() < loose.blobs.weights.sum()
    assert tight.diameter_angstrom < loose.diameter_angstrom
    packed = tmp_path / "m.map.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    again = read_structure(packed, contour=0.05 * float(grid.max()))
    assert again.name == "m"
    assert np.array_equal(again.blobs.positions, loose.blobs.positions)


def test_specks_of_noise_do_not_lengthen_a_particle(
    grid: NDArray[np.float32], tmp_path: Path
) -> None:
    speckled = grid.copy()
    speckled[6:9, 6:9, 6:9] = speckled[-9:-6, -9:-6, -9:-6] = 2.0 * grid.max()
    clean = read_structure(write_map(tmp_path / "clean.mrc", grid, 1.5))
    dirty = read_structure(write_map(tmp_path / "dirty.mrc", speckled, 1.5))
    assert dirty.diameter_angstrom == pytest.approx(clean.diameter_angstrom, rel=0.05)


# ---- the set ----


def test_a_set_of_a_structure(pdb: Path, tmp_path: Path) -> None:
    settings = SimulationSettings(
        particle=read_structure(pdb),
        count=1,
        shape=(128, 160),
        particles_per_micrograph=4,
        contaminants=0.0,
        orientations="preferred",
    )
    made = simulate(tmp_path, settings)
    assert made.particle_count == 4
    assert (tmp_path / "micrographs" / "body_0001.mrc").is_file()


# ---- what cannot be used ----


def bad_map(path: Path, **header: object) -> Path:
    with mrcfile.new(path) as mrc:
        mrc.set_data(np.random.default_rng(0).normal(size=(12, 12, 12)).astype(np.float32))
        mrc.voxel_size = 2.0
        for name, value in header.items():
            mrc.header[name] = value
    return path


def test_files_that_hold_no_particle_are_refused(
    pdb: Path, cif: Path, tmp_path: Path, grid: NDArray[np.float32]
) -> None:
    nowhere = POINTS.copy()
    nowhere[5, 1] = np.nan
    far = POINTS.copy()
    far[5, 1] = 1e30
    text = cif.read_text()
    files = {
        "cannot be read": ("cut.cif.gz", gzip.compress(text.encode())[:2000]),
        "not an atomic model": ("cut.cif", text[:9000].encode()),
        "expected block": ("no.cif", b"hello\n"),
        "no atoms except": ("none.cif", b"data_x\n_a.b c\n"),
        "no atoms except water": ("none.pdb", b"hello\n"),
        "100,000 copies": ("many.cif", text.replace("1 1,2 A", "1 (1-1000000000) A").encode()),
        "copies of a chain": (
            "more.cif",
            text.replace("1 1,2 A", "1 " + 18 * "(1,2)" + " A").encode(),
        ),
        "operator '9'": ("gone.cif", text.replace("1 1,2 A", "1 1,9 A").encode()),
        "operator 2 of its assemblies": (
            "odd.cif",
            text.replace("2 ? -1 0 0", "2 ? -1 x 0").encode(),
        ),
        "no atoms in assembly": ("chain.cif", text.replace("1 1,2 A", "1 1,2 Z").encode()),
        "lacks columns": ("less.cif", text.replace("_site.Cartn_z", "_site.other").encode()),
        "not a map": ("text.mrc", b"hello"),
        "holds less data": (
            "cut.mrc",
            write_map(tmp_path / "g.mrc", grid, 1.5).read_bytes()[:9000],
        ),
        "neither an atomic model": ("x.txt", b"hello"),
    }
    for said, (name, content) in files.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, said)
    refused(write_mmcif(tmp_path / "nan.cif", nowhere, ELEMENTS), "not numbers")
    refused(write_pdb(tmp_path / "nan.pdb", nowhere, ELEMENTS), "not numbers")
    refused(write_mmcif(tmp_path / "far.cif", far, ELEMENTS), "more than 10000 Å apart")
    refused(write_pdb(tmp_path / "w.pdb", POINTS, ELEMENTS, residue="HOH"), "except water")
    refused(write_pdb(tmp_path / "one.pdb", POINTS[:1], ELEMENTS[:1]), "3 Å long")
    refused(
        write_map(tmp_path / "nan.mrc", np.full((12, 12, 12), np.nan, "f4"), 2.0), "not numbers"
    )
    refused(
        write_map(tmp_path / "flat.mrc", np.ones((12, 12, 12), "f4"), 2.0),
        "no density above the noise",
    )
    refused(write_map(tmp_path / "image.mrc", np.ones((64, 64, 1), "f4"), 2.0), "it is an image")
    refused(
        bad_map(tmp_path / "huge.mrc", nx=2000, ny=2000, nz=2000), "more than 536,870,912 voxels"
    )
    refused(bad_map(tmp_path / "neg.mrc", nx=-5), "it is an image and not a")
    refused(bad_map(tmp_path / "size.mrc", cella=(0.0, 0.0, 0.0)), "no valid voxel size")
    refused(bad_map(tmp_path / "cell.mrc", cellb=(90.0, 90.0, 120.0)), "oblique")
    refused(tmp_path / "absent.pdb", "does not exist")
    refused(tmp_path, "is a folder")


def refused(path: Path, said: str, **options: object) -> None:
    with pytest.raises(BadInput) as caught:
        read_structure(path, **options)  # type: ignore[arg-type]
    assert said in str(caught.value)
    assert path.name in str(caught.value)


def test_options_that_are_not_of_the_file_are_refused(
    pdb: Path, cif: Path, grid: NDArray[np.float32], tmp_path: Path
) -> None:
    path = write_map(tmp_path / "m.mrc", grid, 1.5)
    refused(path, "assembly applies to atomic models", assembly="1")
    refused(pdb, "contour applies to density maps", contour=1.0)
    refused(path, "no density of 1e+06 or more", contour=1e6)
    refused(pdb, "it defines none", assembly="1")
    refused(cif, "its assemblies are 1, 2", assembly="7")
    with pytest.raises(BadInput, match="diameter in Å must be between"):
        read_structure(pdb, diameter_angstrom=-3.0)


@pytest.mark.slow
def test_more_atoms_than_anything_has_are_refused_before_they_are_read(
    cif: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = tmp_path / "huge.pdb"
    with huge.open("wb") as stream:
        stream.truncate(2**31)
    refused(huge, "larger than 512 MiB")
    monkeypatch.setattr(atoms_module, "MOST_WITH_COPIES", 7909)
    refused(cif, "more than 7,909 atoms in assembly 1")
    monkeypatch.setattr(atoms_module, "MOST_ATOMS", 3000)
    monkeypatch.setattr(gemmi.cif, "read_string", None)
    refused(cif, "more than 3,000 atoms")


def test_without_gemmi_the_extra_is_named_and_maps_are_read(
    pdb: Path, grid: NDArray[np.float32], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gemmi", None)
    refused(pdb, "pip install 'heliodor[structures]'")
    assert read_structure(write_map(tmp_path / "m.mrc", grid, 1.5)).diameter_angstrom > 90.0
