"""What is Redis' own: settings that lose runs and are told, servers that die and come back, and its scripts."""

import logging
import random
import traceback
from collections.abc import AsyncIterator, Iterator

import anyio
import pytest
from coredis.exceptions import ConnectionError, ResponseError

from engine.errors import EngineClosed, KeyTaken, StoreUnavailable
from engine.stored import Admit, Append, Kept, Query, SetStatus
from engine.stores.redis import RedisStore
from engine.stores.redis.faults import unavailable
from engine.stores.redis.promises import Settings
from tests.contracts.stores import admit, append, blob, row
from tests.ports import free_port, stranger
from tests.servers import RedisServer, shared


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[RedisStore]:
    async with RedisStore(redis_url) as entered:
        yield entered


@pytest.fixture
def server(redis_url: str) -> Iterator[RedisServer]:
    """The server behind the address; one that a test left dead is started again."""
    found = shared("redis")
    assert isinstance(found, RedisServer)
    yield found
    found.start()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the store said, which is always a warning."""
    lines = [record for record in caplog.records if record.name.startswith("engine.stores")]
    assert {line.levelname for line in lines} <= {"WARNING"}
    return [line.getMessage() for line in lines]


# --- a server that dies ---------------------------------------------------------------------------------


async def test_nothing_acknowledged_is_lost_when_the_server_is_killed(redis_url: str, server: RedisServer) -> None:
    acknowledged = 0
    under_way = anyio.Event()
    async with RedisStore(redis_url) as store:
        await store.commit([admit()])

        async def write() -> None:
            nonlocal acknowledged
            while True:
                try:
                    await store.commit([append(acknowledged + 1), append(acknowledged + 2)])
                except StoreUnavailable:
                    return
                acknowledged += 2
                if acknowledged == 40:
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
    store: RedisStore, server: RedisServer
) -> None:
    await store.commit([admit()])
    server.stop()
    for _ in range(12):  # more often than there are connections: none may be used up
        with pytest.raises(StoreUnavailable, match=r"is the server running"):
            await store.commit([append(1)])
        with pytest.raises(StoreUnavailable, match=rf"127\.0\.0\.1:{server.port}"):
            await store.read("r1")
    server.start()

    await store.commit([append(1)])
    assert await store.records("r1") == [(1, b"record 1")]


async def test_connections_cut_in_the_middle_of_commits_lose_nothing(store: RedisStore, server: RedisServer) -> None:
    await store.commit([admit()])
    last, cuts, vain, chance = 0, 0, 0, random.Random()

    async def write() -> None:
        nonlocal last
        while last < 10_000 or cuts < 5:
            while True:
                try:
                    await store.commit([append(last + 1 + more) for more in range(50)])
                except StoreUnavailable:
                    await anyio.sleep(0.01)
                else:
                    break
            last += 50

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        while last < 10_000 or cuts < 5:
            before = last
            await anyio.to_thread.run_sync(server.say, "CLIENT", "KILL", "TYPE", "normal")
            # At any instant of a commit, but not faster than anybody could connect anew: that would go on for ever.
            vain = vain + 1 if last == before else 0
            await anyio.sleep(chance.uniform(0, 0.02 * (1 + vain)))
            cuts += 1

    assert [seq for seq, _ in await store.records("r1", limit=last + 1)] == list(range(1, last + 1))
    assert await store.verify() == []


async def test_scripts_that_the_server_has_forgotten_are_told_again(store: RedisStore, server: RedisServer) -> None:
    await store.commit([admit()])
    server.say("SCRIPT", "FLUSH")
    await store.commit([append(1)])

    assert len(await store.records("r1")) == 1


async def test_cancelled_reads_use_up_no_connection(store: RedisStore) -> None:
    await store.commit([admit()])
    for _ in range(50):
        with anyio.move_on_after(0):
            await store.read("r1")
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(store.read, "r1")

    assert await store.read("r1") is not None


async def test_a_store_that_could_not_be_entered_can_be_entered_later(redis_url: str, server: RedisServer) -> None:
    store = RedisStore(redis_url)
    server.stop()
    with pytest.raises(StoreUnavailable):
        await store.__aenter__()
    with pytest.raises(EngineClosed):
        await store.read("r1")
    server.start()

    async with store:
        await store.commit([admit()])


async def test_two_engines_may_write_at_once(redis_url: str) -> None:
    taken: list[KeyTaken] = []

    async def write(store: RedisStore, name: str) -> None:
        for number in range(30):
            run = f"{name}{number}"
            await store.commit([Admit(row(run), b"", blob(b"of both")), Append(run, 1, b"", blob(b"%d" % number))])
            try:
                await store.commit([admit(f"{run} keyed", key=f"key {number}")])
            except KeyTaken as error:
                taken.append(error)

    async with RedisStore(redis_url) as one, RedisStore(redis_url) as two:
        async with anyio.create_task_group() as group:
            group.start_soon(write, one, "a")
            group.start_soon(write, two, "b")

        assert len(taken) == 30
        assert len(await one.find(Query(limit=1000))) == 90
        assert await two.verify() == []


# --- memory ---------------------------------------------------------------------------------------------


async def test_a_full_server_refuses_a_commit_as_a_whole_and_goes_on_when_there_is_room() -> None:
    with RedisServer(maxmemory="16mb") as server:
        async with RedisStore(server.url) as store:
            await store.commit([admit()])
            seq = 0

            async def fill() -> None:
                nonlocal seq
                while True:
                    await store.commit([append(seq + 1, data=b"x" * 1_000_000), append(seq + 2)])
                    seq += 2

            with pytest.raises(StoreUnavailable, match=r"raise its maxmemory"):
                await fill()
            assert [number for number, _ in await store.records("r1")] == list(range(1, seq + 1))
            server.say("CONFIG", "SET", "maxmemory", "0")
            await store.commit([append(seq + 1), append(seq + 2)])

            assert await store.verify() == []


async def test_what_the_server_has_evicted_is_found_missing(store: RedisStore, server: RedisServer) -> None:
    await store.commit([admit(), append(1), append(2)])
    prefix = store.facts.url.rpartition("=")[2]
    server.say("DEL", f"{prefix}:records:r1")
    (fault,) = await store.verify()

    assert (fault.where, fault.message) == ("run 'r1'", "its records up to number 2 are missing")


async def test_nothing_is_left_of_runs_that_are_gone(store: RedisStore, server: RedisServer) -> None:
    for number in range(5):
        run = f"r{number}"
        await store.commit([Admit(row(run, key=run, tags={"a": "b"}), b"", blob(b"x")), append(1, run)])
        await store.commit([SetStatus(run, "failed", 1.0)])
    await store.compact(Kept(count=0), now=2.0)
    prefix = store.facts.url.rpartition("=")[2]
    left = {line.rpartition(prefix)[2] for line in server.say("KEYS", f"{prefix}:*").splitlines() if prefix in line}

    assert left == {":meta:", ":graphs:"}


# --- what is said of it ---------------------------------------------------------------------------------


async def test_a_server_that_keeps_all_is_promised_to_and_nothing_warned_of(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with RedisStore(redis_url) as store:
        assert (store.facts.durable, store.facts.power_safe, store.facts.notes) == (True, True, [])

    assert warnings(caplog) == []


UNSAFE = {
    "no file": ({"appendonly": "no"}, (False, False), "appendonly is off: runs are lost whenever the server ends"),
    "a flush each second": ({"appendfsync": "everysec"}, (True, False), "appendfsync is 'everysec': a power cut may"),
    "no flush": ({"appendfsync": "no"}, (True, False), "appendfsync is 'no': a power cut may lose"),
    "eviction": (
        {"maxmemory": "64mb", "maxmemory-policy": "allkeys-lru"},
        (False, False),
        "maxmemory-policy is 'allkeys-lru': it may remove runs",
    ),
}


@pytest.mark.parametrize(("settings", "promises", "warning"), UNSAFE.values(), ids=UNSAFE)
async def test_settings_that_lose_runs_are_warned_of(
    settings: dict[str, str], promises: tuple[bool, bool], warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer(**settings) as server:
        async with RedisStore(server.url) as store:
            await store.commit([admit()], sync=True)
            assert (store.facts.durable, store.facts.power_safe) == promises
            assert len(store.facts.notes) == 1

    (line,) = warnings(caplog)
    assert warning in line


async def test_a_server_that_does_not_tell_its_settings_is_said_to_be_unchecked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with RedisServer(**{"rename-command": "CONFIG ", "appendfsync": "everysec"}) as server:
        async with RedisStore(server.url) as store:
            assert (store.facts.durable, store.facts.power_safe) == (True, False)  # INFO tells of the file

    (line,) = warnings(caplog)
    assert "appendfsync is not told" in line


INFO = {"redis_version": "7.2.4", "aof_enabled": "1", "maxmemory": "0", "maxmemory_policy": "noeviction"}


def test_a_server_that_can_be_asked_to_wait_is_safe_with_sync() -> None:
    settings = Settings.of({"appendonly": "yes", "appendfsync": "everysec"}, INFO)

    assert (settings.waits, settings.durable, settings.power_safe) == (True, True, True)
    assert len(settings.notes()) == 1


def test_a_server_that_tells_nothing_is_promised_nothing_for() -> None:
    settings = Settings.of(None, {"redis_version": "7.0.0"})

    assert (settings.durable, settings.power_safe) == (False, False)
    assert len(settings.notes()) == 2


def test_keys_without_an_end_are_safe_where_only_those_with_one_are_removed() -> None:
    config = {"appendonly": "yes", "appendfsync": "always", "maxmemory": "100", "maxmemory-policy": "volatile-lru"}

    assert Settings.of(config, INFO).notes() == []


def test_an_address_is_shown_without_its_secrets() -> None:
    store = RedisStore("redis://me:s3cret@db.example:6380/3?prefix=mine")

    assert store._address.shown == "redis://db.example:6380/3?prefix=mine"
    assert "s3cret" not in repr(store._address)


@pytest.mark.parametrize(
    "url",
    [
        "redis://me:s3cret@host/zero",
        "redis://me:s3cret@[host/0",
        "redis://me:s3cret@host:port/0",
        "redis://me:s3cret@host/0?unknown=1",
        "redis://me:s3cret@host/0?prefix=",
    ],
)
def test_an_address_that_cannot_be_read_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match="cannot be read") as raised:
        RedisStore(url)

    assert "s3cret" not in "".join(traceback.format_exception(raised.value))


UNREACHABLE = {
    "a wrong password": ("redis://:s3cret@127.0.0.1:{port}/0", "check the user and the password"),
    "a wrong user": ("redis://nobody:s3cret@127.0.0.1:{port}/0", "check the user and the password"),
    "no password": ("redis://127.0.0.1:{port}/0", "give a password"),
    "no such database": ("redis://:{password}@127.0.0.1:{port}/99", "name a database that it has"),
    "no server": ("redis://:s3cret@127.0.0.1:{free}/0", "is the server running"),
    "no such host": ("redis://:s3cret@nothing.invalid/0", "check the host"),
}


@pytest.mark.parametrize(("url", "cure"), UNREACHABLE.values(), ids=UNREACHABLE)
async def test_what_cannot_be_reached_is_said_with_the_cure_and_without_secrets(
    url: str, cure: str, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store = RedisStore(url.format(port=server.port, password=server.password, free=free_port()))
    with pytest.raises(StoreUnavailable, match=cure) as raised:
        await store.__aenter__()

    said = "".join(traceback.format_exception(raised.value)) + caplog.text + repr(raised.value.facts)
    assert store._address.shown in str(raised.value)
    assert "s3cret" not in said
    assert server.password not in said


STRANGERS = {
    "silent": (b"", "is the server running"),
    "one of the web": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is it Redis that answers"),
}


@pytest.mark.parametrize(("says", "cure"), STRANGERS.values(), ids=STRANGERS)
async def test_of_another_server_at_its_address_it_is_asked_whether_it_is_the_right_one(says: bytes, cure: str) -> None:
    with stranger(says) as port, pytest.raises(StoreUnavailable, match=rf"127\.0\.0\.1:{port}.*{cure}"):
        await RedisStore(f"redis://127.0.0.1:{port}/0").__aenter__()


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("Connection not usable"),
        ConnectionError("Unable to establish a connection to host=127.0.0.1,port=1"),
        TimeoutError(),
        ConnectionResetError(104, "Connection reset by peer"),
    ],
    ids=repr,
)
def test_however_a_connection_is_lost_it_is_asked_whether_the_server_is_running(error: Exception) -> None:
    assert "is the server running, and at this address?" in str(unavailable(error, "redis://127.0.0.1:1"))


def test_what_a_server_says_is_no_question_of_whether_it_is_running() -> None:
    assert "is the server running" not in str(unavailable(ResponseError("no such thing"), "redis://127.0.0.1:1"))


async def test_a_replica_is_refused(redis_url: str) -> None:
    main = shared("redis")
    with (
        RedisServer(replicaof=f"127.0.0.1 {main.port}", masterauth=main.password) as server,
        pytest.raises(StoreUnavailable, match="is a replica, which takes no writes; name its master"),
    ):
        await RedisStore(server.url).__aenter__()


async def test_what_a_later_version_keeps_is_refused(redis_url: str, server: RedisServer) -> None:
    async with RedisStore(redis_url) as store:
        prefix = store.facts.url.rpartition("=")[2]
    server.say("HSET", f"{prefix}:meta:", "version", "2")

    with pytest.raises(StoreUnavailable, match=r"version 2, expected 1"):
        await RedisStore(redis_url).__aenter__()


# --- listings -------------------------------------------------------------------------------------------


async def test_many_runs_of_one_moment_are_listed_in_pages_of_any_index(store: RedisStore) -> None:
    runs = [f"r{number:04d}" for number in range(1200)]
    await store.commit([admit(run, tags={"odd": str(number % 2)}) for number, run in enumerate(runs)])
    await store.commit([SetStatus(run, "failed", 1.0) for run in runs[::3]])
    for newest_first in (False, True):
        seen: list[str] = []
        while page := await store.find(
            Query(
                tags={"odd": "1"},
                status=["failed"],
                limit=70,
                newest_first=newest_first,
                after=seen[-1] if seen else None,
            )
        ):
            seen += [found.run_id for found in page]

        expected = [run for number, run in enumerate(runs) if number % 2 and number % 3 == 0]
        assert seen == (expected[::-1] if newest_first else expected)


# --- waiting for the disk -------------------------------------------------------------------------------


async def test_only_a_commit_with_sync_waits_for_the_disk_where_the_server_can_be_asked_to(store: RedisStore) -> None:
    store._waits = True  # as from 7.2 on; this server is older, and refuses the question itself
    await store.commit([admit()])
    with pytest.raises(StoreUnavailable, match="WAITAOF"):
        await store.commit([append(1)], sync=True)
    with pytest.raises(StoreUnavailable, match="WAITAOF"):
        await store.commit([], sync=True)

    assert await store.records("r1") == [(1, b"record 1")]
