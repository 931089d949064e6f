"""What goes wrong around supervision itself: late orders, cancellations from outside, interrupts, hanging starts."""

from __future__ import annotations

import asyncio
import itertools
import logging
from math import inf
from typing import Any

import anyio
import pytest

from actors import (
    Actor,
    ActorError,
    ActorStopped,
    AskCycle,
    Backoff,
    ChildSpec,
    DuplicateChild,
    Phase,
    StartFailed,
    StartTimeout,
    State,
    StopReason,
    StrayCancellation,
    Supervisor,
    TooManyRestarts,
    UnknownChild,
    supervise,
)
from actors.testing import Backend, run
from tests.actors.schedules import Boom, Log, Worker, on_all_schedules
from tests.actors.schedules import quiet_log as quiet_log

# An order that comes late


@on_all_schedules
async def test_a_child_cancelled_in_a_group_restart_does_not_obey_its_old_order_again() -> None:
    log = Log()
    children = [ChildSpec("a", Worker, (log,)), ChildSpec("b", Worker, (log,), shutdown=0)]
    async with supervise(children, strategy="one_for_all", observer=log) as root:
        await root.child("b").tell(1000)
        await anyio.sleep(1)
        await root.child("a").tell("boom")
        await anyio.sleep(1)

        assert [(child.phase, child.incarnation) for child in root.status()] == [(Phase.UP, 2)] * 2
        assert await root.child("b").ask("alive") == ["alive"]


@on_all_schedules
async def test_a_child_that_crashes_before_it_reads_its_order_does_not_obey_it_in_its_next_life() -> None:
    class Crashing(Worker):
        async def receive(self, message: Any) -> Any:
            await anyio.sleep(1)
            return await super().receive(message)

    log = Log()
    children = [ChildSpec("a", Worker, (log,)), ChildSpec("b", Crashing, (log,))]
    async with supervise(children, strategy="one_for_all", observer=log) as root:
        await root.child("b").tell("boom")
        await anyio.sleep(0.5)
        await root.child("a").tell("boom")
        await anyio.sleep(5)

        assert [(child.phase, child.incarnation) for child in root.status()] == [(Phase.UP, 2)] * 2
        assert [child.crashes for child in root.status()] == [1, 0]


@on_all_schedules
async def test_all_that_crash_together_come_back_whatever_the_order_of_the_news() -> None:
    log = Log()
    children = [ChildSpec(name, Worker, (log,)) for name in "abc"]
    async with supervise(children, strategy="one_for_all", observer=log) as root:
        for name in "abc":
            root.child(name).tell_nowait("boom")
        await anyio.sleep(1)

        assert {child.phase for child in root.status()} == {Phase.UP}
        # A message whose actor was stopped first is still there for its next incarnation, and crashes that.
        assert 1 <= sum(child.crashes for child in root.status()) <= 3


@on_all_schedules
async def test_a_killed_supervisors_next_incarnation_knows_nothing_of_the_last_ones_children() -> None:
    class Stubborn(Worker):
        async def receive(self, message: Any) -> None:
            try:
                await anyio.sleep_forever()
            except BaseException:
                await anyio.lowlevel.cancel_shielded_checkpoint()
                raise Boom from None

    log = Log()
    sub = Supervisor.spec("sub", [ChildSpec("x", Stubborn, (log,), shutdown=inf)], shutdown=1)
    async with supervise([ChildSpec("a", Worker, (log,)), sub], strategy="one_for_all", observer=log) as root:
        await root.supervisor("sub").child("x").tell("hang")
        await root.child("a").tell("boom")
        await anyio.sleep(10)

        assert [(child.phase, child.incarnation) for child in root.status()] == [(Phase.UP, 2)] * 2
        assert [(child.phase, child.incarnation) for child in root.supervisor("sub").status()] == [(Phase.UP, 1)]


# Nobody is forgotten


@on_all_schedules
async def test_who_waits_for_a_child_in_its_backoff_is_told_when_its_supervisor_is_killed() -> None:
    log = Log()
    slow = ChildSpec("slow", Worker, (log,), shutdown=inf)
    waiting = ChildSpec("waiting", Worker, (log,), backoff=Backoff(100, 100))
    sub = Supervisor.spec("sub", [slow, waiting], shutdown=1)
    outcomes = []

    async def ask() -> None:
        with pytest.raises(ActorStopped):
            await ref.ask("anyone there?", timeout=None)
        outcomes.append("told")

    async with anyio.create_task_group() as group, supervise([sub], observer=log) as root:
        ref = root.supervisor("sub").child("waiting")
        await root.supervisor("sub").child("slow").tell(1000)
        await ref.tell("boom")
        await anyio.sleep(1)
        group.start_soon(ask)
        await anyio.sleep(1)
        assert ref.state is State.RESTARTING
        await root.terminate_child("sub")

        assert ref.state is State.STOPPED
        assert log.of("is") == ["waiting is shutdown", "slow is killed", "sub is killed"]
    assert outcomes == ["told"]


@on_all_schedules
async def test_who_waits_for_a_sibling_in_its_backoff_is_told_as_soon_as_all_is_to_stop() -> None:
    class Asking(Worker):
        async def receive(self, message: Any) -> None:
            with pytest.raises(ActorStopped):
                await message.ask("anyone there?", timeout=None)

    log = Log()
    children = [
        ChildSpec("waiting", Worker, (log,), backoff=Backoff(100, 100)),
        ChildSpec("asking", Asking, (log,), shutdown=inf),
    ]
    async with supervise(children, observer=log) as root:
        await root.child("waiting").tell("boom")
        await root.child("asking").tell(root.child("waiting"))
        await anyio.sleep(1)

    assert anyio.current_time() == 1
    assert log.of("is") == ["waiting is shutdown", "asking is shutdown", "root is shutdown"]


@on_all_schedules
async def test_a_start_asked_for_by_a_sibling_that_is_stopped_meanwhile_is_answered() -> None:
    """A waits for B's start while C's crash stops both: B's end is the answer, or A could never end."""

    class Hanging(Actor[Any]):
        async def on_start(self) -> None:
            await anyio.sleep(1000)

    class Starter(Actor[Any]):
        async def receive(self, message: Any) -> None:
            with pytest.raises(ActorStopped, match="'root' was stopped while it started"):
                await message.start_child(ChildSpec("b", Hanging, start_timeout=inf, shutdown=2))
            log("answered")

    log = Log()
    children = [ChildSpec("a", Starter, shutdown=inf), ChildSpec("c", Worker, (log,))]
    async with supervise(children, strategy="one_for_all") as root:
        await root.child("a").tell(root)
        await anyio.sleep(1)
        await root.child("c").tell("boom")
        await anyio.sleep(5)

        assert log.of("answered") == ["answered"]
        assert [(child.name, child.phase, child.incarnation) for child in root.status()] == [
            ("a", Phase.UP, 2),
            ("c", Phase.UP, 2),
        ]


@on_all_schedules
async def test_every_request_to_a_supervisor_that_goes_down_is_answered() -> None:
    class Slow(Worker):
        async def on_start(self) -> None:
            await anyio.sleep(3)

        async def on_stop(self, reason: StopReason) -> None:
            await anyio.sleep(1)

    answers = []

    async def request(what: Any, *arguments: Any) -> None:
        try:
            await what(*arguments)
        except ActorError as error:
            answers.append(type(error).__name__)
        else:
            answers.append("done")

    log = Log()
    children = [ChildSpec("a", Worker, (log,)), ChildSpec("b", Slow, (log,))]
    async with anyio.create_task_group() as group, supervise(children) as root:
        group.start_soon(request, root.start_child, ChildSpec("c", Slow, (log,)))
        group.start_soon(request, root.terminate_child, "b")
        group.start_soon(request, root.terminate_child, "b")
        await anyio.sleep(0.5)
        group.start_soon(request, root.start_child, ChildSpec("d", Slow, (log,)))
        await anyio.sleep(0.1)
        root.stop()
        group.start_soon(request, root.start_child, ChildSpec("e", Slow, (log,)))
        await anyio.sleep(0.1)
        group.start_soon(request, root.restart_child, "a")
        group.start_soon(request, root.delete_child, "a")
        await root.wait_stopped()
        group.start_soon(request, root.start_child, ChildSpec("f", Slow, (log,)))

    assert sorted(answers) == ["ActorStopped"] * 5 + ["done"] * 3


# Bad names are the caller's fault


@on_all_schedules
async def test_a_bad_name_for_a_spawned_child_is_the_callers_error_and_nobody_elses() -> None:
    log = Log()
    pool = Supervisor.spec("pool", [ChildSpec("w", Worker, (log,))], strategy="dynamic")
    async with supervise([pool]) as root:
        dynamic = root.supervisor("pool")
        first = await dynamic.spawn()
        with pytest.raises(ValueError, match="a child's name is a text without '/', got 'a/b'"):
            await dynamic.spawn(name="a/b")
        with pytest.raises(ValueError, match="got ''"):
            await dynamic.spawn(name="")

        assert await first.ask("alive") == ["alive"]
        assert root.status()[0].crashes == 0


@on_all_schedules
async def test_a_spawned_child_without_a_name_gets_a_free_one() -> None:
    log = Log()
    pool = Supervisor.spec("pool", [ChildSpec("w", Worker, (log,))], strategy="dynamic")
    async with supervise([pool]) as root:
        dynamic = root.supervisor("pool")
        await dynamic.spawn(name="w-1")

        assert [(await dynamic.spawn()).name for _ in range(2)] == ["w-2", "w-3"]
        with pytest.raises(DuplicateChild):
            await dynamic.spawn(name="w-3")


@on_all_schedules
async def test_a_deleted_child_is_unknown() -> None:
    log = Log()
    async with supervise([ChildSpec("a", Worker, (log,)), ChildSpec("b", Worker, (log,))]) as root:
        await root.terminate_child("a")
        assert root.child("a").state is State.STOPPED
        await root.delete_child("a")

        with pytest.raises(UnknownChild):
            root.child("a")
        assert [child.name for child in root.status()] == ["b"]


# Starts that hang, and ends of starts


@on_all_schedules
async def test_a_start_that_hangs_fails_at_its_time() -> None:
    class Hanging(Actor[Any]):
        async def on_start(self) -> None:
            await anyio.sleep_forever()

    log = Log()
    with pytest.raises(StartFailed) as caught:
        async with supervise([ChildSpec("a", Worker, (log,)), ChildSpec("b", Hanging, start_timeout=7)]):
            raise AssertionError("not reached")

    assert anyio.current_time() == 7
    assert isinstance(caught.value.__cause__, StartTimeout)
    assert log.lines == ["start a1", "started a1", "stop a1", "stopped a1"]


@on_all_schedules
async def test_a_terminate_cuts_a_start_that_hangs_short() -> None:
    class Hanging(Actor[Any]):
        async def on_start(self) -> None:
            if self.context.incarnation > 1:
                await anyio.sleep_forever()

        async def receive(self, message: Any) -> None:
            raise Boom

    async with supervise([ChildSpec("a", Hanging, start_timeout=inf, shutdown=3)]) as root:
        await root.child("a").tell("boom")
        await anyio.sleep(1)
        assert root.status()[0].phase is Phase.STARTING
        await root.terminate_child("a")

        assert anyio.current_time() == 4
        assert root.child("a").state is State.STOPPED


@on_all_schedules
async def test_a_significant_child_that_is_done_before_its_siblings_are_up_does_not_fail_the_start() -> None:
    class Done(Worker):
        async def on_start(self) -> None:
            self.context.stop()

    class Slow(Worker):
        async def on_start(self) -> None:
            await anyio.sleep(1)

    log = Log()
    job = ChildSpec("job", Done, (log,), restart="transient", significant=True)
    for children in ([job], [job, ChildSpec("slow", Slow, (log,))]):
        async with supervise(children, observer=log) as root:
            reason = await root.wait_stopped()

        assert reason.kind == "shutdown"


# Cancellations from outside, and stray ones


@on_all_schedules
async def test_a_stray_cancellation_in_on_stop_is_a_crash_like_any_other() -> None:
    class Stray(Worker):
        async def on_stop(self, reason: StopReason) -> None:
            await stray_cancellation()

    log = Log()
    children = [ChildSpec("a", Worker, (log,)), ChildSpec("b", Stray, (log,), restart="transient")]
    async with supervise(children, observer=log) as root:
        root.child("b").stop()
        await anyio.sleep(1)

        assert [(child.phase, child.incarnation) for child in root.status()] == [(Phase.UP, 1), (Phase.UP, 2)]
        assert await root.child("a").ask("alive") == ["alive"]


@pytest.mark.parametrize("where", ["factory", "on_start", "receive"])
@on_all_schedules
async def test_a_stray_cancellation_is_a_crash_wherever_it_comes_from(where: str) -> None:
    lives = itertools.count()

    class Stray(Actor[Any]):
        async def on_start(self) -> None:
            if where == "on_start" and self.context.incarnation == 2:
                await stray_cancellation()

        async def receive(self, message: Any) -> Any:
            if where == "receive":
                await stray_cancellation()
            raise Boom

    def factory() -> Stray:
        if where == "factory" and next(lives) == 1:
            raise asyncio.CancelledError if in_asyncio() else Boom
        return Stray()

    log = Log()
    children = [ChildSpec("a", Worker, (log,)), ChildSpec("b", factory)]
    async with supervise(children, observer=log) as root:
        await root.child("b").tell("go")
        await anyio.sleep(1)

        incarnation = 2 if where == "receive" else 3
        assert [(child.phase, child.incarnation) for child in root.status()] == [(Phase.UP, 1), (Phase.UP, incarnation)]


def in_asyncio() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


async def stray_cancellation() -> None:
    """Raise a cancellation that nobody asked for; on trio, where there is no such thing, an ordinary error."""
    if not in_asyncio():
        raise StrayCancellation("trio knows none")
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


@pytest.mark.parametrize("backend", ["asyncio", "uvloop"])
def test_a_child_whose_task_is_cancelled_natively_takes_its_supervisor_down_and_the_tree_goes_on(
    backend: Backend, quiet_log: None
) -> None:
    async def main() -> None:
        log = Log()
        tasks = []

        class Exposed(Worker):
            async def on_start(self) -> None:
                tasks.append(asyncio.current_task())

        sub = Supervisor.spec("sub", [ChildSpec("x", Worker, (log,)), ChildSpec("y", Exposed, (log,))])
        async with supervise([ChildSpec("a", Worker, (log,)), sub], observer=log) as root:
            x, y = (root.supervisor("sub").child(name) for name in "xy")
            y.tell_nowait("unread" if len(tasks) > 1 else 1000)
            y.tell_nowait("left over")
            await anyio.sleep(1)
            tasks[0].cancel()
            await anyio.sleep(1)

            assert (x.state, y.state) == (State.STOPPED, State.STOPPED)
            assert log.of("is") == ["y is killed", "x is killed"]
            assert log.of("sub2") == ["sub2 in 0"]
            assert await root.supervisor("sub").child("y").ask("alive") == ["alive"]
            assert await root.child("a").ask("alive") == ["alive"]
            assert root.child("a").incarnation == 1

    for seed in range(50):
        run(main, backend=backend, seed=seed, virtual_time=True)


@on_all_schedules
async def test_a_tree_cancelled_from_outside_ends_with_every_on_stop() -> None:
    log = Log()
    sub = Supervisor.spec("sub", [ChildSpec("b", Worker, (log,)), ChildSpec("c", Worker, (log,))])
    waiting = ChildSpec("d", Worker, (log,), backoff=Backoff(100, 100))
    with anyio.move_on_after(5):
        async with supervise([ChildSpec("a", Worker, (log,)), sub, waiting], observer=log) as root:
            await root.child("a").tell(1000)
            await root.child("d").tell("boom")
            await anyio.sleep(1)
            log.lines.clear()
            await anyio.sleep_forever()

    assert anyio.current_time() == 5
    assert sorted(log.of("stop", "stopped")) == [f"{what} {name}1" for what in ("stop", "stopped") for name in "abc"]
    assert sorted(log.of("is")) == [f"{name} is killed" for name in ("a", "b", "c", "d", "root", "sub")]


# Interrupts


@pytest.mark.parametrize("where", ["on_start", "receive", "on_stop"])
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
def test_an_interrupt_is_never_supervised_and_brings_the_tree_down(
    backend: Backend, interrupt: type[BaseException], where: str, quiet_log: None
) -> None:
    stopped: list[str] = []

    class Interrupted(Actor[Any]):
        async def on_start(self) -> None:
            if where == "on_start" and self.context.incarnation == 2:
                raise interrupt

        async def receive(self, message: Any) -> None:
            if where == "receive":
                raise interrupt
            raise Boom

        async def on_stop(self, reason: StopReason) -> None:
            if where == "on_stop":
                raise interrupt

    class Sibling(Actor[Any]):
        async def on_stop(self, reason: StopReason) -> None:
            stopped.append(f"{self.context.ref.name} {reason.kind}")

    async def main() -> None:
        sub = Supervisor.spec("sub", [ChildSpec("x", Interrupted)])
        async with supervise([ChildSpec("a", Sibling), sub]) as root:
            await root.supervisor("sub").child("x").tell("go")
            await anyio.sleep(1000)
            raise AssertionError("not reached")

    for seed in range(5):
        stopped.clear()
        with pytest.raises(BaseException) as caught:  # noqa: PT011 # trio wraps it in groups, asyncio does not
            run(main, backend=backend, seed=seed, virtual_time=True)

        assert caught.type is interrupt or caught.group_contains(interrupt)
        assert stopped == ["a killed"]


# Asking for one's own end


@on_all_schedules
async def test_an_actor_cannot_wait_for_the_end_of_itself_or_of_its_supervisor() -> None:
    class Suicidal(Actor[Any]):
        async def receive(self, message: Any) -> str:
            supervisor, name = message
            with pytest.raises(AskCycle, match=r"use context.stop\(\)"):
                await supervisor.terminate_child(name)
            return "alive"

    sub = Supervisor.spec("sub", [ChildSpec("x", Suicidal)])
    async with supervise([sub]) as root:
        x = root.supervisor("sub").child("x")

        assert await x.ask((root.supervisor("sub"), "x")) == "alive"
        assert await x.ask((root, "sub")) == "alive"


# What the owner of the tree gets


@on_all_schedules
async def test_a_root_that_gives_up_cancels_the_body() -> None:
    log = Log()
    children = [ChildSpec("a", Worker, (log,)), ChildSpec("b", Worker, (log,), max_restarts=0)]
    with pytest.raises(TooManyRestarts) as caught:  # noqa: PT012 # the body is part of it
        async with supervise(children) as root:
            await root.child("b").tell("boom")
            await anyio.sleep_forever()

    assert isinstance(caught.value.__cause__, Boom)
    assert log.of("stop") == ["stop b1", "stop a1"]


@on_all_schedules
async def test_a_failing_body_still_stops_the_tree_in_order() -> None:
    log = Log()
    with pytest.raises(LookupError):
        async with supervise([ChildSpec(name, Worker, (log,)) for name in "abc"], observer=log):
            raise LookupError

    assert log.of("stop") == ["stop c1", "stop b1", "stop a1"]
    assert log.of("is") == ["c is shutdown", "b is shutdown", "a is shutdown", "root is shutdown"]


@on_all_schedules
async def test_a_child_that_cannot_be_killed_is_reported_and_waited_for() -> None:
    class Unkillable(Worker):
        async def receive(self, message: Any) -> None:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(100)

    class Watching(Log):
        def unkillable(self, ref: Any) -> None:
            self(f"unkillable {ref.name} at {anyio.current_time():g}")

    log = Watching()
    async with supervise([ChildSpec("a", Unkillable, (log,), shutdown=2, grace=3)], observer=log) as root:
        await root.child("a").tell("go")
        await anyio.sleep(1)

    assert log.of("unkillable") == ["unkillable a at 6"]
    assert anyio.current_time() == 100
    assert log.of("is")[0] == "a is killed"


def test_each_restart_is_a_warning_with_its_cause_and_incarnation(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with supervise([ChildSpec("a", Worker, (Log(),), backoff=Backoff(2, 8, jitter=0))]) as root:
            await root.child("a").tell("boom")
            await anyio.sleep(5)

    run(main, virtual_time=True)

    (record,) = [record for record in caplog.records if "restarting" in record.message]
    assert record.levelno == logging.WARNING
    assert record.message == "restarting root/a as incarnation 2 in 2 s: it ended (crashed by Boom('a1'))"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], Boom)
