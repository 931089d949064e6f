"""Cases 1 to 10 of `ACTORS.md`: starting, the matrix of restarts, budgets and groups; each under every schedule."""

from __future__ import annotations

from typing import Any, ClassVar

import anyio
import pytest

from actors import (
    ActorStopped,
    ChildSpec,
    Phase,
    StartFailed,
    State,
    StopReason,
    Supervisor,
    TooManyRestarts,
    UnknownChild,
    supervise,
)
from actors.spec import Restart, Strategy
from tests.actors.schedules import Boom, Log, Worker, on_all_schedules
from tests.actors.schedules import quiet_log as quiet_log


def workers(log: Log, names: str, **options: Any) -> list[ChildSpec]:
    return [ChildSpec(name, Worker, (log,), **options) for name in names]


class FailingStart(Worker):
    """A worker that does not come up in some of its incarnations."""

    def __init__(self, log: Log, *failing: int) -> None:
        super().__init__(log)
        self.failing = failing

    async def on_start(self) -> None:
        await super().on_start()
        if self.context.incarnation in self.failing:
            raise Boom(f"start of {self.name}")


# 1


@on_all_schedules
async def test_case_01_children_start_in_order_each_ready_before_the_next_and_stop_in_exact_reverse() -> None:
    log = Log()
    async with supervise(workers(log, "abc")) as root:
        assert log.lines == [f"{what} {name}1" for name in "abc" for what in ("start", "started")]
        assert [child.phase for child in root.status()] == [Phase.UP] * 3
        log.lines.clear()

    assert log.lines == [f"{what} {name}1" for name in "cba" for what in ("stop", "stopped")]


@on_all_schedules
async def test_case_01_the_children_of_a_supervisor_are_up_before_its_next_sibling_and_down_before_the_one_before() -> (
    None
):
    log = Log()
    tree = [*workers(log, "a"), Supervisor.spec("sub", workers(log, "bc")), *workers(log, "d")]
    async with supervise(tree):
        assert log.of("start", "started") == [f"{what} {name}1" for name in "abcd" for what in ("start", "started")]

    assert log.of("stop", "stopped") == [f"{what} {name}1" for name in "dcba" for what in ("stop", "stopped")]


@on_all_schedules
async def test_case_01_busy_children_stop_in_reverse_too() -> None:
    log = Log()
    async with supervise(workers(log, "abc")) as root:
        for number, name in enumerate("cab"):
            await root.child(name).tell(number / 2)

    assert log.of("stop", "stopped") == [f"{what} {name}1" for name in "cba" for what in ("stop", "stopped")]


# 2


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
@on_all_schedules
async def test_case_02_a_child_that_fails_its_first_start_stops_the_earlier_ones_and_is_named(
    strategy: Strategy,
) -> None:
    log = Log()
    children = [*workers(log, "ab"), ChildSpec("c", FailingStart, (log, 1)), *workers(log, "d")]
    with pytest.raises(StartFailed) as caught:
        await supervise(children, strategy=strategy, observer=log).__aenter__()

    assert caught.value.child == "c"
    assert "'c'" in str(caught.value)
    assert repr(caught.value.__cause__) == "Boom('start of c1')"
    assert log.of("start") == ["start a1", "start b1", "start c1"]
    # What did not come up is not cleaned up by `on_stop`: it never had anything to clean up.
    assert log.of("stop", "stopped") == ["stop b1", "stopped b1", "stop a1", "stopped a1"]
    assert log.of("is") == ["c is crashed", "d is crashed", "b is shutdown", "a is shutdown", "root is crashed"]


@on_all_schedules
async def test_case_02_a_failing_start_deep_in_the_tree_is_named_by_each_level() -> None:
    log = Log()
    sub = Supervisor.spec("sub", [*workers(log, "b"), ChildSpec("c", FailingStart, (log, 1))])
    with pytest.raises(StartFailed) as caught:
        await supervise([*workers(log, "a"), sub]).__aenter__()

    assert caught.value.child == "sub"
    below = caught.value.__cause__
    assert isinstance(below, StartFailed)
    assert below.child == "c"
    assert log.of("stop") == ["stop b1", "stop a1"]


# 3


@on_all_schedules
async def test_case_03_only_permanent_children_and_transient_ones_that_crashed_are_restarted() -> None:
    log = Log()
    restarts: list[Restart] = ["permanent", "transient", "temporary"]

    def ending_with_shutdown(name: str, restart: Restart) -> ChildSpec:
        # The one thing that ends with `shutdown` by itself is a supervisor whose significant child is done.
        job = ChildSpec("job", Worker, (log,), restart="transient", significant=True)
        return Supervisor.spec(name, [job], restart=restart)

    children = []
    for restart in restarts:
        children += [
            ChildSpec(f"{restart} normal", Worker, (log,), restart=restart),
            ChildSpec(f"{restart} crash", Worker, (log,), restart=restart),
            ending_with_shutdown(f"{restart} shutdown", restart),
        ]
    async with supervise(children, observer=log) as root:
        refs = {spec.name: root.child(spec.name) for spec in children}
        for restart in restarts:
            await refs[f"{restart} normal"].tell("stop")
            await refs[f"{restart} crash"].tell("boom")
            await root.supervisor(f"{restart} shutdown").child("job").tell("stop")
        await anyio.sleep(1)

        back = {"permanent normal", "permanent shutdown", "permanent crash", "transient crash"}
        assert {name for name, ref in refs.items() if ref.state is State.RUNNING} == back
        assert {name for name, ref in refs.items() if ref.incarnation == 2} == back
        kinds = {line.partition(" is ")[0]: line.partition(" is ")[2] for line in log.of("is") if "job" not in line}
        assert kinds == {
            "transient normal": "normal",
            "transient shutdown": "shutdown",
            "temporary normal": "normal",
            "temporary shutdown": "shutdown",
            "temporary crash": "crashed",
        }
        # A temporary child's spec is not kept, a transient one's is.
        assert {child.name: child.crashes for child in root.status()} == {
            "permanent normal": 1,
            "permanent crash": 1,
            "permanent shutdown": 1,
            "transient normal": 0,
            "transient crash": 1,
            "transient shutdown": 0,
        }


@on_all_schedules
async def test_case_03_a_child_that_its_supervisor_shut_down_is_not_restarted_whatever_its_kind() -> None:
    log = Log()
    restarts: list[Restart] = ["permanent", "transient", "temporary"]
    async with supervise([ChildSpec(kind, Worker, (log,), restart=kind) for kind in restarts], observer=log) as root:
        for kind in restarts:
            await root.terminate_child(kind)
        await anyio.sleep(1)

        assert log.of("is") == [f"{kind} is shutdown" for kind in restarts]
        assert log.of("in") == []


# 4


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
@on_all_schedules
async def test_case_04_a_temporary_bystander_of_a_group_restart_is_neither_restarted_nor_charged(
    strategy: Strategy,
) -> None:
    log = Log()
    bystander = ChildSpec("t", Worker, (log,), restart="temporary", max_restarts=0)
    async with supervise([*workers(log, "a"), bystander, *workers(log, "b")], strategy=strategy, observer=log) as root:
        ref = root.child("t")
        await root.child("a").tell("boom")
        await anyio.sleep(1)

        assert log.of("stop") == ["stop a1", "stop b1", "stop t1"]
        assert log.of("start")[3:] == ["start a2", "start b2"]
        assert log.of("is") == ["t is shutdown"]
        assert [(child.name, child.crashes) for child in root.status()] == [("a", 1), ("b", 0)]
        with pytest.raises(ActorStopped):
            await ref.ask("anyone there?")
        # The group can fail again without it.
        await root.child("a").tell("boom")
        await anyio.sleep(1)
        assert log.of("start")[5:] == ["start a3", "start b3"]


# 5


@on_all_schedules
async def test_case_05_crashes_further_apart_than_the_period_never_escalate() -> None:
    log = Log()
    async with supervise(workers(log, "ab", max_restarts=1, period=5)) as root:
        for crash in range(1, 8):
            await root.child("a").tell("boom")
            await anyio.sleep(5.001)

            assert root.child("a").incarnation == crash + 1
            assert root.child("a").state is State.RUNNING
        assert root.status()[0].crashes == 1
        assert root.child("b").incarnation == 1


# 6


@on_all_schedules
async def test_case_06_with_exactly_max_restarts_crashes_in_the_window_a_supervisor_lives() -> None:
    log = Log()
    async with supervise(workers(log, "abc")) as root:
        for _ in range(3):
            await root.child("b").tell("boom")
            await anyio.sleep(1)

        assert [(child.phase, child.incarnation, child.crashes) for child in root.status()] == [
            (Phase.UP, 1, 0),
            (Phase.UP, 4, 3),
            (Phase.UP, 1, 0),
        ]
        assert log.of("stop") == ["stop b1", "stop b2", "stop b3"]


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@on_all_schedules
async def test_case_06_one_crash_more_stops_all_children_in_reverse_and_ends_with_the_cause(strategy: Strategy) -> None:
    log = Log()
    with pytest.raises(TooManyRestarts) as caught:  # noqa: PT012 # the body is cancelled
        async with supervise(workers(log, "abc"), strategy=strategy, observer=log) as root:
            for _ in range(4):
                await root.child("b").tell("boom")
                await anyio.sleep(1)
            raise AssertionError("not reached")

    assert anyio.current_time() == 3
    assert (caught.value.supervisor, caught.value.child, caught.value.crashes) == ("root", "b", 4)
    assert repr(caught.value.__cause__) == "Boom('b4')"
    last = {"one_for_one": ("c1", "a1"), "one_for_all": ("c4", "a4"), "rest_for_one": ("c4", "a1")}[strategy]
    assert log.of("stop", "stopped")[-4:] == [f"{what} {name}" for name in last for what in ("stop", "stopped")]
    assert log.of("is")[:3] == ["b is crashed", "c is shutdown", "a is shutdown"]
    assert log.lines[-1] == "root is crashed"


@on_all_schedules
async def test_case_06_a_budget_is_each_childs_own_and_a_shared_one_counts_all() -> None:
    log = Log()
    async with supervise(workers(log, "abc", max_restarts=1)) as root:
        for name in "abc":
            await root.child(name).tell("boom")
        await anyio.sleep(1)
        assert [child.incarnation for child in root.status()] == [2, 2, 2]

    with pytest.raises(TooManyRestarts):  # noqa: PT012
        async with supervise(workers(log, "abc", max_restarts=1), max_restarts=2) as root:
            for name in "abc":
                await root.child(name).tell("boom")
            await anyio.sleep(1)
            raise AssertionError("not reached")


# 7


@on_all_schedules
async def test_case_07_a_start_that_fails_on_restart_counts_and_finally_escalates() -> None:
    log = Log()
    with pytest.raises(TooManyRestarts) as caught:  # noqa: PT012
        async with supervise([*workers(log, "a"), ChildSpec("b", FailingStart, (log, 2, 3, 4))], observer=log) as root:
            await root.child("b").tell("boom")
            await anyio.sleep(1)
            raise AssertionError("not reached")

    assert log.of("start") == ["start a1", "start b1", "start b2", "start b3", "start b4"]
    assert log.of("in") == ["b2 in 0", "b3 in 0", "b4 in 0"]
    assert caught.value.crashes == 4
    assert repr(caught.value.__cause__) == "Boom('start of b4')"
    assert log.of("stop") == ["stop b1", "stop a1"]


@on_all_schedules
async def test_case_07_a_start_that_fails_on_restart_less_often_comes_back_with_its_queue() -> None:
    log = Log()
    async with supervise([ChildSpec("b", FailingStart, (log, 2, 3))]) as root:
        await root.child("b").tell("boom")
        await root.child("b").tell("first")

        assert await root.child("b").ask("second") == ["first", "second"]
        assert root.child("b").incarnation == 4
        assert root.status()[0].crashes == 3


# 8


class Counted(Worker):
    """A worker that knows who is alive, and tells when an old one meets a new one."""

    alive: ClassVar[set[tuple[str, int]]]

    async def on_start(self) -> None:
        await super().on_start()
        generation = self.context.incarnation
        old = {(name, number) for name, number in self.alive if number < generation}
        assert not old, f"{old} are alive while {self.name} starts"
        self.alive.add((self.context.ref.name, generation))

    async def on_stop(self, reason: StopReason) -> None:
        await super().on_stop(reason)
        self.alive.remove((self.context.ref.name, self.context.incarnation))


@on_all_schedules
async def test_case_08_one_for_all_replaces_every_incarnation_and_none_of_the_old_is_alive() -> None:
    log = Log()

    class Here(Counted):
        alive: ClassVar = set()

    async with supervise([ChildSpec(name, Here, (log,)) for name in "abcd"], strategy="one_for_all") as root:
        for generation in (2, 3):
            log.lines.clear()
            await root.child("c").tell("boom")
            await anyio.sleep(1)

            assert Here.alive == {(name, generation) for name in "abcd"}
            assert [child.incarnation for child in root.status()] == [generation] * 4
            assert log.of("stop") == [f"stop {name}{generation - 1}" for name in "cdba"]
            assert log.of("start") == [f"start {name}{generation}" for name in "abcd"]
        assert [child.crashes for child in root.status()] == [0, 0, 2, 0]


@on_all_schedules
async def test_case_08_requests_meanwhile_do_not_hurry_a_group_restart() -> None:
    log = Log()

    class SlowHere(Counted):
        alive: ClassVar = set()

        async def on_start(self) -> None:
            await anyio.sleep(1)
            await super().on_start()
            self.log(f"up {anyio.current_time():g}")

        async def on_stop(self, reason: StopReason) -> None:
            await anyio.sleep(1)
            await super().on_stop(reason)

    children = [ChildSpec(name, SlowHere, (log,)) for name in "abc"]
    async with supervise(children, strategy="one_for_all") as root:
        log.lines.clear()
        await root.child("a").tell("boom")
        for _ in range(16):
            await anyio.sleep(0.4)
            with pytest.raises(UnknownChild):
                await root.terminate_child("x")

        assert log.of("start", "stopped") == [
            *[f"stopped {name}1" for name in "acb"],
            *[f"start {name}2" for name in "abc"],
        ]
        # A second for each, one after the other: the first three start from 0 to 3, three stop, and start again.
        assert log.of("up") == ["up 7", "up 8", "up 9"]
        assert SlowHere.alive == {(name, 2) for name in "abc"}


# 9


@on_all_schedules
async def test_case_09_a_restarted_sibling_is_stopped_before_a_failed_group_restart_is_tried_again() -> None:
    log = Log()
    children = [*workers(log, "a"), ChildSpec("b", FailingStart, (log, 2)), *workers(log, "c")]
    async with supervise(children, strategy="one_for_all", observer=log) as root:
        log.lines.clear()
        await root.child("a").tell("boom")
        await anyio.sleep(1)

        assert log.of("start", "stopped", "in") == [
            "stopped a1",
            "a2 in 0",
            "stopped c1",
            "stopped b1",
            "start a2",
            "start b2",
            "b3 in 0",
            "stopped a2",
            "start a3",
            "start b3",
            "start c2",
        ]
        assert [(child.phase, child.crashes) for child in root.status()] == [
            (Phase.UP, 1),
            (Phase.UP, 1),
            (Phase.UP, 0),
        ]


# 10


@on_all_schedules
async def test_case_10_rest_for_one_leaves_an_earlier_sibling_its_identity_and_state() -> None:
    log = Log()
    async with supervise(workers(log, "abc"), strategy="rest_for_one") as root:
        before = root.child("a")
        await before.ask("remembered")
        await root.child("c").ask("forgotten")
        await root.child("b").tell("boom")
        await anyio.sleep(1)

        assert root.child("a") == before
        assert await before.ask("more") == ["remembered", "more"]
        assert await root.child("c").ask("new") == ["new"]
        assert [child.incarnation for child in root.status()] == [1, 2, 2]
        assert log.of("stop") == ["stop b1", "stop c1"]
        assert log.of("start")[3:] == ["start b2", "start c2"]


@on_all_schedules
async def test_case_10_rest_for_one_does_not_restart_the_first_again_when_the_second_fails() -> None:
    log = Log()
    children = [*workers(log, "a"), ChildSpec("b", FailingStart, (log, 2, 3)), *workers(log, "c")]
    async with supervise(children, strategy="rest_for_one", observer=log) as root:
        log.lines.clear()
        await root.child("a").tell("boom")
        await anyio.sleep(1)

        assert log.of("start") == ["start a2", "start b2", "start b3", "start b4", "start c2"]
        assert log.of("stop") == ["stop a1", "stop c1", "stop b1"]
        assert [(child.incarnation, child.crashes) for child in root.status()] == [(2, 1), (4, 2), (2, 0)]
