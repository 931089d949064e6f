"""How an engine takes runs on: each is checked against all that is there, kept by the store, and begins or waits."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING

import anyio.lowlevel
import attrs

from .books import Books
from .catalogue import Catalogue
from .door import Door, nesting
from .errors import IdempotencyConflict, KeyTaken, RunIdTaken, TooDeep
from .handle import Run
from .ids import new_id
from .locks import Locks
from .plan import Plan
from .registry import Registered
from .remembered import equal
from .runs import Run as Machine
from .state import Values
from .stored import RunRow
from .timers import Timers

if TYPE_CHECKING:
    from .app import Engine
    from .durable import Durable
    from .fleet import Fleet
    from .keeping import RunJournal


@attrs.frozen
class Options:
    """What a submission says beside its graph and state."""

    run_id: str | None
    key: str | None
    tags: Mapping[str, str]
    deadline: float | None
    """In seconds from its submission, its own or its graph's."""
    due: float | None
    """The same on the loop's clock."""
    priority: int


class Admission:
    """Accepts runs, or says why not."""

    def __init__(
        self,
        engine: Engine,
        door: Door,
        catalogue: Catalogue,
        books: Books,
        timers: Timers,
        locks: Locks,
        durable: Durable | None,
        fleet: Fleet | None,
        *,
        max_depth: int,
    ) -> None:
        self.by_key: dict[str, tuple[Run, Values]] = {}
        """In memory, with what they were submitted on, as it was then."""
        self._engine = engine
        self._door = door
        self._catalogue = catalogue
        self._books = books
        self._timers = timers
        self._locks = locks
        self._durable = durable
        self._fleet = fleet
        self._max_depth = max_depth

    def admit(self, registered: Registered, options: Options) -> Run:
        """Accept a run, or say why not, before anything of it is there."""
        depth = nesting.get()
        if depth >= self._max_depth:
            raise TooDeep(depth)
        self._catalogue.check_known(registered)
        if options.run_id is not None and self._books.get(options.run_id) is not None:
            raise RunIdTaken(options.run_id)
        self._books.check_room()
        run_id = options.run_id or new_id()
        journal = None if self._durable is None else self._durable.journal_for(registered.plan, run_id)
        self._books.submitted += 1
        return self.make(registered, run_id, journal, depth, options.tags, options.priority)

    def take_on(self, run: Run, values: Values, options: Options) -> None:
        """Start it, or queue it, with its deadline."""
        if options.due is not None:
            assert options.deadline is not None
            run.set_deadline(options.deadline, options.due, self._timers)
        try:
            self._begin_or_queue(run, values)
        except BaseException:
            self._books.submitted -= 1
            run.forget_deadline()
            raise
        run.registered.counts.submitted += 1

    async def submit_durably(self, durable: Durable, registered: Registered, values: Values, options: Options) -> Run:
        """Start it once the store has it."""
        durable.check_writable()
        plan, key, fleet = registered.plan, options.key, self._fleet
        if key is None and options.run_id is None:
            if fleet is not None:
                await fleet.check_room(nesting.get())
                self._door.check()
            return await self._admit_durably(durable, registered, values, options)
        async with self._locks.of("key", key), self._locks.of("run", options.run_id):
            if (known := await self._known_by_key(durable, plan, key, values)) is not None:
                return known
            if options.run_id is not None and await durable.load(options.run_id) is not None:
                raise RunIdTaken(options.run_id)
            if fleet is not None:
                await fleet.check_room(nesting.get())
            self._door.check()
            return await self._admit_durably(durable, registered, values, options)

    async def _admit_durably(self, durable: Durable, registered: Registered, values: Values, options: Options) -> Run:
        # Before there is a run, and nothing waits until the journal asks, too: what comes later finds the store has it.
        await anyio.lowlevel.checkpoint_if_cancelled()
        plan, books = registered.plan, self._books
        run = self.admit(registered, options)
        run.key = options.key
        run.machine.expect(values)
        books.admitting[run.id] = run  # the store may have it a moment before it is told here
        row: RunRow | None = None
        try:
            row = await durable.admit(run, plan, values, deadline=options.deadline, depth=nesting.get())
        except Exception as error:
            books.submitted -= 1
            if not isinstance(error, KeyTaken):
                raise
            # Another engine, or whoever writes to the store besides, was quicker by a moment.
            if (known := await self._known_by_key(durable, plan, options.key, values)) is not None:
                return known
            raise IdempotencyConflict(error.key, error.run_id, "at the same moment") from None
        except BaseException:
            # Whoever submitted it is gone, but the store has it (see Journal.write).
            self._admitted(run, None, values, options)
            raise
        finally:
            del books.admitting[run.id]
        return self._admitted(run, row, values, options)

    async def _known_by_key(self, durable: Durable, plan: Plan, key: str | None, values: Values) -> Run | None:
        """The run that was submitted under this key before; raises `IdempotencyConflict` if it is of something else."""
        known = None if key is None else await durable.by_key(key)
        if known is None or key is None:
            return None
        row, input = known
        theirs, ours = (row.graph, row.version), (plan.name, plan.version)
        if theirs != ours or not equal(input, values):
            raise IdempotencyConflict.between(key, row.run_id, theirs, ours)
        return await self._engine.get(row.run_id)

    def _admitted(self, run: Run, row: RunRow | None, values: Values, options: Options) -> Run:
        """The store has it."""
        assert self._durable is not None
        fleet = self._fleet
        if self._durable.journal.closed:
            run.let_go()  # it goes on at the next start
        elif fleet is not None and fleet.trouble is not None:
            run.let_go(fleet.trouble)  # it goes on elsewhere
        elif run.ending:
            self._books.end(run)  # somebody has cancelled it, who had its id
        elif fleet is not None and row is not None and not fleet.begins_here(run.graph, nesting.get()):
            run.registered.counts.submitted += 1
            return fleet.queue(run.registered, row)
        else:
            self.take_on(run, values, options)
        return run

    def make(
        self,
        registered: Registered,
        run_id: str,
        journal: RunJournal | None,
        depth: int,
        tags: Mapping[str, str],
        priority: int,
        submitted_at: float | None = None,
    ) -> Run:
        """A run that nothing has happened to."""
        machine = Machine(registered.plan, run_id, journal=journal)
        machine.tree.counts = registered.counts
        variables = copy_context()
        variables.run(nesting.set, depth + 1)
        books = self._books
        books.made += 1
        return Run(
            self._engine,
            registered,
            machine,
            variables,
            tags=tags,
            priority=priority,
            number=books.made,
            submitted_at=submitted_at,
        )

    def _begin_or_queue(self, run: Run, values: Values) -> None:
        books = self._books
        if books.is_full:
            run.machine.expect(values)
            books.enqueue(run, partial(run.begin, values))
            return
        books.begin(run)
        try:
            run.begin(values)
        except BaseException:
            books.give_back(run)
            raise
