"""What any layout keeps to, whatever the graph: nothing overlaps, nothing leads through a box, all of it fits."""

import random
import time
from collections.abc import Callable, Iterator
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.drawing.layering import in_order, leading_back, rows_of
from engine.drawing.layout import MOST_CUTS, Item, Link, lay_out
from engine.drawing.ordering import crossings, order
from engine.drawing.sketch import Sketch
from engine.drawing.ways import Layout, Place, Point, Route

Graph = tuple[list[Item], list[Link]]


@st.composite
def graphs(draw: st.DrawFn, most: int = 14) -> Graph:
    """Any graph at all: cycles, loops, several links between two items, parts that do not hang together."""
    count = draw(st.integers(1, most))
    sizes = st.builds(Item, st.floats(14, 260), st.sampled_from([14.0, 28.0, 34.0, 46.0, 300.0]))
    items = draw(st.lists(sizes, min_size=count, max_size=count))
    ends = st.integers(0, count - 1)
    labels = st.none() | st.tuples(st.floats(10, 200), st.sampled_from([16.0, 30.0]))
    return items, draw(st.lists(st.builds(Link, ends, ends, labels, st.booleans()), max_size=3 * count))


def random_graph(count: int, links: int, *, seed: int, near: int = 10_000, labels: float = 0.3) -> Graph:
    """Like what people write: mostly downwards, some links with labels, a few back."""
    dice = random.Random(seed)
    found = [(dice.randrange(max(0, node - near), node), node) for node in range(1, count)]
    while len(found) < links:
        source = dice.randrange(count)
        found.append((source, min(count - 1, max(0, source + dice.randrange(-near // 20, near)))))
    return (
        [Item(dice.uniform(60, 200), 34.0) for _ in range(count)],
        [Link(*ends, (dice.uniform(20, 150), 16.0) if dice.random() < labels else None) for ends in found],
    )


def points(route: Route) -> Iterator[Point]:
    """Points along a route, close enough together not to step over anything."""
    x, y = route.start
    for piece in route.pieces:
        x1, y1, x2, y2 = piece[:4] if len(piece) == 6 else (x, y, *piece)
        end = piece[-2:]
        for step in range(33):
            t = step / 32
            a, b, c, d = (1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t * t, t**3
            if len(piece) == 2:
                a, b, c, d = 1 - t, 0.0, 0.0, t
            yield a * x + b * x1 + c * x2 + d * end[0], a * y + b * y1 + c * y2 + d * end[1]
        x, y = end


def inside(point: Point, place: Place, by: float = 0.5) -> bool:
    across, down = abs(point[0] - place.x), abs(point[1] - place.y)
    return across < place.width / 2 - by and down < place.height / 2 - by


def overlap(one: Place, other: Place) -> bool:
    across, down = abs(one.x - other.x), abs(one.y - other.y)
    return across < (one.width + other.width) / 2 - 0.01 and down < (one.height + other.height) / 2 - 0.01


def faults(layout: Layout, links: list[Link]) -> Iterator[str]:
    """Everything that is wrong with a layout."""
    labels = [(index, route.label) for index, route in enumerate(layout.routes) if route.label]
    for (i, one), (j, other) in combinations(enumerate(layout.places), 2):
        if overlap(one, other):
            yield f"items {i} and {j} overlap"
    for (i, one), (j, other) in combinations(labels, 2):
        if overlap(one, other):
            yield f"the labels of links {i} and {j} overlap"
    for index, label in labels:
        for item, place in enumerate(layout.places):
            if overlap(label, place):
                yield f"the label of link {index} covers item {item}"
    for index, route in enumerate(layout.routes):
        way = list(points(route))
        for item, place in enumerate(layout.places):
            if any(inside(point, place) for point in way):
                yield f"link {index} leads through item {item}"
        if not all(-0.01 <= x <= layout.width + 0.01 and -0.01 <= y <= layout.height + 0.01 for x, y in way):
            yield f"link {index} leads out of the picture"
        yield from wrong_ends(index, route, layout.places[links[index].source], layout.places[links[index].target])
    for index, place in [*enumerate(layout.places), *labels]:
        if place.x - place.width / 2 < -0.01 or place.x + place.width / 2 > layout.width + 0.01:
            yield f"item or label {index} is beside the picture"
        if place.y - place.height / 2 < -0.01 or place.y + place.height / 2 > layout.height + 0.01:
            yield f"item or label {index} is above or below the picture"


def wrong_ends(index: int, route: Route, source: Place, target: Place) -> Iterator[str]:
    for name, (x, y), place in (("begin", route.start, source), ("end", route.end, target)):
        across, down = abs(x - place.x) - place.width / 2, abs(y - place.y) - place.height / 2
        if max(across, down) > 0.1 or max(across, down) < -0.1:
            yield f"link {index} does not {name} at the border of its item, but at {x:.1f}, {y:.1f}: {place}"


@settings(deadline=None, max_examples=300)
@given(graphs())
def test_nothing_overlaps_and_no_link_leads_through_an_item(graph: Graph) -> None:
    layout = lay_out(*graph)

    assert list(faults(layout, graph[1])) == []


@settings(deadline=None, max_examples=100)
@given(graphs())
def test_so_it_is_where_links_are_led_round_the_outside(graph: Graph) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.drawing.layout.MOST_CUTS", 0)
        patch.setattr("engine.drawing.layout.MOST_CUTS_EACH", 0)
        layout = lay_out(*graph)

    assert list(faults(layout, graph[1])) == []


@pytest.mark.parametrize("seed", range(6))
def test_so_it_is_with_fifty_items(seed: int) -> None:
    items, links = random_graph(50, 80, seed=seed, near=12)

    assert list(faults(lay_out(items, links), links)) == []


def test_the_same_graph_has_the_same_layout() -> None:
    assert lay_out(*random_graph(60, 90, seed=1)) == lay_out(*random_graph(60, 90, seed=1))


def test_nothing_has_no_size() -> None:
    assert lay_out([], []) == Layout(0.0, 0.0, (), ())


def test_a_chain_is_straight() -> None:
    layout = lay_out([Item(60 + 10 * n, 34) for n in range(5)], [Link(n, n + 1) for n in range(4)])

    assert len({round(place.x, 3) for place in layout.places}) == 1
    assert [len(route.pieces) for route in layout.routes] == [1, 1, 1, 1]


def test_branches_stand_side_by_side_in_the_order_in_which_they_were_written() -> None:
    links = [Link(0, n) for n in range(1, 6)] + [Link(n, 6) for n in range(1, 6)]
    places = lay_out([Item(80, 34)] * 7, links).places

    assert len({place.y for place in places[1:6]}) == 1
    assert [place.x for place in places[1:6]] == sorted(place.x for place in places[1:6])
    assert places[0].x == pytest.approx(places[3].x)


def test_a_link_back_leaves_and_enters_at_the_side() -> None:
    route = lay_out([Item(80, 34)] * 3, [Link(0, 1), Link(1, 2), Link(2, 0)]).routes[2]

    assert route.back
    assert route.pieces[-1][-1] == pytest.approx(route.pieces[-2][-1])


def test_links_between_the_same_two_items_are_apart() -> None:
    one, other, third = lay_out([Item(80, 34)] * 2, [Link(0, 1)] * 3).routes

    assert len({one.start, other.start, third.start}) == len({one.end, other.end, third.end}) == 3


def test_parts_that_do_not_hang_together_make_a_block_rather_than_a_line() -> None:
    layout = lay_out([Item(80, 34)] * 100, [])

    assert 0.4 < layout.width / layout.height < 4


# --- how long it takes ----------------------------------------------------------------------------------


def chain(count: int) -> Graph:
    return [Item(80, 34)] * count, [Link(n, n + 1) for n in range(count - 1)]


def fan(count: int) -> Graph:
    both = [Link(0, n) for n in range(2, count)] + [Link(n, 1) for n in range(2, count)]
    return [Item(80, 34)] * count, both


@pytest.mark.parametrize(
    "graph",
    [
        pytest.param(lambda: random_graph(500, 700, seed=1, near=40), id="like what people write"),
        pytest.param(lambda: random_graph(500, 2_000, seed=2), id="links from anywhere to anywhere"),
        pytest.param(lambda: random_graph(500, 20_000, seed=3, labels=0.0), id="very dense"),
        pytest.param(lambda: chain(500), id="a chain"),
        pytest.param(lambda: fan(500), id="a fan"),
        pytest.param(lambda: random_graph(5_000, 7_000, seed=4, near=40), id="ten times as many"),
    ],
)
def test_five_hundred_items_take_less_than_a_second(graph: Callable[[], Graph]) -> None:
    items, links = graph()

    began = time.process_time()
    lay_out(items, links)

    # Promised is one second for 500; the machine may be five times as slow as ours, or busy.
    assert time.process_time() - began < 5 * max(1, len(items) / 500, len(links) / 5_000)


def test_long_links_are_led_round_only_where_there_are_very_many() -> None:
    few = lay_out(*random_graph(50, 100, seed=1))
    items, links = random_graph(300, 3_000, seed=1)

    many = lay_out(items, links)

    assert max(place.x for place in few.places) > few.width - 300
    assert many.width > max(route.end[0] for route in many.routes) + 100
    assert len(links) > MOST_CUTS / 10


# --- rows and orders ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(graphs())
def test_what_leads_back_is_turned_round_and_nothing_else_leads_up(graph: Graph) -> None:
    items, links = graph
    ends = [(link.source, link.target) for link in links]
    hints = [index for index, link in enumerate(links) if link.loops and link.source != link.target]
    back = leading_back(len(items), ends, hints, range(len(items)))
    down = [ends[i][::-1] if i in back else ends[i] for i in range(len(ends)) if ends[i][0] != ends[i][1]]

    row = rows_of(len(items), down)

    assert all(row[source] < row[target] for source, target in down)
    assert set(row) == set(range(max(row) + 1))
    assert len(in_order(len(items), down)) == len(items)


def test_the_link_that_is_meant_to_lead_back_does() -> None:
    ring = [(0, 1), (1, 2), (2, 0)]

    assert leading_back(3, ring, [], range(3)) == {2}
    assert leading_back(3, ring, [1], range(3)) == {1}
    assert leading_back(3, ring[:2], [1], range(3)) == frozenset()


def test_links_are_short_where_that_costs_no_other() -> None:
    #  0 → 1 → 2 → 3 and 4 → 3: the lone 4 stands right above what it leads to.
    assert rows_of(5, [(0, 1), (1, 2), (2, 3), (4, 3)]) == [0, 1, 2, 3, 2]


def bare(rows: list[list[int]], pieces: list[tuple[int, int]]) -> Sketch:
    count = sum(map(len, rows))
    row = [next(number for number, found in enumerate(rows) if node in found) for node in range(count)]
    sketch = Sketch.of([10.0] * count, row, len(rows))
    for upper, lower in pieces:
        sketch.tie(upper, lower)
    return sketch


def test_crossings_are_counted() -> None:
    assert crossings(bare([[0, 1], [2, 3]], [(0, 3), (1, 2)])) == 1
    assert crossings(bare([[0, 1], [2, 3]], [(0, 2), (1, 3)])) == 0
    assert crossings(bare([[0, 1, 2], [3, 4, 5]], [(0, 5), (1, 4), (2, 3)])) == 3
    assert crossings(bare([[0], [1, 2]], [(0, 1), (0, 2)])) == 0


def test_what_need_not_cross_does_not() -> None:
    sketch = bare([[0, 1, 2], [3, 4, 5], [6, 7, 8]], [(0, 5), (1, 4), (2, 3), (5, 6), (4, 8), (3, 7)])

    order(sketch)

    assert crossings(sketch) == 0


def test_an_order_never_has_more_crossings_than_the_one_that_was_written() -> None:
    dice = random.Random(5)
    for _ in range(20):
        rows = [list(range(8)), list(range(8, 16)), list(range(16, 24))]
        pieces = {
            (dice.randrange(8 * r, 8 * r + 8), dice.randrange(8 * r + 8, 8 * r + 16)) for r in (0, 1) for _ in "x" * 12
        }
        sketch = bare(rows, sorted(pieces))
        before = crossings(sketch)

        order(sketch)

        assert crossings(sketch) <= before
        assert [sorted(row) for row in sketch.rows] == rows
