"""The building blocks of the report's HTML: one page that fetches nothing and runs nothing.

Functions take plain text and escape it; those that take `html` take what others here return.
"""

from __future__ import annotations

import base64
import html as _html
from typing import TYPE_CHECKING, Final

from heliodor.report.figure_style import FONT_STACK

if TYPE_CHECKING:
    from collections.abc import Sequence

_CSS: Final = """
:root { color-scheme: light; --ink: #1f2933; --muted: #5b6774; --rule: #dde2e7; --wash: #f5f7f9;
  --accent: #1c5d8f; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: #fff; color: var(--ink); font: 15px/1.5 FONT_STACK; }
main { max-width: 1200px; margin: 0 auto; padding: 40px 32px 56px; }
header { border-bottom: 2px solid var(--ink); padding-bottom: 14px; }
header p { margin: 0; color: var(--muted); font-size: 13px; letter-spacing: .02em; }
h1 { margin: 2px 0 0; font-size: 30px; line-height: 1.25; font-weight: 650;
  letter-spacing: -.012em; overflow-wrap: anywhere; }
h2 { margin: 0 0 14px; font-size: 20px; font-weight: 650; letter-spacing: -.006em; }
h3 { margin: 0 0 6px; font-size: 14px; font-weight: 650; }
section { margin-top: 44px; }
p { margin: 0 0 12px; max-width: 76ch; }
.headline { display: flex; flex-wrap: wrap; gap: 18px 0; margin: 22px 0 0; padding: 0; }
.headline div { flex: 0 1 auto; padding: 0 30px; border-left: 1px solid var(--rule); }
.headline div:first-child { padding-left: 0; border-left: 0; }
.headline dt { color: var(--muted); font-size: 13px; }
.headline dd { margin: 0; font-size: 27px; line-height: 1.2; font-weight: 600;
  font-variant-numeric: tabular-nums; letter-spacing: -.01em; }
.notice { margin-top: 26px; padding: 14px 18px; border: 1px solid #e3c88a;
  border-left: 5px solid #c88a12; background: #fdf8ec; border-radius: 3px; }
.notice ul { margin: 4px 0 0; padding-left: 20px; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr));
  gap: 26px 30px; align-items: start; }
figure { margin: 0; }
figure img { display: block; width: 100%; height: auto; }
.panels figure { max-width: 470px; }
.panels + .scroll { margin-top: 22px; }
figcaption { color: var(--muted); font-size: 13px; line-height: 1.45; margin-top: 6px; }
dl.facts { display: grid; grid-template-columns: minmax(7em, max-content) minmax(0, 1fr);
  gap: 0; margin: 0; font-size: 14px; }
dl.facts dt, dl.facts dd { padding: 5px 0; border-bottom: 1px solid var(--rule); }
dl.facts dt { color: var(--muted); padding-right: 20px; }
dl.facts dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
pre { margin: 16px 0 0; padding: 12px 14px; background: var(--wash); border: 1px solid var(--rule);
  border-radius: 3px; font: 12.5px/1.5 ui-monospace, 'SF Mono', Menlo, Consolas, monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th, td { padding: 5px 10px; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--rule); }
th { color: var(--muted); font-weight: 600; white-space: nowrap;
  border-bottom: 1px solid #9aa5b1; }
td { overflow-wrap: anywhere; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.bar { width: 34%; min-width: 90px; }
.bar i { display: block; height: 9px; margin-top: 6px; background: var(--accent); }
.scroll { overflow-x: auto; }
details { margin-top: 18px; }
summary { cursor: pointer; color: var(--accent); font-size: 14px; padding: 3px 0; }
details[open] > summary { margin-bottom: 6px; }
.item { margin-top: 30px; break-inside: avoid; }
.item h3 { overflow-wrap: anywhere; margin-bottom: 0; }
.note { color: var(--muted); font-size: 13px; margin-bottom: 8px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr));
  gap: 14px; align-items: start; }
footer { margin-top: 52px; padding-top: 14px; border-top: 1px solid var(--rule);
  color: var(--muted); font-size: 13px; }
footer p { max-width: 92ch; margin-bottom: 6px; }
@media (max-width: 900px) { main { padding: 26px 22px 40px; } h1 { font-size: 25px; }
  .headline div { padding: 0 20px; } .headline dd { font-size: 23px; } }
@media print {
  @page { margin: 14mm; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  section { margin-top: 26px; }
  h2, h3 { break-after: avoid; }
  figure, tr, .notice, dl.facts { break-inside: avoid; }
  .panels { grid-template-columns: repeat(2, 1fr); }
  .pair { grid-template-columns: 1fr 1fr; }
  details:not([open]) { display: none; }
}
""".replace("FONT_STACK", FONT_STACK)


def escape(text: str) -> str:
    """Escape text for HTML, in an attribute too.

    File names may hold bytes that are no characters; they become question marks.
    """
    return _html.escape(text.encode("utf-8", "replace").decode("utf-8"), quote=True)


def document(title: str, body_html: Sequence[str]) -> str:
    """Return the whole page."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body_html if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def section(heading: str, *body_html: str) -> str:
    """Return a section under a heading."""
    return f"<section>\n<h2>{escape(heading)}</h2>\n" + "\n".join(body_html) + "\n</section>"


def paragraph(text: str) -> str:
    """Return a paragraph."""
    return f"<p>{escape(text)}</p>"


def picture(data: bytes | str, alt: str, caption: str = "") -> str:
    """Return a figure that holds its picture: PNG as bytes, or SVG as text."""
    kind = "svg+xml" if isinstance(data, str) else "png"
    raw = data.encode("utf-8") if isinstance(data, str) else data
    source = f"data:image/{kind};base64,{base64.b64encode(raw).decode('ascii')}"
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="{source}" alt="{escape(alt)}">{below}</figure>'


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Return names and values, one pair a line."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)
    return f'<dl class="facts">{rows}</dl>' if pairs else ""


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1, bars: str = ""
) -> str:
    """Return a table.

    Parameters
    ----------
    columns
        The headings.
    rows
        The cells, as text.
    text_columns
        The first columns are text, set to the left; the others are numbers, set to the right.
    bars
        If given, the heading of one more column, with bars as long as the last number.
    """

    def cell(tag: str, column: int, text: str) -> str:
        kind = "" if column < text_columns else ' class="number"'
        return f"<{tag}{kind}>{escape(text)}</{tag}>"

    lengths = [float(row[-1].replace(",", "")) for row in rows] if bars else []
    longest = max([*lengths, 1.0])
    head = "".join(cell("th", column, name) for column, name in enumerate(columns))
    lines = []
    for number, row in enumerate(rows):
        line = "".join(cell("td", column, text) for column, text in enumerate(row))
        if bars:
            share = 100.0 * max(lengths[number], 0.0) / longest
            line += f'<td class="bar"><i style="width:{share:.1f}%"></i></td>'
        lines.append(f"<tr>{line}</tr>")
    head += f'<th class="bar">{escape(bars)}</th>' if bars else ""
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def folded(summary: str, body_html: str) -> str:
    """Return content that the reader may unfold."""
    return f"<details><summary>{escape(summary)}</summary>{body_html}</details>"


def masthead(title: str, line: str) -> str:
    """Return the page's head: a small line over the title."""
    return f"<header><p>{escape(line)}</p><h1>{escape(title)}</h1></header>"


def headline(pairs: Sequence[tuple[str, str]]) -> str:
    """Return the big figures."""
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs
    )
    return f'<dl class="headline">{cells}</dl>' if pairs else ""


def notice(heading: str, sentences: Sequence[str]) -> str:
    """Return a framed list of what the reader must not miss."""
    lines = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<div class="notice"><h3>{escape(heading)}</h3><ul>{lines}</ul></div>' if lines else ""


def panels(parts_html: Sequence[str]) -> str:
    """Return parts side by side where there is room, else below each other."""
    return (
        '<div class="panels">' + "\n".join(f"<div>{part}</div>" for part in parts_html) + "</div>"
    )


def pair(heading: str, line: str, *parts_html: str) -> str:
    """Return a picture and its detail under a heading."""
    return (
        f'<div class="item"><h3>{escape(heading)}</h3><p class="note">{escape(line)}</p>\n'
        f'<div class="pair">{"".join(parts_html)}</div></div>'
    )


def code(text: str) -> str:
    """Return text as it would be typed."""
    return f"<pre>{escape(text)}</pre>"


def footer(sentences: Sequence[str]) -> str:
    """Return the notes at the page's end."""
    return f"<footer>{''.join(paragraph(sentence) for sentence in sentences)}</footer>"
