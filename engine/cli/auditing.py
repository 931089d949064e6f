"""`workflow-engine audit`: who did what to which run."""

from __future__ import annotations

from collections.abc import Sequence
from time import time
from typing import Any

import anyio
import attrs
import click

from ..auditing import AuditLine, audit_lines, search
from ..ports import Store
from .faults import SUCCESS
from .looking import at_store
from .reading import shown_time, since_of
from .runs import or_at_server
from .setup import Setup, json_option, of_runs_option, prepared
from .terminal import Terminal, local_time


@click.command()
@of_runs_option
@click.option("--run", "run_id", metavar="ID", help="What was done to this run.")
@click.option("--who", metavar="NAME", help="What was done with the key of this name.")
@click.option("--since", metavar="TIME", help="Since: 30m, 2h, 7d, or a date.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@click.option("--after", type=click.IntRange(min=0), default=0, metavar="N", help="Those before this line.")
@json_option
@prepared
@or_at_server
def audit(
    setup: Setup, run_id: str | None, who: str | None, since: str | None, limit: int, after: int, as_json: bool
) -> int:
    """Read the audit log of a store or a service, the newest lines first.

    \b
    Examples:
        workflow-engine audit --run 7f3a…
        workflow-engine audit --who ci --since 2h --server http://127.0.0.1:8000
        workflow-engine audit --json | jq -r .action
    """

    async def act(store: Store) -> list[tuple[int, AuditLine]]:
        async def read(after: int, size: int) -> list[tuple[int, AuditLine]]:
            return audit_lines(await store.audits(run_id=run_id, after=after, limit=size, newest_first=True))

        found: list[tuple[int, AuditLine]] = []
        at: int | None = after
        while at is not None and len(found) < limit:
            page = await search(
                read, who=who, since=since_of(since, time), after=at, limit=limit - len(found), newest_first=True
            )
            found += page.lines
            at = page.next
        return found

    lines = anyio.run(at_store, setup.stored().store, act)
    show_lines(setup.terminal, [{"number": number, **attrs.asdict(line)} for number, line in lines], limit, as_json)
    return SUCCESS


def show_lines(terminal: Terminal, lines: Sequence[dict[str, Any]], limit: int, as_json: bool) -> None:
    """Write lines of the log, as JSON or as a table."""
    if as_json or not terminal.is_read_by_people:
        for line in lines:
            terminal.result({**line, "at": shown_time(line["at"])}, lines=True)
    else:
        cells = [
            [
                local_time(line["at"]),
                line["who"],
                line["action"],
                line["outcome"],
                line["run_id"] or line["graph"] or "",
                line["origin"],
            ]
            for line in lines
        ]
        terminal.table(["when", "who", "did", "outcome", "run or graph", "from"], cells)
    if len(lines) == limit:
        terminal.say(f"there may be more: --after {lines[-1]['number']}")
