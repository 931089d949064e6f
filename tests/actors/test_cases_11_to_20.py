"""Cases 11 to 20 of `ACTORS.md`: shutdown, storms, trees, requests, queues, asks; each under every schedule."""

from __future__ import annotations

from collections.abc import Awaitable
from math import inf
from typing import Any

import anyio
import pytest

from actors import (
    ActorCrashed,
    ActorRef,
    ActorStopped,
    AskTimeout,
    Backoff,
    ChildRunning,
    ChildSpec,
    DuplicateChild,
    Phase,
    Reply,
    State,
    StopReason,
    Supervisor,
    SupervisorRef,
    Terminated,
    TooManyRestarts,
    UnknownChild,
    supervise,
)
from actors.spec import Restart, Strategy
from tests.actors.schedules import Boom, Log, Worker, on_all_schedules
from tests.actors.schedules import quiet_log as quiet_log


def workers(log: Log, names: str, **options: Any) -> list[ChildSpec]:
    return [ChildSpec(name, Worker, (log,), **options) for name in names]


class Timed(Worker):
    """A worker that logs when and why it stops, and takes its time for it."""

    def __init__(self, log: Log, seconds_to_stop: float = 0) -> None:
        super().__init__(log)
        self.seconds_to_stop = seconds_to_stop

    async def on_stop(self, reason: StopReason) -> None:
        await anyio.sleep(self.seconds_to_stop)
        self.log(f"{self.context.ref.name} {reason.kind} at {anyio.current_time():g}")


async def seconds(work: Awaitable[Any]) -> float:
    """The time that some work takes."""
    begin = anyio.current_time()
    await work
    return anyio.current_time() - begin


# 11


@on_all_schedules
async def test_case_11_a_cooperative_child_ends_its_message_and_reports_shutdown() -> None:
    log = Log()
    async with supervise([ChildSpec("a", Timed, (log,), shutdown=5)]) as root:
        await root.child("a").tell(2)
        await root.child("a").tell(1000)
        await anyio.sleep(1)

    assert log.of("shutdown", "killed") == ["a shutdown at 2"]
    assert anyio.current_time() == 2


@on_all_schedules
async def test_case_11_an_overrunning_child_is_cancelled_at_its_time_and_not_before() -> None:
    log = Log()
    children = [ChildSpec("in time", Timed, (log,), shutdown=5), ChildSpec("late", Timed, (log,), shutdown=3)]
    async with supervise(children, observer=log) as root:
        await root.child("late").tell(1000)
        await root.child("in time").tell(5.5)
        await anyio.sleep(1)

    # `late` has from 1 to 4; then it is the turn of `in time`, which is done with its message at 5.5.
    assert log.of("killed", "shutdown")[:2] == ["late killed at 4", "late is killed"]
    assert log.of("killed", "shutdown")[2:] == ["in time shutdown at 5.5", "in time is shutdown", "root is shutdown"]


@on_all_schedules
async def test_case_11_a_shutdown_time_of_zero_cancels_at_once_and_an_endless_one_never() -> None:
    log = Log()
    children = [ChildSpec("patient", Timed, (log,), shutdown=inf), ChildSpec("a", Timed, (log,), shutdown=0)]
    async with supervise(children) as root:
        await root.child("a").tell(1000)
        await root.child("patient").tell(5000)
        await anyio.sleep(1)

    assert log.of("killed", "shutdown") == ["a killed at 1", "patient shutdown at 5000"]


@on_all_schedules
async def test_case_11_an_order_to_stop_overtakes_a_full_mailbox() -> None:
    log = Log()
    async with supervise([ChildSpec("a", Timed, (log,), capacity=3)], observer=log) as root:
        for seconds_to_sleep in (2, 10, 10, 10):
            await root.child("a").tell(seconds_to_sleep)
        await anyio.sleep(1)

    assert log.of("shutdown")[0] == "a shutdown at 2"
    assert [(letter.message, letter.reason) for letter in log.letters] == [(10, "stopped")] * 3


# 12


@on_all_schedules
async def test_case_12_a_dynamic_group_of_slow_children_shuts_down_in_the_longest_of_their_times() -> None:
    log = Log()
    pool = Supervisor.spec("pool", [ChildSpec("w", Timed, (log,))], strategy="dynamic")
    async with supervise([pool]) as root:
        for number in (1, 2.5, 2):
            await root.supervisor("pool").spawn(number)

        assert await seconds(root.terminate_child("pool")) == 2.5
    assert sorted(log.of("shutdown")) == ["w-1 shutdown at 1", "w-2 shutdown at 2.5", "w-3 shutdown at 2"]


@on_all_schedules
async def test_case_12_a_static_group_needs_the_sum_for_it_keeps_the_order() -> None:
    log = Log()
    children = [ChildSpec(f"w{number}", Timed, (log, number)) for number in (1, 2.5, 2)]
    async with supervise([Supervisor.spec("group", children)]) as root:
        assert await seconds(root.terminate_child("group")) == 5.5
    assert log.of("shutdown") == ["w2 shutdown at 2", "w2.5 shutdown at 4.5", "w1 shutdown at 5.5"]


@on_all_schedules
async def test_case_12_overrunning_children_of_a_dynamic_group_are_cancelled_together() -> None:
    log = Log()
    pool = Supervisor.spec("pool", [ChildSpec("w", Timed, (log,), shutdown=4)], strategy="dynamic")
    async with supervise([pool]) as root:
        for _ in range(5):
            await (await root.supervisor("pool").spawn()).tell(1000)

        assert await seconds(root.terminate_child("pool")) == 4
    assert sorted(log.of("killed")) == [f"w-{number} killed at 4" for number in range(1, 6)]


# 13


class Storm(Worker):
    """Crashes as soon as it is up."""

    async def on_start(self) -> None:
        self.context.ref.tell_nowait("boom")


class BrokenStart(Worker):
    """Comes up once, and never again."""

    async def on_start(self) -> None:
        if self.context.incarnation > 1:
            raise Boom


@pytest.mark.parametrize("kind", [Storm, BrokenStart])
@on_all_schedules
async def test_case_13_in_an_endless_restart_loop_status_terminate_and_stop_are_served_promptly(
    kind: type[Worker],
) -> None:
    log = Log()
    children = [*workers(log, "a"), ChildSpec("storm", kind, (log,), max_restarts=inf)]
    async with supervise(children) as root:
        await root.child("storm").tell("boom")
        while root.child("storm").incarnation < 10:
            await anyio.lowlevel.checkpoint()
        before = root.child("storm").incarnation

        assert root.status()[1].crashes >= 8
        await root.terminate_child("a")
        await root.restart_child("a")
        assert await root.child("a").ask("alive") == ["alive"]
        await root.start_child(ChildSpec("c", Worker, (log,)))
        await root.terminate_child("storm")

        # Promptly: each took a few of the storm's rounds.
        assert root.child("storm").incarnation < before + 40
        assert root.child("storm").state is State.STOPPED
        if kind is Storm:
            await root.restart_child("storm")  # leaving ends it in the middle
    assert [line for line in log.of("stop") if "storm" not in line] == ["stop a1", "stop c1", "stop a2"]
    assert anyio.current_time() == 0


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@on_all_schedules
async def test_case_13_status_says_restarting_and_a_terminate_does_not_wait_for_the_backoff(strategy: Strategy) -> None:
    log = Log()
    storm = ChildSpec("storm", Storm, (log,), max_restarts=inf, backoff=Backoff(10, 10, jitter=0))
    async with supervise([*workers(log, "a"), storm], strategy=strategy) as root:
        await anyio.sleep(95)

        assert root.status()[1].phase is Phase.WAITING
        assert root.status()[1].phase.value == "restarting"
        assert root.status()[1].incarnation == 10
        assert root.child("storm").state is State.RESTARTING
        assert await seconds(root.terminate_child("storm")) == 0
        assert root.status()[1].phase is Phase.DOWN
        await anyio.sleep(95)
        assert root.child("storm").state is State.STOPPED
        assert root.status()[0].phase is Phase.UP


@on_all_schedules
async def test_case_13_a_tree_in_a_storm_stops_at_once() -> None:
    log = Log()
    slow = ChildSpec("slow", Storm, (log,), max_restarts=inf, backoff=Backoff(10, 10))
    fast = ChildSpec("fast", BrokenStart, (log,), max_restarts=inf)
    async with supervise([slow, fast], observer=log) as root:
        await root.child("fast").tell("boom")
        while root.child("fast").incarnation < 10:
            await anyio.lowlevel.checkpoint()

    assert anyio.current_time() == 0
    assert sorted(line.split()[0] for line in log.of("is")) == ["fast", "root", "slow"]


# 14


@on_all_schedules
async def test_case_14_an_exhausted_supervisor_is_restarted_with_its_static_children_and_no_cousin_is_touched() -> None:
    log = Log()
    pool = Supervisor.spec("pool", [ChildSpec("w", Worker, (log,))], strategy="dynamic")
    sub = Supervisor.spec("sub", [*workers(log, "x", max_restarts=1), *workers(log, "y"), pool])
    cousins = Supervisor.spec("cousins", workers(log, "c"))
    async with supervise([sub, cousins], observer=log) as root:
        cousin = root.supervisor("cousins").child("c")
        await cousin.ask("remembered")
        added = await root.supervisor("sub").start_child(ChildSpec("added", Worker, (log,)))
        spawned = await root.supervisor("sub").supervisor("pool").spawn()
        old_y = root.supervisor("sub").child("y")
        for _ in range(2):
            await root.supervisor("sub").child("x").tell("boom")
            await anyio.sleep(1)

        assert [(child.name, child.incarnation, child.crashes) for child in root.status()] == [
            ("sub", 2, 1),
            ("cousins", 1, 0),
        ]
        again = root.supervisor("sub")
        assert [(child.name, child.phase) for child in again.status()] == [
            ("x", Phase.UP),
            ("y", Phase.UP),
            ("pool", Phase.UP),
        ]
        assert again.supervisor("pool").status() == ()
        assert await again.child("y").ask("new") == ["new"]
        assert (added.state, spawned.state, old_y.state) == (State.STOPPED,) * 3
        assert await cousin.ask("more") == ["remembered", "more"]
        assert cousin.incarnation == 1
        # All of the old were down, in reverse, before the first of the new.
        assert log.of("is") == [
            "x is crashed",
            "added is shutdown",
            "w-1 is shutdown",
            "pool is shutdown",
            "y is shutdown",
        ]
        assert log.lines.index("stopped y1") < len(log.lines) - log.lines[::-1].index("start x1") - 1


@on_all_schedules
async def test_case_14_a_supervisor_that_is_exhausted_again_and_again_takes_its_parent_along() -> None:
    log = Log()
    sub = Supervisor.spec("sub", workers(log, "x", max_restarts=0), max_restarts=5, period=5)
    sub = ChildSpec("sub", sub.factory, shutdown=inf, max_restarts=1)
    with pytest.raises(TooManyRestarts) as caught:  # noqa: PT012
        async with supervise([*workers(log, "a"), sub]) as root:
            for _ in range(2):
                await root.supervisor("sub").child("x").tell("boom")
                await anyio.sleep(1)
            raise AssertionError("not reached")

    assert (caught.value.supervisor, caught.value.child) == ("root", "sub")
    below = caught.value.__cause__
    assert isinstance(below, TooManyRestarts)
    assert (below.supervisor, below.child) == ("root/sub", "x")
    assert isinstance(below.__cause__, Boom)
    assert log.of("stop")[-1] == "stop a1"


# 15


@on_all_schedules
async def test_case_15_a_terminated_child_stays_down_with_its_spec_until_it_is_restarted_or_deleted() -> None:
    log = Log()

    def counts() -> dict[str, str]:
        return {child.name: f"{child.phase.value} {child.incarnation} {child.crashes}" for child in root.status()}

    async with supervise(workers(log, "abc")) as root:
        await root.child("b").tell("boom")
        await anyio.sleep(1)
        assert counts() == {"a": "running 1 0", "b": "running 2 1", "c": "running 1 0"}

        await root.terminate_child("b")
        await anyio.sleep(100)
        assert counts() == {"a": "running 1 0", "b": "down 2 1", "c": "running 1 0"}
        await root.terminate_child("b")  # it is down, as was asked

        old = root.child("b")
        new = await root.restart_child("b")
        assert counts() == {"a": "running 1 0", "b": "running 3 0", "c": "running 1 0"}
        assert new == root.child("b") != old
        assert await new.ask("new") == ["new"]
        assert old.state is State.STOPPED

        await root.terminate_child("b")
        await root.delete_child("b")
        assert counts() == {"a": "running 1 0", "c": "running 1 0"}
        with pytest.raises(UnknownChild):
            root.child("b")

        added = await root.start_child(ChildSpec("b", Worker, (log,)))
        assert counts() == {"a": "running 1 0", "c": "running 1 0", "b": "running 1 0"}
        assert added.incarnation == 1
        log.lines.clear()
    assert log.of("stop") == ["stop b1", "stop c1", "stop a1"]


@on_all_schedules
async def test_case_15_a_duplicate_name_a_running_child_and_an_unknown_name_are_distinct_errors() -> None:
    log = Log()
    async with supervise([*workers(log, "a"), *workers(log, "t", restart="temporary")]) as root:
        with pytest.raises(DuplicateChild, match="supervisor 'root' has a child 'a' already"):
            await root.start_child(ChildSpec("a", Worker, (log,)))
        with pytest.raises(ChildRunning, match="child 'a' of 'root' is running: terminate it"):
            await root.delete_child("a")
        with pytest.raises(ChildRunning, match="child 'a' of 'root' is running"):
            await root.restart_child("a")
        for request in (root.terminate_child, root.restart_child, root.delete_child):
            with pytest.raises(UnknownChild, match="supervisor 'root' has no child 'x'"):
                await request("x")

        # A temporary child's spec is not kept.
        await root.terminate_child("t")
        with pytest.raises(UnknownChild):
            await root.restart_child("t")
        assert [child.name for child in root.status()] == ["a"]
        assert await root.child("a").ask("alive") == ["alive"]


@on_all_schedules
async def test_case_15_requests_that_come_together_are_served_in_turn_and_all_are_answered() -> None:
    log = Log()
    results: dict[str, list[str]] = {"terminate": [], "restart": [], "delete": []}

    async def request(kind: str, work: Awaitable[Any]) -> None:
        try:
            await work
            results[kind].append("done")
        except (ChildRunning, UnknownChild) as error:
            results[kind].append(type(error).__name__)

    async with supervise(workers(log, "abc")) as root:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(request, "terminate", root.terminate_child("b"))
                group.start_soon(request, "restart", root.restart_child("b"))
            group.start_soon(request, "delete", root.delete_child("b"))

        assert [len(results[kind]) for kind in ("terminate", "restart", "delete")] == [3, 3, 1]
        assert set(results["restart"]) | set(results["delete"]) <= {"done", "ChildRunning", "UnknownChild"}
        assert [child.name for child in root.status() if child.phase is not Phase.UP] in ([], ["b"])
        assert [child.crashes for child in root.status()] in ([0, 0], [0, 0, 0])
        starts, stops = len(log.of("start")), len(log.of("stop"))
        assert starts - stops == sum(child.phase is Phase.UP for child in root.status())


# 16


@pytest.mark.parametrize("restart", ["transient", "temporary"])
@on_all_schedules
async def test_case_16_a_significant_childs_normal_end_shuts_its_supervisor_down(restart: Restart) -> None:
    log = Log()
    job = ChildSpec("job", Worker, (log,), restart=restart, significant=True)
    async with supervise([*workers(log, "a"), job, *workers(log, "c")], observer=log) as root:
        await root.child("job").tell("stop")
        reason = await root.wait_stopped()

        assert reason.kind == "shutdown"
        assert log.of("stop") == ["stop job1", "stop c1", "stop a1"]
        assert log.of("is") == ["job is normal", "c is shutdown", "a is shutdown", "root is shutdown"]


@pytest.mark.parametrize("restart", ["transient", "temporary"])
@on_all_schedules
async def test_case_16_a_stop_caused_by_a_sibling_does_not(restart: Restart) -> None:
    log = Log()
    job = ChildSpec("job", Worker, (log,), restart=restart, significant=True)
    async with supervise([*workers(log, "a"), job], strategy="one_for_all", observer=log) as root:
        await root.child("a").tell("boom")
        await anyio.sleep(1)

        assert root.state is State.RUNNING
        assert [(child.name, child.incarnation) for child in root.status()] == (
            [("a", 2), ("job", 2)] if restart == "transient" else [("a", 2)]
        )


@on_all_schedules
async def test_case_16_neither_does_a_crash_that_is_restarted_nor_the_end_of_an_insignificant_one() -> None:
    log = Log()
    job = ChildSpec("job", Worker, (log,), restart="transient", significant=True)
    async with supervise([job, *workers(log, "b", restart="transient")]) as root:
        await root.child("job").tell("boom")
        await root.child("b").tell("stop")
        await anyio.sleep(1)
        assert root.state is State.RUNNING
        assert [child.phase for child in root.status()] == [Phase.UP, Phase.DOWN]

        await root.child("job").tell("stop")
        assert (await root.wait_stopped()).kind == "shutdown"


@on_all_schedules
async def test_case_16_a_supervisor_that_shut_itself_down_is_a_normal_end_for_a_transient_one() -> None:
    log = Log()
    job = ChildSpec("job", Worker, (log,), restart="transient", significant=True)
    sub = Supervisor.spec("sub", [job, *workers(log, "b")], restart="transient")
    async with supervise([*workers(log, "a"), sub], observer=log) as root:
        await root.supervisor("sub").child("job").tell("stop")
        await anyio.sleep(1)

        assert log.of("is") == ["job is normal", "b is shutdown", "sub is shutdown"]
        assert [child.phase for child in root.status()] == [Phase.UP, Phase.DOWN]


# 17


@on_all_schedules
async def test_case_17_a_restart_resets_state_and_keeps_the_queue_in_order_without_the_failing_message() -> None:
    log = Log()
    async with supervise([ChildSpec("a", Worker, (log,), capacity=3)]) as root:
        ref = root.child("a")
        for message in ("lost", "boom", "one", "two", "three"):
            await ref.tell(message)

        assert await ref.ask("last") == ["one", "two", "three", "last"]
        assert ref.incarnation == 2
        assert ref == root.child("a")
        assert log.letters == []


class Picky(Worker):
    """Crashes on a message of its own as often as that says; logs each try."""

    async def receive(self, message: Any) -> Any:
        self.log(f"try {message} {self.context.attempt}")
        name, failures = message
        if self.context.attempt <= failures:
            raise Boom(name)
        return name


@on_all_schedules
async def test_case_17_with_redelivery_the_failing_message_comes_first_again() -> None:
    log = Log()
    async with supervise([ChildSpec("a", Picky, (log,), redeliver=2, max_restarts=inf)], observer=log) as root:
        ref = root.child("a")
        await ref.tell(("first", 0))
        await ref.tell(("twice", 2))
        await ref.tell(("next", 0))

        assert await ref.ask(("asked", 1)) == "asked"
        assert [line for line in log.lines if line.startswith("try")] == [
            "try ('first', 0) 1",
            "try ('twice', 2) 1",
            "try ('twice', 2) 2",
            "try ('twice', 2) 3",
            "try ('next', 0) 1",
            "try ('asked', 1) 1",
            "try ('asked', 1) 2",
        ]
        assert log.letters == []


@on_all_schedules
async def test_case_17_a_message_that_crashes_as_often_as_allowed_is_poison_and_the_next_is_served() -> None:
    log = Log()
    async with supervise([ChildSpec("a", Picky, (log,), redeliver=1, max_restarts=inf)], observer=log) as root:
        ref = root.child("a")
        await ref.tell(("poison", 9))
        with pytest.raises(ActorCrashed):
            await ref.ask(("asked poison", 9))

        assert await ref.ask(("fine", 0)) == "fine"
        assert [(letter.message, letter.reason) for letter in log.letters] == [(("poison", 9), "poison")]
        assert ref.incarnation == 5


# 18


@on_all_schedules
async def test_case_18_backoff_doubles_to_its_cap_and_a_quiet_period_resets_it() -> None:
    log = Log()
    backoff = Backoff(1, 8, jitter=0)
    async with supervise([ChildSpec("a", Timed, (log,), max_restarts=inf, backoff=backoff)], observer=log) as root:
        ref = root.child("a")
        for expected in (1, 2, 4, 8, 8):
            before = ref.incarnation
            await ref.tell("boom")
            await anyio.sleep(expected - 0.001)
            assert ref.incarnation == before
            assert ref.state is State.RESTARTING
            await anyio.sleep(0.002)
            assert ref.incarnation == before + 1
            assert ref.state is State.RUNNING

        await anyio.sleep(4.4)  # quiet is (1 + 8) / 2 seconds after a restart
        await ref.tell("boom")
        await anyio.sleep(8.001)
        await anyio.sleep(4.5)
        await ref.tell("boom")
        await anyio.sleep(1)
        assert [line.partition(" in ")[2] for line in log.of("in")] == ["1", "2", "4", "8", "8", "8", "1"]


@on_all_schedules
async def test_case_18_messages_sent_during_the_backoff_wait_for_the_next_incarnation() -> None:
    log = Log()
    async with supervise([ChildSpec("a", Worker, (log,), backoff=Backoff(5, 5, jitter=0))]) as root:
        ref = root.child("a")
        await ref.tell("boom")
        await anyio.sleep(1)
        await ref.tell("kept")

        assert await ref.ask("asked", timeout=None) == ["kept", "asked"]
        assert anyio.current_time() == 5


@on_all_schedules
async def test_case_18_a_second_crash_in_the_middle_of_redelivery_keeps_the_rest() -> None:
    log = Log()
    spec = ChildSpec("a", Picky, (log,), redeliver=2, max_restarts=inf, backoff=Backoff(1, 4, jitter=0))
    async with supervise([spec], observer=log) as root:
        ref = root.child("a")
        for message in (("one", 1), ("two", 2), ("three", 0)):
            await ref.tell(message)
        await anyio.sleep(0.5)
        await ref.tell(("four", 0))

        assert await ref.ask(("last", 0), timeout=None) == "last"
        assert [line.split()[1:] for line in log.lines if line.startswith("try")] == [
            ["('one',", "1)", "1"],
            ["('one',", "1)", "2"],
            ["('two',", "2)", "1"],
            ["('two',", "2)", "2"],
            ["('two',", "2)", "3"],
            ["('three',", "0)", "1"],
            ["('four',", "0)", "1"],
            ["('last',", "0)", "1"],
        ]
        assert anyio.current_time() == 1 + 2 + 4
        assert log.letters == []


# 19


class Answering(Worker):
    """Answers at once, late, twice, never or with a crash, as it is asked."""

    async def receive(self, message: Any) -> Any:
        match message:
            case "late":
                await anyio.sleep(10)
                return "too late"
            case "silent":
                self.reply: Reply[Any] = self.context.defer_reply()
                return None
            case "now":
                self.reply.send("at last")
                return None
            case _:
                return await super().receive(message)


@on_all_schedules
async def test_case_19_an_ask_of_a_dead_silent_late_or_crashing_actor_ends_as_it_should() -> None:
    log = Log()
    async with supervise([ChildSpec("a", Answering, (log,)), *workers(log, "dead")[:1]], observer=log) as root:
        ref, dead = root.child("a"), root.child("d")
        await root.terminate_child("d")

        with pytest.raises(ActorStopped):
            await dead.ask("anyone there?", timeout=None)
        assert anyio.current_time() == 0

        with pytest.raises(AskTimeout):
            await ref.ask("silent", timeout=3)
        assert anyio.current_time() == 3

        with pytest.raises(AskTimeout):
            await ref.ask("late", timeout=4)
        assert anyio.current_time() == 7
        assert await ref.ask("hello", timeout=None) == ["hello"]
        assert anyio.current_time() == 13
        await ref.tell("now")

        with pytest.raises(ActorCrashed) as caught:
            await ref.ask("boom", timeout=None)
        assert isinstance(caught.value.__cause__, Boom)
        assert await ref.ask("hello again") == ["hello again"]
        assert [(letter.message, letter.reason) for letter in log.letters] == [
            ("too late", "late_reply"),
            ("at last", "late_reply"),
        ]


@on_all_schedules
async def test_case_19_a_deferred_ask_fails_with_the_incarnation_that_owes_it() -> None:
    log = Log()
    outcomes = []

    async def ask() -> None:
        with pytest.raises(ActorCrashed):
            await ref.ask("silent", timeout=None)
        outcomes.append(anyio.current_time())

    async with supervise([ChildSpec("a", Answering, (log,))]) as root:
        ref = root.child("a")
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await anyio.sleep(1)
            await ref.tell("boom")
    assert outcomes == [1]


class Watching(Worker):
    """Watches what it is told to and logs each news."""

    async def receive(self, message: Any) -> Any:
        match message:
            case ("watch", ActorRef() as ref):
                self.context.watch(ref)
                self.context.watch(ref)
            case ("unwatch", ActorRef() as ref):
                self.context.unwatch(ref)

    async def on_terminated(self, terminated: Terminated) -> None:
        self.log(f"{self.name} hears {terminated.ref.name} {terminated.reason.kind}")


@on_all_schedules
async def test_case_19_a_watch_fires_exactly_once_and_a_restart_is_no_end() -> None:
    log = Log()
    names = ["stopped", "crashed", "restarted", "unwatched", "dead"]
    targets = [ChildSpec(name, Worker, (log,), restart="temporary") for name in names if name != "restarted"]
    targets.append(ChildSpec("restarted", Worker, (log,)))
    async with supervise([ChildSpec("watcher", Watching, (log,)), *targets]) as root:
        watcher, refs = root.child("watcher"), {name: root.child(name) for name in names}
        await root.terminate_child("dead")
        for name in names:
            await watcher.tell(("watch", refs[name]))
        await watcher.tell(("unwatch", refs["unwatched"]))
        await anyio.sleep(1)
        await refs["stopped"].tell("stop")
        for name in ("crashed", "restarted", "unwatched"):
            await refs[name].tell("boom")
        await anyio.sleep(1)

        assert sorted(log.of("hears")) == [
            "watcher1 hears crashed crashed",
            "watcher1 hears dead shutdown",
            "watcher1 hears stopped normal",
        ]
        # One already told of is news again only if it is watched again.
        await watcher.tell(("watch", refs["dead"]))
        await anyio.sleep(1)
        assert log.of("hears").count("watcher1 hears dead shutdown") == 2


# 20


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all"])
@on_all_schedules
async def test_case_20_on_stop_of_an_incarnation_has_ended_before_on_start_of_the_next(strategy: Strategy) -> None:
    class SlowStop(Worker):
        async def on_stop(self, reason: StopReason) -> None:
            await anyio.sleep(1)
            await super().on_stop(reason)

    log = Log()
    async with supervise([ChildSpec(name, SlowStop, (log,)) for name in "ab"], strategy=strategy) as root:
        for _ in range(2):
            await root.child("a").tell("boom")
            await anyio.sleep(5)

    for name in "ab":
        life = [line for line in log.lines if line.split()[1].startswith(name)]
        incarnations = 3 if name == "a" or strategy == "one_for_all" else 1
        assert life == [
            f"{what} {name}{number}"
            for number in range(1, incarnations + 1)
            for what in ("start", "started", "stop", "stopped")
        ]


@on_all_schedules
async def test_case_20_on_stop_is_called_once_for_each_incarnation_that_was_up_and_within_its_time() -> None:
    class Endless(Worker):
        async def on_stop(self, reason: StopReason) -> None:
            self.log(f"stop {self.name}")
            await anyio.sleep_forever()

    log = Log()
    async with supervise([ChildSpec("a", Endless, (log,), stop_timeout=2, shutdown=100)]) as root:
        await root.child("a").tell("boom")
        await anyio.sleep(1.9)
        assert root.child("a").incarnation == 1
        await anyio.sleep(0.2)
        assert root.child("a").incarnation == 2
        await anyio.sleep(7.9)

    assert log.of("start", "stop") == ["start a1", "stop a1", "start a2", "stop a2"]
    assert anyio.current_time() == 12


@on_all_schedules
async def test_case_20_pending_asks_fail_during_shutdown_without_deadlock() -> None:
    """Each asks the next in a row and waits without limit, while the last one sleeps; all are stopped."""

    class Asking(Worker):
        async def receive(self, message: Any) -> Any:
            if message:
                return await message[0].ask(message[1:], timeout=None)
            await anyio.sleep(1000)

    log = Log()
    outcomes = []

    async def ask(ref: ActorRef[Any], *chain: ActorRef[Any]) -> None:
        with pytest.raises((ActorStopped, ActorCrashed)):
            await ref.ask(chain, timeout=None)
        outcomes.append(anyio.current_time())

    async with anyio.create_task_group() as group:
        children = [ChildSpec(name, Asking, (log,), shutdown=1) for name in "abc"]
        async with supervise(children, observer=log) as root:
            a, b, c = (root.child(name) for name in "abc")
            group.start_soon(ask, a, b, c)
            group.start_soon(ask, c)
            group.start_soon(ask, b, c)
            group.start_soon(ask, a)
            await anyio.sleep(1)

    assert len(outcomes) == 4
    assert max(outcomes) <= 4
    assert log.of("stop") == ["stop c1", "stop b1", "stop a1"]


@on_all_schedules
async def test_case_20_what_is_left_when_the_budget_is_spent_is_in_the_dead_letters() -> None:
    log = Log()
    outcomes = []

    async def ask(ref: ActorRef[Any], message: Any) -> None:
        try:
            await ref.ask(message, timeout=None)
        except (ActorStopped, ActorCrashed) as error:
            outcomes.append(type(error).__name__)

    async def overrun(root: SupervisorRef, group: Any) -> None:
        ref = root.child("a")
        group.start_soon(ask, root.child("b"), "keep b's ask pending")
        for message in ("boom", 1, "boom", "left", "also left"):
            await ref.tell(message)
        group.start_soon(ask, ref, "asked")
        await anyio.sleep(100)
        raise AssertionError("not reached")

    class Silent(Worker):
        async def receive(self, message: Any) -> Any:
            self.context.defer_reply()

    async with anyio.create_task_group() as group:
        children = [ChildSpec("a", Worker, (log,), max_restarts=1), ChildSpec("b", Silent, (log,))]
        with pytest.raises(TooManyRestarts):
            async with supervise(children, observer=log) as root:
                await overrun(root, group)

    assert [(letter.message, letter.target, letter.reason) for letter in log.letters] == [
        ("left", "root/a", "stopped"),
        ("also left", "root/a", "stopped"),
    ]
    assert outcomes == ["ActorStopped", "ActorStopped"]
