"""The baselines: the least that each backend can do the same work with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream

from .harness import now


async def future_ping_pong(hops: int) -> float:
    """Microseconds per hop of two tasks that wake each other by bare futures (asyncio and uvloop)."""
    loop = asyncio.get_running_loop()
    waiting: list[asyncio.Future[None]] = [loop.create_future(), loop.create_future()]

    async def player(me: int, other: int) -> None:
        for _ in range(hops // 2):
            await waiting[me]
            waiting[me] = loop.create_future()
            waiting[other].set_result(None)

    tasks = [asyncio.create_task(player(0, 1)), asyncio.create_task(player(1, 0))]
    await asyncio.sleep(0)
    start = now()
    waiting[0].set_result(None)
    await asyncio.gather(*tasks)
    return (now() - start) / hops * 1e6


async def trio_channel_ping_pong(hops: int) -> float:
    """Microseconds per hop of two trio tasks over native memory channels."""
    import trio

    send_a, receive_a = trio.open_memory_channel[int](1)
    send_b, receive_b = trio.open_memory_channel[int](1)

    async def player(receive: trio.MemoryReceiveChannel[int], send: trio.MemorySendChannel[int]) -> None:
        for _ in range(hops // 2):
            await send.send(await receive.receive())

    start = now()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(player, receive_a, send_b)
        nursery.start_soon(player, receive_b, send_a)
        await trio.lowlevel.checkpoint()
        start = now()
        await send_a.send(0)
    return (now() - start) / hops * 1e6


async def stream_ping_pong(hops: int) -> float:
    """Microseconds per hop of two tasks over anyio memory object streams, with plain `send` and `receive`."""
    send_a, receive_a = anyio.create_memory_object_stream[int](1)
    send_b, receive_b = anyio.create_memory_object_stream[int](1)

    async def player(receive: ObjectReceiveStream[int], send: ObjectSendStream[int]) -> None:
        for _ in range(hops // 2):
            await send.send(await receive.receive())

    with send_a, receive_a, send_b, receive_b:
        async with anyio.create_task_group() as group:
            group.start_soon(player, receive_a, send_b)
            group.start_soon(player, receive_b, send_a)
            await anyio.lowlevel.checkpoint()
            start = now()
            await send_a.send(0)
        return (now() - start) / hops * 1e6


async def stream_of_messages(count: int) -> float:
    """Microseconds per item from one task to another over an anyio memory object stream with room for 64."""
    send, receive = anyio.create_memory_object_stream[int](64)

    async def consumer() -> None:
        for _ in range(count):
            await receive.receive()

    with send, receive:
        start = now()
        async with anyio.create_task_group() as group:
            group.start_soon(consumer)
            for number in range(count):
                await send.send(number)
        return (now() - start) / count * 1e6


async def spawn_tasks(count: int) -> float:
    """Microseconds to start a task in a group and see it end."""

    async def nothing() -> None:
        pass

    start = now()
    for _ in range(count):
        async with anyio.create_task_group() as group:
            group.start_soon(nothing)
    return (now() - start) / count * 1e6


async def fan_out_tasks(width: int) -> float:
    """Microseconds per branch: one task per branch, each sends one item back over an anyio memory stream."""
    send, receive = anyio.create_memory_object_stream[int](width)

    async def branch(number: int) -> None:
        await send.send(number)

    with send, receive:
        start = now()
        async with anyio.create_task_group() as group:
            for number in range(width):
                group.start_soon(branch, number)
            for _ in range(width):
                await receive.receive()
        return (now() - start) / width * 1e6


Node = Callable[[Any], Awaitable[Any]]


async def loop_of_awaits(node: Node, state: dict[str, Any], stages: int, times: int) -> float:
    """Microseconds per node where a plain loop awaits one after the other and merges what each returns."""
    start = now()
    for _ in range(times):
        current = state
        for _ in range(stages):
            current = {**current, **await node(current)}
    return (now() - start) / stages / times * 1e6


async def pipeline_of_streams(node: Node, state: dict[str, Any], stages: int, times: int) -> float:
    """Microseconds per node: one task per node, anyio memory streams between them, one item at a time."""

    async def stage(receive: ObjectReceiveStream[Any], send: ObjectSendStream[Any]) -> None:
        async for item in receive:
            await send.send({**item, **await node(item)})

    pairs = [anyio.create_memory_object_stream[Any](1) for _ in range(stages + 1)]
    async with anyio.create_task_group() as group, AsyncExitStack() as stack:
        for send, receive in pairs:
            await stack.enter_async_context(send)
            await stack.enter_async_context(receive)
        for (_, receive), (send, _) in pairwise(pairs):
            group.start_soon(stage, receive, send)
        await anyio.wait_all_tasks_blocked()
        start = now()
        for _ in range(times):
            await pairs[0][0].send(state)
            await pairs[-1][1].receive()
        spent = now() - start
        group.cancel_scope.cancel()
    return spent / stages / times * 1e6


async def branches_over_streams(node: Node, state: dict[str, Any], width: int, times: int) -> float:
    """Microseconds per branch: one task per branch, which sends what it adds over a memory stream to who joins."""

    async def branch(item: dict[str, Any], send: ObjectSendStream[Any]) -> None:
        await send.send(await node(item))

    spent = 0.0
    for _ in range(times):
        send, receive = anyio.create_memory_object_stream[Any](width)
        with send, receive:
            start = now()
            async with anyio.create_task_group() as group:
                for _ in range(width):
                    group.start_soon(branch, state.copy(), send)
                found = state["found"]
                for _ in range(width):
                    found = found + (await receive.receive())["found"]
            spent += now() - start
    return spent / width / times * 1e6
