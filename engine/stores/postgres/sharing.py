"""One engine among several on the same tables: its lease, its runs, and what it hears of the others.

Every transaction of a member begins with `hold`: its lease is read FOR SHARE, so whoever takes its runs over, which
changes that row, comes before or after the whole transaction. All times are the server's.
"""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from select import select
from typing import Any, Final, TypeVar

import anyio
import attrs
import psycopg

from ...errors import LeaseLost
from ...sharing import Candidate, choose
from ...stored import Kind, StoredRun, TakenOver, Whereabouts
from .address import Address
from .leases import LeaseRow
from .links import Links
from .reading import Reader
from .schema import channel, fence_number, query
from .text import held, told

T = TypeVar("T")
Execute = Callable[..., "psycopg.Cursor[Any]"]

ACTING: Final = 3
"""Connections that act at once: claims, commands, looks."""
MOST_CANDIDATES: Final = 1000
"""That are looked at in one step of a claim, where graphs have limits."""
MOST_IN_INBOX: Final = 1000
NAMED_ENGINES: Final = 10
"""Of those that were lost with a run, the last."""

COUNT_CLAIM: Final = "UPDATE $.claims SET number = number + 1 RETURNING number"
_HOLD = "SELECT $.hold(%s::int8, %s::int8)"
_BEGIN_LEASE = """
    INSERT INTO $.engines (name, expires) VALUES (%s, clock_timestamp() + make_interval(secs => %s)) RETURNING id, epoch
"""
_BEGIN_ANOTHER = """
    UPDATE $.engines SET epoch = epoch + 1, gone = false, expires = clock_timestamp() + make_interval(secs => %s)
    WHERE id = %s RETURNING id, epoch
"""
# Long gone, and nothing names them.
_FORGET_THE_GONE = """
    DELETE FROM $.engines WHERE gone AND expires < clock_timestamp() - interval '1 day'
        AND NOT EXISTS (SELECT FROM $.runs WHERE owner = engines.id)
"""
# Of an engine that had the store for itself, too: its runs name nobody.
_SET_FREE = """
    UPDATE $.runs SET owner = CASE status WHEN 'running' THEN NULL ELSE 0 END
    WHERE owner = %s OR (status = 'running' AND owner = 0)
"""
_RENEW = """
    UPDATE $.engines SET expires = clock_timestamp() + make_interval(secs => %s)
    WHERE id = %s AND epoch = %s AND expires > clock_timestamp() RETURNING id
"""
_LEAVE = "DELETE FROM $.engines WHERE id = %s AND epoch = %s RETURNING id"
_LEFT = "UPDATE $.runs SET owner = CASE status WHEN 'running' THEN NULL ELSE 0 END WHERE owner = ANY(%s::int8[])"
_EXPIRED = "SELECT id FROM $.engines WHERE NOT gone AND expires < clock_timestamp()"
_TAKE_OVER = """
    SELECT id, name FROM $.engines WHERE NOT gone AND expires < clock_timestamp() ORDER BY id FOR UPDATE SKIP LOCKED
"""
_END = "UPDATE $.engines SET epoch = epoch + 1, gone = true WHERE id = ANY(%s::int8[])"
_COUNT_LEFT = "SELECT owner, count(*) FROM $.runs WHERE owner = ANY(%s::int8[]) AND status = 'running' GROUP BY owner"
# What is open under a lease that has ended was stopped in the middle: it would be in the way for ever.
_CUT = """
    SELECT pg_terminate_backend(pid) FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 2 AND classid = %s::bigint::oid AND objid = ANY(%s::oid[]) AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND pid <> pg_backend_pid()
"""
_SUSPECT = "EXISTS (SELECT FROM $.losses WHERE run = number AND times > 1 AND times >= %s)"
_CLAIM = """
    WITH picked AS MATERIALIZED (
        SELECT number FROM $.runs
        WHERE status = 'running' AND owner IS NULL
            AND (graph, version, fingerprint) IN (SELECT * FROM unnest(%s::text[], %s::text[], %s::text[]))
            AND {suspect}
        ORDER BY priority DESC, number LIMIT %s FOR UPDATE SKIP LOCKED
    )
    UPDATE $.runs SET owner = %s FROM picked WHERE runs.number = picked.number RETURNING runs.number
"""
_CANDIDATES = """
    SELECT number, graph FROM $.runs
    WHERE status = 'running' AND owner IS NULL AND graph <> ALL(%s::text[])
        AND (graph, version, fingerprint) IN (SELECT * FROM unnest(%s::text[], %s::text[], %s::text[]))
        AND {suspect}
    ORDER BY priority DESC, number LIMIT %s FOR UPDATE SKIP LOCKED
"""
_AT_WORK = """
    SELECT graph, count(*) FROM $.runs WHERE owner > 0 AND status = 'running' AND graph = ANY(%s::text[]) GROUP BY graph
"""
# So that two do not count the same places.
_ONE_COUNTS = "SELECT pg_advisory_xact_lock($counting$)"
_OWN = "UPDATE $.runs SET owner = %s WHERE number = ANY(%s::int8[])"
_OWNED = "SELECT run_id FROM $.runs WHERE owner = %s AND status = 'running'"
_STRANGERS = """
    SELECT graph, version, fingerprint, count(*) FROM $.runs
    WHERE status = 'running' AND owner IS NULL AND submitted_at < extract(epoch FROM clock_timestamp()) - %s::float8
        AND (graph, version, fingerprint) NOT IN (SELECT * FROM unnest(%s::text[], %s::text[], %s::text[]))
    GROUP BY graph, version, fingerprint LIMIT 100
"""
_THESE = "SELECT unnest(%s::int8[])"
_SEQ = """greatest(
    (SELECT max(seq) FROM $.records WHERE run = number), (SELECT seq FROM $.snapshots WHERE run = number), 0)"""
# The row of an engine that is lost is held by whoever counts what it leaves. The first time nobody has asked whether
# the run had been let go on: so it counts, and never alone.
_COUNT_LOSSES = f"""
    INSERT INTO $.losses AS known (run, times, seq, begun, engines)
    SELECT number, 1, {_SEQ}, owner, ARRAY[name] FROM $.runs JOIN $.engines ON id = owner
    WHERE owner = ANY(%s::int8[]) AND status = 'running'
    ON CONFLICT (run) DO UPDATE SET (times, engines) = (SELECT
            CASE WHEN known.seq <> excluded.seq THEN 1
                ELSE known.times + (known.begun = excluded.begun)::int END,
            CASE WHEN known.seq <> excluded.seq THEN excluded.engines
                WHEN known.begun <> excluded.begun THEN known.engines
                ELSE (excluded.engines || known.engines)[:{NAMED_ENGINES}] END),
        seq = excluded.seq, begun = 0
"""
_BEGIN = """
    UPDATE $.losses SET begun = owner FROM $.runs WHERE run = number AND run_id = ANY(%s::text[]) AND owner = %s
"""
_MAY_TAKE_SUSPECT = f"""
    SELECT EXISTS (SELECT FROM $.losses WHERE times > 1 AND times >= %s)
        AND NOT EXISTS (SELECT FROM $.losses JOIN $.runs ON number = run
        WHERE times > 1 AND times >= %s AND begun = owner AND owner = %s AND status = 'running' AND losses.seq = {_SEQ})
"""
_WHERE = f"SELECT run_id, status, owner, {_SEQ} FROM $.runs WHERE run_id = ANY(%s::text[])"
_WHERE_LOCKED = f"SELECT run_id, status, owner, {_SEQ}, number FROM $.runs WHERE run_id = %s FOR UPDATE OF runs"
_TAKE = "UPDATE $.runs SET owner = %s WHERE number = %s"
_GIVE_BACK = """
    UPDATE $.runs SET owner = CASE status WHEN 'running' THEN NULL ELSE 0 END
    WHERE run_id = ANY(%s::text[]) AND owner = %s
"""
_POST = "INSERT INTO $.inbox (run, id, data) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
_INBOX = """
    SELECT run_id, id, data FROM $.inbox JOIN $.runs ON number = run WHERE owner = %s ORDER BY run, place LIMIT %s
"""
_QUEUED = """
    SELECT (SELECT count(*) FROM (SELECT FROM $.runs WHERE status = 'running' AND owner IS NULL LIMIT %s) AS waiting)
        + (SELECT count(*) FROM $.runs WHERE run_id = ANY(%s::text[]) AND status = 'running' AND owner = %s)
"""
_NOTIFY = "SELECT pg_notify(%s, %s)"


class PostgresMember:
    """See `Member`. Made by `PostgresStore.share`, and ended with the store."""

    def __init__(self, address: Address, name: str, lease: float, begin: Callable[[psycopg.Connection], None]) -> None:
        self.name: Final = name
        self.lease: LeaseRow | None = None
        """What commits hold on to."""
        self._schema: Final = address.schema
        self._channel: Final = channel(address.schema)
        self._seconds: Final = lease
        # Whoever cannot reach the server must know before its lease is over.
        patience = max(2.0, lease / 3)
        waits = {"connect_timeout": str(round(patience)), "tcp_user_timeout": str(round(patience * 1000))}
        quick = attrs.evolve(address, options={**address.options, **waits})
        # The lease has a connection of its own: what the others have to do must not keep it from being renewed.
        self._renewing: Final = Links("postgres-lease", 1, quick, begin)
        self._acting: Final = Links("postgres-member", ACTING, quick, begin)
        self._ear: Final = Links("postgres-ear", 1, quick, self._listen)
        self._id: int | None = None

    @property
    def id(self) -> int:
        """What its runs name as their owner."""
        assert self._id is not None, "it has not joined"
        return self._id

    def row(self) -> LeaseRow:
        """The lease that an act of now belongs to; raises `LeaseLost` if it has none."""
        if self.lease is None:
            raise LeaseLost(self.name, "it has no lease at present")
        return self.lease

    async def close(self) -> None:
        """End its connections."""
        for links in (self._ear, self._acting, self._renewing):
            await links.close()

    # -- its lease

    async def join(self) -> None:
        """See `Member.join`."""
        self.lease = None
        self.lease = await self._renewing.use(self._join)
        self._id = self.lease.engine

    def _join(self, connection: psycopg.Connection) -> LeaseRow:
        execute = self._executor(connection)
        with connection.transaction():
            execute(_FORGET_THE_GONE)
            again = None if self._id is None else execute(_BEGIN_ANOTHER, self._seconds, self._id).fetchone()
            row = again or execute(_BEGIN_LEASE, self.name, self._seconds).fetchone()
            assert row is not None
            engine, epoch = row
            if again is not None:
                execute(_COUNT_LOSSES, [engine])  # unless another has, which has taken over then
            if execute(_SET_FREE, engine).rowcount:
                execute(_NOTIFY, self._channel, "queued")
            # An engine that has had the store for itself must know, if it comes back.
            execute(COUNT_CLAIM)
        return LeaseRow(engine, epoch, self.name)

    async def renew(self) -> None:
        """See `Member.renew`."""
        lease = self.row()

        def renew(connection: psycopg.Connection) -> bool:
            found = self._executor(connection)(_RENEW, self._seconds, lease.engine, lease.epoch)
            return found.fetchone() is not None

        if not await self._renewing.use(renew):
            raise lease.lost()

    async def leave(self) -> None:
        """See `Member.leave`."""
        lease = self.lease
        self.lease = None
        if lease is None:
            return

        def leave(connection: psycopg.Connection) -> None:
            execute = self._executor(connection)
            with connection.transaction():
                if execute(_LEAVE, lease.engine, lease.epoch).fetchone() and execute(_LEFT, [lease.engine]).rowcount:
                    execute(_NOTIFY, self._channel, "queued")

        await self._renewing.use(leave)

    async def take_over(self) -> Sequence[TakenOver]:
        """See `Member.take_over`."""
        if not await self._look(lambda execute: execute(_EXPIRED).fetchall()):
            return []
        return await self._held(self._take_over)

    def _take_over(self, execute: Execute) -> Sequence[TakenOver]:
        found = execute(_TAKE_OVER).fetchall()
        ids = [id for id, _ in found]
        stuck = [id for (id,) in execute(_EXPIRED).fetchall() if id not in ids]
        if stuck:
            execute(_CUT, fence_number(self._schema), [id % 2147483647 for id in stuck])
        if not found:
            return []
        left = dict(execute(_COUNT_LEFT, ids).fetchall())
        execute(_END, ids)
        execute(_COUNT_LOSSES, ids)
        execute(_LEFT, ids)
        execute(_NOTIFY, self._channel, "queued")
        return [TakenOver(id, name, left.get(id, 0)) for id, name in found]

    # -- its runs

    async def claim(
        self, kinds: Sequence[Kind], most: int, limits: Mapping[str, int], wary: int | None = None
    ) -> Sequence[StoredRun]:
        """See `Member.claim`."""
        columns = [list(column) for column in zip(*(map(held, kind) for kind in kinds), strict=True)]
        if not columns or most < 1:
            return []
        limited = {held(graph): limit for graph, limit in limits.items() if graph in {kind[0] for kind in kinds}}
        claim = partial(self._claim_within, limited) if limited else self._claim
        numbers = await self._held(partial(self._claim_warily, partial(claim, columns), most, wary))
        if not numbers:
            return []
        reader = partial(Reader, schema=self._schema)
        found = await self._acting.use(lambda connection: reader(connection).chosen(_THESE, [sorted(numbers)]))
        return sorted(found, key=lambda run: (-run.row.priority, run.row.number))

    def _claim_warily(
        self, claim: Callable[[int, str, int, Execute], list[int]], most: int, wary: int | None, execute: Execute
    ) -> list[int]:
        """Those that are no suspects, and if there is room one that is, unless another goes on here."""
        if wary is None:
            return claim(most, "%s::int8 IS NOT NULL", 0, execute)
        claimed = claim(most, f"NOT {_SUSPECT}", wary, execute)
        if len(claimed) < most and execute(_MAY_TAKE_SUSPECT, wary, wary, self.id).fetchone() == (True,):
            claimed += claim(1, _SUSPECT, wary, execute)
        return claimed

    def _claim(self, columns: Sequence[list[str]], most: int, suspect: str, wary: int, execute: Execute) -> list[int]:
        statement = _CLAIM.replace("{suspect}", suspect)
        return [number for (number,) in execute(statement, *columns, wary, most, self.id).fetchall()]

    def _claim_within(
        self,
        limits: Mapping[str, int],
        columns: Sequence[list[str]],
        most: int,
        suspect: str,
        wary: int,
        execute: Execute,
    ) -> list[int]:
        execute(_ONE_COUNTS)
        at_work = dict(execute(_AT_WORK, list(limits)).fetchall())
        room = {graph: limit - at_work.get(graph, 0) for graph, limit in limits.items()}
        claimed: list[int] = []
        while len(claimed) < most:
            full = [graph for graph, places in room.items() if places < 1]
            rows = execute(_CANDIDATES.replace("{suspect}", suspect), full, *columns, wary, MOST_CANDIDATES).fetchall()
            chosen = choose([Candidate(*row) for row in rows], most - len(claimed), room)
            if chosen:
                execute(_OWN, self.id, chosen)
                claimed += chosen
            if len(rows) < MOST_CANDIDATES:
                break
        return claimed

    async def begin(self, run_ids: Sequence[str]) -> None:
        """See `Member.begin`."""
        await self._held(lambda execute: execute(_BEGIN, [held(run_id) for run_id in run_ids], self.id))

    async def strangers(self, kinds: Sequence[Kind], seconds: float) -> Mapping[Kind, int]:
        """See `Member.strangers`."""
        columns = [[held(kind[place]) for kind in kinds] for place in range(3)]
        rows = await self._look(lambda execute: execute(_STRANGERS, seconds, *columns).fetchall())
        return {(told(graph), told(version), told(fingerprint)): runs for graph, version, fingerprint, runs in rows}

    async def owned(self) -> Sequence[str]:
        """See `Member.owned`."""
        return [told(run_id) for (run_id,) in await self._held(lambda execute: execute(_OWNED, self.id).fetchall())]

    async def take(self, run_id: str) -> Whereabouts | None:
        """See `Member.take`."""

        def take(execute: Execute) -> Whereabouts | None:
            row = execute(_WHERE_LOCKED, held(run_id)).fetchone()
            if row is None:
                return None
            *place, number = row
            if not place[2]:
                execute(_TAKE, self.id, number)
            return _where(place)

        return await self._held(take)

    async def give_back(self, run_ids: Sequence[str]) -> None:
        """See `Member.give_back`."""

        def give_back(execute: Execute) -> None:
            execute(_GIVE_BACK, [held(run_id) for run_id in run_ids], self.id)
            execute(_NOTIFY, self._channel, "queued")

        await self._held(give_back)

    # -- what others ask of its runs, and it of theirs

    async def post(self, run_id: str, id: str, data: bytes) -> Whereabouts | None:
        """See `Member.post`."""

        def post(execute: Execute) -> Whereabouts | None:
            row = execute(_WHERE_LOCKED, held(run_id)).fetchone()
            if row is None:
                return None
            *place, number = row
            where = _where(place)
            if where.status == "running":
                execute(_POST, number, held(id), data)
                if where.owner:
                    execute(_NOTIFY, self._channel, f"inbox {where.owner}")
            return where

        return await self._held(post)

    async def inbox(self) -> Mapping[str, Sequence[tuple[str, bytes]]]:
        """See `Member.inbox`."""
        found = defaultdict[str, list[tuple[str, bytes]]](list)
        rows = await self._held(lambda execute: execute(_INBOX, self.id, MOST_IN_INBOX).fetchall())
        for run_id, id, data in rows:
            found[told(run_id)].append((told(id), data))
        return found

    async def whereabouts(self, run_ids: Sequence[str]) -> Mapping[str, Whereabouts]:
        """See `Member.whereabouts`."""
        wanted = [held(run_id) for run_id in run_ids]
        found = [_where(row) for row in await self._look(lambda execute: execute(_WHERE, wanted).fetchall())]
        return {where.run_id: where for where in found}

    async def queued(self, most: int, leaving: Sequence[str]) -> int:
        """See `Member.queued`."""
        mine = [held(run_id) for run_id in leaving]
        rows = await self._look(lambda execute: execute(_QUEUED, most, mine, self.id).fetchall())
        return int(rows[0][0])

    async def tell(self, what: str) -> None:
        """See `Member.tell`."""
        await self._look(lambda execute: execute(_NOTIFY, self._channel, what).fetchall())

    async def heard(self, seconds: float) -> set[str]:
        """See `Member.heard`."""
        theirs, ours = socket.socketpair()
        with closing(theirs), closing(ours):
            words, failed = set[str](), None
            async with anyio.create_task_group() as group:
                group.start_soon(_wake_at_the_end, ours)
                try:
                    words = await self._ear.use(partial(_words, seconds=seconds, stopped=theirs))
                except Exception as error:
                    failed = error  # outside of the group, or it would be one
                group.cancel_scope.cancel()
            if failed is not None:
                raise failed
        mine = f"inbox {self._id}"
        return {"inbox" if word == mine else word for word in words if not word.startswith("inbox ") or word == mine}

    # -- inside

    def _listen(self, connection: psycopg.Connection) -> None:
        connection.execute(f"LISTEN {self._channel}".encode())

    async def _held(self, work: Callable[[Execute], T]) -> T:
        """Do this in one transaction under the lease of now."""
        lease = self.row()

        def under_it(connection: psycopg.Connection) -> T:
            execute = self._executor(connection)
            with _meaning(lease), connection.transaction():
                execute(_HOLD, lease.engine, lease.epoch)
                return work(execute)

        return await self._acting.use(under_it)

    async def _look(self, work: Callable[[Execute], T]) -> T:
        return await self._acting.use(lambda connection: work(self._executor(connection)))

    def _executor(self, connection: psycopg.Connection) -> Execute:
        return lambda template, *parameters: connection.execute(query(template, self._schema), parameters)


@contextmanager
def _meaning(lease: LeaseRow) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        refused = lease.refusal(error)
        if refused is None:
            raise
        raise refused from None


def _where(row: Sequence[Any]) -> Whereabouts:
    run_id, status, owner, seq = row
    return Whereabouts(run_id=told(run_id), status=told(status), owner=owner, seq=seq)  # type: ignore[arg-type]


def _words(connection: psycopg.Connection, seconds: float, stopped: socket.socket) -> set[str]:
    """What has been told since it was asked last; waits for something to be, until somebody stops it."""
    raw = connection.pgconn
    for waited in (False, True):
        raw.consume_input()
        words = set[str]()
        while (notification := raw.notifies()) is not None:
            words.add(notification.extra.decode())
        if words or waited:
            return words
        select([raw.socket, stopped.fileno()], [], [], seconds)
    return set()


async def _wake_at_the_end(ours: socket.socket) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        with suppress(OSError):
            ours.send(b"x")
