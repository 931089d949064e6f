"""Every problem of a graph by its code, each with its place and a hint, and all of them at once."""

import functools
import itertools
import operator
from collections.abc import Callable
from typing import Annotated, Any, TypedDict, cast

import attrs
import pytest

from engine.context import Context
from engine.errors import GraphInvalid, GraphProblem
from engine.graph import Graph
from engine.options import Batch, Rate, parse_rate
from engine.retry import Retry
from engine.values import END, STOP, Goto, Reduce

ERRORS = {
    *("no_entry_point", "unknown_node", "duplicate_node", "duplicate_edge", "edge_from_end", "unreachable", "no_exit"),
    *("bad_join", "bad_option", "bad_condition", "bad_reducer", "type_mismatch", "undeclared_goto", "unknown_key"),
    *("limit_outside_loop", "unknown_tool", "bad_params", "subgraph_cycle"),
}
WARNINGS = {"exclusive_join", "loop_feeds_join", "write_conflict_at_end"}


class Typed(TypedDict):
    text: str
    score: float
    notes: Annotated[list[str], operator.add]


def step(state: Any) -> None:
    """A node that changes nothing."""


def yes(state: Any) -> bool:
    return True


def chain(*names: str, **settings: Any) -> Graph:
    """Nodes one after the other, the first the entry point."""
    graph = Graph("g", **settings)
    for name in names:
        graph.add_node(name, step)
    for one, other in itertools.pairwise(names):
        graph.add_edge(one, other)
    return graph.set_entry_point(names[0]) if names else graph


def problems(graph: Graph, **tools: Any) -> list[tuple[str, str]]:
    return [(problem.code, problem.where) for problem in graph.validate(**tools)]


def only(graph: Graph, code: str, **tools: Any) -> GraphProblem:
    """The one problem of a graph."""
    found = graph.validate(**tools)
    assert [problem.code for problem in found] == [code]
    assert found[0].message
    return found[0]


# --- structure


def test_a_sound_graph_has_no_problems() -> None:
    assert chain("a", "b", "c").validate() == []


def test_no_entry_point() -> None:
    problem = only(Graph("g").add_node("a", step), "no_entry_point")

    assert problem.where == "g"
    assert "set_entry_point('a')" in problem.hint


def test_an_empty_graph_has_no_entry_point() -> None:
    assert problems(Graph("g")) == [("no_entry_point", "g")]


@pytest.mark.parametrize(
    ("source", "target", "where", "hint"),
    [
        ("draft", "grdae", "draft -> grdae", "did you mean 'grade'?"),
        ("grdae", "draft", "grdae -> draft", "did you mean 'grade'?"),
        ("draft", "nowhere", "draft -> nowhere", "known are 'draft', 'grade', 'END', 'STOP'"),
        ("draft", "end", "draft -> end", ""),
    ],
)
def test_unknown_node(source: str, target: str, where: str, hint: str) -> None:
    problem = only(chain("draft", "grade").add_edge(source, target), "unknown_node")

    assert problem.where == where
    assert hint in problem.hint


def test_an_unknown_entry_point_is_an_unknown_node() -> None:
    problem = only(chain("draft", "grade").set_entry_point("drafd"), "unknown_node")

    assert problem.where == "drafd"
    assert problem.hint == "did you mean 'draft'?"


def test_a_function_given_for_its_name_is_an_unknown_node_with_the_name_as_hint() -> None:
    problem = only(chain("step", "b").add_edge(step, "b"), "unknown_node")  # type: ignore[arg-type]

    assert problem.hint == "give its name, 'step'"


def test_a_node_is_not_called_unreachable_when_only_a_misspelt_edge_is_to_blame() -> None:
    graph = Graph("g").add_node("draft", step).add_node("grade", step).set_entry_point("draft")

    assert problems(graph.add_edge("draft", "grdae")) == [("unknown_node", "draft -> grdae")]


def test_duplicate_node() -> None:
    problem = only(chain("a", "b").add_node("a", step), "duplicate_node")

    assert problem.where == "a"
    assert problem.hint


@pytest.mark.parametrize("name", [END, STOP])
def test_the_names_of_the_ends_are_taken(name: str) -> None:
    assert only(chain("a").add_node(name, step), "duplicate_node").where == name


def test_duplicate_edge() -> None:
    problem = only(chain("a", "b").add_edge("a", "b"), "duplicate_edge")

    assert problem.where == "a -> b"
    assert problem.hint


def test_conditional_edges_between_the_same_nodes_are_separate() -> None:
    graph = chain("a", "b").add_edge("a", "b", when=yes).add_edge("a", "b", when=yes)

    assert graph.add_edge("a", "b", on_error=ValueError).validate() == []


def test_an_entry_point_named_twice_is_a_duplicate_edge() -> None:
    assert problems(chain("a").set_entry_point("a", "a")) == [("duplicate_edge", "a")]


@pytest.mark.parametrize("end", [END, STOP])
def test_edge_from_end(end: str) -> None:
    problem = only(chain("a", "b").add_edge(end, "b"), "edge_from_end")

    assert problem.where == f"{end} -> b"
    assert problem.hint


def test_unreachable() -> None:
    graph = chain("a", "b").add_node("c", step).add_node("d", step).add_edge("c", "d")

    assert problems(graph) == [("unreachable", "c"), ("unreachable", "d")]
    assert graph.validate()[0].hint


@pytest.mark.parametrize(
    "reach",
    [
        lambda g: g.add_edge("a", "c", on_error=ValueError),
        lambda g: g.add_edge("a", "c", when=yes),
        lambda g: g.add_choice("a", lambda s: "c", ["b", "c"]),
        lambda g: g.set_entry_point("a", "c"),
    ],
    ids=["error", "when", "choice", "entry"],
)
def test_any_kind_of_edge_reaches_a_node(reach: Callable[[Graph], Graph]) -> None:
    assert reach(chain("a", "b").add_node("c", step)).validate() == []


def test_no_exit() -> None:
    problem = only(chain("a", "b", "c").add_edge("c", "b"), "no_exit")

    assert problem.where == "b"
    assert "b -> c -> b" in problem.message
    assert "END" in problem.hint


def test_a_limit_is_no_exit_since_nothing_is_left_to_take_at_it() -> None:
    assert problems(chain("a", "b").add_edge("b", "a", max_iterations=3)) == [("no_exit", "a")]


@pytest.mark.parametrize(
    "leave",
    [
        lambda g: g.add_edge("b", END, otherwise=True),
        lambda g: g.add_edge("a", STOP, when=yes),
        lambda g: g.add_edge("b", "c", on_error=ValueError),
        lambda g: g.add_choice("b", lambda s: END, ["a"]),
    ],
    ids=["otherwise", "stop", "error", "choice"],
)
def test_a_loop_with_a_way_out_is_sound(leave: Callable[[Graph], Graph]) -> None:
    graph = chain("a", "b").add_node("c", step).add_edge("b", "a", when=yes).set_entry_point("a", "c")

    assert [p for p in leave(graph).validate() if p.severity == "error"] == []


def test_a_branch_of_error_edges_only_may_end() -> None:
    assert chain("a").add_edge("a", "a", on_error=ValueError).validate() == []


@pytest.mark.parametrize("join", ["every", 0, -1, 1.5, True, None.__class__])
def test_bad_join(join: Any) -> None:
    problem = only(Graph("g").add_node("a", step, join=join).set_entry_point("a"), "bad_join")

    assert problem.where == "a"
    assert "'all', 'any', 'first' or a number" in problem.message


def test_a_join_cannot_wait_for_more_arrivals_than_it_has_edges() -> None:
    graph = chain("a", "b").add_node("j", step, join=3).add_edge(["a", "b"], "j")

    problem = only(graph, "bad_join")
    assert problem.where == "j"
    assert "2 incoming edges" in problem.message
    assert "join=2" in problem.hint


def test_rest_is_for_joins_that_do_not_take_every_arrival() -> None:
    graph = chain("a", "b").add_node("j", step, rest="cancel").add_edge(["a", "b"], "j")

    assert problems(graph) == [("bad_join", "j")]


# --- options


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": -1},
        {"timeout": "5"},
        {"timeout": float("nan")},
        {"concurrency": 0},
        {"concurrency": 1.5},
        {"rate": "often"},
        {"rate": "0/s"},
        {"rate": "10/fortnight"},
        {"batch": 5},
        {"retry": 3},
        {"retry": [Retry(), "x"]},
        {"run_in": 5},
        {"effect": "yes"},
        {"resources": ["gpu"]},
        {"description": 5},
        {"rest": "forget", "join": "first"},
        {"retires": 3},
        {"inputs": {"a": "b"}},
        {"produces": 5},
    ],
    ids=str,
)
def test_bad_option(options: dict[str, Any]) -> None:
    problem = only(Graph("g").add_node("a", step, **options).set_entry_point("a"), "bad_option")

    assert problem.where == "a"
    assert next(iter(options)) in problem.message


def test_an_option_that_does_not_exist_gets_a_hint() -> None:
    graph = Graph("g").add_node("a", step, retires=3).set_entry_point("a")  # type: ignore[call-arg]

    assert only(graph, "bad_option").hint == "did you mean 'retry'?"


def test_a_number_for_a_retry_gets_a_hint() -> None:
    graph = Graph("g").add_node("a", step, retry=3).set_entry_point("a")  # type: ignore[arg-type]

    assert "Retry(attempts=3)" in only(graph, "bad_option").message


@pytest.mark.parametrize(
    "settings",
    [
        {"on_failure": "panic"},
        {"conflicts": "first"},
        {"isolation": "total"},
        {"check": "never"},
        {"history": 0},
        {"max_iterations": 0},
        {"max_activations": -1},
        {"deadline": "soon"},
        {"version": 2},
    ],
    ids=str,
)
def test_a_bad_option_of_the_graph_is_placed_at_its_name(settings: dict[str, Any]) -> None:
    problem = only(chain("a", **settings), "bad_option")

    assert problem.where == "g"
    assert next(iter(settings)) in problem.message


@pytest.mark.parametrize(
    "options",
    [{"max_iterations": 0}, {"max_iterations": "5"}, {"capacity": 0}, {"on_limit": "stop"}, {"on_error": "ValueError"}],
    ids=str,
)
def test_a_bad_option_of_an_edge_is_placed_at_the_edge(options: dict[str, Any]) -> None:
    graph = chain("a", "b").add_edge("b", "b", **{"when": yes, **options} if "on_error" not in options else options)
    graph.add_edge("b", END, otherwise=True)

    problem = only(graph, "bad_option")
    assert problem.where == "b -> b"
    assert next(iter(options)) in problem.message


@pytest.mark.parametrize("what", [3, None, ["f"]])
def test_what_cannot_be_run_is_a_bad_option(what: Any) -> None:
    problem = only(Graph("g").add_node("a", what).set_entry_point("a"), "bad_option")

    assert "function" in problem.hint


def test_a_generator_is_no_node() -> None:
    def stream(state: Any) -> Any:
        yield {}

    assert only(Graph("g").add_node("a", stream).set_entry_point("a"), "bad_option").hint


def test_a_generator_may_give_a_map_its_items() -> None:
    def rows(state: Any) -> Any:
        yield 1

    async def more(state: Any) -> Any:
        yield 1

    for over in (rows, more):
        assert chain("a").add_map("m", step, over=over, into="scores").add_edge("a", "m").validate() == []


def test_an_async_function_cannot_run_in_a_thread() -> None:
    async def fetch(state: Any) -> None: ...

    graph = Graph("g").add_node("a", fetch, run_in="thread").set_entry_point("a")
    assert "async" in only(graph, "bad_option").message


@pytest.mark.parametrize("name", ["a/b", "a#1"])
def test_a_name_may_not_look_like_an_address(name: str) -> None:
    assert problems(chain(name)) == [("bad_option", name)]


def test_a_node_without_a_name_is_told() -> None:
    graph = chain("a")
    graph.node(functools.partial(step))

    assert only(graph, "bad_option").hint == "give it name="


# --- conditions and routers


async def later(state: Any) -> bool:
    return True


class Later:
    async def __call__(self, state: Any) -> bool:
        return True


@pytest.mark.parametrize(
    "condition",
    [later, Later(), functools.partial(later), "x > 1", 5, lambda: True, lambda a, b: True],
    ids=["async", "async object", "async partial", "text", "number", "no argument", "two arguments"],
)
def test_bad_condition(condition: Any) -> None:
    problem = only(chain("a", "b").add_edge("b", END, when=condition), "bad_condition")

    assert problem.where == "b -> END"
    assert problem.hint


@pytest.mark.parametrize(
    "condition",
    [yes, lambda s, limit=3: True, functools.partial(operator.contains, [1]), bool],
    ids=["function", "lambda with a default", "partial", "class"],
)
def test_whatever_takes_the_state_is_a_condition(condition: Any) -> None:
    assert chain("a", "b").add_edge("b", END, when=condition).validate() == []


@pytest.mark.parametrize("router", [later, "b", None], ids=["async", "text", "nothing"])
def test_a_bad_router_is_a_bad_condition(router: Any) -> None:
    graph = Graph("g").add_node("a", step).add_node("b", step).set_entry_point("a")

    assert only(graph.add_choice("a", router, ["b"]), "bad_condition").where == "a -> b"


def test_a_choice_needs_targets() -> None:
    assert problems(chain("a").add_choice("a", yes, [])) == [("bad_condition", "a -> ?")]


def test_an_edge_has_one_kind_of_condition() -> None:
    graph = chain("a", "b").add_edge("a", "b", when=yes, on_error=ValueError)

    assert "when and on_error" in only(graph, "bad_condition").message


# --- state


@pytest.mark.parametrize(
    "reducer",
    [5, "append", lambda a: a, later, Reduce(cast(Any, 3))],
    ids=["number", "name", "one argument", "async", "Reduce"],
)
def test_bad_reducer(reducer: Any) -> None:
    problem = only(chain("a", reducers={"notes": reducer}), "bad_reducer")

    assert problem.where == "state"
    assert "'notes'" in problem.message
    assert problem.hint


def test_a_bad_reducer_in_an_annotation_is_found() -> None:
    class State(TypedDict):
        notes: Annotated[list[str], Reduce(len)]

    assert problems(chain("a", state=State)) == [("bad_reducer", "state")]


def test_two_different_reducers_for_one_key_are_refused() -> None:
    assert problems(chain("a", state=Typed, reducers={"notes": max})) == [("bad_reducer", "state")]


def test_a_reducer_for_a_key_that_does_not_exist_is_an_unknown_key() -> None:
    problem = only(chain("a", state=Typed, reducers={"note": operator.add}), "unknown_key")

    assert problem.hint == "did you mean 'notes'?"


@pytest.mark.parametrize("state", [int, "dict", 5, list[str]])
def test_what_is_no_state_type_is_a_type_mismatch(state: Any) -> None:
    assert "TypedDict" in only(chain("a", state=state), "type_mismatch").hint


class WrongScore(TypedDict):
    score: str


class OtherKey(TypedDict):
    scores: float


def reads_wrong_score(state: WrongScore) -> None: ...
def reads_other_key(state: OtherKey) -> None: ...
def reads_number(state: int) -> None: ...
def reads_nothing_known(state: "Unheard") -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("function", "code"),
    [
        (reads_wrong_score, "type_mismatch"),
        (reads_number, "type_mismatch"),
        (reads_nothing_known, "type_mismatch"),
        (reads_other_key, "unknown_key"),
    ],
)
def test_an_input_that_the_state_cannot_give_is_refused(function: Any, code: str) -> None:
    problem = only(Graph("g", state=Typed).add_node("a", function).set_entry_point("a"), code)

    assert problem.where == "a"
    assert problem.hint


class Count(TypedDict):
    n: int


class Text(TypedDict):
    n: str


def counts(state: dict[str, Any]) -> Count:
    return {"n": 1}


def reads_text(state: Text) -> None: ...


def test_type_mismatch() -> None:
    graph = Graph("g").add_node("a", counts).add_node("b", reads_text).add_edge("a", "b").set_entry_point("a")

    problem = only(graph, "type_mismatch")
    assert problem.where == "a -> b"
    assert "'n'" in problem.message


@pytest.mark.parametrize(
    "add",
    [
        lambda g: g.add_wait("w", signal="go", into="approval"),
        lambda g: g.add_map("w", step, over="row", into="score"),
        lambda g: g.add_map("w", step, over=yes, into="scores"),
        lambda g: g.add_node("w", step, produces=["scores"]),
        lambda g: g.add_node("w", step, accepts=["scores"]),
        lambda g: g.add_node("w", step, produces=OtherKey),
    ],
    ids=["wait into", "map over", "map into", "produces", "accepts", "produces a type"],
)
def test_unknown_key(add: Callable[[Graph], Graph]) -> None:
    problem = only(add(Graph("g", state=Typed)).set_entry_point("w"), "unknown_key")

    assert problem.where == "w"
    assert problem.hint


# --- functions


def goes(state: Any) -> Any:
    return Goto("b")


def says_it_goes(state: Any) -> Goto | None: ...


@pytest.mark.parametrize("function", [goes, says_it_goes])
def test_undeclared_goto(function: Any) -> None:
    problem = only(Graph("g").add_node("a", function).set_entry_point("a"), "undeclared_goto")

    assert problem.where == "a"
    assert "goto=" in problem.hint


def test_a_declared_goto_is_an_edge() -> None:
    assert Graph("g").add_node("a", goes, goto="b").add_node("b", step).set_entry_point("a").validate() == []


def test_a_goto_to_nowhere_is_an_unknown_node() -> None:
    graph = Graph("g").add_node("a", goes, goto=["draff"]).add_node("draft", step).set_entry_point("a", "draft")

    assert only(graph, "unknown_node").where == "a -> draff"


def test_capacity_out_of_what_holds_no_worker_is_refused() -> None:
    graph = chain("a").add_wait("w", signal="go", into="text").add_edge("a", "w").add_edge("w", END, capacity=3)

    problem = only(graph, "bad_option")
    assert problem.where == "w -> END"
    assert "a wait" in problem.message


def test_limit_outside_loop() -> None:
    graph = chain("a", "b").add_edge("a", "b", when=yes, max_iterations=3)

    problem = only(graph, "limit_outside_loop")
    assert problem.where == "a -> b"
    assert problem.hint


def test_a_limit_on_the_way_to_the_end_is_outside_any_loop() -> None:
    assert problems(chain("a").add_edge("a", END, max_iterations=3)) == [("limit_outside_loop", "a -> END")]


def test_unknown_tool() -> None:
    graph = Graph("g").add_node("a", "clena").set_entry_point("a")

    assert only(graph, "unknown_tool").where == "a"
    assert only(graph, "unknown_tool", tools={"clean": step}).hint == "did you mean 'clean'?"
    assert graph.validate(tools={"clena": step}) == []


def scaled(state: Any, by: float, *, offset: int = 0) -> None: ...


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (None, "'by' gets nothing"),
        ({"offset": 1}, "'by' gets nothing"),
        ({"by": 1, "factor": 2}, "'factor'"),
        ([1], "must be a mapping"),
    ],
    ids=str,
)
def test_bad_params(params: Any, message: str) -> None:
    found = Graph("g").add_node("a", scaled, params=params).set_entry_point("a").validate()

    assert {problem.code for problem in found} == {"bad_params"}
    assert any(message in problem.message for problem in found)


def test_only_functions_take_params() -> None:
    graph = chain("a").add_node("sub", chain("x"), params={"n": 1}).add_edge("a", "sub")

    assert problems(graph) == [("bad_params", "sub")]


def test_a_context_and_params_may_stand_beside_the_state() -> None:
    def node(state: Any, by: int, context: Context, more: int = 3) -> None: ...

    assert Graph("g").add_node("a", node, params={"by": 2}).set_entry_point("a").validate() == []


# --- graphs inside graphs


def test_subgraph_cycle() -> None:
    outer, inner = chain("a"), Graph("inner")
    inner.add_node("back", outer).set_entry_point("back")
    outer.add_node("sub", inner).add_edge("a", "sub")

    problem = only(outer, "subgraph_cycle")
    assert problem.where == "sub/back"
    assert "'g' in 'inner' in 'g'" in problem.message


def test_the_problems_of_a_subgraph_are_placed_under_its_node() -> None:
    inner = chain("x", "y").add_edge("x", "z")

    assert problems(chain("a").add_node("sub", inner).add_edge("a", "sub")) == [("unknown_node", "sub/x -> z")]


def test_another_reducer_inside_a_subgraph_is_refused() -> None:
    inner = chain("x", reducers={"notes": max})
    graph = chain("a", reducers={"notes": operator.add}).add_node("sub", inner).add_edge("a", "sub")

    assert only(graph, "bad_reducer").where == "sub"


@attrs.frozen
class Inner:
    text: str
    needed: int


def test_what_a_subgraph_needs_must_be_passed_to_it() -> None:
    graph = Graph("g", state=Typed).add_node("sub", chain("x", state=Inner)).set_entry_point("sub")

    problem = only(graph, "unknown_key")
    assert problem.where == "sub"
    assert "inputs=" in problem.hint


def test_what_is_passed_to_a_subgraph_must_fit() -> None:
    graph = Graph("g", state=Typed).add_node("sub", chain("x", state=WrongScore)).set_entry_point("sub")

    assert only(graph, "type_mismatch").where == "sub"


def test_renamed_keys_must_exist_on_both_sides() -> None:
    options: Any = {"inputs": {"txt": "score"}, "outputs": {"scor": "text"}}
    graph = Graph("g", state=Typed).add_node("sub", chain("x", state=Count), **options).set_entry_point("sub")

    found = graph.validate()
    assert {p.code for p in found} == {"unknown_key"}
    assert len([p for p in found if p.message.startswith(("inputs", "outputs"))]) == 3


# --- warnings


def test_exclusive_join() -> None:
    graph = Graph("g").set_entry_point("a")
    for name in "abc":
        graph.add_node(name, step)
    graph.add_node("j", step, join=2).add_edge("a", "b", when=yes).add_edge("a", "c", otherwise=True)

    problem = only(graph.add_edge(["b", "c"], "j"), "exclusive_join")
    assert (problem.where, problem.severity) == ("j", "warning")
    assert problem.hint
    assert graph.compile() is graph.compile()


def test_a_k_join_of_branches_that_run_together_is_not_warned_of() -> None:
    graph = chain("a", "b").add_node("c", step).add_edge("a", "c").add_node("j", step, join=2)

    assert graph.add_edge(["b", "c"], "j").validate() == []


def test_loop_feeds_join() -> None:
    graph = Graph("g").set_entry_point("a")
    for name in "abc":
        graph.add_node(name, step)
    graph.add_node("j", step).add_edge("a", ["b", "c"]).add_edge("a", "a", when=yes).add_edge(["b", "c"], "j")

    problem = only(graph, "loop_feeds_join")
    assert (problem.where, problem.severity) == ("j", "warning")
    assert "subgraph" in problem.hint


def test_a_join_behind_a_loop_that_is_left_once_is_not_warned_of() -> None:
    graph = chain("a", "b", "j").add_node("c", step).add_edge("a", "a", when=yes, max_iterations=3)
    graph = Graph("g").set_entry_point("a")
    for name in ("a", "x", "b", "c", "j"):
        graph.add_node(name, step)
    graph.add_edge("a", "a", when=yes).add_edge("a", "x", otherwise=True).add_edge("x", ["b", "c"])

    assert graph.add_edge(["b", "c"], "j").validate() == []


def writes_score(state: Any) -> dict[str, Any]:
    return {"score": 1}


def test_write_conflict_at_end() -> None:
    graph = chain("a").add_node("b", writes_score).add_node("c", step, produces="score").add_edge("a", ["b", "c"])

    problem = only(graph, "write_conflict_at_end")
    assert (problem.where, problem.severity) == ("c", "warning")
    assert "'score'" in problem.message
    assert "'b'" in problem.message


@pytest.mark.parametrize("settings", [{"conflicts": "last"}, {"reducers": {"score": operator.add}}], ids=str)
def test_two_ends_that_may_write_one_key_are_not_warned_of(settings: Any) -> None:
    graph = chain("a", **settings).add_node("b", writes_score).add_node("c", writes_score)

    assert graph.add_edge("a", ["b", "c"]).validate() == []


def test_ends_that_are_not_both_certain_are_not_warned_of() -> None:
    graph = chain("a").add_node("b", writes_score).add_node("c", writes_score)

    assert graph.add_edge("a", "b", when=yes).add_edge("a", "c", otherwise=True).validate() == []


# --- all at once


def test_all_problems_are_told_at_once_errors_first() -> None:
    graph = Graph("g", state=Typed, on_failure="panic", reducers={"nots": operator.add})  # type: ignore[arg-type]
    graph.add_node("a", step, timeout=-1, concurrency=0).add_node("a", step).add_node("b", "tool").add_node("c", 5)
    graph.add_node("j", step, join=7).add_node("w", step, join="some")  # type: ignore[arg-type]
    graph.add_edge("a", "nowhere").add_edge("a", "b").add_edge("a", "b").add_edge(END, "a")
    graph.add_edge("a", "j", when="x", max_iterations=3).add_edge("a", "w")  # type: ignore[arg-type]
    graph.set_entry_point("a")

    found = problems(graph)

    assert sorted(found) == sorted(
        [
            ("unknown_key", "state"),
            ("bad_option", "g"),
            ("bad_option", "a"),
            ("bad_option", "a"),
            ("duplicate_node", "a"),
            ("unknown_tool", "b"),
            ("bad_option", "c"),
            ("bad_join", "w"),
            ("unknown_node", "a -> nowhere"),
            ("duplicate_edge", "a -> b"),
            ("edge_from_end", "END -> a"),
            ("bad_condition", "a -> j"),
            ("unreachable", "c"),
            ("bad_join", "j"),
            ("limit_outside_loop", "a -> j"),
        ]
    )


def test_compile_raises_every_error_and_no_warning() -> None:
    graph = chain("a").add_node("b", writes_score).add_node("c", writes_score).add_edge("a", ["b", "c", "d"])
    graph.add_node("a", step)

    with pytest.raises(GraphInvalid) as caught:
        graph.compile()

    assert [p.code for p in caught.value.problems] == ["duplicate_node", "unknown_node"]
    assert [p.severity for p in graph.validate()] == ["error", "error", "warning"]


def test_every_code_of_the_public_face_has_a_test_here() -> None:
    tests = {name.removeprefix("test_") for name in globals()}

    assert tests >= ERRORS | WARNINGS


# --- values that stand alone


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        ("10/s", Rate(10, 1)),
        ("100/min", Rate(100, 60)),
        ("5/10s", Rate(5, 10)),
        (" 1.5 / hour ", Rate(1.5, 3600)),
        (4, Rate(4, 1)),
    ],
)
def test_a_rate_is_so_many_per_time(rate: Any, expected: Rate) -> None:
    assert parse_rate(rate) == expected


@pytest.mark.parametrize("rate", ["10", "x/s", "10/0s", "-1/s", "10/s/s", "", "/s", "nan/s", True, None, 0])
def test_a_rate_that_is_none_is_refused_with_the_cure(rate: Any) -> None:
    with pytest.raises(ValueError, match="10/s"):
        parse_rate(rate)


@pytest.mark.parametrize("arguments", [{"size": 0}, {"size": 1.5}, {"size": 2, "wait": 0}, {"size": 2, "wait": "x"}])
def test_a_batch_refuses_nonsense(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be a"):
        Batch(**arguments)


@pytest.mark.parametrize(
    ("add", "code"),
    [
        (lambda g: g.add_map("m", step, over="text", into="text", item="x"), "bad_option"),
        (lambda g: g.add_map("m", step, over="text", into="text", concurrency=0), "bad_option"),
        (lambda g: g.add_map("m", step, over="text", into="text", on_item_error="forget"), "bad_option"),
        (lambda g: g.add_map("m", step, over=5, into="text"), "bad_option"),
        (lambda g: g.add_map("m", step, over="text", into=5), "bad_option"),
        (lambda g: g.add_map("m", scaled, over="text", into="text"), "type_mismatch"),
        (lambda g: g.add_map("m", lambda item, state, more: None, over="text", into="text"), "bad_params"),
        (lambda g: g.add_map("m", "no tool", over="text", into="text"), "unknown_tool"),
        (lambda g: g.add_map("m", chain("x", state=Typed), over="text", into="text", item="row"), "unknown_key"),
        (lambda g: g.add_map("m", chain("x"), over="text", into="text", run_in="process"), "bad_option"),
        (lambda g: g.add_wait("m", signal=[], into="text"), "bad_option"),
        (lambda g: g.add_wait("m", signal=5, into="text"), "bad_option"),
        (lambda g: g.add_wait("m", signal="go", into="text", timeout=-1), "bad_option"),
        (lambda g: g.add_wait("m", signal="go", into="text", batch=Batch(2)), "bad_option"),
        (lambda g: g.add_wait("m", signal="go", into="text", params={}), "bad_params"),
    ],
    ids=range(15),
)
def test_faults_of_maps_and_waits_are_found_like_any_other(add: Callable[[Graph], Graph], code: str) -> None:
    assert only(add(Graph("g", state=Typed)).set_entry_point("m"), code).where == "m"


@pytest.mark.parametrize("name", ["", None, 5])
def test_a_graph_needs_a_name(name: Any) -> None:
    graph = Graph(name).add_node("a", step).set_entry_point("a")

    assert only(graph, "bad_option").where == "graph"


@pytest.mark.parametrize("reducers", [[operator.add], 5])
def test_reducers_are_a_mapping(reducers: Any) -> None:
    assert "mapping" in only(chain("a", reducers=reducers), "bad_reducer").message


@pytest.mark.parametrize("name", [5, None, ("a", "b")])
def test_the_name_of_a_node_is_text(name: Any) -> None:
    assert problems(chain("a").add_node(name, step)) == [("bad_option", str(name))]


def test_an_end_that_writes_a_key_only_sometimes_is_not_warned_of() -> None:
    def sometimes(state: Any) -> Any:
        if state:
            return {"score": 1}

    graph = chain("a").add_node("b", sometimes).add_node("c", writes_score).add_edge("a", ["b", "c"])

    assert graph.validate() == []
