"""An actor may surround the handling of its messages, with a task group of its own for example."""

import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from actors import Actor, ActorCrashed, ChildSpec, StartFailed, StartTimeout, StopReason, supervise
from actors.testing import Probe


class Helped(Actor[str]):
    """Has a helper beside its messages, which says when it starts and ends."""

    def __init__(self, probe: Probe[str]) -> None:
        self.probe = probe

    async def around(self, serve: Callable[[], Awaitable[StopReason]]) -> StopReason:
        async with anyio.create_task_group() as group:
            self.group = group
            group.start_soon(self.help)
            reason = await serve()
            group.cancel_scope.cancel()
        return reason

    async def help(self) -> None:
        self.probe.record("started")
        try:
            await anyio.sleep_forever()
        finally:
            self.probe.record("ended")

    async def fail(self) -> None:
        raise RuntimeError("as asked")

    async def receive(self, message: str) -> Any:
        if message == "crash":
            raise ValueError(message)
        if message == "crash beside":
            self.group.start_soon(self.fail)
            await anyio.sleep_forever()
        return message


async def test_a_helper_lives_and_dies_with_its_incarnation() -> None:
    probe: Probe[str] = Probe()
    async with supervise([ChildSpec("helped", Helped, (probe,))]) as root:
        helped = root.child("helped")
        assert await helped.ask("hello") == "hello"
        with pytest.raises(ActorCrashed):
            await helped.ask("crash")
        assert await helped.ask("again") == "again"

    assert probe.items == ["started", "ended", "started", "ended"]


async def test_a_helper_that_raises_crashes_the_actor() -> None:
    probe: Probe[str] = Probe()
    async with supervise([ChildSpec("helped", Helped, (probe,))]) as root:
        helped = root.child("helped")
        with pytest.raises(ActorCrashed) as crash:
            await helped.ask("crash beside")
        assert await helped.ask("again") == "again"

    assert isinstance(crash.value.__cause__, ExceptionGroup)
    assert isinstance(crash.value.__cause__.exceptions[0], RuntimeError)


class Late(Actor[Any]):
    async def around(self, serve: Callable[[], Awaitable[StopReason]]) -> StopReason:
        await anyio.sleep_forever()
        return await serve()


async def test_an_around_that_does_not_come_to_serve_is_a_failed_start() -> None:
    with pytest.raises(StartFailed) as failed:
        async with supervise([ChildSpec("late", Late, start_timeout=0.02)]):
            pass

    assert isinstance(failed.value.__cause__, StartTimeout)


class Twice(Actor[Any]):
    async def around(self, serve: Callable[[], Awaitable[StopReason]]) -> StopReason:
        await serve()
        return await serve()


async def test_serving_twice_is_a_crash_that_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async with supervise([ChildSpec("twice", Twice, restart="temporary")]) as root:
        twice = root.child("twice")
        twice.stop()
        reason = await twice.wait_stopped()

    assert "serve() twice" in str(reason.cause)


class Slow(Actor[Any]):
    def __init__(self, probe: Probe[str]) -> None:
        self.probe = probe

    async def on_start(self) -> None:
        self.probe.record("opened")
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.03)

    async def on_stop(self, reason: StopReason) -> None:
        self.probe.record("closed")


async def test_what_a_late_on_start_has_opened_is_closed() -> None:
    probe: Probe[str] = Probe()
    with pytest.raises(StartFailed):
        async with supervise([ChildSpec("slow", Slow, (probe,), start_timeout=0.01)]):
            pass

    assert probe.items == ["opened", "closed"]


class Quitter(Actor[Any]):
    async def receive(self, message: Any) -> Any:
        if message == "stop and crash":
            self.context.stop()
            raise ValueError(message)
        return self.context.incarnation


async def test_the_wish_to_stop_ends_with_the_incarnation_that_had_it() -> None:
    async with supervise([ChildSpec("quitter", Quitter, restart="transient")]) as root:
        quitter = root.child("quitter")
        with pytest.raises(ActorCrashed):
            await quitter.ask("stop and crash")

        assert await quitter.ask("who?") == 2


class Payload:
    """Something that a weak reference can watch."""


async def test_an_idle_actor_keeps_no_message_alive() -> None:
    async with supervise([ChildSpec("quitter", Quitter)]) as root:
        payload = Payload()
        alive = weakref.ref(payload)
        await root.child("quitter").ask(payload)
        await root.child("quitter").tell(payload)
        del payload
        await anyio.wait_all_tasks_blocked()
        gc.collect()

        assert alive() is None
