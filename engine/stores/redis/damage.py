"""What is not as it must be among the keys of a store."""

from __future__ import annotations

from collections.abc import Sequence

from ...stored import Fault
from ..faults import fault_of_ref, faults_of_blob, faults_of_run
from .answers import outline_of
from .client import Client

BLOBS_AT_ONCE = 100


async def faults_of_runs(client: Client, ids: Sequence[bytes]) -> list[Fault]:
    """What is wrong with these runs."""
    faults: list[Fault] = []
    for answer in await client.run("outline", *ids):
        outline, appended, missing = outline_of(answer)
        faults += faults_of_run(outline)
        if not outline.count and appended > (outline.snapshot or 0):
            faults.append(Fault(f"run {outline.run_id!r}", f"its records up to number {appended} are missing"))
        faults += [fault_of_ref(outline.run_id, digest) for digest in sorted(set(missing))]
    return faults


async def faults_of_blobs(client: Client) -> list[Fault]:
    """Blobs that are not what their names say."""
    faults: list[Fault] = []
    digests = [*await client.call("HKEYS", "refs", ""), *await client.call("SMEMBERS", "unnamed", "")]
    for start in range(0, len(digests), BLOBS_AT_ONCE):
        step = digests[start : start + BLOBS_AT_ONCE]
        for digest, data in zip(step, await client.run("blobs", *step), strict=True):
            faults += [] if data is None else faults_of_blob(digest.decode(), data)
    return faults
