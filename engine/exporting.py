"""All that a store holds as plain data, for backups and for other programs."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import attrs
import orjson

from .format import digests_in
from .ports import Store
from .stored import Query

PAGE = 100


async def lines_of(store: Store) -> AsyncIterator[dict[str, Any]]:
    """Definitions, runs with their records, and blobs, each as what one line of JSON says."""
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


async def _records(store: Store, run_id: str) -> AsyncIterator[tuple[int, bytes]]:
    after = 0
    while page := await store.records(run_id, after=after):
        for pair in page:
            yield pair
        after = page[-1][0]
