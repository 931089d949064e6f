"""What is PostgreSQL's own: servers that die and come back, addresses that are wrong, and text it cannot hold."""

import logging
import random
import traceback
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import psycopg
import pytest

from engine.errors import EngineClosed, KeyTaken, StoreUnavailable
from engine.stored import (
    Admit,
    Append,
    Audit,
    Collect,
    Define,
    Forget,
    Kept,
    Post,
    PutSnapshot,
    Query,
    SetStatus,
    Write,
)
from engine.stores.postgres import PostgresStore, schema
from engine.stores.postgres.batches import batches
from engine.stores.postgres.faults import unreachable
from engine.stores.postgres.text import held, told
from tests.contracts.stores import admit, append, blob, row
from tests.ports import free_port, stranger
from tests.servers import PostgresServer, shared


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    async with PostgresStore(postgres_url) as entered:
        yield entered


@pytest.fixture
def server(postgres_url: str) -> Iterator[PostgresServer]:
    """The server behind the address; one that a test left dead is started again."""
    found = shared("postgres")
    assert isinstance(found, PostgresServer)
    yield found
    found.start()


def execute(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url.partition("?")[0], autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def cut(url: str) -> None:
    """Every connection of every store is cut by the server, and gone when this returns."""
    ours = "FROM pg_stat_activity WHERE application_name = 'workflow-engine'"
    execute(url, f"SELECT pg_terminate_backend(pid, 60000) {ours}")


async def commit_until_it_is_done(store: PostgresStore, writes: list[Write]) -> int:
    """As the journal does; how often it failed."""
    failures = 0
    while True:
        try:
            await store.commit(writes)
        except StoreUnavailable:
            failures += 1
            await anyio.sleep(0.01)
        else:
            return failures


# --- a server that dies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sync", [False, True])
async def test_nothing_acknowledged_is_lost_when_the_server_is_killed(
    postgres_url: str, server: PostgresServer, sync: bool
) -> None:
    acknowledged = 0
    under_way = anyio.Event()
    async with PostgresStore(postgres_url) as store:
        await store.commit([admit()])

        async def write() -> None:
            nonlocal acknowledged
            while True:
                try:
                    await store.commit([append(acknowledged + 1), append(acknowledged + 2)], sync=sync)
                except StoreUnavailable:
                    return
                acknowledged += 2
                if acknowledged == 20:
                    under_way.set()

        async with anyio.create_task_group() as group:
            group.start_soon(write)
            await under_way.wait()
            server.kill()
        before = acknowledged
        server.start()
        kept = [seq for seq, _ in await store.records("r1", limit=10_000)]

        assert kept[:before] == list(range(1, before + 1))
        assert len(kept) in (before, before + 2)  # the last was applied whole or not at all
        await store.commit([append(before + 1), append(before + 2)])
        assert len(await store.records("r1", limit=10_000)) == before + 2
        assert await store.verify() == []


async def test_while_the_server_is_away_everything_says_so_and_then_heals(
    store: PostgresStore, server: PostgresServer
) -> None:
    await store.commit([admit()])
    server.stop()
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"is the server running"):
            await store.commit([append(1)])
        with pytest.raises(StoreUnavailable, match=rf"127\.0\.0\.1:{server.port}"):
            await store.read("r1")
    server.start()

    await store.commit([append(1)])
    assert await store.records("r1") == [(1, b"record 1")]


async def test_a_connection_that_was_cut_is_made_again_unnoticed(store: PostgresStore, postgres_url: str) -> None:
    await store.commit([admit()])
    for seq in range(1, 6):
        await store.records("r1")
        cut(postgres_url)
        await store.commit([append(seq)])
        cut(postgres_url)
        assert len(await store.records("r1")) == seq


async def test_connections_cut_in_the_middle_of_commits_lose_nothing(store: PostgresStore, postgres_url: str) -> None:
    await store.commit([admit()])
    last, cuts, vain, chance = 0, 0, 0, random.Random()

    async def write() -> None:
        nonlocal last
        while last < 10_000 or cuts < 5:
            await commit_until_it_is_done(store, [append(last + 1 + more) for more in range(50)])
            last += 50

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        while last < 10_000 or cuts < 5:
            before = last
            await anyio.to_thread.run_sync(cut, postgres_url)
            # At any instant of a commit, but not faster than anybody could connect anew: that would go on for ever.
            vain = vain + 1 if last == before else 0
            await anyio.sleep(chance.uniform(0, 0.02 * (1 + vain)))
            cuts += 1

    assert [seq for seq, _ in await store.records("r1", limit=last + 1)] == list(range(1, last + 1))
    assert await store.verify() == []


async def test_compaction_that_the_server_interrupts_can_be_made_again(
    store: PostgresStore, server: PostgresServer
) -> None:
    await store.commit([admit(), append(1), SetStatus("r1", "failed", 1.0)])
    server.stop()
    with pytest.raises(StoreUnavailable):
        await store.compact(Kept(count=0), now=2.0)
    server.start()

    assert (await store.compact(Kept(count=0), now=2.0)).runs == 1


# --- beginning ------------------------------------------------------------------------------------------


async def test_stores_that_begin_at_once_on_an_empty_database_make_its_tables_once(postgres_url: str) -> None:
    entered = 0

    async def begin(number: int) -> None:
        nonlocal entered
        async with PostgresStore(postgres_url) as store:
            await store.commit([admit(f"r{number}")])
            entered += 1

    async with anyio.create_task_group() as group:
        for number in range(6):
            group.start_soon(begin, number)

    assert entered == 6
    async with PostgresStore(postgres_url) as store:
        assert {run.run_id for run in await store.find(Query())} == {f"r{number}" for number in range(6)}


async def test_two_engines_may_write_at_once(postgres_url: str) -> None:
    shared_blob = blob(b"of both")
    taken: list[KeyTaken] = []

    async def write(store: PostgresStore, name: str) -> None:
        for number in range(30):
            run = f"{name}{number}"
            await store.commit([Admit(row(run), b"", shared_blob), Append(run, 1, b"", blob(b"%d" % number))])
            try:
                await store.commit([admit(f"{run} keyed", key=f"key {number}")])
            except KeyTaken as error:
                taken.append(error)

    async with PostgresStore(postgres_url) as one, PostgresStore(postgres_url) as two:
        async with anyio.create_task_group() as group:
            group.start_soon(write, one, "a")
            group.start_soon(write, two, "b")

        assert len(taken) == 30
        assert len(await one.find(Query(limit=1000))) == 90
        assert await two.verify() == []


async def test_tables_of_a_later_version_are_refused(postgres_url: str) -> None:
    async with PostgresStore(postgres_url):
        pass
    name = postgres_url.rpartition("=")[2]
    execute(postgres_url, f"UPDATE {name}.version SET version = 99")

    with pytest.raises(StoreUnavailable, match=r"are of version 99, this workflow-engine knows those up to \d+"):
        async with PostgresStore(postgres_url):
            pass


async def test_tables_of_an_earlier_version_are_migrated(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with PostgresStore(postgres_url) as store:
        await store.commit([admit()])
    migrated = [*schema.MIGRATIONS, "ALTER TABLE $.runs ADD COLUMN added bigint NOT NULL DEFAULT 7"]
    monkeypatch.setattr(schema, "MIGRATIONS", migrated)
    async with PostgresStore(postgres_url) as store:
        await store.commit([admit("r2")])
        assert len(await store.find(Query())) == 2
    name = postgres_url.rpartition("=")[2]

    assert execute(postgres_url, f"SELECT run_id, added FROM {name}.runs ORDER BY run_id") == [("r1", 7), ("r2", 7)]
    assert execute(postgres_url, f"SELECT version FROM {name}.version") == [(len(migrated),)]


async def test_definitions_of_tables_that_kept_one_of_each_version_are_still_there(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
        async with PostgresStore(postgres_url):
            pass
    name = postgres_url.rpartition("=")[2]
    execute(postgres_url, f"INSERT INTO {name}.definitions VALUES ('g', '1', 'old', 'text')")
    async with PostgresStore(postgres_url) as store:
        await store.commit([Define("g", "1", "new", "text")])

        assert await store.definitions() == [("g", "1", "new", "text"), ("g", "1", "old", "text")]


async def test_tables_from_before_the_audit_log_have_one_now(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:2])
        async with PostgresStore(postgres_url):
            pass
    name = postgres_url.rpartition("=")[2]
    execute(
        postgres_url,
        f"INSERT INTO {name}.runs (run_id, graph, version, fingerprint, submitted_at, tags, priority, depth, status) "
        "VALUES ('r1', 'g', '1', 'f', 100, '{}', 0, 0, 'running')",
    )
    async with PostgresStore(postgres_url) as store:
        await store.commit([Audit("a", 1.0, "r1", b"line")])

        assert await store.audits(run_id="r1") == [(1, Audit("a", 1.0, "r1", b"line"))]
        assert len(await store.find(Query())) == 1


def test_a_server_that_is_starting_is_not_taken_for_a_database_that_is_missing() -> None:
    said = str(unreachable(psycopg.OperationalError("FATAL:  the database system is starting up"), "postgresql://x"))

    assert "it will be back in a moment" in said
    assert "create the database" not in said


async def test_a_user_with_no_right_to_make_tables_may_use_them(postgres_url: str, server: PostgresServer) -> None:
    async with PostgresStore(postgres_url):
        pass
    name = postgres_url.rpartition("=")[2]
    user = f"user_{name}"
    execute(postgres_url, f"CREATE USER {user} PASSWORD 'secret'")
    execute(postgres_url, f"GRANT USAGE ON SCHEMA {name} TO {user}")
    execute(postgres_url, f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {name} TO {user}")
    async with PostgresStore(f"postgresql://{user}:secret@127.0.0.1:{server.port}/postgres?schema={name}") as store:
        await store.commit([admit(), append(1), SetStatus("r1", "failed", 1.0)])
        assert await store.records("r1") == [(1, b"record 1")]

    with pytest.raises(StoreUnavailable, match=r"permission denied .*\(grant the user its rights"):
        async with PostgresStore(f"postgresql://{user}:secret@127.0.0.1:{server.port}/postgres?schema=other"):
            pass


async def test_a_store_that_could_not_be_entered_can_be_entered_later(
    postgres_url: str, server: PostgresServer
) -> None:
    store = PostgresStore(postgres_url)
    server.stop()
    with pytest.raises(StoreUnavailable):
        await store.__aenter__()
    with pytest.raises(EngineClosed):
        await store.read("r1")
    server.start()

    async with store:
        await store.commit([admit()])


# --- what is said of it ---------------------------------------------------------------------------------


def test_an_address_is_shown_without_its_secrets() -> None:
    for address in (
        "postgresql://me:s3cret@db.example:5433/runs",
        "postgresql://me@db.example:5433/runs?password=s3cret&sslpassword=s3cret",
    ):
        assert PostgresStore(address)._address.shown == "postgresql://me@db.example:5433/runs"
        assert "s3cret" not in repr(vars(PostgresStore(address)))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s3cret%zz@host/runs",
        "postgresql://me:s3cret@[host/runs",
        "postgresql://me:s3cret@host/runs?unknown=1",
        "postgresql://me:s3cret@host/runs?schema=no%20name",
    ],
)
def test_an_address_that_cannot_be_read_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be read|must be of a-z") as raised:
        PostgresStore(url)

    assert "s3cret" not in "".join(traceback.format_exception(raised.value))


UNREACHABLE = {
    "a wrong password": ("postgresql://tester:s3cret@127.0.0.1:{port}/postgres", "check the user and the password"),
    "no password": ("postgresql://tester@127.0.0.1:{port}/postgres?passfile=/dev/null", "give a password"),
    "no such user": ("postgresql://nobody:s3cret@127.0.0.1:{port}/postgres", "check the user and the password"),
    "no such database": ("postgresql://tester:{password}@127.0.0.1:{port}/nothing", "create the database"),
    "no server": ("postgresql://tester:s3cret@127.0.0.1:{free}/postgres", "is the server running"),
    "no such host": ("postgresql://tester:s3cret@nothing.invalid/postgres", "check the host"),
}


@pytest.mark.parametrize(("url", "cure"), UNREACHABLE.values(), ids=UNREACHABLE)
async def test_what_cannot_be_reached_is_said_with_the_cure_and_without_secrets(
    url: str, cure: str, server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store = PostgresStore(url.format(port=server.port, password=server.password, free=free_port()))
    with pytest.raises(StoreUnavailable, match=cure) as raised:
        await store.__aenter__()

    said = "".join(traceback.format_exception(raised.value)) + caplog.text + repr(raised.value.facts)
    assert store._address.shown in str(raised.value)
    assert "s3cret" not in said
    assert server.password not in said


STRANGERS = {"silent": b"", "one of the web": b"HTTP/1.1 400 Bad Request\r\n\r\n"}


@pytest.mark.parametrize("says", STRANGERS.values(), ids=STRANGERS)
async def test_of_another_server_at_its_address_it_is_asked_whether_it_is_the_right_one(says: bytes) -> None:
    with stranger(says) as port, pytest.raises(StoreUnavailable, match=rf":{port}.*is it PostgreSQL that answers"):
        await PostgresStore(f"postgresql://me:x@127.0.0.1:{port}/runs").__aenter__()


async def test_a_database_that_does_not_hold_all_text_is_refused(server: PostgresServer) -> None:
    execute(server.url, "DROP DATABASE IF EXISTS latin")
    execute(server.url, "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(StoreUnavailable, match="holds text as LATIN1, expected UTF8"):
        await PostgresStore(server.url.replace("/postgres", "/latin")).__aenter__()


async def test_a_server_that_is_too_old_is_refused(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.stores.postgres.store.OLDEST_SERVER", 990000)

    with pytest.raises(StoreUnavailable, match=r"is of version 1\d\.\d+, expected 99 or later"):
        await PostgresStore(postgres_url).__aenter__()


async def test_a_server_that_does_not_flush_is_said_to_be_unsafe(caplog: pytest.LogCaptureFixture) -> None:
    with PostgresServer(fsync="off") as server:
        async with PostgresStore(server.url) as store:
            assert store.facts.durable
            assert not store.facts.power_safe

    (line,) = [record for record in caplog.records if record.name.startswith("engine.stores")]
    assert line.levelname == "WARNING"
    assert "fsync is off" in line.message


async def test_commits_are_flushed_even_where_the_database_would_not(postgres_url: str) -> None:
    execute(postgres_url, "ALTER ROLE tester SET synchronous_commit = off")
    try:
        async with PostgresStore(postgres_url) as store:
            assert store.facts.power_safe
            for number in range(3):
                await store.commit([admit(f"r{number}")])
                # The server writes for itself, too, now and then; but a flush that comes later is none of these.
                flushed, written = execute(
                    postgres_url, "SELECT pg_current_wal_flush_lsn()::text, pg_current_wal_insert_lsn()::text"
                )[0]
                if flushed == written:
                    break
            assert flushed == written
    finally:
        execute(postgres_url, "ALTER ROLE tester RESET synchronous_commit")


# --- text and sizes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "plain", "a\0b", "\0", "\u241b", "\u241b\u2400", "\u241b\0\u241b\u241b\u2400"])
def test_text_with_nul_is_stored_as_text_without(text: str) -> None:
    assert "\0" not in held(text)
    assert told(held(text)) == text


async def test_text_that_no_index_takes_is_refused_by_its_name(store: PostgresStore) -> None:
    with pytest.raises(ValueError, match=r"idempotency key 'xxx.*'… takes 3,000 bytes, PostgreSQL's indexes hold"):
        await store.commit([admit(key="x" * 3000)])

    await store.commit([admit(key="x" * 300)])


# --- batches --------------------------------------------------------------------------------------------


ORDERS: dict[str, tuple[list[Write], int]] = {
    "lives of many runs": (
        [w for n in range(9) for w in (admit(f"{n}"), append(1, f"{n}"), SetStatus(f"{n}", "failed", 1.0))],
        1,
    ),
    "a record after a snapshot of those before": ([PutSnapshot("r", 3, b"", drop=3), append(4, "r")], 1),
    "a record that a snapshot has dropped": ([PutSnapshot("r", 3, b"", drop=3), append(3, "r")], 2),
    "a signal that is posted and collected": ([Post("r", "s", b""), Collect("r", ["s"])], 1),
    "a signal that is collected and posted": ([Collect("r", ["s"]), Post("r", "s", b"")], 2),
    "a record that comes too early": ([append(1, "r"), admit("r")], 2),
    "a run forgotten and made again": ([Forget("r"), Forget("s"), admit("r")], 2),
}


@pytest.mark.parametrize(("writes", "count"), ORDERS.values(), ids=ORDERS)
def test_as_many_writes_are_made_together_as_may_be(writes: list[Write], count: int) -> None:
    assert len(list(batches(writes))) == count
