"""An engine that is away for longer than its lease: stopped, or cut off. Another goes on, and it writes nothing more.

python -m tests.durability.fleet_away stopped|cut [--lease 15]
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from engine import Sharing
from tests.durability import lives
from tests.durability.fleet import QUICK, Member, ask, fleet_of
from tests.durability.fleet_life import LONG_STEPS, Share
from tests.servers import PostgresServer

RUN = "the-long-run"
SLACK = 1.0
"""For a machine that has other things to do."""


class NotPermitted(Exception):
    """Networks of one's own cannot be made here."""


@attrs.frozen
class Absence:
    """What became of it."""

    taken_over_after: float
    """Seconds from when it went away until the run went on elsewhere."""
    last_tick_here: float
    """Seconds from then until the last step that the absent one began before the other did."""
    ticks_after_return: int
    lost_after_return: float
    """Seconds from when it came back until whoever waited was told; negative if before."""
    ticks: int
    """That the run says it has had."""
    written_after_return: int
    """Rows of that run which are not as they were."""

    def __str__(self) -> str:
        return (
            f"went on elsewhere after {self.taken_over_after:.2f} s (the absent one began its last step at "
            f"{self.last_tick_here:.2f} s); back again, it began {self.ticks_after_return} steps and wrote "
            f"{self.written_after_return} rows, and told who waited after {self.lost_after_return:.2f} s"
        )


def until(found: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """What is found, as soon as there is something."""
    deadline = time.monotonic() + seconds
    while not (it := found()):
        assert time.monotonic() < deadline, f"no {what} after {seconds:g} s"
        time.sleep(0.01)
    return it


def absence(
    url: str,
    folder: Path,
    away: Callable[[int], None],
    back: Callable[[int], None],
    *,
    sharing: Sharing = QUICK,
    backend: str = "asyncio",
    seen_from: tuple[str, str] | None = None,
    namespaces: tuple[str | None, str | None] = (None, None),
) -> Absence:
    """Two engines; the one that has the run goes away until the other has ended it, and comes back."""
    lines = folder / "lines"
    urls = seen_from or (url, url)
    log = str(folder / "log")
    first = Share(urls[0], str(lines), sharing, backend=backend, long=RUN, namespace=namespaces[0], log=log)
    second = Share(urls[1], str(lines), sharing, backend=backend, namespace=namespaces[1], log=log)

    def told(what: str, life: int | None = None) -> list[lives.Line]:
        return [line for line in lives.lines_of(lines) if line.what == what and life in (None, line.life)]

    with fleet_of([first]) as fleet:
        # Alone at first, or the other might be the one that has the run.
        absent, pid = fleet.members[0].life, fleet.members[0].process.pid
        until(lambda: len(told("tick", absent)) > 10, "steps")
        other = Member(second)
        fleet.members.append(other)
        fleet.start(other)
        until(lambda: told("joined", other.life), "engine")
        went = time.time()
        away(pid)
        until(lambda: told("tick", other.life), "takeover", sharing.lease + 30)
        until(lambda: ask(url, "SELECT FROM $.runs WHERE run_id = %s AND status <> 'running'", RUN), "end", 120)
        before = _written(url)
        came = time.time()
        back(pid)
        until(lambda: told("again", absent), "return")
        after = _written(url)
        assert fleet.close() == [0, 0]
    ticks = [(float(line.words[2]), line.life) for line in told("tick")]
    elsewhere = min(at for at, life in ticks if life != absent)
    here = [at for at, life in ticks if life == absent]
    (lost,), (seen,) = told("lost"), told("seen")
    return Absence(
        taken_over_after=elsewhere - went,
        last_tick_here=max(at for at in here if at < came) - went,
        ticks_after_return=sum(at > came for at in here),
        lost_after_return=float(lost.words[1]) - came,
        ticks=int(seen.words[1]),
        written_after_return=len(set(before) ^ set(after)),
    )


def _written(url: str) -> list[tuple[Any, ...]]:
    """All that is stored of the run."""
    return ask(
        url,
        """
        SELECT 'record', seq, md5(data) FROM $.records WHERE run = (SELECT number FROM $.runs WHERE run_id = %s)
        UNION ALL SELECT status, coalesce(owner, -1), ended_at::text FROM $.runs WHERE run_id = %s
        """,
        RUN,
        RUN,
    )


def stopped(url: str, folder: Path, sharing: Sharing = QUICK, backend: str = "asyncio") -> Absence:
    """SIGSTOP, and SIGCONT when it is past its lease and the run is over."""
    return absence(
        url,
        folder,
        lambda pid: os.kill(pid, signal.SIGSTOP),
        lambda pid: os.kill(pid, signal.SIGCONT),
        sharing=sharing,
        backend=backend,
    )


# --- networks -------------------------------------------------------------------------------------------


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise NotPermitted(f"ip {' '.join(words)}: {done.stderr.strip()}")


@attrs.frozen
class Network:
    """A namespace with a link of its own to this one."""

    name: str
    link: str
    address: str
    """Of this end of the link."""

    def cut(self) -> None:
        """Nothing comes through any more, and nobody is told."""
        _ip("link", "set", self.link, "down")

    def mend(self) -> None:
        """It does again."""
        _ip("link", "set", self.link, "up")


@contextmanager
def networks(count: int) -> Iterator[list[Network]]:
    """So many; raises `NotPermitted`."""
    if shutil.which("ip") is None:
        raise NotPermitted("there is no program `ip`")
    made: list[Network] = []
    try:
        for number in range(count):
            name = f"we{os.getpid()}x{number}"
            address = f"10.231.{(os.getpid() * 4 + number) % 250}"
            network = Network(name, f"{name}h", f"{address}.1")
            _ip("netns", "add", name)
            made.append(network)
            _ip("link", "add", network.link, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("addr", "add", f"{address}.1/24", "dev", network.link)
            _ip("link", "set", network.link, "up")
            _ip("-n", name, "addr", "add", f"{address}.2/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield made
    finally:
        for network in made:
            # With the namespace its link is gone.
            subprocess.run(["ip", "netns", "del", network.name], capture_output=True)
            subprocess.run(["ip", "link", "del", network.link], capture_output=True)


def cut_off(folder: Path, sharing: Sharing = QUICK, backend: str = "asyncio") -> Absence:
    """Two engines in networks of their own, the server in this one; the link of the first is cut for a while."""
    with networks(2) as (one, two), PostgresServer(listen_addresses="*") as server:
        with open(server.folder / "data" / "pg_hba.conf", "a") as rules:
            rules.write("host all all 10.231.0.0/16 scram-sha-256\n")
        server.stop()
        server.start()
        url = f"{server.url}?schema=fleet"
        return absence(
            url,
            folder,
            lambda pid: one.cut(),
            lambda pid: one.mend(),
            sharing=sharing,
            backend=backend,
            seen_from=(url.replace("127.0.0.1", one.address), url.replace("127.0.0.1", two.address)),
            namespaces=(one.name, two.name),
        )


def faults_of(found: Absence, sharing: Sharing) -> list[str]:
    """What should not be so."""
    faults = late(found, sharing)
    if found.ticks != LONG_STEPS:
        faults.append(f"the run says it has had {found.ticks} steps, expected {LONG_STEPS}")
    if found.written_after_return:
        faults.append("it wrote to a run that was not its own any more")
    if found.ticks_after_return > 1:
        faults.append("back again, it went on with what was not its own any more")
    return faults


def late(found: Absence, sharing: Sharing) -> list[str]:
    """What came later than promised, as it does always if it is a fault, and now and then if the machine is busy."""
    faults = []
    if found.last_tick_here > sharing.lease + SLACK:
        faults.append("it went on past its lease")
    if found.taken_over_after > sharing.lease * 4 / 3 + SLACK:
        faults.append("the other took too long")
    return faults


def at_best(away: Callable[[Path], Absence], folder: Path, sharing: Sharing, rounds: int = 3) -> Absence:
    """The first absence of some in which nothing was late, or in which anything else was not as it should be."""
    for number in range(rounds):
        place = folder / str(number)
        place.mkdir()
        found = away(place)
        if not (faults := late(found, sharing)) or faults != faults_of(found, sharing):
            break
    return found


def by_hand() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.durability.fleet_away", description=by_hand.__doc__)
    parser.add_argument("how", choices=["stopped", "cut"])
    parser.add_argument("--lease", type=float, default=15.0)
    parser.add_argument("--backend", choices=["asyncio", "uvloop", "trio"], default="asyncio")
    arguments = parser.parse_args()
    sharing = Sharing(lease=arguments.lease, renew=arguments.lease / 3, poll=min(1.0, arguments.lease / 10))
    with tempfile.TemporaryDirectory() as folder:
        if arguments.how == "cut":
            found = cut_off(Path(folder), sharing, arguments.backend)
        else:
            with PostgresServer() as server:
                found = stopped(f"{server.url}?schema=fleet", Path(folder), sharing, arguments.backend)
    print(found)
    faults = faults_of(found, sharing)
    print("\n".join(faults) or "as it should be")
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    by_hand()
