"""A hook of mkdocs: make one page per command from the command line itself."""

from __future__ import annotations

from typing import Any

import typer.main
from mkdocs.structure.files import File, Files

from heliodor.cli.main import app
from heliodor.cli.options import GROUPS


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the commands to the site."""
    pages = {"commands/index.md": _index()}
    pages |= {f"commands/{'-'.join(words)}.md": _page(words, c) for words, c in _commands()}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def _commands(group: Any = None, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    group = typer.main.get_command(app) if group is None else group
    found = []
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found += _commands(command, (*path, name))
        else:
            found.append(((*path, name), command))
    return found


def _index() -> str:
    rows = [
        f"| [`heliodor {' '.join(words)}`]({'-'.join(words)}.md) | {_summary(command)} |"
        for words, command in _commands()
    ]
    return "\n".join(
        [
            "# Commands",
            "",
            "Every command has `--help`. Lengths are in angstrom unless an option ends in `-px`.",
            "",
            "| command | what it does |",
            "|---|---|",
            *rows,
            "",
        ]
    )


def _summary(command: Any) -> str:
    return str(command.help).strip().splitlines()[0]


def _page(words: tuple[str, ...], command: Any) -> str:
    usage = " ".join(["heliodor", *words, "[OPTIONS]"])
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage += "".join(f" {_usage(p)}" for p in arguments)
    lines = [
        f"# heliodor {' '.join(words)}",
        "",
        str(command.help).strip(),
        "",
        "```",
        usage,
        "```",
    ]
    if arguments:
        lines += ["", "## Arguments", "", "| argument | meaning |", "|---|---|"]
        lines += [f"| `{p.metavar or p.name.upper()}` | {_cell(p.help)} |" for p in arguments]
    options = [p for p in command.params if p.param_type_name == "option"]
    for group in GROUPS:
        options_of_group = [p for p in options if (p.rich_help_panel or "Other") == group]
        if options_of_group:
            lines += ["", f"## {group}", "", "| option | meaning |", "|---|---|"]
            lines += [f"| {_names(p)} | {_cell(p.help, p.required)} |" for p in options_of_group]
    return "\n".join([*lines, ""])


def _usage(argument: Any) -> str:
    text = (argument.metavar or argument.name.upper()).strip("[].")
    text += "..." if argument.nargs == -1 else ""
    return text if argument.required else f"[{text}]"


def _names(param: Any) -> str:
    value = "" if param.is_flag else f" {param.metavar or ''}"
    return ", ".join(f"`{name}{value}`".replace(" `", "`") for name in param.opts)


def _cell(text: str | None, required: bool = False) -> str:
    return (text or "").replace("|", "\\|") + (" **Required.**" if required else "")
