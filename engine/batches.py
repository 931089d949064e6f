"""A node with `batch=Batch(size, wait)`: its function gets several waiting activations at once.

A worker takes up to `size` of them, as soon as so many wait or the oldest has waited for `wait` seconds. The function
takes a list of states and returns a list of what it would return for each, in the same order. An exception in that
list fails its own activation, one that is raised fails all of them; each then goes by its own retry policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any, Final

from .driving import Driven
from .errors import EngineError, NodeTimeout
from .nodes import Crew, Worker
from .options import Batch
from .tokens import Activation


class BatchFault(EngineError, TypeError):
    """A node with `batch=` did not return one result for each state that it was given."""


class BatchCrew(Crew):
    """A crew whose workers take several attempts at a time."""

    def __init__(self, *args: Any, batch: Batch, **options: Any) -> None:
        super().__init__(*args, **options)
        self.batch: Final = batch
        self._free_for_all = False
        self._members: dict[Worker, list[Activation]] = {}
        self._dropped: dict[Activation, None] = {}

    def start(self, activation: Activation) -> bool:
        """Queue an attempt, and start a batch if that makes it complete."""
        self._enqueue(activation)
        self.take_queued()
        return activation in self.busy

    def cancel(self, activation: Activation) -> bool:
        """Stop an attempt; one of a batch at work ends with it, and only a whole batch is stopped at once."""
        worker = self.busy.get(activation)
        members = self._members.get(worker) if worker is not None else None
        if worker is None or members is None:
            return super().cancel(activation)
        self._dropped[activation] = None
        if worker.stopping is None and all(member in self._dropped for member in members):
            worker.stopping = "cancel"
            worker.scope.cancel()
        return False

    def _admitted(self) -> bool:
        oldest = next(iter(self.ready.values()))
        wait = oldest + self.batch.wait - perf_counter()
        if len(self.ready) < self.batch.size and wait > 0:
            if self._back is None or not self._back.live:
                self._back = self._timers.after(wait, self.take_queued)
            return False
        return super()._admitted()

    async def _attempt(self, worker: Worker, activation: Activation) -> bool:
        if worker.stopping is not None:
            return False
        members = self._members[worker]
        worker.started = started = self._clock()
        if self._timeout is not None:
            worker.timer = self._timers.after(self._timeout, lambda: self._time_out(worker, activation))
        begun = perf_counter()
        answers: Sequence[Any]
        try:
            running = self._body.begin_batch(members)
            answers = self._checked(await running if running.__class__ is Driven else running, len(members))
        except Exception as error:
            answers = [error] * len(members)
        except BaseException as error:
            answers = [self._supervised(error)] * len(members)
        if worker.stopping is not None:
            return False
        seconds = perf_counter() - begun
        del self._members[worker]
        attempts = [member.attempt for member in members]
        for member in members[1:]:
            del self.busy[member]
        self._free(worker, activation)
        for member, attempt, answer in zip(members, attempts, answers, strict=True):
            self._answer(member, attempt, answer, started, seconds)
        return True

    def _take(self, worker: Worker) -> None:
        super()._take(worker)
        assert worker.job is not None
        self._members[worker] = [worker.job, *self._more(worker)]

    def _more(self, worker: Worker) -> list[Activation]:
        taken: list[Activation] = []
        while self.ready and len(taken) < self.batch.size - 1:
            activation, since = self.ready.popitem(last=False)
            self._waited(activation, since)
            self.busy[activation] = worker
            for gate in self._gates_out:
                gate.reserved += 1
            taken.append(activation)
        return taken

    def _checked(self, returned: Any, expected: int) -> Sequence[Any]:
        if not isinstance(returned, list | tuple) or len(returned) != expected:
            found = f"{len(returned)} results" if isinstance(returned, list | tuple) else type(returned).__name__
            raise BatchFault(
                f"node {self.node.name!r} has batch=, so it returns a list of one result for each of the "
                f"{expected} states that it was given, found {found}"
            )
        return returned

    def _answer(self, member: Activation, attempt: int, answer: Any, started: float, seconds: float) -> None:
        if member in self._dropped:
            del self._dropped[member]
            self.cancelled += 1
            self._answers.attempt_cancelled(member, attempt, started)
        elif isinstance(answer, Exception):
            self._count(seconds, False)
            self._answers.attempt_failed(member, attempt, answer, started, False)
        else:
            self._count(seconds, True)
            self._answers.attempt_succeeded(member, attempt, answer, started)
        for gate in self._gates_out:
            gate.give_back()

    def _end_stopped(self, worker: Worker, activation: Activation) -> None:
        if self._group is None:
            self._members.pop(worker, None)
            return
        members = self._members.pop(worker, [activation])
        stopping, worker.stopping = worker.stopping, None
        started, seconds = worker.started, self._timeout or 0.0
        attempts = [member.attempt for member in members]
        for member in members[1:]:
            del self.busy[member]
        self._free(worker, activation)
        for member, attempt in zip(members, attempts, strict=True):
            if stopping == "timeout":
                self._answer(member, attempt, NodeTimeout(member.name, seconds), started, seconds)
            else:
                self._dropped.setdefault(member)
                self._answer(member, attempt, None, started, seconds)
