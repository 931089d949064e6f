"""The journal by itself, over a store that fails as it is told to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from actors.testing import BACKENDS, Backend, run
from engine.counts import Histogram
from engine.errors import EngineClosed, KeyTaken, StoreUnavailable
from engine.journal import BATCH_RECORDS, COMMIT_SECONDS, MOST_WRITES, PATIENCE, Journal
from engine.stored import Admit, Append, Forget, RunRow, StoreFacts, Write
from tests.virtual_time import anyio_backend as anyio_backend
from tests.virtual_time import in_real_time


class Flaky:
    """Keeps what is committed; fails before or after applying, for as long as it is told to."""

    def __init__(self) -> None:
        self.commits: list[list[Write]] = []
        self.syncs: list[bool] = []
        self.failing: Exception | None = None
        self.after = False
        self.tries = 0
        self.taken: dict[str, str] = {}
        self.slow = 0.0
        self.silent = 0.0
        """How long it says nothing after it has applied a commit."""
        self.facts = StoreFacts(url="flaky://", durable=False, power_safe=False)

    async def commit(self, writes: Sequence[Write], *, sync: bool = False) -> None:
        self.tries += 1
        await anyio.sleep(self.slow)
        for write in writes:
            if isinstance(write, Admit) and write.row.key in self.taken:
                raise KeyTaken(write.row.key, self.taken[write.row.key])
        if self.failing is not None and not self.after:
            raise self.failing
        self.commits.append(list(writes))
        self.syncs.append(sync)
        await anyio.sleep(self.silent)
        if self.failing is not None:
            raise self.failing

    @property
    def written(self) -> list[Write]:
        return [write for commit in self.commits for write in commit]


def journal_on(store: Any) -> Journal:
    return Journal(store, Histogram(COMMIT_SECONDS), Histogram(BATCH_RECORDS))


def record(seq: int, run: str = "r") -> Append:
    return Append(run, seq, b"%d" % seq)


def admission(run: str, key: str | None = None) -> Admit:
    row = RunRow(run_id=run, graph="g", version="1", fingerprint="f", submitted_at=1.0, key=key)
    return Admit(row, b"{}")


async def test_what_is_put_is_written_in_order_and_then_told() -> None:
    store, told = Flaky(), list[int]()
    journal = journal_on(store)
    for seq in range(1, 1001):
        journal.put([record(seq)], lambda seq=seq: told.append(seq))  # type: ignore[misc]
    async with anyio.create_task_group() as group:
        group.start_soon(journal.serve)
        await journal.flush()
        group.cancel_scope.cancel()
    assert [write.seq for write in store.written] == list(range(1, 1001))  # type: ignore[union-attr]
    assert told == list(range(1, 1001))
    assert len(store.commits) == 2 == -(-1000 // MOST_WRITES), "what is queued goes in one commit"


async def test_what_comes_while_a_commit_is_under_way_is_the_next_batch() -> None:
    store = Flaky()
    store.slow = 0.01
    journal = journal_on(store)
    async with anyio.create_task_group() as group:
        group.start_soon(journal.serve)
        journal.put([record(1)])
        await anyio.sleep(0.005)
        for seq in range(2, 10):
            journal.put([record(seq)])
        await journal.flush()
        group.cancel_scope.cancel()
    assert [len(commit) for commit in store.commits] == [1, 8]


@pytest.mark.parametrize("sync", [True, False])
async def test_one_that_must_survive_a_power_cut_takes_its_batch_along(sync: bool) -> None:
    store = Flaky()
    journal = journal_on(store)
    journal.put([record(1)])
    journal.put([record(2)], sync=sync)
    async with anyio.create_task_group() as group:
        group.start_soon(journal.serve)
        await journal.flush()
        group.cancel_scope.cancel()
    assert store.syncs == [sync]


@pytest.mark.parametrize("after", [True, False])
async def test_a_store_that_fails_for_a_moment_is_tried_again_and_nobody_notices(after: bool) -> None:
    store, told = Flaky(), list[int]()
    journal = journal_on(store)
    store.failing, store.after = StoreUnavailable("the disk is full"), after
    async with anyio.create_task_group() as group:
        group.start_soon(journal.serve)
        journal.put([record(1)], lambda: told.append(1))
        await anyio.sleep(PATIENCE / 3)
        assert not told
        assert store.tries > 1
        store.failing = None
        await journal.write(admission("new"), admits="new")
        group.cancel_scope.cancel()
    assert told == [1]
    assert journal.trouble is None


@pytest.mark.parametrize("after", [True, False])
async def test_while_nothing_can_be_written_admissions_are_refused_and_withdrawn(after: bool) -> None:
    store, told = Flaky(), list[int]()
    journal = journal_on(store)
    store.failing, store.after = StoreUnavailable("the disk is full"), after
    async with anyio.create_task_group() as group:
        group.start_soon(journal.serve)
        journal.put([record(1)], lambda: told.append(1))
        with pytest.raises(StoreUnavailable, match="the disk is full"):
            await journal.write(admission("new"), admits="new")
        assert journal.trouble is store.failing
        assert not told, "what is not written is told to nobody"
        store.failing = None
        await journal.flush()
        assert journal.trouble is None
        assert told == [1], "what was waiting goes on when it heals"
        group.cancel_scope.cancel()
    left = {write.row.run_id for write in store.written if isinstance(write, Admit)}
    left -= {write.run_id for write in store.written if isinstance(write, Forget)}
    assert not left, "who was refused has no run"


async def test_a_key_that_is_taken_refuses_its_own_admission_alone() -> None:
    store, answers = Flaky(), dict[str, object]()
    store.taken = {"k": "older"}
    journal = journal_on(store)

    async def admit(run: str, key: str | None) -> None:
        try:
            answers[run] = await journal.write(admission(run, key), admits=run)
        except KeyTaken as error:
            answers[run] = error.run_id

    async with anyio.create_task_group() as group:
        async with anyio.create_task_group() as submitters:
            for run, key in (("a", None), ("b", "k"), ("c", "other")):
                submitters.start_soon(admit, run, key)
            await anyio.sleep(0.01)
            group.start_soon(journal.serve)
        group.cancel_scope.cancel()
    assert answers == {"a": None, "b": "older", "c": None}
    assert {write.row.run_id for write in store.written if isinstance(write, Admit)} == {"a", "c"}
    assert not [write for write in store.written if isinstance(write, Forget)], "it was never written"


async def test_what_is_left_when_it_is_finished_is_written_though_nobody_serves() -> None:
    store = Flaky()
    journal = journal_on(store)
    journal.put([record(1)])
    journal.put([record(2)])
    await journal.finish()
    assert [write.seq for write in store.written] == [1, 2]  # type: ignore[union-attr]
    journal.put([record(3)])
    assert journal.idle
    with pytest.raises(EngineClosed):
        await journal.write(record(4))


async def test_a_batch_that_was_interrupted_is_written_by_whoever_serves_next() -> None:
    store, told = Flaky(), list[int]()
    store.slow = 0.05
    journal = journal_on(store)
    journal.put([record(1)], lambda: told.append(1))
    with anyio.move_on_after(0.01):
        await journal.serve()
    assert not told
    store.slow = 0.0
    async with anyio.create_task_group() as group:
        group.start_soon(journal.serve)
        await journal.flush()
        group.cancel_scope.cancel()
    assert told == [1]


async def test_an_error_that_no_store_should_raise_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    store = Flaky()
    journal = journal_on(store)
    store.failing = RuntimeError("a bug")
    async with anyio.create_task_group() as group:
        group.start_soon(journal.serve)
        journal.put([record(1)])
        await anyio.sleep(0.05)
        store.failing = None
        await journal.flush()
        group.cancel_scope.cancel()
    assert "a bug" in caplog.text
    assert len(store.written) == 1


async def test_who_waits_for_a_batch_that_never_gets_through_is_told_when_the_journal_is_closed() -> None:
    store, told = Flaky(), list[BaseException]()
    store.failing = StoreUnavailable("the disk is full")
    journal = journal_on(store)

    async def signal() -> None:
        journal.put([record(1)])
        try:
            await journal.flush()
        except EngineClosed as error:
            told.append(error)

    async with anyio.create_task_group() as waiting, anyio.create_task_group() as group:
        group.start_soon(journal.serve)
        waiting.start_soon(signal)
        await anyio.sleep(0.02)
        journal.close()
        group.cancel_scope.cancel()
    assert told, "what it waits for is not written, and must not be told to be"
    with pytest.raises(EngineClosed):
        await journal.flush()


async def test_what_waited_beside_an_admission_when_nobody_served_is_told_by_whoever_serves_next() -> None:
    store, told = Flaky(), list[int]()
    store.slow = 0.1
    journal = journal_on(store)
    async with anyio.create_task_group() as around:
        async with anyio.create_task_group() as group:
            group.start_soon(journal.serve)
            journal.put([record(1)], lambda: told.append(1))
            around.start_soon(lambda: journal.write(admission("new"), admits="new"))
            await anyio.sleep(0.01)
            group.cancel_scope.cancel()
        assert not told, "what follows from a run's records is for who serves next"
        async with anyio.create_task_group() as group:
            group.start_soon(journal.serve)
            with anyio.fail_after(5):
                await journal.flush()
            group.cancel_scope.cancel()
    assert told == [1]


@pytest.mark.parametrize("after", [True, False])
async def test_who_submits_is_told_when_nobody_serves_any_more_and_has_no_run(after: bool) -> None:
    store, told = Flaky(), list[Exception]()
    store.failing, store.after = StoreUnavailable("the disk is full"), after
    journal = journal_on(store)

    async def submit() -> None:
        try:
            await journal.write(admission("new"), admits="new")
        except EngineClosed as error:
            told.append(error)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(journal.serve)
            group.start_soon(submit)
            await anyio.sleep(0.01)
            group.cancel_scope.cancel()
    assert told
    store.failing = None
    await journal.finish()
    left = {write.row.run_id for write in store.written if isinstance(write, Admit)}
    assert left <= {write.run_id for write in store.written if isinstance(write, Forget)}


async def test_who_only_wants_to_read_is_told_when_that_takes_too_long() -> None:
    store = Flaky()
    store.failing = StoreUnavailable("the disk is full")
    journal = journal_on(store)
    async with anyio.create_task_group() as group:
        group.start_soon(journal.serve)
        journal.put([record(1)])
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="the disk is full"):
                await journal.flush(gives_up=True)
        group.cancel_scope.cancel()


async def test_a_write_that_admits_nothing_can_be_cancelled_while_the_store_is_out_of_order() -> None:
    store = Flaky()
    journal = journal_on(store)
    store.failing = StoreUnavailable("down")
    async with anyio.create_task_group() as group:
        group.start_soon(journal.serve)
        with anyio.fail_after(2), anyio.move_on_after(0.01) as scope:
            await journal.write(record(1))
        group.cancel_scope.cancel()
    assert scope.cancelled_caught


@in_real_time
async def test_who_submits_again_and_again_can_be_cancelled() -> None:
    journal = journal_on(Flaky())
    async with anyio.create_task_group() as group:
        group.start_soon(journal.serve)
        with anyio.move_on_after(0.01):
            for n in range(100_000):
                await journal.write(admission(f"r{n}"), admits=f"r{n}")
            pytest.fail("nothing cancelled it")
        group.cancel_scope.cancel()


async def test_only_a_commit_shows_that_a_store_writes_again(caplog: pytest.LogCaptureFixture) -> None:
    store = Flaky()
    store.failing = StoreUnavailable("the disk is full")
    journal = journal_on(store)
    journal.put([record(1)])
    with anyio.move_on_after(PATIENCE + 0.3):
        await journal.serve()
    assert journal.trouble is not None
    with anyio.move_on_after(0.05):
        await journal.serve()  # started anew: the store still fails
    assert journal.trouble is not None
    assert "writes again" not in caplog.text
    store.failing = None
    async with anyio.create_task_group() as group:
        group.start_soon(journal.serve)
        await journal.flush()
        group.cancel_scope.cancel()
    assert journal.trouble is None
    (line,) = [line.getMessage() for line in caplog.records if "writes again" in line.getMessage()]
    assert 0 < float(line.rpartition("after ")[2].removesuffix(" s")) < 60, "since when it failed, not since ever"


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_admission_that_was_written_and_never_answered_is_withdrawn_when_it_is_refused(backend: Backend) -> None:
    store, told = Flaky(), list[Exception]()

    async def submit(journal: Journal) -> None:
        try:
            await journal.write(admission("new"), admits="new")
        except EngineClosed as error:
            told.append(error)

    async def main() -> None:
        journal = journal_on(store)
        store.silent = 1000.0
        async with anyio.create_task_group() as around:
            async with anyio.create_task_group() as group:
                group.start_soon(journal.serve)
                around.start_soon(submit, journal)
                await anyio.sleep(1)
                group.cancel_scope.cancel()
            store.silent = 0.0
            await journal.finish()

    run(main, backend=backend, virtual_time=True)
    assert told
    assert isinstance(store.written[-1], Forget), "who was refused has no run"


@pytest.mark.parametrize("backend", BACKENDS)
def test_how_long_a_store_fails_is_told_by_the_clock_of_the_loop(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        store = Flaky()
        journal = journal_on(store)
        store.failing = StoreUnavailable("the disk is full")
        async with anyio.create_task_group() as group:
            group.start_soon(journal.serve)
            journal.put([record(1)])
            await anyio.sleep(3600)
            store.failing = None
            await journal.flush()
            group.cancel_scope.cancel()

    run(main, backend=backend, virtual_time=True)
    (line,) = [line.getMessage() for line in caplog.records if "writes again" in line.getMessage()]
    assert 3600 <= float(line.rpartition("after ")[2].removesuffix(" s")) < 3602


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("hangs", [False, True])
def test_who_leaves_is_told_ever_more_rarely_what_is_waited_for(
    backend: Backend, hangs: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        store = Flaky()
        journal = journal_on(store)
        if hangs:
            store.slow = 1000.0
        else:
            store.failing = StoreUnavailable("the disk is full")
        async with anyio.create_task_group() as group:
            group.start_soon(journal.serve)
            for run_id in "abcde":
                journal.put([record(1, run_id), record(2, run_id)])
            group.start_soon(journal.tell_what_is_waited_for)
            await anyio.sleep(0.1)
            with anyio.move_on_after(300):
                await journal.finish()
            assert journal.stuck
            began = anyio.current_time()
            await journal.finish()
            assert anyio.current_time() == began, "who has given up does not wait again"
            group.cancel_scope.cancel()

    run(main, backend=backend, virtual_time=True)
    said = [record.getMessage() for record in caplog.records if "cannot be left" in record.getMessage()]
    assert [line.partition("for ")[2].partition(" s ")[0] for line in said] == [
        *("1", "3", "7", "15", "31", "63", "123", "183", "243")
    ]
    why = "it does not answer" if hangs else "the disk is full"
    assert f"flaky:// has not taken 10 writes of 5 runs (a, b, c and 2 more): {why}. Cancel the task" in said[0]
