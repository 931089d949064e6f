"""A picture as a Mermaid flowchart, which many places that show Markdown draw by themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .picture import Picture, Shape, Style, words
from .progress import Status

_BRACKETS: Mapping[Shape, tuple[str, str]] = {
    "function": ('["', '"]'),
    "subgraph": ('[["', '"]]'),
    "map": ('[/"', '"/]'),
    "wait": ('{{"', '"}}'),
    "end": ('(["', '"])'),
}
_LINES: Mapping[Style, str] = {"always": "-->", "maybe": "-.->", "choice": "-.->", "error": "==>"}
_CLASSES: Mapping[Status, str] = {
    "done": "fill:#dcf1e7,stroke:#12715b,color:#000",
    "running": "fill:#dbeafe,stroke:#0b5cad,stroke-width:3px,color:#000",
    "waiting": "fill:#fff3d1,stroke:#8a6100,stroke-dasharray:7 3,color:#000",
    "failed": "fill:#fde0dc,stroke:#b3261e,stroke-width:3px,color:#000",
    "cancelled": "fill:#ececf1,stroke:#5b5b6b,stroke-dasharray:2 3,color:#000",
    "unreached": "fill:#fff,stroke:#8b95a1,stroke-dasharray:3 3,color:#5b6672",
}


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
        found = {box.status for box in picture.boxes if box.shape != "end"}
        lines += [f"    classDef {status} {how}" for status, how in _CLASSES.items() if status in found]
        lines += [f"    class {ids[box.name]} {box.status}" for box in picture.boxes if box.shape != "end"]
    return "\n".join(lines) + "\n"
