"""Several stores on the same tables: leases and epochs, claims, inboxes, and who may not come in."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import psycopg
import pytest

from engine.errors import LeaseLost, RunIdTaken, StoreUnavailable
from engine.stored import Forget, Kept, Losses, Post, SetStatus, StoredRun
from engine.stores.postgres import PostgresStore, store
from engine.stores.postgres.address import Address
from engine.stores.postgres.schema import fence_number
from engine.stores.postgres.sharing import PostgresMember
from tests.contracts.stores import admit, append
from tests.ports import free_port

KIND = ("g", "1", "f")
LONG = 60.0


@asynccontextmanager
async def sharing(url: str, lease: float = LONG, name: str = "one") -> AsyncIterator[tuple[PostgresStore, Any]]:
    async with PostgresStore(url) as opened:
        yield opened, await opened.share(name, lease)


@contextmanager
def patience(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Iterator[None]:
    """With those who have it, who in these tests do not go."""
    with monkeypatch.context() as patched:
        patched.setattr(store, "CLAIM_SECONDS", seconds)
        yield


def execute(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url.partition("?")[0], autocommit=True) as connection:
        cursor = connection.execute(query.replace("$.", f"{url.rpartition('=')[2]}.").encode())
        return cursor.fetchall() if cursor.description else []


def cut(url: str) -> None:
    """The connections of all stores are cut, and gone when this returns."""
    ours = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name = 'workflow-engine'"
    execute(url, f"SELECT pg_terminate_backend(pid, 60000) {ours}")


def end_its_lease(url: str, member: PostgresMember, in_seconds: float = 0.0) -> None:
    execute(url, f"UPDATE $.engines SET expires = now() + make_interval(secs => {in_seconds}) WHERE id = {member.id}")


def lease_left(url: str, member: PostgresMember) -> float:
    left = execute(url, f"SELECT extract(epoch FROM expires - now()) FROM $.engines WHERE id = {member.id}")
    return float(left[0][0])


async def queued(opened: PostgresStore, member: PostgresMember, *runs: Any) -> None:
    await opened.commit(list(runs))
    await member.give_back([run.row.run_id for run in runs])


def ids(runs: Any) -> list[str]:
    found: list[StoredRun] = list(runs)
    return [run.row.run_id for run in found]


# --- who may come in ------------------------------------------------------------------------------------


async def test_one_who_has_it_alone_and_those_who_share_keep_each_other_out(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with PostgresStore(postgres_url) as alone:
        await alone.claim()
        async with PostgresStore(postgres_url) as other:
            with (
                patience(monkeypatch, 0.2),
                pytest.raises(StoreUnavailable, match=r"by an engine that has it for itself: without shared=True"),
            ):
                await other.share("other", LONG)
    async with sharing(postgres_url), sharing(postgres_url), PostgresStore(postgres_url) as alone:
        with (
            patience(monkeypatch, 0.2),
            pytest.raises(StoreUnavailable, match=r"or share it: Engine\(..., shared=True\) for each engine"),
        ):
            await alone.claim()


async def test_one_who_sleeps_while_another_has_it_alone_writes_nothing_when_it_wakes(postgres_url: str) -> None:
    async with sharing(postgres_url) as (sleeping, member):
        await sleeping.commit([admit("r1"), append(1, "r1")])
        # Its connections are cut, and with them goes what keeps others out.
        cut(postgres_url)
        async with PostgresStore(postgres_url) as alone:
            await alone.claim()
            await alone.commit([append(2, "r1")])
        with pytest.raises(LeaseLost):
            await sleeping.commit([append(2, "r1", b"stale")])
        await member.join()

        assert ids(await member.claim([KIND], 10, {})) == ["r1"]
        assert await sleeping.records("r1") == [(1, b"record 1"), (2, b"record 2")]


async def test_one_who_had_it_alone_is_told_if_others_shared_it_while_it_was_cut_off(postgres_url: str) -> None:
    async with PostgresStore(postgres_url) as alone:
        await alone.claim()
        await alone.commit([admit("r1")])
        cut(postgres_url)
        async with sharing(postgres_url):
            pass
        with pytest.raises(StoreUnavailable, match="what this one has in memory is out of date; start it anew"):
            await alone.commit([append(1, "r1")])


async def test_runs_of_an_engine_that_had_it_alone_are_for_anybody_who_shares(postgres_url: str) -> None:
    async with PostgresStore(postgres_url) as alone:
        await alone.claim()
        await alone.commit([admit("r1"), admit("r2"), SetStatus("r2", "succeeded", 1.0)])
    async with sharing(postgres_url) as (_, member):
        assert ids(await member.claim([KIND], 10, {})) == ["r1"]


# --- claims ---------------------------------------------------------------------------------------------


async def test_claims_go_by_priority_and_then_by_age(postgres_url: str) -> None:
    async with sharing(postgres_url) as (opened, member):
        await queued(opened, member, admit("a"), admit("b", priority=5), admit("c"), admit("d", priority=5))

        assert ids(await member.claim([KIND], 3, {})) == ["b", "d", "a"]
        assert ids(await member.claim([KIND], 3, {})) == ["c"]


async def test_an_engine_claims_only_what_it_can_run(postgres_url: str) -> None:
    async with sharing(postgres_url) as (opened, member):
        await queued(opened, member, admit("a"), admit("b", version="2"), admit("c", fingerprint="x"))

        assert ids(await member.claim([KIND, ("h", "1", "f")], 10, {})) == ["a"]
        assert ids(await member.claim([], 10, {})) == []


async def test_no_run_is_claimed_twice_by_four_who_claim_at_once(postgres_url: str) -> None:
    claimed = Counter[str]()

    async def claim(member: PostgresMember) -> None:
        while runs := ids(await member.claim([KIND], 7, {})):
            claimed.update(runs)

    async with sharing(postgres_url) as (opened, first), sharing(postgres_url) as (_, second):
        await queued(opened, first, *(admit(f"r{number}") for number in range(200)))
        async with anyio.create_task_group() as group:
            for member in (first, second, first, second):
                group.start_soon(claim, member)

    assert claimed == {f"r{number}": 1 for number in range(200)}


async def test_the_limit_of_a_graph_holds_for_all_engines_together(postgres_url: str) -> None:
    claimed: list[str] = []

    async def claim(member: PostgresMember) -> None:
        claimed.extend(ids(await member.claim([KIND, ("h", "1", "f")], 10, {"g": 3})))

    async with sharing(postgres_url) as (opened, first), sharing(postgres_url) as (_, second):
        runs = [admit(f"g{number}") for number in range(8)] + [admit("h", graph="h", priority=-1)]
        await queued(opened, first, *runs)
        async with anyio.create_task_group() as group:
            for member in (first, second, first, second):
                group.start_soon(claim, member)
        assert sorted(claimed) == ["g0", "g1", "g2", "h"]

        owner = (await first.whereabouts(["g1"]))["g1"].owner
        at = opened if owner == first.id else _
        await at.commit([SetStatus("g1", "succeeded", 1.0)])
        assert ids(await second.claim([KIND], 10, {"g": 3})) == ["g3"]


async def test_two_engines_that_submit_the_same_id_do_not_both_have_the_run(postgres_url: str) -> None:
    async with sharing(postgres_url) as (one, _), sharing(postgres_url) as (two, _):
        await one.commit([admit("r1")])
        await one.commit([admit("r1")])  # again, since an answer may have been lost
        with pytest.raises(RunIdTaken, match="'r1'"):
            await two.commit([admit("r2"), admit("r1", b"other")])

        assert await two.read("r2") is None


# --- leases ---------------------------------------------------------------------------------------------


async def test_what_a_lost_lease_was_to_write_is_not_written(postgres_url: str) -> None:
    async with sharing(postgres_url) as (late, member), sharing(postgres_url) as (_, other):
        await late.commit([admit("r1"), append(1, "r1")])
        end_its_lease(postgres_url, member)
        with pytest.raises(LeaseLost, match="engine one has lost its lease"):
            await late.commit([append(2, "r1", b"late")])
        (gone,) = await other.take_over()

        assert (gone.name, gone.runs) == ("one", 1)
        assert ids(await other.claim([KIND], 1, {})) == ["r1"]
        assert await late.records("r1") == [(1, b"record 1")]
        assert await other.take_over() == []


async def test_a_lease_that_is_renewed_is_not_taken_over(postgres_url: str) -> None:
    async with sharing(postgres_url) as (store, member), sharing(postgres_url) as (_, other):
        await store.commit([admit("r1")])
        begun = lease_left(postgres_url, member)
        end_its_lease(postgres_url, member, in_seconds=5.0)
        before = lease_left(postgres_url, member)
        await member.renew()

        assert before < 6 < LONG / 2 < lease_left(postgres_url, member) <= LONG
        assert LONG / 2 < begun <= LONG
        assert await other.take_over() == []
        await store.commit([append(1, "r1")])


async def test_a_lease_that_is_not_renewed_is_over_when_its_time_is(postgres_url: str) -> None:
    async with sharing(postgres_url, 0.4), sharing(postgres_url) as (_, other):
        await anyio.sleep(0.5)
        (gone,) = await other.take_over()

        assert gone.name == "one"


async def test_one_who_comes_back_has_another_epoch_and_owns_nothing(postgres_url: str) -> None:
    async with sharing(postgres_url) as (store, member):
        await store.commit([admit("r1")])
        before = member.lease
        end_its_lease(postgres_url, member)
        with pytest.raises(LeaseLost):
            await member.renew()
        await member.join()

        assert (member.lease.engine, member.lease.epoch) == (before.engine, before.epoch + 1)
        assert await member.owned() == []
        assert await member.queued(10, []) == 1


async def test_one_who_leaves_gives_its_runs_to_the_others_at_once(postgres_url: str) -> None:
    async with sharing(postgres_url) as (_, other):
        async with sharing(postgres_url) as (leaving, member):
            await leaving.commit([admit("r1"), admit("r2"), SetStatus("r2", "failed", 1.0)])
            await member.leave()
            with pytest.raises(LeaseLost):
                await leaving.commit([append(1, "r1")])

        assert ids(await other.claim([KIND], 10, {})) == ["r1"]


async def test_a_transaction_that_hangs_is_cut_by_who_takes_over(postgres_url: str) -> None:
    """An engine was stopped between the beginning and the end of a commit: its lease row is held by that."""
    schema = postgres_url.rpartition("=")[2]
    async with sharing(postgres_url) as (late, member), sharing(postgres_url) as (_, other):
        await late.commit([admit("r1")])
        end_its_lease(postgres_url, member, in_seconds=2.5)
        with psycopg.connect(postgres_url.partition("?")[0]) as hanging:
            hanging.execute(f"SELECT {schema}.hold(%s, %s)".encode(), [member.lease.engine, member.lease.epoch])
            hanging.execute(f"UPDATE {schema}.runs SET status = 'failed' WHERE run_id = 'r1'".encode())
            assert fence_number(schema) >= 0
            taken = await other.take_over()
            with anyio.fail_after(30):
                while not taken:
                    await anyio.sleep(0.05)
                    taken = await other.take_over()
            with pytest.raises(psycopg.OperationalError):
                hanging.execute("COMMIT")

        assert [gone.runs for gone in taken] == [1]
        assert ids(await other.claim([KIND], 1, {})) == ["r1"]


# --- runs that engines are lost with ---------------------------------------------------------------------


async def test_a_run_that_is_lost_again_and_again_and_gets_no_further_is_counted(postgres_url: str) -> None:
    async with sharing(postgres_url) as (store, survivor):
        await queued(store, survivor, admit("r1"))
        for name in ("a", "b", "c"):
            async with sharing(postgres_url, name=name) as (_, member):
                (run,) = await member.claim([KIND], 1, {})
                await member.begin(["r1"])
                end_its_lease(postgres_url, member)
                await survivor.take_over()
        (run,) = await survivor.claim([KIND], 1, {})

        assert run.losses == Losses(3, 0, ("c", "b", "a"))


async def test_a_run_that_got_further_or_was_not_let_go_on_is_not_counted_again(postgres_url: str) -> None:
    async with sharing(postgres_url) as (store, survivor):
        await queued(store, survivor, admit("further"), admit("waits"))
        for seq in (1, 2, 3):
            async with sharing(postgres_url, name=f"life {seq}") as (opened, member):
                assert len(await member.claim([KIND], 2, {})) == 2
                await member.begin(["further"])
                await opened.commit([append(seq, "further")])
                end_its_lease(postgres_url, member)
                await survivor.take_over()
        further, waits = await survivor.claim([KIND], 2, {})

        assert further.losses == Losses(1, 3, ("life 3",))
        assert waits.losses == Losses(1, 0, ("life 1",))


async def test_one_who_loses_its_own_lease_counts_its_runs_and_one_who_leaves_does_not(postgres_url: str) -> None:
    async with sharing(postgres_url, name="away") as (store, member):
        await queued(store, member, admit("r1"))
        for _ in range(2):
            await member.claim([KIND], 1, {})
            await member.begin(["r1"])
            end_its_lease(postgres_url, member)
            await member.join()
        await member.claim([KIND], 1, {})
        await member.leave()
        async with sharing(postgres_url) as (_, other):
            (run,) = await other.claim([KIND], 1, {})

        assert run.losses == Losses(2, 0, ("away", "away"))


async def test_its_own_runs_that_are_leaving_are_counted_with_those_that_wait(postgres_url: str) -> None:
    async with sharing(postgres_url) as (store, one), sharing(postgres_url) as (other_store, two):
        await store.commit([admit("mine"), admit("leaving"), admit("given back")])
        await other_store.commit([admit("theirs")])
        await one.give_back(["given back"])

        assert await one.queued(10, []) == 1
        assert await one.queued(10, ["leaving", "given back", "theirs"]) == 2
        assert await two.queued(0, ["theirs"]) == 1


async def test_runs_that_were_lost_often_are_claimed_last_and_one_at_a_time(postgres_url: str) -> None:
    async with sharing(postgres_url) as (store, one), sharing(postgres_url) as (_, two):
        await queued(store, one, admit("s1", priority=9), admit("s2", priority=9), admit("innocent"))
        execute(postgres_url, "INSERT INTO $.losses SELECT number, 3, 0, 0, '{}' FROM $.runs WHERE priority = 9")
        assert ids(await one.claim([KIND], 1, {}, 3)) == ["innocent"]
        assert ids(await one.claim([KIND], 10, {"g": 9}, 3)) == ["s1"]
        assert ids(await one.claim([KIND], 10, {}, 3)) == ["s2"], "the first does not go on yet"
        await one.begin(["s1"])
        await one.give_back(["s2"])
        assert ids(await one.claim([KIND], 10, {}, 3)) == []
        assert ids(await two.claim([KIND], 10, {"g": 1}, 3)) == [], "of the graph as many are at work as may"
        await store.commit([append(1, "s1")])

        assert ids(await one.claim([KIND], 10, {}, 3)) == ["s2"], "the first has got further"


async def test_what_was_counted_goes_with_the_run(postgres_url: str) -> None:
    async with sharing(postgres_url) as (store, member):
        await queued(store, member, admit("r1"), admit("r2"))
        execute(postgres_url, "INSERT INTO $.losses SELECT number, 3, 0, 0, '{}' FROM $.runs")
        await store.commit([Forget("r1"), SetStatus("r2", "failed", 1.0)])
        await store.compact(Kept(count=0), now=2.0)

        assert execute(postgres_url, "SELECT * FROM $.losses") == []


# --- what is asked of others ------------------------------------------------------------------------------


async def test_what_is_posted_is_in_the_inbox_of_the_owner_who_is_told(postgres_url: str) -> None:
    async with sharing(postgres_url) as (one, asked), sharing(postgres_url) as (_, asking):
        await one.commit([admit("r1"), admit("r2")])
        heard: list[set[str]] = []

        async def listen() -> None:
            heard.append(await asked.heard(30))

        await asked.heard(0.01)  # from here on it listens
        await asking.heard(0.01)
        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            where = await asking.post("r1", "id", b"what")
            await asking.post("r1", "id", b"what")
        assert where is not None
        assert where.owner == asked.id
        assert heard == [{"inbox"}]
        assert await asked.inbox() == {"r1": [("id", b"what")]}
        assert await asking.inbox() == {}
        assert await asking.heard(0.01) == set()


async def test_nothing_is_posted_to_a_run_that_is_over(postgres_url: str) -> None:
    async with sharing(postgres_url) as (one, member):
        await one.commit([admit("r1"), SetStatus("r1", "succeeded", 1.0)])
        where = await member.post("r1", "id", b"what")

        assert where is not None
        assert where.status == "succeeded"
        assert await member.post("r2", "id", b"what") is None
        assert execute(postgres_url, "SELECT count(*) FROM $.inbox") == [(0,)]


async def test_orders_that_a_run_did_not_hear_before_its_end_are_gone_and_signals_stay(postgres_url: str) -> None:
    async with sharing(postgres_url) as (one, member):
        await one.commit([admit("r1"), Post("r1", "signal", b"s")])
        await member.post("r1", "\x01cancel 1", b"order")
        await one.commit([SetStatus("r1", "failed", 1.0)])

        found = await one.read("r1")
        assert found is not None
        assert list(found.inbox) == [("signal", b"s")]


async def test_who_waits_to_hear_something_stops_at_once_when_it_is_cancelled(postgres_url: str) -> None:
    async with sharing(postgres_url) as (_, member):
        await member.heard(0.01)
        with anyio.fail_after(30):
            with anyio.move_on_after(0.05) as scope:
                await member.heard(60)
        assert scope.cancelled_caught


async def test_a_server_that_is_away_is_told_as_such_to_who_listens() -> None:
    url = f"postgresql://nobody:x@127.0.0.1:{free_port()}/x"
    member = PostgresMember(Address.of(url), "one", LONG, lambda connection: None)
    with pytest.raises(StoreUnavailable):
        await member.heard(1)
    await member.close()
