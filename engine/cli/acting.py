"""`workflow-engine runs …`: what one does with a run, and drives it on for."""

from __future__ import annotations

import logging
from typing import NoReturn

import anyio
import click

from ..app import Engine
from ..errors import RunEnded
from ..handle import Run
from ..kept import KeptRun
from .driving import Begin, Driver
from .faults import FAILED, LEFT, SUCCESS, Refusal
from .reading import json_of, object_of
from .runs import follow_log, or_at_server, printer, run_id_argument, runs
from .setup import (
    Setup,
    driving_options,
    graphs_option,
    json_option,
    of_runs_option,
    options,
    prepared,
    store_option,
    tools_option,
)

_driven = (
    graphs_option,
    tools_option,
    click.option("--no-wait", is_flag=True, help="Leave it in the store at once."),
    driving_options,
)
_driving = options(of_runs_option, *_driven)


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
    setup.tell_result(driven, sources if loaded else [])
    if driven.ending == "unasked" and not driven.run.over:
        setup.terminal.say(f"it stays in the store, and goes on by\n  {again(driven.run)}")
        # Who wanted it to go on must not take it for done.
        return driven.code if no_wait else LEFT
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
@click.option("--after", type=int, default=0, metavar="N", help="Only what follows record N.")
@options(_driving, json_option)
@prepared
@or_at_server
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
    status = anyio.run(follow_log, setup, run_id, after, printer(setup, as_json), not no_wait)
    return FAILED if status in ("failed", "cancelled") else SUCCESS


@runs.command()
@run_id_argument
@_driving
@prepared
@or_at_server
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
        if isinstance(run, KeptRun):
            raise run.why  # without its graph nothing is resumed, nor noted
        if run.status == "paused":
            await run.resume()
        return run

    return _act(setup, run_id, begin, no_wait, quiet, no_progress)


@runs.command()
@run_id_argument
@click.option("--update", metavar="JSON|@FILE|-", help="Changes to the state that the failed nodes were given.")
@_driving
@prepared
@or_at_server
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
@or_at_server
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
@options(store_option, *_driven)
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
@or_at_server
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

    Without --graphs, or with --no-wait, the signal is kept in the store for when the run goes on. The exit code is 3
    then, unless --no-wait said that this is what is wanted.

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
@of_runs_option
@prepared
@or_at_server
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
@options(of_runs_option, graphs_option, tools_option)
@prepared
@or_at_server
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
