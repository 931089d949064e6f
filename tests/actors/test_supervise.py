"""The `async with` at the root, and what the ref of a supervisor refuses to do."""

from typing import Any

import anyio
import pytest

from actors import (
    Actor,
    ActorError,
    ActorStopped,
    ChildRunning,
    ChildSpec,
    DuplicateChild,
    StartFailed,
    State,
    StopReason,
    Supervisor,
    TooManyRestarts,
    UnknownChild,
    supervise,
)


class Crashing(Actor[Any]):
    async def receive(self, message: Any) -> Any:
        raise LookupError(message)


class Slow(Actor[Any]):
    """Takes ten seconds to start."""

    async def on_start(self) -> None:
        await anyio.sleep(10)


def test_what_is_wrong_with_the_root_shows_before_it_is_entered() -> None:
    with pytest.raises(ValueError, match="a dynamic supervisor takes one spec"):
        supervise([], strategy="dynamic")


async def test_a_tree_is_entered_once() -> None:
    tree = supervise()
    async with tree:
        pass

    with pytest.raises(ActorError, match=r"a tree is entered once: call supervise\(\) again"):
        async with tree:
            pytest.fail("entered twice")


async def test_two_children_of_one_name_are_refused_with_the_name() -> None:
    with pytest.raises(DuplicateChild, match="supervisor 'root' has two children named 'a'"):
        async with supervise([ChildSpec("a", Actor), ChildSpec("a", Actor)]):
            pytest.fail("it has started")


async def test_entering_may_be_cancelled() -> None:
    with anyio.move_on_after(1) as scope:
        async with supervise([ChildSpec("a", Actor), ChildSpec("b", Slow, start_timeout=60)]):
            pytest.fail("it has started")

    assert scope.cancelled_caught


async def test_a_clean_up_that_fails_does_not_hide_the_error_of_the_body() -> None:
    class Clumsy(Actor[Any]):
        async def on_stop(self, reason: StopReason) -> None:
            raise ValueError("in the clean-up")

    with pytest.raises(KeyError, match="the body"):
        async with supervise([ChildSpec("a", Clumsy)]):
            raise KeyError("the body")


async def test_when_the_body_and_the_tree_fail_both_are_told() -> None:
    with pytest.raises(ExceptionGroup, match="both the body and the tree 'root' failed") as failed:  # noqa: PT012
        async with supervise([ChildSpec("a", Crashing, max_restarts=0)]) as root:
            root.child("a").tell_nowait("x")
            try:
                await anyio.sleep_forever()
            finally:
                raise KeyError("the body")

    body, tree = failed.value.exceptions
    assert isinstance(body, KeyError)
    assert isinstance(tree, TooManyRestarts)


async def test_start_child_is_for_static_supervisors_and_spawn_for_dynamic_ones() -> None:
    dynamic = Supervisor.spec("pool", [ChildSpec("worker", Actor)], strategy="dynamic")
    async with supervise([dynamic]) as root:
        pool = root.supervisor("pool")
        with pytest.raises(ValueError, match=r"supervisor 'root/pool' is dynamic: its children come from spawn\(\)"):
            await pool.start_child(ChildSpec("a", Actor))
        with pytest.raises(ValueError, match=r"supervisor 'root' is not dynamic: use start_child\(spec\)"):
            await root.spawn()


async def test_a_started_child_that_does_not_come_up_is_told_to_the_caller_and_to_nobody_else() -> None:
    def factory() -> Actor[Any]:
        raise LookupError

    async with supervise([ChildSpec("a", Actor)]) as root:
        with pytest.raises(StartFailed, match="child 'b' did not start"):
            await root.start_child(ChildSpec("b", factory))
        assert [child.name for child in root.status()] == ["a"]


async def test_distinct_faults_of_requests_are_distinct_errors() -> None:
    async with supervise([ChildSpec("a", Actor)]) as root:
        with pytest.raises(DuplicateChild, match="supervisor 'root' has a child 'a' already"):
            await root.start_child(ChildSpec("a", Actor))
        with pytest.raises(ChildRunning, match="child 'a' of 'root' is running: terminate it"):
            await root.delete_child("a")
        with pytest.raises(ChildRunning, match="child 'a' of 'root' is running"):
            await root.restart_child("a")
        for request in (root.delete_child, root.restart_child, root.terminate_child):
            with pytest.raises(UnknownChild, match="supervisor 'root' has no child 'x'"):
                await request("x")
        with pytest.raises(UnknownChild, match="supervisor 'root' has no child 'x'"):
            root.child("x")


async def test_a_supervisor_that_has_ended_says_so() -> None:
    async with supervise([ChildSpec("a", Actor)]) as root:
        pass

    for look in (root.status, lambda: root.child("a")):
        with pytest.raises(ActorStopped, match="supervisor 'root' is stopped"):
            look()
    with pytest.raises(ActorStopped, match=r"supervisor 'root' is stopped \(shutdown\)"):
        await root.delete_child("a")


async def test_an_actor_that_is_no_supervisor_is_not_taken_for_one() -> None:
    async with supervise([ChildSpec("a", Actor)]) as root:
        with pytest.raises(TypeError, match="actor 'root/a' is no supervisor"):
            root.supervisor("a")


async def test_a_request_given_up_is_done_all_the_same() -> None:
    async with supervise([ChildSpec("a", Actor)]) as root:
        with anyio.move_on_after(1) as scope:
            await root.start_child(ChildSpec("b", Slow, start_timeout=60))
        await anyio.sleep(20)

        assert scope.cancelled_caught
        assert [child.name for child in root.status()] == ["a", "b"]


async def test_a_tree_left_in_another_task_says_so_and_goes_on() -> None:
    tree = supervise([ChildSpec("a", Actor)])
    root = await tree.__aenter__()

    async def leave() -> None:
        with pytest.raises(ActorError, match="tree 'root' is left in another task than the one that entered it"):
            await tree.__aexit__(None, None, None)

    async with anyio.create_task_group() as group:
        group.start_soon(leave)
    assert root.state is State.RUNNING
    await tree.__aexit__(None, None, None)
