"""What a node can know and do beside its state, if it annotates a parameter with `Context`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import attrs

from .errors import NotReachable
from .typecheck import shown
from .values import Arrival

Report = Callable[[str, Mapping[str, Any]], None]
"""Called with an event's type and data; never blocks."""


def _unheard(type: str, data: Mapping[str, Any]) -> None:
    """For contexts made by hand, in tests of node functions."""


class NotHere:
    """Stands for what stays in the engine's own process: says so when it is used."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotReachable(self._what)


def _cannot_report(type: str, data: Mapping[str, Any]) -> None:
    raise NotReachable("progress() and ctx.emit()")


@attrs.define(eq=False, kw_only=True)
class Context:
    """One attempt of one activation. Made by the engine; in a test of a node, by hand."""

    run_id: str = ""
    graph: str = ""
    node: str = ""
    activation: int = 1
    attempt: int = 1
    iteration: int = 1
    """1 + the largest count of a loop that the token is in."""
    error: Any = None
    """Behind an error edge: what failed (node, activation, type, message, attempts)."""
    arrivals: tuple[Arrival, ...] = ()
    """How each incoming edge stood when the node ran."""
    deadline: float | None = None
    """When the run must be over, on the engine's clock; None if it may take as long as it likes."""
    tools: Any = None
    """Calls tools by name, `await ctx.tools.call("clean", rows=rows)`: a `ToolBox`."""
    files: Any = None
    logger: Any = attrs.field(factory=lambda: logging.getLogger("engine.node"))
    _report: Report = _unheard

    @property
    def token(self) -> str:
        """The same for every attempt of this activation, for ever: dedupe outside effects by it."""
        return f"{self.run_id}/{self.node}#{self.activation}"

    def elsewhere(self) -> Context:
        """A copy for another process: what can travel as it is, and what cannot refuses to be used there."""
        return attrs.evolve(
            self,
            error=attrs.evolve(self.error, exception=None) if attrs.has(type(self.error)) else self.error,
            tools=None if self.tools is None else NotHere("tools"),
            files=None if self.files is None else NotHere("files"),
            logger=logging.getLogger("engine.node"),
            report=_cannot_report,
        )

    def progress(self, fraction: float, message: str = "") -> None:
        """Tell how far this node is, from 0 to 1; seen in the run's events as `node_progress`."""
        if isinstance(fraction, bool) or not isinstance(fraction, Real) or not 0 <= fraction <= 1:
            raise ValueError(f"ctx.progress({fraction!r}): the fraction must be a number from 0 to 1")
        if not isinstance(message, str):
            raise TypeError(f"ctx.progress: the message must be text, found {shown(message)}")
        self._report("node_progress", {"fraction": float(fraction), "message": message})

    def emit(self, event: Any) -> None:
        """Put something of your own into the run's events, as the data of a `node_progress` event.

        It must be data, as it is sent and stored: None, booleans, numbers, text, and lists, tuples and dicts (whose
        keys are text) of them. Anything else is a `TypeError`. The event keeps a copy.
        """
        try:
            data = _data_of(event, "the event")
        except RecursionError:
            raise TypeError("ctx.emit: the event contains itself, or is nested too deep to be data") from None
        self._report("node_progress", {"event": data})


def _data_of(value: Any, place: str) -> Any:
    """A copy that nobody changes later."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_data_of(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"ctx.emit: the keys of a dict are text, found {shown(key)} in {place}")
        return {key: _data_of(item, f"{place}[{key!r}]") for key, item in value.items()}
    raise TypeError(
        f"ctx.emit: {place} is {shown(value)}, but events are data: None, booleans, numbers, text, "
        f"and lists and dicts of them; give what it says as such"
    )
