"""When a graph built anew is the same graph, and when it is another that must not run in its place."""

import functools
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from engine import Graph
from engine.sameness import same_plan


@attrs.frozen
class Rule:
    limit: int


@attrs.define
class Tally:
    count: int = 0

    def __call__(self, state: Any) -> None:
        self.count += 1


def holding(held: Any) -> Graph:
    def node(state: Any) -> Any:
        return {"held": held}

    return Graph("g").add_node("n", node).set_entry_point("n")


def with_default(held: Any) -> Graph:
    def node(state: Any, held: Any = held) -> Any:
        return {"held": held}

    return Graph("g").add_node("n", node).set_entry_point("n")


def node_with(state: Any, held: Any) -> None: ...


def partly(held: Any) -> Graph:
    return Graph("g").add_node("n", functools.partial(node_with, held=held)).set_entry_point("n")


def same(one: Graph, other: Graph) -> bool:
    return same_plan(one.compile(), other.compile())


BUILDERS = [holding, with_default, partly]


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("make", [list, dict, set, Tally, lambda: ([],), lambda: Rule([])], ids=range(6))  # type: ignore[arg-type]
def test_functions_that_hold_equal_things_that_can_change_are_others(
    build: Callable[[Any], Graph], make: Callable[[], Any]
) -> None:
    assert not same(build(make()), build(make()))


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("held", [7_000_000, "a b", 2.5, b"x", None, ("a", (1,)), frozenset({1}), Rule(3)], ids=repr)
def test_functions_that_hold_equal_things_that_nobody_can_change_are_the_same(
    build: Callable[[Any], Graph], held: Any
) -> None:
    import copy

    again = Rule(held.limit) if isinstance(held, Rule) else copy.deepcopy(held)
    assert same(build(held), build(again))


@pytest.mark.parametrize("build", BUILDERS)
def test_functions_that_hold_the_very_same_thing_are_the_same(build: Callable[[Any], Graph]) -> None:
    held: list[int] = []

    assert same(build(held), build(held))


def test_one_and_true_are_not_the_same() -> None:
    assert not same(holding(1), holding(True))


def test_params_are_data_and_compared_as_such() -> None:
    def build(rules: Any) -> Graph:
        return Graph("g").add_node("n", node_with, params={"held": rules}).set_entry_point("n")

    assert same(build(["a", {"b": 1}]), build(["a", {"b": 1}]))
    assert not same(build(["a"]), build(["b"]))


def test_two_callable_objects_are_two_however_equal() -> None:
    def build(node: Any) -> Graph:
        return Graph("g").add_node("n", node).set_entry_point("n")

    one = Tally()
    assert same(build(one), build(one))
    assert not same(build(one), build(Tally()))
