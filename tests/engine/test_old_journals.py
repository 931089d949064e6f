"""Whole journals that earlier versions wrote go on being replayed.

`python -m tests.engine.test_old_journals` writes that of the present version, for when the format changes: under
a folder of its own, beside those that are there.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

from engine import Engine, Graph, Retry
from engine.format import VERSION
from engine.recovery import Found
from engine.runs import Run
from engine.stored import Admit, Append, PutSnapshot, RunRow, SetStatus, StoredRun
from engine.stores.memory import MemoryStore

JOURNALS = Path(__file__).parent / "journal_formats"
State = dict[str, Any]


def begin(state: State) -> State:
    return {"items": [1, 2, 3], "seen": ["begin"], "odd": (1, {2}, b"\x00")}


def around(state: State) -> State:
    return {"rounds": state["rounds"] + 1, "seen": [f"round {state['rounds'] + 1}"]}


def flaky(state: State) -> State:
    if not _tried:
        _tried.append(True)
        raise OSError("once")
    return {"large": "x" * 20_000}


def broken(state: State) -> State:
    raise ValueError("always", {"detail": 1.5})


def double(item: int) -> int:
    return 2 * item


def inner(state: State) -> State:
    return {"inner": state.get("inner", 0) + 1}


def end(state: State) -> State:
    return {"seen": ["end"]}


_tried: list[bool] = []


def graph() -> Graph:
    """With a bit of everything."""
    sub = Graph("sub").add_node("one", inner, run_in="loop").add_node("two", inner, run_in="loop")
    sub.add_edge("one", "two").set_entry_point("one")
    found = Graph("old", reducers={"seen": list.__add__})
    for node in (begin, around, broken, end):
        found.add_node(node.__name__, node, run_in="loop")
    found.add_node("flaky", flaky, run_in="loop", retry=Retry(attempts=2, delay=0.001, jitter=0))
    found.add_map("map", double, over="items", into="doubled", run_in="loop")
    found.add_node("sub", sub).add_wait("wait", signal="go", into="it", timeout=60)
    found.add_edge("begin", ["around", "map", "broken", "sub"])
    found.add_edge("around", "around", when=lambda state: state["rounds"] < 3, max_iterations=5)
    found.add_edge("around", "flaky", otherwise=True)
    found.add_edge("broken", "wait", on_error=ValueError)
    found.add_edge(["flaky", "map", "sub", "wait"], "end").set_entry_point("begin")
    return found


async def journal() -> dict[str, Any]:
    """What a store has of one run of it, as JSON can hold it."""
    store = MemoryStore()
    writes: list[Any] = []
    commit = store.commit

    async def noted(some: Any, *, sync: bool = False) -> None:
        writes.extend(some)
        await commit(some, sync=sync)

    store.commit = noted  # type: ignore[method-assign]  # to hear what is written
    async with Engine(store) as engine:
        run = await engine.submit(graph(), {"rounds": 0, "seen": []}, run_id="old run")
        await run.signal("go", {"by": ("ann",)}, id="1")
        result = await run.result()
    blobs: dict[str, bytes] = {}
    for write in writes:
        blobs.update(getattr(write, "blobs", {}))
    (admission,) = [write for write in writes if isinstance(write, Admit)]
    return {
        "row": attrs.asdict(admission.row),
        "admission": admission.data.decode(),
        "records": [write.data.decode() for write in writes if isinstance(write, Append)],
        "blobs": {digest: b64encode(data).decode() for digest, data in blobs.items()},
        "state": repr(result.state),
        "log": [[one.node, one.activation, one.attempt, one.status] for one in result.log],
        "snapshots": len([write for write in writes if isinstance(write, PutSnapshot)]),
        "ended": [write.status for write in writes if isinstance(write, SetStatus)],
    }


def written() -> list[Any]:
    return [pytest.param(file, id=file.parent.name) for file in sorted(JOURNALS.glob("v*/journal.json"))]


@pytest.mark.parametrize("file", written())
@pytest.mark.parametrize("cut", [None, 1, 5, 12])
def test_a_journal_is_replayed(file: Path, cut: int | None) -> None:
    kept = json.loads(file.read_text())
    records = [(seq, text.encode()) for seq, text in enumerate(kept["records"], start=1)][:cut]
    blobs = {digest: b64decode(data) for digest, data in kept["blobs"].items()}
    stored = StoredRun(RunRow(**kept["row"]), kept["admission"].encode(), None, records)
    run = Run(graph().compile(), "old run", journal=True)

    commands = Found(stored.row, stored, blobs).rebuild(run, 2e9)

    if cut is None:
        assert not commands
        assert (run.status, repr(run.state)) == ("succeeded", kept["state"])
        found = [[one.node, one.activation, one.attempt, one.status] for one in run.history.log()]
        assert found == kept["log"]
    else:
        assert run.status in ("running", "waiting")
        assert commands, "what was in flight is ordered again"


def test_there_is_a_journal_of_the_present_version() -> None:
    assert (JOURNALS / f"v{VERSION}" / "journal.json").exists()


if __name__ == "__main__":
    file = JOURNALS / f"v{VERSION}" / "journal.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(anyio.run(journal), indent=1) + "\n")
