"""The process in which one engine runs.

Each engine has a process of its own, so that none pays for what another imports, leaves in memory or does in threads.
Its graph is built once for a workload and kept ready; then it is asked for one figure after the other, in turn with
all others. Requests and answers are lines of JSON on standard input and output.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import traceback
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

from ..harness import now
from .installed import OWN_FOLDER, NotInstalled, load, versions
from .peer import Cannot, Peer, Run
from .workloads import Held, Job, Workload, WrongResult, workloads

Measure = Callable[[float], Awaitable[float]]  # a budget of seconds -> a figure, before parts and factor


@asynccontextmanager
async def ready(peer: Peer, workload: Workload, folder: Path) -> AsyncIterator[Measure]:
    """Build, and run once to see that the result is right; then measure."""
    job = workload.job()
    if workload.kind == "run":
        async with job.prepare(peer, folder) as run:
            await timed(job, run, workload.at_once)

            async def repeated(budget: float) -> float:
                spent, times = 0.0, 0
                while not times or spent < budget:
                    spent += await timed(job, run, workload.at_once)
                    times += 1
                return spent / times

            yield repeated
    elif workload.kind == "anew":

        async def anew(budget: float) -> float:
            start = now()
            async with job.prepare(peer, folder) as run:
                job.begin()
                result = await run()
                spent = now() - start
            job.check(result)
            return spent

        yield anew
    elif workload.kind == "memory":
        async with Held().prepare(peer, folder):
            pass  # that it can, and what is imported only then
        yield lambda budget: held(peer, workload.at_once if workload.at_once > 1 else int(workload.parts), folder)
    else:
        yield lambda budget: imported(peer)


async def timed(job: Job, run: Run, at_once: int) -> float:
    """The seconds of one run, or of so many at once; checked when the clock has stopped."""
    job.begin()
    if at_once == 1:
        start = now()
        result = await run()
        spent = now() - start
        job.check(result)
        return spent
    start = now()
    results = await asyncio.gather(*(run() for _ in range(at_once)))
    spent = now() - start
    for result in results:
        job.check(result)
    return spent


async def held(peer: Peer, runs: int, folder: Path) -> float:
    """The bytes that so many runs hold while each waits in its middle node, with the task that waits for it."""
    job = Held()
    async with job.prepare(peer, folder) as run:
        first = asyncio.create_task(run())
        await _all_wait(job, 1, [first])
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            tasks = [asyncio.create_task(run()) for _ in range(runs)]
            await _all_wait(job, 1 + runs, tasks)
            gc.collect()
            bytes_held = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        job.go.set()
        for result in await asyncio.gather(first, *tasks):
            job.check(result)
        return bytes_held


async def _all_wait(job: Held, runs: int, tasks: list[asyncio.Task[Any]]) -> None:
    while job.waiting < runs:
        for task in tasks:
            if task.done():
                task.result()
                raise WrongResult("a run ended that was to wait")
        await asyncio.sleep(0.01)


async def imported(peer: Peer) -> float:
    """The seconds that a new interpreter takes to import it."""
    code = f"import time\nstart = time.perf_counter()\nimport {peer.module}\nprint(time.perf_counter() - start)"
    environment = dict(os.environ)
    if folder := OWN_FOLDER.get(peer.name):
        environment["PYTHONPATH"] = os.pathsep.join([str(folder), environment.get("PYTHONPATH", "")])
    done = subprocess.run(  # noqa: ASYNC221  (nothing else goes on here)
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    )
    return float(done.stdout.split()[-1])


class Worker:
    """Answers requests: open a workload, measure it so often, close it."""

    def __init__(self, peer: Peer, answers: TextIO, where: str | None) -> None:
        self._peer = peer
        self._answers = answers
        self._where = where

    async def serve(self) -> None:
        self._answer(versions=versions(self._peer), configuration=self._peer.configuration)
        while request := self._next():
            every = {workload.name: workload for workload in workloads(request["quick"])}
            await self._open(every[request["open"]])

    async def _open(self, workload: Workload) -> None:
        with TemporaryDirectory(prefix="workflow-engine-peers-", dir=self._where) as folder:
            try:
                async with ready(self._peer, workload, Path(folder)) as measure:
                    self._answer(ready=True)
                    while "budget" in (request := self._next() or {}):
                        gc.collect()
                        figure = await measure(request["budget"])
                        self._answer(figure=figure / workload.parts * workload.factor)
            except Cannot as reason:
                self._answer(cannot=str(reason))
            except WrongResult as error:
                self._answer(wrong=str(error))
            except Exception as error:
                traceback.print_exc()
                self._answer(failed=f"{type(error).__name__}: {error}"[:300])
            else:
                self._answer(closed=True)

    def _next(self) -> dict[str, Any] | None:
        line = sys.stdin.readline()  # blocking on purpose: while others are measured, this process does nothing
        return json.loads(line) if line.strip() else None

    def _answer(self, **answer: Any) -> None:
        print(json.dumps(answer), file=self._answers, flush=True)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an engine prints is no answer
    name, where = sys.argv[1], (sys.argv[2] if len(sys.argv) > 2 else None)
    try:
        peer = load(name)
    except NotInstalled as reason:
        print(json.dumps({"missing": str(reason)}), file=answers, flush=True)
        return
    asyncio.run(Worker(peer, answers, where).serve())
