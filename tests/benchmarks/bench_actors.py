"""The actor runtime: what a message, an ask, a spawn, a crash and an idle actor cost."""

from __future__ import annotations

import gc
import logging
import tracemalloc
from collections.abc import Iterable
from functools import partial
from typing import Any

import anyio

from actors import Actor, ActorRef, ChildSpec, Supervisor, supervise

from . import bare
from .harness import Row, now


class Player(Actor[Any]):
    """Returns the ball until it has been played often enough."""

    async def receive(self, message: Any) -> None:
        if isinstance(message, tuple):
            self.other, self.finished = message
        elif message:
            self.other.tell_nowait(message - 1)
        else:
            self.finished.set()


async def ping_pong(hops: int) -> float:
    """Microseconds per message between two actors that wait for each other."""
    finished = anyio.Event()
    async with supervise([ChildSpec("a", Player), ChildSpec("b", Player)]) as root:
        a, b = root.child("a"), root.child("b")
        await a.tell((b, finished))
        await b.tell((a, finished))
        await anyio.wait_all_tasks_blocked()
        start = now()
        await a.tell(hops)
        await finished.wait()
        return (now() - start) / hops * 1e6


class Counter(Actor[int]):
    """Counts its messages down from a number."""

    def __init__(self, count: int, finished: anyio.Event) -> None:
        self.left = count
        self.finished = finished

    async def receive(self, message: int) -> None:
        self.left -= 1
        if not self.left:
            self.finished.set()


async def stream(count: int) -> float:
    """Microseconds per message from one task to one busy actor, with a mailbox of 64."""
    finished = anyio.Event()
    async with supervise([ChildSpec("counter", Counter, (count, finished))]) as root:
        counter: ActorRef[int] = root.child("counter")
        start = now()
        for number in range(count):
            await counter.tell(number)
        await finished.wait()
        return (now() - start) / count * 1e6


async def stream_memory(count: int) -> float:
    """KB by which the memory peaks above where it stood, over a stream of messages."""
    finished = anyio.Event()
    async with supervise([ChildSpec("counter", Counter, (count, finished))]) as root:
        counter: ActorRef[int] = root.child("counter")
        tracemalloc.start()
        try:
            for number in range(count):
                await counter.tell(number)
            await finished.wait()
            return tracemalloc.get_traced_memory()[1] / 1024
        finally:
            tracemalloc.stop()


class Echo(Actor[Any]):
    """Answers with the question."""

    async def receive(self, message: Any) -> Any:
        if message is CRASH:
            raise RuntimeError("as asked")
        return message


CRASH = object()


async def ask_round_trip(count: int) -> float:
    """Microseconds from a question to its answer."""
    async with supervise([ChildSpec("echo", Echo)]) as root:
        echo = root.child("echo")
        start = now()
        for number in range(count):
            await echo.ask(number)
        return (now() - start) / count * 1e6


async def spawn(count: int) -> float:
    """Microseconds to start one more actor under a dynamic supervisor and know that it is up."""
    pool = Supervisor.spec("pool", [ChildSpec("echo", Echo, restart="temporary")], strategy="dynamic")
    async with supervise([pool]) as root:
        supervisor = root.supervisor("pool")
        start = now()
        for _ in range(count):
            await supervisor.spawn()
        return (now() - start) / count * 1e6


async def crash_to_next(count: int) -> float:
    """Microseconds from a message that crashes the actor to the next one handled by its successor."""
    logging.disable(logging.CRITICAL)
    try:
        async with supervise([ChildSpec("echo", Echo, max_restarts=count)]) as root:
            echo = root.child("echo")
            start = now()
            for number in range(count):
                await echo.tell(CRASH)
                await echo.ask(number)
            return (now() - start) / count * 1e6
    finally:
        logging.disable(logging.NOTSET)


async def idle_memory(count: int) -> float:
    """KB that one idle actor keeps."""
    pool = Supervisor.spec("pool", [ChildSpec("echo", Echo, restart="temporary")], strategy="dynamic")
    async with supervise([pool]) as root:
        supervisor = root.supervisor("pool")
        await supervisor.spawn()
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(count):
                await supervisor.spawn()
            gc.collect()
            return (tracemalloc.get_traced_memory()[0] - before) / count / 1024
        finally:
            tracemalloc.stop()


class Collector(Actor[Any]):
    """Sends one message to each worker and waits for all of them to come back."""

    async def receive(self, message: Any) -> None:
        if isinstance(message, int):
            self.left -= 1
            if not self.left:
                self.finished.set()
            return
        workers, self.finished = message
        self.left = len(workers)
        for number, worker in enumerate(workers):
            worker.tell_nowait((number, self.context.ref))


class Worker(Actor[Any]):
    """Sends the number back."""

    async def receive(self, message: Any) -> None:
        number, collector = message
        collector.tell_urgent(number)


async def fan_out(width: int, times: int) -> float:
    """Microseconds per branch from one actor to `width` others and back."""
    specs = [ChildSpec("collector", Collector), *(ChildSpec(f"w{number}", Worker) for number in range(width))]
    async with supervise(specs) as root:
        collector = root.child("collector")
        workers = [root.child(f"w{number}") for number in range(width)]
        start = now()
        for _ in range(times):
            finished = anyio.Event()
            await collector.tell((workers, finished))
            await finished.wait()
        return (now() - start) / width / times * 1e6


def rows(quick: bool) -> Iterable[Row]:
    """The rows of the runtime; a quick run measures fewer messages, not other things."""
    scale = 1 if quick else 5
    hops = 4_000 * scale
    future, channel = partial(bare.future_ping_pong, hops), partial(bare.trio_channel_ping_pong, hops)
    streams = partial(bare.stream_ping_pong, hops)
    yield Row(
        "message with a task switch",
        "us",
        partial(ping_pong, hops),
        {"bare future": future, "anyio stream": streams},
        at_most={"bare future": 1.6},
        at_least={"anyio stream": 3},
        backends=["asyncio"],
    )
    yield Row(
        "message with a task switch",
        "us",
        partial(ping_pong, hops),
        {"bare future": future, "anyio stream": streams},
        backends=["uvloop"],
    )
    yield Row(
        "message with a task switch",
        "us",
        partial(ping_pong, hops),
        {"trio channel": channel, "anyio stream": streams},
        at_most={"trio channel": 0.8},
        at_least={"anyio stream": 3},
        backends=["trio"],
    )
    count = 20_000 * scale
    yield Row(
        "message to a busy actor",
        "us",
        partial(stream, count),
        {"anyio stream": partial(bare.stream_of_messages, count)},
        limit=1.2,
    )
    yield Row(
        "memory over 50,000 messages" if quick else "memory over 1,000,000 messages",
        "KB",
        partial(stream_memory, 50_000 if quick else 1_000_000),
        limit=100,
    )
    yield Row("ask and answer", "us", partial(ask_round_trip, 400 * scale), {"anyio stream": streams})
    yield Row("spawn an actor", "us", partial(spawn, 200 * scale), {"task in a group": partial(bare.spawn_tasks, 200)})
    yield Row("crash to next message", "us", partial(crash_to_next, 100 * scale))
    yield Row("an idle actor", "KB", partial(idle_memory, 200), limit=12)
    for width in (1, 10, 100, 1_000):
        yield Row(
            f"fan-out to {width:,} and back, per branch",
            "us",
            partial(fan_out, width, max(1, 400 * scale // width)),
            {"task per branch": partial(bare.fan_out_tasks, width)},
        )
