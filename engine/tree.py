"""What a run shares with the runs of its subgraphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .counts import RunCounts
from .history import History
from .packing import Packer
from .tokens import Activation, Command
from .waits import KeptSignal, Signals

# Shared by all runs that hold nothing back, and never changed.
_NONE_HELD: dict[Activation, bool] = {}


class Tree:
    """What a run shares with the runs of its subgraphs."""

    __slots__ = (
        "_signals",
        "careful",
        "counts",
        "executing",
        "held",
        "history",
        "journal",
        "later",
        "loop_limits",
        "now",
        "out",
        "owner",
        "pack",
        "paused",
        "replaying",
        "retries",
        "was_waiting",
        "writes",
    )

    def __init__(self, history: int, journal: Packer | bool | None) -> None:
        self.owner: Any = None
        """Whoever drives the run; nothing here looks at it."""
        self.counts: RunCounts | None = None
        """Where its driver wants things counted."""
        self.out: list[Command] = []
        self.history = History(history)
        self.journal = journal
        self.pack = None if journal is None or isinstance(journal, bool) else journal.update
        """Makes of values what the journal keeps of them; raises what says that they cannot be kept."""
        self.now = 0.0
        self.paused = False
        self.replaying = False
        self.careful = False
        """Something forbids the short ways: a pause, a replay."""
        self.held: dict[Activation, bool] = _NONE_HELD
        """Activations that wait for `resume`, and whether they had begun already, in the life of another engine."""
        self._signals: Signals | None = None
        self.later: Sequence[Callable[[], None]] = ()
        """What must wait until the decision at hand is complete."""
        self.executing = 0
        """Attempts that were ordered and have not ended."""
        self.retries = 0
        self.loop_limits = 0
        self.writes = 0
        self.was_waiting = False

    @property
    def signals(self) -> Signals:
        """Made when first asked for: few runs wait for any."""
        if self._signals is None:
            self._signals = Signals()
        return self._signals

    @property
    def unconsumed(self) -> tuple[KeptSignal, ...]:
        return () if self._signals is None else self._signals.unconsumed

    def hold(self, activation: Activation, begun: bool = False) -> None:
        """Keep it back until the run goes on."""
        if self.held is _NONE_HELD:
            self.held = {}
        self.held[activation] = begun

    def let_go(self, activation: Activation) -> None:
        """It is gone."""
        self.held.pop(activation, None)

    def defer(self, action: Callable[[], None]) -> None:
        """Do it once the decision at hand is complete."""
        if isinstance(self.later, list):
            self.later.append(action)
        else:
            self.later = [action]

    def next_write(self) -> int:
        self.writes += 1
        return self.writes
