"""What a child's spec refuses, when it is written down rather than when it is used, and what it says then."""

from math import inf, nan
from typing import Any

import pytest

from actors import Actor, Backoff, ChildSpec, Supervisor, supervise


def spec(name: Any = "a", factory: Any = Actor, **options: Any) -> ChildSpec:
    return ChildSpec(name, factory, **options)


def test_a_spec_needs_a_name_and_a_factory_only() -> None:
    assert spec().restart == "permanent"


def test_arguments_may_come_in_any_order_of_things() -> None:
    assert spec(args=[1, 2]).args == (1, 2)


@pytest.mark.parametrize("name", ["", "a/b", 3, None])
def test_a_name_that_makes_no_path_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match=f"a child's name is a text without '/', got {name!r}"):
        spec(name)


@pytest.mark.parametrize("factory", [None, "Actor", 3])
def test_a_factory_that_cannot_be_called_is_refused(factory: Any) -> None:
    with pytest.raises(TypeError, match=f"child 'a': the factory is called for each incarnation, got {factory!r}"):
        spec(factory=factory)


def test_an_unknown_restart_policy_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"unknown ChildSpec.restart 'always': it is one of permanent, transient, temporary"
    ):
        spec(restart="always")


def test_an_unknown_overflow_policy_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(ValueError, match="unknown overflow policy 'drop': it is one of block, fail, drop_newest"):
        spec(overflow="drop")


@pytest.mark.parametrize("make", [Supervisor, supervise, lambda **options: Supervisor.spec("s", **options)])
def test_an_unknown_strategy_is_refused_and_the_known_ones_are_named(make: Any) -> None:
    with pytest.raises(
        ValueError, match="unknown strategy 'all_for_one': it is one of one_for_one, one_for_all, rest_for_one, dynamic"
    ):
        make(strategy="all_for_one")


@pytest.mark.parametrize("make", [Supervisor, supervise, lambda **options: Supervisor.spec("s", **options)])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_restarts": -1}, "max_restarts is at least 0, got -1"),
        ({"period": 0}, "period is more than 0, got 0"),
        ({"period": -5}, "period is more than 0, got -5"),
    ],
)
def test_a_shared_budget_that_makes_no_sense_is_refused(make: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_capacity_below_one_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match=f"a capacity is at least 1, got {capacity}"):
        spec(capacity=capacity)


def test_a_capacity_without_bound_is_refused() -> None:
    with pytest.raises(TypeError, match="a capacity is an integer, got inf"):
        spec(capacity=inf)


@pytest.mark.parametrize("option", ["shutdown", "period", "start_timeout", "stop_timeout", "grace"])
@pytest.mark.parametrize("value", [-1, -0.5, nan])
def test_a_time_that_is_no_time_is_refused(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"ChildSpec.{option} is (at least|more than) 0, got {value}"):
        spec(**{option: value})


@pytest.mark.parametrize("option", ["period", "start_timeout", "stop_timeout", "grace"])
def test_only_a_shutdown_may_take_no_time(option: str) -> None:
    assert spec(shutdown=0).shutdown == 0
    with pytest.raises(ValueError, match=f"ChildSpec.{option} is more than 0, got 0"):
        spec(**{option: 0})


@pytest.mark.parametrize("value", ["5", None, True])
def test_a_time_that_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"ChildSpec.shutdown is a number of seconds, got "):
        spec(shutdown=value)


@pytest.mark.parametrize("option", ["shutdown", "start_timeout"])
def test_a_time_may_be_without_end(option: str) -> None:
    assert getattr(spec(**{option: inf}), option) == inf


@pytest.mark.parametrize("option", ["max_restarts", "redeliver"])
def test_a_negative_count_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match=f"ChildSpec.{option} is at least 0, got -1"):
        spec(**{option: -1})


@pytest.mark.parametrize("option", ["max_restarts", "redeliver"])
@pytest.mark.parametrize("value", ["3", 1.5, True])
def test_a_count_that_is_no_whole_number_is_refused(option: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"ChildSpec.{option} is a whole number or inf, got {value!r}"):
        spec(**{option: value})


def test_any_number_of_restarts_may_be_allowed() -> None:
    assert spec(max_restarts=inf).max_restarts == inf


def test_a_permanent_child_cannot_be_significant() -> None:
    with pytest.raises(ValueError, match=r"child 'a': a permanent child never ends for good, .* make it transient"):
        spec(significant=True)


def test_what_is_no_backoff_is_refused() -> None:
    with pytest.raises(TypeError, match=r"child 'a': ChildSpec.backoff is a Backoff\(min, max\) or None, got 1.0"):
        spec(backoff=1.0)


def test_what_is_no_truth_is_not_significant() -> None:
    with pytest.raises(TypeError, match=r"child 'a': ChildSpec.significant is True or False, got 'yes'"):
        spec(significant="yes")


@pytest.mark.parametrize("args", ["abc", b"de", 5])
def test_one_argument_in_place_of_several_is_refused(args: Any) -> None:
    with pytest.raises(TypeError, match=f"child 'a': ChildSpec.args are the factory's arguments, got {args!r}: write "):
        spec(args=args)


def test_a_backoff_that_shrinks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Backoff.max is at least min, got 1 < 2"):
        Backoff(2, 1)


@pytest.mark.parametrize(("low", "high", "jitter"), [(0, 1, 0), (-1, 1, 0), (1, inf, 0), (1, 2, -0.1), (1, 2, inf)])
def test_a_backoff_without_sense_is_refused(low: float, high: float, jitter: float) -> None:
    with pytest.raises(ValueError, match=r"Backoff\.(min|max|jitter) is "):
        Backoff(low, high, jitter)


def test_a_dynamic_supervisor_takes_exactly_one_spec() -> None:
    with pytest.raises(ValueError, match="a dynamic supervisor takes one spec, the pattern of its children, got 2"):
        Supervisor([spec("a"), spec("b")], strategy="dynamic")


# What an actor class declares


@pytest.mark.parametrize("hook", ["receive", "on_start", "on_stop", "on_terminated", "around"])
def test_a_hook_that_is_no_async_function_is_refused_with_the_class(hook: str) -> None:
    with pytest.raises(TypeError, match=rf"Wrong.{hook} must be an async function: write `async def {hook}`"):
        type("Wrong", (Actor,), {hook: lambda *_: None})


def test_a_hook_that_is_no_function_at_all_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Wrong.receive must be an async function"):
        type("Wrong", (Actor,), {"receive": None})


@pytest.mark.parametrize("accepts", ["int", list[int], 3])
def test_a_type_of_messages_that_nothing_can_be_checked_against_is_refused(accepts: Any) -> None:
    with pytest.raises(TypeError, match=r"Wrong.accepts: messages cannot be checked against .*; it takes a class, a"):
        type("Wrong", (Actor,), {"accepts": accepts})


def test_a_supervisor_below_another_has_a_budget_of_its_own_beside_the_one_its_children_share() -> None:
    sub = Supervisor.spec("sub", max_restarts=7, period=70, own_max_restarts=2, own_period=20)

    assert (sub.max_restarts, sub.period) == (2, 20)
    with pytest.raises(ValueError, match=r"max_restarts is at least 0, got -1"):
        Supervisor.spec("sub", own_max_restarts=-1)


def test_a_supervisor_below_another_has_the_budget_of_any_child_unless_told() -> None:
    sub, child = Supervisor.spec("sub", max_restarts=7, period=70), ChildSpec("child", Actor)

    assert (sub.max_restarts, sub.period) == (child.max_restarts, child.period)
