"""Over HTTP: a service in a process of its own, and the client, which has the verbs of the engine."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

import anyio
from anyio.streams.memory import MemoryObjectSendStream
from anyio.streams.text import TextReceiveStream

from engine import RunFailed
from engine.client import AsyncClient

from .from_the_command_line import FLOW

CONNECTIONS = 8


async def with_the_client(count: int, backend: str, store: str) -> None:
    """Submit runs, tell of each as it ends, and submit them again."""
    print(f"\n== over HTTP: {count} runs on {CONNECTIONS} connections")
    async with a_service(backend, store) as address, AsyncClient(address) as client:
        results, reader = anyio.create_memory_object_stream[str](CONNECTIONS)

        async def work(told: MemoryObjectSendStream[str], numbers: range) -> None:
            with told:
                for number in numbers:
                    run = await client.submit("parcel", {"number": number}, idempotency_key=f"parcel {number}")
                    try:
                        await told.send((await run.result()).status)
                    except RunFailed as error:
                        await told.send(f"failed ({error.failures[0].cause})")

        began = perf_counter()
        ended: Counter[str] = Counter()
        async with anyio.create_task_group() as group:
            with results:
                for first in range(CONNECTIONS):
                    group.start_soon(work, results.clone(), range(first, count, CONNECTIONS))
            with reader:
                async for how in reader:  # as they end
                    ended[how] += 1
        print(f"{dict(ended)} in {perf_counter() - began:.2f} s")
        again = await client.submit("parcel", {"number": 7}, idempotency_key="parcel 7")
        known = [run.id for run in await client.runs(limit=None)]
        print(f"parcel 7 again is {'the same run' if again.id in known and len(known) == count else 'ANOTHER run'}")

        slow = await client.submit("parcel", {"number": 1, "slow": 60}, tags={"for": "me"})
        with anyio.move_on_after(0.1):
            await slow.wait()
        await slow.cancel("out of time")
        print(f"what took too long: {await slow.wait()}, {slow.error}")


@asynccontextmanager
async def a_service(backend: str, store: str) -> AsyncIterator[str]:
    """`workflow-engine serve` as a process; its address."""
    words = ["serve", "--graphs", FLOW, "--store", store, "--backend", backend, "--port", "0", "--grace", "2"]
    async with await anyio.open_process([sys.executable, "-m", "engine", *words], stdout=None) as process:
        try:
            assert process.stderr is not None
            said = ""
            async for text in TextReceiveStream(process.stderr):
                said += text
                if found := re.search(r"serving (http://[\d.:]+)", said):
                    break
            else:
                raise RuntimeError(f"the service did not start: {said}")
            async with anyio.create_task_group() as group:
                group.start_soon(drained, process.stderr)
                yield found[1]
                group.cancel_scope.cancel()
        finally:
            process.terminate()


async def drained(stream: anyio.abc.ByteReceiveStream) -> None:
    """Read its log away, or it would wait for a reader."""
    async for _ in stream:
        pass
