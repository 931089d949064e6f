"""What goes wrong with a file says what, where, and what to do; and is over once its cause is."""

import logging
import os
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from engine.errors import StoreUnavailable
from engine.stored import Kept, Query, SetStatus, Write
from engine.stores.sqlite import SqliteStore, compacting, writing
from engine.stores.sqlite.link import connect
from tests.contracts.stores import admit, append, everything

NOBODY = 65_534


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


async def refusal(file: Path) -> StoreUnavailable:
    """What entering a store on the file raises."""
    with pytest.raises(StoreUnavailable) as raised:
        async with SqliteStore(file, busy_seconds=0.01):
            pass
    assert str(file) in str(raised.value)
    return raised.value


def size(file: Path) -> int:
    return file.stat().st_size


def spoil(file: Path, place: int, data: bytes) -> None:
    with file.open("r+b" if file.exists() else "wb") as raw:
        raw.seek(place)
        raw.write(data)


def fill(ballast: Path, free: int) -> None:
    """Leave so many bytes free."""
    disk = os.statvfs(ballast.parent)
    ballast.write_bytes(b"x" * (disk.f_bavail * disk.f_frsize - free))


def log_of(file: Path) -> Path:
    return Path(f"{file}-wal")


async def filled(file: Path) -> None:
    async with SqliteStore(file) as store:
        for number in range(50):
            run = f"r{number}"
            await store.commit([admit(run), *(append(seq, run, b"x" * 300) for seq in range(1, 20))])


# --- a disk that is full --------------------------------------------------------------------------------


async def test_a_full_file_refuses_commits_goes_on_reading_and_heals(file: Path) -> None:
    async with SqliteStore(file) as store:
        await store.commit([admit(), append(1)])
        before = await everything(store)
        writer = store._writer
        await writer.run(lambda connection: connection.execute("PRAGMA max_page_count = 40").fetchall())
        with pytest.raises(StoreUnavailable, match=r"the disk is full .*make room on it; work then goes on") as raised:
            await store.commit([append(2), admit("r2"), append(3, data=b"x" * 500_000)])
        assert raised.value.facts == {"file": str(file), "code": "SQLITE_FULL"}
        assert await everything(store) == before
        await store.commit([append(2)])
        await writer.run(lambda connection: connection.execute("PRAGMA max_page_count = 1000000").fetchall())
        await store.commit([append(3, data=b"x" * 500_000), admit("r2"), append(1, "r2")])

        assert [seq for seq, _ in await store.records("r1")] == [1, 2, 3]
        assert await store.verify() == []


@pytest.fixture
def small_disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True)
        if mount.returncode:
            pytest.skip("no right to mount a small disk")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


async def test_a_full_disk_refuses_commits_loses_none_and_heals(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 1_500_000)
    committed = 0
    async with SqliteStore(small_disk / "runs.db") as store:
        await store.commit([admit()])
        with pytest.raises(StoreUnavailable, match="the disk is full"):  # noqa: PT012 - nobody knows which
            while True:
                await store.commit([append(committed + 1, data=b"x" * 10_000)])
                committed += 1
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="the disk is full"):
                await store.commit([append(committed + 1, data=b"x" * 1_000_000)])
        assert [seq for seq, _ in await store.records("r1")] == list(range(1, committed + 1))
        ballast.unlink()
        await store.commit([append(committed + 1, data=b"x" * 10_000)])

        assert len(await store.records("r1")) == committed + 1
        assert await store.verify() == []
    async with SqliteStore(small_disk / "runs.db") as store:
        assert len(await store.records("r1")) == committed + 1


@pytest.mark.parametrize("free", range(0, 160_000, 8192))
async def test_a_disk_too_full_to_open_a_file_says_so_and_the_file_opens_once_there_is_room(
    small_disk: Path, free: int
) -> None:
    fill(small_disk / "ballast", free)
    file = small_disk / "runs.db"
    try:
        async with SqliteStore(file) as store:
            await store.commit([admit()], sync=True)
    except StoreUnavailable as error:
        said = str(error)
    else:
        said = "the disk is full: not yet"
    assert "the disk is full" in said or "No space left on device" in said
    (small_disk / "ballast").unlink()

    async with SqliteStore(file) as store:
        await store.commit([admit(), append(1)])
        assert await store.verify() == []


async def test_a_disk_in_memory_is_not_safe_from_power_cuts_and_says_so(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with SqliteStore(small_disk / "runs.db") as store:
        assert (store.facts.durable, store.facts.power_safe) == (True, False)
        assert any("in memory (tmpfs)" in note for note in store.facts.notes)
    assert "in memory (tmpfs)" in caplog.text


# --- locks of others ------------------------------------------------------------------------------------


async def test_a_lock_of_another_program_is_named_and_over_with_it(file: Path) -> None:
    async with SqliteStore(file, busy_seconds=0.01) as store:
        await store.commit([admit()])
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreUnavailable, match=r"another program holds a lock on it .*end it") as raised:
                await store.commit([append(1)])
            assert raised.value.facts["code"] == "SQLITE_BUSY"
            assert len(await store.find(Query())) == 1
            other.execute("ROLLBACK")
        await store.commit([append(1)])

        assert len(await store.records("r1")) == 1


async def test_a_lock_of_another_program_is_waited_for(file: Path) -> None:
    async with SqliteStore(file, busy_seconds=30) as store:
        await store.commit([admit()])
        with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other:
            other.execute("BEGIN EXCLUSIVE")
            timer = threading.Timer(0.2, other.execute, ["ROLLBACK"])
            timer.start()
            await store.commit([append(1)])
            timer.join()

        assert len(await store.records("r1")) == 1


async def test_a_file_locked_by_another_program_cannot_be_opened(file: Path) -> None:
    await filled(file)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")

        assert "another program holds a lock" in str(await refusal(file))


# --- files that cannot be used --------------------------------------------------------------------------


@contextmanager
def without_rights() -> Iterator[None]:
    """For root no right is missing: be nobody meanwhile."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that nobody can get to."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)
        os.chmod(folder, 0o755)


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    error = await refusal(tmp_path / "missing" / "runs.db")

    assert "No such file or directory" in str(error)
    assert "the folder must be there" in str(error)


async def test_a_folder_that_cannot_be_written_to_is_refused(public: Path) -> None:
    os.chmod(public, 0o555)
    with without_rights():
        error = await refusal(public / "runs.db")

    assert "runs.db.lock cannot be written (Permission denied)" in str(error)


async def test_a_file_that_cannot_be_written_to_is_refused(public: Path) -> None:
    await filled(public / "runs.db")
    os.chmod(public, 0o777)
    os.chmod(public / "runs.db.lock", 0o666)
    os.chmod(public / "runs.db", 0o444)
    with without_rights():
        error = await refusal(public / "runs.db")

    assert "it cannot be written to" in str(error)
    assert "give this user the right" in str(error)


async def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    assert "it cannot be opened" in str(await refusal(tmp_path))


@pytest.fixture
def story(file: Path) -> str:
    """What is in the file instead of a database."""
    text = "once upon a time " * 1000
    file.write_text(text)
    return text


async def test_a_file_that_is_no_database_is_refused_and_left_alone(file: Path, story: str) -> None:
    assert "it is not an SQLite database" in str(await refusal(file))
    assert size(file) == len(story)


async def test_a_database_of_another_program_is_refused(file: Path) -> None:
    with closing(sqlite3.connect(file)) as other:
        other.execute("CREATE TABLE songs (title)")

    assert "a database of another program (it has tables 'songs')" in str(await refusal(file))


async def test_an_empty_file_is_used(file: Path) -> None:
    spoil(file, 0, b"")
    await filled(file)


def test_memory_is_refused_with_the_address_to_use() -> None:
    with pytest.raises(ValueError, match=r"memory://"):
        SqliteStore(":memory:")


async def test_a_damaged_file_is_reported_by_what_reads_it_and_by_verify(file: Path) -> None:
    await filled(file)
    with closing(sqlite3.connect(file)) as other:
        (page,) = other.execute("SELECT rootpage FROM sqlite_master WHERE name = 'records_place'").fetchone()
    spoil(file, 4096 * (page - 1), b"\xa5" * 4096)
    async with SqliteStore(file) as store:
        faults = await store.verify()
        with pytest.raises(StoreUnavailable, match=r"it is damaged .*from a backup"):
            await store.records("r1")
        assert len(await store.find(Query())) == 50

    assert str(file) in {fault.where for fault in faults}


async def test_a_file_that_was_cut_is_refused(file: Path) -> None:
    await filled(file)
    os.truncate(file, size(file) // 8192 * 4096)

    assert "it is damaged" in str(await refusal(file))


async def test_records_of_no_run_are_reported(file: Path) -> None:
    await filled(file)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("DELETE FROM runs WHERE run_id = 'r3'")
    async with SqliteStore(file) as store:
        (fault,) = await store.verify()

    assert (fault.where, fault.message) == ("run number 4", "there are records of it, but no run")


async def test_a_missing_admission_is_reported(file: Path) -> None:
    await filled(file)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("DELETE FROM records WHERE seq = 0 AND run = 4")
    async with SqliteStore(file) as store:
        (fault,) = await store.verify()
        run = await store.read("r3")

    assert (fault.where, fault.message) == ("run 'r3'", "its admission is missing")
    assert run is not None
    assert run.admission == b""


# --- sizes ----------------------------------------------------------------------------------------------


async def test_the_log_does_not_grow_without_bound_beside_reads(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_WAL_LIMIT_BYTES", 100_000)
    monkeypatch.setattr(writing, "_WAL_TOO_LONG_BYTES", 400_000)
    monkeypatch.setattr(writing, "_COMMITS_UNWATCHED", 1)
    log = log_of(file)
    async with SqliteStore(file) as store:
        await store.commit([admit()])
        for seq in range(1, 200):
            await store.commit([append(seq, data=b"x" * 10_000)])
            assert len(await store.records("r1", after=seq - 1)) == 1

            assert size(log) < 600_000


async def test_a_log_that_somebody_keeps_from_starting_over_is_warned_of_and_cut_later(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writing, "_WAL_LIMIT_BYTES", 100_000)
    monkeypatch.setattr(writing, "_WAL_TOO_LONG_BYTES", 400_000)
    monkeypatch.setattr(writing, "_COMMITS_UNWATCHED", 1)
    monkeypatch.setattr(writing, "_PATIENCE_MILLISECONDS", 1)
    log = log_of(file)
    async with SqliteStore(file) as store:
        await store.commit([admit()])
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN")
            other.execute("SELECT * FROM runs").fetchall()
            for seq in range(1, 100):
                await store.commit([append(seq, data=b"x" * 10_000)])
            assert size(log) > 800_000
            other.execute("COMMIT")
        for seq in range(100, 120):
            await store.commit([append(seq, data=b"x" * 10_000)])

        assert size(log) < 600_000
    (warning,) = [line for line in caplog.records if line.levelno == logging.WARNING]
    assert "cannot start over" in warning.getMessage()


async def test_compaction_gives_space_back(file: Path) -> None:
    await filled(file)
    before = size(file)
    async with SqliteStore(file) as store:
        await store.commit([SetStatus(f"r{number}", "failed", 1.0) for number in range(49)])
        await store.compact(Kept(count=0), now=2.0)
        assert await store.verify() == []

    assert size(file) < before / 3


async def test_what_a_broken_off_compaction_has_left_is_no_damage_and_removed_by_the_next(file: Path) -> None:
    await filled(file)
    async with SqliteStore(file) as store:
        await store.commit([SetStatus(f"r{number}", "failed", 1.0) for number in range(50)])
        assert await store._writer.run(compacting.remove_runs, Kept(count=0), 2.0) == 50
    async with SqliteStore(file) as store:
        assert await store.verify() == []
        await store.commit([admit("new"), append(1, "new")])
        (row,) = await store.find(Query())
        assert row.number == 51
        assert await store.records("new") == [(1, b"record 1")]

        assert (await store.compact(Kept(), now=2.0)).records == 950
        assert await store.records("new") == [(1, b"record 1")]


async def test_more_runs_than_the_writer_remembers_can_be_in_one_commit(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_CACHED_RUNS", 3)
    runs = [f"r{number}" for number in range(20)]
    async with SqliteStore(file) as store:
        await store.commit([*map(admit, runs), *(append(1, run) for run in runs)])
        await store.commit([append(2, run) for run in runs])

        for run in runs:
            assert len(await store.records(run)) == 2


# --- syncs ----------------------------------------------------------------------------------------------


async def test_a_synced_commit_that_changes_nothing_is_written_to_the_log_all_the_same(file: Path) -> None:
    async with SqliteStore(file) as store:
        writes: list[Write] = [admit(), append(1), SetStatus("r1", "failed", 1.0)]
        await store.commit(writes)
        sizes = [size(log_of(file))]
        for again in ([], writes, writes):
            await store.commit(again, sync=True)
            sizes.append(size(log_of(file)))

        # Without anything in the log there would be nothing to sync, and what came before would not be either.
        assert sizes == sorted(set(sizes))


@pytest.mark.parametrize(("sync", "synchronous"), [(True, 2), (False, 1), (None, 1)])
def test_a_commit_that_must_survive_a_power_cut_is_made_with_synchronous_full(
    file: Path, sync: bool | None, synchronous: int
) -> None:
    """No power is cut here: SQLite promises that FULL (2) syncs the log at each commit, and NORMAL (1) does not."""
    with closing(connect(str(file), "rwc", 1.0, writing.Writer)) as writer:
        writer.start(str(file))
        for before in (True, False):  # whatever the commits before were made with
            writer.commit_writes([admit(f"r{before}")], before)
            if sync is not None:
                writer.commit_writes([admit(f"r{before}{sync}")], sync)

        assert writer.execute("PRAGMA synchronous").fetchone() == (synchronous,)
