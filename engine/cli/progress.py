"""What is shown of a run as it goes: its events in, rows or lines out. Pure; times come with the events.

A row stands for a node, whatever activation of it is at work; those inside a subgraph stand below it, whichever
activation of the subgraph they are in. Lines are for where nothing can be drawn over: a log, a pipe.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Literal

import attrs

from ..history import Event
from ..maps import worker_plan
from ..plan import NodeKind, Plan
from ..underway import MapUnderWay
from .safe import safe_line

State = Literal["", "running", "waiting", "retrying", "succeeded", "failed", "cancelled"]
"""Of a node; empty as long as nothing has come to it."""

_NUMBERS: Final = re.compile(r"#\d+(\[\d+\])?(?=/)")


def row_name(node: str) -> str:
    """The row of a node: `sub#3/inner` and `sub#4/inner` share one."""
    return _NUMBERS.sub("", node) if "#" in node else node


@attrs.define
class Row:
    """A node as it is shown."""

    name: str
    depth: int = 0
    kind: NodeKind = "function"
    state: State = ""
    runs: int = 0
    """The number of its newest activation: how often a loop came by."""
    at_work: dict[str, float] = attrs.field(factory=dict)
    """The activations that have begun and not ended, and when they began."""
    seconds: float | None = None
    """How long the one took that ended last."""
    fraction: float | None = None
    done: int | None = None
    """Of a map's items."""
    total: int | None = None
    note: str = ""

    @property
    def label(self) -> str:
        """Its own name, without those that it stands below."""
        return self.name.rpartition("/")[2] if self.depth else self.name

    def time(self, now: float) -> float | None:
        """How long it has been at work, or how long it was."""
        return now - min(self.at_work.values()) if self.at_work else self.seconds


class Progress:
    """The rows of a run: give it every event, in order, once or more."""

    def __init__(self, plan: Plan | None = None) -> None:
        self.rows: dict[str, Row] = {}
        self.seq = 0
        self.began: float | None = None
        self.ended: float | None = None
        self.status = "queued"
        self.error = ""
        self.loop_limits: list[str] = []
        self._plan = plan
        for node in plan.nodes if plan is not None else ():
            self.rows[node.name] = Row(node.name, kind=node.kind)

    def apply(self, event: Event) -> None:
        """This happened; one that it knows of already changes nothing."""
        if event.seq <= self.seq:
            return
        self.seq = event.seq
        kind, _, what = event.type.partition("_")
        if kind == "run":
            self._run(what, event)
        elif kind == "node" and event.node is not None:
            if self.status == "waiting":
                self.status = "running"
            self._node(self._row(event.node), what, event)
        elif event.type == "loop_limit":
            self.loop_limits.append(str(event.data.get("edge", "")))

    def maps(self, under_way: Iterable[MapUnderWay]) -> None:
        """So far are the maps that are at work now; of several activations the newest is shown."""
        for found in under_way:
            row = self._row(found.node)
            row.done, row.total = found.done, found.total

    def elapsed(self, now: float) -> float:
        """How long the run has been going on."""
        return 0.0 if self.began is None else (self.ended or now) - self.began

    def _run(self, what: str, event: Event) -> None:
        self.status = {"submitted": "queued", "started": "running"}.get(what, what)
        if self.began is None:
            self.began = event.time
        if what in ("succeeded", "failed", "cancelled"):
            self.ended, self.error = event.time, str(event.data.get("error", ""))
            for row in self.rows.values():
                row.at_work.clear()
                if row.state in ("running", "waiting", "retrying"):
                    row.state = "cancelled"
        else:
            self.ended = None

    def _node(self, row: Row, what: str, event: Event) -> None:
        id = f"{event.node}#{event.activation}"
        data = event.data
        if what == "progress":
            row.fraction, row.note = data.get("fraction", row.fraction), str(data.get("message") or row.note)
            return
        row.fraction, row.note = None, ""
        if what == "started":
            row.runs = max(row.runs, event.activation or 0)
            row.at_work.setdefault(id, event.time)
            row.state = "waiting" if row.kind == "wait" else "running"
            row.done = row.total = None
            return
        if what == "retrying":
            row.state = "retrying"
            row.note = f"attempt {data.get('attempt')} failed: {data.get('error')}"
            return
        began = row.at_work.pop(id, None)
        row.seconds = None if began is None else event.time - began
        if row.kind == "map" and what == "succeeded" and row.total is not None:
            row.done = row.total
        row.state = "failed" if what == "failed" else "cancelled" if what == "cancelled" else "succeeded"
        if what == "failed":
            row.note = str(data.get("error", "")) + (" (caught)" if data.get("caught") else "")
        if row.at_work:
            row.state = "waiting" if row.kind == "wait" else "running"

    def _row(self, node: str) -> Row:
        name = row_name(node)
        row = self.rows.get(name)
        if row is None:
            row = Row(name, name.count("/"), self._kind(name))
            above = name.rpartition("/")[0]
            if above:
                self._row(above)
            # Below what it is inside of, behind what stands there already.
            names = list(self.rows)
            last = max((i for i, known in enumerate(names) if f"{known}/".startswith(f"{above}/")), default=len(names))
            behind = {known: self.rows.pop(known) for known in names[last + 1 :]} if above else {}
            self.rows[name] = row
            self.rows.update(behind)
        return row

    def _kind(self, name: str) -> NodeKind:
        """What kind of node it is, looked up by the way that its name tells."""
        plan = self._plan
        kind: NodeKind = "function"
        for part in name.split("/"):
            node = plan.by_name.get(part) if plan is not None else None
            if node is None:
                return "function"
            kind, decl = node.kind, node.decl
            worker = None if decl.map is None else worker_plan(decl.map)
            plan = decl.subgraph.plan if decl.subgraph is not None else worker
        return kind


_RANK: Final[dict[State, int]] = {
    "failed": 0, "running": 1, "retrying": 1, "waiting": 2, "cancelled": 3, "succeeded": 4, "": 5,
}  # fmt: skip


def fitting(rows: Sequence[Row], room: int) -> tuple[list[Row], str]:
    """As many rows as there is room for, in their order, and what is to be said of the others.

    Those stay that one wants to see: what failed, what is at work, what has run, in this order.
    """
    if len(rows) <= room:
        return list(rows), ""
    chosen = sorted(range(len(rows)), key=lambda i: (_RANK[rows[i].state], i))[: max(room - 1, 1)]
    hidden = [row for i, row in enumerate(rows) if i not in set(chosen)]
    counts: dict[str, int] = {}
    for row in hidden:
        counts[row.state or "not begun"] = counts.get(row.state or "not begun", 0) + 1
    said = ", ".join(f"{count} {state}" for state, count in counts.items())
    return [rows[i] for i in sorted(chosen)], f"… and {len(hidden)} more: {said}"


# --- lines ----------------------------------------------------------------------------------------------

IN_FULL: Final = 10
"""So many activations of a node are told each; of a loop that goes on, one in a while."""
A_WHILE: Final = 1.0


class Lines:
    """The same events as lines of text, few enough to be read: give it every event, in order."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._starts: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._untold: dict[str, int] = {}
        self._maps: dict[str, tuple[float, int]] = {}

    def of(self, event: Event) -> Iterator[str]:
        """What is to be said of it, if anything."""
        if self._began is None:
            self._began = event.time
        said = self._said(event)
        if said:
            yield f"{max(0.0, event.time - self._began):9.3f} s  {safe_line(said)}"

    def of_maps(self, under_way: Iterable[MapUnderWay], now: float) -> Iterator[str]:
        """How far maps are, now and then."""
        for found in under_way:
            id = f"{found.node}#{found.activation}"
            told, done = self._maps.get(id, (self._starts.get(id, now), 0))
            if found.done != done and now - told >= A_WHILE:
                self._maps[id] = now, found.done
                of = "" if found.total is None else f" of {found.total}"
                yield f"{max(0.0, now - (self._began or now)):9.3f} s  {safe_line(id)}: {found.done}{of} items"

    def _said(self, event: Event) -> str:
        kind, _, what = event.type.partition("_")
        data = event.data
        if kind == "run" and what != "started":
            return f"run {what}"  # why, is told at the end of the command
        if event.type == "loop_limit":
            return f"{event.node}#{event.activation}: {data.get('edge')} has been taken {data.get('limit')} times"
        if kind != "node" or event.node is None:
            return ""
        return self._node(f"{event.node}#{event.activation}", what, event)

    def _node(self, id: str, what: str, event: Event) -> str:
        data = event.data
        match what:
            case "started":
                self._starts[id] = event.time
                return f"{id} started" if (event.activation or 0) <= IN_FULL else ""
            case "progress":
                return _progress(id, data) if self._is_due(f"{id} progress", event.time) else ""
            case "retrying":
                return (
                    f"{id} retries in {data.get('delay', 0):.3g} s: attempt {data.get('attempt')}: {data.get('error')}"
                )
        took = event.time - self._starts.pop(id, event.time)
        if what != "succeeded":
            error = data.get("error")
            return f"{id} {what} after {took:.3f} s" + (f": {error}" if error else "")
        name = row_name(event.node or "")
        if (event.activation or 0) > IN_FULL and not self._is_due(name, event.time):
            self._untold[name] = self._untold.get(name, 0) + 1
            return ""
        self._told[name] = event.time
        untold = self._untold.pop(name, 0)
        return f"{id} succeeded in {took:.3f} s" + (f" (and {untold} before it)" if untold else "")

    def _is_due(self, name: str, time: float) -> bool:
        due = time - self._told.get(name, float("-inf")) >= A_WHILE
        if due:
            self._told[name] = time
        return due


def _progress(id: str, data: Any) -> str:
    if "event" in data:
        return f"{id}: {data['event']}"
    message = data.get("message")
    return f"{id}: {data.get('fraction', 0):.0%}" + (f" {message}" if message else "")
