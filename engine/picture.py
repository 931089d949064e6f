"""What there is to draw of a graph, whatever the format: boxes and arrows, with a run's progress.

Taken from what was written, not from the plan: a faulty graph is the one that
its author most wants to see.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

import attrs

from .plan import ChoiceDecl, EdgeDecl
from .values import RESERVED
from .written import Written, written_of

START = "\0START"  # No node can be called so.
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


def picture_of(written: Written, run: Any = None) -> Picture:
    """The picture of a graph; `run` is anything with `visited`, and perhaps a `log`."""
    visited = Counter(getattr(run, "visited", None) or ())
    ended = [(entry.node, entry.status) for entry in getattr(run, "log", None) or ()]
    failed = {node for node, how in ended if how in ("failed", "timed_out")}
    failed -= {node for node, how in ended if how == "succeeded"}
    arrows = list(_arrows(written))
    boxes = {START: Box(START, "START", "end")} if written.entries else {}
    for node in written.nodes:
        name = str(node.name)
        shape: Shape = "subgraph" if written_of(node.what) is not None else node.kind
        boxes.setdefault(name, Box(name, name, shape, visited[name], name in failed))
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


def status(box: Box) -> Literal["done", "failed", "waiting"]:
    """How far a node is in the run that is drawn."""
    if box.failed:
        return "failed"
    return "done" if box.runs else "waiting"


def words(box: Box) -> str:
    """What stands in a box: its name, and how often it ran if that is more than once."""
    return box.label + (f" (x{box.runs})" if box.runs > 1 else "")
