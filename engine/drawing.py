"""A graph drawn as Mermaid, as plain text or as SVG, with a run's progress on it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .picture import Arrow, Box, Picture, Shape, Style, picture_of, status, words
from .svg import svg
from .values import END, STOP
from .written import Written


def draw(written: Written, format: str = "mermaid", run: Any = None) -> str:
    """The drawing as text; raises `ValueError` for a format that there is not."""
    picture = picture_of(written, run)
    if format == "mermaid":
        return mermaid(picture)
    if format == "text":
        return text(picture)
    if format == "svg":
        return svg(picture)
    raise ValueError(f"there is no drawing format {format!r}; use 'mermaid', 'svg' or 'text'")


# --- Mermaid --------------------------------------------------------------------------------------------

_BRACKETS: Mapping[Shape, tuple[str, str]] = {
    "function": ('["', '"]'),
    "subgraph": ('[["', '"]]'),
    "map": ('[/"', '"/]'),
    "wait": ('{{"', '"}}'),
    "end": ('(["', '"])'),
}
_LINES: Mapping[Style, str] = {"always": "-->", "maybe": "-.->", "error": "==>"}
_CLASSES = (
    "    classDef done fill:#d3f0d3,stroke:#2e7d32,color:#000",
    "    classDef failed fill:#f8d0d0,stroke:#b71c1c,color:#000",
    "    classDef waiting fill:#f2f2f2,stroke:#9e9e9e,color:#000",
)


def escaped(label: str) -> str:
    """Text for a Mermaid label: nothing in it is read as Mermaid or HTML."""
    plain = " ".join(label.split())
    return re.sub(r"[^\w .,:;!?()+/*=~\-]", lambda found: f"#{ord(found[0])};", plain).replace("::", "#58;#58;")


def mermaid(picture: Picture) -> str:
    """A Mermaid flowchart. Nodes get numbers as ids, so that any name may be drawn."""
    ids = {box.name: f"n{index}" for index, box in enumerate(picture.boxes)}
    lines = ["flowchart TD"]
    for box in picture.boxes:
        opening, closing = _BRACKETS[box.shape]
        lines.append(f"    {ids[box.name]}{opening}{escaped(words(box))}{closing}")
    for arrow in picture.arrows:
        label = f'|"{escaped(arrow.label)}"|' if arrow.label else ""
        lines.append(f"    {ids[arrow.source]} {_LINES[arrow.style]}{label} {ids[arrow.target]}")
    if picture.progress:
        lines += _CLASSES
        for box in picture.boxes:
            if box.shape != "end":
                lines.append(f"    class {ids[box.name]} {status(box)}")
    return "\n".join(lines) + "\n"


# --- text -----------------------------------------------------------------------------------------------

_MARKS = {"done": "[x]", "failed": "[!]", "waiting": "[ ]"}


def text(picture: Picture) -> str:
    """One line per node and one per way out of it, for terminals and logs."""
    outs: dict[str, list[Arrow]] = {}
    for arrow in picture.arrows:
        outs.setdefault(arrow.source, []).append(arrow)
    lines = [_line(picture.title)]
    for box in picture.boxes:
        if box.name in (END, STOP):
            continue
        lines.append("  " + _line(_headline(picture, box)))
        for arrow in outs.get(box.name, ()):
            note = f"  ({_line(arrow.label)})" if arrow.label else ""
            lines.append(f"      -> {_line(arrow.target)}{note}")
    return "\n".join(lines) + "\n"


def _headline(picture: Picture, box: Box) -> str:
    kind = f"  <{box.shape}>" if box.shape in ("subgraph", "map", "wait") else ""
    mark = f"{_MARKS[status(box)]} " if picture.progress and box.shape != "end" else ""
    return f"{mark}{words(box)}{kind}"


def _line(label: str) -> str:
    """On one line, whatever is in it."""
    return "".join(c if c.isprintable() else " " for c in label)
