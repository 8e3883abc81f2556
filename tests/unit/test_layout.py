"""Every module of the package has its tests where they are looked for."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
SOURCE = TESTS.parent / "src" / "heliodor"
#: Modules with fewer lines may be tested by the tests of those that use them.
MOST_LINES = 60

#: Modules without a test file of their own, and the file that tests them through what uses them.
TESTED_BY = {
    # Parts of the server, through its HTTP interface.
    "unit/app/server/test_server.py": [
        "app/server/request_parsing", "app/server/state", "app/server/worker_pool",
    ],
    "unit/app/server/test_table.py": [
        "app/server/micrograph_table", "app/server/routes/table", "app/server/spectra",
    ],
    "unit/app/server/test_proxy.py": ["cli/app"],
    "unit/app/server/test_filament_work.py": ["app/server/routes/filaments"],
    "unit/app/server/test_annotations.py": ["app/server/routes/annotations"],
    "unit/app/server/test_exports.py": [
        "app/server/batch_run", "app/server/provenance", "app/server/routes/exports",
    ],
    "unit/app/server/test_tiles.py": ["app/server/routes/images", "app/server/sprites"],
    "unit/app/server/test_engine_session.py": [
        "app/server/engine_requests", "app/server/models", "app/server/questions",
        "app/server/routes/model",
        "app/server/training_status",
    ],
    # The options of the commands, and the workflows behind them, from end to end.
    "unit/cli/test_main.py": ["cli/entry"],
    "unit/utils/test_console.py": ["errors"],
    "unit/cli/test_pick.py": ["cli/picking"],
    "unit/cli/test_preprocess.py": ["workflows/preprocess"],
    "unit/cli/test_rerun.py": ["workflows/rerun", "workflows/run_record", "utils/json_schema"],
    "unit/cli/test_run.py": ["workflows/report_content"],
    "unit/cli/test_models.py": ["workflows/models"],
    "unit/workflows/test_convert.py": [
        "cli/coordinates", "workflows/check", "workflows/suggest", "data/coordinates/transforms",
        "data/coordinates/writers", "workflows/conversion_steps",
    ],
    "unit/app/server/test_pick_options.py": ["app/server/provenance"],
    "unit/workflows/test_judge.py": [
        "cli/judge", "report/judge_page", "report/judge_plots",
    ],
    "unit/workflows/test_parts.py": ["picking/joined_journals", "picking/resuming"],
    "unit/workflows/test_resume.py": ["training/completion_record"],
    "unit/test_api.py": ["report/notebook", "workflows/in_memory"],
    "unit/integrations/relion/test_jobs.py": ["cli/relion", "picking/output_files"],
    "unit/integrations/relion/test_project.py": ["integrations/projects"],
    # Readers, through the function that chooses one by the content of a file.
    "system/test_hostile_files.py": ["data/coordinates/formats/via"],
    "unit/data/coordinates/formats/test_relion_star.py": ["data/micrographs/star_list"],
    "unit/data/micrographs/test_micrograph.py": [
        "data/micrographs/compression", "data/micrographs/tiff",
    ],
    "unit/data/filaments/test_formats.py": [
        "data/filaments/grouping", "data/filaments/helix_text",
    ],
    # The steps of tracing, through the maps that it starts from.
    "unit/picking/filaments/test_tracer.py": [
        "picking/filaments/evidence", "picking/filaments/linking", "picking/filaments/tracing",
    ],
    "unit/workflows/test_pick_filaments.py": [
        "workflows/filament_report", "workflows/tracing_setup",
    ],
    "unit/workflows/test_filament_parts.py": ["picking/filaments/resuming"],
    # The parts of heliodor-topaz, through its command line.
    "unit/integrations/topaz/test_convert.py": [
        "integrations/topaz/coordinate_reader", "integrations/topaz/coordinate_writer",
        "integrations/topaz/flip_y", "integrations/topaz/options_files",
    ],
    "unit/integrations/topaz/test_extract.py": [
        "integrations/topaz/model_lookup", "integrations/topaz/options_picking",
        "integrations/topaz/scorers",
    ],
    "unit/integrations/topaz/test_parser.py": [
        "integrations/topaz/legacy_commands", "integrations/topaz/option_groups",
    ],
    # Steps of one calculation that only make sense together.
    "unit/models/importers/test_topaz.py": ["models/importers/torch_archive"],
    "unit/models/test_pretrained.py": ["training/initialization"],
    "unit/models/test_model_file.py": ["training/model_card"],
    "unit/report/test_report.py": [
        "report/elements", "report/figure_style", "report/sections",
    ],
    "unit/simulation/test_simulation.py": [
        "simulation/builtin_particles", "simulation/micrograph",
    ],
    "unit/simulation/test_settings.py": ["simulation/negative_stain"],
    "unit/simulation/test_structures.py": ["simulation/symmetry"],
}  # fmt: skip


def imported_modules(path: Path) -> set[str]:
    """Return the modules of heliodor, and the names in them, that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("heliodor"):
            found |= {str(node.module), *(f"{node.module}.{name.name}" for name in node.names)}
    return found


def test_every_module_is_tested_where_one_looks_for_it() -> None:
    imports = {path: imported_modules(path) for path in TESTS.glob("unit/**/test_*.py")}
    elsewhere = set()
    for path in SOURCE.rglob("[!_]*.py"):
        if len(path.read_text().splitlines()) <= MOST_LINES:
            continue
        name = path.relative_to(SOURCE).with_suffix("")
        folder = TESTS / "unit" / name.parent
        if (folder / f"test_{name.name}.py").exists():
            continue
        # Otherwise a test beside it, or above it, uses it by its name.
        module = ".".join(["heliodor", *name.parts])
        near = {test for test, modules in imports.items() if module in modules}
        if not any(test.parent in (folder, *folder.parents) for test in near):
            elsewhere.add(name.as_posix())
    listed = {module for modules in TESTED_BY.values() for module in modules}
    assert elsewhere - listed == set(), "add a test file, or the one that tests it to TESTED_BY"
    assert listed - elsewhere == set(), "these have tests of their own now, or are gone"


def test_the_files_that_test_others_exist() -> None:
    assert [path for path in TESTED_BY if not (TESTS / path).is_file()] == []
