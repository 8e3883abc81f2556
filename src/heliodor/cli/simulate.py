"""The command that makes micrographs with known truth."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from heliodor.cli.coordinates import shape_of
from heliodor.cli.options import Seed, number
from heliodor.errors import BadInput
from heliodor.utils import console

log = logging.getLogger(__name__)

#: In negative stain particles stand out more.
SNR, SNR_IN_STAIN = 0.12, 1.0


def simulate(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the results.")],
    particle: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="barrel, ribosome, trimer, shell or stick, or drawn-0, drawn-1, ...: any of an"
            " endless family [default: barrel]",
        ),
    ] = None,
    structure: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A particle of your own instead: an atomic model (.cif, .pdb, .ent) or a density"
            " map (.mrc, .map, .ccp4).",
        ),
    ] = None,
    assembly: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Biological assembly of the atomic model, or none [default: its first]",
        ),
    ] = None,
    contour: Annotated[
        float | None, number("LEVEL", "Contour level of the density map [default: found in it]")
    ] = None,
    diameter: Annotated[
        float | None,
        number(
            "ANGSTROM",
            "Longest diameter of the particle in FILE or drawn [default: its own]",
        ),
    ] = None,
    count: Annotated[int, typer.Option(metavar="N", help="Number of micrographs.")] = 16,
    size_px: Annotated[
        str, typer.Option("--size-px", metavar="WxH", help="Width and height in pixels.")
    ] = "1024x1024",
    pixel_size: Annotated[float, number("ANGSTROM", "Sampling.")] = 4.0,
    particles: Annotated[
        int | None,
        typer.Option(metavar="N", help="Particles a micrograph, 0 for none [default: usual]"),
    ] = None,
    snr: Annotated[
        float | None,
        number(
            "RATIO",
            f"Signal-to-noise of particles at 4 A a pixel [default: {SNR}; in negative stain"
            f" {SNR_IN_STAIN:g}]",
        ),
    ] = None,
    defocus_min: Annotated[float, number("UM", "Least underfocus.")] = 1.0,
    defocus_max: Annotated[float, number("UM", "Most underfocus.")] = 2.2,
    voltage: Annotated[float, number("KV", "Acceleration voltage.")] = 300.0,
    b_factor: Annotated[float, number("ANGSTROM2", "Envelope of the contrast transfer.")] = 150.0,
    ice: Annotated[float | None, number("NM", "Mean thickness of the ice [default: 45]")] = None,
    ice_gradient: Annotated[
        float | None,
        number(
            "SHARE",
            "Change of the ice's thickness from the middle to the far edge [default: drawn, up to"
            " 0.35]",
        ),
    ] = None,
    negative_stain: Annotated[
        bool,
        typer.Option("--negative-stain", help="Bright particles in heavy metal, not in ice."),
    ] = False,
    contaminants: Annotated[
        str,
        typer.Option(
            metavar="LEVELS",
            help="Carbon, ice, gold, aggregates: 0 none, 1 usual; or by kind, as in"
            " carbon=4,crystals=0 or 0,gold=2 (also clumps, fragments).",
        ),
    ] = "1",
    carbon_only: Annotated[
        bool,
        typer.Option("--carbon-only", help="Only carbon film on every micrograph, no particles."),
    ] = False,
    orientations: Annotated[
        str, typer.Option(metavar="HOW", help="random or preferred.")
    ] = "random",
    overlap: Annotated[bool, typer.Option("--overlap", help="Let particles overlap.")] = False,
    detector: Annotated[
        str,
        typer.Option(
            metavar="KIND", help="counting, or integrating: blur, read noise and a lower DQE."
        ),
    ] = "counting",
    inverted: Annotated[
        bool, typer.Option("--inverted", help="Reverse the contrast: white particles.")
    ] = False,
    eight_bit: Annotated[
        bool, typer.Option("--eight-bit", help="Write MRC mode 0: one byte a pixel, stretched.")
    ] = False,
    labels: Annotated[
        int, typer.Option(metavar="N", help="Also write N random labels to labels.star.")
    ] = 0,
    masks: Annotated[
        bool,
        typer.Option(
            "--masks", help="Also write masks/NAME.png: 255 on carbon, crystals, gold, aggregates."
        ),
    ] = False,
    seed: Seed = 0,
) -> None:
    """Make synthetic micrographs with known truth: MRC files, micrographs.star, truth.star."""
    from heliodor.simulation import SimulationSettings
    from heliodor.simulation import simulate as make
    from heliodor.simulation.contaminant_levels import levels_from

    more: dict[str, Any] = {} if ice is None else {"ice_nm": ice}
    settings = SimulationSettings(
        particle=_particle(particle, structure, assembly, contour, diameter),
        count=count,
        shape=shape_of(size_px, "--size-px"),
        pixel_size_angstrom=pixel_size,
        particles_per_micrograph=particles,
        snr=snr if snr is not None else (SNR_IN_STAIN if negative_stain else SNR),
        defocus_um=(defocus_min, defocus_max),
        voltage_kv=voltage,
        b_factor=b_factor,
        ice_gradient=ice_gradient,
        negative_stain=negative_stain,
        contaminants=levels_from(contaminants),
        carbon_only=carbon_only,
        orientations=orientations,  # type: ignore[arg-type]
        overlap=overlap,
        detector=detector,  # type: ignore[arg-type]
        inverted=inverted,
        eight_bit=eight_bit,
        labels=labels,
        masks=masks,
        seed=seed,
        **more,
    )
    if structure is not None:
        log.info(f"{settings.kind.name}: {settings.kind.description}")
    with console.progress(f"simulating {settings.kind.name}") as progress:
        made = make(out, settings, progress)
    log.info(f"{made.micrograph_count} micrographs with {made.particle_count} particles in {out}")


def _particle(
    name: str | None,
    structure: Path | None,
    assembly: str | None,
    contour: float | None,
    diameter: float | None,
) -> Any:
    """Return the name of a particle, or the particle that is in a file."""
    drawn = name is not None and name.startswith("drawn-")
    if drawn and structure is None and assembly is None and contour is None:
        from heliodor.simulation.training_world.random_particles import draw_particle

        number = str(name).removeprefix("drawn-")
        if not number.isdecimal() or len(number) > 9:
            raise BadInput(f"{name} is no particle: after drawn- comes its number, 0 or more")
        return draw_particle(int(number), diameter)
    if structure is None:
        for option, value in (
            ("assembly", assembly),
            ("contour", contour),
            ("diameter", diameter),
        ):
            if value is not None:
                raise BadInput(f"--{option} is for a particle in a file: give --structure too")
        return "barrel" if name is None else name
    if name is not None:
        raise BadInput("--particle and --structure are two particles; give one of them")
    from heliodor.simulation import read_structure

    return read_structure(
        structure, assembly=assembly, contour=contour, diameter_angstrom=diameter
    )
