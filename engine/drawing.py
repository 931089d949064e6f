"""A graph drawn as Mermaid, as plain text or as SVG, with a run's progress on it.

Drawn from what was written, not from the plan: a faulty graph is the one that
its author most wants to see.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import attrs

from .plan import ChoiceDecl, EdgeDecl
from .values import END, RESERVED, STOP
from .written import Written, written_of

START = "START"
Shape = Literal["function", "subgraph", "map", "wait", "end"]
Style = Literal["always", "maybe", "error"]


@attrs.frozen
class Box:
    """A node as drawn; `runs` and `failed` come from a run."""

    name: str
    label: str
    shape: Shape
    runs: int = 0
    failed: bool = False


@attrs.frozen
class Arrow:
    """An edge as drawn."""

    source: str
    target: str
    label: str = ""
    style: Style = "always"


@attrs.frozen
class Picture:
    """What there is to draw, whatever the format."""

    title: str
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    progress: bool = False


def draw(written: Written, format: str = "mermaid", run: Any = None) -> str:
    """The drawing as text; raises `ValueError` for a format that there is not."""
    picture = picture_of(written, run)
    if format == "mermaid":
        return mermaid(picture)
    if format == "text":
        return text(picture)
    if format == "svg":
        # A drawing that is rarely asked for costs nothing at import.
        from .svg import svg

        return svg(picture)
    raise ValueError(f"there is no drawing format {format!r}; use 'mermaid', 'svg' or 'text'")


# --- what there is to draw ------------------------------------------------------------------------------


def picture_of(written: Written, run: Any = None) -> Picture:
    visited = Counter(getattr(run, "visited", None) or ())
    failed = {entry.node for entry in getattr(run, "log", None) or () if getattr(entry, "status", "") == "failed"}
    succeeded = {e.node for e in getattr(run, "log", None) or () if getattr(e, "status", "") == "succeeded"}
    arrows = list(_arrows(written))
    boxes = {START: Box(START, START, "end")} if written.entries else {}
    for node in written.nodes:
        name = str(node.name)
        shape: Shape = "subgraph" if written_of(node.what) is not None else node.kind
        boxes.setdefault(name, Box(name, name, shape, visited[name], name in failed - succeeded))
    for arrow in arrows:
        for end in (arrow.source, arrow.target):
            boxes.setdefault(end, Box(end, end if end in RESERVED else f"{end} ?", "end"))
    return Picture(str(written.name), tuple(boxes.values()), tuple(arrows), run is not None)


def _arrows(written: Written) -> Iterator[Arrow]:
    for name in written.entries:
        yield Arrow(START, str(name))
    drawn: set[tuple[Any, Any]] = set()
    for edge in written.edges:
        if isinstance(edge, ChoiceDecl):
            yield from _choice_arrows(edge)
            drawn.update((edge.source, target) for target in edge.targets.values())
        else:
            yield _arrow(edge)
            drawn.add((edge.source, edge.target))
    for node in written.nodes:
        goto = node.options.get("goto") or ()
        for target in (goto,) if isinstance(goto, str) else goto:
            if (node.name, target) not in drawn:
                yield Arrow(str(node.name), str(target), "goto", "maybe")


def _choice_arrows(choice: ChoiceDecl) -> Iterator[Arrow]:
    by_target: dict[str, list[str]] = {}
    for label, target in choice.targets.items():
        by_target.setdefault(str(target), []).append(str(label))
    for target, labels in by_target.items():
        chosen = ", ".join(label for label in labels if label != target)
        yield Arrow(str(choice.source), target, chosen or _called(choice.router, "choice"), "maybe")


def _arrow(edge: EdgeDecl) -> Arrow:
    words: list[str] = []
    style: Style = "always"
    if edge.on_error is not None:
        kinds = edge.on_error if isinstance(edge.on_error, tuple) else (edge.on_error,)
        words.append("on " + " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds))
        style = "error"
    elif edge.when is not None:
        words.append(_called(edge.when, "when"))
        style = "maybe"
    elif edge.otherwise:
        words.append("otherwise")
        style = "maybe"
    if edge.max_iterations is not None:
        words.append(f"at most {edge.max_iterations} times")
    return Arrow(str(edge.source), str(edge.target), ", ".join(words), style)


def _called(function: Any, unnamed: str) -> str:
    name = getattr(function, "__name__", unnamed)
    return unnamed if name == "<lambda>" else str(name)


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
        lines.append(f"    {ids[box.name]}{opening}{escaped(_with_runs(box))}{closing}")
    for arrow in picture.arrows:
        label = f'|"{escaped(arrow.label)}"|' if arrow.label else ""
        lines.append(f"    {ids[arrow.source]} {_LINES[arrow.style]}{label} {ids[arrow.target]}")
    if picture.progress:
        lines += _CLASSES
        for box in picture.boxes:
            if box.shape != "end":
                lines.append(f"    class {ids[box.name]} {status(box)}")
    return "\n".join(lines) + "\n"


def status(box: Box) -> str:
    if box.failed:
        return "failed"
    return "done" if box.runs else "waiting"


def _with_runs(box: Box) -> str:
    times = f" (x{box.runs})" if box.runs > 1 else ""
    return box.label + times


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
    return f"{mark}{_with_runs(box)}{kind}"


def _line(words: str) -> str:
    """On one line, whatever is in it."""
    return "".join(c if c.isprintable() else " " for c in words)
