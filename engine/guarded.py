"""A node with a circuit breaker or a cache: what stands in front of its crew, and hears the crew's answers.

Nodes without these have nothing in front of them, and pay nothing. What is decided is in `breaking.py` and
`reusing.py`; here it is done. A result is kept as what the function did to the state that it was given, so it means
the same in another run, whose state may differ in what does not count for the cache.
"""

from __future__ import annotations

import copy
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final

import anyio
import attrs

from .breaking import Circuit
from .counts import Histogram, Waits
from .elsewhere import done_again, done_to
from .errors import CacheKeyInvalid, NodeUnavailable, NotStorable, noted
from .executors.worker import values_in
from .hands import Worker
from .limits import Limits
from .logs import about
from .nodes import Answers, Crew
from .options import Cache
from .plan import PlanNode
from .reusing import Found, Results
from .schema import deep_copied
from .tokens import Activation
from .values import Goto

logger = logging.getLogger("engine")


class GuardedCrew:
    """A crew with what stands in front of it; to the scheduler a crew, to the crew whom it answers."""

    def __init__(self, crew: Crew, limits: Limits, clock: Callable[[], float] = anyio.current_time) -> None:
        self.crew: Final = crew
        self.circuit: Circuit | None = None
        self.results: Results[Activation] | None = None
        self._answers: Final[Answers] = crew.answer_to(self)
        self._clock = clock
        # What the state of each leader held before its function got it.
        self._before: dict[Activation, dict[str, Any]] = {}
        # What was computed by another, and may not go on yet: an edge behind the node is full.
        self._held: OrderedDict[Activation, Any] = OrderedDict()
        self._stay_shared: set[str] = set()
        self._done = 0
        self._failed = 0
        self._cancelled = 0
        self.change(limits)

    def change(self, limits: Limits) -> None:
        """Go by other limits from now on."""
        if limits.breaker is None:
            self.circuit = None
        elif self.circuit is None:
            self.circuit = Circuit(limits.breaker)
        elif limits.breaker != self.circuit.breaker:
            self.circuit.change(limits.breaker)
        if self.results is not None:
            self.results.change(limits.cache)
        elif limits.cache is not None:
            self.results = Results(limits.cache)
        self.crew.change(limits)

    # -- the scheduler's side

    def start(self, activation: Activation) -> None:
        """Answer an attempt from the cache, have it wait for another that computes the same, or start it."""
        results = self.results
        if results is None or results.cache is None:
            self._begin(activation)
            return
        now = self._clock()
        try:
            key = _key(activation, results.cache)
        except Exception as error:
            self._failed += 1
            self._answers.attempt_failed(activation, activation.attempt, error, 0.0, False)
            return
        asked = results.ask(key, activation, now)
        if isinstance(asked, Found):
            self._give(activation, asked.value)
        elif asked == "lead":
            self._begin(activation)

    def _begin(self, activation: Activation) -> None:
        if self.circuit is not None:
            wait = self.circuit.admits(activation, self._clock())
            if wait is not None:
                self._refuse(activation, wait)
                return
        if self.results is not None and self.results.leads(activation):
            self._before[activation] = {} if self.crew.is_map else values_in(activation.state)
        self.crew.start(activation)

    def _refuse(self, activation: Activation, wait: float) -> None:
        """Fail an attempt that may not start, and those that wait for its result."""
        for one in (activation, *self._failed_with(activation)):
            self._failed += 1
            error = NodeUnavailable(one.name, wait)
            self._answers.attempt_failed(one, one.attempt, error, 0.0, False)

    def _give(self, activation: Activation, did: Any) -> None:
        """Answer with what was computed by another, as soon as the edges behind the node have room."""
        if self._held or not self.crew.lets_out(self._give_held):
            self._held[activation] = did
            self.crew.waits_in_front(activation, still=True)
        else:
            self._answer(activation, did)

    def _give_held(self) -> None:
        while self._held and self.crew.lets_out(self._give_held):
            activation, did = self._held.popitem(last=False)
            self.crew.waits_in_front(activation, still=False)
            self._answer(activation, did)

    def _answer(self, activation: Activation, did: Any) -> None:
        copied = self._copied(did)
        returned = copied if self.crew.is_map else done_again(activation, copied)
        self._done += 1
        self._answers.attempt_succeeded(activation, activation.attempt, returned, 0.0)
        self.crew.let_out(activation)

    def _copied(self, did: Any) -> Any:
        """A copy for one run, or for those to come: what one does to it in place no other sees."""
        if self.crew.is_map:
            return deep_copied({"": did}, self._not_copied)[""]
        return _copied_to(did, self._not_copied)

    def _not_copied(self, name: str, value: Any, error: Exception) -> None:
        if name not in self._stay_shared:
            self._stay_shared.add(name)
            logger.warning(
                "the cache of node %r shares its result%s (%s) among runs, since that cannot be copied: %s: %s",
                self.name,
                f" under key {name!r}" if name else "",
                type(value).__name__,
                type(error).__name__,
                error,
                extra=about(node=self.name),
            )

    def cancel(self, activation: Activation) -> bool:
        """Stop an attempt; true if it is over already."""
        if self.results is not None and activation in self.results.following():
            self.results.dropped(activation)
            self._cancelled += 1
            return True
        if activation in self._held:
            del self._held[activation]
            self.crew.waits_in_front(activation, still=False)
            self._cancelled += 1
            return True
        over = self.crew.cancel(activation)
        if over:
            self._gone(activation)
        return over

    def _gone(self, activation: Activation) -> None:
        """One ended without a result: another may have to be the trial, or to compute what was waited for."""
        if self.circuit is not None:
            self.circuit.dropped(activation)
        self._before.pop(activation, None)
        if self.results is not None and (heir := self.results.dropped(activation)) is not None:
            self._begin(heir)

    # -- the crew's side

    def attempt_succeeded(self, activation: Activation, attempt: int, returned: Any, seconds: float) -> None:
        """The function returned."""
        if self.circuit is not None:
            self.circuit.succeeded(activation)
        results, before = self.results, self._before.pop(activation, None)
        if results is None or before is None:
            self._answers.attempt_succeeded(activation, attempt, returned, seconds)
            return
        # Before the run gets it, which may go on to change it.
        did = self._copied(returned if self.crew.is_map else done_to(activation, before, returned))
        followers = results.succeeded(activation, did, self._clock())
        self._answers.attempt_succeeded(activation, attempt, returned, seconds)
        for follower in followers:
            self._give(follower, did)

    def attempt_failed(
        self, activation: Activation, attempt: int, error: BaseException, seconds: float, timed_out: bool
    ) -> None:
        """The function raised, or was stopped at its time-out: so for those that waited for its result."""
        opened = self.circuit is not None and self.circuit.failed(activation, self._clock())
        # Whom the open circuit keeps from starting, though the crew has them already.
        withdrawn = self.crew.withdraw() if opened else []
        followers = self._failed_with(activation)
        self._answers.attempt_failed(activation, attempt, error, seconds, timed_out)
        for follower in followers:
            self._failed += 1
            self._answers.attempt_failed(follower, follower.attempt, error, 0.0, timed_out)
        for one in withdrawn:
            self._begin(one)  # which refuses it, unless the cool-down is over by now

    def _failed_with(self, activation: Activation) -> list[Activation]:
        self._before.pop(activation, None)
        leads = self.results is not None and self.results.leads(activation)
        return self.results.failed(activation) if self.results is not None and leads else []

    def attempt_cancelled(self, activation: Activation, attempt: int, seconds: float) -> None:
        """A cancelled attempt is over."""
        self._answers.attempt_cancelled(activation, attempt, seconds)
        self._gone(activation)

    def once_carried_out(self, activation: Activation, call: Callable[[], None]) -> None:
        """Call when the consequences of that have begun."""
        self._answers.once_carried_out(activation, call)

    # -- what can be seen: the crew's, and what never came to it

    @property
    def name(self) -> str:
        """The crew's."""
        return self.crew.name

    @property
    def node(self) -> PlanNode:
        """The crew's."""
        return self.crew.node

    @property
    def limits(self) -> Limits:
        """What holds at present."""
        breaker = None if self.circuit is None else self.circuit.breaker
        cache = None if self.results is None else self.results.cache
        return attrs.evolve(self.crew.limits, breaker=breaker, cache=cache)

    @property
    def is_map(self) -> bool:
        """Whether its attempts are the items of a map."""
        return self.crew.is_map

    @property
    def busy(self) -> Mapping[Activation, Worker | None]:
        """The crew's."""
        return self.crew.busy

    @property
    def ready(self) -> Iterator[Activation]:
        """Those that wait for the crew's limits, for another that computes the same, or for room behind the node."""
        yield from self.crew.ready
        yield from self._held
        if self.results is not None:
            yield from self.results.following()

    @property
    def in_flight(self) -> int:
        """Attempts with the workers."""
        return self.crew.in_flight

    @property
    def queued(self) -> int:
        """Attempts that wait until the limits allow them."""
        return self.crew.queued + len(self._held)

    @property
    def unlimited(self) -> bool:
        """Whether no attempt ever waits."""
        return self.crew.unlimited

    @property
    def tries_again(self) -> bool:
        """Whether a failed attempt may be followed by another."""
        return self.crew.tries_again

    @property
    def durations(self) -> Histogram:
        """How many attempts took how long, in the function."""
        return self.crew.durations

    @property
    def mailbox_waits(self) -> Waits:
        """How often attempts were queued, and how long in all."""
        return self.crew.mailbox_waits

    @property
    def tokens_waiting(self) -> int | None:
        """Tokens that wait on incoming edges with a capacity."""
        return self.crew.tokens_waiting

    @property
    def batches(self) -> int:
        """The crew's."""
        return self.crew.batches

    @property
    def done(self) -> int:
        """Attempts that succeeded, those from the cache among them."""
        return self.crew.done + self._done

    @property
    def failed(self) -> int:
        """Attempts that failed, those that never started among them."""
        return self.crew.failed + self._failed

    @property
    def cancelled(self) -> int:
        """Attempts that were cancelled."""
        return self.crew.cancelled + self._cancelled

    @property
    def retries(self) -> int:
        """Attempts that were followed by another."""
        return self.crew.retries

    @retries.setter
    def retries(self, number: int) -> None:
        self.crew.retries = number


def _key(activation: Activation, cache: Cache) -> bytes:
    """What is equal for two attempts of which one can do for the other."""
    subject, node = activation.state, activation.node
    value: Any
    if callable(cache.key):
        try:
            value = cache.key(subject)
        except Exception as error:
            noted(error, f"raised by key= of the cache of node {node.name!r}")
            raise
    elif cache.keys:
        values = values_in(subject)
        # With its name, so that a key that is not there differs from one that is None.
        value = [(name, values[name]) for name in cache.keys if name in values]
    elif activation.index >= 0:
        value = subject
    else:
        value = sorted(values_in(subject).items(), key=lambda item: str(item[0]))
    from .codec import pack  # with the JSON that journals are written in; most engines have no cache

    try:
        return blake2b(pack(value), digest_size=32).digest()
    except NotStorable as error:
        raise CacheKeyInvalid(node.name, error.what, error.path) from error


def _copied_to(did: Any, not_copied: Callable[[str, Any, Exception], None]) -> Any:
    """What was done to a state, in objects of its own."""
    changed, gone, mutated, kept, returned = did
    return deep_copied(changed, not_copied), gone, mutated, kept, _returned_copied(returned, not_copied)


def _returned_copied(returned: Any, not_copied: Callable[[str, Any, Exception], None]) -> Any:
    if isinstance(returned, Goto):
        return Goto(returned.targets, _returned_copied(returned.update, not_copied))
    if isinstance(returned, dict):
        return deep_copied(returned, not_copied)
    fields = getattr(type(returned), "__attrs_attrs__", None)
    if fields is None:
        return returned  # no update: it is refused wherever it is given
    # Field by field: it may hold a client that the state came with.
    held = {field.name: getattr(returned, field.name) for field in fields if hasattr(returned, field.name)}
    copied = copy.copy(returned)
    for name, value in deep_copied(held, not_copied).items():
        object.__setattr__(copied, name, value)
    return copied
