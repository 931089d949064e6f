"""What a run leaves to whoever asked for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from .history import LogEntry
from .runs import Run, Status
from .waits import KeptSignal


@attrs.frozen
class RunResult:
    """A run that has ended: its final state and how it came to it."""

    run_id: str
    status: Status
    state: Any
    log: tuple[LogEntry, ...]
    visited: tuple[str, ...]
    not_run: tuple[str, ...]
    counters: Mapping[str, int]
    unconsumed: tuple[KeptSignal, ...] = ()

    @classmethod
    def of(cls, machine: Run) -> RunResult:
        """What there is to say of a run now."""
        return cls(
            machine.id,
            machine.status,
            machine.plan.state.build(machine.present_values()),
            tuple(machine.history.log()),
            tuple(machine.history.visited()),
            tuple(machine.not_run),
            machine.counters,
            machine.unconsumed,
        )
