"""How far maps are, asked while they run."""

from typing import Any

import pytest

from engine import Graph
from engine.underway import MapUnderWay, maps_under_way
from tests.driver import Driver

State = dict[str, Any]


def worker(item: Any) -> Any:
    return item


def counted(over: Any, *, inside: bool = False) -> tuple[Driver, list[list[MapUnderWay]]]:
    graph = Graph("g").add_map("each", worker, over=over, into="out", concurrency=2).set_entry_point("each")
    if inside:
        graph = Graph("outer").add_node("sub", graph).set_entry_point("sub")
    driver = Driver(graph.compile()).start({"rows": list("abcd"), "out": None})
    seen = [list(maps_under_way(driver.run))]
    while driver.step():
        seen.append(list(maps_under_way(driver.run)))
    return driver, seen


def test_finished_items_are_counted_and_the_total_is_known_of_a_list() -> None:
    _, seen = counted("rows")

    assert [[(found.done, found.total) for found in moment] for moment in seen] == [
        [(0, 4)],
        [(1, 4)],
        [(2, 4)],
        [(3, 4)],
        [],
    ]


def test_of_a_source_nobody_knows_how_many_will_come() -> None:
    _, seen = counted(lambda state: iter(state["rows"]))

    assert {found.total for moment in seen for found in moment} == {None}
    assert max(found.done for moment in seen for found in moment) >= 3


@pytest.mark.parametrize(("inside", "name"), [(False, "each"), (True, "sub#1/each")])
def test_a_map_is_found_by_its_name_inside_a_subgraph_too(inside: bool, name: str) -> None:
    _, seen = counted("rows", inside=inside)

    assert {(found.node, found.activation) for moment in seen for found in moment} == {(name, 1)}
