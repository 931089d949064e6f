"""One loop, one thread: what reaches a sleeping actor from another thread fails there, and has done nothing."""

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from actors import Actor, ActorRef, ChildSpec, Reply, WrongThread, supervise
from actors.testing import Probe


class Deferring(Actor[Any]):
    def __init__(self, probe: Probe[Any]) -> None:
        self.probe = probe

    async def receive(self, message: Any) -> Any:
        if message == "defer":
            self.probe.record(self.context.defer_reply())
        return message


WAYS: list[Callable[[ActorRef[Any]], object]] = [
    lambda ref: ref.tell_nowait(1),
    lambda ref: ref.tell_urgent(1),
    lambda ref: ref.tell(1).send(None),
    lambda ref: ref.stop(),
    lambda ref: ref.drain(),
]


@pytest.mark.parametrize("way", WAYS, ids=["tell_nowait", "tell_urgent", "tell", "stop", "drain"])
async def test_a_sleeping_actor_cannot_be_reached_from_another_thread_and_says_what_to_do(way: Any) -> None:
    async with supervise([ChildSpec("a", Deferring, [Probe()])]) as root:
        ref = root.child("a")
        await ref.ask("up")
        with pytest.raises(WrongThread, match=r"from another one use anyio.from_thread.run\(ref.tell"):
            await anyio.to_thread.run_sync(way, ref)

        assert ref.statistics().queued == 0
        assert await ref.ask("still there") == "still there"


async def test_a_reply_sent_from_another_thread_is_refused_and_can_be_sent_after_all() -> None:
    probe: Probe[Reply[str]] = Probe()
    answers = []

    async def ask() -> None:
        answers.append(await ref.ask("defer"))

    async with supervise([ChildSpec("a", Deferring, [probe])]) as root, anyio.create_task_group() as group:
        ref = root.child("a")
        group.start_soon(ask)
        reply = await probe.wait_for(1)
        with pytest.raises(WrongThread):
            await anyio.to_thread.run_sync(reply.send, "from a thread")
        reply.send("from the loop")

    assert answers == ["from the loop"]


async def test_a_thread_tells_through_anyio() -> None:
    async with supervise([ChildSpec("a", Deferring, [Probe()])]) as root:
        ref = root.child("a")

        assert await anyio.to_thread.run_sync(lambda: anyio.from_thread.run(ref.ask, "hello")) == "hello"
