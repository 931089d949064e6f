"""What there is to draw of a graph, whatever the format: boxes and arrows, with a run's progress.

Taken from what was written, not from the plan: a faulty graph is the one that
its author most wants to see.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import attrs

from ..filetyping import is_media
from ..plan import ChoiceDecl, EdgeDecl
from ..values import RESERVED
from ..written import Written, WrittenNode, written_of
from .lettering import plain
from .progress import Path, Progress, Status, progress_of
from .wording import called

START = "\0START"  # No node can be called so.
MOST_DEPTH = 3  # Graphs within graphs; what is deeper is told as a number.
MOST_INSIDE = 40  # Nodes of a graph that is drawn within a node: with more it hides the graph around it.
MOST_ALL_INSIDE = 1_000  # Of all that are: graphs within graphs within graphs multiply.
Shape = Literal["function", "subgraph", "map", "wait", "end"]
Style = Literal["always", "maybe", "choice", "error"]


@attrs.frozen
class Box:
    """A node as drawn; `runs` and `status` come from a run."""

    name: str
    label: str
    shape: Shape
    runs: int = 0
    status: Status = "unreached"
    note: str = ""
    """What its name does not tell: how it joins, what it waits for."""
    inside: Picture | None = None


@attrs.frozen
class Arrow:
    """An edge as drawn. `loops` if its author said that it leads back."""

    source: str
    target: str
    label: str = ""
    style: Style = "always"
    loops: bool = False


@attrs.frozen
class Picture:
    """What there is to draw, whatever the format."""

    title: str
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    progress: bool = False


def picture_of(written: Written, run: Any = None) -> Picture:
    """The picture of a graph; `run` is anything with `visited`, and perhaps a `log` and a `status`."""
    return _Pictures(progress_of(run)).picture(written, (), frozenset({id(written)}))


class _Pictures:
    """Makes a picture and those within it."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.left = MOST_ALL_INSIDE

    def picture(self, written: Written, path: Path, around: frozenset[int]) -> Picture:
        arrows = tuple(_arrows(written))
        ways_in = Counter(arrow.target for arrow in arrows)
        boxes = {START: Box(START, "START", "end")} if written.entries else {}
        for node in written.nodes:
            name = str(node.name)
            if name not in boxes:
                boxes[name] = self._box(node, ways_in[name], (*path, name), around)
        for arrow in arrows:
            for end in (arrow.source, arrow.target):
                if end not in boxes:
                    boxes[end] = Box(end, end if end in RESERVED else f"{plain(end)} ?", "end")
        return Picture(plain(str(written.name)), tuple(boxes.values()), arrows, self.progress.given)

    def _box(self, node: WrittenNode, ways_in: int, path: Path, around: frozenset[int]) -> Box:
        part = written_of(node.what)
        shape: Shape = "subgraph" if part is not None and node.kind == "function" else node.kind
        inside, notes = None, list(_notes(node, ways_in))
        if part is not None:
            if self._fits(part, around):
                self.left -= len(part.nodes)
                inside = self.picture(part, path, around | {id(part)})
            else:
                notes.append(f"{len(part.nodes)} node{'' if len(part.nodes) == 1 else 's'}")
        name = path[-1]
        status = self.progress.status(path, waits=node.kind == "wait")
        return Box(name, plain(name), shape, self.progress.runs[path], status, plain(", ".join(notes)), inside)

    def _fits(self, part: Written, around: frozenset[int]) -> bool:
        """Whether a graph is drawn within its node. One that holds itself would not end."""
        small = 0 < len(part.nodes) <= min(MOST_INSIDE, self.left)
        return small and len(around) <= MOST_DEPTH and id(part) not in around


def _notes(node: WrittenNode, ways_in: int) -> Iterator[str]:
    join = node.options.get("join", "all")
    if join != "all" and ways_in > 1:
        yield f"{join} of {ways_in}"
    if node.kind == "map":
        yield f"for each of {called(node.own.get('over'), 'its items')}"
    if node.kind == "wait":
        signals = node.own.get("signal")
        yield "for " + (signals if isinstance(signals, str) else " or ".join(map(str, _listed(signals))))
        if (seconds := node.options.get("timeout")) is not None:
            yield f"at most {_spoken(seconds)}"


def _spoken(seconds: Any) -> str:
    """A time as one would say it: `90 s`, `5 min`, `2 d`."""
    if not isinstance(seconds, int | float):
        return str(seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def _listed(names: Any) -> tuple[Any, ...]:
    """Whatever an author gave for names: a graph that is wrong is drawn too."""
    return tuple(names) if isinstance(names, list | tuple | set | frozenset) else () if names is None else (names,)


def _arrows(written: Written) -> Iterator[Arrow]:
    """The edges, each with the media types of the files that its source says it makes."""
    made = {str(node.name): _media(node.options.get("produces")) for node in written.nodes}
    for arrow in _bare_arrows(written):
        files = "" if arrow.style == "error" else made.get(arrow.source, "")
        yield attrs.evolve(arrow, label=plain(", ".join(filter(None, (arrow.label, files))))) if files else arrow


def _media(declared: Any) -> str:
    """The media types among what a node produces or accepts, in words."""
    each = declared.values() if isinstance(declared, Mapping) else _listed(declared)
    found = [one for value in each for one in _listed(value) if is_media(one)]
    return ", ".join(dict.fromkeys(found))


def _bare_arrows(written: Written) -> Iterator[Arrow]:
    taken = {str(node.name): _media(node.options.get("accepts")) for node in written.nodes}
    for name in written.entries:
        yield Arrow(START, str(name), plain(taken.get(str(name), "")))
    drawn: set[tuple[Any, Any]] = set()
    for edge in written.edges:
        if isinstance(edge, ChoiceDecl):
            yield from _choice_arrows(edge)
            drawn.update((edge.source, target) for target in edge.targets.values())
        else:
            yield _arrow(edge)
            drawn.add((edge.source, edge.target))
    for node in written.nodes:
        for target in _listed(node.options.get("goto")):
            if (node.name, target) not in drawn:
                yield Arrow(str(node.name), str(target), "goto", "maybe")


def _choice_arrows(choice: ChoiceDecl) -> Iterator[Arrow]:
    by_target: dict[str, list[str]] = {}
    for label, target in choice.targets.items():
        by_target.setdefault(str(target), []).append(str(label))
    for target, labels in by_target.items():
        chosen = ", ".join(label for label in labels if label != target)
        yield Arrow(str(choice.source), target, plain(chosen or _router(choice.router)), "choice")


def _router(router: Any) -> str:
    """A router's source says nothing of one of its targets; its name does."""
    name = getattr(router, "__name__", "choice")
    return "choice" if name == "<lambda>" else str(name)


def _arrow(edge: EdgeDecl) -> Arrow:
    words: list[str] = []
    style: Style = "always"
    if edge.on_error is not None:
        kinds = edge.on_error if isinstance(edge.on_error, tuple) else (edge.on_error,)
        words.append("on " + " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds))
        style = "error"
    elif edge.when is not None:
        words.append(called(edge.when, "when …"))
        style = "maybe"
    elif edge.otherwise:
        words.append("otherwise")
        style = "maybe"
    if edge.max_iterations is not None:
        words.append(f"at most {edge.max_iterations} times")
    return Arrow(str(edge.source), str(edge.target), plain(", ".join(words)), style, edge.max_iterations is not None)


def words(box: Box) -> str:
    """What stands in a box, where there is no badge: its name, and how often it ran if that is more than once."""
    return box.label + (f" (x{box.runs})" if box.runs > 1 else "")
