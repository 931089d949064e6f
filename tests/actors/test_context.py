"""What an actor can see of itself: ref, attempt, origin, and what it can ask of the runtime."""

from typing import Any

import anyio
import pytest

from actors import Actor, ActorError, ChildSpec, Context, supervise
from actors.testing import Probe


class Curious(Actor[Any]):
    """Answers a function of its context."""

    async def receive(self, message: Any) -> Any:
        return message(self.context)


class Relay(Actor[Any]):
    """Tells or asks another what it is given."""

    async def receive(self, message: Any) -> Any:
        way, target, what = message
        return await getattr(target, way)(what)


async def test_the_context_knows_the_actor_s_ref_and_incarnation() -> None:
    async with supervise([ChildSpec("a", Curious)]) as root:
        ref, incarnation = await root.child("a").ask(lambda context: (context.ref, context.incarnation))

        assert (ref, incarnation) == (root.child("a"), 1)


async def test_the_context_of_an_ended_incarnation_keeps_its_number() -> None:
    contexts: list[Context] = []

    def keep_and_crash(context: Context) -> None:
        contexts.append(context)
        raise RuntimeError

    async with supervise([ChildSpec("a", Curious)]) as root:
        root.child("a").tell_nowait(keep_and_crash)
        await anyio.sleep(1)

    assert contexts[0].incarnation == 1


async def test_the_context_is_there_in_on_start() -> None:
    paths: list[str] = []

    class Starting(Actor[Any]):
        async def on_start(self) -> None:
            paths.append(self.context.ref.path)
            assert self.context.origin is None

    async with supervise([ChildSpec("a", Starting)]):
        pass

    assert paths == ["root/a"]


async def test_a_message_from_outside_the_tree_has_no_origin() -> None:
    async with supervise([ChildSpec("a", Curious)]) as root:
        assert await root.child("a").ask(lambda context: context.origin) is None


@pytest.mark.parametrize("way", ["tell", "ask"])
async def test_a_message_of_an_actor_has_that_actor_as_its_origin(way: str) -> None:
    origins: Probe[Any] = Probe()
    async with supervise([ChildSpec("a", Curious), ChildSpec("b", Relay)]) as root:
        await root.child("b").ask((way, root.child("a"), lambda context: origins.record(context.origin)))
        await origins.wait_for(1)

        assert origins.items == [root.child("b")]


async def test_a_message_of_a_channel_has_the_channel_as_its_origin() -> None:
    origins: Probe[Any] = Probe()
    async with supervise([ChildSpec("a", Curious)]) as root:
        channel = root.child("a").channel("root/b")
        channel.reserve()
        channel.send_nowait(lambda context: origins.record(context.origin))
        await origins.wait_for(1)

    assert origins.items == [channel]


async def test_a_first_try_is_attempt_1() -> None:
    async with supervise([ChildSpec("a", Curious)]) as root:
        assert await root.child("a").ask(lambda context: context.attempt) == 1


async def test_a_reply_to_what_was_told_cannot_be_deferred() -> None:
    errors: Probe[str] = Probe()

    def defer(context: Context) -> None:
        try:
            context.defer_reply()
        except ActorError as error:
            errors.record(str(error))

    async with supervise([ChildSpec("a", Curious)]) as root:
        await root.child("a").tell(defer)

        assert await errors.wait_for(1) == "actor 'root/a': the message in hand was told, not asked"


async def test_stop_ends_the_actor_after_the_message_in_hand() -> None:
    def stop(context: Context) -> str:
        context.stop()
        return "finished"

    async with supervise([ChildSpec("a", Curious, restart="transient")]) as root:
        assert await root.child("a").ask(stop) == "finished"
        assert (await root.child("a").wait_stopped()).kind == "normal"
