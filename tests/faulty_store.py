"""A store over another one, which fails as stores do: now and then, on every method, as drawn from a seed.

What it may do to a call: raise `StoreUnavailable` before anything has happened; or after it has taken effect, so that
only the answer is lost; or delay it; or lose its connection, so that the next few calls fail as well. Whoever keeps to
`engine/ports.py` notices nothing but the time it takes.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from engine.errors import StoreUnavailable
from engine.ports import Store
from engine.stored import Audit, Compacted, Fault, Kept, Query, RunRow, StoredRun, StoreFacts, Write

T = TypeVar("T")

KINDS: Final = ("before", "after", "delay", "disconnect")
# Longer than a commit takes, shorter than whoever reads patiently waits.
LONGEST_DELAY_SECONDS: Final = 0.02
# Fewer calls in a row than a patient reader makes.
MOST_CALLS_LOST: Final = 4


class FaultyStore:
    """`Store` with faults in `rate` of all calls; with `entering`, entering it may fail, too.

    Without a `longest_delay_seconds` a delay is a few turns of the loop, in which no virtual time passes.
    """

    def __init__(
        self,
        store: Store,
        seed: object = 0,
        rate: float | None = None,
        *,
        entering: bool = False,
        longest_delay_seconds: float = LONGEST_DELAY_SECONDS,
    ) -> None:
        self.inner: Final = store
        self.random: Final = random.Random(f"faults {seed}")
        self.rate: Final = self.random.uniform(0.01, 0.05) if rate is None else rate
        self.made: Final = Counter[str]()
        """Faults so far, by kind."""
        self._entering = entering
        self._longest_delay_seconds = longest_delay_seconds
        self._lost = 0
        self._down: str | None = None

    # -- what a test may do by hand

    def fail(self, why: str = "the test has pulled the plug") -> None:
        """Lose the connection until `heal()`."""
        self._down = why

    def heal(self) -> None:
        """Have it back."""
        self._down = None

    # -- Store

    @property
    def facts(self) -> StoreFacts:
        """Those of the store below."""
        return self.inner.facts

    async def claim(self) -> None:
        """See `Store.claim`."""
        await self._call(self.inner.claim)

    async def commit(self, writes: Sequence[Write], *, sync: bool = False) -> None:
        """See `Store.commit`."""
        await self._call(lambda: self.inner.commit(writes, sync=sync))

    async def read(self, run_id: str) -> StoredRun | None:
        """See `Store.read`."""
        return await self._call(lambda: self.inner.read(run_id))

    async def unfinished(self, graph: str, version: str, *, after: int = 0, limit: int = 500) -> Sequence[StoredRun]:
        """See `Store.unfinished`."""
        return await self._call(lambda: self.inner.unfinished(graph, version, after=after, limit=limit))

    async def records(self, run_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, bytes]]:
        """See `Store.records`."""
        return await self._call(lambda: self.inner.records(run_id, after=after, limit=limit))

    async def find(self, query: Query) -> Sequence[RunRow]:
        """See `Store.find`."""
        return await self._call(lambda: self.inner.find(query))

    async def find_key(self, key: str) -> tuple[RunRow, bytes] | None:
        """See `Store.find_key`."""
        return await self._call(lambda: self.inner.find_key(key))

    async def blobs(self, digests: Sequence[str]) -> Mapping[str, bytes]:
        """See `Store.blobs`."""
        return await self._call(lambda: self.inner.blobs(digests))

    async def definitions(self) -> Sequence[tuple[str, str, str, str]]:
        """See `Store.definitions`."""
        return await self._call(self.inner.definitions)

    async def audits(
        self, *, run_id: str | None = None, after: int = 0, limit: int = 1000, newest_first: bool = False
    ) -> Sequence[tuple[int, Audit]]:
        """See `Store.audits`."""
        return await self._call(
            lambda: self.inner.audits(run_id=run_id, after=after, limit=limit, newest_first=newest_first)
        )

    async def compact(self, keep: Kept, *, now: float) -> Compacted:
        """See `Store.compact`."""
        return await self._call(lambda: self.inner.compact(keep, now=now))

    async def verify(self) -> Sequence[Fault]:
        """See `Store.verify`."""
        return await self._call(self.inner.verify)

    async def __aenter__(self) -> Self:
        if self._entering and self.random.random() < self.rate:
            self.made["entering"] += 1
            raise StoreUnavailable("it cannot be reached (injected)")
        await self.inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.inner.__aexit__(kind, error, traceback)

    # -- faults

    async def _delay(self) -> None:
        if self._longest_delay_seconds:
            await anyio.sleep(self.random.random() * self._longest_delay_seconds)
            return
        for _ in range(self.random.randrange(1, 10)):
            await checkpoint()

    async def _call(self, call: Callable[[], Awaitable[T]]) -> T:
        if self._down is not None:
            raise StoreUnavailable(self._down)
        if self._lost:
            self._lost -= 1
            raise StoreUnavailable("the connection is lost (injected)")
        kind = self.random.choice(KINDS) if self.random.random() < self.rate else ""
        if kind:
            self.made[kind] += 1
        match kind:
            case "before":
                raise StoreUnavailable("it failed before it did anything (injected)")
            case "disconnect":
                self._lost = self.random.randrange(1, MOST_CALLS_LOST)
                raise StoreUnavailable("the connection is lost (injected)")
            case "delay":
                await self._delay()
        answer = await call()
        if kind == "after":
            raise StoreUnavailable("its answer was lost (injected)")
        return answer
