"""`workflow-engine runs … --server URL`: the same verbs at a service, which drives its runs itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from importlib.util import find_spec
from time import time
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs

from ..errors import RunEnded
from ..listed import in_short
from ..redaction import hide
from ..runs import Status
from .driving import errors_of
from .faults import FAILED, LEFT, SUCCESS, Refusal
from .looking import ENDED, UNFINISHED
from .reading import json_of, object_of, shown_time, since_of, tags_of
from .runs import printer
from .setup import NAME, Setup
from .terminal import local_time

if TYPE_CHECKING:
    from ..client import AsyncClient, RemoteRun

LIVE: Final[tuple[Status, ...]] = ("queued", "running", "waiting", "paused")
ENDS_AN_ATTEMPT: Final = ("node_succeeded", "node_failed", "node_cancelled", "node_timed_out", "node_retrying")


def at_server(setup: Setup, verb: str, given: dict[str, Any]) -> int:
    """Do that at the service that is set; gives the exit code."""
    settings = setup.settings
    if (settings.origins.get("server"), settings.origins.get("store")) == ("--server", "--store"):
        raise Refusal("--server and --store name two places", "a service has its own store: leave --store out")
    if find_spec("httpx2") is None:
        raise Refusal("--server needs httpx2", f"pip install '{NAME}[client]'")
    if settings.api_key is not None:
        hide(settings.api_key)
    return anyio.run(_connected, setup, verb, given, backend=settings.backend)


async def _connected(setup: Setup, verb: str, given: dict[str, Any]) -> int:
    from ..client import AsyncClient

    async with AsyncClient(setup.settings.server, api_key=setup.settings.api_key) as client:
        return await _VERBS[verb](setup, client, **given)


# --- looking --------------------------------------------------------------------------------------------


async def _ls(
    setup: Setup,
    client: AsyncClient,
    status: Sequence[str],
    graph: str | None,
    tags: Sequence[str],
    since: str | None,
    limit: int,
    after: str | None,
    as_json: bool,
) -> int:
    wanted: set[Any] = {live for one in status for live in (LIVE if one == UNFINISHED else (one,))}
    found = await client.runs(wanted or None, graph, tags_of(tags), since_of(since, time), limit, after)
    if as_json or not setup.terminal.is_read_by_people:
        for run in found:
            setup.terminal.result(_row(run), lines=True)
    else:
        cells = [
            [
                run.id,
                f"{run.graph} {run.version}",
                run.status,
                local_time(run.submitted_at),
                " ".join(f"{name}={value}" for name, value in run.tags.items()),
            ]
            for run in found
        ]
        setup.terminal.table(["run", "graph", "status", "submitted", "tags"], cells)
    if len(found) == limit:
        setup.terminal.say(f"there may be more, that are newer: --after {found[-1].id}")
    return SUCCESS


def _row(run: RemoteRun) -> dict[str, Any]:
    return {**in_short(run), "submitted_at": shown_time(run.submitted_at)}


async def _show(setup: Setup, client: AsyncClient, run_id: str, as_json: bool) -> int:
    run = await client.get(run_id)
    info = run.info
    told = {**_row(run), **_ending(run), "counters": dict(info.counters), "not_run": info.not_run}
    if info.unavailable is not None:
        told["unavailable"] = info.unavailable
    setup.terminal.result(told, lines=as_json and not setup.terminal.is_read_by_people)
    return SUCCESS


async def _audit(
    setup: Setup,
    client: AsyncClient,
    run_id: str | None,
    who: str | None,
    since: str | None,
    limit: int,
    after: int,
    as_json: bool,
) -> int:
    from .auditing import show_lines

    found = await client.audits(run_id, who=who, since=since_of(since, time), limit=limit, after=after)
    lines = [{name: value for name, value in attrs.asdict(one).items() if name != "timestamp"} for one in found]
    show_lines(setup.terminal, lines, limit, as_json)
    return SUCCESS


async def _log(setup: Setup, client: AsyncClient, run_id: str, after: int, as_json: bool) -> int:
    await _print_log(setup, await client.get(run_id), after, as_json)
    return SUCCESS


async def _watch(
    setup: Setup,
    client: AsyncClient,
    run_id: str,
    after: int,
    no_wait: bool,
    quiet: bool,
    no_progress: bool,
    as_json: bool,
) -> int:
    run = await client.get(run_id)
    last = run.info.last_event
    after = await _print_log(setup, run, after, as_json)
    if not run.over and not no_wait:
        async for event in run.events(last):
            if event.type in ENDS_AN_ATTEMPT:
                after = await _print_log(setup, run, after, as_json)
        await run.wait()
        await _print_log(setup, run, after, as_json)
    return FAILED if run.status in ("failed", "cancelled") else SUCCESS


async def _print_log(setup: Setup, run: RemoteRun, after: int, as_json: bool) -> int:
    """Print what follows so many entries; gives how many there are now."""
    tell = printer(setup, as_json)
    for entry in await run.log_after(after):
        after += 1
        tell(after, entry)
    return after


# --- acting ---------------------------------------------------------------------------------------------


def _ending(run: RemoteRun) -> dict[str, Any]:
    """What there is to tell of how a run stands."""
    found: dict[str, Any] = {"state": run.state}
    if errors := errors_of(run.error):
        found["errors"] = errors
    return found


async def _told(setup: Setup, run: RemoteRun, no_wait: bool = True) -> int:
    """Show a run; before that wait, if that is wanted, until it is over or only waits itself."""
    await run.refresh()
    if not no_wait and run.status not in (*ENDED, "waiting", "paused"):
        async for event in run.events(run.info.last_event):
            if event.type in ("run_waiting", "run_paused"):
                break
        await run.refresh()
    told = {"status": run.status, "run_id": run.id, "graph": run.graph, "version": run.version}
    setup.terminal.result({**told, **_ending(run), "counters": dict(run.info.counters)})
    if run.status == "failed" or (run.status == "cancelled" and not no_wait):
        return FAILED
    return SUCCESS if run.over or no_wait else LEFT


async def _live(client: AsyncClient, run_id: str) -> RemoteRun:
    run = await client.get(run_id)
    if run.over:
        raise RunEnded(run.id, run.status)
    return run


async def _cancel(setup: Setup, client: AsyncClient, run_id: str, reason: str | None) -> int:
    run = await _live(client, run_id)
    await run.cancel(reason)
    await run.wait()
    return await _told(setup, run)


async def _pause(setup: Setup, client: AsyncClient, run_id: str) -> int:
    run = await _live(client, run_id)
    await run.pause()
    return await _told(setup, run)


async def _resume(setup: Setup, client: AsyncClient, run_id: str, no_wait: bool, quiet: bool, no_progress: bool) -> int:
    run = await _live(client, run_id)
    await run.resume()
    return await _told(setup, run, no_wait)


async def _retry(
    setup: Setup,
    client: AsyncClient,
    run_id: str,
    update: str | None,
    no_wait: bool,
    quiet: bool,
    no_progress: bool,
) -> int:
    change = object_of(update, "--update")
    run = await client.get(run_id)
    if run.status != "failed":
        raise Refusal(f"run {run_id!r} has not failed ({run.status}): there is nothing to retry")
    await run.retry(change)
    return await _told(setup, run, no_wait)


async def _fork(
    setup: Setup,
    client: AsyncClient,
    run_id: str,
    at: str,
    update: str | None,
    no_wait: bool,
    quiet: bool,
    no_progress: bool,
) -> int:
    return await _told(setup, await client.fork(run_id, at, object_of(update, "--update")), no_wait)


async def _signal(
    setup: Setup,
    client: AsyncClient,
    run_id: str,
    name: str,
    payload: str | None,
    signal_id: str | None,
    no_wait: bool,
    quiet: bool,
    no_progress: bool,
) -> int:
    data = None if payload is None else json_of(payload, "the payload")
    run = await client.get(run_id)
    await run.signal(name, data, signal_id)
    return await _told(setup, run, no_wait)


_VERBS: Final[dict[str, Callable[..., Awaitable[int]]]] = {
    "ls": _ls,
    "show": _show,
    "log": _log,
    "audit": _audit,
    "watch": _watch,
    "cancel": _cancel,
    "pause": _pause,
    "resume": _resume,
    "retry": _retry,
    "fork": _fork,
    "signal": _signal,
}
