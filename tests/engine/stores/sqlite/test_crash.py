"""What was acknowledged survives `kill -9`, at whatever moment it comes."""

import random
import subprocess
import sys
import time
from pathlib import Path

from engine.stored import Kept, Query
from engine.stores.sqlite import SqliteStore

ROOT = Path(__file__).parents[4]

WRITE = """
import random, sys
import anyio
from engine.stored import Admit, Append, Kept, PutSnapshot, RunRow, SetStatus, blob_digest
from engine.stores.sqlite import SqliteStore

async def main(file, start, seed):
    chance = random.Random(seed)
    async with SqliteStore(file) as store:
        await store.commit([Admit(RunRow(run_id="r", graph="g", version="1", fingerprint="", submitted_at=1.0), b"")])
        seq = start
        while True:
            size = chance.choice([1, 1, 3, 30])
            writes = [Append("r", seq + more, b"x" * chance.randrange(3000)) for more in range(size)]
            seq += size
            other, blob = f"r{seq}", b"%d" % seq * 500
            writes += [
                Admit(RunRow(run_id=other, graph="h", version="1", fingerprint="", submitted_at=2.0), b""),
                Append(other, 1, b"y", {blob_digest(blob): blob}),
                SetStatus(other, "succeeded", 1.0),
            ]
            if chance.random() < 0.1:
                writes.append(PutSnapshot("r", seq - 5, b"snapshot"))
            await store.commit(writes, sync=chance.random() < 0.2)
            print(seq - 1, flush=True)
            if chance.random() < 0.05:
                await store.compact(Kept(count=3), now=2.0)

anyio.run(main, sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), backend=sys.argv[4])
"""


def kill_a_writer(file: Path, start: int, seed: int, backend: str) -> int:
    """Let it write for a while; returns the last number that it said was committed."""
    command = [sys.executable, "-c", WRITE, str(file), str(start), str(seed), backend]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline()]
        time.sleep(random.Random(seed).random() * 0.3)
        process.kill()
        said += process.stdout.readlines()
    return max(int(line) for line in said if line.endswith("\n"))


async def test_nothing_that_was_acknowledged_is_lost_by_a_kill(tmp_path: Path, anyio_backend_name: str) -> None:
    file = tmp_path / "runs.db"
    written = 0
    for kill in range(3):
        acknowledged = kill_a_writer(file, written + 1, kill, anyio_backend_name)

        async with SqliteStore(file) as store:
            found = [seq for seq, _ in await store.records("r", limit=1_000_000)]
            assert found == list(range(1, len(found) + 1))
            assert len(found) >= acknowledged > written
            assert await store.verify() == []
            # What a killed compaction has left is removed by the next.
            await store.compact(Kept(count=0), now=2.0)
            assert await store.find(Query(graph="h")) == []
            written = len(found)
