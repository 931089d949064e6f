"""How the body of a node is run: what an attempt calls, with what, and where.

One small class per way. `begin` returns the result, or an awaitable of it where the body has to wait; in either case
it runs in a copy of the submitter's context variables, so nothing that a node sets is seen by the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import Context as Variables
from types import CoroutineType
from typing import Any, Protocol

from .call import Call
from .context import Context
from .driving import Driven
from .executors.work import Work, done_by
from .ports import Executor
from .tokens import Activation


class Body(Protocol):
    """Runs a node's function for one attempt."""

    def begin(self, activation: Activation) -> Any:
        """Start it: the result, or an awaitable of the result."""
        ...

    def begin_batch(self, activations: Sequence[Activation]) -> Any:
        """Start it on several at once: a list of results, or an awaitable of one."""
        ...


class Surroundings(Protocol):
    """What a body needs to know of the run that an attempt belongs to."""

    @property
    def variables(self) -> Variables:
        """The context variables of whoever submitted the run."""
        ...

    def context_for(self, activation: Activation) -> Context:
        """What a node sees as `Context`."""
        ...


class _Prepared:
    """The function with what it is called with."""

    __slots__ = ("_call", "_function", "_is_map", "_plain")

    def __init__(self, function: Callable[..., Any], call: Call, is_map: bool) -> None:
        self._function = function
        self._call = call
        self._plain = call.plain
        self._is_map = is_map

    def begin(self, activation: Activation) -> Any:
        """Start it on one."""
        return self._begin(activation, activation.state)

    def begin_batch(self, activations: Sequence[Activation]) -> Any:
        """Start it on several; the context variables and the `Context` are those of the first."""
        return self._begin(activations[0], [activation.state for activation in activations])

    def _begin(self, activation: Activation, subject: Any) -> Any:
        raise NotImplementedError

    def _invoke(self, activation: Activation, subject: Any) -> Any:
        call = self._call
        if call.plain:
            return self._function(subject)
        return call(self._function, subject, self._context(activation), self._state(activation))

    def _context(self, activation: Activation) -> Context | None:
        if not self._call.wants_context:
            return None
        context: Context = activation.run.tree.owner.context_for(activation)
        return context

    def _state(self, activation: Activation) -> Any:
        return activation.node.input.give(activation.values) if self._is_map else None


class AsyncBody(_Prepared):
    """A coroutine function, in the worker's own task."""

    __slots__ = ()

    def begin(self, activation: Activation) -> Any:
        """Take its first step; most end there."""
        # What `_begin` does, written out: it saves a tenth of what a quick node costs.
        variables = activation.run.tree.owner.variables.copy()
        state = activation.state
        coroutine = self._function(state) if self._plain else self._invoke(activation, state)
        try:
            first = variables.run(coroutine.send, None)
        except StopIteration as stop:
            return stop.value
        return Driven(variables, coroutine, first)

    def _begin(self, activation: Activation, subject: Any) -> Any:
        return step(activation.run.tree.owner.variables.copy(), self._invoke(activation, subject))


class LoopBody(_Prepared):
    """A quick sync function, called in the loop."""

    __slots__ = ()

    def _begin(self, activation: Activation, subject: Any) -> Any:
        variables = activation.run.tree.owner.variables.copy()
        result = variables.run(self._invoke, activation, subject)
        # A lambda or a partial may turn out to give a coroutine.
        return step(variables, result) if isinstance(result, CoroutineType) else result


class ElsewhereBody(_Prepared):
    """A sync function, run by an executor: threads, processes, a cluster."""

    __slots__ = ("_executor",)

    def __init__(self, function: Callable[..., Any], call: Call, is_map: bool, executor: Executor) -> None:
        super().__init__(function, call, is_map)
        self._executor = executor

    def _begin(self, activation: Activation, subject: Any) -> Any:
        call = self._call
        if call.plain:
            args: list[Any] = [subject]
            kwargs: dict[str, Any] = {}
        else:
            args, kwargs = call.arguments(subject, self._context(activation), self._state(activation))
        variables = activation.run.tree.owner.variables.copy()
        return step(variables, done_by(self._executor, Work(self._function, args, kwargs)))


def step(variables: Variables, coroutine: Any) -> Any:
    """Take a coroutine's first step in a context: its result if that was all, otherwise the rest to await."""
    try:
        first = variables.run(coroutine.send, None)
    except StopIteration as stop:
        return stop.value
    return Driven(variables, coroutine, first)
