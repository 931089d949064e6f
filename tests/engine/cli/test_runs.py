"""`workflow-engine runs`: what one can see of a store's runs, and do with them."""

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from engine import Engine
from engine.cli.loading import Loader
from tests.engine.cli.test_commands import Answer, Call

GRAPHS = ("--graphs", "flows.py")


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], flows: Path) -> Call:
    return Call(capfd)


@pytest.fixture
def waiting(call: Call) -> Answer:
    """A run that waits for its signal."""
    answer = call("run", "flows.py:everything", "--run-id", "w", "--tag", "kind=wait", "--state", '{"count": 2}')
    assert answer.code == 3
    return answer


def lines(answer: Answer) -> list[Any]:
    assert answer.code == 0, answer.err
    return [json.loads(line) for line in answer.out.splitlines()]


# --- looking


def test_a_run_that_waits_says_by_which_command_it_goes_on(waiting: Answer) -> None:
    assert waiting.json["status"] == "waiting"
    assert "waits for the signal 'approved'" in waiting.err
    assert "runs signal w approved --graphs flows.py:everything\n" in waiting.err


def test_runs_are_listed_newest_first_and_can_be_chosen(call: Call, waiting: Answer) -> None:
    call("run", "flows.py:hello", "--run-id", "h", "--tag", "kind=ends")
    call("run", "flows.py:broken", "--run-id", "b")

    def ids(*words: str) -> list[str]:
        return [row["run_id"] for row in lines(call("runs", "ls", *words))]

    assert ids() == ["b", "h", "w"]
    assert ids("--status", "unfinished") == ["w"]
    assert ids("--status", "failed", "--status", "succeeded") == ["b", "h"]
    assert ids("--graph", "hello") == ids("--tag", "kind=ends") == ["h"]
    assert ids("--since", "1h") == ["b", "h", "w"]
    assert ids("--since", "2999-01-01") == []
    assert ids("--limit", "1") == ["b"]
    assert ids("--limit", "1", "--after", "b") == ["h"]
    assert "there may be more: --after b" in call("runs", "ls", "--limit", "1").err


def test_a_run_is_shown_without_its_graph_as_far_as_that_goes(call: Call, waiting: Answer) -> None:
    answer = call("runs", "show", "w")

    assert (answer.json["status"], answer.json["input"], answer.json["tags"]) == (
        "unfinished",
        {"count": 2},
        {"kind": "wait"},
    )
    assert "name its graph with --graphs" in answer.err


def test_a_run_is_shown_with_its_graph_as_the_engine_knows_it(call: Call, waiting: Answer) -> None:
    shown = call("runs", "show", "w", *GRAPHS).json

    assert (shown["status"], shown["waits_for"], shown["state"]["doubled"]) == ("waiting", ["approved"], [0, 2])
    assert shown["nodes"]["approve"] == "#1 waits for the signal 'approved'"


def test_why_a_run_failed_is_shown(call: Call) -> None:
    call("run", "flows.py:broken", "--run-id", "b")

    assert call("runs", "show", "b", *GRAPHS).json["errors"][0]["type"] == "ZeroDivisionError"


def test_a_log_needs_no_graph_and_can_be_read_on(call: Call, waiting: Answer) -> None:
    log = lines(call("runs", "log", "w"))

    assert [entry["node"] for entry in log if entry["status"] == "succeeded"].count("again") == 3
    assert lines(call("runs", "log", "w", "--after", str(log[-2]["record"]))) == log[-1:]


def test_watching_without_a_graph_tells_the_log_and_that_nobody_drives_it(call: Call, waiting: Answer) -> None:
    answer = call("runs", "watch", "w")

    assert len(lines(answer)) == len(lines(call("runs", "log", "w")))
    assert "nobody drives it" in answer.err


def test_a_run_that_there_is_not_is_told(call: Call, waiting: Answer) -> None:
    for verb in ("show", "log", "resume", "retry", "cancel", "watch"):
        answer = call("runs", verb, "nope")
        assert (answer.code, answer.out) == (2, "")
        assert "no run has the id 'nope'" in answer.err


# --- acting


def test_a_signal_lets_a_run_go_on_to_its_end(call: Call, waiting: Answer) -> None:
    answer = call("runs", "signal", "w", "approved", '{"by": "me"}', *GRAPHS)

    assert answer.code == 0
    assert (answer.json["status"], answer.json["state"]["approval"]) == ("succeeded", {"by": "me"})
    assert "start#1" not in answer.err, "what has ended is not run again"


def test_a_signal_is_kept_for_later(call: Call, waiting: Answer) -> None:
    kept = call("runs", "signal", "w", "approved", "1", "--no-wait", *GRAPHS)

    assert (kept.code, kept.json["status"]) == (0, "unfinished")
    assert "WARNING" not in kept.err
    assert "goes on by" in kept.err
    assert call("runs", "resume", "w", *GRAPHS).json["state"]["approval"] == 1


def test_a_graph_is_needed_to_go_on(call: Call, waiting: Answer) -> None:
    answer = call("runs", "resume", "w", "--graphs", "flows.py:hello")

    assert answer.code == 2
    assert "name its file or module with --graphs" in answer.err


@pytest.mark.parametrize("words", [["resume", "w"], ["resume", "w", "--no-wait"]])
def test_without_a_graph_nothing_is_resumed_and_that_is_told(words: list[str], call: Call, waiting: Answer) -> None:
    answer = call("runs", *words)

    assert (answer.code, answer.out) == (2, "")
    assert "the graph 'everything' version '1' is not here; no graph has been named" in answer.err
    assert "--graphs" in answer.err
    assert "engine.register" not in answer.err


def test_a_run_that_was_to_go_on_and_did_not_is_no_success(call: Call, waiting: Answer) -> None:
    answer = call("runs", "signal", "w", "approved", "1")

    assert (answer.code, answer.json["status"]) == (3, "unfinished")
    assert "goes on by" in answer.err
    assert call("runs", "resume", "w", *GRAPHS).json["state"]["approval"] == 1
    assert call("runs", "resume", "w", "--no-wait", *GRAPHS).code == 2, "it is over"


def test_what_is_over_does_not_go_on(call: Call) -> None:
    call("run", "flows.py:hello", "--run-id", "h")
    call("run", "flows.py:broken", "--run-id", "b")

    assert "runs fork h" in call("runs", "resume", "h", *GRAPHS).err
    assert "runs retry b" in call("runs", "resume", "b", *GRAPHS).err
    assert "there is nothing to retry" in call("runs", "retry", "h", *GRAPHS).err
    assert "is over" in call("runs", "cancel", "h").err
    assert "is over" in call("runs", "pause", "h", *GRAPHS).err
    assert "is over" in call("runs", "signal", "h", "x", *GRAPHS).err


def test_a_failed_run_is_run_on_with_another_state(call: Call) -> None:
    call("run", "flows.py:broken", "--run-id", "b")

    assert call("runs", "retry", "b", *GRAPHS).code == 1
    answer = call("runs", "retry", "b", "--update", '{"by": 2}', *GRAPHS)

    assert (answer.code, answer.json["state"]) == (0, {"by": 2, "result": 0.5})


def test_a_run_is_forked_from_one_of_its_activations(call: Call, waiting: Answer) -> None:
    answer = call("runs", "fork", "w", "--at", "again#2", "--update", '{"rounds": 2}', *GRAPHS)

    assert answer.code == 3
    assert answer.json["run_id"] != "w"
    assert (answer.json["state"]["rounds"], answer.json["counters"]["activations"]) == (3, 6)


def test_a_cancelled_run_goes_on_nowhere(call: Call, waiting: Answer) -> None:
    answer = call("runs", "cancel", "w", "--reason", "enough")

    assert (answer.code, answer.json["status"]) == (0, "cancelled")
    assert call("runs", "show", "w", *GRAPHS).json["status"] == "cancelled"
    assert call("runs", "resume", "w", *GRAPHS).code == 2


def test_a_paused_run_stays_paused_until_it_is_resumed(call: Call, waiting: Answer) -> None:
    paused = call("runs", "pause", "w", *GRAPHS)
    assert (paused.code, paused.json["status"]) == (0, "paused")

    assert call("runs", "show", "w", *GRAPHS).json["status"] == "paused"
    watched = call("runs", "watch", "w", *GRAPHS)
    assert (watched.code, watched.json["status"]) == (3, "paused")
    assert "run w is paused; it stays in the store" in watched.err

    assert call("runs", "resume", "w", *GRAPHS).json["status"] == "waiting"


def test_a_run_whose_graph_has_changed_goes_on_after_a_migration(call: Call, waiting: Answer, flows: Path) -> None:
    text = (
        flows.read_text().replace("@tool\n", "")
        + '\neverything.add_node("new", step)\neverything.add_edge("approve", "new")\n'
    )
    flows.with_name("changed.py").write_text(text)
    graphs = ("--graphs", "changed.py:everything")
    (flows.parent / "go").touch()

    refused = call("runs", "resume", "w", *graphs)
    assert refused.code == 2
    assert "runs migrate" in refused.err

    assert call("runs", "migrate", "w", *graphs).code == 3


def test_only_the_run_that_is_asked_for_goes_on(call: Call, waiting: Answer) -> None:
    call("run", "flows.py:everything", "--run-id", "other", "--signal", "approved", "--state", '{"count": 1}')

    assert call("runs", "show", "w", *GRAPHS).json["status"] == "waiting"


def test_watching_with_a_graph_drives_the_run(call: Call, waiting: Answer) -> None:
    call("runs", "signal", "w", "approved", "--no-wait")

    assert call("runs", "watch", "w", *GRAPHS).json["status"] == "succeeded"


def test_a_store_that_is_in_use_says_what_to_do(call: Call, flows: Path) -> None:
    async def main() -> Answer:
        async with Engine("sqlite:///runs.db") as engine:
            await engine.run(Loader().one("flows.py:hello").graph)
            return await anyio.to_thread.run_sync(call, "runs", "ls")

    answer = anyio.run(main)

    assert answer.code == 2
    assert "is in use by" in answer.err
    assert "--store sqlite:///other.db" in answer.err
