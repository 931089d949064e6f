"""The store in Redis: as safe as the server's settings make it, which are read and told."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

import orjson
from anyio import current_time, sleep

from ...errors import EngineClosed, KeyTaken, RunNotFound, StoreUnavailable
from ...stored import Compacted, Fault, Kept, Query, RunRow, StoredRun, StoreFacts, Write
from .address import Address
from .answers import records_of, run_of
from .client import Client
from .damage import faults_of_blobs, faults_of_runs
from .listing import Listing
from .promises import Settings
from .words import words

T = TypeVar("T")
logger = logging.getLogger(__name__)

CLAIM_SECONDS = 5.0
"""How long to wait for a process to be gone that had it before."""
VERSION = "1"
"""Of what is kept, and how; it is kept beside it."""
OLDEST_SERVER = (6, 2)
"""The first that trims a stream by number."""
IN_A_STEP = 200
"""Runs or blobs: while a script runs, nobody else is answered."""

_SETTINGS = ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy")


class RedisStore:
    """Keeps runs on a Redis server, no cluster; see `Store`.

    The address is `redis://user:password@host:6379/0`, `rediss://` for TLS, and may say what all its keys begin with:
    `?prefix=workflow-engine`. Raises `ValueError` if it cannot be read. It is entered and left in one task.
    """

    def __init__(self, url: str) -> None:
        self._address = Address.of(url)
        self._facts: StoreFacts | None = None
        self._waits = False
        self._entered: Client | None = None

    @property
    def facts(self) -> StoreFacts:
        """What it promises; once it is entered."""
        if self._facts is None:
            raise _closed()
        return self._facts

    async def claim(self) -> None:
        """Have it alone: another engine is seen by its connections, which end with its process.

        Where the server does not tell who is connected, the log warns that nobody looked.
        """
        until = current_time() + CLAIM_SECONDS
        while others := await self._client.others():
            # A process that was killed a moment ago may still be connected.
            if current_time() > until:
                raise self._unfit(
                    f"is in use by another engine ({others[0]}), and both would go on with the same runs; "
                    f"end that one, or name another ?prefix="
                )
            await sleep(0.05)
        if others is None:
            logger.warning("%s does not tell who is connected: see that no other engine uses it", self._address.shown)

    async def commit(self, writes: Sequence[Write], *, sync: bool = False) -> None:
        """Apply all of these, or none; see `Store.commit`."""
        # Writes of nothing are none to Redis, and it would not wait for what was written before. So it is given one.
        run = self._client.run_to_disk if sync and self._waits else self._client.run
        if taken := await run("commit", int(sync), *words(writes)):
            raise KeyTaken(taken[0].decode(), taken[1].decode())

    async def read(self, run_id: str) -> StoredRun | None:
        """The run; see `Store.read`."""
        found = await self._client.run("read", "ids", run_id)
        return run_of(found[0]) if found else None

    async def unfinished(self, graph: str, version: str, *, after: int = 0, limit: int = 500) -> Sequence[StoredRun]:
        """The runs of a graph that have not ended; see `Store.unfinished`."""
        return [run_of(run) for run in await self._client.run("read", "unfinished", graph, version, after, limit)]

    async def records(self, run_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, bytes]]:
        """The records of a run; see `Store.records`."""
        return records_of(
            await self._client.call("XRANGE", "records", run_id, f"{max(after, 0) + 1}-0", "+", "COUNT", limit)
        )

    async def find(self, query: Query) -> Sequence[RunRow]:
        """The runs that match; see `Store.find`."""
        listing = Listing(self._client, query)
        if query.after is not None:
            run = await self.read(query.after)
            if run is None:
                raise RunNotFound(query.after)
            listing.go_on_after(run.row)
        return await listing.rows()

    async def find_key(self, key: str) -> tuple[RunRow, bytes] | None:
        """The run with this idempotency key; see `Store.find_key`."""
        run_id = await self._client.call("HGET", "keys", "", key)
        run = await self.read(run_id.decode()) if run_id is not None else None
        return (run.row, run.admission) if run is not None else None

    async def blobs(self, digests: Sequence[str]) -> Mapping[str, bytes]:
        """The blobs of these digests; see `Store.blobs`."""
        found: dict[str, bytes] = {}
        for step in _steps(digests, IN_A_STEP):
            answer = await self._client.run("blobs", *step)
            found |= {digest: data for digest, data in zip(step, answer, strict=True) if data is not None}
        return found

    async def definitions(self) -> Sequence[tuple[str, str, str, str]]:
        """Graph, version, fingerprint and text of each definition."""
        said = await self._client.call("HGETALL", "definitions", "")
        # Of old a name had no fingerprint, and stood for the newest definition.
        return sorted(
            {(*orjson.loads(name), *orjson.loads(text)) for name, text in zip(said[::2], said[1::2], strict=True)}
        )

    async def compact(self, keep: Kept, *, now: float) -> Compacted:
        """Remove what need not be kept; see `Store.compact`."""
        runs = records = blobs = 0
        for step in _steps(await self._past(keep, now), IN_A_STEP):
            removed, of_these = await self._client.run("remove", "runs", *step)
            runs, records = runs + removed, records + of_these
        looked_at = IN_A_STEP
        while looked_at == IN_A_STEP:
            looked_at, removed = await self._client.run("remove", "blobs", IN_A_STEP)
            blobs += removed
        return Compacted(runs=runs, records=records, blobs=blobs)

    async def verify(self) -> Sequence[Fault]:
        """Look for what cannot be so; see `Store.verify`."""
        faults: list[Fault] = []
        number = 0
        while step := await self._client.call("ZRANGE", "all", "", number, number + IN_A_STEP - 1):
            faults += await faults_of_runs(self._client, [member[17:] for member in step])
            number += IN_A_STEP
        return faults + await faults_of_blobs(self._client)

    async def __aenter__(self) -> Self:
        client = Client(self._address)
        await client.open()
        try:
            self._facts = await self._begin(client)
        except BaseException:
            await client.close()
            raise
        self._entered = client
        for note in self._facts.notes:
            logger.warning("%s: %s", self._facts.url, note)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        client, self._entered = self._entered, None
        if client is not None:
            await client.close()

    @property
    def _client(self) -> Client:
        if self._entered is None:
            raise _closed()
        return self._entered

    async def _begin(self, client: Client) -> StoreFacts:
        info = await client.info()
        settings = Settings.of(await client.config(_SETTINGS), info)
        if settings.version < OLDEST_SERVER:
            raise self._unfit(f"is of version {info['redis_version']}, expected 6.2 or later")
        if info.get("redis_mode") == "cluster":
            raise self._unfit(
                "is part of a cluster, which cannot commit writes of many runs at once; name one that is not"
            )
        if info.get("role", "master") != "master":
            raise self._unfit("is a replica, which takes no writes; name its master")
        await client.call("HSETNX", "meta", "", "version", VERSION)
        found = (await client.call("HGET", "meta", "", "version")).decode()
        if found != VERSION:
            raise self._unfit(
                f"has what a later workflow-engine keeps (version {found}, expected {VERSION}); "
                f"install that one, or name another ?prefix="
            )
        self._waits = settings.waits
        return StoreFacts(
            url=self._address.shown, durable=settings.durable, power_safe=settings.power_safe, notes=settings.notes()
        )

    async def _past(self, keep: Kept, now: float) -> Sequence[bytes]:
        """The ids of the runs that need not be kept."""
        past: set[bytes] = set()
        for graph in await self._client.call("SMEMBERS", "graphs", ""):
            if keep.seconds is not None:
                before = f"({now - keep.seconds!r}"
                past.update(await self._client.call("ZRANGEBYSCORE", "ended", graph, "-inf", before))
            if keep.count is not None:
                past.update(await self._client.call("ZREVRANGE", "ended", graph, keep.count, -1))
        return [member[17:] for member in sorted(past)]

    def _unfit(self, found: str) -> StoreUnavailable:
        return StoreUnavailable(f"Redis at {self._address.shown} {found}", facts={"url": self._address.shown})


def _closed() -> EngineClosed:
    return EngineClosed("the store is closed; use it inside `async with`")


def _steps(items: Sequence[T], size: int) -> Sequence[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
