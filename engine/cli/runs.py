"""`workflow-engine runs`: the runs of a store, to look at and to act on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from time import localtime, strftime, time
from typing import Any, Final

import anyio
import click

from ..errors import RunNotFound
from ..history import LogEntry
from ..ports import Store
from ..stored import Query, RunRow
from ..stores import open_store
from ..waits import names
from .driving import errors_of
from .faults import SUCCESS
from .looking import ENDED, UNFINISHED, Look, entries, list_runs, look, row_to_dict, stored_statuses
from .reading import since_of, tags_of
from .safe import safe_line
from .setup import (
    Setup,
    Verbs,
    graphs_option,
    json_option,
    of_runs_option,
    options,
    prepared,
    tools_option,
)
from .terminal import clock, local_time

FOLLOW_SECONDS: Final = 0.5
_STATUSES: Final = (UNFINISHED, *ENDED)


@click.group(cls=Verbs)
def runs() -> None:
    """The runs of a store: list them, look at them, let them go on, signal and end them.

    A store is one process's at a time: while a run or a service uses a SQLite file, these say so. With --server they
    ask the service itself, which has the graphs, and drives the runs.

    \b
    Examples:
        workflow-engine runs ls --status failed --since 2h
        workflow-engine runs show 7f3a… --graphs flows.py:review
        workflow-engine runs resume 7f3a… --graphs flows.py:review
        workflow-engine runs signal 7f3a… approved '{"by": "me"}' --graphs flows.py:review
        workflow-engine runs fork 7f3a… --at score#2 --update '{"score": 1}' --graphs flows.py:review
        workflow-engine runs watch 7f3a… --server http://127.0.0.1:8000

    With graphs = ["flows.py:review"] in workflow.toml, or WORKFLOW_GRAPHS, --graphs can be left out.
    """


def or_at_server(function: Callable[..., int]) -> Callable[..., int]:
    """A command that is for a service to do, if one is set: by a flag, or where no flag names a store."""

    @functools.wraps(function)
    def command(setup: Setup, **given: Any) -> int:
        origins = setup.settings.origins
        if setup.settings.server is None or (origins["server"] != "--server" and origins.get("store") == "--store"):
            return function(setup, **given)
        from .remote import at_server

        return at_server(setup, function.__name__, given)

    return command


run_id_argument = click.argument("run_id", metavar="ID")
_looking = options(of_runs_option, graphs_option, tools_option, json_option)
# --- looking --------------------------------------------------------------------------------------------


@runs.command()
@of_runs_option
@click.option("--status", multiple=True, type=click.Choice(_STATUSES), help="Any of these.")
@click.option("--graph", metavar="NAME", help="Of this graph.")
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", help="With all of these.")
@click.option("--since", metavar="TIME", help="Submitted since: 30m, 2h, 7d, or a date.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@click.option("--after", metavar="ID", help="Those that follow this one: the last of an earlier list.")
@json_option
@prepared
@or_at_server
def ls(
    setup: Setup,
    status: Sequence[str],
    graph: str | None,
    tags: Sequence[str],
    since: str | None,
    limit: int,
    after: str | None,
    as_json: bool,
) -> int:
    """List runs, newest first (a service: oldest first): a table on a terminal, lines of JSON otherwise.

    \b
    Examples:
        workflow-engine runs ls --status unfinished
        workflow-engine runs ls --graph review --tag customer=7 --since 2024-05-01
        workflow-engine runs ls --json | jq -r .run_id
    """
    query = Query(
        status=stored_statuses(status),
        graph=graph,
        tags=tags_of(tags),
        since=since_of(since, time),
        after=after,
        limit=limit,
        newest_first=True,
    )
    rows = anyio.run(list_runs, setup.stored().store, query)
    if as_json or not setup.terminal.is_read_by_people:
        for row in rows:
            setup.terminal.result(row_to_dict(row), lines=True)
    else:
        now = time()
        cells = [
            [
                row.run_id,
                f"{row.graph} {row.version}",
                UNFINISHED if row.status == "running" else row.status,
                local_time(row.submitted_at),
                clock((row.ended_at or now) - row.submitted_at) if row.ended_at else "",
                " ".join(f"{name}={value}" for name, value in row.tags.items()),
            ]
            for row in rows
        ]
        setup.terminal.table(["run", "graph", "status", "submitted", "took", "tags"], cells)
    if len(rows) == limit:
        setup.terminal.say(f"there may be more: --after {rows[-1].run_id}")
    return SUCCESS


@runs.command()
@run_id_argument
@_looking
@prepared
@or_at_server
def show(setup: Setup, run_id: str, as_json: bool) -> int:
    """Show one run as JSON; with its graph also its state, its nodes, and why it failed or what it waits for.

    \b
    Examples:
        workflow-engine runs show 7f3a…
        workflow-engine runs show 7f3a… --graphs flows.py:review | jq .state
    """
    found = anyio.run(look, setup.stored().store, run_id, [loaded.graph for loaded in setup.graphs()])
    setup.terminal.result(_shown(found), lines=as_json and not setup.terminal.is_read_by_people)
    if found.handle is None:
        setup.terminal.say(f"its state is not shown: {found.why}; name its graph with --graphs")
    return SUCCESS


def _shown(found: Look) -> dict[str, Any]:
    told = {**row_to_dict(found.row), "status": found.status, "input": found.values}
    machine = found.handle
    if machine is None:
        return told
    told["state"] = machine.plan.state.build(machine.present_values())
    if errors := errors_of(machine.error):
        told["errors"] = errors
    if machine.tree.signals.parked:
        told["waits_for"] = sorted({name for one in machine.tree.signals.parked for name in names(one.node)})
    nodes = [node.name for node in machine.plan.nodes]
    told["nodes"] = {name: machine.explain(name).removeprefix(f"{name}: ") for name in nodes}
    return {**told, "counters": machine.counters}


@runs.command()
@run_id_argument
@click.option("--after", type=int, default=0, metavar="N", help="Only what follows record N.")
@options(of_runs_option, json_option)
@prepared
@or_at_server
def log(setup: Setup, run_id: str, after: int, as_json: bool) -> int:
    """Print a run's log: a line for each attempt that has ended, JSON unless stdout is a terminal.

    \b
    Examples:
        workflow-engine runs log 7f3a…
        workflow-engine runs log 7f3a… --json | jq 'select(.status == "failed")'
    """
    anyio.run(follow_log, setup, run_id, after, printer(setup, as_json), False)
    return SUCCESS


def printer(setup: Setup, as_json: bool) -> Callable[[int, LogEntry], None]:
    terminal = setup.terminal

    def as_data(number: int, entry: LogEntry) -> None:
        terminal.result({"record": number, **entry.to_dict()}, lines=True)

    def as_text(_number: int, entry: LogEntry) -> None:
        start = strftime("%H:%M:%S", localtime(entry.start))
        attempt = f", attempt {entry.attempt}" if entry.attempt > 1 else ""
        said = entry.error or ", ".join(entry.keys)
        name = f"{entry.node}#{entry.activation}"
        line = f"{start}  {name:24} {entry.status}{attempt} in {clock(entry.duration)}  {said}"
        terminal.text(safe_line(line).rstrip() + "\n")

    return as_data if as_json or not terminal.is_read_by_people else as_text


async def follow_log(setup: Setup, run_id: str, after: int, tell: Callable[[int, LogEntry], None], follow: bool) -> str:
    """Print it, and follow it if nobody but another process can drive it; gives how the run stands."""
    url = setup.stored().store
    async with open_store(url) as store:
        while True:
            row = await _row(store, run_id)
            async for number, entry in entries(store, run_id, after):
                tell(number, entry)
                after = number
            if row.status in ENDED or not follow:
                return row.status
            if url.startswith("sqlite:"):
                setup.terminal.say("the run has not ended, and nobody drives it; --graphs lets it go on here")
                return row.status
            await anyio.sleep(FOLLOW_SECONDS)


async def _row(store: Store, run_id: str) -> RunRow:
    stored = await store.read(run_id)
    if stored is None:
        raise RunNotFound(run_id)
    return stored.row
