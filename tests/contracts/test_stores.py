"""What every store promises (engine/ports.py), on each backend."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import anyio
import attrs
import pytest
from anyio.lowlevel import checkpoint

from engine.errors import EngineClosed, KeyTaken, RunNotFound
from engine.ports import Store
from engine.stored import (
    Admit,
    Append,
    Collect,
    Compacted,
    Define,
    Forget,
    Kept,
    Post,
    PutSnapshot,
    Query,
    Rebase,
    SetStatus,
    StoredRun,
    StoreFacts,
    Write,
    blob_digest,
)
from tests.contracts.stores import FACTORIES, Make, admit, append, blob, commit_in_turn, everything, row

LARGE_BYTES = 5_000_000

ODD_TEXTS = [
    "",
    "a\0b",
    "\0",
    "naïve ☃ 🏃‍♀️",
    "' OR 1=1; --",
    "%_\\",
    "a" * 1000,
    "\u202eright to left",
    "\n\t ",
    "e\u0301",
]


@pytest.fixture(params=FACTORIES)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    return FACTORIES[request.param](tmp_path)


@pytest.fixture
async def store(make: Make) -> AsyncIterator[Store]:
    async with make() as entered:
        yield entered


async def ids(store: Store, query: Query) -> list[str]:
    return [row.run_id for row in await store.find(query)]


async def read(store: Store, run_id: str = "r1") -> StoredRun:
    run = await store.read(run_id)
    assert run is not None
    return run


# --- its life -------------------------------------------------------------------------------------------


async def test_it_says_what_it_promises(store: Store) -> None:
    assert isinstance(store.facts, StoreFacts)
    assert "://" in store.facts.url
    assert store.facts.durable or store.facts.notes


async def test_outside_of_its_life_it_refuses(make: Make) -> None:
    store = make()
    with pytest.raises(EngineClosed):
        await store.commit([admit()])
    with pytest.raises(EngineClosed):
        await store.read("r1")
    async with store:
        pass

    with pytest.raises(EngineClosed):
        await store.commit([admit()])
    with pytest.raises(EngineClosed):
        await store.find(Query())


async def test_it_can_be_entered_again(make: Make) -> None:
    store = make()
    async with store:
        await store.commit([admit()])
    async with store:
        await store.commit([append(1)])

        assert await store.records("r1") == [(1, b"record 1")]


async def test_what_was_committed_is_there_after_a_restart(make: Make) -> None:
    async with make() as store:
        await store.commit([admit("r1", key="k", tags={"a": "b"}), append(1), append(2), Post("r1", "s", b"signal")])
        await store.commit([PutSnapshot("r1", 1, b"snapshot"), Define("g", "1", "f", "text")], sync=True)
        await store.commit([admit("r2"), SetStatus("r2", "failed", 5.0)])
        before = await everything(store)
    async with make() as store:
        assert await everything(store) == before
        await store.commit([admit("r3")])

        assert [row.number for row in await store.find(Query())] == [1, 2, 3]


# --- commit ---------------------------------------------------------------------------------------------


async def test_an_admitted_run_is_read_as_it_was_given(store: Store) -> None:
    given = row(
        tags={"team": "red", "x": ""},
        priority=-3,
        key="k",
        deadline=2.5,
        depth=2,
        submitted_at=1_700_000_000.123456,
        fingerprint="abc",
    )
    await store.commit([Admit(given, b"\0data\xff")])

    assert await read(store) == StoredRun(attrs.evolve(given, number=1), b"\0data\xff", None, [], [])


async def test_runs_are_numbered_in_the_order_of_their_admissions(store: Store) -> None:
    await store.commit([admit("b", submitted_at=3.0), admit("a", submitted_at=1.0)])
    await store.commit([admit("c", submitted_at=2.0)])

    assert {row.run_id: row.number for row in await store.find(Query())} == {"b": 1, "a": 2, "c": 3}


async def test_an_admission_of_a_run_that_is_there_does_nothing(store: Store) -> None:
    await store.commit([admit(), append(1)])
    await store.commit([admit(data=b"other", graph="other", key="k", tags={"a": "b"}), append(2)])

    run = await read(store)
    assert (run.row.graph, run.row.key, run.row.tags, run.admission) == ("g", None, {}, b"admission")
    assert [seq for seq, _ in run.records] == [1, 2]
    assert await ids(store, Query(tags={"a": "b"})) == []
    assert await store.find_key("k") is None


async def test_an_empty_commit_is_accepted(store: Store) -> None:
    await store.commit([])
    await store.commit([], sync=True)


@pytest.mark.parametrize("sync", [False, True])
async def test_a_commit_is_read_once_it_has_returned(store: Store, sync: bool) -> None:
    await store.commit([admit(), append(1)], sync=sync)
    assert await store.records("r1") == [(1, b"record 1")]
    await store.commit([append(2)], sync=not sync)

    assert len(await store.records("r1")) == 2


async def test_records_are_kept_byte_for_byte_and_read_in_order(store: Store) -> None:
    contents = [b"", b"\0", bytes(range(256)), b"'", b"x" * 70_000]
    await store.commit([admit()])
    for number, data in enumerate(contents, 1):
        await store.commit([append(number, data=data)])

    assert await store.records("r1") == list(enumerate(contents, 1))


async def test_a_record_that_is_there_is_left_as_it_is(store: Store) -> None:
    await store.commit([admit(), append(1)])
    await store.commit([append(1, data=b"other"), append(2)])

    assert await store.records("r1") == [(1, b"record 1"), (2, b"record 2")]


async def test_records_of_many_runs_in_one_commit_keep_apart(store: Store) -> None:
    runs = [f"r{number}" for number in range(20)]
    await store.commit([admit(run) for run in runs])
    await store.commit([append(seq, run, f"{run}/{seq}".encode()) for seq in range(1, 11) for run in runs])

    for run in runs:
        assert await store.records(run) == [(seq, f"{run}/{seq}".encode()) for seq in range(1, 11)]


UNKNOWN: list[Write] = [
    Append("unknown", 1, b"", blob(b"blob of unknown")),
    SetStatus("unknown", "failed", 1.0),
    PutSnapshot("unknown", 1, b"", blob(b"blob of unknown"), drop=1),
    Post("unknown", "s", b""),
    Collect("unknown", ["s"]),
    Rebase("unknown", "2", "f"),
    Forget("unknown"),
]


@pytest.mark.parametrize("write", UNKNOWN, ids=lambda write: type(write).__name__)
async def test_a_write_for_a_run_that_is_not_there_is_dropped(store: Store, write: Write) -> None:
    await store.commit([admit()])
    before = await everything(store)
    await store.commit([write, append(1)])

    assert await store.records("r1") == [(1, b"record 1")]
    assert await store.read("unknown") is None
    assert await store.blobs([blob_digest(b"blob of unknown")]) == {}
    assert (await everything(store))[0] == before[0]


WRITES: dict[str, Sequence[Write]] = {
    "admit": [Admit(row("new", key="key", tags={"a": "b"}), b"data", blob(b"blob"))],
    "append": [append(4), append(5), Append("r1", 6, b"six", blob(b"blob"), ())],
    "end": [SetStatus("r1", "succeeded", 7.0)],
    "go on": [SetStatus("ended", "running")],
    "end and go on": [SetStatus("r1", "failed", 7.0), SetStatus("r1", "running")],
    "snapshot": [PutSnapshot("r1", 2, b"two", blob(b"blob"))],
    "snapshot and drop": [PutSnapshot("r1", 2, b"two", drop=2)],
    "snapshot and drop some": [PutSnapshot("r1", 3, b"three", drop=1)],
    "append, snapshot and drop": [append(4), append(5), PutSnapshot("r1", 5, b"five", drop=4), append(6)],
    "two snapshots": [PutSnapshot("r1", 2, b"two"), PutSnapshot("r1", 3, b"three")],
    "post": [Post("r1", "s1", b"one"), Post("r1", "s2", b"two")],
    "post and collect": [Post("r1", "s1", b"one"), Collect("r1", ["s1"]), append(4)],
    "define": [Define("g", "2", "f2", "text")],
    "rebase": [Rebase("r1", "2", "f2")],
    "forget": [Forget("r1")],
    "admit, append and forget": [admit("new"), append(1, "new"), Forget("new")],
    "a life": [
        admit("new", key="key"),
        append(1, "new"),
        PutSnapshot("new", 1, b"one"),
        SetStatus("new", "failed", 2.0),
    ],
}


@pytest.mark.parametrize("writes", WRITES.values(), ids=WRITES)
async def test_writes_whose_answer_was_lost_can_be_made_again(store: Store, writes: Sequence[Write]) -> None:
    await store.commit([admit(), append(1), append(2), append(3), admit("ended"), SetStatus("ended", "failed", 6.0)])
    await store.commit(writes, sync=True)
    once = await everything(store)
    await store.commit(writes, sync=True)

    assert await everything(store) == once
    assert await store.verify() == []


async def test_an_order_within_a_commit_counts(store: Store) -> None:
    await store.commit(
        [
            append(1),  # too early: it is not there yet
            admit(),
            append(1, data=b"first"),
            append(1, data=b"second"),
            SetStatus("r1", "failed", 1.0),
            SetStatus("r1", "running"),
            SetStatus("r1", "succeeded", 2.0),
            admit("r2"),
            append(1, "r2"),
            Forget("r2"),
            append(2, "r2"),  # too late
        ]
    )

    run = await read(store)
    assert (run.row.status, run.row.ended_at, run.records) == ("succeeded", 2.0, [(1, b"first")])
    assert await store.read("r2") is None
    assert await store.verify() == []


# --- idempotency keys -----------------------------------------------------------------------------------


async def test_a_run_is_found_by_its_key(store: Store) -> None:
    await store.commit([admit("r1", b"one", key="k"), admit("r2", key="l")])
    found = await store.find_key("k")

    assert found is not None
    assert (found[0].run_id, found[1]) == ("r1", b"one")
    assert await store.find_key("unknown") is None


async def test_a_key_of_another_run_is_refused_and_nothing_of_the_commit_applied(store: Store) -> None:
    await store.commit([admit("r1", key="k"), append(1)])
    before = await everything(store)
    with pytest.raises(KeyTaken) as raised:
        await store.commit(
            [
                append(2),
                admit("r2"),
                append(1, "r2"),
                SetStatus("r1", "failed", 1.0),
                Define("g", "1", "f", "t"),
                Admit(row("r3", key="k", tags={"a": "b"}), b"", blob(b"blob")),
                Forget("r1"),
            ]
        )

    assert (raised.value.key, raised.value.run_id) == ("k", "r1")
    assert await everything(store) == before
    assert await ids(store, Query(tags={"a": "b"})) == []


async def test_after_a_key_was_refused_the_store_goes_on(store: Store) -> None:
    await store.commit([admit("r1", key="k")])
    with pytest.raises(KeyTaken):
        await store.commit([admit("r2"), admit("r3", key="k")])
    await store.commit([admit("r3"), append(1, "r3"), append(1, "r2")])

    assert await ids(store, Query()) == ["r1", "r3"]
    assert await store.records("r3") == [(1, b"record 1")]
    assert await store.read("r2") is None
    assert await store.verify() == []


async def test_a_key_is_refused_to_the_second_run_of_one_commit(store: Store) -> None:
    with pytest.raises(KeyTaken) as raised:
        await store.commit([admit("r1", key="k"), admit("r2", key="k")])

    assert raised.value.run_id == "r1"
    assert await store.find(Query()) == []


async def test_a_forgotten_run_gives_its_key_back_even_within_a_commit(store: Store) -> None:
    await store.commit([admit("r1", key="k")])
    await store.commit([Forget("r1"), admit("r2", key="k"), Forget("r2"), admit("r3", key="k")])

    found = await store.find_key("k")
    assert found is not None
    assert found[0].run_id == "r3"


# --- reading --------------------------------------------------------------------------------------------


async def test_a_run_that_is_not_there_is_none(store: Store) -> None:
    assert await store.read("unknown") is None
    assert await store.records("unknown") == []


async def test_records_are_read_in_parts(store: Store) -> None:
    await store.commit([admit(), *(append(seq) for seq in range(1, 8))])

    assert [seq for seq, _ in await store.records("r1", limit=3)] == [1, 2, 3]
    assert [seq for seq, _ in await store.records("r1", after=3, limit=3)] == [4, 5, 6]
    assert [seq for seq, _ in await store.records("r1", after=6, limit=3)] == [7]
    assert await store.records("r1", after=7) == []


async def test_unfinished_runs_of_a_graph_are_read_whole_and_in_order(store: Store) -> None:
    await store.commit(
        [
            admit("a", b"A", submitted_at=9.0),
            admit("other graph", graph="h"),
            admit("other version", version="2"),
            admit("ended"),
            admit("b", b"B", submitted_at=1.0),
            *(append(seq, run) for seq in (1, 2, 3) for run in ("a", "ended", "b", "other graph")),
            PutSnapshot("b", 2, b"two"),
            Post("b", "s", b"signal"),
            SetStatus("ended", "cancelled", 5.0),
        ]
    )
    found = await store.unfinished("g", "1")

    assert found == [await store.read("a"), await store.read("b")]
    assert [(run.row.run_id, run.admission) for run in found] == [("a", b"A"), ("b", b"B")]
    assert [[seq for seq, _ in run.records] for run in found] == [[1, 2, 3], [3]]
    assert (found[1].snapshot, found[1].inbox) == ((2, b"two"), [("s", b"signal")])


async def test_unfinished_runs_are_read_in_parts(store: Store) -> None:
    await store.commit([write for n in range(7) for write in (admit(f"r{n}"), append(1, f"r{n}"))])
    seen: list[str] = []
    after = 0
    while found := await store.unfinished("g", "1", after=after, limit=3):
        assert all(len(run.records) == 1 for run in found)
        seen += [run.row.run_id for run in found]
        after = found[-1].row.number

    assert seen == [f"r{n}" for n in range(7)]


async def test_a_run_that_goes_on_again_is_unfinished_again(store: Store) -> None:
    await store.commit([admit(), SetStatus("r1", "failed", 5.0)])
    assert await store.unfinished("g", "1") == []
    await store.commit([SetStatus("r1", "running")])
    (run,) = await store.unfinished("g", "1")

    assert (run.row.status, run.row.ended_at) == ("running", None)


async def test_a_rebased_run_belongs_to_the_other_version(store: Store) -> None:
    await store.commit([admit(), append(1), Rebase("r1", "2", "f2")])
    (run,) = await store.unfinished("g", "2")

    assert (run.row.version, run.row.fingerprint, len(run.records)) == ("2", "f2", 1)
    assert await store.unfinished("g", "1") == []


# --- listing --------------------------------------------------------------------------------------------


@pytest.fixture
async def listed(store: Store) -> Store:
    """Admitted in another order than submitted; "c", "d" and "e" in one moment."""
    await store.commit(
        [
            admit("f", submitted_at=6.0, graph="h", tags={"team": "red", "size": "1"}),
            admit("c", submitted_at=3.0, tags={"team": "red", "size": "2"}),
            admit("a", submitted_at=1.0, tags={"team": "red"}),
            admit("e", submitted_at=3.0, tags={"team": "blue", "size": "1"}),
            admit("d", submitted_at=3.0, graph="h", tags={"size": "2", "team": "red"}),
            admit("b", submitted_at=2.0),
            SetStatus("a", "succeeded", 10.0),
            SetStatus("b", "failed", 10.0),
            SetStatus("d", "failed", 10.0),
            SetStatus("e", "cancelled", 10.0),
        ]
    )
    return store


QUERIES: dict[str, tuple[Query, str]] = {
    "all": (Query(), "abcedf"),
    "newest first": (Query(newest_first=True), "fdecba"),
    "a status": (Query(status=["failed"]), "bd"),
    "statuses": (Query(status=("succeeded", "running")), "acf"),
    "a graph": (Query(graph="h"), "df"),
    "a graph and a status": (Query(graph="h", status=["failed"]), "d"),
    "a graph that is not there": (Query(graph="x"), ""),
    "a tag": (Query(tags={"team": "red"}), "acdf"),
    "a tag, newest first": (Query(tags={"team": "red"}, newest_first=True), "fdca"),
    "tags": (Query(tags={"team": "red", "size": "2"}), "cd"),
    "a tag of another value": (Query(tags={"team": "green"}), ""),
    "a tag and a status": (Query(tags={"team": "red"}, status=["failed", "succeeded"]), "ad"),
    "a tag and a graph": (Query(tags={"team": "red"}, graph="h"), "df"),
    "since": (Query(since=3.0), "cedf"),
    "until": (Query(until=3.0), "ab"),
    "since and until": (Query(since=2.0, until=6.0), "bced"),
    "since and a tag": (Query(since=2.0, tags={"team": "red"}), "cdf"),
    "since and until, newest first": (Query(since=2.0, until=6.0, newest_first=True), "decb"),
    "limit": (Query(limit=2), "ab"),
    "limit, newest first": (Query(limit=2, newest_first=True), "fd"),
    "after": (Query(after="b"), "cedf"),
    "after one of one moment": (Query(after="c"), "edf"),
    "after the middle one of one moment": (Query(after="e"), "df"),
    "after one of one moment, newest first": (Query(after="e", newest_first=True), "cba"),
    "after the last": (Query(after="f"), ""),
    "after one that does not match": (Query(after="b", status=["cancelled"]), "e"),
    "after one, and a tag": (Query(after="c", tags={"team": "red"}), "df"),
    "after one, and a tag, newest first": (Query(after="d", tags={"team": "red"}, newest_first=True), "ca"),
    "everything": (Query(after="a", since=1.0, until=4.0, graph="g", status=["running"], tags={"size": "2"}), "c"),
}


@pytest.mark.parametrize(("query", "expected"), QUERIES.values(), ids=QUERIES)
async def test_runs_are_listed_by(listed: Store, query: Query, expected: str) -> None:
    assert "".join(await ids(listed, query)) == expected


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_pages_show_each_run_once(listed: Store, newest_first: bool, limit: int) -> None:
    seen: list[str] = []
    query = Query(limit=limit, newest_first=newest_first)
    while page := await ids(listed, query):
        seen += page
        query = attrs.evolve(query, after=page[-1])

    assert "".join(seen) == ("fdecba" if newest_first else "abcedf")


async def test_a_run_listed_after_one_that_is_gone_raises(listed: Store) -> None:
    await listed.commit([Forget("c")])

    with pytest.raises(RunNotFound):
        await listed.find(Query(after="c"))


async def test_a_listed_row_is_that_of_its_run(listed: Store) -> None:
    for found in await listed.find(Query()):
        assert found == (await read(listed, found.run_id)).row


# --- snapshots, inboxes, definitions --------------------------------------------------------------------


async def test_a_newer_snapshot_replaces_an_older_one(store: Store) -> None:
    await store.commit([admit(), *(append(seq) for seq in range(1, 6))])
    await commit_in_turn(store, PutSnapshot("r1", 2, b"two"), PutSnapshot("r1", 4, b"four"))
    run = await read(store)

    assert (run.snapshot, run.records) == ((4, b"four"), [(5, b"record 5")])
    assert len(await store.records("r1")) == 5


async def test_an_older_snapshot_does_nothing_to_a_newer_one(store: Store) -> None:
    await store.commit([admit(), *(append(seq) for seq in range(1, 6))])
    await commit_in_turn(
        store,
        PutSnapshot("r1", 4, b"four"),
        PutSnapshot("r1", 2, b"two", blob(b"of two")),
        PutSnapshot("r1", 4, b"another"),
    )

    assert (await read(store)).snapshot == (4, b"four")


@pytest.mark.parametrize(("drop", "left"), [(0, [1, 2, 3, 4, 5, 6]), (1, [2, 3, 4, 5, 6]), (3, [4, 5, 6])])
async def test_dropped_records_are_gone_and_later_ones_are_not(store: Store, drop: int, left: list[int]) -> None:
    await store.commit([admit(), *(append(seq) for seq in range(1, 6)), PutSnapshot("r1", 3, b"three", drop=drop)])
    await store.commit([append(6)])
    run = await read(store)

    assert [seq for seq, _ in run.records] == [4, 5, 6]
    assert [seq for seq, _ in await store.records("r1")] == left
    assert run.admission == b"admission"
    assert await store.verify() == []


async def test_signals_wait_in_the_inbox_in_order_until_collected(store: Store) -> None:
    await store.commit([admit(), Post("r1", "z", b"first"), Post("r1", "a", b"second")])
    await store.commit([Post("r1", "m", b"third"), Post("r1", "z", b"again")])
    assert (await read(store)).inbox == [("z", b"first"), ("a", b"second"), ("m", b"third")]
    await store.commit([append(1), Collect("r1", ["z", "m", "unknown"])])

    assert (await read(store)).inbox == [("a", b"second")]


async def test_one_signal_id_may_be_posted_to_two_runs(store: Store) -> None:
    await store.commit([admit("r1"), admit("r2"), Post("r1", "s", b"1"), Post("r2", "s", b"2"), Collect("r1", ["s"])])

    assert (await read(store, "r2")).inbox == [("s", b"2")]


async def test_every_definition_is_kept_and_listed_by_name_version_and_fingerprint(store: Store) -> None:
    old, new = Define("g", "1", "f4", "old"), Define("g", "1", "f3", "new")
    await store.commit([Define("h", "1", "f1", "h1"), Define("g", "2", "f2", "g2"), old])
    await store.commit([new, old])
    every = [("g", "1", "f3", "new"), ("g", "1", "f4", "old"), ("g", "2", "f2", "g2"), ("h", "1", "f1", "h1")]

    assert await store.definitions() == every


# --- blobs ----------------------------------------------------------------------------------------------


async def test_blobs_are_read_by_their_digests_and_missing_ones_left_out(store: Store) -> None:
    one, two, three = b"one", b"two", b"three"
    await store.commit([Admit(row(), b"", blob(one)), Append("r1", 1, b"", blob(two))])
    await store.commit([PutSnapshot("r1", 1, b"", blob(three))])
    digests = [blob_digest(data) for data in (one, two, three)]

    assert await store.blobs([*digests, "unknown"]) == dict(zip(digests, (one, two, three), strict=True))
    assert await store.blobs([]) == {}


async def test_many_blobs_are_read_at_once(store: Store) -> None:
    blobs = {blob_digest(data): data for data in (b"%d" % number for number in range(3000))}
    await store.commit([Admit(row(), b"", blobs)])

    assert await store.blobs(list(blobs)) == blobs


async def test_a_blob_is_kept_while_anything_names_it(store: Store) -> None:
    shared = blob(b"shared")
    await store.commit([Admit(row("r1"), b"", shared), Admit(row("r2"), b"", shared), Append("r2", 1, b"", shared)])
    await store.commit([Forget("r1")])
    await store.compact(Kept(), now=0.0)
    assert await store.blobs(list(shared)) == shared
    await store.commit([Forget("r2")])

    assert (await store.compact(Kept(), now=0.0)).blobs == 1
    assert await store.blobs(list(shared)) == {}


async def test_a_blob_named_without_its_data_is_kept_for_what_names_it(store: Store) -> None:
    data = blob(b"data")
    await store.commit([admit(), Append("r1", 1, b"", data), Append("r1", 2, b"", {}, list(data))])
    await store.commit([PutSnapshot("r1", 1, b"", drop=1)])
    assert (await store.compact(Kept(), now=0.0)).blobs == 0
    await store.commit([PutSnapshot("r1", 2, b"", {}, list(data), drop=2)])
    assert (await store.compact(Kept(), now=0.0)).blobs == 0
    await store.commit([append(3), PutSnapshot("r1", 3, b"", drop=3)])

    assert (await store.compact(Kept(), now=0.0)).blobs == 1
    assert await store.verify() == []


async def test_a_blob_that_was_removed_can_be_stored_again(store: Store) -> None:
    data = blob(b"data")
    await store.commit([Admit(row("r1"), b"", data), Forget("r1")])
    await store.compact(Kept(), now=0.0)
    await store.commit([Admit(row("r2"), b"", data)])

    assert await store.blobs(list(data)) == data


# --- forgetting and compaction --------------------------------------------------------------------------


async def test_nothing_of_a_forgotten_run_is_left(store: Store) -> None:
    await store.commit(
        [
            admit("r1", key="k", tags={"a": "b"}),
            append(1),
            Post("r1", "s", b""),
            PutSnapshot("r1", 1, b"", blob(b"x")),
            admit("r2", tags={"a": "b"}),
            append(1, "r2"),
        ]
    )
    await store.commit([Forget("r1")])
    assert await store.read("r1") is None
    assert await store.find_key("k") is None
    assert await store.records("r1") == []
    assert await ids(store, Query(tags={"a": "b"})) == ["r2"]
    assert await store.records("r2") == [(1, b"record 1")]
    await store.commit([admit("r1")])

    assert await read(store, "r1") == StoredRun(row("r1", number=3), b"admission", None, [], [])


async def ended(store: Store, *at: float, graph: str = "g") -> None:
    """Runs that ended at these times, with two records each."""
    for time in at:
        run = f"{graph}{time:g}"
        await store.commit(
            [
                admit(run, graph=graph, tags={"a": "b"}),
                append(1, run),
                append(2, run),
                SetStatus(run, "succeeded", time),
            ]
        )


async def test_compaction_without_limits_removes_no_run(store: Store) -> None:
    await ended(store, 1, 2, 3)

    assert await store.compact(Kept(), now=1e9) == Compacted()
    assert len(await store.find(Query())) == 3


async def test_compaction_removes_runs_that_ended_too_long_ago(store: Store) -> None:
    await ended(store, 10, 20, 30)

    assert await store.compact(Kept(seconds=15), now=35) == Compacted(runs=1, records=2)
    assert await ids(store, Query(tags={"a": "b"})) == ["g20", "g30"]
    assert await store.verify() == []


async def test_compaction_keeps_the_last_so_many_of_each_graph(store: Store) -> None:
    await ended(store, 30, 10, 20)
    await ended(store, 5, 6, graph="h")

    assert await store.compact(Kept(count=2), now=100) == Compacted(runs=1, records=2)
    assert sorted(await ids(store, Query())) == ["g20", "g30", "h5", "h6"]
    assert await store.compact(Kept(count=0), now=100) == Compacted(runs=4, records=8)


async def test_compaction_by_age_and_count_keeps_what_both_allow(store: Store) -> None:
    await ended(store, 10, 20, 30, 40)

    assert (await store.compact(Kept(seconds=25, count=3), now=40)).runs == 1
    assert (await store.compact(Kept(seconds=100, count=2), now=40)).runs == 1
    assert await ids(store, Query()) == ["g30", "g40"]


async def test_compaction_never_touches_a_run_that_has_not_ended(store: Store) -> None:
    await store.commit([admit("new"), append(1, "new"), admit("again"), append(1, "again")])
    await store.commit([SetStatus("again", "failed", 1.0)])
    await store.commit([SetStatus("again", "running")])
    before = await everything(store)

    assert await store.compact(Kept(seconds=0, count=0), now=1e9) == Compacted()
    assert await everything(store) == before


async def test_compaction_removes_what_a_removed_run_alone_named(store: Store) -> None:
    shared, own = blob(b"shared"), blob(b"own")
    await store.commit([Admit(row("old"), b"", {**shared, **own}), Admit(row("new"), b"", shared)])
    await store.commit([SetStatus("old", "failed", 1.0)])

    assert await store.compact(Kept(seconds=0), now=2.0) == Compacted(runs=1, blobs=1)
    assert await store.blobs([*shared, *own]) == shared


async def test_a_key_of_a_removed_run_is_free(store: Store) -> None:
    await store.commit([admit("r1", key="k"), SetStatus("r1", "failed", 1.0)])
    await store.compact(Kept(count=0), now=2.0)
    await store.commit([admit("r2", key="k")])
    found = await store.find_key("k")

    assert found is not None
    assert found[0].run_id == "r2"


async def test_many_runs_are_removed_beside_commits(store: Store) -> None:
    for start in range(0, 1000, 100):
        runs = [f"r{number}" for number in range(start, start + 100)]
        await store.commit([admit(run) for run in runs])
        await store.commit([append(seq, run) for run in runs for seq in (1, 2, 3)])
        await store.commit([SetStatus(run, "succeeded", 1.0) for run in runs])
    await store.commit([admit("going on")])
    removed: list[Compacted] = []

    async def compact() -> None:
        removed.append(await store.compact(Kept(count=0), now=2.0))

    async with anyio.create_task_group() as group:
        group.start_soon(compact)
        for seq in range(1, 51):
            await store.commit([append(seq, "going on")])
            await checkpoint()

    assert removed == [Compacted(runs=1000, records=3000)]
    assert len(await store.records("going on")) == 50
    assert await store.verify() == []


# --- damage ---------------------------------------------------------------------------------------------


async def test_a_sound_store_has_no_faults(listed: Store) -> None:
    await listed.commit([append(1, "c"), append(2, "c"), Append("c", 3, b"", blob(b"x")), Post("c", "s", b"")])
    await listed.commit([PutSnapshot("c", 2, b"", blob(b"y"), drop=2), admit("only admitted")])

    assert await listed.verify() == []


FAULTS: dict[str, tuple[Sequence[Write], str, str]] = {
    "a gap": ([append(1), append(2), append(5)], "run 'r1'", "2 of its records 1 to 5 are missing"),
    "a beginning": ([append(2)], "run 'r1'", "begin with number 2, expected at most 1"),
    "records after a snapshot": (
        [append(1), PutSnapshot("r1", 1, b"", drop=1), append(3)],
        "run 'r1'",
        "begin with number 3, expected at most 2",
    ),
    "records before a snapshot": ([append(1), PutSnapshot("r1", 3, b"")], "run 'r1'", "its snapshot is of 3"),
    "a blob": ([Append("r1", 1, b"", {}, ["nothing"])], "run 'r1'", "names blob 'nothing', which is missing"),
    "a digest": ([Append("r1", 1, b"", {"wrong": b"data"})], "blob 'wrong'", blob_digest(b"data")),
    "a status": ([SetStatus("r1", "odd", 1.0)], "run 'r1'", "its status is 'odd'"),  # type: ignore[arg-type]
    "an end without a time": ([SetStatus("r1", "failed")], "run 'r1'", "it has failed, but at no time"),
    "a time without an end": ([SetStatus("r1", "running", 2.0)], "run 'r1'", "it is running, but ended at 2.0"),
}


@pytest.mark.parametrize(("writes", "where", "message"), FAULTS.values(), ids=FAULTS)
async def test_damage_is_found_in(store: Store, writes: Sequence[Write], where: str, message: str) -> None:
    await store.commit([admit("sound"), append(1, "sound"), admit()])
    await store.commit(writes)
    (fault,) = await store.verify()

    assert fault.where == where
    assert message in fault.message


# --- sizes, texts, and many at once ---------------------------------------------------------------------


async def test_large_values_are_kept(store: Store) -> None:
    large = bytes(range(256)) * (LARGE_BYTES // 256)
    await store.commit([Admit(row(), large, blob(large)), append(1, data=large), Post("r1", "s", large)])
    await store.commit([append(2, data=large), PutSnapshot("r1", 1, large)])
    run = await read(store)

    assert run.admission == large
    assert (run.snapshot, run.records, run.inbox) == ((1, large), [(2, large)], [("s", large)])
    assert await store.blobs(list(blob(large))) == blob(large)


@pytest.mark.parametrize("text", ODD_TEXTS, ids=[str(number) for number in range(len(ODD_TEXTS))])
async def test_odd_text_is_kept(store: Store, text: str) -> None:
    run_id = f"{text}!"
    given = row(run_id, graph=text, version=text, fingerprint=text, key=text, tags={text: text, "other": "x"})
    await store.commit([Admit(given, b"", {text: b"blob"}), append(1, run_id), Post(run_id, text, b"signal")])
    await store.commit([Define(text, text, text, text), admit("another", key=f"{text}?", tags={f"{text}?": text})])
    found = await store.find(Query(graph=text, tags={text: text}))

    assert found == [attrs.evolve(given, number=1)]
    assert await store.find_key(text) == (found[0], b"")
    assert (await read(store, run_id)).inbox == [(text, b"signal")]
    assert [run.row for run in await store.unfinished(text, text)] == found
    assert await store.definitions() == [(text, text, text, text)]
    assert await store.blobs([text]) == {text: b"blob"}
    await store.commit([Collect(run_id, [text]), Forget(run_id)])
    assert await store.read(run_id) is None
    assert await store.find(Query(tags={text: text})) == []


async def test_reads_go_on_beside_commits_and_see_whole_commits_only(store: Store) -> None:
    await store.commit([admit("r1"), admit("r2")])
    done = False
    looks = 0

    async def look() -> None:
        nonlocal looks
        while not done:
            run = await read(store, "r1")
            assert [seq for seq, _ in run.records] == list(range(1, len(run.records) + 1))
            assert len(run.records) % 3 == 0
            for other in await store.unfinished("g", "1"):
                assert len(other.records) % 3 == 0
            looks += 1
            await checkpoint()

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(look)
        for seq in range(1, 90, 3):
            await store.commit([append(seq + more, run) for more in range(3) for run in ("r1", "r2")])
            await checkpoint()
        done = True

    assert looks
    assert len(await store.records("r2")) == 90


async def test_a_cancelled_commit_is_over_before_the_next_begins(store: Store) -> None:
    await store.commit([admit()])
    seq = 0
    for _ in range(20):
        batch = [append(seq + more) for more in range(1, 51)]
        with anyio.move_on_after(0):
            await store.commit(batch)
        await store.commit(batch)  # whether it was applied is open, so it is made again
        seq += 50

    assert [number for number, _ in await store.records("r1", limit=5000)] == list(range(1, seq + 1))
    assert await store.verify() == []
