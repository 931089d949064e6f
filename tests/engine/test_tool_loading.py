"""Tools from modules and installed packages, and from modules that change while runs are in flight."""

import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from engine import (
    BadArguments,
    Context,
    Engine,
    Graph,
    NotTransferable,
    RunFailed,
    ToolConflict,
    ToolRegistry,
    ToolsNotLoaded,
    get_tool_registry,
    load_installed_tools,
    load_tools,
    reload_tools,
)

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes modules, by their dotted names, into a folder that Python finds them in."""
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = get_tool_registry()
    before = registry.current, dict(registry.sources)
    registry.replace(type(before[0])(before[0].tools()))
    modules = set(sys.modules)

    def write(name: str, source: str) -> Path:
        file = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        if (folder := file.with_suffix("")).is_dir():
            file = folder / "__init__.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(source)
        importlib.invalidate_caches()
        return file

    yield write
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    registry.replace(before[0])
    registry.sources = before[1]


def ids(registry: ToolRegistry) -> list[str]:
    return [tool.id for tool in registry.tools()]


CLEAN = """
from engine import ToolRegistry, tool

FACTOR = 1

def helper(x):
    return x * FACTOR

@tool
def clean(x: int = 10):
    '''Cleans.'''
    return {"clean": helper(x)}

@tool("other", version="2")
async def fetch(state):
    return {"other": 2}

def unmarked(x):
    return x

registry = ToolRegistry()

@registry.tool
def apart(state): return FACTOR

LIST = [clean, unmarked]
MAPPING = {"mine": clean, "yours": unmarked}
NUMBER = 5
"""


# --- by name ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("tools_a", ["apart@1", "clean@1", "other@2"]),
        ("tools_a:registry", ["apart@1"]),
        ("tools_a:clean", ["clean@1"]),
        ("tools_a:fetch", ["other@2"]),
        ("tools_a:unmarked", ["unmarked@1"]),
        ("tools_a:LIST", ["clean@1", "unmarked@1"]),
        ("tools_a:MAPPING", ["mine@1", "yours@1"]),
    ],
)
def test_tools_are_loaded_by_name(source: str, found: list[str], write: Write) -> None:
    write("tools_a", CLEAN)

    assert ids(load_tools(source)) == found


def test_a_package_brings_the_tools_of_its_modules(write: Write) -> None:
    write("pack.one", "from engine import tool\n@tool\ndef first(state): ...\n")
    write("pack.two", "from engine import tool\n@tool\ndef second(state): ...\n")
    write("pack", "from . import one, two\n")

    assert ids(load_tools("pack")) == ["first@1", "second@1"]
    assert ids(load_tools("pack.two")) == ["second@1"]


def test_several_sources_come_together_or_not_at_all(write: Write) -> None:
    write("tools_a", CLEAN)
    write("tools_b", "from engine import ToolRegistry\nr = ToolRegistry()\n@r.tool\ndef clean(state): ...\n")
    registry = load_tools("tools_a:registry")

    with pytest.raises(ToolConflict):
        load_tools("tools_a:clean", "tools_b:r", registry=registry)

    assert ids(registry) == ["apart@1"]
    assert ids(load_tools("tools_a:fetch", ["tools_b:r"], registry=registry)) == ["apart@1", "clean@1", "other@2"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "expected 'module' or 'module:attribute'"),
        ("tools_a:", "expected 'module' or 'module:attribute'"),
        ("tools-a", "expected 'module' or 'module:attribute'"),
        ("../etc/passwd", "expected 'module' or 'module:attribute'"),
        ("missing_module_x", "there is no module 'missing_module_x'"),
        ("tools_a.deeper", "there is no module 'tools_a.deeper'"),
        ("tools_a:clena", "'tools_a' has no 'clena'; did you mean 'clean'?"),
        ("tools_a:NUMBER", "found 5 (int), which is neither a tool"),
        ("broken", "importing 'broken' raised ZeroDivisionError: division by zero"),
        ("wants_more", "importing 'wants_more' raised ModuleNotFoundError: No module named 'missing_module_x'"),
        ("leaves", "importing 'leaves' raised SystemExit: 3"),
        ("wrong", "importing 'wrong' raised SyntaxError"),
        ("empty", "module 'empty' has no tools: mark functions with @tool"),
    ],
)
def test_what_cannot_be_loaded_says_why(source: str, reason: str, write: Write) -> None:
    write("tools_a", CLEAN)
    write("broken", "1 / 0")
    write("wants_more", "import missing_module_x")
    write("leaves", "import sys\nsys.exit(3)")
    write("wrong", "def f(:")
    write("empty", "from engine import tool, get_tool_registry")

    with pytest.raises(ToolsNotLoaded) as caught:
        load_tools(source)

    assert (caught.value.source, reason in caught.value.reason) == (source, True), caught.value.reason


def test_an_engine_is_given_tools_by_name(write: Write) -> None:
    write("tools_a", CLEAN)
    graph = Graph("g").add_node("n", "clean").set_entry_point("n")

    assert Engine(tools="tools_a").run_sync(graph).state == {"clean": 10}
    with pytest.raises(ToolsNotLoaded):
        Engine(tools="tools_a:nothing")


# --- from installed packages ------------------------------------------------------------------------------


def install(folder: Path, name: str, entry_points: str) -> None:
    """What an installer leaves behind of a distribution."""
    info = folder / f"{name}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(entry_points)
    importlib.invalidate_caches()


def test_installed_packages_bring_tools_and_a_broken_one_keeps_none_away(
    write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write("tools_a", CLEAN)
    write("tools_b", "def second(state): ...\n")
    write("broken", "1 / 0")
    install(tmp_path, "good-tools", "[workflow_engine.tools]\nb = tools_b:second\na = tools_a:registry [extra]\n")
    install(tmp_path, "bad-tools", "[workflow_engine.tools]\nbad = broken\nnone = tools_a:nothing\n")
    registry = ToolRegistry()

    with caplog.at_level(logging.ERROR, "engine"):
        failed = load_installed_tools(registry)

    assert ids(registry) == ["apart@1", "second@1"]
    assert [error.source for error in failed] == ["broken", "tools_a:nothing"]
    assert "(entry point 'bad' of bad-tools 1.5)" in failed[0].reason
    assert isinstance(failed[0].__cause__, ZeroDivisionError)
    assert [record.getMessage() for record in caplog.records] == list(map(str, failed))

    with pytest.raises(ExceptionGroup, match="some installed tools") as raised:
        load_installed_tools(registry, strict=True)
    assert len(raised.value.exceptions) == 2


# --- once more --------------------------------------------------------------------------------------------


def test_a_changed_module_is_imported_anew(write: Write) -> None:
    write("tools_a", CLEAN)
    registry = load_tools("tools_a")
    old = registry.find("clean")

    assert reload_tools(registry).modules == ()
    write("tools_a", CLEAN.replace("FACTOR = 1", "FACTOR = 7").replace('version="2"', 'version="3"'))
    found = reload_tools(registry)

    assert (found.modules, found.added, found.changed, found.removed) == (
        ("tools_a",),
        ("other@3",),
        ("apart@1", "clean@1"),
        ("other@2",),
    )
    # What somebody still holds goes on with what it was written with.
    assert (old(), registry.find("clean")()) == ({"clean": 10}, {"clean": 70})
    assert get_tool_registry().find("clean")() == {"clean": 70}
    assert reload_tools(registry).modules == ()


def test_a_change_within_the_same_second_and_of_the_same_size_is_seen(write: Write) -> None:
    file = write("tools_a", CLEAN)
    registry = load_tools("tools_a")
    for factor in (2, 3, 4):
        file.write_text(CLEAN.replace("FACTOR = 1", f"FACTOR = {factor}"))
        reload_tools(registry)

        assert registry.find("clean")(1) == {"clean": factor}


@pytest.mark.parametrize("fault", ["def f(:", "1 / 0", "@tool\ndef clean(state): ...", "raise SystemExit"])
def test_a_module_with_a_fault_changes_nothing(fault: str, write: Write) -> None:
    write("tools_a", CLEAN)
    write("pack.two", "from engine import tool\n@tool\ndef second(): return 2\n")
    write("pack", "from . import two\n")
    registry = load_tools("tools_a", "pack")
    modules = {name: sys.modules[name] for name in ("tools_a", "pack", "pack.two")}
    before, wide = registry.tools(), get_tool_registry().tools()

    write("pack.two", "from engine import tool\n@tool\ndef second(): return 3\n")
    write("tools_a", CLEAN + fault)
    with pytest.raises((ToolsNotLoaded, ToolConflict)):
        reload_tools(registry)

    assert (registry.tools(), get_tool_registry().tools()) == (before, wide)
    assert {name: sys.modules[name] for name in modules} == modules
    assert sys.modules["pack"].two is modules["pack.two"]
    write("tools_a", CLEAN)
    assert reload_tools(registry).changed
    assert registry.find("second")() == 3


def test_registries_are_renewed_however_they_got_their_tools(write: Write) -> None:
    write("tools_a", CLEAN)
    module = importlib.import_module("tools_a")
    registries = {
        "process-wide": get_tool_registry(),
        "the module's own": module.registry,
        "by name": load_tools("tools_a"),
        "a list": load_tools(module.LIST),
    }
    for round_number in (1, 2):
        changed = f"FACTOR = {round_number + 1}\ndef unmarked(x): return {round_number}\n"
        write("tools_a", CLEAN.replace("FACTOR = 1", changed).replace("def unmarked(x):\n    return x", ""))
        for registry in registries.values():
            reload_tools(registry)

        assert registries["process-wide"].find("clean")(1) == {"clean": round_number + 1}
        assert registries["by name"].find("clean")(1) == {"clean": round_number + 1}
        assert registries["a list"].find("clean")(1) == {"clean": round_number + 1}
        assert registries["a list"].find("unmarked")(9) == round_number
        assert registries["the module's own"].find("apart")({}) == round_number + 1


def test_a_list_of_tools_follows_them_when_another_module_gathers_them(write: Write) -> None:
    write("tools_a", CLEAN)
    write("gather", "import tools_a\nTOOLS = [tools_a.clean]\n")
    registry = load_tools("gather:TOOLS")

    write("tools_a", CLEAN.replace("FACTOR = 1", "FACTOR = 20"))
    found = reload_tools(registry)

    assert (found.modules, registry.find("clean")(1)) == (("tools_a", "gather"), {"clean": 20})


STEPPED = """
from engine import tool

def word():
    return "{word}"

@tool
async def step(state, ctx: "Context"):
    return {{"words": state.get("words", ()) + (word(), await ctx.tools.call("say"))}}

@tool
def say():
    return word().upper()

from engine import Context
"""


async def test_runs_in_flight_keep_the_tools_that_they_began_with(write: Write) -> None:
    write("tools_s", STEPPED.format(word="old"))
    graph = Graph("g").add_node("first", "step").add_wait("wait", signal="go", into="went").add_node("last", "step")
    graph.add_edge("first", "wait").add_edge("wait", "last").set_entry_point("first")

    async with Engine(tools="tools_s") as engine:
        old = await engine.submit(graph, {})
        async with aclosing(old.events()) as events:
            async for event in events:
                if event.type == "run_waiting":
                    break
        write("tools_s", STEPPED.format(word="newer"))
        assert (await engine.reload_tools()).changed == ("say@1", "step@1")
        by_name = await engine.submit("g", {})
        by_graph = await engine.submit(graph, {})
        runs = [old, by_name, by_graph]
        for run in runs:
            await run.signal("go")
        words = [(await run.result()).state["words"] for run in runs]

        assert words == [("old", "OLD") * 2, ("newer", "NEWER") * 2, ("newer", "NEWER") * 2]
        assert engine.graphs() == [("g", "1")]
        assert engine.statistics().ended == {"succeeded": 3}
        assert (await engine.reload_tools()).modules == ()


async def test_graphs_that_the_new_tools_do_not_fit_keep_the_old_ones(write: Write) -> None:
    write("tools_a", CLEAN)
    graph = Graph("g").add_node("n", "clean", params={"x": 5}).set_entry_point("n")

    async with Engine(tools="tools_a") as engine:
        engine.register(graph)
        write("tools_a", CLEAN.replace("x: int = 10", "x: str"))
        (refused,) = (await engine.reload_tools()).refused

        assert [(p.code, p.where) for p in refused.problems] == [("bad_params", "n")]
        assert (await engine.run("g")).state == {"clean": 5}

        write("tools_a", "1 / 0")
        with pytest.raises(ToolsNotLoaded, match="division by zero"):
            await engine.reload_tools()
        assert (await engine.run("g")).state == {"clean": 5}


async def test_new_runs_in_processes_find_the_new_tools_and_old_ones_fail_loudly(write: Write) -> None:
    source = "from engine import tool\n@tool\ndef say(state): return {{'said': {!r}}}\n"
    write("tools_p", source.format("old"))
    graph = Graph("g").add_node("n", "say", run_in="process").set_entry_point("n")
    later = Graph("later").add_wait("wait", signal="go", into="went").add_node("n", "say", run_in="process")
    later.add_edge("wait", "n").set_entry_point("wait")

    async with Engine(tools="tools_p") as engine:
        assert (await engine.run(graph, {})).state["said"] == "old"
        old = await engine.submit(later, {})
        write("tools_p", source.format("newer"))
        await engine.reload_tools()

        assert (await engine.run(graph, {})).state["said"] == "newer"
        await old.signal("go")
        with pytest.raises(RunFailed) as raised:
            await old.result()
        assert isinstance(raised.value.failures[0].cause, NotTransferable)


async def test_a_tool_marked_anew_is_taken_by_the_next_run_of_its_graph() -> None:
    registry = ToolRegistry()
    graph = Graph("g").add_node("n", "say").set_entry_point("n")

    async def node(state: Any, ctx: Context) -> dict[str, Any]:
        with pytest.raises(BadArguments):
            await ctx.tools.call("say", 1, 2, 3)
        return {"called": await ctx.tools.call("say", {})}

    calls = Graph("calls").add_node("n", node).set_entry_point("n")
    async with Engine(tools=registry) as engine:
        for number in (1, 2):

            @registry.tool
            def say(state: Any, said: int = number) -> dict[str, Any]:
                return {"said": said}

            assert (await engine.run(graph, {})).state == {"said": number}
            assert (await engine.run(calls, {})).state == {"called": {"said": number}}
