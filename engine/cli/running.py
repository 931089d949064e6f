"""`workflow-engine run`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from ..app import Engine
from ..errors import UnknownSignal
from ..graph import Graph
from ..handle import Run
from .driving import Driver
from .faults import Refusal
from .loading import state_for
from .reading import json_of, signals_of, tags_of
from .results import inputs_of
from .setup import Setup, driving_options, files_option, prepared, store_option, tools_option


@click.command()
@click.argument("graph", metavar="FILE|MODULE:GRAPH")
@click.option("--state", metavar="JSON|@FILE|-", help="What it starts on.  [default: {}]")
@store_option
@tools_option
@click.option("--run-id", metavar="ID", help="Its id, instead of one that is made up.")
@click.option("--key", metavar="KEY", help="Idempotency key: with the same state, the same run.")
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", help="To find it by.")
@click.option("--deadline", type=float, metavar="SECONDS", help="It must be over by then.")
@click.option("--priority", type=int, default=0, help="Higher ones start first.")
@click.option("--file", "inputs", multiple=True, metavar="ROLE=PATH", help="A file for what takes one.")
@click.option("--out", metavar="DIR", help="Where to write the files that it makes.")
@files_option
@click.option("--signal", "signals", multiple=True, metavar="NAME[=JSON]", help="To have for what waits for it.")
@driving_options
@prepared
def run(
    setup: Setup,
    graph: str,
    state: str | None,
    run_id: str | None,
    key: str | None,
    tags: Sequence[str],
    deadline: float | None,
    priority: int,
    signals: Sequence[str],
    inputs: Sequence[str],
    out: str | None,
    quiet: bool,
    no_progress: bool,
) -> int:
    """Run a graph and print its result as JSON.

    GRAPH is a definition (.json, .yaml), a Python file (flows.py, or flows.py:review if it has several), or
    module:graph.

    \b
    Examples:
        workflow-engine run review.yaml --tools my_tools --state '{"text": "a fine day"}'
        workflow-engine run flows.py:review --state @state.json --tag customer=7 > result.json
        generate | workflow-engine run my_package.flows:review --state - --quiet | jq .state
        workflow-engine run approval.json --signal approved='{"by": "me"}'
        workflow-engine run review.json --store memory:
        workflow-engine run flows.py:report --file table=orders.csv --out results/

    The run is kept in sqlite:///runs.db unless --store or WORKFLOW_STORE say otherwise: Ctrl-C leaves it there, and
    says how it goes on. With --store memory: Ctrl-C cancels it. A run that waits for a signal is left in the store
    (exit code 3).

    In the result dates are ISO 8601, durations seconds, bytes base64, objects of attrs classes objects; what JSON has
    no word for at all is text.
    """
    data = {} if state is None else json_of(state, "--state")
    if out == "":
        raise Refusal("--out names no folder", "an empty one may be a variable that is not set")
    given, sent, files = tags_of(tags), signals_of(signals), inputs_of(inputs)
    loaded = setup.loader.one(graph)
    initial = state_for(loaded.graph, data)
    _check_signals(loaded.graph, sent)

    async def begin(engine: Engine) -> Run:
        begun = await engine.submit(
            loaded.graph,
            initial,
            run_id=run_id,
            idempotency_key=key,
            tags=given,
            deadline=deadline,
            priority=priority,
            files=files or None,
        )
        for number, (name, payload) in enumerate(sent):
            if not begun.over:
                await begun.signal(name, payload, id=f"--signal {number}")
        return begun

    def again(found: Run) -> str:
        return setup.again(found, [loaded.source])

    driver = Driver(setup.terminal, setup.settings, setup.show(quiet=quiet, progress=not no_progress), again)
    driven = driver.drive(begin, setup.engine)
    setup.tell_result(driven, [loaded.source], out)
    return driven.code


def _check_signals(graph: Graph, signals: Sequence[tuple[str, Any]]) -> None:
    """Before anything is accepted: the run would have begun when it is found that nothing waits for them."""
    known = graph.compile().signals
    for name, _ in signals:
        if name not in known:
            raise UnknownSignal(name, sorted(known))
