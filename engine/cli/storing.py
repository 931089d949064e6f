"""`workflow-engine store`: looking after a store while no engine uses it."""

from __future__ import annotations

from functools import partial
from time import time
from typing import Any

import anyio
import attrs
import click
import orjson

from ..durable import named_files
from ..exporting import lines_of
from ..files.choosing import files_for
from ..ports import Store
from ..stored import Compacted, Fault, Kept, StoreFacts
from .faults import FAILED, SUCCESS, Refusal
from .looking import at_store
from .safe import safe_line
from .settings import Settings, from_flags, gather
from .setup import Setup, Verbs, files_option, json_option, prepared, store_option


@click.group(cls=Verbs)
def store() -> None:
    """Look after a store while no engine uses it: check it, export it, make room, bring it up to date.

    \b
    Examples:
        workflow-engine store verify --store postgresql://db/runs
        workflow-engine store export > backup.jsonl
        workflow-engine store compact --keep-days 30 --keep-count 1000
    """


_address = click.argument("url", required=False, metavar="[URL]")


def _settings(setup: Setup, url: str | None) -> Settings:
    """With the store that was named in whichever way."""
    if url is None:
        return setup.stored()
    if "--store" in setup.settings.origins.values():
        raise Refusal(f"two stores are named: {url!r} and --store; name one")
    settings = gather([from_flags({"store": url})])
    return attrs.evolve(setup, settings=attrs.evolve(setup.settings, store=settings.store)).stored()


@store.command()
@_address
@store_option
@json_option
@prepared
def verify(setup: Setup, url: str | None, as_json: bool) -> int:
    """Tell every fault of a store; the exit code is 1 if there is one."""

    async def act(store: Store) -> list[Fault]:
        return list(await store.verify())

    faults = anyio.run(at_store, _settings(setup, url).store, act)
    for fault in faults:
        if as_json or not setup.terminal.is_read_by_people:
            setup.terminal.result({"where": fault.where, "message": fault.message}, lines=True)
        else:
            setup.terminal.text(safe_line(f"{fault.where}: {fault.message}") + "\n")
    setup.terminal.say(f"{len(faults)} fault{'s' * (len(faults) != 1)}")
    return FAILED if faults else SUCCESS


@store.command()
@_address
@store_option
@prepared
def migrate(setup: Setup, url: str | None) -> int:
    """Bring what an earlier version left up to date, and tell what the store promises."""

    async def act(store: Store) -> StoreFacts:
        return store.facts  # opening it has done the rest

    facts = anyio.run(at_store, _settings(setup, url).store, act)
    setup.terminal.result(attrs.asdict(facts))
    return SUCCESS


@store.command()
@_address
@store_option
@prepared
def export(setup: Setup, url: str | None) -> int:
    """Write all that a store has to stdout, a line of JSON each: definitions, runs with their records, blobs."""

    async def act(store: Store) -> None:
        async for line in lines_of(store):
            setup.terminal.data(orjson.dumps(line) + b"\n")

    anyio.run(at_store, _settings(setup, url).store, act)
    return SUCCESS


@store.command()
@_address
@store_option
@files_option
@click.option("--keep-days", type=click.FloatRange(min=0), metavar="N", help="Keep runs that ended since then.")
@click.option("--keep-seconds", type=click.FloatRange(min=0), metavar="N", help="The same, in seconds.")
@click.option("--keep-count", type=click.IntRange(min=0), metavar="N", help="Keep the newest of each graph.")
@click.option("--keep-audit-days", type=click.FloatRange(min=0), metavar="N", help="Keep the audit log since then.")
@prepared
def compact(
    setup: Setup,
    url: str | None,
    keep_days: float | None,
    keep_seconds: float | None,
    keep_count: int | None,
    keep_audit_days: float | None,
) -> int:
    """Remove ended runs that need not be kept, and what only they held; the audit log stays unless that is said, too.

    The contents of files go with the runs that named them, from beside a SQLite file or where --files says, unless
    they were kept within a day. What only another store's runs name goes, too: a place for files is for one store.

    \b
    Examples:
        workflow-engine store compact --keep-days 30
        workflow-engine store compact --keep-count 1000
    """
    if keep_days is not None:
        keep_seconds = keep_days * 86_400
    if keep_seconds is None and keep_count is None and keep_audit_days is None:
        raise Refusal("what is to be kept?", "say --keep-days or --keep-count; --keep-count 0 removes all that ended")
    audit_seconds = None if keep_audit_days is None else keep_audit_days * 86_400
    keep = Kept(seconds=keep_seconds, count=keep_count, audit_seconds=audit_seconds)

    settings = _settings(setup, url)
    files = files_for(settings.files, settings.store)

    async def act(store: Store) -> Compacted:
        removed = await store.compact(keep, now=time())
        return attrs.evolve(removed, files=await files.collect(partial(named_files, store)))

    removed: Any = anyio.run(at_store, settings.store, act)
    setup.terminal.result(attrs.asdict(removed))
    return SUCCESS
