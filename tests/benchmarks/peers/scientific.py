"""The graphs of real scientific workflows, as `make_graphs.py` wrote them down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from attrs import frozen

FOLDER: Final = Path(__file__).parent / "graphs"


@frozen
class Scientific:
    """A workflow: for each task, in topological order, the tasks it waits for, and how long it took in the trace."""

    name: str
    parents: tuple[tuple[int, ...], ...]
    seconds: tuple[float, ...]

    @property
    def critical_path(self) -> float:
        """The seconds that it takes if nothing ever waits for anything but its own parents."""
        ends: list[float] = []
        for parents, seconds in zip(self.parents, self.seconds, strict=True):
            ends.append(seconds + max((ends[parent] for parent in parents), default=0.0))
        return max(ends)

    def lasting(self, critical_path: float) -> Scientific:
        """The same with all tasks shortened alike, so that its critical path takes so many seconds."""
        factor = critical_path / self.critical_path
        return Scientific(self.name, self.parents, tuple(seconds * factor for seconds in self.seconds))


def load(name: str, size: int) -> Scientific:
    """Read one of the files."""
    data = json.loads((FOLDER / f"{name}-{size}.json").read_text())
    return Scientific(name, tuple(map(tuple, data["parents"])), tuple(data["seconds"]))
