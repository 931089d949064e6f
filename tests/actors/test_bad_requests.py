"""What a caller asks wrongly of a supervisor is the caller's error: the supervisor and its children go on."""

import logging
from typing import Any

import anyio
import pytest

from actors import (
    Actor,
    ActorRef,
    ActorRestarting,
    Backoff,
    ChildSpec,
    Supervisor,
    SupervisorRef,
    WrongMessage,
    supervise,
)


class Echo(Actor[Any]):
    async def receive(self, message: Any) -> Any:
        return message


class Unhashable(str):
    """A text by its type, and yet no key of any dict."""

    def __hash__(self) -> int:
        raise RuntimeError("no hash")


async def assert_lives(ref: ActorRef[Any]) -> None:
    assert await ref.ask("alive?") == "alive?"
    assert ref.incarnation == 1


POOL = [ChildSpec("echo", Echo)]


@pytest.mark.parametrize("not_a_spec", [Echo, "a name", None])
async def test_a_child_that_is_no_spec_is_refused_at_the_caller(not_a_spec: Any) -> None:
    async with supervise([ChildSpec("a", Echo)]) as root:
        with pytest.raises(TypeError, match=r"start_child\(\) takes a ChildSpec, got"):
            await root.start_child(not_a_spec)

        await assert_lives(root.child("a"))


@pytest.mark.parametrize("request_of", ["child", "supervisor", "terminate_child", "restart_child", "delete_child"])
@pytest.mark.parametrize("name", [["x"], 3, None])
async def test_a_name_that_is_no_text_is_refused_at_the_caller(request_of: str, name: Any) -> None:
    async with supervise([ChildSpec("a", Echo)]) as root:
        with pytest.raises(TypeError, match=f"{request_of}\\(\\) takes a child's name, got"):
            await getattr(root, request_of)(name)

        await assert_lives(root.child("a"))


async def test_a_bad_name_for_a_child_spawned_soon_is_refused_at_the_caller() -> None:
    async with supervise([Supervisor.spec("pool", POOL, strategy="dynamic")]) as root:
        pool = root.supervisor("pool")
        first = await pool.spawn()
        with pytest.raises(ValueError, match="a child's name is a text without '/', got 'a/b'"):
            pool.spawn_soon(name="a/b")

        await assert_lives(first)


@pytest.mark.parametrize("make", [supervise, Supervisor, lambda specs: Supervisor.spec("x", specs)])
def test_children_that_are_no_specs_are_refused(make: Any) -> None:
    with pytest.raises(TypeError, match=r"a supervisor's children are ChildSpecs, got .*Echo.*: write ChildSpec"):
        make([Echo])


@pytest.mark.parametrize("make", [supervise, Supervisor, lambda specs: Supervisor.spec("x", specs)])
def test_one_spec_in_place_of_several_is_refused(make: Any) -> None:
    with pytest.raises(TypeError, match=r"a supervisor's children are a list of ChildSpecs, got ChildSpec\(name='a'"):
        make(ChildSpec("a", Echo))


async def test_what_goes_wrong_in_deciding_is_the_requests_failure_and_not_the_supervisors() -> None:
    async with supervise([ChildSpec("a", Echo)]) as root:
        with pytest.raises(RuntimeError, match="no hash"):
            await root.terminate_child(Unhashable("a"))

        await assert_lives(root.child("a"))


async def test_what_goes_wrong_in_deciding_with_nobody_waiting_is_an_error_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with supervise([Supervisor.spec("pool", POOL, strategy="dynamic")]) as root:
        pool = root.supervisor("pool")
        first = await pool.spawn()
        with caplog.at_level(logging.ERROR, "actors"):
            pool.spawn_soon(name=Unhashable("b"))
            await pool.spawn()

        await assert_lives(first)
    assert "supervisor root/pool could not spawn: no hash" in caplog.text


@pytest.mark.parametrize("tell", ["tell", "tell_nowait", "tell_urgent", "ask"])
async def test_a_supervisor_takes_no_messages_and_says_what_to_use(tell: str) -> None:
    async with supervise([Supervisor.spec("sub", [ChildSpec("a", Echo)])]) as root:
        with pytest.raises(
            WrongMessage, match=r"supervisor 'root/sub' takes no messages, got str: use start_child\(\)"
        ):
            await getattr(root.child("sub"), tell)("hello")


async def test_a_supervisor_made_by_a_function_takes_no_messages_either() -> None:
    async with supervise([ChildSpec("sub", lambda: Supervisor())]) as root:
        with pytest.raises(WrongMessage, match="actor 'root/sub' takes no messages, got str"):
            await root.child("sub").tell("hello")


async def test_a_supervisor_that_is_restarting_says_so() -> None:
    class Crashing(Echo):
        async def receive(self, message: Any) -> Any:
            raise LookupError(message)

    sub = Supervisor.spec("sub", [ChildSpec("a", Crashing, max_restarts=0)], backoff=Backoff(2, 2, jitter=0))
    async with supervise([sub]) as root:
        ref = root.supervisor("sub")
        await ref.child("a").tell("boom")
        await anyio.sleep(1)
        with pytest.raises(ActorRestarting, match="supervisor 'root/sub' is restarting"):
            ref.child("a")
        await anyio.sleep(2)

        assert ref.child("a").incarnation == 1


async def test_a_child_that_is_known_to_be_a_supervisor_has_the_ref_of_one() -> None:
    async with supervise([Supervisor.spec("sub", [ChildSpec("a", Echo)])]) as root:
        sub = root.child("sub")
        await root.terminate_child("sub")

        assert isinstance(sub, SupervisorRef)
        assert isinstance(await root.restart_child("sub"), SupervisorRef)
