"""The commands as they are called, in this process: what is on stdout, what on stderr, and the exit code."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner

from engine.cli import entry, main
from engine.cli.commands import cli
from engine.cli.faults import only_leaf, told
from engine.errors import StoreUnavailable
from tests.engine.cli.processes import run


@attrs.frozen
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Call:
    """Calls the command."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *words: str) -> Answer:
        code = main(words)
        out, err = self._capfd.readouterr()
        return Answer(code, out, err)


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], flows: Path) -> Call:
    return Call(capfd)


MEMORY = ("--store", "memory:")


# --- run


def test_the_result_is_all_that_is_on_stdout_whatever_nodes_print(call: Call) -> None:
    answer = call("run", "flows.py:hello", "--state", '{"name": "you"}', *MEMORY)

    assert answer.code == 0
    assert answer.json["state"] == {"name": "you", "greeting": "hello you"}
    assert answer.json["status"] == "succeeded"
    assert "a node prints" in answer.err
    assert "greet#1 succeeded" in answer.err


def test_a_run_that_fails_is_told_with_its_errors(call: Call) -> None:
    answer = call("run", "flows.py:broken", *MEMORY)

    assert answer.code == 1
    assert answer.json["errors"] == [
        {"node": "divide", "activation": 1, "attempts": 1, "type": "ZeroDivisionError", "message": "division by zero"}
    ]
    assert "divide#1 failed" in answer.err
    assert "Traceback" not in answer.err


def test_quiet_says_nothing_but_the_result(call: Call) -> None:
    assert call("run", "flows.py:broken", "--quiet", *MEMORY).err == ""


def test_loops_branches_maps_and_waits_run_to_their_end(call: Call) -> None:
    answer = call("run", "flows.py:everything", "--signal", 'approved={"by": "me"}', *MEMORY)

    assert answer.code == 0
    state = answer.json["state"]
    assert (state["doubled"], state["rounds"], state["approval"]) == ([0, 2, 4, 6, 8, 10, 12, 14], 3, {"by": "me"})
    assert "again#3 succeeded" in answer.err


def test_a_state_is_read_and_shown_by_its_types(call: Call) -> None:
    answer = call("run", "flows.py:order", "--state", '{"due": "2024-05-01"}', *MEMORY)

    assert answer.json["state"] == {"due": "2024-05-01", "items": ["by 01.05."]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], "Missing argument"),
        (["run", "flows.py:hello", "--stat", "{}"], "--stat"),
        (["rum"], "no such command 'rum'; did you mean 'run'?"),
        (["run", "none.json"], "there is no file 'none.json'"),
        (["run", "flows.py:hello", "--state", "{x}"], "--state is not JSON: "),
        (["run", "flows.py:hello", "--state", "[1]", *MEMORY], "expected dict, found"),
        (["run", "flows.py:order", "--state", "{}", *MEMORY], "due: missing"),
        (["run", "flows.py:hello", "--store", "runs.db"], "did you mean 'sqlite:///runs.db'?"),
        (["run", "flows.py:hello", "--store", "nosql://x"], "no store has the address"),
        (["run", "flows.py:hello", "--store", "sqlite:////nowhere/at/all.db"], "is not available"),
        (["run", "flows.py:hello", "--signal", "go", *MEMORY], "no wait of the graph uses the signal 'go'"),
        (["run", "flows.py:hello", "--max-runs", "0", *MEMORY], "--max-runs must be a whole number"),
        (["run", "flows.py:hello", "--deadline", "-1", *MEMORY], "deadline"),
        (["run", "flows.py:hello", "--tag", "x", *MEMORY], "write NAME=VALUE"),
        (["run", "flows.py:hello", "--tools", "no_such_module", *MEMORY], "cannot load tools from 'no_such_module'"),
        (["runs", "ls", "--store", "sqlite:///none.db"], "there is no store sqlite:///none.db"),
        (["runs", "ls", *MEMORY], "runs in memory are gone"),
        (["run", "flows.py:hello", "--config", "none.toml"], "there is no file 'none.toml'"),
    ],
)
def test_what_is_wrong_is_told_on_stderr_with_exit_code_2(words: list[str], said: str, call: Call) -> None:
    answer = call(*words)

    assert answer.code == 2
    assert said in answer.err
    assert answer.out == ""
    assert "Traceback" not in answer.err


def test_debug_shows_where_it_went_wrong(call: Call) -> None:
    with pytest.raises(Exception, match="there is no file"):
        call("run", "none.json", "--debug")


def test_variables_and_the_file_are_settings_too(call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKFLOW_STOER", "memory:")
    (folder / "workflow.toml").write_text('store = "memory:"\n')

    answer = call("run", "flows.py:hello", "--quiet")

    assert answer.code == 0
    assert "WORKFLOW_STOER is no setting; did you mean 'WORKFLOW_STORE'?" in answer.err
    assert not list(folder.glob("*.db"))


def test_a_run_id_that_is_taken_is_refused(call: Call) -> None:
    assert call("run", "flows.py:hello", "--run-id", "one").code == 0
    assert "a run has the id 'one' already" in call("run", "flows.py:hello", "--run-id", "one").err


def test_the_same_key_is_the_same_run(call: Call) -> None:
    first, second = (call("run", "flows.py:hello", "--key", "k").json for _ in range(2))

    assert first["run_id"] == second["run_id"]
    assert call("run", "flows.py:hello", "--key", "k", "--state", '{"name": "x"}').code == 2


def test_a_run_that_waits_in_memory_is_cancelled_since_nothing_can_come(call: Call) -> None:
    answer = call("run", "flows.py:everything", *MEMORY)

    assert (answer.code, answer.json["status"]) == (1, "cancelled")
    assert "waits for the signal 'approved', which cannot come" in answer.err


# --- check, draw, tools

DEFINITION = {
    "name": "loud",
    "version": "1",
    "entry_point": "say",
    "state": {"text": {"type": "string"}},
    "nodes": [{"name": "say", "tool": "shout", "params": {"text": "hey", "times": 2}}],
}


def write(folder: Path, **changes: Any) -> str:
    (folder / "loud.json").write_text(json.dumps({**DEFINITION, **changes}, indent=2))
    return "loud.json"


def test_a_definition_runs_with_its_tools(call: Call, folder: Path) -> None:
    answer = call("run", write(folder), "--tools", "flows", "--state", '{"text": ""}', *MEMORY)

    assert answer.json["state"] == {"text": "HEY!!"}


def test_check_tells_everything_with_code_place_and_hint(call: Call, folder: Path) -> None:
    faulty = write(folder, entry_point="sya", nodes=[{"name": "say", "tool": "shoot"}])

    answer = call("check", faulty, "flows.py:hello", "none.json", "--tools", "flows")

    assert answer.code == 2
    found = {(problem["source"], problem["code"]): problem for problem in answer.json}
    assert {code for _, code in found} >= {"unknown_tool", "unknown_node", "not_loaded"}
    assert found["loud.json", "unknown_tool"]["hint"] == "did you mean 'shout'?"
    assert found["loud.json", "unknown_tool"]["where"].startswith("/nodes/0")
    assert "2 graphs: " in answer.err


def test_check_has_nothing_to_say_of_what_is_right(call: Call, folder: Path) -> None:
    answer = call("check", write(folder), "flows.py", "--tools", "flows")

    assert (answer.code, answer.json) == (0, [])
    assert "8 graphs: 0 errors, 0 warnings" in answer.err


@pytest.mark.parametrize(
    ("words", "begins"), [([], "flowchart TD"), (["--format", "text"], "hello"), (["--format", "svg"], "<svg")]
)
def test_a_graph_is_drawn_on_stdout(words: list[str], begins: str, call: Call) -> None:
    assert call("draw", "flows.py:hello", *words).out.startswith(begins)


def test_a_drawing_goes_to_a_file_in_its_format_with_a_run_on_it(call: Call, folder: Path) -> None:
    call("run", "flows.py:hello", "--run-id", "r")

    assert call("draw", "flows.py:hello", "-o", "d.svg").out == ""
    assert (folder / "d.svg").read_text().lstrip().startswith("<svg")
    assert call("draw", "flows.py:hello", "--format", "text").out != (
        call("draw", "flows.py:hello", "--format", "text", "--run", "r").out
    )
    call("draw", "flows.py:hello", "--run", "r", "-o", "d.png")
    assert (folder / "d.png").read_bytes().startswith(b"\x89PNG")
    assert "no run has the id" in call("draw", "flows.py:hello", "--run", "x").err
    assert "cannot be written" in call("draw", "flows.py:hello", "-o", "no/such/d.svg").err


@pytest.mark.parametrize(
    ("file", "begins"), [("d.txt", "hello"), ("d.MMD", "flowchart TD"), ("d.md", "flowchart TD"), ("d", "flowchart TD")]
)
def test_the_name_of_a_file_tells_its_format(file: str, begins: str, call: Call, folder: Path) -> None:
    assert call("draw", "flows.py:hello", "-o", file).code == 0
    assert (folder / file).read_text().startswith(begins)


def test_a_format_that_is_not_known_is_refused_unless_one_is_named(call: Call, folder: Path) -> None:
    refused = call("draw", "flows.py:hello", "-o", "d.pdf")

    assert refused.code == 2
    assert "'.pdf'; known are .svg, .png, .txt, .mmd" in refused.err
    assert not (folder / "d.pdf").exists()
    assert call("draw", "flows.py:hello", "-o", "d.v2", "--format", "svg").code == 0


def test_tools_are_listed_with_their_parameters(call: Call) -> None:
    shout = next(tool for tool in call("tools", "--tools", "flows").json if tool["name"] == "shout")

    assert shout["description"] == "Says it louder."
    assert shout["parameters"]["properties"]["times"] == {"type": "integer", "default": 1}


# --- the rest


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str, call: Call) -> None:
    assert "_WORKFLOW_ENGINE_COMPLETE" in call("completion", shell).out


def test_a_shell_is_told_what_fits(folder: Path) -> None:
    told = run(folder, _WORKFLOW_ENGINE_COMPLETE="bash_complete", COMP_WORDS="workflow-engine runs re", COMP_CWORD="2")

    assert told.stdout.split() == ["plain,resume", "plain,retry"]


def commands(group: Any, *path: str) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [path]
    for name, command in getattr(group, "commands", {}).items():
        found += commands(command, *path, name)
    return found


@pytest.mark.parametrize("path", commands(cli), ids=" ".join)
def test_every_command_teaches_by_example(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(cli, [*path, "--help"])

    assert shown.exit_code == 0
    simple = path in {("store", "verify"), ("store", "migrate"), ("store", "export")}
    assert simple or f"workflow-engine {' '.join(path)}".strip() in shown.output.partition("\n")[2]


@pytest.mark.parametrize("path", commands(cli), ids=" ".join)
def test_examples_name_options_that_there_are(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(cli, [*path, "--help"]).output
    for example in re.findall(r"^ +(?:.* \| )?workflow-engine (.*)$", shown, re.MULTILINE):
        words = re.split(r" \| | > | >> |\)", example)[0].split()
        found: Any = cli
        while words and words[0] in getattr(found, "commands", {}):
            found = found.commands[words.pop(0)]
        known = {name for parameter in found.params for name in parameter.opts} | {"--help"}
        assert {word for word in words if word.startswith("-") and word != "-"} <= known, example


def test_the_version_is_told(call: Call) -> None:
    assert call("--version").out.startswith("workflow-engine")


def test_a_missing_extra_is_told_with_the_cure(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "find_spec", lambda name: None)

    answer = call("run", "flows.py:hello")

    assert answer.code == 2
    assert "pip install 'workflow-engine[cli]'" in answer.err


def test_ctrl_c_while_the_command_is_loaded_is_an_interruption(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "find_spec", interrupted)

    assert (call("tools").code, call("tools").err) == (130, "interrupted\n")


def test_metrics_are_asked_of_a_service(call: Call) -> None:
    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(b"workflow_runs_queued 0.0\n")

        def log_message(self, format: str, *args: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        answer = call("metrics", f"http://127.0.0.1:{server.server_port}")
        thread.join()
        nobody = f"http://127.0.0.1:{server.server_port}"
    refused = call("metrics", nobody)

    assert answer.out == "workflow_runs_queued 0.0\n"
    assert refused.code == 2
    assert "no service answers" in refused.err


def test_errors_inside_groups_of_one_are_told_as_themselves() -> None:
    error = StoreUnavailable("in use", facts={"pid": 1})
    group = ExceptionGroup("tasks", [ExceptionGroup("tasks", [error])])

    assert only_leaf(group) is error
    assert told(group).message == "in use"
    assert any("--store" in line for line in told(group).advice)
    assert told(RuntimeError("x")).code == 1
