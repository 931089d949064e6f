"""Signals and the waits that are parked for them, for one run and all its subgraphs.

A signal is kept until it is consumed, in order, once per id; the longest parked
wait that knows its name gets it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from .errors import StateInvalid
from .plan import Plan, PlanNode, takers_of
from .tokens import Activation
from .values import Signal


@attrs.frozen
class KeptSignal:
    """A signal that nobody has consumed yet. `serial` numbers the signals of a run."""

    serial: int
    name: str
    payload: Any
    id: str | None = None


def check_payload(plan: Plan, name: str, payload: Any) -> None:
    """Raise `StateInvalid` for what no wait for this signal could put into its state."""
    refusal: StateInvalid | None = None
    for taker in takers_of(plan, name):
        if taker is None:
            return
        state, into = taker
        try:
            state.check({into: payload}, f"the payload of signal {name!r}")
        except StateInvalid as error:
            refusal = refusal or error
        else:
            return
    if refusal is not None:
        raise refusal


class Signals:
    """What was signalled and who waits."""

    __slots__ = ("_ids", "_kept", "_serial", "parked")

    def __init__(self) -> None:
        self.parked: dict[Activation, None] = {}
        self._kept: list[KeptSignal] = []
        self._ids: dict[str, None] = {}
        self._serial = 0

    @property
    def ids(self) -> list[str]:
        """Of all signals that came with one."""
        return list(self._ids)

    @property
    def serial(self) -> int:
        """Of the newest signal."""
        return self._serial

    def go_on_from(self, kept: list[KeptSignal], ids: Iterable[str], serial: int) -> None:
        """After a snapshot."""
        self._kept = kept
        self._ids = dict.fromkeys(ids)
        self._serial = serial

    @property
    def unconsumed(self) -> tuple[KeptSignal, ...]:
        return tuple(self._kept)

    def came_before(self, id: str | None) -> bool:
        """Whether there was a signal of this id, whatever has become of it."""
        return id is not None and id in self._ids

    def accept(self, name: str, payload: Any, id: str | None) -> KeptSignal | None:
        """The signal as it is kept, or None if one of this id came before."""
        if id is not None:
            if id in self._ids:
                return None
            self._ids[id] = None
        self._serial += 1
        signal = KeptSignal(self._serial, name, payload, id)
        self._kept.append(signal)
        return signal

    def match(self) -> tuple[Activation, KeptSignal] | None:
        """The first kept signal that a parked wait takes, with that wait; both are taken out."""
        if not self._kept or not self.parked:
            return None
        for signal in self._kept:
            for activation in self.parked:
                if signal.name in names(activation.node):
                    self._kept.remove(signal)
                    del self.parked[activation]
                    return activation, signal
        return None

    def take_out(self, serial: int) -> KeptSignal | None:
        """In a replay: this signal has been consumed."""
        for signal in self._kept:
            if signal.serial == serial:
                self._kept.remove(signal)
                return signal
        return None


def names(node: PlanNode) -> tuple[str, ...]:
    assert node.decl.wait is not None
    return node.decl.wait.signals


def what_it_gives(node: PlanNode, signal: KeptSignal) -> dict[str, Any]:
    """The update of a wait that this signal ended."""
    assert node.decl.wait is not None
    several = len(node.decl.wait.signals) > 1
    return {node.decl.wait.into: Signal(signal.name, signal.payload) if several else signal.payload}
