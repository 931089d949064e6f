"""What goes wrong in the first hour, and that the message says what, where, and what to do.

Each mistake is written as a newcomer would write it, with the words of the answer that matter. A new one that somebody
meets goes here first; then the message is mended until its words are there.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import anyio
import attrs
import pytest

import engine.app
import engine.nodes
from engine import END, Engine, Graph, Reduce
from engine.cli import main
from engine.client import AsyncClient, Patience
from tests.engine.web.services import eventually
from tests.ports import free_port

ROOT = Path(__file__).parent.parent
Mistake = Callable[[Path], Awaitable[object]]
MISTAKES: list[Any] = []


def mistake(*words: str) -> Callable[[Mistake], Mistake]:
    """Something that is wrong, and the words of the answer."""

    def add(function: Mistake) -> Mistake:
        MISTAKES.append(pytest.param(function, words, id=function.__name__.replace("_", "-")))
        return function

    return add


@attrs.frozen
class Review:
    score: float = 0.0
    notes: Annotated[list[str], Reduce(list.__add__)] = attrs.field(factory=list)


async def grade(state: Any) -> dict[str, Any]:
    return {"score": 1.0}


def one(function: Any = grade, name: str = "review", **options: Any) -> Graph:
    """A graph of one node."""
    return Graph(name, **options).add_node("grade", function).set_entry_point("grade")


async def ran(graph: Any, state: Any = None, store: str | None = None) -> Any:
    async with Engine(store) as engine:
        return (await engine.run(graph, state)).state


# --- the engine


@mistake("blocking call in an event loop", "await the engine", "`async with Engine()`")
async def run_sync_inside_a_loop(folder: Path) -> None:
    Engine().run_sync(one(), {})


@mistake("blocking call in an event loop", "or call from another thread")
async def blocking_engine_inside_a_loop(folder: Path) -> None:
    with Engine.blocking() as engine:
        engine.run(one(), {})


@mistake("`async with Engine() as engine`", "`with Engine.blocking() as engine`")
async def with_instead_of_async_with(folder: Path) -> None:
    with Engine():
        pass


@mistake("the engine is closed", "use it inside `async with Engine()`")
async def forgotten_async_with(folder: Path) -> None:
    await Engine().submit(one(), {})


@mistake("the engine is closed", "use it inside `async with Engine()`")
async def used_after_it_was_left(folder: Path) -> None:
    async with Engine() as engine:
        pass
    await engine.submit(one(), {})


@mistake("an engine is entered once", "make another")
async def entered_a_second_time(folder: Path) -> None:
    there = Engine()
    async with there:
        pass
    async with there:
        pass


@mistake("expected a graph", "found the function 'grade'", "Graph('grade').add_node('grade', grade)")
async def a_function_submitted_as_if_it_were_a_graph(folder: Path) -> None:
    await ran(grade, {})


@mistake("no graph is registered as 'reviw'", "known are 'review'", "engine.register(graph) first")
async def a_name_that_no_graph_has(folder: Path) -> None:
    async with Engine() as engine:
        engine.register(one())
        await engine.run("reviw", {})


@mistake("another graph is registered as 'review' version '1'", "give the changed one another version")
async def another_graph_under_the_same_name(folder: Path) -> None:
    async with Engine() as engine:
        await engine.run(one(), {})
        await engine.run(one(lambda state: {}), {})


@mistake("a run has the id '17' already", "leave run_id out")
async def the_same_run_id_twice(folder: Path) -> None:
    async with Engine() as engine:
        await engine.run(one(), {}, run_id="17")
        await engine.run(one(), {}, run_id="17")


@mistake("the events of a run come one by one", "`async for event in run.events()`")
async def for_instead_of_async_for(folder: Path) -> None:
    async with Engine() as engine:
        for _ in (await engine.submit(one(), {})).events():
            pass


@mistake("is not over after 0.01 s", "it goes on (running)")
async def a_result_that_takes_longer_than_the_patience(folder: Path) -> None:
    async with Engine() as engine:
        run = await engine.submit(one(sleepy), {})
        await run.result(timeout=0.01)


async def sleepy(state: Any) -> None:
    await anyio.sleep_forever()


class Told(logging.Handler):
    """Ends a wait as soon as there was a warning, as somebody does who reads it."""

    def __init__(self, scope: anyio.CancelScope) -> None:
        super().__init__(logging.WARNING)
        self.scope = scope

    def emit(self, record: logging.LogRecord) -> None:
        self.scope.cancel()


@contextmanager
def until_told() -> Iterator[None]:
    """What waits in here is left at the first warning of the engine's."""
    with anyio.fail_after(30) as scope:
        handler = Told(scope)
        logging.getLogger("engine").addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger("engine").removeHandler(handler)


@mistake("run() waits for run", "waits for a signal", "'approved'", "or submit() the run and have it in hand")
async def a_run_that_waits_for_a_signal_nobody_can_send(folder: Path) -> None:
    waiting = Graph("g").add_wait("approval", signal="approved", into="by").set_entry_point("approval")
    with until_told():
        await ran(waiting)


@mistake("run() waits for run", "waits for a signal", "'approved'")
async def a_run_that_is_at_work_for_a_while_before_it_waits_for_such_a_signal(folder: Path) -> None:
    async def slow(state: Any) -> None:
        await anyio.sleep(5 * engine.app._SILENT_SECONDS)

    waiting = Graph("g").add_node("slow", slow).add_wait("approval", signal="approved", into="by")
    with until_told():
        await ran(waiting.add_edge("slow", "approval").set_entry_point("slow"))


@mistake("no wait of the graph uses the signal 'aproved'", "known are 'approved'")
async def a_signal_with_a_typo(folder: Path) -> None:
    waiting = Graph("g").add_wait("approval", signal="approved", into="by").set_entry_point("approval")
    async with Engine() as engine:
        await (await engine.submit(waiting)).signal("aproved")


@mistake("fork needs the records", "give the engine a store")
async def a_fork_without_a_store(folder: Path) -> None:
    async with Engine() as engine:
        run = await engine.submit(one(), {})
        await run.wait()
        await engine.fork(run.id, "grade#1")


# --- the graph


@mistake("no_entry_point", "say graph.set_entry_point('grade')")
async def a_missing_entry_point(folder: Path) -> None:
    Graph("review").add_node("grade", grade).compile()


@mistake("unknown_node at grade -> deicde", "there is no node 'deicde'", "did you mean 'decide'?")
async def an_edge_to_a_typo(folder: Path) -> None:
    one().add_node("decide", grade).add_edge("grade", "deicde").compile()


@mistake("there is no node", "give its name, 'grade'")
async def an_edge_to_a_function_instead_of_its_name(folder: Path) -> None:
    one().add_edge(grade, END).compile()  # type: ignore[arg-type]


@mistake("duplicate_node at grade", "two nodes of this name", "give one another name")
async def a_node_twice(folder: Path) -> None:
    one().add_node("grade", grade).compile()


@mistake("there is no option 'retires'", "did you mean 'retry'?")
async def an_option_with_a_typo(folder: Path) -> None:
    Graph("g").add_node("grade", grade, retires=3).compile()  # type: ignore[call-arg]


@mistake("retry must be a Retry", "found 3 (int)", "did you mean Retry(attempts=3)?")
async def a_number_where_a_policy_belongs(folder: Path) -> None:
    Graph("g").add_node("grade", grade, retry=3).compile()  # type: ignore[arg-type]


@mistake("given 'grade', expected a function", "@graph.node(name='grade')", "by name")
async def a_name_given_to_the_decorator(folder: Path) -> None:
    Graph("g").node("grade")(grade)  # type: ignore[call-overload]


@mistake("expected a function", "without calling it")
async def a_node_that_is_called_where_it_is_added(folder: Path) -> None:
    Graph("g").node((lambda state: {})({}))  # type: ignore[call-overload]


@mistake("bad_params at grade", "its parameter 'limit' gets nothing", "params={'limit': ...}")
async def a_node_with_too_many_parameters(folder: Path) -> None:
    one(lambda state, limit: {}).compile()


@mistake("no way leads out of the loop grade -> grade", "add_edge('grade', END, when=...)")
async def a_loop_without_an_exit(folder: Path) -> None:
    one().add_edge("grade", "grade").compile()


@mistake("unknown_key at grade -> END", "column 7", "the state has no key 'scroe'", "did you mean 'score'?")
async def a_condition_with_a_typo(folder: Path) -> None:
    one(state=Review).add_edge("grade", END, when="state.scroe > 1").compile()


@mistake("node 'grade' failed", "no attribute 'scroe'", "raised by the condition of grade -> END")
async def a_condition_as_a_function_with_a_typo(folder: Path) -> None:
    await ran(one(state=Review).add_edge("grade", END, when=lambda review: review.scroe > 1), Review())


@mistake("no edge out of 'grade' was taken", "tried 'END'", "otherwise=True")
async def a_condition_that_never_holds(folder: Path) -> None:
    await ran(one(state=Review).add_edge("grade", END, when=lambda review: review.score > 1), Review())


@mistake("the reducer of 'notes' is called 'apend'", "did you mean 'append'?")
async def a_reducer_with_a_typo(folder: Path) -> None:
    one(reducers={"notes": "apend"}).compile()  # type: ignore[dict-item]


@mistake("the reducer of 'notes' (<lambda>) does not take two arguments", "reduce(value, contribution)")
async def a_reducer_of_one_argument(folder: Path) -> None:
    one(reducers={"notes": lambda value: value}).compile()  # type: ignore[misc, arg-type]


# --- nodes


@mistake("node 'grade' failed", "the node returned [1] (list)", "name the key that it is for: return {'key': …}")
async def a_node_that_returns_a_list(folder: Path) -> None:
    await ran(one(lambda state: [1]), {})


@mistake("the node returned 'good' (str)", "expected a mapping of changed keys", "return {'key': …}")
async def a_node_that_returns_text(folder: Path) -> None:
    await ran(one(lambda state: "good"), {})


@mistake("the node returned <coroutine object", "await what it calls: `return await …`")
async def a_node_that_forgets_to_await(folder: Path) -> None:
    async def forgetful(state: Any) -> Any:
        return grade(state)

    await ran(one(forgetful), {})


@mistake("scroe: Review has no such key, did you mean 'score'?", "node 'grade' failed")
async def a_key_with_a_typo(folder: Path) -> None:
    await ran(one(lambda review: {"scroe": 1.0}, state=Review), Review())


@mistake("the initial state does not fit: scroe: Review has no such key, did you mean 'score'?")
async def a_key_with_a_typo_where_it_is_submitted(folder: Path) -> None:
    await ran(one(state=Review), {"scroe": 1.0})


@mistake("expected dict, found Review(", "say Graph(…, state=Review)")
async def a_state_of_which_the_graph_knows_nothing(folder: Path) -> None:
    await ran(one(), Review())


@mistake("node 'grade' changed the value of 'notes' in place", "return a new value, or use isolation='deep'")
async def a_default_that_is_changed_in_place(folder: Path) -> None:
    await ran(one(lambda review: review.notes.append("x"), state=Review, isolation="check"), Review())


@mistake("can only concatenate list", "raised by the reducer of 'notes'", "node 'grade' failed")
async def a_contribution_that_its_reducer_cannot_take(folder: Path) -> None:
    await ran(one(lambda review: {"notes": "good"}, state=Review), Review())


@mistake("'score' was set to different values by 'a' (1) and 'b' (2)", "give the key a reducer")
async def two_branches_that_write_one_key(folder: Path) -> None:
    both = Graph("g").add_node("a", lambda state: {"score": 1}).add_node("b", lambda state: {"score": 2})
    await ran(both.set_entry_point("a", "b"), {})


@mistake("cannot travel between processes", "at the top level of a module", "run_in='thread'")
async def a_lambda_in_a_process(folder: Path) -> None:
    await ran(Graph("g").add_node("a", lambda state: {}, run_in="process").set_entry_point("a"), {})


@mistake("node 'grade' of 'review' has held the event loop for ", "a plain function (`def`)", "in a thread")
async def a_blocking_call_in_an_async_node(folder: Path) -> None:
    async def blocks(state: Any) -> None:
        time.sleep(0.12)  # noqa: ASYNC251  # that is the mistake

    await ran(one(blocks), {})


# --- stores


@mistake("no store has the address 'mysql://db'", "known are memory://, sqlite:///file.db, postgresql://")
async def a_store_of_another_kind(folder: Path) -> None:
    Engine("mysql://db")


@mistake("no store has the address 'runs.db'", "sqlite:///file.db")
async def a_file_where_an_address_belongs(folder: Path) -> None:
    Engine("runs.db")


@mistake("'sqlite://runs.db' names no file", "write sqlite:///file.db")
async def two_slashes_instead_of_three(folder: Path) -> None:
    Engine("sqlite://runs.db")


@mistake("is not available", "runs.db.lock cannot be written", "the folder must be there", "the right to write to it")
async def a_folder_that_is_not_there(folder: Path) -> None:
    await ran(one(), {}, f"sqlite:///{folder}/nowhere/runs.db")


@mistake("it is not an SQLite database", "use another file")
async def a_file_that_is_no_database(folder: Path) -> None:
    (folder / "runs.db").write_text("id,name\n" * 500)
    await ran(one(), {}, f"sqlite:///{folder}/runs.db")


@mistake("is in use by another store of this process", "give this one another file")
async def two_engines_on_one_file(folder: Path) -> None:
    async with Engine(f"sqlite:///{folder}/runs.db"), Engine(f"sqlite:///{folder}/runs.db"):
        pass


@mistake("node 'grade': file: a TextIOWrapper cannot be kept in a store", "what it takes to open it again")
async def an_open_file_in_the_state_of_a_durable_run(folder: Path) -> None:
    with open(os.devnull) as file:  # noqa: ASYNC230
        await ran(one(lambda state: {"file": file}), {}, "memory://")


@mistake("cannot connect to postgresql://me@127.0.0.1:", "is the server running, and at this address?")
async def a_server_that_does_not_run(folder: Path) -> None:
    await ran(one(), {}, f"postgresql://me@127.0.0.1:{free_port()}/runs")


@mistake("no answer from http://127.0.0.1:", "ConnectError", "trying again for up to 30 s")
async def a_service_that_is_not_there(folder: Path) -> None:
    async with AsyncClient(f"http://127.0.0.1:{free_port()}", patience=Patience(total=30, first_gap=0.01)) as client:
        with until_told():
            await client.graphs()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told after some time is told after less."""
    monkeypatch.setattr(engine.app, "_SILENT_SECONDS", 0.05)
    monkeypatch.setattr(engine.nodes, "BLOCKING", 0.1)


@pytest.mark.parametrize(("mistaken", "words"), MISTAKES)
async def test_a_mistake_is_told_with_its_place_and_its_cure(
    mistaken: Mistake, words: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = ""
    with caplog.at_level(logging.WARNING):
        try:
            await mistaken(tmp_path)
        except Exception as error:
            said = "\n".join(texts(error))
    said = "\n".join([said, *(record.getMessage() for record in caplog.records)])

    assert [word for word in words if word not in said] == [], said


def texts(error: BaseException) -> Iterator[str]:
    """What an error says, and those inside it."""
    yield str(error)
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from texts(each)


def test_there_are_more_than_twenty_mistakes() -> None:
    assert len(MISTAKES) > 20


@pytest.mark.parametrize("verb", ["submit", "result"])
async def test_a_forgotten_await_is_named_by_python(verb: str) -> None:
    async with Engine() as there:
        run = await there.submit(one(), {})
        forgotten: Any = there.submit(one(), {}) if verb == "submit" else run.result()
        with pytest.raises(AttributeError, match="'coroutine' object has no attribute 'state'"):
            print(forgotten.state)
        with pytest.warns(RuntimeWarning, match=rf"coroutine '\w+\.{verb}' was never awaited"):
            del forgotten  # as it is when the program ends


async def test_a_node_that_blocks_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    async def blocks(state: Any) -> None:
        time.sleep(0.12)  # noqa: ASYNC251

    graph = one(blocks)
    async with Engine() as there:
        for _ in range(3):
            await there.run(graph, {})

    assert len([record for record in caplog.records if "has held the event loop" in record.getMessage()]) == 1


# --- extras that are not installed

WITHOUT = "import sys\nfor name in {modules!r}: sys.modules[name] = None\nimport os; os.chdir({folder!r})\n"
PROGRAMS = [
    ("trio", "from engine import Engine; Engine().run_sync('g', {}, backend='trio')", "pip install anyio[trio]"),
    ("trio", "COMMAND run flow.json --backend trio", "trio is not installed\n  pip install 'workflow-engine[trio]'"),
    ("uvicorn", "COMMAND serve --port 0", "needs uvicorn\n  pip install 'workflow-engine[serve]'"),
    ("click", "COMMAND tools", "the command line needs click: pip install 'workflow-engine[cli]'"),
    ("yaml", "from engine import Graph; Graph.from_yaml('name: g')", "pip install 'workflow-engine[yaml]'"),
    ("httpx2", "import engine.client", "the client needs httpx2, which is not installed: pip install 'workflow-engi"),
    ("psycopg", "from engine import Engine; Engine('postgresql://x')", "pip install 'workflow-engine[postgres]'"),
    ("coredis", "from engine import Engine; Engine('redis://x')", "pip install 'workflow-engine[redis]'"),
    ("PIL", "from engine import Graph; Graph('g').draw('png')", "pip install 'workflow-engine[draw]'"),
    ("trio", "EXAMPLE agents trio", "error: this example needs trio: pip install -e '.[trio]'"),
    ("trio", "EXAMPLE embedded_pipeline trio", "error: this example needs trio: pip install -e '.[trio]'"),
    ("trio", "EXAMPLE data_quality --backend trio", "error: trio is not installed: pip install -e '.[trio]'"),
    ("polars", "EXAMPLE data_quality", "error: this example needs Polars: pip install -e '.[examples]'"),
    ("click", "EXAMPLE approval", "error: this example needs click: pip install -e '.[cli,client,serve,trio]'"),
    ("httpx2", "EXAMPLE approval", "error: this example needs httpx2: pip install -e '.[cli,client,serve,trio]'"),
    ("httpx2", "EXAMPLE submit", "error: this example needs httpx2: pip install -e '.[cli,client,serve,trio]'"),
    ("fastapi", "EXAMPLE service", "error: this example needs fastapi: pip install -e '.[examples,serve,trio]'"),
]


@pytest.mark.parametrize(("module", "program", "cure"), PROGRAMS, ids=[f"{p[0]}-{i}" for i, p in enumerate(PROGRAMS)])
def test_an_extra_that_is_not_installed_is_named_with_the_command_that_installs_it(
    module: str, program: str, cure: str, tmp_path: Path
) -> None:
    if program.startswith("COMMAND "):
        program = f"from engine.cli import main; sys.exit(main({program.split()[1:]!r}))"
    if program.startswith("EXAMPLE "):
        name, *words = program.split()[1:]
        program = f"import runpy; sys.argv[1:] = {words}; runpy.run_module('examples.{name}', run_name='__main__')"
    line = [sys.executable, "-c", WITHOUT.format(modules=[module], folder=str(tmp_path)) + program]
    done = subprocess.run(
        line, capture_output=True, text=True, timeout=180, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )

    assert done.returncode in (1, 2)
    assert cure in done.stderr


# --- the command line


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a graph."""
    (tmp_path / "flow.json").write_text(
        '{"name": "g", "entry_point": "w", "nodes": [{"name": "w", "wait": {"signal": "go", "into": "x"}}]}'
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMANDS = [
    (["run", "flwo.json"], ["there is no file 'flwo.json'"]),
    (["run", "flow.json", "--state", "{topic: 1}"], ["--state", "line 1"]),
    (["run", "flow.json", "--state", "[1]"], ["expected dict, found [1] (list)", "--state '{...}', or"]),
    (["run", "flow.json", "--state", "@state.json"], ["--state (state.json) cannot be read", "there is no such file"]),
    (["rnu", "flow.json"], ["no such command 'rnu'", "did you mean 'run'?"]),
    (["run", "flow.json", "--stat", "{}"], ["No such option", "--state"]),
    (["run", "flow.json", "--store", "mysql://db"], ["mysql://db", "sqlite:///"]),
    (["runs", "show", "17"], ["there is no store sqlite:///runs.db", "name another with --store"]),
    (["serve", "--host", "0.0.0.0", "--port", "0"], ["without keys everybody may do everything", "--keys"]),
    (["serve", "--port", "PORT"], ["is taken by another program", "name another --port"]),
]


@pytest.mark.parametrize(("words", "answer"), COMMANDS, ids=[" ".join(words) for words, _ in COMMANDS])
def test_a_command_that_is_wrong_is_told_what_to_do(
    words: list[str], answer: list[str], folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        code = main([word.replace("PORT", str(taken.getsockname()[1])) for word in words])
    out, said = capfd.readouterr()

    assert (code, out) == (2, "")
    assert [word for word in answer if word not in said] == [], said
    assert "Traceback" not in said


def command(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, *words], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


SLOW = """
import time
from engine import Graph

def slow(state):
    print("begun", flush=True)
    time.sleep(20)

graph = Graph("slow").add_node("slow", slow).set_entry_point("slow")
"""


def test_ctrl_c_while_it_runs_says_how_to_go_on_and_a_second_one_ends_what_hangs(folder: Path) -> None:
    (folder / "flows.py").write_text(SLOW)
    with command(folder, "-m", "engine", "run", "flows.py", "--run-id", "17") as process:
        assert process.stderr is not None
        os.set_blocking(process.stderr.fileno(), False)
        said = bytearray()

        def has(text: bytes) -> bool:
            said.extend(process.stderr.read() or b"")  # type: ignore[union-attr]
            return text in said

        eventually(lambda: has(b"begun"))
        process.send_signal(signal.SIGINT)
        eventually(lambda: has(b"Ctrl-C again leaves at once"))
        process.send_signal(signal.SIGINT)
        code = process.wait(30)
        has(b"")

    assert code in (130, -signal.SIGINT), said.decode()  # a shell says 130 to both: the latter is Python's last moment
    assert b"runs resume 17" in said
    assert b"Traceback" not in said
