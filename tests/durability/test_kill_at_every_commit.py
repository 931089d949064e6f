"""Killed with -9 right before or after the n-th commit of the journal, for every n: the next start ends what was begun.

Everything is compared with a run that nobody disturbed: how it ended, its state, and what was completed how often.
Nothing that is on record as done may run again, be it an effect or not.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from engine.format import digests_in, unpack_record
from engine.stores import open_store
from tests.durability import lives, program
from tests.servers import fresh_postgres

NEVER = 1 << 30

FreshStore = Callable[[], str]


@pytest.fixture
def fresh_sqlite(tmp_path: Path) -> FreshStore:
    """Makes the URL of a store that nobody has used."""
    count = 0

    def fresh() -> str:
        nonlocal count
        count += 1
        return f"sqlite:///{tmp_path}/{count}.db"

    return fresh


class Lives:
    """The lives of one program on one store."""

    def __init__(self, url: str, folder: Path, backend: str, which: program.Which, durability: str) -> None:
        self.url = url
        self.number = 0
        self.answer: dict[str, Any] = {}
        self._how = backend, which
        self._durability = durability
        name = "".join(letter if letter.isalnum() else "_" for letter in url)[-40:]
        self._lines = folder / f"lines {name}"
        self._answer = folder / f"answer {name}"

    def live(self, when: program.When = "after", commits: int = NEVER) -> bool:
        """One life; whether it came to its end. It is killed at that commit, or ends well."""
        self.number += 1
        files = self.url, str(self._lines), self.number, str(self._answer)
        process = lives.start(program.main, *files, *self._how, when, commits, self._durability)
        ended = lives.has_ended_well(process)
        if ended:
            self.answer = json.loads(self._answer.read_text())
        return ended

    def tokens(self, what: str, life: int | None = None) -> Counter[str]:
        """The activations that left such a line, in one life or in all."""
        found = Counter[str]()
        for line in lives.lines_of(self._lines):
            if line.what == what and life in (None, line.life):
                found[" ".join(line.words)] += 1
        return found

    def recorded(self) -> set[str]:
        """The activations that are on record as over for good."""

        async def read() -> set[str]:
            async with open_store(self.url) as store:
                stored = await store.records("the run")
                blobs = await store.blobs([digest for _, data in stored for digest in digests_in(data)])
                assert not await store.verify()
            found = set()
            for _, data in stored:
                record = unpack_record(data, blobs)
                if record.kind in ("settled", "error_edge", "done", "cancelled") and record.error is None:
                    path = [f"{node}#{number}" for node, number, _ in record.path]
                    found.add("/".join(["the run", *path, f"{record.node}#{record.activation}"]))
            return found

        return anyio.run(read)


def completed(answer: dict[str, Any]) -> Counter[tuple[str, int, int, str]]:
    """What a crash may not change: attempts that were neither cut short nor inside of an item, which has one record."""
    entries = [one for one in answer["log"] if one["status"] != "cancelled" and "]/" not in one["node"]]
    return Counter((one["node"], one["activation"], one["attempt"], one["status"]) for one in entries)


def visited(answer: dict[str, Any]) -> list[str]:
    """Likewise."""
    return sorted(node for node in answer["visited"] if "]/" not in node)


def check_every_commit(
    fresh: FreshStore,
    folder: Path,
    backend: str,
    which: program.Which,
    when: program.When,
    durability: str,
) -> int:
    """Kill at every n-th commit; gives how many commits there were."""
    undisturbed = Lives(fresh(), folder, backend, which, durability)
    assert undisturbed.live()
    expected = undisturbed.answer
    assert expected["status"] == "succeeded"

    commits = 0
    while True:
        commits += 1
        where = f"killed {when} commit {commits}"
        killed = Lives(fresh(), folder, backend, which, durability)
        if killed.live(when, commits):
            return commits
        done = killed.recorded()
        assert killed.live(), f"{where}, it must end in its second life"
        answer = killed.answer
        assert (answer["status"], answer["state"]) == (expected["status"], expected["state"]), where
        assert completed(answer) == completed(expected), where
        assert visited(answer) == visited(expected), where
        for what in ("start", "effect"):
            again = done & killed.tokens(what, life=2).keys()
            assert not again, f"{where}: on record as done, but {what} again: {sorted(again)}"
        assert killed.tokens("end").keys() == undisturbed.tokens("end").keys(), where
        if killed.tokens("failed", life=2):
            assert killed.tokens("failed", life=2) == undisturbed.tokens("failed"), where


@pytest.mark.parametrize(
    ("backend", "when", "durability"),
    [
        ("asyncio", "after", "standard"),
        ("trio", "before", "standard"),
        ("trio", "after", "strict"),
        ("asyncio", "before", "relaxed"),
    ],
)
@pytest.mark.parametrize("which", ["everything", "failing"])
def test_a_run_killed_at_any_commit_comes_to_the_same_end(
    fresh_sqlite: FreshStore,
    tmp_path: Path,
    backend: str,
    which: program.Which,
    when: program.When,
    durability: str,
) -> None:
    assert check_every_commit(fresh_sqlite, tmp_path, backend, which, when, durability) > 5


@pytest.mark.parametrize(("backend", "when"), [("asyncio", "after"), ("trio", "before")])
def test_a_run_in_postgres_killed_at_any_commit_comes_to_the_same_end(
    tmp_path: Path, backend: str, when: program.When
) -> None:
    assert check_every_commit(fresh_postgres, tmp_path, backend, "everything", when, "standard") > 10


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_run_in_processes_killed_at_any_commit_comes_to_the_same_end(
    fresh_sqlite: FreshStore, tmp_path: Path, backend: str
) -> None:
    assert check_every_commit(fresh_sqlite, tmp_path, backend, "processes", "after", "standard") > 3


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("commits", [2, 3, 7])
def test_a_run_killed_again_and_again_comes_to_the_same_end(
    fresh_sqlite: FreshStore, tmp_path: Path, backend: str, commits: int
) -> None:
    undisturbed = Lives(fresh_sqlite(), tmp_path, backend, "everything", "standard")
    assert undisturbed.live()

    killed = Lives(fresh_sqlite(), tmp_path, backend, "everything", "standard")
    done: dict[int, set[str]] = {}
    while not killed.live("after", commits + (killed.number > 60) * NEVER):
        done[killed.number] = killed.recorded()
    assert killed.answer["state"] == undisturbed.answer["state"]
    assert completed(killed.answer) == completed(undisturbed.answer)
    for number, tokens in done.items():
        for later in range(number + 1, killed.number + 1):
            assert not tokens & killed.tokens("start", life=later).keys()
