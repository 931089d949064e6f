"""How files travel through graphs: what is checked before a run, what comes where, and what is said if it does not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import anyio
import pytest
from jsonschema import Draft202012Validator

from engine import (
    END,
    Cache,
    Context,
    Engine,
    File,
    FileMismatch,
    FilesUnavailable,
    Goto,
    Graph,
    GraphInvalid,
    MemoryResolver,
    Retry,
    RunFailed,
    StateInvalid,
    ToolRegistry,
    UnknownKey,
)
from engine.definition_format import json_schema

CSV = File.from_bytes("a,b\n1,2\n", "orders.csv")


def gives(name: str, text: str = "x") -> Callable[..., Any]:
    async def node(state: Any) -> File:
        return File.from_bytes(text, name)

    return node


async def takes_one(table: File, state: Any) -> dict[str, Any]:
    return {"got": f"{table.name}: {await table.text()}"}


async def takes_all(tables: list[File], state: Any) -> dict[str, Any]:
    return {"got": [table.name for table in tables]}


def takes_two(table: File, notes: File, state: Any) -> dict[str, Any]:
    return {"got": (table.name, notes.name)}


def maybe_takes(state: Any, table: File | None = None) -> dict[str, Any]:
    return {"got": None if table is None else table.name}


def problems(graph: Graph) -> list[tuple[str, str]]:
    return [(problem.code, str(problem)) for problem in graph.validate() if problem.severity == "error"]


async def mismatch(graph: Graph, **options: Any) -> FileMismatch:
    async with Engine() as engine:
        with pytest.raises(RunFailed) as caught:
            await engine.run(graph, **options)
    (failure,) = caught.value.exceptions
    assert isinstance(failure.__cause__, FileMismatch)
    return failure.__cause__


# --- coming and going -----------------------------------------------------------------------------------


async def test_a_file_goes_from_the_node_that_made_it_to_the_one_that_takes_it() -> None:
    graph = Graph("g").add_node("make", gives("x.csv", "1,2"), produces="text/csv")
    graph.add_node("take", takes_one, accepts="text/csv").add_edge("make", "take").set_entry_point("make")
    async with Engine() as engine:
        result = await engine.run(graph)

    assert result.state == {"got": "x.csv: 1,2"}
    assert [file.name for file in result.files] == ["x.csv"]  # what makes none passes on what it was given


async def test_a_node_returns_files_and_an_update() -> None:
    one, other = File.from_bytes("1", "1.txt"), File.from_bytes("2", "2.txt")
    ways: list[tuple[Any, list[str], dict[str, Any]]] = [
        (one, ["1.txt"], {}),
        ([one, other], ["1.txt", "2.txt"], {}),
        ((one, other), ["1.txt", "2.txt"], {}),
        ((one, {"n": 1}), ["1.txt"], {"n": 1}),
        (({"n": 1}, one), ["1.txt"], {"n": 1}),
        ((one, other, {"n": 1}), ["1.txt", "2.txt"], {"n": 1}),
        (([one, other], {"n": 1}), ["1.txt", "2.txt"], {"n": 1}),
        ([], [], {}),
        ({"n": 1}, [], {"n": 1}),
        (None, [], {}),
    ]
    async with Engine() as engine:
        for number, (returned, names, state) in enumerate(ways):
            graph = Graph(f"g{number}").add_node("make", lambda s, it=returned: it, produces="text/plain")
            result = await engine.run(graph.set_entry_point("make"))

            assert [file.name for file in result.files] == names, returned
            assert result.state == state, returned


async def test_files_are_returned_by_their_roles_beside_the_update() -> None:
    async def make(state: Any) -> Any:
        pages = [File.from_bytes(str(n), f"{n}.html") for n in range(2)]
        return {"table": File.from_bytes("t", "t.csv"), "pages": pages, "n": 1}

    async def take(table: File, pages: list[File], state: Any) -> Any:
        return {"got": (table.name, [page.name for page in pages])}

    graph = Graph("g").add_node("make", make, produces={"table": "text/csv", "pages": "text/html"})
    graph.add_node("take", take, accepts={"table": "text/*", "pages": "text/*"})
    graph.add_edge("make", "take").set_entry_point("make")
    async with Engine() as engine:
        result = await engine.run(graph)

    assert result.state == {"n": 1, "got": ("t.csv", ["0.html", "1.html"])}


async def test_what_a_run_is_given_goes_to_its_entry_points(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_text("a,b\n")
    graph = Graph("g").add_node("take", takes_one, accepts="text/csv").set_entry_point("take")
    async with Engine() as engine:
        for given in (CSV, tmp_path / "orders.csv", str(tmp_path / "orders.csv")):
            assert (await engine.run(graph, files={"table": given})).state["got"].startswith("orders.csv: a,b\n")
        # The bytes of a file that nobody has named are of the type that they look like.
        with pytest.raises(RunFailed):
            await engine.run(graph, files={"table": b"a,b\n"})


async def test_the_role_decides_where_types_do_not() -> None:
    graph = Graph("g").add_node("take", takes_two, accepts="text/*").set_entry_point("take")
    async with Engine() as engine:
        given = {"notes": File.from_bytes("n", "n.txt"), "table": CSV}
        assert (await engine.run(graph, files=given)).state == {"got": ("orders.csv", "n.txt")}


async def test_the_more_a_parameter_says_of_a_type_the_sooner_it_gets_it() -> None:
    graph = Graph("g").add_node("take", takes_two, accepts={"table": "text/csv", "notes": "text/*"})
    async with Engine() as engine:
        given = {"x": File.from_bytes("n", "n.txt"), "y": CSV}
        assert (await engine.run(graph.set_entry_point("take"), files=given)).state["got"] == ("orders.csv", "n.txt")


async def test_a_parameter_that_can_do_without_is_given_none() -> None:
    graph = Graph("g").add_node("take", maybe_takes, accepts="text/csv").set_entry_point("take")
    async with Engine() as engine:
        assert (await engine.run(graph)).state == {"got": None}
        assert (await engine.run(graph, files={"x": CSV})).state == {"got": "orders.csv"}


async def test_one_that_has_no_default_is_given_none_too_and_one_that_has_keeps_its_own() -> None:
    def without(table: File | None, state: Any) -> Any:
        return {"got": table}

    def with_one(state: Any, table: File = CSV) -> Any:
        return {"own": table.name}

    graph = Graph("g").add_node("without", without).add_node("with", with_one).set_entry_point("without", "with")
    async with Engine() as engine:
        assert (await engine.run(graph)).state == {"got": None, "own": "orders.csv"}


@pytest.mark.parametrize("cached", ["make", "take"])
def test_a_cache_is_refused_where_files_are_taken_or_made(cached: str) -> None:
    options: dict[str, Any] = {"make": {}, "take": {}}
    options[cached] = {"cache": Cache(ttl=60, key=len)}
    graph = Graph("g").add_node("make", gives("x.csv"), produces="text/csv", **options["make"])
    graph.add_node("take", takes_one, **options["take"]).add_edge("make", "take").set_entry_point("make")

    ((code, said),) = problems(graph)
    assert code == "bad_option"
    assert f"{cached}: cache is for values: this node takes or makes files" in said


async def test_each_channel_brings_what_its_source_gives() -> None:
    graph = Graph("g").add_node("load", gives("raw.csv"), produces="text/csv")
    graph.add_node("profile", gives("p.json"), produces="application/json").add_node("look", lambda s: {"seen": 1})
    graph.add_node("report", takes_all)
    graph.add_edge("load", ["profile", "look", "report"]).add_edge(["profile", "look"], "report")
    async with Engine() as engine:
        result = await engine.run(graph.set_entry_point("load"))

    # Once, though it came by two ways: along the edge, and through what only looked.
    assert result.state["got"] == ["raw.csv", "p.json"]


async def test_what_comes_does_not_depend_on_who_was_first() -> None:
    found = set()
    async with Engine() as engine:
        for number, order in enumerate(itertools.permutations((0.0, 0.01, 0.02))):
            graph = Graph(f"g{number}").add_node("join", takes_all)

            def late(name: str, delay: float) -> Callable[..., Any]:
                async def node(state: Any) -> File:
                    await anyio.sleep(delay)
                    return File.from_bytes(name, f"{name}.txt")

                return node

            for name, delay in zip("abc", order, strict=True):
                graph.add_node(name, late(name, delay), produces="text/plain").add_edge(name, "join")
            result = await engine.run(graph.set_entry_point("c", "a", "b"))
            found.add((*result.state["got"], *(file.name for file in result.files)))

    assert found == {("a.txt", "b.txt", "c.txt", "a.txt", "b.txt", "c.txt")}


async def test_in_a_loop_each_round_has_its_own_files() -> None:
    async def draft(state: Any, page: File | None = None) -> Any:
        return File.from_bytes("" if page is None else await page.text() + "x", "page.txt")

    graph = Graph("g").add_node("draft", draft, produces="text/plain")
    graph.add_node("count", lambda s: {"n": s.get("n", 0) + 1}).add_edge("draft", "count")
    graph.add_edge("count", "draft", when=lambda s: s["n"] < 4, max_iterations=10)
    graph.add_edge("count", END, otherwise=True).set_entry_point("draft")
    async with Engine() as engine:
        result = await engine.run(graph)

    assert [await file.text() for file in result.files] == ["xxx"]


async def test_a_choice_brings_the_files_of_the_branch_taken() -> None:
    graph = Graph("g").add_node("start", lambda s: None).add_node("take", takes_one, accepts="text/*")
    for name in ("left", "right"):
        graph.add_node(name, gives(f"{name}.csv"), produces="text/csv").add_edge(name, "take")
    graph.add_choice("start", lambda s: s["way"], ["left", "right"]).set_entry_point("start")
    assert problems(graph) == []  # only one of them can come
    async with Engine() as engine:
        for way in ("left", "right"):
            assert (await engine.run(graph, {"way": way})).state["got"] == f"{way}.csv: x"


async def test_an_error_edge_brings_what_its_source_was_given() -> None:
    async def fails(table: File, state: Any) -> File:
        raise ValueError("no")

    graph = Graph("g").add_node("fails", fails, produces="application/json").add_node("mend", takes_one)
    graph.add_edge("fails", "mend", on_error=ValueError).set_entry_point("fails")
    async with Engine() as engine:
        assert (await engine.run(graph, files={"t": CSV})).state["got"] == "orders.csv: a,b\n1,2\n"


async def test_files_travel_with_a_goto() -> None:
    async def go(state: Any) -> Any:
        return Goto("take", (File.from_bytes("1", "x.csv"), {"n": 1}))

    graph = Graph("g").add_node("go", go, goto=["take"], produces="text/csv").add_node("take", takes_one)
    async with Engine() as engine:
        assert (await engine.run(graph.set_entry_point("go"))).state == {"n": 1, "got": "x.csv: 1"}


async def test_files_go_into_a_subgraph_and_come_out_of_it() -> None:
    async def upper(table: File, state: Any) -> File:
        return File.from_bytes((await table.text()).upper(), "upper.csv")

    inner = Graph("inner").add_node("upper", upper, accepts="text/csv", produces="text/csv").set_entry_point("upper")
    graph = Graph("g").add_node("make", gives("x.csv", "abc"), produces="text/csv").add_node("sub", inner)
    graph.add_node("take", takes_one, accepts="text/csv")
    graph.add_edge("make", "sub").add_edge("sub", "take").set_entry_point("make")
    async with Engine() as engine:
        assert (await engine.run(graph)).state == {"got": "upper.csv: ABC"}


async def test_files_pass_through_graphs_maps_and_waits_that_know_nothing_of_them() -> None:
    class Inner(TypedDict):
        n: int

    inner = Graph("inner", state=Inner).add_node("add", lambda s: {"n": s["n"] + 1}).set_entry_point("add")
    graph = Graph("g").add_node("make", gives("x.csv"), produces="text/csv").add_node("sub", inner)
    graph.add_map("each", lambda item: item * 2, over=lambda s: [1, 2], into="doubled")
    graph.add_wait("wait", signal="go", into="word").add_node("take", takes_one)
    graph.add_edge("make", "sub").add_edge("sub", "each").add_edge("each", "wait").add_edge("wait", "take")
    async with Engine() as engine:
        run = await engine.submit(graph.set_entry_point("make"), {"n": 1})
        await run.signal("go", "now")
        result = await run.result()

    assert result.state == {"n": 2, "doubled": [2, 4], "word": "now", "got": "x.csv: x"}


async def test_files_may_be_values_of_the_state_and_items_of_a_map() -> None:
    class State(TypedDict, total=False):
        tables: list[File]
        sizes: list[int]
        best: File

    async def size(table: File) -> int:
        return len(await table.read())

    async def choose(state: State) -> Any:
        return {"best": File.from_bytes("best", "best.txt")}

    graph = Graph("g", state=State).add_map("each", size, over="tables", into="sizes").add_node("choose", choose)
    graph.add_edge("each", "choose").set_entry_point("each")
    async with Engine() as engine:
        result = await engine.run(graph, {"tables": [File.from_bytes("x" * n, f"{n}.txt") for n in range(3)]})
        assert result.state["sizes"] == [0, 1, 2]
        assert result.state["best"].is_kept
        assert all(table.is_kept for table in result.state["tables"])
        with pytest.raises(StateInvalid, match=r"tables\[0\]: expected File"):
            await engine.run(graph, {"tables": ["no file"]})


async def test_a_map_gives_files_as_its_results() -> None:
    async def make(number: int) -> File:
        return File.from_bytes(f"{number}", f"{number}.txt")

    graph = Graph("g").add_map("make", make, over=lambda s: range(3), into="pages").add_node("take", takes_all)
    graph.add_edge("make", "take").set_entry_point("make")
    async with Engine() as engine:
        result = await engine.run(graph, files={"x": CSV})

    assert [await page.text() for page in result.state["pages"]] == ["0", "1", "2"]


async def test_no_state_shows_what_is_carried() -> None:
    seen: list[Any] = []

    def look(table: File, state: Any) -> None:
        seen.append(dict(state))

    graph = Graph("g").add_node("look", look).add_node("again", lambda s: seen.append(dict(s)))
    graph.add_edge("look", "again", when=lambda s: seen.append(dict(s)) or True).set_entry_point("look")
    async with Engine() as engine:
        run = await engine.submit(graph, {"n": 1}, files={"t": CSV})
        result = await run.result()
        with pytest.raises(StateInvalid, match="the engine's own"):
            await engine.submit(graph, {"$files": []})
        with pytest.raises(StateInvalid, match="the engine's own"):
            await engine.submit(graph, {"$files": (CSV,)})

    assert seen == [{"n": 1}] * 3
    assert result.state == run.state == {"n": 1}
    assert run.files == result.files


async def test_where_no_files_travel_their_key_is_one_like_any_other() -> None:
    graph = Graph("g").add_node("put", lambda s: {"$files": (1,)}).set_entry_point("put")
    async with Engine() as engine:
        run = await engine.submit(graph)
        result = await run.result()
    assert (result.state, result.files, run.files) == ({"$files": (1,)}, (), ())


async def test_a_mapping_under_a_role_is_no_list_of_paths() -> None:
    graph = Graph("g").add_node("take", takes_one).set_entry_point("take")
    async with Engine() as engine:
        with pytest.raises(FileMismatch, match="the file 't' is a File, a path or bytes, found"):
            await engine.submit(graph, files={"t": {"orders.csv": b"x"}})


@pytest.mark.parametrize("isolation", ["shallow", "deep", "check"])
async def test_files_travel_whatever_the_isolation(isolation: Any) -> None:
    graph = Graph("g", isolation=isolation, check="always").add_node("make", gives("x.csv"), produces="text/csv")
    graph.add_node("take", takes_one).add_edge("make", "take").set_entry_point("make")
    async with Engine() as engine:
        assert (await engine.run(graph, {"n": [1]})).state == {"n": [1], "got": "x.csv: x"}


@pytest.mark.parametrize("place", ["loop", "thread", "process"])
async def test_files_are_taken_and_made_wherever_a_node_runs(place: str, tmp_path: Path) -> None:
    graph = Graph("g").add_node("upper", in_any_place, accepts="text/csv", produces="text/csv", run_in=place)
    async with Engine(f"sqlite:///{tmp_path}/runs.db") as engine:
        result = await engine.run(graph.set_entry_point("upper"), {"n": 1}, files={"table": CSV})

    assert result.state == {"n": 2}
    assert await result.files[0].text() == "A,B\n1,2\n"
    assert result.files[0].is_kept


def in_any_place(state: dict[str, Any], table: File) -> Any:
    state["n"] += 1
    with table.open() as stream:
        return File.from_bytes(stream.read().upper(), "upper.csv")


async def test_a_node_asks_for_files_and_keeps_some_by_its_context() -> None:
    async def node(state: Any, ctx: Context) -> Any:
        return {"kept": await ctx.files.keep(File.from_bytes("x", "x.txt"))}

    graph = Graph("g").add_node("node", node, produces="text/csv").set_entry_point("node")
    async with Engine() as engine:
        kept = (await engine.run(graph)).state["kept"]
        assert await (await engine.files.get(kept.digest)).read() == b"x"


def test_a_sync_program_gives_files_and_gets_some() -> None:
    graph = Graph("g").add_node("upper", in_any_place, accepts="text/csv", produces="text/csv").set_entry_point("upper")
    with Engine.blocking() as engine:
        run = engine.submit(graph, {"n": 1}, files={"table": CSV})
        assert run.result().files[0].blocking.text() == "A,B\n1,2\n"
        assert run.files == run.result().files
    assert Engine().run_sync(graph, {"n": 1}, files={"table": CSV}).files[0].blocking.text() == "A,B\n1,2\n"


# --- what is refused before a run -----------------------------------------------------------------------


def test_an_edge_along_which_nothing_can_be_taken_is_refused_naming_both() -> None:
    graph = Graph("g").add_node("make", gives("x.json"), produces="application/json")
    graph.add_node("take", takes_one, accepts="text/csv").add_edge("make", "take").set_entry_point("make")

    ((code, said),) = problems(graph)
    assert code == "type_mismatch"
    assert "at make -> take" in said
    assert "application/json of 'make'; 'take' takes 'table' (text/csv)" in said


def test_so_is_one_where_it_was_only_passed_on() -> None:
    graph = Graph("g").add_node("make", gives("x.json"), produces="application/json").add_node("look", lambda s: None)
    graph.add_node("take", takes_one, accepts="text/csv").add_edge("make", "look").add_edge("look", "take")

    ((_, said),) = problems(graph.set_entry_point("make"))
    assert "at look -> take: nothing that comes along it can be taken: application/json of 'make'" in said


@pytest.mark.parametrize(
    ("produces", "accepts", "sound"),
    [
        ("text/csv", "text/*", True),
        ("text/*", "text/csv", True),
        ("*/*", "text/csv", True),
        ("application/ld+json", "application/*+json", True),
        ("application/json", "application/*+json", False),
        ("text/csv", "text/csv; charset=utf-8", False),
        ("text/csv; charset=utf-8", "text/csv", True),
        (["text/html", "text/csv"], "text/csv", True),
        (["text/html", "image/png"], "text/csv", False),
        ("text/csv", ["text/html", "text/csv"], True),
        ("Text/CSV", "text/csv", True),
    ],
)
def test_edges_are_checked_by_ranges(produces: Any, accepts: Any, sound: bool) -> None:
    graph = Graph("g").add_node("make", gives("x"), produces=produces).add_node("take", takes_one, accepts=accepts)
    graph.add_edge("make", "take").set_entry_point("make")

    assert (problems(graph) == []) is sound


def test_a_file_that_could_go_to_two_parameters_is_refused_with_both() -> None:
    graph = Graph("g").add_node("make", gives("x.csv"), produces="text/csv")
    graph.add_node("take", takes_two, accepts="text/*").add_edge("make", "take").set_entry_point("make")

    said = " ".join(said for _, said in problems(graph))
    assert "text/csv of 'make' can go to 'table' (text/*) and 'notes' (text/*)" in said


def test_two_files_for_a_parameter_that_takes_one_are_refused_with_both() -> None:
    graph = Graph("g").add_node("take", takes_one, accepts="text/*")
    for name in "ab":
        graph.add_node(name, gives(f"{name}.csv"), produces="text/csv").add_edge(name, "take")

    ((_, said),) = problems(graph.set_entry_point("a", "b"))
    assert "takes one file, and these come together: text/csv of 'a', text/csv of 'b'" in said
    assert "list[File]" in said


def test_roles_settle_what_types_do_not() -> None:
    graph = Graph("g").add_node("take", takes_two, accepts="text/*")
    for name in ("table", "notes"):
        graph.add_node(name, gives("x.csv"), produces={name: "text/csv"}).add_edge(name, "take")

    assert problems(graph.set_entry_point("table", "notes")) == []


def test_a_parameter_that_nothing_can_go_to_is_refused() -> None:
    graph = Graph("g").add_node("make", gives("x.csv"), produces="text/csv")
    graph.add_node("take", takes_two, accepts={"table": "text/csv", "notes": "text/plain"})

    ((_, said),) = problems(graph.add_edge("make", "take").set_entry_point("make"))
    assert "no file that comes can go to its parameter 'notes' (text/plain); what comes is text/csv of 'make'" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"accepts": {"table": "csv"}}, "accepts is wrong: 'csv' is no media type: it has no '/'"),
        ({"accepts": "text/csv; x"}, "'; x' is no parameter"),
        ({"accepts": {"table": 5}}, "is no media type: expected text such as 'text/csv'"),
        ({"accepts": {"table": []}}, "is no media type"),
        ({"accepts": {"tabel": "text/csv"}}, "accepts names 'tabel', which takes no files"),
        ({"produces": "text/"}, "produces is wrong: 'text/' is no media type"),
        ({"produces": {"x": "text"}}, "produces is wrong: 'text' is no media type"),
        ({"produces": {"": "text/csv"}}, "expected a role"),
        ({"batch": 5}, "batch"),
    ],
)
def test_nonsense_is_refused_when_the_graph_is_compiled(options: dict[str, Any], said: str) -> None:
    graph = Graph("g").add_node("take", takes_one, **options).set_entry_point("take")

    found = problems(graph)
    assert {code for code, _ in found} == {"bad_option"}
    assert said in found[0][1]


def test_media_types_are_for_functions_that_take_files() -> None:
    plain = Graph("g").add_node("n", lambda s: None, accepts="text/csv").set_entry_point("n")
    assert "no parameter takes files" in problems(plain)[0][1]
    inner = Graph("inner").add_node("n", lambda s: None).set_entry_point("n")
    for add in (
        lambda g: g.add_node("n", inner, produces="text/csv"),
        lambda g: g.add_wait("n", signal="s", into="x", accepts="text/csv"),
        lambda g: g.add_map("n", lambda item: item, over="rows", into="x", produces={"a": "text/csv"}),
    ):
        graph = add(Graph("g")).set_entry_point("n")
        assert "only a function takes files" in problems(graph)[0][1]


def test_keys_and_media_types_are_declared_side_by_side() -> None:
    class State(TypedDict):
        n: int

    graph = Graph("g", state=State).add_node("make", gives("x.csv"), produces=["text/csv", "n"])
    options: Any = graph.set_entry_point("make").compile().nodes[0].decl.options
    assert (options.produces, [make.range for make in options.makes]) == (frozenset({"n"}), ["text/csv"])

    graph = Graph("g", state=State).add_node("make", gives("x.csv"), produces=["text/csv", "m"])
    assert [code for code, _ in problems(graph.set_entry_point("make"))] == ["unknown_key"]


# --- what is said at run time ---------------------------------------------------------------------------


async def test_a_missing_file_is_told_with_what_was_there() -> None:
    graph = Graph("g").add_node("take", takes_one, accepts="text/csv").set_entry_point("take")

    assert str(await mismatch(graph)) == (
        "node 'take': its parameter 'table' (text/csv) is given no file; there was: no files"
    )
    found = await mismatch(graph, files={"table": File.from_bytes("{}", "x.json")})
    assert found.there == ("table=x.json (application/json)",)


async def test_too_many_files_are_told_with_the_candidates() -> None:
    graph = Graph("g").add_node("take", takes_one, accepts="text/csv").set_entry_point("take")
    found = await mismatch(graph, files={"a": CSV, "b": CSV})

    assert "takes one file, and 2 fit: orders.csv (text/csv), orders.csv (text/csv)" in str(found)


async def test_a_node_that_makes_another_type_than_it_says_has_failed() -> None:
    graph = Graph("g").add_node("make", gives("x.json", "{}"), produces="text/csv").set_entry_point("make")

    assert "it made a file of another type than it says (produces text/csv)" in str(await mismatch(graph))


async def test_a_node_that_does_not_say_that_it_makes_files_has_failed() -> None:
    graph = Graph("g").add_node("make", lambda s: File.from_bytes("", "x.csv")).add_node("take", takes_all)
    found = await mismatch(graph.add_edge("make", "take").set_entry_point("make"))

    assert "declare them: produces='text/csv'" in str(found)


async def test_a_mismatch_goes_along_an_error_edge_like_any_failure() -> None:
    graph = Graph("g").add_node("take", takes_one, accepts="text/csv").add_node("mend", lambda s: {"mended": True})
    graph.add_edge("take", "mend", on_error=FileMismatch).set_entry_point("take")
    async with Engine() as engine:
        assert (await engine.run(graph)).state == {"mended": True}


async def test_files_for_a_graph_that_takes_none_are_refused() -> None:
    graph = Graph("g").add_node("n", lambda s: None).set_entry_point("n")
    async with Engine() as engine:
        with pytest.raises(FileMismatch, match="no node of graph 'g' takes files"):
            await engine.submit(graph, files={"t": CSV})
        graph = Graph("h").add_node("n", takes_all).set_entry_point("n")
        for wrong in ({"": CSV}, {3: CSV}, {"t": 5}, [CSV]):
            with pytest.raises(FileMismatch):
                await engine.submit(graph, files=wrong)  # type: ignore[arg-type]
        assert engine.statistics().submitted == 0


async def test_what_does_not_fit_is_refused_before_a_file_is_kept() -> None:
    class State(TypedDict):
        n: int

    graph = Graph("g", state=State).add_node("n", takes_all).set_entry_point("n")
    async with Engine("memory://") as engine:
        for wrong in ({"n": "x"}, {"m": 1}):
            with pytest.raises((StateInvalid, UnknownKey)):
                await engine.submit(graph, wrong, files={"t": CSV})
        assert list(engine.files.store.all()) == []


async def test_a_file_that_is_kept_by_an_attempt_that_is_tried_again_is_there_once() -> None:
    tries: list[int] = []

    async def make(state: Any) -> Any:
        tries.append(1)
        good = File.from_bytes("x", "x.csv")
        return [good, File.from_bytes("x", "x.json")] if len(tries) == 1 else good

    graph = Graph("g").add_node("make", make, produces="text/csv", retry=Retry(attempts=2, delay=0.001))
    async with Engine() as engine:
        result = await engine.run(graph.set_entry_point("make"))

    assert [file.name for file in result.files] == ["x.csv"]


async def test_an_engine_that_keeps_no_files_says_so(tmp_path: Path) -> None:
    from engine.stores.memory import MemoryStore

    graph = Graph("g").add_node("make", gives("x.csv"), produces="text/csv").set_entry_point("make")
    async with Engine(MemoryStore()) as engine:
        with pytest.raises(RunFailed) as caught:
            await engine.run(graph)
        assert isinstance(caught.value.exceptions[0].__cause__, FilesUnavailable)
        assert "say where: Engine(..., files='s3://bucket')" in str(caught.value.exceptions[0].__cause__)
    async with Engine(MemoryStore(), files=tmp_path / "here") as engine:
        assert len((await engine.run(graph)).files) == 1
    assert (tmp_path / "here").is_dir()


# --- resolvers ------------------------------------------------------------------------------------------


async def test_functions_and_files_come_from_a_resolver_that_is_given() -> None:
    async def upper(table: File, state: Any) -> Any:
        return File.from_bytes((await table.text()).upper(), "upper.csv")

    resolver = MemoryResolver({"upper": upper})
    graph = Graph("g").add_node("u", "upper", accepts="text/csv", produces="text/csv").set_entry_point("u")
    async with Engine(resolver=resolver) as engine:
        result = await engine.run(graph, files={"t": CSV}, run_id="r")

    assert [(token, file.name) for token, file in resolver.saved] == [("r/u#1", "upper.csv")]
    assert await result.files[0].text() == "A,B\n1,2\n"


async def test_a_resolver_of_ones_own_may_have_its_own_ideas() -> None:
    class Library:
        def __init__(self) -> None:
            self.documents = {"orders": File.from_bytes("from the library", "orders.csv")}

        def get_function(self, name: str) -> Any:
            return {"read": takes_one}.get(name)

        async def gather_inputs(self, task: Any, offers: Any) -> Any:
            assert [take.parameter for take in task.takes] == ["table"]
            return {"table": self.documents["orders"]}

        async def save_output(self, task: Any, file: File) -> File:
            raise AssertionError("nothing is made here")

    graph = Graph("g").add_node("read", "read").set_entry_point("read")
    async with Engine(resolver=Library()) as engine:
        assert (await engine.run(graph)).state == {"got": "orders.csv: from the library"}
        with pytest.raises(GraphInvalid, match="unknown_tool"):
            await engine.run(Graph("h").add_node("n", "neither").set_entry_point("n"))


# --- as data, and drawn ---------------------------------------------------------------------------------


def of_data() -> dict[str, Any]:
    return {
        "name": "report",
        "version": "1",
        "entry_point": ["profile", "clean"],
        "nodes": [
            {"name": "profile", "tool": "files_tool", "accepts": "text/csv", "produces": "application/json"},
            {
                "name": "clean",
                "tool": "files_tool",
                "accepts": {"table": ["text/csv", "text/*"]},
                "produces": "text/csv",
            },
            {
                "name": "report",
                "tool": "files_join",
                "accepts": {"profile": "application/json", "table": "text/csv"},
                "produces": {"page": "text/html", "chart": ["image/png", "image/svg+xml"]},
            },
        ],
        "edges": [{"source": "profile", "target": "report"}, {"source": "clean", "target": "report"}],
    }


@pytest.fixture
def tools() -> ToolRegistry:
    registry = ToolRegistry()

    @registry.tool
    async def files_tool(table: File, state: Any) -> File:
        return table

    @registry.tool
    async def files_join(profile: File, table: File, state: Any) -> Any:
        return {"page": File.from_bytes("<html>", "x.html")}

    return registry


def test_a_graph_with_files_is_written_and_read_as_data(tools: ToolRegistry) -> None:
    graph = Graph.from_dict(of_data(), tools=tools)

    assert graph.to_dict() == of_data()
    assert Graph.from_dict(graph.to_dict(), tools=tools).compile(tools).carries
    assert list(Draft202012Validator(json_schema()).iter_errors(of_data())) == []


def test_what_is_wrong_with_files_in_a_definition_is_told_with_its_place(tools: ToolRegistry) -> None:
    data = of_data()
    data["nodes"][0]["produces"] = "image/png"
    data["nodes"][1]["accepts"] = {"table": "csv"}
    data["nodes"][2]["produces"] = {"page": ""}
    with pytest.raises(GraphInvalid) as caught:
        Graph.from_dict(data, tools=tools)

    places = {(problem.code, problem.where) for problem in caught.value.problems}
    assert places == {
        ("bad_option", "/nodes/2/produces/page"),
        ("bad_option", "/nodes/1/accepts"),
        ("type_mismatch", "/edges/0"),
    }


def test_media_types_stand_on_the_edges_of_a_drawing(tools: ToolRegistry) -> None:
    graph = Graph.from_dict(of_data(), tools=tools)

    drawn = graph.draw("mermaid")
    assert 'n0 -->|"text/csv"| n1' in drawn
    assert '|"application/json"|' in drawn
    assert "image/png" not in drawn  # it goes along no edge
    assert "application/json" in graph.draw("svg")
    assert "application/json" in graph.draw("text")
