"""The decisions of a supervisor: events in, expected commands out. The model checks its invariants after each event."""

from math import inf
from time import process_time

import pytest

from actors import Backoff, DuplicateChild, TooManyRestarts
from actors.errors import StartFailed
from actors.lifecycle import KILLED, NORMAL, SHUTDOWN, StopReason
from actors.spec import Restart, Strategy
from actors.supervision import Command, Phase, StartChild, StopChild, Supervision
from tests.actors.supervision_model import CRASH, SupervisionModel, spec

GROUPS: list[Strategy] = ["one_for_all", "rest_for_one"]
ALL: list[Strategy] = ["one_for_one", "one_for_all", "rest_for_one", "dynamic"]


def up(strategy: Strategy, *specs: object, **options: object) -> SupervisionModel:
    """A supervisor with all its children up."""
    return SupervisionModel(strategy, *specs, **options).begin_and_come_up()  # type: ignore[arg-type]


# Starting


def test_children_start_in_order_each_once_the_one_before_is_up() -> None:
    top = SupervisionModel("one_for_one", "a", "b")

    assert top.begin() == ["start a1"]
    assert top.up("a") == ["start b1"]
    assert top.up("b") == ["ready"]


@pytest.mark.parametrize("strategy", ALL)
def test_a_supervisor_without_children_is_ready_at_once(strategy: Strategy) -> None:
    assert SupervisionModel(strategy).begin() == ["ready"]


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_a_failing_first_start_stops_the_earlier_ones_in_reverse_and_names_the_child(
    strategy: Strategy, restart: Restart
) -> None:
    top = SupervisionModel(strategy, "a", "b", spec("c", restart=restart), "d")
    top.begin()
    top.up("a")
    top.up("b")

    forgotten = ["forget c"] if restart == "temporary" else []
    assert top.crash("c") == ["finish c crashed", *forgotten, "finish d crashed", "stop b"]
    assert top.end("b") == ["finish b shutdown", "stop a"]
    assert top.end("a") == ["finish a shutdown", "over crashed"]
    error = top.over and top.over.cause
    assert isinstance(error, StartFailed)
    assert error.child == "c"
    assert error.__cause__ is CRASH.cause


def test_a_child_that_crashes_while_later_ones_start_for_the_first_time_is_restarted() -> None:
    top = SupervisionModel("one_for_one", "a", "b")
    top.begin()
    top.up("a")

    assert top.crash("a") == ["restarting a2 in 0", "start a2"]
    assert top.up("b") == []
    assert top.up("a") == ["ready"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_group_restart_within_the_first_start_ends_with_ready(strategy: Strategy) -> None:
    top = SupervisionModel(strategy, "a", "b", "c")
    top.begin()
    top.up("a")

    assert top.crash("a") == ["restarting a2 in 0", "stop b"]
    assert top.end("b") == ["start a2"]
    assert top.up("a") == ["start b2"]
    assert top.up("b") == ["start c1"]
    assert top.up("c") == ["ready"]


def test_a_significant_child_that_is_done_before_all_are_up_makes_ready_and_shuts_down() -> None:
    top = SupervisionModel("one_for_one", "a", spec("job", restart="transient", significant=True), "c")
    top.begin()
    top.up("a")
    top.up("job")

    assert top.finish("job") == ["finish job normal", "ready", "stop c"]
    assert top.end("c") == ["finish c shutdown", "stop a"]
    assert top.end("a")[-1] == "over shutdown"


def test_two_children_of_one_name_are_refused() -> None:
    with pytest.raises(DuplicateChild, match="'top' has two children named 'a'"):
        Supervision("top", "one_for_one", [spec("a"), spec("a")])


def test_a_child_that_is_stopped_while_it_starts_for_the_first_time_is_no_failed_start() -> None:
    top = SupervisionModel("one_for_one", "a", spec("b", restart="transient"), "c")
    top.begin()

    assert top.finish("a") == ["restarting a2 in 0", "start a2"]
    assert top.up("a") == ["start b1"]
    assert top.finish("b") == ["finish b normal", "start c1"]
    assert top.up("c") == ["ready"]


@pytest.mark.parametrize("strategy", ALL)
def test_ten_thousand_children_start_restart_and_stop_without_a_scan_of_all_at_each_event(strategy: Strategy) -> None:
    names = [f"c{number}" for number in range(10_000)]
    top = Supervision("top", strategy, [spec(name) for name in names])
    began = process_time()
    play(top, top.begin())
    play(top, top.exited("c0", CRASH, 0.0, was_up=True))
    play(top, top.shut_down())

    assert top._over
    assert process_time() - began < 5  # a fifth of a second; with scans it is more than a minute


def play(top: Supervision, commands: list[Command]) -> None:
    """Let each child come up and end at once."""
    while commands:
        match commands.pop(0):
            case StartChild(name, _):
                commands += top.started(name)
            case StopChild(name):
                commands += top.exited(name, SHUTDOWN, 0.0, was_up=True)
            case _:
                pass


# The matrix: who comes back


@pytest.mark.parametrize("strategy", ALL)
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, CRASH, KILLED], ids=lambda reason: reason.kind)
def test_only_permanent_children_and_transient_ones_that_crashed_are_restarted(
    strategy: Strategy, restart: Restart, reason: StopReason
) -> None:
    top = SupervisionModel(strategy)
    top.begin()
    top.add(spec("a", restart=restart))
    top.up("a")

    commands = top.end("a", reason)

    if restart == "permanent" or (restart == "transient" and reason.kind in ("crashed", "killed")):
        assert commands == ["restarting a2 in 0", "start a2"]
        assert top.charged == ["a"]
    else:
        forgotten = restart == "temporary" or strategy == "dynamic"
        told = ["crashed a1"] if reason.kind == "crashed" else []
        assert commands == [*told, f"finish a {reason.kind}", *(["forget a"] if forgotten else [])]
        assert top.charged == []


# Groups


def test_one_for_one_touches_no_sibling() -> None:
    top = up("one_for_one", "a", "b", "c")

    assert top.crash("b") == ["restarting b2 in 0", "start b2"]
    assert top.up("b") == []


def test_one_for_all_stops_in_reverse_and_starts_in_order() -> None:
    top = up("one_for_all", "a", "b", "c", "d")

    assert top.crash("b") == ["restarting b2 in 0", "stop d"]
    assert top.end("d") == ["stop c"]
    assert top.end("c") == ["stop a"]
    assert top.end("a") == ["start a2"]
    assert top.up("a") == ["start b2"]
    assert top.up("b") == ["start c2"]
    assert top.up("c") == ["start d2"]
    assert top.up("d") == []


def test_rest_for_one_leaves_the_earlier_ones_alone() -> None:
    top = up("rest_for_one", "a", "b", "c")

    assert top.crash("b") == ["restarting b2 in 0", "stop c"]
    assert top.end("c") == ["start b2"]
    assert top.up("b") == ["start c2"]
    assert top.up("c") == []
    assert top.incarnations == {"a": 1, "b": 2, "c": 2}


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_temporary_bystander_is_neither_restarted_nor_charged(strategy: Strategy) -> None:
    top = up(strategy, "a", spec("t", restart="temporary"), "b")

    top.crash("a")
    top.end("b")
    assert top.end("t") == ["finish t shutdown", "forget t", "start a2"]
    assert top.up("a") == ["start b2"]
    assert top.charged == ["a"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_failure_while_a_group_comes_back_does_not_stumble_over_a_temporary_that_is_gone(strategy: Strategy) -> None:
    top = up(strategy, "a", spec("t", restart="temporary"), "b")
    top.crash("a")
    top.end("b")
    top.end("t")

    assert top.crash("a") == ["restarting a3 in 0", "start a3"]
    assert top.up("a") == ["start b2"]


def test_a_member_that_was_restarted_is_stopped_before_the_group_is_tried_again() -> None:
    top = up("one_for_all", "a", "b")
    top.crash("a")
    top.end("b")
    top.up("a")

    assert top.crash("b") == ["restarting b3 in 0", "stop a"]
    assert top.end("a") == ["start a3"]
    assert top.up("a") == ["start b3"]


def test_rest_for_one_does_not_restart_an_earlier_member_that_is_up_again() -> None:
    top = up("rest_for_one", "a", "b", "c")
    top.crash("a")
    top.end("c")
    top.end("b")
    top.up("a")

    assert top.crash("b") == ["restarting b3 in 0", "start b3"]
    assert top.up("b") == ["start c2"]
    assert top.incarnations["a"] == 2


def test_rest_for_one_does_not_disturb_an_earlier_member_that_is_starting() -> None:
    top = up("rest_for_one", "a", "b")
    top.crash("b")
    top.add("z")
    top.up("z")

    assert top.crash("z") == ["restarting z2 in 0"]  # b is coming up: z waits for it, and b is left alone
    assert top.up("b") == ["start z2"]


def test_a_newcomer_that_fails_while_a_group_stops_joins_it_and_lets_nobody_off() -> None:
    top = up("rest_for_one", "a", "b", "c")
    top.crash("a")
    top.add("z")
    top.up("z")

    assert top.crash("z") == ["restarting z2 in 0"]
    assert top.end("c") == ["stop b"]
    assert top.end("b") == ["start a2"]
    top.come_up()
    assert top.incarnations == {"a": 2, "b": 2, "c": 2, "z": 2}


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_sibling_that_crashes_before_its_turn_to_stop_is_not_charged(strategy: Strategy) -> None:
    top = up(strategy, "a", "b", "c")
    top.crash("a")

    assert top.crash("b") == ["crashed b1"]
    assert top.crash("c") == ["crashed c1", "start a2"]
    assert top.charged == ["a"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_transient_child_that_was_done_before_its_groups_order_stays_down(strategy: Strategy) -> None:
    top = up(strategy, "a", spec("job", restart="transient"), "b")
    top.crash("a")

    assert top.finish("job") == ["finish job normal"]
    assert top.end("b") == ["start a2"]
    assert top.up("a") == ["start b2"]
    assert top.up("b") == []


@pytest.mark.parametrize("strategy", GROUPS)
@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_a_significant_child_that_is_done_just_as_its_group_stops_it_shuts_all_down(
    strategy: Strategy, restart: Restart
) -> None:
    top = up(strategy, "a", spec("job", restart=restart, significant=True))

    assert top.crash("a") == ["restarting a2 in 0", "stop job"]
    assert top.finish("job")[-1] == "over shutdown"


@pytest.mark.parametrize("strategy", GROUPS)
@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_a_significant_child_that_its_group_stopped_shuts_nothing_down(strategy: Strategy, restart: Restart) -> None:
    top = up(strategy, "a", spec("job", restart=restart, significant=True))

    top.crash("a")
    assert top.end("job")[-1] == "start a2"
    assert top.up("a") == ([] if restart == "temporary" else ["start job2"])


def test_a_permanent_child_that_ends_normally_as_its_group_stops_it_is_not_charged() -> None:
    top = up("one_for_all", "a", "b")
    top.crash("a")

    assert top.finish("b") == ["start a2"]
    assert top.charged == ["a"]


# Budgets


@pytest.mark.parametrize("strategy", ALL)
def test_one_crash_more_than_allowed_stops_all_and_gives_the_cause(strategy: Strategy) -> None:
    top = SupervisionModel(strategy)
    top.begin()
    top.add(spec("a", max_restarts=2))
    top.add("b", "add another")
    top.come_up()
    for _ in range(2):
        top.crash("a")
        while "stopping" in top.running.values():
            top.end(next(name for name, where in top.running.items() if where == "stopping"))
        top.come_up()
    assert top.running == {"a": "up", "b": "up"}

    forgotten = ["forget a"] if strategy == "dynamic" else []
    assert top.crash("a") == ["finish a crashed", *forgotten, "stop b"]
    assert top.end("b")[-1] == "over crashed"
    error = top.over and top.over.cause
    assert isinstance(error, TooManyRestarts)
    assert (error.supervisor, error.child, error.crashes) == ("top", "a", 3)
    assert error.__cause__ is CRASH.cause


def test_each_child_has_a_budget_of_its_own() -> None:
    top = up("one_for_one", *(spec(name, max_restarts=1) for name in "abc"))

    for name in "abc":
        assert top.crash(name) == [f"restarting {name}2 in 0", f"start {name}2"]
        top.up(name)


def test_a_shared_budget_counts_the_crashes_of_all() -> None:
    top = up("one_for_one", "a", "b", "c", max_restarts=2)
    for name in "ab":
        top.crash(name)
        top.up(name)

    assert top.crash("c") == ["finish c crashed", "stop b"]
    error = top.decisions.ending and top.decisions.ending.cause
    assert isinstance(error, TooManyRestarts)
    assert (error.child, error.crashes) == ("c", 3)
    assert "3 restarts of its children, the last 'c', within 5 s" in str(error)


def test_crashes_further_apart_than_the_period_never_escalate() -> None:
    top = up("one_for_one", spec("a", max_restarts=1, period=5))

    for _ in range(20):
        top.now += 5.001
        top.crash("a")
        assert top.up("a") == []


def test_a_start_that_fails_on_a_restart_is_charged_and_finally_escalates() -> None:
    top = up("one_for_one", spec("a", max_restarts=3))
    top.crash("a")

    assert top.crash("a") == ["restarting a3 in 0", "start a3"]
    assert top.crash("a") == ["restarting a4 in 0", "start a4"]
    assert top.crash("a")[-1] == "over crashed"


def test_a_permanent_child_that_ends_normally_again_and_again_escalates() -> None:
    top = up("one_for_one", spec("a", max_restarts=1))
    top.finish("a")
    top.up("a")

    assert top.finish("a")[-1] == "over crashed"
    error = top.over and top.over.cause
    assert isinstance(error, TooManyRestarts)
    assert error.__cause__ is None


# Backoff


@pytest.mark.parametrize("strategy", ALL)
def test_a_restart_waits_for_its_timer(strategy: Strategy) -> None:
    top = SupervisionModel(strategy)
    top.begin()
    top.add(spec("a", backoff=Backoff(2, 8, jitter=0), max_restarts=inf))
    top.up("a")

    for delay in (2, 4, 8, 8):
        generation = top.incarnations["a"] + 1
        assert top.crash("a") == [f"restarting a{generation} in {delay}", f"wake in {delay}"]
        assert top.decisions.phase_of("a") is Phase.WAITING
        assert top.fire() == [f"start a{generation}"]
        top.up("a")


def test_jitter_comes_from_outside() -> None:
    top = up("one_for_one", spec("a", backoff=Backoff(2, 8, jitter=0.5)), jitter=lambda: 0.5)

    assert top.crash("a") == ["restarting a2 in 2.5", "wake in 2.5"]


def test_a_group_waits_as_long_as_the_child_that_failed() -> None:
    top = up("one_for_all", "a", spec("b", backoff=Backoff(2, 8, jitter=0)), "c")

    top.crash("b")
    top.end("c")
    assert top.end("a") == ["wake in 2"]
    assert [top.decisions.phase_of(name) for name in "abc"] == [Phase.WAITING] * 3
    assert top.fire() == ["start a2"]


def test_a_second_failure_while_a_group_waits_makes_one_group_of_both_and_one_wait() -> None:
    top = up("rest_for_one", "a", "b", spec("c", backoff=Backoff(2, 8, jitter=0)))
    assert top.crash("c") == ["restarting c2 in 2", "wake in 2"]

    assert top.crash("a") == ["restarting a2 in 0", "stop b"]
    assert top.end("b") == ["wake in 2"]
    assert top.fire() == []  # the timer of the group that is no more
    assert top.fire() == ["start a2"]
    assert top.up("a") == ["start b2"]
    assert top.up("b") == ["start c2"]


def test_a_timer_that_fires_after_its_child_was_terminated_starts_nothing() -> None:
    top = up("one_for_one", spec("a", backoff=Backoff(2, 8, jitter=0)))
    top.crash("a")
    top.terminate("a")

    assert top.fire() == []


def test_a_timer_of_a_child_does_not_start_its_namesake() -> None:
    top = up("one_for_one", spec("a", backoff=Backoff(2, 8, jitter=0)))
    top.crash("a")
    top.terminate("a")
    top.delete("a")
    top.add(spec("a", backoff=Backoff(5, 8, jitter=0)))
    top.up("a")
    top.crash("a")

    assert top.fire() == []
    assert top.fire() == ["start a2"]


# Shutdown


def test_all_stop_in_reverse_one_after_the_other() -> None:
    top = up("one_for_one", "a", "b", "c")

    assert top.shut_down() == ["stop c"]
    assert top.end("c") == ["finish c shutdown", "stop b"]
    assert top.end("b") == ["finish b shutdown", "stop a"]
    assert top.end("a") == ["finish a shutdown", "over shutdown"]


def test_a_dynamic_group_stops_all_at_once() -> None:
    top = SupervisionModel("dynamic")
    top.begin()
    for name in "abc":
        top.add(name)
        top.up(name)

    assert top.shut_down() == ["stop a", "stop b", "stop c"]
    top.end("b")
    top.end("c")
    assert top.end("a")[-1] == "over shutdown"


def test_a_shutdown_with_nothing_running_is_over_at_once() -> None:
    top = up("one_for_one", spec("a", backoff=Backoff(2, 8)))
    top.crash("a")

    assert top.shut_down() == ["finish a shutdown", "over shutdown"]
    assert top.fire() == []


def test_a_shutdown_comes_first_whatever_the_children_do_meanwhile() -> None:
    top = up("one_for_one", "a", "b", "c")
    top.shut_down()

    assert top.crash("a") == ["crashed a1", "finish a crashed"]
    assert top.crash("c") == ["crashed c1", "finish c crashed", "stop b"]
    assert top.finish("b")[-1] == "over shutdown"
    assert top.charged == []


def test_a_shutdown_stops_a_child_that_is_starting() -> None:
    top = SupervisionModel("one_for_one", "a", "b")
    top.begin()
    top.up("a")

    assert top.shut_down() == ["stop b"]
    assert top.up("b") == []  # too late
    assert top.end("b") == ["finish b shutdown", "stop a"]
    assert top.end("a")[-1] == "over shutdown"
    assert not top.ready


def test_a_second_shutdown_changes_nothing() -> None:
    top = up("one_for_one", "a")
    top.shut_down()

    assert top.shut_down(NORMAL) == []
    assert top.end("a")[-1] == "over shutdown"


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_shutdown_in_the_middle_of_a_group_restart_starts_nobody(strategy: Strategy) -> None:
    top = up(strategy, "a", "b", "c")
    top.crash("a")

    assert top.shut_down() == ["finish a shutdown"]
    assert top.end("c") == ["finish c shutdown", "stop b"]
    assert top.end("b")[-1] == "over shutdown"


@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_a_significant_childs_end_shuts_all_down(restart: Restart) -> None:
    top = up("one_for_one", "a", spec("job", restart=restart, significant=True), "c")

    assert top.finish("job")[-1] == "stop c"
    top.end("c")
    assert top.end("a")[-1] == "over shutdown"


def test_a_significant_child_that_is_terminated_shuts_nothing_down() -> None:
    top = up("one_for_one", "a", spec("job", restart="transient", significant=True))

    top.terminate("job")
    assert top.end("job") == ["finish job shutdown", "answer terminate: job"]


# Requests


def test_an_added_child_is_answered_for_once_it_is_up() -> None:
    top = up("one_for_one", "a")

    assert top.add("b") == ["start b1"]
    assert top.up("b") == ["answer add: b"]


def test_an_added_child_that_fails_to_start_leaves_nothing() -> None:
    top = up("one_for_one", "a")
    top.add("b")

    assert top.crash("b") == ["finish b crashed", "forget b", "answer add: StartFailed"]
    assert list(top.decisions.children) == ["a"]
    assert top.charged == []


def test_a_name_that_is_taken_is_refused() -> None:
    assert up("one_for_one", "a").add("a") == ["answer add: DuplicateChild"]


def test_a_terminated_child_stays_down_and_its_spec_is_kept() -> None:
    top = up("one_for_one", "a", "b")

    assert top.terminate("a") == ["stop a"]
    assert top.end("a") == ["finish a shutdown", "answer terminate: a"]
    assert list(top.decisions.children) == ["a", "b"]
    assert top.terminate("a", "again") == ["answer again: a"]


def test_a_temporary_or_dynamic_child_that_is_terminated_is_forgotten() -> None:
    temporary = up("one_for_one", spec("a", restart="temporary"))
    dynamic = SupervisionModel("dynamic")
    dynamic.begin()
    dynamic.add("a")
    dynamic.up("a")

    for top in (temporary, dynamic):
        top.terminate("a")
        assert top.end("a") == ["finish a shutdown", "forget a", "answer terminate: a"]


def test_a_dynamic_child_that_is_terminated_while_it_waits_for_its_restart_is_forgotten_too() -> None:
    top = SupervisionModel("dynamic")
    top.begin()
    top.add(spec("a", backoff=Backoff(2, 8)))
    top.up("a")
    top.crash("a")

    assert top.terminate("a") == ["finish a shutdown", "forget a", "answer terminate: a"]


def test_two_who_terminate_one_child_are_both_answered() -> None:
    top = up("one_for_one", "a")

    assert top.terminate("a", "one") == ["stop a"]
    assert top.terminate("a", "two") == []
    assert top.end("a") == ["finish a shutdown", "answer one: a", "answer two: a"]


def test_a_terminated_child_that_crashes_on_its_way_down_is_not_restarted() -> None:
    top = up("one_for_one", "a")
    top.terminate("a")

    assert top.crash("a") == ["crashed a1", "finish a crashed", "answer terminate: a"]
    assert top.charged == []


def test_a_restart_brings_a_child_back_that_is_down_for_good() -> None:
    top = up("one_for_one", spec("job", restart="transient"))
    top.finish("job")

    assert top.restart("job") == ["start job2"]
    assert top.up("job") == ["answer restart: job"]
    assert top.crash("job") == ["restarting job3 in 0", "start job3"]


def test_a_restart_that_fails_leaves_the_child_down_and_keeps_its_spec() -> None:
    top = up("one_for_one", "a")
    top.terminate("a")
    top.end("a")
    top.restart("a")

    assert top.crash("a") == ["finish a crashed", "answer restart: StartFailed"]
    assert top.restart("a") == ["start a3"]
    assert top.up("a") == ["answer restart: a"]


def test_restarting_or_deleting_a_child_that_is_not_down_is_refused() -> None:
    top = up("one_for_one", spec("a", backoff=Backoff(2, 8)))

    def refused() -> bool:
        return (top.restart("a"), top.delete("a")) == (
            ["answer restart: ChildRunning"],
            ["answer delete: ChildRunning"],
        )

    assert refused()
    top.crash("a")
    assert refused()
    top.fire()
    assert refused()
    top.terminate("a")
    assert refused()


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_child_that_waits_for_its_group_is_not_down(strategy: Strategy) -> None:
    top = up(strategy, "a", spec("b", backoff=Backoff(2, 8)))
    top.crash("b")
    while "stopping" in top.running.values():
        top.end("a")

    assert top.restart("b") == ["answer restart: ChildRunning"]
    assert top.delete("b") == ["answer delete: ChildRunning"]


def group_in_its_backoff(strategy: Strategy) -> SupervisionModel:
    """`a` has crashed and waits with its group; `b` was terminated and is asked to restart."""
    top = up(strategy, spec("a", backoff=Backoff(2, 8, jitter=0)), "b", "c")
    top.terminate("b")
    top.end("b")
    top.crash("a")
    assert top.end("c") == ["wake in 2"]
    assert top.restart("b") == []
    return top


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_restart_in_the_backoff_of_its_group_waits_for_its_turn(strategy: Strategy) -> None:
    top = group_in_its_backoff(strategy)

    assert top.decisions.phase_of("b") is Phase.WAITING
    assert top.restart("b", "again") == ["answer again: ChildRunning"]
    assert top.fire() == ["start a2"]
    assert top.up("a") == ["start b2"]
    assert top.up("b") == ["answer restart: b", "start c2"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_restart_that_waits_for_its_group_is_answered_when_the_child_is_terminated(strategy: Strategy) -> None:
    top = group_in_its_backoff(strategy)

    assert top.terminate("b") == ["answer restart: ActorStopped", "answer terminate: b"]
    assert top.fire() == ["start a2"]
    assert top.up("a") == ["start c2"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_restart_that_waits_for_its_group_is_answered_when_all_is_shut_down(strategy: Strategy) -> None:
    top = group_in_its_backoff(strategy)

    assert "answer restart: ActorStopped" in top.shut_down()


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_restart_that_waited_for_its_group_and_fails_is_answered_and_the_group_goes_on(strategy: Strategy) -> None:
    top = group_in_its_backoff(strategy)
    top.fire()
    top.up("a")

    assert top.crash("b") == ["finish b crashed", "answer restart: StartFailed", "start c2"]


def test_a_restart_by_hand_forgives_the_crashes_before() -> None:
    top = up("one_for_one", spec("a", max_restarts=1, backoff=Backoff(2, 8, jitter=0)))
    top.crash("a")
    top.terminate("a")
    top.restart("a")
    top.up("a")

    assert top.crash("a") == ["restarting a3 in 2", "wake in 2"]


def test_a_deleted_child_frees_its_name() -> None:
    top = up("one_for_one", "a")
    top.terminate("a")
    top.end("a")

    assert top.delete("a") == ["forget a", "answer delete: a"]
    assert top.delete("a") == ["answer delete: UnknownChild"]
    assert top.add("a") == ["start a1"]


def test_an_unknown_child_is_an_error_of_its_own() -> None:
    top = up("one_for_one", "a")

    assert top.terminate("x") == ["answer terminate: UnknownChild"]
    assert top.restart("x") == ["answer restart: UnknownChild"]
    assert top.delete("x") == ["answer delete: UnknownChild"]


def test_a_supervisor_that_shuts_down_refuses_every_request() -> None:
    top = up("one_for_one", "a")
    top.shut_down()

    for request in (top.terminate, top.restart, top.delete, top.add):
        assert request("a", "it") == ["answer it: ActorStopped"]
    top.end("a")
    assert top.add("b", "after the end") == ["answer after the end: ActorStopped"]


# Requests in the middle of something else


def test_a_terminate_during_a_backoff_is_answered_at_once() -> None:
    top = up("one_for_one", spec("a", backoff=Backoff(2, 8)))
    top.crash("a")

    assert top.terminate("a") == ["finish a shutdown", "answer terminate: a"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_terminate_during_a_groups_backoff_takes_the_child_out_of_the_group(strategy: Strategy) -> None:
    top = up(strategy, "a", "b", spec("c", backoff=Backoff(2, 8, jitter=0)))
    top.crash("c")
    while "stopping" in top.running.values():
        top.end(next(name for name, where in top.running.items() if where == "stopping"))

    assert top.terminate("c") == ["finish c shutdown", "answer terminate: c"]
    top.fire()
    top.come_up()
    assert top.running == {"a": "up", "b": "up"}


def test_a_terminate_of_a_member_that_is_being_stopped_is_answered_when_it_is_down_and_it_stays_down() -> None:
    top = up("one_for_all", "a", "b")
    top.crash("a")

    assert top.terminate("b") == []
    assert top.end("b") == ["finish b shutdown", "answer terminate: b", "start a2"]
    assert top.up("a") == []


def test_a_terminate_of_a_child_that_starts_stops_it() -> None:
    top = up("one_for_one", "a")
    top.crash("a")

    assert top.terminate("a") == ["stop a"]
    assert top.end("a") == ["finish a shutdown", "answer terminate: a"]


def test_a_terminate_within_the_first_round_of_a_restarted_supervisor_lets_it_get_ready() -> None:
    top = SupervisionModel("one_for_one", "a", "b", "c")
    top.begin()

    assert top.terminate("b", "one") == ["finish b shutdown", "answer one: b"]
    assert top.terminate("a", "two") == ["stop a"]
    assert top.end("a") == ["finish a shutdown", "answer two: a", "start c1"]
    assert top.up("c") == ["ready"]


def test_an_added_child_that_its_group_stops_before_it_is_up_leaves_nothing() -> None:
    top = up("one_for_all", "a")
    top.add("b")

    assert top.crash("a") == ["restarting a2 in 0", "stop b"]
    assert top.end("b") == ["finish b shutdown", "forget b", "answer add: ActorStopped", "start a2"]
    assert top.pending == set()
    assert top.up("a") == []


def test_an_added_child_that_is_terminated_before_it_is_up_answers_both_and_leaves_nothing() -> None:
    top = up("one_for_one", "a")
    top.add("b")

    assert top.terminate("b") == ["stop b"]
    top.end("b")
    assert top.pending == set()
    assert list(top.decisions.children) == ["a"]


def test_an_added_child_is_told_of_the_shutdown_that_stopped_it() -> None:
    top = up("one_for_one", "a")
    top.add("b")

    assert top.shut_down() == ["stop b"]
    assert "answer add: ActorStopped" in top.end("b")


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_restart_request_that_its_group_stops_is_answered_and_the_child_stays_down(strategy: Strategy) -> None:
    top = up(strategy, "a", "b")
    top.terminate("b")
    top.end("b")
    top.restart("b")

    assert top.crash("a") == ["restarting a2 in 0", "stop b"]
    assert "answer restart: ActorStopped" in top.end("b")
    assert top.up("a") == []
    assert top.restart("b") == ["start b3"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_child_can_be_added_while_a_group_waits(strategy: Strategy) -> None:
    top = up(strategy, spec("a", backoff=Backoff(2, 8, jitter=0)))
    top.crash("a")

    assert top.add("b") == ["start b1"]
    assert top.up("b") == ["answer add: b"]
    assert top.fire() == ["start a2"]
    assert top.up("a") == []


def test_requests_are_answered_in_an_endless_restart_storm() -> None:
    top = up("one_for_one", "a", spec("storm", max_restarts=inf))

    for _ in range(100):
        top.crash("storm")
        assert top.decisions.phase_of("storm") is Phase.STARTING
        assert top.terminate("a", "stop a") in (["stop a"], ["answer stop a: a"])
        if "a" in top.running:
            top.end("a")
    assert top.terminate("storm") == ["stop storm"]
    assert top.crash("storm") == ["crashed storm101", "finish storm crashed", "answer terminate: storm"]
    assert top.running == {}


def test_a_shutdown_in_a_restart_storm_ends_it() -> None:
    top = up("one_for_one", "a", spec("storm", max_restarts=inf))
    top.crash("storm")

    assert top.shut_down() == ["stop storm"]
    assert top.crash("storm") == ["crashed storm2", "finish storm crashed", "stop a"]
    assert top.end("a")[-1] == "over shutdown"
