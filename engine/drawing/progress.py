"""How far each node of a run is, read off what any run can tell: which nodes it visited, and its log."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

import attrs

Status = Literal["done", "running", "waiting", "failed", "cancelled", "unreached"]
Path = tuple[str, ...]
"""The names of the nodes around a node, and its own."""

_INSIDE = re.compile(r"#\d+(?:\[\d+\])?/")  # What stands between the names: `publish#1/check`, `score#1[3]/check`.
_GOING_ON = frozenset({"queued", "running", "waiting", "paused"})


@attrs.frozen
class Progress:
    """What has become of each node."""

    given: bool
    runs: Counter[Path]
    """How often each has started."""
    live: frozenset[Path]
    ended: Mapping[Path, frozenset[str]]
    """How its attempts ended, each way once."""

    def status(self, path: Path, *, waits: bool = False) -> Status:
        """The one word for a node. A failure counts as long as no later attempt has succeeded."""
        how = self.ended.get(path, frozenset())
        if path in self.live:
            return "waiting" if waits else "running"
        if "succeeded" not in how and how & {"failed", "timed_out"}:
            return "failed"
        if how == {"cancelled"}:
            return "cancelled"
        return "done" if self.runs[path] else "unreached"


def progress_of(run: Any) -> Progress:
    """The progress of anything with `visited`, and perhaps `log` and `status`; of None, none."""
    visited = list(getattr(run, "visited", None) or ())
    log = list(getattr(run, "log", None) or ())
    runs = Counter(path_of(name) for name in visited)
    ended: dict[Path, set[str]] = {}
    for entry in log:
        ended.setdefault(path_of(entry.node), set()).add(entry.status)
    live: frozenset[Path] = frozenset()
    if getattr(run, "status", None) in _GOING_ON:
        over = Counter(path_of(name) for name, _ in {(entry.node, entry.activation) for entry in log})
        # A history that was cut says only of nodes that never ended that they are still at work.
        cut = getattr(run, "visited_dropped", 0) or getattr(run, "log_dropped", 0)
        live = frozenset(path for path, count in runs.items() if not over[path] or (not cut and over[path] < count))
    return Progress(run is not None, runs, live, {path: frozenset(how) for path, how in ended.items()})


def path_of(name: str) -> Path:
    """`publish#1/check` is the node `check` within `publish`."""
    return tuple(_INSIDE.split(str(name)))
