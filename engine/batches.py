"""A node with `batch=Batch(size, wait)`: its function gets several waiting activations at once.

A worker takes up to `size` of them, as soon as so many wait or the oldest has waited for `wait` seconds. The function
takes a list of states and returns a list of what it would return for each, in the same order. An exception in that
list fails its own activation, one that is raised fails all of them; each then goes by its own retry policy.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from math import inf
from time import perf_counter
from typing import Any

import anyio

from .driving import Driven
from .errors import EngineError
from .hands import Stopping, Worker
from .limits import Limits
from .nodes import Crew
from .options import Batch
from .tokens import Activation


class BatchFault(EngineError, TypeError):
    """A node with `batch=` did not return one result for each state that it was given."""


def wait_for_more(batch: Batch, waiting: int, seconds: float) -> float:
    """How long to wait for more states, when so many wait and the oldest has for so long; 0 is not at all."""
    left = batch.wait - seconds
    # What clocks lose in their last digit is no time: a timer for it would be due at once, again and again.
    return left if waiting < batch.size and left > 1e-6 else 0.0


class BatchCrew(Crew):
    """A crew whose workers take several attempts at a time."""

    __slots__ = ("_asked", "_dropped", "batch", "batches")

    batch: Batch

    def __init__(self, *args: Any, batch: Batch, **options: Any) -> None:
        super().__init__(*args, **options)
        self.batch = batch
        self.batches = 0
        # Since when each waits, by the loop's clock, which its timers go by.
        self._asked: dict[Activation, float] = {}
        self._dropped: dict[Activation, None] = {}

    def start(self, activation: Activation) -> None:
        """Queue an attempt, and start a batch if that makes it complete."""
        self._enqueue(activation)
        self.take_queued()

    def cancel(self, activation: Activation) -> bool:
        """Stop an attempt; one of a batch at work ends with it, and only a whole batch is stopped at once."""
        worker = self.busy.get(activation)
        if worker is None:
            if activation not in self.busy:
                return super().cancel(activation)
            self._revoke(activation)
            self.cancelled += 1
            return True
        self._dropped[activation] = None
        if all(member in self._dropped for member in worker.job):
            worker.stop("cancel")
        return False

    def _revoke(self, activation: Activation) -> None:
        # Its batch is still a job: for the others in it, or for nobody, which `begin` finds out.
        del self.busy[activation]
        self._give_gates_back()

    def change(self, limits: Limits) -> None:
        """Go by other limits from now on."""
        assert limits.batch is not None, "a function that takes a list gets one"
        self.batch = limits.batch
        super().change(limits)

    def _is_free_for_all(self) -> bool:
        return False

    def _enqueue(self, activation: Activation) -> None:
        self._asked[activation] = anyio.current_time()
        super()._enqueue(activation)

    def _waited(self, activation: Activation, since: float) -> None:
        self._asked.pop(activation, None)
        super()._waited(activation, since)

    def _admitted(self) -> bool:
        # One that was put back, since the workers were gone, has waited before.
        oldest = self._asked.get(next(iter(self.ready)), -inf)
        wait = wait_for_more(self.batch, len(self.ready), anyio.current_time() - oldest)
        if wait:
            if self._back is None or not self._back.live:
                self._back = self._timers.after(wait, self.take_queued)
            return False
        return super()._admitted()

    def begin(self, worker: Worker, job: Any) -> Awaitable[Any] | None:
        """Run the function on all of a batch that have not been cancelled."""
        members: list[Activation] = [member for member in job if self.busy.get(member, worker) is None]
        if not members:
            self._job_over()
            return None
        for member in members:
            self.busy[member] = worker
        worker.job = members
        self.batches += 1
        worker.begun = perf_counter()
        due = 0.0 if self._timeout is None else anyio.current_time() + self._timeout
        try:
            running = self._body.begin_batch(members)
        except BaseException as error:
            self.end(worker, members, None, error)
            return None
        if running.__class__ is Driven:
            if due:
                self._stop_at(due, worker, members)
            return running
        self.end(worker, members, running, None)
        return None

    def end(self, worker: Worker, job: Any, returned: Any, raised: BaseException | None) -> None:
        """Answer for each of a batch."""
        members: list[Activation] = worker.job
        seconds = perf_counter() - worker.begun
        attempts = [member.attempt for member in members]
        error, stopping = self._outcome(worker, returned, raised)
        answers = [error] * len(members) if error or stopping else self._checked(returned, len(members))
        for member in members:
            del self.busy[member]
        self._job_over()
        for member, attempt, answer in zip(members, attempts, answers, strict=True):
            how: Stopping | None = "cancel" if member in self._dropped else stopping
            self._dropped.pop(member, None)
            failed = answer if isinstance(answer, Exception) else None
            self._answer(member, attempt, answer, failed, how, seconds)
            if self._gates_out:
                self._answers.once_carried_out(member, self._give_gates_back)

    def _is_cancelled(self, activation: Activation) -> bool:
        return activation in self._dropped

    def answer_orphans(self) -> None:
        """Answer for what was being cancelled when the workers went."""
        self._dropped.clear()
        super().answer_orphans()

    def _take(self) -> list[Activation]:
        taken = [super()._take()]
        while self.ready and len(taken) < self.batch.size and all(gate.has_room for gate in self._gates_out):
            taken.append(super()._take())
            for gate in self._gates_out:
                gate.reserved += 1
        return taken

    def _checked(self, returned: Any, expected: int) -> Sequence[Any]:
        if isinstance(returned, list | tuple) and len(returned) == expected:
            return returned
        found = f"{len(returned)} results" if isinstance(returned, list | tuple) else type(returned).__name__
        fault = BatchFault(
            f"node {self.node.name!r} has batch=, so it returns a list of one result for each of the "
            f"{expected} states that it was given, found {found}"
        )
        return [fault] * expected
