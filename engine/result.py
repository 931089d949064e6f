"""What a run leaves to whoever asked for it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import attrs

from .carried import files_of
from .file import File
from .history import LogEntry
from .runs import Run, Status
from .waits import KeptSignal


@attrs.frozen(eq=False)
class RunResult:
    """A run that has ended: its final state and how it came to it.

    A run that succeeded changes no more, so what is long is read off it when somebody looks: a tenth of a quick run.
    """

    run_id: str
    status: Status
    state: Any
    counters: Mapping[str, int]
    unconsumed: tuple[KeptSignal, ...]
    files: tuple[File, ...]
    """What the run made: the files that its tokens had with them when they came to their end."""
    _machine: Run = attrs.field(repr=False)

    @classmethod
    def of(cls, machine: Run) -> RunResult:
        """What there is to say of a run now."""
        values = machine.present_values()
        state = machine.plan.state.build(values)
        files = files_of(values) if machine.plan.carries else ()
        return cls(machine.id, machine.status, state, machine.counters, machine.unconsumed, files, machine)

    @cached_property
    def log(self) -> tuple[LogEntry, ...]:
        """One entry for each attempt that has ended, as many as the history keeps."""
        return tuple(self._machine.history.log())

    @cached_property
    def visited(self) -> tuple[str, ...]:
        """The node of each activation in the order of their starts, as many as the history keeps."""
        return tuple(self._machine.history.visited())

    @cached_property
    def not_run(self) -> tuple[str, ...]:
        """The nodes that never ran."""
        return tuple(self._machine.not_run)
