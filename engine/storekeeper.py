"""`python -m engine.storekeeper verify|export|migrate|compact URL`: looking after a store while no engine uses it."""

from __future__ import annotations

import argparse
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from time import time
from typing import Any

import anyio
import attrs
import orjson

from .errors import EngineError
from .format import digests_in
from .ports import Store
from .stored import Kept, Query
from .stores import open_store

PAGE = 100


async def verify(store: Store, _options: argparse.Namespace) -> int:
    """Tell every fault that is found; 1 if there are any."""
    faults = await store.verify()
    for fault in faults:
        print(f"{fault.where}: {fault.message}")
    print(f"{len(faults)} faults", file=sys.stderr)
    return 1 if faults else 0


async def migrate(store: Store, _options: argparse.Namespace) -> int:
    """Bring what an earlier version left up to date, which opening it has done, and tell what the store promises."""
    for name, value in attrs.asdict(store.facts).items():
        print(f"{name}: {value}")
    return 0


async def compact(store: Store, options: argparse.Namespace) -> int:
    """Remove ended runs that need not be kept, and old lines of the audit log."""
    keep = Kept(seconds=options.keep_seconds, count=options.keep_count, audit_seconds=options.keep_audit_seconds)
    removed = await store.compact(keep, now=time())
    print(f"{removed.runs} runs, {removed.records} records and {removed.blobs} blobs removed")
    if options.keep_audit_seconds is not None:
        print(f"{removed.audits} lines of the audit log removed")
    return 0


async def export(store: Store, _options: argparse.Namespace) -> int:
    """Write everything to stdout, a line of JSON each: definitions, runs with their records, blobs."""
    async for line in lines_of(store):
        sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
    sys.stdout.buffer.flush()
    return 0


async def lines_of(store: Store) -> AsyncIterator[dict[str, Any]]:
    """What `export` writes, as plain data."""
    for graph, version, fingerprint, text in await store.definitions():
        yield {"definition": {"graph": graph, "version": version, "fingerprint": fingerprint}, "text": text}
    told: set[str] = set()
    after: str | None = None
    while rows := await store.find(Query(after=after, limit=PAGE)):
        for row in rows:
            stored = await store.read(row.run_id)
            if stored is None:
                continue
            records = [pair async for pair in _records(store, row.run_id)]
            parts = [stored.admission, *(data for _, data in records)]
            if stored.snapshot is not None:
                parts.append(stored.snapshot[1])
            yield {
                "run": attrs.asdict(row),
                "admission": orjson.Fragment(stored.admission),
                "snapshot": stored.snapshot and [stored.snapshot[0], orjson.Fragment(stored.snapshot[1])],
                "records": [[seq, orjson.Fragment(data)] for seq, data in records],
                "inbox": [[id, orjson.Fragment(data)] for id, data in stored.inbox],
            }
            new = [
                digest for digest in dict.fromkeys(d for part in parts for d in digests_in(part)) if digest not in told
            ]
            for digest, data in (await store.blobs(new)).items() if new else ():
                yield {"blob": digest, "base64": b64encode(data).decode()}
            told.update(new)
        after = rows[-1].run_id
    number = 0
    while lines := await store.audits(after=number):
        for number, line in lines:
            yield {"audit": number, "at": line.at, "run": line.run_id, "data": orjson.Fragment(line.data)}


async def _records(store: Store, run_id: str) -> AsyncIterator[tuple[int, bytes]]:
    after = 0
    while page := await store.records(run_id, after=after):
        for pair in page:
            yield pair
        after = page[-1][0]


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 all is well, 1 faults were found, 2 the store could not be used."""
    parser = argparse.ArgumentParser(prog="python -m engine.storekeeper", description=__doc__)
    commands = {command.__name__: command for command in (verify, export, migrate, compact)}
    parser.add_argument("command", choices=commands)
    parser.add_argument("url", help="sqlite:///runs.db, postgresql://…, redis://…")
    parser.add_argument("--keep-seconds", type=float, help="compact: keep runs that ended at most so long ago")
    parser.add_argument("--keep-audit-seconds", type=float, help="compact: keep lines of the audit log so long")
    parser.add_argument("--keep-count", type=int, help="compact: keep the newest so many runs of each graph")
    options = parser.parse_args(arguments)

    async def run() -> int:
        async with open_store(options.url) as store:
            return await commands[options.command](store, options)

    try:
        return anyio.run(run)
    except (EngineError, ValueError, ImportError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
