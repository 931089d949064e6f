"""A file of an earlier version is brought up to this one; one of a later is left alone."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from engine.errors import StoreUnavailable
from engine.stored import Define, Query
from engine.stores.sqlite import SqliteStore, schema
from engine.stores.sqlite.reading import statement_of
from tests.contracts.stores import admit, append, everything

NEXT = "CREATE TABLE extra (number); INSERT INTO extra SELECT number FROM runs;"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def version_of(file: Path) -> int:
    with closing(sqlite3.connect(file)) as connection:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


async def test_a_file_of_an_earlier_version_is_migrated(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with SqliteStore(file) as store:
        await store.commit([admit(), append(1)])
        before = await everything(store)
    old = version_of(file)
    monkeypatch.setattr(schema, "STEPS", [*schema.STEPS, NEXT, "CREATE TABLE more (a)"])
    async with SqliteStore(file) as store:
        assert await everything(store) == before
        await store.commit([append(2)])

    assert (old, version_of(file)) == (len(schema.STEPS) - 2, len(schema.STEPS))
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT number FROM extra").fetchall() == [(1,)]


async def test_definitions_of_a_file_that_kept_one_of_each_version_are_still_there(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(schema, "STEPS", schema.STEPS[:1])
        async with SqliteStore(file) as store:
            await store.commit([Define("g", "1", "old", "text")])
    async with SqliteStore(file) as store:
        await store.commit([Define("g", "1", "new", "text")])

        assert await store.definitions() == [("g", "1", "new", "text"), ("g", "1", "old", "text")]


async def test_a_migration_that_fails_changes_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with SqliteStore(file) as store:
        await store.commit([admit()])
    old = version_of(file)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "STEPS", [*schema.STEPS, f"{NEXT} SELECT nonsense;"])
        with pytest.raises(StoreUnavailable, match="nonsense"):
            async with SqliteStore(file):
                pass

    assert version_of(file) == old
    async with SqliteStore(file) as store:
        assert await store.verify() == []


async def test_a_file_of_a_later_version_is_refused(file: Path) -> None:
    async with SqliteStore(file):
        pass
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreUnavailable, match=r"newer version .*its schema is 99, this one knows up to \d+\): update"):
        async with SqliteStore(file):
            pass


QUERIES = {
    "all": Query(),
    "newest first": Query(newest_first=True),
    "a status": Query(status=["failed"]),
    "statuses": Query(status=["failed", "running"]),
    "a graph": Query(graph="g1"),
    "a graph, newest first": Query(graph="g1", newest_first=True),
    "a graph and a status": Query(graph="g1", status=["failed"]),
    "a tag": Query(tags={"team": "3"}),
    "tags": Query(tags={"team": "3", "size": "1"}, newest_first=True),
    "a tag and a graph": Query(graph="g1", tags={"team": "3"}),
    "since": Query(since=9000.0),
    "since and until": Query(since=5000.0, until=5050.0, status=["running"]),
    "after": Query(after="r5000"),
    "after, a graph, newest first": Query(after="r5000", graph="g1", newest_first=True),
    "after, a tag": Query(after="r5000", tags={"team": "3"}),
}


async def test_listing_ten_thousand_runs_walks_along_indexes(file: Path) -> None:
    runs = 10_000
    async with SqliteStore(file) as store:
        await store.commit(
            [
                admit(
                    f"r{number}",
                    submitted_at=float(number),
                    graph=f"g{number % 3}",
                    tags={"team": str(number % 7), "size": str(number % 2)},
                    status="running" if number % 5 else "failed",
                    ended_at=None if number % 5 else 1.0,
                )
                for number in range(runs)
            ]
        )
        with closing(sqlite3.connect(file)) as connection:
            for name, query in QUERIES.items():
                seen = (5000.0, 5001) if query.after else None
                plan = connection.execute(
                    f"EXPLAIN QUERY PLAN {statement_of(query, seen)[0]}", statement_of(query, seen)[1]
                )
                for *_, step in plan:
                    assert "TEMP B-TREE" not in step, f"{name}: {step}"
                    assert not step.startswith("SCAN") or "USING INDEX" in step, f"{name}: {step}"
        for query in QUERIES.values():
            assert await store.find(query)
