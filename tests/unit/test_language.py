"""The words that users read are plain English."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = [
    r"\bmend(s|ed|ing)?\b",
    r"\banew\b",
    r"\blest\b",
    r"\btold by\b",
    r"\btells? apart\b",
    r"(?<!there )\b(is|are) no [a-z]",
    r"(?<!there )\b(is|are) none of\b",
    r"\bspeaks? of\b",
    r"\b(particles|picks|candidates|labels|seconds|updates|bytes|MB) an? "
    r"(micrograph|image|pixel|second|epoch|update)\b",
    r"\bA a pixel\b",
    r"\bpicking room\b",
    r"\bleft aside\b",
    r"\bgo(es)? on (from|with)\b",
]
#: What the patterns find and is meant.
ALLOWED = ["is no better than", "are no longer", "is no longer"]


def texts_of(path: Path) -> Iterator[str]:
    """Yield the texts of a file: string literals and docstrings of Python, otherwise all of it."""
    content = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield content
        return
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def find_forbidden(text: str) -> list[str]:
    """Return the forbidden words in a text, with what stands around them."""
    line = " ".join(text.split())
    hits = [hit for pattern in FORBIDDEN for hit in re.finditer(pattern, line, re.IGNORECASE)]
    around = [line[max(0, hit.start() - 30) : hit.end() + 30] for hit in hits]
    return [words for words in around if not any(meant in words for meant in ALLOWED)]


def files_that_users_read() -> list[Path]:
    source = ROOT / "src" / "heliodor"
    pages = [page for page in (ROOT / "docs").rglob("*.md") if "design-notes" not in page.parts]
    suffixes = (".py", ".js", ".html", ".css", ".j2")
    plugins = (ROOT / "contrib").rglob("*")
    return [
        *sorted(path for path in plugins if path.suffix in (".py", ".md", ".sh")),
        ROOT / "README.md",
        *sorted(pages),
        *sorted(path for path in source.rglob("*") if path.suffix in suffixes),
    ]


def test_no_forbidden_words() -> None:
    wrong = {
        str(path.relative_to(ROOT)): words
        for path in files_that_users_read()
        if (words := [hit for text in texts_of(path) for hit in find_forbidden(text)])
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Mend the file.", 1),
        ("300 particles a micrograph, read\n   anew", 2),
        ("there is no file; this is no longer used", 0),
        ("a file that is no model", 1),
        ("recommended; 300 particles per micrograph", 0),
    ],
)
def test_forbidden_words_are_found(text: str, count: int) -> None:
    assert len(find_forbidden(text)) == count
