"""Running a node's function where memory is not shared, so that it means the same as in a thread.

What counts as a node's update goes by identity: what it set in place, and what it merely passed on. A state that was
pickled has neither, so the function is observed where it runs (`executors.worker.Observed`), and what it did is done
again here, to the state that the attempt was given.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import attrs

from .bodies import ElsewhereBody, step
from .call import Call
from .errors import StateMutated, WorkerLost
from .executors.remote import Remote
from .executors.work import Work, done_by
from .executors.worker import Observed, values_in
from .plan import PlanNode
from .ports import Executor
from .tokens import Activation
from .values import Goto


class RemoteBody(ElsewhereBody):
    """A function run by an executor that copies: processes, a cluster."""

    __slots__ = ("_keeps", "_resources", "_subject")

    def __init__(
        self,
        function: Callable[..., Any],
        call: Call,
        is_map: bool,
        executor: Executor,
        resources: Mapping[str, float] = {},
        keeps: bool = False,
    ) -> None:
        """`keeps`: large values that it returns may stay where they are, since none but its kind will look at them."""
        super().__init__(function, call, is_map, executor)
        self._subject = None if is_map else _subject_of(call)
        self._resources = resources
        self._keeps = keeps

    def begin(self, activation: Activation) -> Any:
        """Start it on one."""
        if self._subject is None:
            return self._run(activation, activation.state, self._function)
        return self._run(activation, activation.state, self._observed(activation, False), done_again)

    def begin_batch(self, activations: Sequence[Activation]) -> Any:
        """Start it on several; the context variables and the `Context` are those of the first."""
        first, states = activations[0], [activation.state for activation in activations]
        if self._subject is None:
            return self._run(first, states, self._function)

        def again(_: Activation, told: Any) -> Any:
            if not isinstance(told, list) or len(told) != len(activations):
                return told
            return [_or_error(activation, one) for activation, one in zip(activations, told, strict=True)]

        return self._run(first, states, self._observed(first, True), again)

    def _observed(self, activation: Activation, many: bool) -> Observed:
        assert self._subject is not None
        reducers = list(activation.node.input.reducers)
        return Observed(self._function, self._subject, many, _isolation(activation), reducers)

    def _run(
        self,
        activation: Activation,
        subject: Any,
        function: Callable[..., Any],
        take: Callable[[Activation, Any], Any] | None = None,
    ) -> Any:
        context = self._context(activation)
        there = None if context is None else context.elsewhere()
        args, kwargs = self._call.arguments(subject, there, self._state(activation))
        # A journal holds values, never references: these are gone with the cluster.
        keeps = self._keeps and not activation.run.root.tree.journal
        work = Work(function, args, kwargs, self._resources, keeps)
        variables = activation.run.tree.owner.variables.copy()
        return step(variables, self._awaited(activation, work, take))

    async def _awaited(self, activation: Activation, work: Work, take: Callable[[Activation, Any], Any] | None) -> Any:
        try:
            told = await done_by(self._executor, work)
        except Exception as error:
            with suppress(WorkerLost):  # what is wrong is known already
                await self._fetch(activation, work)
            raise error
        if not work.keep_remote:
            await self._fetch(activation, work, set() if take is None else _written(told))
        return told if take is None else take(activation, told)

    async def _fetch(self, activation: Activation, work: Work, written: Collection[str] = ()) -> None:
        """Put the values themselves in the place of what stood for them: the next may be no node of the cluster."""
        values = activation.values
        remotes = {name: value for name, value in values.items() if type(value) is Remote and name not in written}
        if not remotes:
            return
        executor: Any = self._executor
        found = await executor.fetched(list(remotes.values()), work.name)
        state = activation.state
        for (name, remote), value in zip(remotes.items(), found, strict=True):
            values[name] = value
            if isinstance(state, dict):
                if state.get(name) is remote:
                    state[name] = value
            elif getattr(state, name, None) is remote:
                object.__setattr__(state, name, value)


def _written(told: Any) -> set[str]:
    """The keys that one call has set: what stood there is nobody's any more."""
    if not isinstance(told, tuple) or len(told) != 5:
        return set()  # of a batch
    changed, _, _, passed_on, returned = told
    update = returned.update if isinstance(returned, Goto) else returned
    return {*changed, *values_in(update)} - {*passed_on}


def stays_on(node: PlanNode) -> bool:
    """Whether what a node returns is seen by none but one other node that runs in the same place.

    It goes straight there, decided by nothing that looks at the state; and nothing on the way copies or checks it.
    """
    way = node.straight
    target = None if way is None else way.target
    if not isinstance(target, PlanNode) or target.kind != "function" or len(target.ins) != 1 or node.gotos:
        return False
    here, there = node.decl.options, target.decl.options
    shape: Any = getattr(node.input, "whole", node.input)
    return (
        there.run_in == here.run_in
        and here.cache is None  # what is kept for other runs must not be lost with a machine
        and there.batch is None
        and there.cache is None
        and getattr(shape, "isolation", "shallow") == "shallow"
        and not getattr(shape, "always", False)
    )


def _subject_of(call: Call) -> int | str | None:
    """Where among its arguments a function gets its state, if it gets it at all."""
    if "subject" in call.positional:
        return call.positional.index("subject")
    return next((name for name, source in call.named.items() if source == "subject"), None)


def _isolation(activation: Activation) -> str:
    state = activation.node.input
    isolation: str = getattr(getattr(state, "narrow", state), "isolation", "shallow")
    return isolation


def _or_error(activation: Activation, told: Any) -> Any:
    try:
        return done_again(activation, told)
    except Exception as error:
        return error


def done_to(activation: Activation, before: dict[str, Any], returned: Any) -> Any:
    """What a function that ran here did to the state an attempt was given, which held `before`, for `done_again`."""
    observed = Observed(_nothing, 0, False, "shallow", list(activation.node.input.reducers))
    return observed.of_one(returned, activation.state, before, {})


def _nothing() -> None:
    """Has been called already."""


def done_again(activation: Activation, told: Any) -> Any:
    """Do to the state that was given here what was done to its copy; gives what was returned."""
    changed, gone, mutated, kept, returned = told
    given = activation.state
    before = values_in(given)
    if mutated and _isolation(activation) == "check":
        raise StateMutated(activation.node.name, mutated[0])
    if isinstance(given, dict):
        given.update(changed)
        for name in gone:
            given.pop(name, None)
    else:
        for name, value in changed.items():
            object.__setattr__(given, name, value)
    if not kept:
        return returned
    update = returned.update if isinstance(returned, Goto) else returned
    passed_on = {name: before[name] for name in kept}
    if isinstance(update, dict):
        update.update(passed_on)
    elif attrs.has(type(update)):
        for name, value in passed_on.items():
            object.__setattr__(update, name, value)
    return returned
