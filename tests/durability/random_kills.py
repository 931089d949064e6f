"""A program under load that is killed with -9 at random instants, again and again, and what must hold in the end.

Each life takes up the runs of the one before, submits more by the dozen (some under idempotency keys, which it submits
again if it does not know whether the last life did), signals those that wait, and tells what was acknowledged. The
last life is let to its end. By hand:

    python -m tests.durability.random_kills --kills 5000 [--seed 7] [--store sqlite|postgres|redis]
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import anyio
import attrs

from engine.format import unpack_record
from engine.ports import Store
from engine.stored import Query, StoredRun
from engine.stores import open_store
from tests.durability import lives, under_load

SHOWN = 20
LEAST_KILLS = 20


@attrs.define
class Report:
    """What came out."""

    seed: int
    kills: int = 0
    runs: int = 0
    acknowledged: int = 0
    signals: int = 0
    keys: int = 0
    records: int = 0
    starts: int = 0
    interrupted: int = 0
    """Activations that were started in more than one life, since they were in flight at a kill."""
    seconds: float = 0.0
    faults: list[str] = attrs.field(factory=list)

    def __str__(self) -> str:
        found = f"""seed {self.seed}: {self.kills} kills in {self.seconds:.1f} s
{self.runs} runs, {self.acknowledged} of them acknowledged, {self.keys} under keys; {self.signals} signals acknowledged
{self.records} records, {self.starts} attempts started, {self.interrupted} activations in flight at a kill
"""
        if not self.faults:
            return found + "nothing lost, nothing recorded was repeated"
        return f"{found}{len(self.faults)} FAULTS\n" + "\n".join(self.faults[:SHOWN])


def kill_again_and_again(
    url: str, folder: Path, kills: int, seed: int, *, most_seconds: float = float("inf")
) -> Report:
    """So many lives that are killed, or as many as begin in that time, but a few at least; and one that is not."""
    chance = random.Random(seed)
    lines = folder / "lines"
    began = time.perf_counter()
    life = 0
    while life < min(kills, LEAST_KILLS) or (life < kills and time.perf_counter() - began < most_seconds):
        life += 1
        born = time.perf_counter()
        here, there = lives.CONTEXT.Pipe(duplex=False)
        process = lives.start(under_load.main, url, str(lines), life, seed, there, False)
        there.close()
        if chance.random() < 0.9:
            try:
                here.recv()
            except EOFError:
                process.join()
                raise AssertionError(f"seed {seed}: life {life} ended with {process.exitcode} by itself") from None
            # On a slow machine later, or it would never come to submitting anything.
            time.sleep(chance.uniform(0, max(0.1, (time.perf_counter() - born) / 2)))
        else:
            time.sleep(chance.uniform(0, 0.05))
        assert process.exitcode is None, f"seed {seed}: life {life} ended with {process.exitcode} by itself"
        process.kill()
        process.join()
        here.close()
        process.close()
    here, there = lives.CONTEXT.Pipe(duplex=False)
    process = lives.start(under_load.main, url, str(lines), life + 1, seed, there, True)
    assert lives.has_ended_well(process, 120 + life / 5), f"seed {seed}"
    report = Report(seed, life, seconds=time.perf_counter() - began)
    anyio.run(_check, url, list(lives.lines_of(lines)), report)
    return report


async def _check(url: str, told: list[lives.Line], report: Report) -> None:
    async with open_store(url) as store:
        runs = {run.row.run_id: run for run in await _everything(store)}
        report.faults += [f"the store is damaged: {fault}" for fault in await store.verify()]
    report.runs = len(runs)
    begins = [(float(line.words[0]), line.life) for line in told if line.what == "begins"]
    starts: dict[str, set[int]] = defaultdict(set)
    effects: dict[str, set[int]] = defaultdict(set)
    signals: dict[str, set[str]] = defaultdict(set)
    by_key: dict[str, set[str]] = defaultdict(set)
    for line in told:
        match line.what:
            case "start":
                starts[line.words[0]].add(line.life)
                report.starts += 1
            case "wrong":
                report.faults.append(f"run {' '.join(line.words)} is not what it should be")
            case "effect":
                effects[line.words[0]].add(line.life)
            case "signalled":
                report.signals += 1
                signals[line.words[0]].add(line.words[1])
            case "submitted":
                report.acknowledged += 1
                run_id, _, _, key = line.words
                if run_id not in runs:
                    report.faults.append(f"run {run_id} was acknowledged in life {line.life}, and is lost")
                if key != "-":
                    by_key[key].add(run_id)
    report.interrupted = sum(len(those) > 1 for those in starts.values())
    report.keys = len(by_key)
    report.faults += [f"key {key} has the runs {sorted(those)}" for key, those in by_key.items() if len(those) > 1]
    owners = Counter(run.row.key for run in runs.values() if run.row.key is not None)
    report.faults += [f"key {key} has {count} runs" for key, count in owners.items() if count > 1]
    for run in runs.values():
        _check_run(run, begins, starts, effects, signals[run.row.run_id], report)


def _check_run(
    run: StoredRun,
    begins: list[tuple[float, int]],
    starts: dict[str, set[int]],
    effects: dict[str, set[int]],
    signals: set[str],
    report: Report,
) -> None:
    run_id, faults = run.row.run_id, report.faults
    if run.row.status != "succeeded":
        faults.append(f"run {run_id} of {run.row.graph} is {run.row.status}")
    ends, taken, decided = 0, [], Counter[str]()
    for _, data in run.records:
        record = unpack_record(data)
        report.records += 1
        ends += record.kind == "ended"
        if record.kind == "signal":
            taken.append(record.signal[3])
        if not record.node or not record.activation:
            continue
        path = "".join(f"{node}#{number}/" for node, number, _ in record.path)
        token = f"{run_id}/{path}{record.node}#{record.activation}"
        if record.kind in ("settled", "failed", "error_edge"):
            decided[token] += 1
        if record.kind in ("settled", "failed", "error_edge", "done"):
            life = max(life for began, life in begins if began <= record.time)
            for what, found in (("started", starts), ("had its effect", effects)):
                if later := [one for one in found.get(token, ()) if one > life]:
                    faults.append(f"{token} was on record in life {life}, and {what} again in {later}")
            if record.item < 0 and token in starts and not any(one <= life for one in starts[token]):
                faults.append(f"{token} is on record in life {life}, but started in {sorted(starts[token])} only")
    if ends != 1:
        faults.append(f"run {run_id} of {run.row.graph} ended {ends} times")
    faults += [f"{token} was decided {count} times" for token, count in decided.items() if count > 1]
    if len(set(taken)) != len(taken):
        faults.append(f"run {run_id} took a signal twice: {taken}")
    if lost := signals - set(taken):
        faults.append(f"run {run_id} lost the signals {sorted(lost)}, which were acknowledged")


async def _everything(store: Store) -> list[StoredRun]:
    found: list[StoredRun] = []
    after: str | None = None
    while page := await store.find(Query(after=after, limit=1000)):
        after = page[-1].run_id
        for row in page:
            run = await store.read(row.run_id)
            assert run is not None
            found.append(run)
    return found


def by_hand() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.durability.random_kills", description=by_hand.__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--store", choices=["sqlite", "postgres", "redis"], default="sqlite")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/runs.db"
        if arguments.store == "postgres":
            from tests.servers import fresh_postgres

            url = fresh_postgres()
        if arguments.store == "redis":
            from tests.servers import fresh_redis

            url = fresh_redis()
        report = kill_again_and_again(url, Path(folder), arguments.kills, arguments.seed)
    print(report)
    raise SystemExit(bool(report.faults))


if __name__ == "__main__":
    by_hand()
