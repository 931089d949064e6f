"""Several engine processes on one PostgreSQL store, killed, stopped and cut off at random, and what must hold then.

python -m tests.durability.fleet --runs 1000 [--engines 3] [--every 2] [--restarts 1] [--seed 7] [--lease 15]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import attrs
import psycopg

from engine import Sharing
from engine.format import unpack_record
from engine.stores.postgres import PostgresStore
from tests.durability import lives
from tests.durability.fleet_life import Share, main
from tests.durability.random_kills import _everything
from tests.durability.under_load import SIGNALS

QUICK = Sharing(lease=3.0, renew=0.5, poll=0.2)
SHOWN = 20


@attrs.define
class Member:
    """A slot of the fleet, with the process that is in it now."""

    share: Share
    process: Any = None
    life: int = 0


@attrs.define
class Fleet:
    """Engine processes, and how many lives they have had."""

    shares: list[Share]
    members: list[Member] = attrs.field(factory=list)
    lives: int = 0

    def start(self, member: Member) -> None:
        """Another life."""
        self.lives += 1
        member.life = self.lives
        member.process = lives.start(main, member.share, self.lives)

    def kill(self, member: Member) -> None:
        """As a crash does."""
        assert member.process.exitcode is None, f"life {member.life} ended with {member.process.exitcode} by itself"
        member.process.kill()
        member.process.join()
        member.process.close()

    def wait_until_it_has_joined(self, member: Member) -> None:
        """Until it is among the others."""
        until = time.monotonic() + 30
        while not any(
            line.what == "joined" and line.life == member.life for line in lives.lines_of(Path(member.share.lines))
        ):
            assert time.monotonic() < until, f"life {member.life} has not joined"
            time.sleep(0.02)

    def wait_until_all_are_at_work(self) -> None:
        """Until each has begun something: who is killed before has nothing that others could take over."""
        left = {member.life for member in self.members}
        until = time.monotonic() + 60
        while left:
            assert time.monotonic() < until, f"lives {sorted(left)} have begun nothing"
            time.sleep(0.02)
            left -= {line.life for line in lives.lines_of(Path(self.shares[0].lines)) if line.what == "start"}

    def close(self) -> list[int]:
        """Have all leave in order; their exit codes."""
        for member in self.members:
            self.wait_until_it_has_joined(member)
            os.kill(member.process.pid, signal.SIGCONT)
            member.process.terminate()
        codes = []
        for member in self.members:
            member.process.join(30)
            if member.process.exitcode is None:
                member.process.kill()
                member.process.join()
            codes.append(member.process.exitcode)
        return codes


@contextmanager
def fleet_of(shares: list[Share]) -> Iterator[Fleet]:
    """So many processes, which are gone afterwards."""
    fleet = Fleet(shares)
    try:
        for share in shares:
            member = Member(share)
            fleet.members.append(member)
            fleet.start(member)
        yield fleet
    finally:
        for member in fleet.members:
            if member.process is not None:
                member.process.kill()
                member.process.join()


@attrs.define
class Report:
    """What came out."""

    seed: int
    kills: int = 0
    runs: int = 0
    records: int = 0
    starts: int = 0
    interrupted: int = 0
    """Activations that began in more than one life."""
    engines: int = 0
    """Lives that drove something."""
    seconds: float = 0.0
    faults: list[str] = attrs.field(factory=list)

    def __str__(self) -> str:
        found = (
            f"seed {self.seed}: {self.runs} runs, {self.kills} kills, {self.engines} lives of engines drove them in "
            f"{self.seconds:.1f} s; {self.records} records, {self.starts} attempts started, {self.interrupted} "
            f"activations in flight at a kill\n"
        )
        if not self.faults:
            return found + "each run ended once, none was lost, none ran twice, nothing recorded was repeated"
        return f"{found}{len(self.faults)} FAULTS\n" + "\n".join(self.faults[:SHOWN])


def kill_among(
    url: str,
    folder: Path,
    *,
    runs: int,
    engines: int = 3,
    every: float = 1.0,
    sharing: Sharing = QUICK,
    seed: int = 0,
    most: float = 240.0,
    pause: float = 0.02,
    beside: Callable[[float], None] = lambda seconds: None,
) -> Report:
    """Kill one every so often until all runs are over; `beside` is called in between, with how long it has been."""
    chance = random.Random(seed)
    report = Report(seed)
    each = -(-runs // engines)
    backends = ["asyncio", "trio", "uvloop"]
    shares = [
        Share(
            url,
            str(folder / "lines"),
            sharing,
            first=number * each,
            last=min(runs, (number + 1) * each),
            pause=pause,
            backend=backends[number % 3],
            log=str(folder / "log"),
        )
        for number in range(engines)
    ]
    with fleet_of(shares) as fleet:
        fleet.wait_until_all_are_at_work()
        began = time.monotonic()
        next_kill = every * chance.uniform(0.5, 1.5)
        while not _all_over(url, runs):
            spent = time.monotonic() - began
            assert spent < most, f"seed {seed}: not over after {spent:.0f} s; {_standing(url)}"
            beside(spent)
            if spent > next_kill:
                member = chance.choice(fleet.members)
                fleet.kill(member)
                report.kills += 1
                fleet.start(member)
                next_kill = time.monotonic() - began + every * chance.uniform(0.5, 1.5)
            time.sleep(0.05)
        report.seconds = time.monotonic() - began
        report.faults += [f"an engine was left with exit code {code}" for code in fleet.close() if code]
    check(url, folder / "lines", runs, report)
    return report


def _schema(url: str) -> str:
    return url.rpartition("schema=")[2]


def ask(url: str, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Ask the server itself; nothing while it is away."""
    try:
        with psycopg.connect(url.partition("?")[0], connect_timeout=5) as connection:
            text = query.replace("$.", f"{_schema(url)}.")
            return connection.execute(text.encode(), parameters).fetchall()
    except (psycopg.OperationalError, psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
        return []


def _all_over(url: str, runs: int) -> bool:
    found = ask(url, "SELECT count(*), count(*) FILTER (WHERE status = 'running') FROM $.runs")
    return bool(found) and found[0][0] >= runs and found[0][1] == 0


def _standing(url: str) -> str:
    runs = ask(url, "SELECT graph, status, owner, count(*) FROM $.runs GROUP BY 1, 2, 3")
    return f"{runs}; {ask(url, 'SELECT id, name, epoch, expires - now(), gone FROM $.engines')}"


def check(url: str, lines: Path, runs: int, report: Report) -> None:
    """Look into the store, and at what the members told."""
    anyio.run(_check, url, list(lives.lines_of(lines)), runs, report)


async def _check(url: str, told: list[lives.Line], runs: int, report: Report) -> None:
    async with PostgresStore(url) as store:
        stored = await _everything(store)
        report.faults += [f"the store is damaged: {fault}" for fault in await store.verify()]
        kept = {run.row.run_id: await store.records(run.row.run_id, limit=100_000) for run in stored}
    report.runs = len(stored)
    keys = Counter(run.row.key for run in stored)
    report.faults += [f"no run has key-{number}" for number in range(runs) if not keys[f"key-{number}"]]
    report.faults += [f"{key} has {count} runs" for key, count in keys.items() if count > 1]
    ids = {run.row.run_id: run.row for run in stored}
    starts: dict[str, list[int]] = defaultdict(list)
    signals: dict[str, set[str]] = defaultdict(set)
    for line in told:
        match line.what:
            case "start":
                starts[line.words[0]].append(line.life)
                report.starts += 1
            case "wrong":
                report.faults.append(" ".join(line.words))
            case "submitted":
                row = ids.get(line.words[0])
                if row is None or row.key != line.words[1]:
                    report.faults.append(f"run {line.words[0]} was acknowledged as {line.words[1]}, and is lost")
            case "signalled":
                signals[line.words[0]].add(line.words[1])
    report.interrupted = sum(len(set(those)) > 1 for those in starts.values())
    report.engines = len({life for those in starts.values() for life in those})
    for run in stored:
        records = [unpack_record(data) for _, data in kept[run.row.run_id]]
        _check_run(run.row, [seq for seq, _ in kept[run.row.run_id]], records, signals[run.row.run_id], report)


def _check_run(row: Any, seqs: list[int], records: list[Any], signals: set[str], report: Report) -> None:
    faults, run_id = report.faults, row.run_id
    if row.status != "succeeded":
        faults.append(f"run {run_id} of {row.graph} is {row.status}")
    if seqs != list(range(1, len(seqs) + 1)):
        faults.append(f"run {run_id} has the records {seqs}")
    report.records += len(records)
    if (ends := sum(record.kind == "ended" for record in records)) != 1:
        faults.append(f"run {run_id} of {row.graph} ended {ends} times")
    decided = Counter[Any]()
    for record in records:
        if record.node and record.activation and record.kind in ("settled", "failed", "error_edge"):
            decided[(record.path, record.node, record.activation, record.item)] += 1
    faults += [f"run {run_id}: {what} was decided {count} times" for what, count in decided.items() if count > 1]
    taken = [record.signal[3] for record in records if record.kind == "signal"]
    if len(taken) != len(set(taken)):
        faults.append(f"run {run_id} took a signal twice: {taken}")
    if lost := signals - set(taken):
        faults.append(f"run {run_id} lost the signals {sorted(lost)}, which were acknowledged")
    if row.graph == "waiting" and len(taken) < SIGNALS:
        faults.append(f"run {run_id} took the signals {taken} only")


def by_hand() -> None:
    """From the command line."""
    from tests.servers import PostgresServer

    parser = argparse.ArgumentParser(prog="python -m tests.durability.fleet", description=by_hand.__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--engines", type=int, default=3)
    parser.add_argument("--every", type=float, default=2.0, help="seconds between kills")
    parser.add_argument("--restarts", type=int, default=0, help="how often the server is killed and started, too")
    parser.add_argument("--lease", type=float, default=QUICK.lease)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between two submissions of an engine")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    arguments = parser.parse_args()
    lease = arguments.lease
    sharing = QUICK if lease == QUICK.lease else Sharing(lease=lease, renew=lease / 3, poll=min(1.0, lease / 10))
    with tempfile.TemporaryDirectory() as folder, PostgresServer() as server:
        left = [4.0 * number for number in range(1, arguments.restarts + 1)]

        def restart(seconds: float) -> None:
            if left and seconds > left[0]:
                left.pop(0)
                server.kill()
                server.start()

        report = kill_among(
            f"{server.url}?schema=fleet",
            Path(folder),
            runs=arguments.runs,
            engines=arguments.engines,
            every=arguments.every,
            sharing=sharing,
            seed=arguments.seed,
            most=3600.0,
            pause=arguments.pause,
            beside=restart,
        )
        if report.faults:
            print((Path(folder) / "log").read_text()[-4000:])
    print(report)
    raise SystemExit(bool(report.faults))


if __name__ == "__main__":
    by_hand()
