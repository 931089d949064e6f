"""`workflow-engine runs`: the runs of a store, to look at and to act on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from time import localtime, strftime, time
from typing import Any, Final, NoReturn

import anyio
import click

from ..app import Engine
from ..errors import RunEnded, RunNotFound
from ..handle import Run
from ..history import LogEntry
from ..kept import KeptRun
from ..ports import Store
from ..stored import Query, RunRow
from ..stores import open_store
from ..waits import names
from .driving import Begin, Driver, errors_of
from .faults import FAILED, SUCCESS, Refusal
from .looking import ENDED, UNFINISHED, Look, entries, list_runs, look, row_to_dict, stored_statuses
from .reading import json_of, object_of, since_of, tags_of
from .setup import (
    Setup,
    Verbs,
    driving_options,
    graphs_option,
    json_option,
    options,
    prepared,
    store_option,
    tools_option,
)
from .terminal import clock

FOLLOW_SECONDS: Final = 0.5
_STATUSES: Final = (UNFINISHED, *ENDED)


@click.group(cls=Verbs)
def runs() -> None:
    """The runs of a store: list them, look at them, let them go on, signal and end them.

    A store is one process's at a time: while a run or a service uses a SQLite file, these say so.

    \b
    Examples:
        workflow-engine runs ls --status failed --since 2h
        workflow-engine runs show 7f3a… --graphs flows.py:review
        workflow-engine runs resume 7f3a… --graphs flows.py:review
        workflow-engine runs signal 7f3a… approved '{"by": "me"}' --graphs flows.py:review
        workflow-engine runs fork 7f3a… --at score#2 --update '{"score": 1}' --graphs flows.py:review

    With graphs = ["flows.py:review"] in workflow.toml, or WORKFLOW_GRAPHS, --graphs can be left out.
    """


run_id_argument = click.argument("run_id", metavar="ID")
_looking = options(store_option, graphs_option, tools_option, json_option)
_driving = options(
    store_option,
    graphs_option,
    tools_option,
    click.option("--no-wait", is_flag=True, help="Leave it in the store at once."),
    driving_options,
)


# --- looking --------------------------------------------------------------------------------------------


@runs.command()
@store_option
@click.option("--status", multiple=True, type=click.Choice(_STATUSES), help="Any of these.")
@click.option("--graph", metavar="NAME", help="Of this graph.")
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", help="With all of these.")
@click.option("--since", metavar="TIME", help="Submitted since: 30m, 2h, 7d, or a date.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@click.option("--after", metavar="ID", help="Those that follow this one: the last of an earlier list.")
@json_option
@prepared
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
    """List runs, newest first: a table on a terminal, lines of JSON otherwise.

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
                strftime("%Y-%m-%d %H:%M:%S", localtime(row.submitted_at)),
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
@options(store_option, json_option)
@prepared
def log(setup: Setup, run_id: str, after: int, as_json: bool) -> int:
    """Print a run's log: a line for each attempt that has ended, JSON unless stdout is a terminal.

    \b
    Examples:
        workflow-engine runs log 7f3a…
        workflow-engine runs log 7f3a… --json | jq 'select(.status == "failed")'
    """
    anyio.run(_log, setup, run_id, after, _printer(setup, as_json), False)
    return SUCCESS


@runs.command()
@run_id_argument
@click.option("--after", type=int, default=0, metavar="N", help="Only what follows record N.")
@options(_driving, json_option)
@prepared
def watch(setup: Setup, run_id: str, after: int, no_wait: bool, quiet: bool, no_progress: bool, as_json: bool) -> int:
    """Follow a run until it is over: its log so far, and then whatever is added to it.

    With --graphs the run is driven here, if it has not ended, and shown live. Without, it is the run of another
    process that is followed, on a store that several can read (postgresql://, redis://).

    \b
    Examples:
        workflow-engine runs watch 7f3a… --graphs flows.py:review
        workflow-engine runs watch 7f3a… --store postgresql://db/runs
    """
    if setup.settings.graphs:
        return _act(setup, run_id, _get(run_id), no_wait, quiet, no_progress, ended_too=True)
    status = anyio.run(_log, setup, run_id, after, _printer(setup, as_json), not no_wait)
    return FAILED if status in ("failed", "cancelled") else SUCCESS


def _printer(setup: Setup, as_json: bool) -> Callable[[int, LogEntry], None]:
    terminal = setup.terminal

    def as_data(number: int, entry: LogEntry) -> None:
        terminal.result({"record": number, **entry.to_dict()}, lines=True)

    def as_text(_number: int, entry: LogEntry) -> None:
        start = strftime("%H:%M:%S", localtime(entry.start))
        attempt = f", attempt {entry.attempt}" if entry.attempt > 1 else ""
        said = entry.error or ", ".join(entry.keys)
        name = f"{entry.node}#{entry.activation}"
        terminal.text(f"{start}  {name:24} {entry.status}{attempt} in {clock(entry.duration)}  {said}".rstrip() + "\n")

    return as_data if as_json or not terminal.is_read_by_people else as_text


async def _log(setup: Setup, run_id: str, after: int, tell: Callable[[int, LogEntry], None], follow: bool) -> str:
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


# --- acting ---------------------------------------------------------------------------------------------


def _act(
    setup: Setup,
    run_id: str,
    begin: Begin,
    no_wait: bool = True,
    quiet: bool = False,
    no_progress: bool = False,
    *,
    drives: bool = True,
    ended_too: bool = False,
) -> int:
    """Do that with an engine on the store, and drive the run on if that is wanted."""
    setup.stored()
    loaded = setup.graphs() if drives else []
    if "log_level" not in setup.settings.origins:
        # What the engine warns of, that a run lacks its graph, is what is meant here, or is told as an error.
        logging.getLogger("engine").setLevel(logging.ERROR)
    sources = list(dict.fromkeys(one.source for one in loaded)) or ["FILE"]

    def again(found: Run) -> str:
        return setup.again(found, sources)

    async def begun(engine: Engine) -> Run:
        run = await begin(engine)
        if isinstance(run, KeptRun) and run.over and ended_too:
            raise run.why  # its graph is needed to tell how it went
        return run

    driver = Driver(setup.terminal, setup.settings, setup.show(quiet=quiet, progress=not no_progress), again)
    driven = driver.drive(begun, lambda: setup.engine(loaded), wait=not no_wait and bool(loaded))
    setup.terminal.result(driven.to_dict())
    if driven.ending == "unasked" and not driven.run.over:
        setup.terminal.say(f"it stays in the store, and goes on by\n  {again(driven.run)}")
    return driven.code


def _get(run_id: str) -> Begin:
    async def begin(engine: Engine) -> Run:
        return await engine.get(run_id)

    return begin


def _refuse_ended(setup: Setup, run: Run) -> NoReturn:
    verb = {"failed": "retry", "succeeded": "fork", "cancelled": "fork"}[run.status]
    raise Refusal(f"run {run.id!r} is over ({run.status})", f"to run it on: {setup.command('runs', verb, run.id)}")


@runs.command()
@run_id_argument
@_driving
@prepared
def resume(setup: Setup, run_id: str, no_wait: bool, quiet: bool, no_progress: bool) -> int:
    """Let a run go on that was interrupted or paused, and drive it to its end.

    What has ended is not run again; what was under way begins anew.

    \b
    Examples:
        workflow-engine runs resume 7f3a… --graphs flows.py:review
        workflow-engine runs resume 7f3a… --graphs review.json --tools my_tools --quiet | jq .state
    """

    async def begin(engine: Engine) -> Run:
        run = await engine.get(run_id)
        if run.over:
            _refuse_ended(setup, run)
        if not isinstance(run, KeptRun) and run.status == "paused":
            await run.resume()
        return run

    return _act(setup, run_id, begin, no_wait, quiet, no_progress)


@runs.command()
@run_id_argument
@click.option("--update", metavar="JSON|@FILE|-", help="Changes to the state that the failed nodes were given.")
@_driving
@prepared
def retry(setup: Setup, run_id: str, update: str | None, no_wait: bool, quiet: bool, no_progress: bool) -> int:
    """Run a failed run on from its failure: what had succeeded is not run again.

    \b
    Example:
        workflow-engine runs retry 7f3a… --update '{"url": "https://…"}' --graphs flows.py:review
    """
    change = object_of(update, "--update")

    async def begin(engine: Engine) -> Run:
        run = await engine.get(run_id)
        if not isinstance(run, KeptRun) and run.status != "failed":
            raise Refusal(f"run {run_id!r} has not failed ({run.status}): there is nothing to retry")
        await run.retry(change)
        return run

    return _act(setup, run_id, begin, no_wait, quiet, no_progress)


@runs.command()
@run_id_argument
@click.option("--at", required=True, metavar="NODE#N", help="The activation to start anew from.")
@click.option("--update", metavar="JSON|@FILE|-", help="Changes to the state that it is given.")
@_driving
@prepared
def fork(setup: Setup, run_id: str, at: str, update: str | None, no_wait: bool, quiet: bool, no_progress: bool) -> int:
    """Start a new run from one activation of an older one; all that it did not cause is kept.

    \b
    Example:
        workflow-engine runs fork 7f3a… --at score#2 --update '{"score": 1}' --graphs flows.py:review
    """
    change = object_of(update, "--update")

    async def begin(engine: Engine) -> Run:
        return await engine.fork(run_id, at, change)

    return _act(setup, run_id, begin, no_wait, quiet, no_progress)


@runs.command()
@run_id_argument
@_driving
@prepared
def migrate(setup: Setup, run_id: str, no_wait: bool, quiet: bool, no_progress: bool) -> int:
    """Let a run whose graph has changed go on, on the graph as it is now, if its records fit that.

    \b
    Example:
        workflow-engine runs migrate 7f3a… --graphs flows.py:review
    """

    async def begin(engine: Engine) -> Run:
        return await engine.migrate(run_id)

    return _act(setup, run_id, begin, no_wait, quiet, no_progress)


@runs.command()
@run_id_argument
@click.argument("name")
@click.argument("payload", required=False, metavar="[JSON|@FILE|-]")
@click.option("--id", "signal_id", metavar="ID", help="So that the same signal counts once.")
@_driving
@prepared
def signal(
    setup: Setup,
    run_id: str,
    name: str,
    payload: str | None,
    signal_id: str | None,
    no_wait: bool,
    quiet: bool,
    no_progress: bool,
) -> int:
    """Send a signal to a run, and let it go on.

    Without --graphs, or with --no-wait, the signal is kept in the store for when the run goes on.

    \b
    Examples:
        workflow-engine runs signal 7f3a… approved '{"by": "me"}' --graphs flows.py:review
        workflow-engine runs signal 7f3a… approved --no-wait
    """
    data = None if payload is None else json_of(payload, "the payload")

    async def begin(engine: Engine) -> Run:
        run = await engine.get(run_id)
        if run.over:
            raise RunEnded(run.id, run.status)
        await run.signal(name, data, signal_id)
        return run

    return _act(setup, run_id, begin, no_wait, quiet, no_progress, drives=not no_wait)


@runs.command()
@run_id_argument
@click.option("--reason", metavar="TEXT", help="To be told with it.")
@store_option
@prepared
def cancel(setup: Setup, run_id: str, reason: str | None) -> int:
    """End a run: it will not go on.

    \b
    Example:
        workflow-engine runs cancel 7f3a… --reason 'not needed any more'
    """

    async def begin(engine: Engine) -> Run:
        run = await engine.get(run_id)
        if run.over:
            raise RunEnded(run.id, run.status)
        await run.cancel(reason)
        return run

    return _act(setup, run_id, begin, drives=False)


@runs.command()
@run_id_argument
@options(store_option, graphs_option, tools_option)
@prepared
def pause(setup: Setup, run_id: str) -> int:
    """Have a run stay where it is, whoever drives it next, until `resume`.

    \b
    Example:
        workflow-engine runs pause 7f3a… --graphs flows.py:review
    """

    async def begin(engine: Engine) -> Run:
        run = await engine.get(run_id)
        if run.over:
            raise RunEnded(run.id, run.status)
        await run.pause()
        return run

    return _act(setup, run_id, begin)
