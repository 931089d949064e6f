"""An actor may surround the handling of its messages, with a task group of its own for example."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from actors import Actor, ActorCrashed, ChildSpec, StopReason, supervise
from actors.testing import Probe


class Helped(Actor[str]):
    """Has a helper beside its messages, which says when it starts and ends."""

    def __init__(self, probe: Probe[str]) -> None:
        self.probe = probe

    async def run(self, serve: Callable[[], Awaitable[StopReason]]) -> StopReason:
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
