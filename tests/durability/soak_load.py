"""The load: clients of every kind, in good faith and in bad, and what each of them must find."""

from __future__ import annotations

import itertools
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from random import Random
from time import monotonic
from typing import Any, Final

import anyio
import anyio.to_thread
import attrs
import httpx2

from engine import EngineBusy, EngineClosed, EngineError, RunCancelled, RunEnded, RunFailed, StoreUnavailable
from engine.client import AsyncClient, Client, Patience, RemoteRun, ServiceUnreachable
from tests.durability.soak_flows import SIGNALS, expected, signal_of
from tests.durability.soak_service import Service
from tests.durability.soak_watching import (
    UNSAFE_SECONDS,
    Watched,
    truth_of,
    watch_over_websocket,
    watch_slowly,
    watch_with_client,
)

PATIENCE: Final = Patience(total=120, first_gap=0.02, longest_gap=0.5)
KINDS: Final = ("chain",) * 12 + ("loop",) * 3 + ("fan",) * 3 + ("gated",) * 2 + ("broken",) * 2 + ("sleeper",)
RESULT_SECONDS: Final = 120.0
BURST: Final = 40
HOSTILE_GAP: Final = 0.1
DEEP: Final = 100_000
MOST_FAULTS: Final = 200

_GOOD: Final = b'{"state": {"n": 1}}'
RUNS: Final = "/api/graphs/chain/runs"
HOSTILE: Final[tuple[tuple[str, str, dict[str, str], bytes, tuple[int, ...]], ...]] = (
    ("POST", RUNS, {}, b'{"state": {"n": 1}', (422,)),
    ("POST", RUNS, {}, b'{"state": 7}', (422,)),
    ("POST", RUNS, {}, b'{"state": {"n": NaN}}', (422,)),
    ("POST", RUNS, {}, b'{"state": {"n": 1, "n": 2}}', (422,)),
    ("POST", RUNS, {}, b'{"state": {"n": "\\ud800"}}', (422,)),
    ("POST", RUNS, {}, b'{"state": {"n": 1e400}}', (422,)),
    ("POST", RUNS, {}, b'{"state": {"n": ' + b"9" * 10_000 + b"}}", (422,)),
    ("POST", RUNS, {}, b"[" * DEEP, (422,)),
    ("POST", RUNS, {}, b'{"state": {"n": ' + b"[" * DEEP + b"]" * DEEP + b"}}", (422,)),
    ("POST", RUNS, {}, b"\xff\xfe\x00", (422,)),
    ("POST", RUNS, {}, b"x" * (5 * 1024 * 1024), (413,)),
    ("POST", RUNS, {"content-type": "text/plain"}, _GOOD, (415,)),
    ("POST", RUNS, {"x-deadline-seconds": "-1"}, _GOOD, (422,)),
    ("POST", RUNS, {"idempotency-key": ""}, _GOOD, (422,)),
    ("POST", RUNS, {"authorization": "Bearer wfe_00000000_" + "A" * 43}, _GOOD, (401, 429)),
    ("POST", "/api/graphs/no%20such%2Fgraph/runs", {}, _GOOD, (404,)),
    ("GET", "/api/runs/..%2f..%2fetc%2fpasswd", {}, b"", (404,)),
    ("GET", "/api/runs/%ff%fe", {}, b"", (404,)),
    ("GET", "/api/runs?after=nonsense&limit=-1", {}, b"", (422,)),
    ("GET", "/api/runs/unknown/events", {"last-event-id": "1e99"}, b"", (404, 422)),
    ("PATCH", "/api/runs/unknown", {}, b"{}", (405,)),
    ("POST", "/api/runs/unknown/signal", {}, b'{"name": "go"}', (404,)),
    ("POST", "/api/graphs", {}, b'{"name": "x", "nodes": [{"name": "a", "tool": "none"}], "entry_point": "b"}', (422,)),
)


@attrs.define
class Tally:
    """What was done, and what was lost."""

    done: Counter[str] = attrs.field(factory=Counter)
    sent: dict[str, tuple[str, int]] = attrs.field(factory=dict)
    """What may be in the store: kind and number of each submission by its key."""
    acknowledged: dict[str, str] = attrs.field(factory=dict)
    """The key of each run that was acknowledged, by the run's id."""
    by_key: dict[str, str] = attrs.field(factory=dict)
    faults: list[str] = attrs.field(factory=list)

    def fault(self, what: str) -> None:
        """Something was lost, or done twice, or is not what it should be."""
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(what)


class Load:
    """All clients."""

    def __init__(self, service: Service, chance: Random, tally: Tally) -> None:
        self.service = service
        self.tally = tally
        self.stop = anyio.Event()
        self.away: list[tuple[float, float]] = []
        """When the store was."""
        self._chance = chance
        self._numbers = itertools.count(1)
        self._kill_in = 0
        self.under_way: Counter[str] = Counter()

    def client(self) -> AsyncClient:
        """One that is patient."""
        return AsyncClient(self.service.url, api_key=self.service.key, patience=PATIENCE)

    async def run(self, workers: int) -> None:
        """All of them, until `stop`."""
        async with self.client() as client, anyio.create_task_group() as group:
            for _ in range(workers):
                group.start_soon(self._work, client, Random(self._chance.random()))
            group.start_soon(self._flood, client)
            group.start_soon(self._hostile)
            group.start_soon(self._vanish, Random(self._chance.random()))
            group.start_soon(anyio.to_thread.run_sync, self._blocking)

    # -- in good faith

    async def _work(self, client: AsyncClient, chance: Random) -> None:
        while not self.stop.is_set():
            kind = chance.choice(KINDS)
            self.under_way[kind] += 1
            await self._guarded(kind, self._scenario, client, kind, chance)
            self.under_way[kind] -= 1
            await anyio.sleep(0.1 * chance.random())

    async def _guarded(self, what: str, act: Callable[..., Awaitable[None]], *args: Any) -> None:
        try:
            with anyio.fail_after(2 * RESULT_SECONDS):
                await act(*args)
        except* EngineBusy:
            self.tally.done["refused since it was full"] += 1
        except* (EngineError, TimeoutError, httpx2.HTTPError) as group:
            for error in _each(group):
                self.tally.fault(f"{what}: {type(error).__name__}: {error}")

    async def _scenario(self, client: AsyncClient, kind: str, chance: Random) -> None:
        run = await self._submit(client, kind, again=chance.random() < 0.1)
        which = chance.random()
        async with anyio.create_task_group() as group:
            if kind not in ("chain", "sleeper") and which < 0.5:
                group.start_soon(self._guarded, f"a watcher of {run.id}", self._watch, client, run, chance)
            await self._drive(run, kind, chance)

    async def _submit(self, client: AsyncClient, kind: str, again: bool = False) -> RemoteRun:
        number = next(self._numbers)
        key = f"soak-{number}"
        self.tally.sent[key] = kind, number
        found: list[RemoteRun] = []

        async def once() -> None:
            run = await client.submit(kind, {"n": number}, idempotency_key=key, tags={"kind": kind})
            self._acknowledged(run.id, key)
            found.append(run)

        async with anyio.create_task_group() as group:
            group.start_soon(once)
            if again:
                self.tally.done["sent twice at once"] += 1
                group.start_soon(once)
        return found[0]

    def _acknowledged(self, run_id: str, key: str) -> None:
        if self._kill_in:
            self._kill_in -= 1
            if not self._kill_in:
                self.service.kill()  # now: whatever is not on disk by now was acknowledged too soon
        self.tally.done["acknowledged"] += 1
        self.tally.acknowledged[run_id] = key
        if self.tally.by_key.setdefault(key, run_id) != run_id:
            self.tally.fault(f"key {key} has two runs: {run_id} and {self.tally.by_key[key]}")

    async def _drive(self, run: RemoteRun, kind: str, chance: Random) -> None:
        key = self.tally.acknowledged[run.id]
        match kind:
            case "gated":
                for number in range(SIGNALS):
                    await anyio.sleep(0.1 * chance.random())
                    name = signal_of(key, number)
                    try:
                        await run.signal("go", name, id=name)
                    except RunEnded:
                        break  # by this very signal, whose answer was lost: the result tells
                    self.tally.done["signals"] += 1
            case "sleeper":
                await anyio.sleep(0.5 * chance.random())
                await run.cancel("soaked enough")
                self.tally.done["cancelled"] += 1
            case "broken":
                await self._mend(run)
        await self._check(run, kind, key)

    async def _mend(self, run: RemoteRun) -> None:
        await run.wait()
        while run.status == "failed":
            try:
                await run.retry({"mended": True})
                self.tally.done["retried"] += 1
            except ServiceUnreachable:
                self.tally.done["retries whose answer was lost"] += 1
            except RunEnded:
                pass  # by a retry whose answer was lost
            except (EngineClosed, StoreUnavailable):
                self.tally.done["retries that came at a bad time"] += 1
            await anyio.sleep(0.05)
            await run.wait()

    async def _check(self, run: RemoteRun, kind: str, key: str) -> None:
        status, state = expected(kind, self.tally.sent[key][1], key)
        try:
            found = await run.result(RESULT_SECONDS)
        except (RunFailed, RunCancelled) as error:
            if run.status != status:
                self.tally.fault(f"run {run.id} of {kind} is {run.status}, expected {status}: {error!r}")
            return
        if (found.status, found.state) != (status, state):
            self.tally.fault(f"run {run.id} of {kind} ended with {found.status} {found.state}, expected {state}")
        self.tally.done["results"] += 1

    # -- watching

    async def _watch(self, client: AsyncClient, run: RemoteRun, chance: Random) -> None:
        if chance.random() < 0.5:
            watched = await watch_with_client(run, chance)
        else:
            watched = await watch_over_websocket(self.service, run.id, chance)
        await self._compare(client, run, watched)

    async def _compare(self, client: AsyncClient, run: RemoteRun, watched: Watched) -> None:
        self.tally.done[f"watchers over {watched.how}"] += 1
        self.tally.done["events"] += watched.seen
        self.tally.done["streams resumed"] += watched.resumed
        if run.graph == "broken" and not watched.faults:
            return  # it may end, and go on by its retry, while somebody watches: only gaps are of interest
        truth = await truth_of(run)
        if truth is None:
            self.tally.done["events that are not kept"] += 1
        else:
            unsafe = [(kill - UNSAFE_SECONDS, back + UNSAFE_SECONDS) for kill, back in self.service.away()]
            again = watched.came_again(truth, [*unsafe, *self.away])
            self.tally.done["events that came again after a kill"] += again
        for fault in watched.faults:
            self.tally.fault(fault)

    async def _flood(self, client: AsyncClient) -> None:
        """A run that tells much, and readers that cannot keep up with it."""

        async def once() -> None:
            run = await self._submit(client, "flood")
            watched: list[Watched] = []

            async def read() -> None:
                watched.append(await watch_slowly(self.service, run.id))

            async with anyio.create_task_group() as group:
                group.start_soon(read)
                await self._drive(run, "flood", self._chance)
            await self._guarded(f"a slow watcher of {run.id}", self._compare, client, run, watched[0])

        while not self.stop.is_set():
            await self._guarded("flood", once)

    def _blocking(self) -> None:
        """The client for threads."""
        with Client(self.service.url, api_key=self.service.key, patience=PATIENCE) as client:
            while not self.stop.is_set():
                number = next(self._numbers)
                key = f"soak-{number}"
                self.tally.sent[key] = "chain", number
                try:
                    run = client.submit("chain", {"n": number}, idempotency_key=key, tags={"kind": "chain"})
                    self._acknowledged(run.id, key)
                    if run.result(RESULT_SECONDS).state != expected("chain", number, key)[1]:
                        self.tally.fault(f"run {run.id}, of the client for threads, ended with {run.state}")
                    self.tally.done["results"] += 1
                except EngineBusy:
                    self.tally.done["refused since it was full"] += 1
                except (EngineError, TimeoutError) as error:
                    self.tally.fault(f"the client for threads: {type(error).__name__}: {error}")
                if self.stop.is_set():
                    return
                anyio.from_thread.run(anyio.sleep, 0.1)

    # -- in bad faith

    async def _hostile(self) -> None:
        headers = {"authorization": f"Bearer {self.service.key}", "content-type": "application/json"}
        async with httpx2.AsyncClient(base_url=self.service.url, headers=headers, timeout=30) as http:
            for method, path, more, body, statuses in itertools.cycle(HOSTILE):
                if self.stop.is_set():
                    return
                try:
                    answer = await http.request(method, path, content=body or None, headers=more)
                except httpx2.TransportError:
                    await anyio.sleep(HOSTILE_GAP)
                    continue
                self.tally.done["hostile requests"] += 1
                what = f"{method} {path} {more} {body[:40]!r}"
                if answer.status_code not in (*statuses, 503):
                    self.tally.fault(f"{what} was answered {answer.status_code}: {answer.text[:300]}")
                elif "problem+json" not in answer.headers.get("content-type", "") or "Traceback" in answer.text:
                    self.tally.fault(f"{what} was answered by no problem document: {answer.text[:300]}")
                await anyio.sleep(HOSTILE_GAP)

    async def _vanish(self, chance: Random) -> None:
        bearer = f"Host: localhost\r\nAuthorization: Bearer {self.service.key}\r\n"
        beginnings = (
            "",
            "GET /api/ru",
            f"POST {RUNS} HTTP/1.1\r\n{bearer}Content-Length: 100\r\n\r\n{{",
            f"POST {RUNS} HTTP/1.1\r\n{bearer}Transfer-Encoding: chunked\r\n\r\n5\r\n{{",
            f"GET /api/runs/{{run}}/events HTTP/1.1\r\n{bearer}\r\n",
            f"GET /ws/runs/{{run}} HTTP/1.1\r\n{bearer}Connection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        while not self.stop.is_set():
            run_id = next(reversed(self.tally.acknowledged), "none")
            for _ in range(20):
                text = chance.choice(beginnings).replace("{run}", run_id)
                if await _come_and_go(self.service.port, text.encode(), chance.random() < 0.5):
                    self.tally.done["clients that vanished"] += 1
            await anyio.sleep(0.2)

    # -- the worst moment

    async def kill_at_acknowledgement(self, chance: Random) -> None:
        """Submit many at once, and kill the service at the very moment at which one of them is acknowledged."""
        self._kill_in = chance.randrange(1, BURST // 2)
        kills = len(self.service.kills)

        async def one(client: AsyncClient) -> None:
            run = await self._submit(client, "chain")
            await self._check(run, "chain", self.tally.acknowledged[run.id])

        async with self.client() as client, anyio.create_task_group() as group:
            for _ in range(BURST):
                group.start_soon(self._guarded, "a burst", one, client)
            until = monotonic() + 20
            while len(self.service.kills) == kills and monotonic() < until:  # noqa: ASYNC110  # from a thread, too
                await anyio.sleep(0.005)
            self._kill_in = 0
            self.service.kill()
            await self.service.again()


def _each(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _each(inner)
    else:
        yield error


async def _come_and_go(port: int, data: bytes, waits: bool) -> bool:
    with socket.socket() as link:
        link.setblocking(False)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # gone without a word
        try:
            link.connect(("127.0.0.1", port))
        except BlockingIOError:
            await anyio.sleep(0.002)
        except OSError:
            return False
        try:
            link.send(data)
        except OSError:
            return False
        if waits:
            await anyio.sleep(0.02)
    return True
