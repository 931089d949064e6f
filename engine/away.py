"""A run that is not driven here: another engine has it, or none has a place for it yet. It is followed in the store."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context as Variables
from time import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from actors import Waker

from .errors import RunEnded, RunNotFound, UnknownSignal
from .format import unpack_snapshot
from .handle import Run
from .kept import KeptRun
from .orders import order, signal
from .recovery import Found
from .replay import Again
from .runs import Run as Machine
from .runs import Status
from .snapshot import Snapshot
from .stored import RunRow, Whereabouts
from .submitting import refuse, signal_faults, text_fault
from .tokens import Record
from .waits import check_payload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .app import Engine
    from .durable import Durable
    from .registry import Registered

_ENDED: Final = ("succeeded", "failed", "cancelled")
_NO_VARIABLES: Final = Variables()


class Others(Protocol):
    """The way to the engines that share the store."""

    def attend(self, run: AwayRun) -> None:
        """Somebody waits for news of it."""
        ...

    async def ask(self, run_id: str, id: str, data: bytes) -> None:
        """Have its owner do something; returns when that is safe. Raises `RunNotFound`, `RunEnded`."""
        ...

    async def cancel(self, run_id: str, reason: str | None) -> None:
        """Have it end, whoever owns it; without effect if it has ended."""
        ...

    async def fresh(self, run_id: str) -> Run:
        """The run as it is now."""
        ...


class AwayRun(Run):
    """What it tells is what the store had of it a moment ago; what is asked of it reaches the engine that drives it."""

    __slots__ = ("_again", "_gone", "_others", "seq", "where")

    def __init__(
        self, engine: Engine, registered: Registered, others: Others, stored: Found, where: Whereabouts
    ) -> None:
        row = stored.row
        machine = Machine(registered.plan, row.run_id)
        super().__init__(
            engine,
            registered,
            machine,
            _NO_VARIABLES,
            tags=row.tags,
            priority=row.priority,
            number=row.number,
            submitted_at=row.submitted_at,
        )
        self.key = row.key
        self._others = others
        self._gone = False
        self._again: Again | None = None
        self.seq = 0
        """Of the last record that it knows."""
        self.where = where
        machine.tree.owner = None  # nobody drives it here, and who holds it no more need not wait for a collector
        self.read(stored, where)

    # -- for whoever follows it

    def read(self, stored: Found, where: Whereabouts) -> None:
        """Be what the store has of it, from the beginning on, or from its snapshot."""
        self.where = where
        self.seq = stored.seq
        machine = Machine(self.registered.plan, self.id)
        machine.tree.owner = None
        self.machine = machine  # type: ignore[misc]  # Final for whoever drives one
        self._again = None
        if stored.run.snapshot is not None:
            machine.restore(Snapshot(*unpack_snapshot(stored.run.snapshot[1], stored.blobs)), [], time(), held=True)
        elif where.owner is None and stored.is_untouched:
            return
        else:
            state = self.registered.plan.state.build(stored.values)
            machine.replay(state, [], time(), self.submitted_at, held=True)
        self._again = Again(machine)
        for record in stored.records():
            self._again.apply(record)

    @property
    def has_begun(self) -> bool:
        """Whether it is known to have; one that has must be read before its records are added."""
        return self._again is not None

    def add(self, records: Sequence[tuple[int, Record]]) -> bool:
        """These have come; false if some before them are gone, so that it has to be read anew."""
        for seq, record in records:
            if self._again is None or seq > self.seq + 1:
                return False
            if seq > self.seq:
                self._again.apply(record)
                self.seq = seq
        return True

    def moved(self, where: Whereabouts) -> None:
        """It is somewhere else, or has ended, which all of its records have told before."""
        self.where = where
        self._done = where.status in _ENDED
        if self._done and not self.machine.over:
            # Cancelled by one who could not drive it, so no record says so.
            again = self._again or Again(self.machine)
            again.apply(Record("cancel"))
            again.apply(Record("ended", update={"status": "cancelled"}))

    def tell(self) -> None:
        """Wake whoever waits for news."""
        for waker in (*(self._readers or ()), *((self._waiters or ()) if self._done else ())):
            waker.wake()

    @property
    def is_read(self) -> bool:
        """Whether somebody waits for its events."""
        return bool(self._readers)

    @property
    def is_waited_for(self) -> bool:
        """Whether somebody waits for its end."""
        return bool(self._waiters)

    def is_gone(self) -> None:
        """The store has removed it: whoever waits is told so."""
        self._gone = True
        for waker in (*(self._readers or ()), *(self._waiters or ())):
            waker.wake()

    # -- look

    @property
    def status(self) -> Status:
        """As it was a moment ago; `queued` while it waits for an engine."""
        if self._done:
            return self.machine.status
        if not self.where.owner:
            return "queued"
        tree = self.machine.tree
        return "paused" if tree.paused else "waiting" if tree.was_waiting else "running"

    def explain(self, node: str) -> str:
        """What the store tells of it."""
        if self.where.owner is None and not self._done:
            return f"run {self.id!r} waits for an engine that has a place for it"
        tree = self.machine.tree
        held, tree.replaying = tree.replaying, False  # held here, but at work elsewhere
        try:
            return super().explain(node)
        finally:
            tree.replaying = held

    # -- act

    async def cancel(self, reason: str | None = None) -> None:
        """Have the engine that drives it end it; returns when that is safe. `wait()` tells when it has ended."""
        if reason is not None and (fault := text_fault(reason)):
            raise ValueError(f"cancel: reason {fault}")
        if not self.over:
            await self._others.cancel(self.id, reason)
            self._others.attend(self)

    async def signal(self, name: str, payload: Any = None, id: str | None = None) -> None:
        """Give it to the engine that drives it; returns when that is safe. Raises as it would there."""
        refuse("signal", signal_faults(name, id))
        plan = self.registered.plan
        if self.over:
            raise RunEnded(self.id, self.status)
        if name not in plan.signals:
            raise UnknownSignal(name, sorted(plan.signals))
        check_payload(plan, name, payload)
        await self._others.ask(self.id, *signal(name, payload, id))

    async def pause(self) -> None:
        """Have the engine that drives it hold new activations; returns when that is safe."""
        await self._ask("pause")

    async def resume(self) -> None:
        """Have the engine that drives it let them go; returns when that is safe."""
        await self._ask("resume")

    async def _ask(self, what: Any) -> None:
        if not self.over:
            await self._others.ask(self.id, *order(what))

    async def retry(self, update: Mapping[str, Any] | None = None) -> None:
        """As `Run.retry`: it goes on here."""
        if self.status != "failed":
            raise RunEnded(self.id, self.status, "only a run that has failed can be retried")
        await (await self._others.fresh(self.id)).retry(update)
        self._done = False
        self._others.attend(self)

    def __repr__(self) -> str:
        return f"<AwayRun {self.id} of {self.graph!r}, {self.status}>"

    # -- inside

    def _check_attached(self) -> None:
        if self._gone:
            raise RunNotFound(self.id, "it has been removed from the store")
        super()._check_attached()

    async def _until_woken(self, among: dict[Waker, None]) -> None:
        self._others.attend(self)
        await super()._until_woken(among)


class AwayKeptRun(KeptRun):
    """One that this engine could not drive either: its graph is not here. Another engine may have it."""

    __slots__ = ("_others", "_where")

    def __init__(self, durable: Durable, row: RunRow, why: Exception, others: Others, where: Whereabouts) -> None:
        super().__init__(durable, row, why, live=lambda run_id: None, changes=lambda run_id: None)
        self._others = others
        self._where = where

    @property
    def status(self) -> Status:
        """How it ended; `running` if another engine has it, `queued` if none does."""
        if self._row.status != "running":
            return self._row.status
        return "running" if self._where.owner else "queued"

    async def cancel(self, reason: str | None = None) -> None:
        """End it, or have the engine end it that drives it."""
        if not self.over:
            await self._others.cancel(self.id, reason)

    async def signal(self, name: str, payload: Any = None, id: str | None = None) -> None:
        """Give it to the engine that drives it; whether a wait knows its name is seen there."""
        refuse("signal", signal_faults(name, id))
        if self.over:
            raise RunEnded(self.id, self.status)
        await self._others.ask(self.id, *signal(name, payload, id))

    async def pause(self) -> None:
        """Have the engine that drives it hold new activations."""
        await self._others.ask(self.id, *order("pause"))

    async def resume(self) -> None:
        """Have the engine that drives it let them go."""
        await self._others.ask(self.id, *order("resume"))
