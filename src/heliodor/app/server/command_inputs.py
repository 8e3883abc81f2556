"""The micrographs of a project as arguments of `heliodor pick` and `heliodor train`."""

from __future__ import annotations

from pathlib import Path

from heliodor.app.server.project import Project
from heliodor.data.micrographs.sources import find_sources
from heliodor.utils.files import write_text

#: More characters than this go into a list file: command lines are limited in length.
_MAX_INPUT_CHARS = 32_768


def name_inputs(project: Project) -> list[str]:
    """Return the micrographs as the user typed them, or a list file of them.

    Raises
    ------
    BadInput
        If the list file cannot be written.
    """
    inputs = project.settings.inputs
    plain = all(text == text.strip() and "\n" not in text for text in inputs)
    long = sum(map(len, inputs)) > _MAX_INPUT_CHARS or any(t.startswith("-") for t in inputs)
    if long and plain and not any(text.startswith("#") for text in inputs):
        path = project.folder / "inputs.txt"
        write_text(path, "".join(f"{text}\n" for text in inputs))
        return [f"@{path}"]
    return list(inputs)


def exclude_words(project: Project, folder: Path) -> list[str]:
    """Return the option that leaves micrographs out, with its file in a folder.

    They are those that are excluded, and those that came after the project was opened.

    Raises
    ------
    BadInput
        If the file cannot be written, or the micrographs cannot be found.
    """
    included = {project.sources[number].name for number in project.included}
    there = find_sources(list(project.settings.inputs))
    left_out = [source.name for source in there if source.name not in included]
    if not left_out:
        return []
    path = folder / "excluded.txt"
    write_text(path, "".join(f"{name}\n" for name in left_out))
    return ["--exclude", str(path)]
