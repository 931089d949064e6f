"""The baselines: the least that each backend can do the same work with."""

from __future__ import annotations

import asyncio
from time import perf_counter

import anyio


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
    start = perf_counter()
    waiting[0].set_result(None)
    await asyncio.gather(*tasks)
    return (perf_counter() - start) / hops * 1e6


async def trio_channel_ping_pong(hops: int) -> float:
    """Microseconds per hop of two trio tasks over native memory channels."""
    import trio

    send_a, receive_a = trio.open_memory_channel[int](1)
    send_b, receive_b = trio.open_memory_channel[int](1)

    async def player(receive: trio.MemoryReceiveChannel[int], send: trio.MemorySendChannel[int]) -> None:
        for _ in range(hops // 2):
            await send.send(await receive.receive())

    start = perf_counter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(player, receive_a, send_b)
        nursery.start_soon(player, receive_b, send_a)
        await trio.lowlevel.checkpoint()
        start = perf_counter()
        await send_a.send(0)
    return (perf_counter() - start) / hops * 1e6


async def stream_ping_pong(hops: int) -> float:
    """Microseconds per hop of two tasks over anyio memory object streams, with plain `send` and `receive`."""
    send_a, receive_a = anyio.create_memory_object_stream[int](1)
    send_b, receive_b = anyio.create_memory_object_stream[int](1)

    async def player(receive: anyio.abc.ObjectReceiveStream[int], send: anyio.abc.ObjectSendStream[int]) -> None:
        for _ in range(hops // 2):
            await send.send(await receive.receive())

    with send_a, receive_a, send_b, receive_b:
        async with anyio.create_task_group() as group:
            group.start_soon(player, receive_a, send_b)
            group.start_soon(player, receive_b, send_a)
            await anyio.lowlevel.checkpoint()
            start = perf_counter()
            await send_a.send(0)
        return (perf_counter() - start) / hops * 1e6


async def stream_of_messages(count: int) -> float:
    """Microseconds per item from one task to another over an anyio memory object stream with room for 64."""
    send, receive = anyio.create_memory_object_stream[int](64)

    async def consumer() -> None:
        for _ in range(count):
            await receive.receive()

    with send, receive:
        start = perf_counter()
        async with anyio.create_task_group() as group:
            group.start_soon(consumer)
            for number in range(count):
                await send.send(number)
        return (perf_counter() - start) / count * 1e6


async def spawn_tasks(count: int) -> float:
    """Microseconds to start a task in a group and see it end."""

    async def nothing() -> None:
        pass

    start = perf_counter()
    for _ in range(count):
        async with anyio.create_task_group() as group:
            group.start_soon(nothing)
    return (perf_counter() - start) / count * 1e6


async def fan_out_tasks(width: int) -> float:
    """Microseconds per branch: one task per branch, each sends one item back over an anyio memory stream."""
    send, receive = anyio.create_memory_object_stream[int](width)

    async def branch(number: int) -> None:
        await send.send(number)

    with send, receive:
        start = perf_counter()
        async with anyio.create_task_group() as group:
            for number in range(width):
                group.start_soon(branch, number)
            for _ in range(width):
                await receive.receive()
        return (perf_counter() - start) / width * 1e6
