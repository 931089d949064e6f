"""Writing a graph down and compiling it: what the builder promises."""

import gc
import logging
import operator
import time
from typing import Annotated, Any, TypedDict

import attrs
import pytest

from engine.context import Context
from engine.errors import GraphInvalid, StateMutated
from engine.graph import Graph
from engine.nodespec import NodeSpec
from engine.options import Batch, Rate
from engine.plan import Plan, PlanNode
from engine.retry import Retry
from engine.schema import AttrsSchema, DictSchema
from engine.values import END, STOP, Reduce
from engine.views import View


@attrs.frozen
class Review:
    text: str
    score: float = 0.0
    notes: Annotated[list[str], Reduce(list.__add__)] = []  # noqa: RUF008 - as in the README: never changed in place


class TextOnly(TypedDict):
    text: str


def step(state: Any) -> None:
    """A node that changes nothing."""


async def later(state: Any) -> None: ...


def spec(plan: Plan, name: str) -> NodeSpec:
    found = plan.by_name[name].decl.options
    assert isinstance(found, NodeSpec)
    return found


def ways(node: PlanNode) -> list[str]:
    return [edge.name for edge in node.outs]


def test_the_example_of_the_readme_compiles() -> None:
    graph = Graph("review", state=Review)

    @graph.node
    async def draft(review: Review) -> dict[str, Any]:
        return {"text": review.text.strip()}

    @graph.node(retry=Retry(attempts=3), timeout=5, concurrency=8)
    async def grade(review: Review) -> dict[str, Any]:
        return {"score": 0.9, "notes": ["graded"]}

    @graph.node(run_in="process")
    def spell(review: Review) -> dict[str, Any]:
        return {"notes": ["spelling ok"]}

    @graph.node
    def decide(review: Review) -> None: ...

    graph.add_edge("draft", "grade")
    graph.add_edge("draft", "spell")
    graph.add_edge("grade", "decide")
    graph.add_edge("spell", "decide")
    graph.add_edge("decide", "draft", when=lambda r: r.score < 0.8, max_iterations=5)
    graph.add_edge("decide", END, otherwise=True)
    graph.set_entry_point("draft")

    plan = graph.compile()

    assert graph.validate() == []
    assert [node.name for node in plan.nodes] == ["draft", "grade", "spell", "decide"]
    assert plan.by_name["grade"].retry == (Retry(attempts=3),)
    assert spec(plan, "spell").run_in == "process"
    assert set(plan.state.reducers) == {"notes"}


def test_a_decorated_function_is_returned_unchanged() -> None:
    graph = Graph("g")

    assert graph.node(step) is step
    assert graph.node(name="other", timeout=5)(step) is step
    assert [node.name for node in graph.set_entry_point("step", "other").compile().nodes] == ["step", "other"]


def test_methods_chain() -> None:
    plan = (
        Graph("g")
        .add_node("a", step)
        .add_node("b", step)
        .add_map("m", step, over="rows", into="found")
        .add_wait("w", signal="go", into="answer")
        .add_edge("a", ["b", "m"])
        .add_choice("b", lambda s: "w", {"yes": "w", "no": END})
        .set_entry_point("a")
        .compile()
    )

    assert [node.kind for node in plan.nodes] == ["function", "function", "map", "wait"]


def test_a_graph_may_be_written_in_any_order() -> None:
    graph = Graph("g").set_entry_point("a").add_edge("a", "b").add_node("b", step).add_node("a", step)

    assert ways(graph.compile().by_name["a"]) == ["a -> b"]


def test_lists_of_sources_and_targets_draw_every_edge_in_order() -> None:
    graph = Graph("g").add_node("a", step).add_node("b", step).add_node("c", step).add_node("d", step)

    plan = graph.add_edge(["a", "b"], ["c", "d"]).set_entry_point("a", "b").compile()

    assert [edge.name for edge in plan.edges] == ["START -> a", "START -> b", "a -> c", "a -> d", "b -> c", "b -> d"]


def test_edges_keep_their_options() -> None:
    graph = Graph("g").add_node("a", step).add_node("b", step).set_entry_point("a")
    graph.add_edge("a", "b", when=bool, capacity=3).add_edge("b", "a", when=bool, max_iterations=2, on_limit="fail")
    graph.add_edge("b", STOP, otherwise=True).add_edge("a", "b", on_error=[ValueError, KeyError])

    a, b = graph.compile().nodes

    assert a.whens[0].capacity == 3
    assert a.errors[0].on_error == (ValueError, KeyError)
    assert (b.whens[0].limit, b.whens[0].on_limit) == (2, "fail")


def test_a_choice_may_label_its_targets() -> None:
    graph = Graph("g").add_node("a", step).add_node("b", step).set_entry_point("a")

    plan = graph.add_choice("a", lambda s: True, {True: "b", False: END}).compile()

    labels = plan.by_name["a"].choices[0].by_label
    assert (labels[True].name, labels[False].name) == ("a -> b", "a -> END")  # type: ignore[index]


def test_an_entry_point_set_again_replaces_the_first() -> None:
    graph = Graph("g").add_node("a", step).add_node("b", step).add_edge("b", "a")

    assert [e.name for e in graph.set_entry_point("a").set_entry_point("b").compile().entries] == ["START -> b"]


def test_the_options_of_a_node_reach_its_spec() -> None:
    def tool(state: Any, mode: str) -> None: ...

    graph = Graph("g").set_entry_point("a")
    graph.add_node(
        "a",
        tool,
        concurrency=4,
        rate="10/s",
        batch=Batch(8, 0.5),
        run_in="gpu",
        effect=True,
        resources={"gpu": 1},
        params={"mode": "strict"},
        description="cleans",
        produces=["x"],
        retry=[Retry(on=ValueError), Retry()],
        timeout=3,
    )

    plan = graph.compile()
    found, node = spec(plan, "a"), plan.by_name["a"]

    assert (found.concurrency, found.rate, found.batch) == (4, Rate(10, 1), Batch(8, 0.5))
    assert (found.run_in, found.effect, found.resources, found.description) == ("gpu", True, {"gpu": 1}, "cleans")
    assert found.produces == frozenset({"x"})
    assert found.call.arguments("state") == (["state"], {"mode": "strict"})
    assert (len(node.retry), node.timeout) == (2, 3)


def test_sync_functions_run_in_threads_and_async_ones_in_the_loop() -> None:
    class Async:
        async def __call__(self, state: Any) -> None: ...

    graph = (
        Graph("g").add_node("a", step).add_node("b", later).add_node("c", step, run_in="loop").add_node("d", Async())
    )

    plan = graph.set_entry_point(*"abcd").compile()

    assert [spec(plan, name).run_in for name in "abcd"] == ["thread", "loop", "loop", "loop"]
    assert [spec(plan, name).is_async for name in "abcd"] == [False, True, False, True]


def test_a_tool_is_found_by_its_name() -> None:
    plan = Graph("g").add_node("a", "clean").set_entry_point("a").compile(tools={"clean": step})

    assert plan.by_name["a"].decl.function is step
    assert spec(plan, "a").tool == "clean"


# --- calling


def call(function: Any, *arguments: Any, **options: Any) -> Any:
    plan = Graph("g").add_node("a", function, **options).set_entry_point("a").compile()
    return spec(plan, "a").call(function, *arguments)


def test_a_plain_function_gets_the_state() -> None:
    assert call(lambda state: state, "state") == "state"


def test_a_context_comes_by_its_annotation_wherever_it_stands() -> None:
    def first(ctx: Context, state: Any) -> Any:
        return ctx.node, state

    def named(state: Any, *, ctx: "Context | None" = None) -> Any:
        return ctx and ctx.node, state

    context = Context(node="a")

    assert call(first, "state", context) == ("a", "state")
    assert call(named, "state", context) == ("a", "state")


def test_params_go_to_the_parameters_of_their_names() -> None:
    def node(state: Any, x: int, *, y: int = 2, **more: int) -> Any:
        return state, x, y, more

    assert call(node, "state", params={"x": 1, "z": 3}) == ("state", 1, 2, {"z": 3})


def test_all_params_go_to_a_parameter_called_params() -> None:
    def node(state: Any, params: dict[str, Any]) -> Any:
        return params

    assert call(node, "state", params={"x": 1}) == {"x": 1}


def test_a_function_without_parameters_is_just_called() -> None:
    assert call(lambda: 5, "state") == 5


def test_default_values_are_left_alone() -> None:
    assert call(lambda state, i=3: (state, i), "state") == ("state", 3)


def test_methods_objects_and_builtins_are_functions_too() -> None:
    class Cleaner:
        def clean(self, state: Any) -> Any:
            return state

        def __call__(self, state: Any, by: int) -> Any:
            return state, by

    assert call(Cleaner().clean, "state") == "state"
    assert call(Cleaner(), "state", params={"by": 2}) == ("state", 2)
    assert call(dict, {"a": 1}) == {"a": 1}


def test_a_worker_of_a_map_gets_the_item_and_the_state_if_it_wants_it() -> None:
    def worker(item: Any, state: Any, ctx: Context) -> Any:
        return item, state, ctx.node

    plan = Graph("g").add_map("m", worker, over="rows", into="found").set_entry_point("m").compile()

    assert spec(plan, "m").call(worker, "item", Context(node="m"), "state") == ("item", "state", "m")


# --- views


def view_of(function: Any, state: Any = Review, **options: Any) -> Any:
    plan = Graph("g", state=state).add_node("a", function, **options).set_entry_point("a").compile()
    return plan.by_name["a"].decl.view


@pytest.mark.parametrize("annotation", [Review, Any, None, "Review", object, Review | None], ids=str)
def test_a_node_annotated_with_the_state_gets_all_of_it(annotation: Any) -> None:
    def node(review: Any) -> None: ...

    node.__annotations__ = {"review": annotation} if annotation is not None else {}

    assert view_of(node) is None


def test_a_narrower_annotation_is_a_view() -> None:
    def node(review: TextOnly) -> None: ...

    found = view_of(node)

    assert isinstance(found, View)
    assert found.give({"text": "x", "score": 1.0, "notes": []}) == {"text": "x"}


def test_a_view_may_be_declared_as_an_option() -> None:
    assert view_of(step, accepts=TextOnly).keys == {"text"}


def test_a_batch_is_annotated_as_a_list_of_what_one_activation_gets() -> None:
    def whole(reviews: list[Review]) -> Any: ...
    def narrow(texts: list[TextOnly]) -> Any: ...

    assert view_of(whole, batch=Batch(8)) is None
    assert view_of(narrow, batch=Batch(8)).keys == {"text"}


def test_functions_of_one_def_may_have_views_of_their_own() -> None:
    def add(graph: Graph, name: str, cls: Any) -> None:
        def node(review: "cls") -> None: ...

        graph.add_node(name, node)

    graph = Graph("g", state=Review).set_entry_point("a", "b")
    add(graph, "a", TextOnly)
    add(graph, "b", Review)
    a, b = (node.decl.view for node in graph.compile().nodes)

    assert isinstance(a, View)
    assert b is None


def test_a_view_defined_inside_a_function_is_found_though_annotations_are_text() -> None:
    @attrs.frozen
    class Local:
        text: str

    def node(review: "Local") -> None: ...

    assert view_of(node).give({"text": "x", "score": 1.0, "notes": []}) == Local("x")


def test_a_state_defined_inside_a_function_finds_its_reducers_though_annotations_are_text() -> None:
    def merge(one: Any, other: Any) -> Any: ...

    class Local(TypedDict):
        notes: "Annotated[list[str], Reduce(merge)]"

    graph = Graph("g", state=Local).add_node("a", step).set_entry_point("a")

    assert graph.compile().state.reducers == {"notes": merge}


def test_the_state_type_decides_how_states_are_handled() -> None:
    assert isinstance(Graph("g").add_node("a", step).set_entry_point("a").compile().state, DictSchema)
    assert isinstance(Graph("g", state=Review).add_node("a", step).set_entry_point("a").compile().state, AttrsSchema)


def test_changes_in_place_are_blamed_on_the_node_that_made_them() -> None:
    graph = Graph("g", isolation="check").add_node("a", step).add_node("b", step).set_entry_point("a", "b")
    view: Any = graph.compile().by_name["b"].decl.view
    given = view.give({"rows": [1]})
    given["rows"].append(2)

    with pytest.raises(StateMutated) as caught:
        view.take({"rows": [1]}, given, None)

    assert caught.value.node == "b"


# --- subgraphs


def inner(**settings: Any) -> Graph:
    return Graph("inner", **settings).add_node("x", step).set_entry_point("x")


def test_a_graph_is_a_node_like_any_other() -> None:
    graph = Graph("g").add_node("sub", inner(), inputs={"a": "b"}, outputs={"c": "d"}, timeout=5).set_entry_point("sub")

    node = graph.compile().by_name["sub"]

    assert node.kind == "subgraph"
    assert node.timeout == 5
    assert node.decl.subgraph is not None
    assert node.decl.subgraph.plan.name == "inner"
    assert (dict(node.decl.subgraph.enter), dict(node.decl.subgraph.leave)) == ({"a": "b"}, {"c": "d"})


@pytest.mark.parametrize("state", [dict, TypedDict("Notes", {"notes": list[str]})])  # type: ignore[operator]
def test_a_subgraph_inherits_the_reducers_of_the_keys_it_shares(state: Any) -> None:
    graph = Graph("g", reducers={"notes": operator.add}).add_node("sub", inner(state=state)).set_entry_point("sub")

    node = graph.compile().by_name["sub"]

    assert node.decl.subgraph is not None
    assert node.decl.subgraph.plan.state.reducers == {"notes": operator.add}


def test_a_renamed_key_inherits_the_reducer_under_its_name_inside() -> None:
    graph = Graph("g", reducers={"notes": operator.add}).set_entry_point("sub")
    graph.add_node("sub", inner(), inputs={"notes": "log"}, outputs={"log": "notes"})

    node = graph.compile().by_name["sub"]

    assert node.decl.subgraph is not None
    assert node.decl.subgraph.plan.state.reducers == {"log": operator.add}


def test_a_graph_used_in_two_places_is_itself_unchanged() -> None:
    part = inner()
    Graph("g", reducers={"notes": operator.add}).add_node("sub", part).set_entry_point("sub").compile()

    assert part.compile().state.reducers == {}


# --- compiling again


def test_a_plan_is_kept_until_something_is_added() -> None:
    graph = Graph("g").add_node("a", step).set_entry_point("a")
    plan = graph.compile()

    assert graph.compile() is plan
    assert len(graph.add_node("b", step).add_edge("a", "b").compile().nodes) == 2


def test_a_plan_is_made_anew_when_a_graph_inside_changes() -> None:
    part = inner()
    graph = Graph("g").add_node("sub", part).set_entry_point("sub")
    before = graph.compile()
    part.add_node("y", step).add_edge("x", "y")

    after = graph.compile().by_name["sub"].decl.subgraph

    assert graph.compile() is not before
    assert after is not None
    assert len(after.plan.nodes) == 2


def test_the_same_graph_written_twice_gives_equal_plans() -> None:
    def write() -> Graph:
        graph = Graph("g", state=Review).add_node("a", step, rate="1/s").add_node("b", later)
        return graph.add_edge("a", "b", when=bool).set_entry_point("a")

    assert write().compile().decl == write().compile().decl


def test_a_faulty_graph_stays_faulty_until_it_is_mended() -> None:
    graph = Graph("g").add_node("a", step)
    for _ in range(2):
        with pytest.raises(GraphInvalid):
            graph.compile()

    assert graph.set_entry_point("a").compile().nodes


def test_warnings_are_logged_once_when_a_graph_is_compiled(caplog: pytest.LogCaptureFixture) -> None:
    graph = Graph("g").add_node("a", step, produces="x").add_node("b", step, produces="x").set_entry_point("a", "b")
    with caplog.at_level(logging.WARNING, "engine.graph"):
        graph.validate()
        assert caplog.text == ""
        graph.compile()
        graph.compile()

    assert caplog.text.count("write_conflict_at_end") == 1


# --- cost


def large(size: int) -> Graph:
    graph = Graph("large").set_entry_point("n0")
    for index in range(size):

        async def node(state: Any, index: int = index) -> None: ...

        graph.add_node(f"n{index}", node)
        if index:
            graph.add_edge(f"n{index - 1}", f"n{index}")
    return graph


def test_compiling_costs_the_same_per_node_however_many_there_are() -> None:
    def seconds_per_node(size: int) -> float:
        graph = large(size)
        gc.collect()
        start = time.process_time()  # others may use this machine
        graph.compile()
        return (time.process_time() - start) / size

    small = min(seconds_per_node(1_000) for _ in range(3))

    assert min(seconds_per_node(20_000) for _ in range(2)) < 4 * small


# --- maps and waits


def test_a_graph_may_be_the_worker_of_a_map() -> None:
    graph = Graph("g").add_map("m", inner(), over="rows", into="found", item="row", concurrency=2, retry=Retry())

    node = graph.set_entry_point("m").compile().by_name["m"]

    assert node.decl.map is not None
    assert isinstance(node.decl.map.worker, Plan)
    assert (node.decl.map.item, node.decl.map.concurrency, len(node.retry)) == ("row", 2, 1)


def test_a_wait_may_listen_to_several_signals_and_has_its_own_timeout() -> None:
    graph = Graph("g").add_wait("w", signal=["yes", "no", "yes"], into="answer", timeout=60).set_entry_point("w")

    node = graph.compile().by_name["w"]

    assert node.decl.wait is not None
    assert (node.decl.wait.signals, node.decl.wait.timeout, node.timeout) == (("yes", "no"), 60, None)
    assert graph.compile().signals == {"yes", "no"}


# --- what a node sees beside its state


def test_a_context_made_by_hand_serves_to_test_a_node() -> None:
    heard: list[Any] = []
    context = Context(run_id="r", node="a", activation=2, report=lambda kind, data: heard.append((kind, data)))

    context.progress(0.5, "half")
    context.emit({"rows": 3})

    assert context.token == "r/a#2"
    assert heard == [
        ("node_progress", {"fraction": 0.5, "message": "half"}),
        ("node_progress", {"event": {"rows": 3}}),
    ]
    assert Context().progress(1.0) is None  # type: ignore[func-returns-value]
