"""How a run is told apart from others, whoever holds it: here, blocking, or at a service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Submitted(Protocol):
    """What never changes of a run."""

    @property
    def id(self) -> str: ...
    @property
    def graph(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def tags(self) -> Mapping[str, str]: ...
    @property
    def priority(self) -> int: ...
    @property
    def submitted_at(self) -> float: ...


class Listed(Submitted, Protocol):
    """A run as lists show it."""

    @property
    def status(self) -> str: ...


def in_short(run: Listed) -> dict[str, Any]:
    """Which run it is, and where it stands."""
    return {
        "run_id": run.id,
        "graph": run.graph,
        "version": run.version,
        "status": run.status,
        "submitted_at": run.submitted_at,
        "tags": dict(run.tags),
        "priority": run.priority,
    }
