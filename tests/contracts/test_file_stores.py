"""What every place for files promises (engine/ports.py), and what files do with it on each backend."""

import os
import pickle
import sys
import threading
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qsl

import anyio
import pytest

from engine import File, FileDamaged, FileMissing, Files, FilesUnavailable
from engine.file import Kept
from engine.files.local import LocalFiles
from engine.files.urls import open_files
from engine.ports import FileStore
from tests.contracts.files import FACTORIES, Make, put
from tests.servers import fresh_s3

NOT_THERE = "0" * 64
NO_DIGESTS = ["", "abc", "../" * 10 + "etc/passwd", "A" * 64, "0" * 63 + "\n", "/" + "0" * 63, "0" * 65]


@pytest.fixture(params=FACTORIES)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    return FACTORIES[request.param](tmp_path)


@pytest.fixture
def store(make: Make) -> FileStore:
    return make()


def everything(store: FileStore) -> list[str]:
    return sorted(digest for digest, _ in store.all())


# --- contents -------------------------------------------------------------------------------------------


def test_it_says_where_it_is_and_keeps_no_secret_in_that(store: FileStore) -> None:
    assert "://" in store.url
    assert "secret" not in store.url


@pytest.mark.parametrize("data", [b"", b"a", b"some bytes", bytes(range(256)) * 1000], ids=["none", "1", "10", "256k"])
def test_contents_come_back_as_they_were(store: FileStore, data: bytes) -> None:
    digest = put(store, data)

    assert digest == sha256(data).hexdigest()
    assert store.size(digest) == len(data)
    assert store.read(digest, 0, len(data) + 10) == data


def test_contents_that_are_written_in_pieces_are_one(store: FileStore) -> None:
    upload = store.begin()
    for piece in (b"ab", b"", b"cd", b"e"):
        upload.write(piece)

    assert upload.commit() == (sha256(b"abcde").hexdigest(), 5)


def test_any_part_can_be_read(store: FileStore) -> None:
    digest = put(store, b"0123456789")

    parts = [store.read(digest, start, size) for start, size in ((0, 3), (3, 4), (9, 5), (10, 1), (99, 1), (4, 0))]
    assert parts == [b"012", b"3456", b"9", b"", b"", b""]


async def test_large_contents_come_back_piece_by_piece(store: FileStore) -> None:
    # More than an object store takes in one request.
    data = bytes(range(256)) * (20 << 12)
    file = await Files(store).keep(File.from_chunks([data[:7], data[7:]], "large.bin"))
    async with file.open() as stream:
        pieces = [await stream.read(3 << 20) for _ in range(12)]

    assert max(map(len, pieces)) == 3 << 20
    assert b"".join(pieces)[: len(data)] == data[: sum(map(len, pieces))]
    assert await file.read() == data


def test_contents_survive_the_store_object(make: Make) -> None:
    digest = put(make(), b"kept")

    assert make().read(digest, 0, 10) == b"kept"


def test_what_is_not_there_is_told(store: FileStore) -> None:
    assert store.size(NOT_THERE) is None
    assert store.mark(NOT_THERE) is None
    with pytest.raises(FileMissing, match=NOT_THERE):
        store.read(NOT_THERE, 0, 1)


@pytest.mark.parametrize("digest", NO_DIGESTS)
def test_what_is_no_digest_is_refused_before_anything_is_looked_for(store: FileStore, digest: str) -> None:
    for call in (store.size, store.mark, lambda it: store.read(it, 0, 1), lambda it: store.remove(it, 1e12)):
        with pytest.raises(ValueError, match="is no digest"):
            call(digest)


def test_an_upload_of_something_else_than_was_expected_keeps_nothing(store: FileStore) -> None:
    upload = store.begin()
    upload.write(b"this")

    with pytest.raises(FileDamaged, match=NOT_THERE):
        upload.commit(NOT_THERE)
    assert everything(store) == []


def test_an_upload_that_is_broken_off_keeps_nothing(store: FileStore) -> None:
    upload = store.begin()
    upload.write(b"half of")
    upload.abort()

    assert everything(store) == []
    upload.abort()


def test_equal_contents_are_kept_once(store: FileStore) -> None:
    assert put(store, b"same") == put(store, b"same")
    assert everything(store) == [sha256(b"same").hexdigest()]


def test_many_may_keep_the_same_and_others_at_once(store: FileStore) -> None:
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda number=number: found.append(put(store, b"%d" % (number % 3))))
        for number in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 12
    assert everything(store) == sorted({sha256(b"%d" % number).hexdigest() for number in range(3)})


# --- removing -------------------------------------------------------------------------------------------


def test_it_tells_since_when_contents_are_kept(store: FileStore) -> None:
    before = time.time()
    put(store, b"now")

    ((_, kept_at),) = store.all()
    assert before - 2 <= kept_at <= time.time() + 2


def test_what_is_old_enough_is_removed(store: FileStore) -> None:
    digest, other = put(store, b"old"), put(store, b"other")

    assert store.remove(digest, time.time() + 60)
    assert not store.remove(digest, time.time() + 60)
    assert everything(store) == [other]


def test_what_was_kept_or_marked_since_is_not_removed(store: FileStore) -> None:
    digest = put(store, b"needed again")
    assert not store.remove(digest, time.time() - 60)

    assert store.mark(digest) == len(b"needed again")
    assert store.read(digest, 0, 20) == b"needed again"


def test_sweeping_leaves_what_is_kept_and_what_is_under_way(store: FileStore) -> None:
    digest, upload = put(store, b"kept"), store.begin()
    upload.write(b"under way")
    store.sweep(time.time() - 60)

    assert upload.commit() == (sha256(b"under way").hexdigest(), 9)
    assert store.size(digest) == 4


# --- files ----------------------------------------------------------------------------------------------


async def pieces(*found: bytes) -> AsyncIterator[bytes]:
    for piece in found:
        yield piece


async def test_a_file_is_kept_whatever_it_was_made_of(store: FileStore, tmp_path: Path) -> None:
    files, source = Files(store), tmp_path / "table.csv"
    source.write_bytes(b"a,b\n1,2\n")
    for made in (
        File.from_path(source),
        File.from_bytes(b"a,b\n1,2\n", "table.csv"),
        File.from_chunks(pieces(b"a,b\n", b"1,2\n"), "table.csv"),
        File.from_chunks([b"a,b\n", b"1,2\n"], "table.csv"),
    ):
        file = await files.keep(made)

        assert (file.name, file.media_type, file.size) == ("table.csv", "text/csv", 8)
        assert file.digest == sha256(b"a,b\n1,2\n").hexdigest()
        assert file.is_kept
        assert await file.text() == "a,b\n1,2\n"


async def test_a_kept_file_is_read_in_any_way(store: FileStore) -> None:
    file = await Files(store).keep(File.from_bytes(b"0123456789" * 1000, "digits.txt"))

    async with file.open(5, 8) as stream:
        assert [chunk async for chunk in stream] == [b"567"]
    async with file.open() as stream:
        assert (await stream.read(4), await stream.read(3)) == (b"0123", b"456")
    with file.open() as blocking:
        assert (blocking.read(3), blocking.seek(-2, 2), blocking.read()) == (b"012", 9998, b"89")
    assert file.blocking.text() == await file.text() == "0123456789" * 1000


async def test_contents_that_are_not_what_the_digest_says_are_told(store: FileStore) -> None:
    files = Files(store)
    file = await files.keep(File.from_bytes(b"right", "x.txt"))
    other = put(store, b"wrong")
    lying = file.with_contents(Kept(store, other))

    with pytest.raises(FileDamaged, match=file.digest):
        await lying.read()
    with pytest.raises(FileDamaged, match=NOT_THERE):
        await files.keep(File.from_bytes(b"mine", "x.txt"), expected=NOT_THERE)


async def test_contents_that_were_cut_off_are_kept_anew(tmp_path: Path) -> None:
    store = LocalFiles(tmp_path)
    made = File.from_bytes(b"whole", "x.txt")
    kept = await Files(store).keep(made)
    store._path(kept.digest).write_bytes(b"who")
    with pytest.raises(FileDamaged):
        await Files(store).keep(kept)  # nobody has them any more
    again = await Files(store).keep(made)
    assert (again.size, await kept.read()) == (5, b"whole")


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel what a descriptor is of")
def test_contents_are_synced_then_renamed_and_then_their_folders_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, done = LocalFiles(tmp_path / "files"), list[str]()
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).relative_to(tmp_path)}")
        fsync(descriptor)

    def renamed(source: Path, target: Path) -> None:
        done.append(f"{source.relative_to(tmp_path)} to {target.relative_to(tmp_path)}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    upload = store.begin()
    temporary = upload._path.relative_to(tmp_path)  # type: ignore[attr-defined]
    upload.write(b"x")
    assert f"sync {temporary}" not in done
    digest, _ = upload.commit()

    shelf = f"files/sha256/{digest[:2]}"
    assert done[-3:] == [f"sync {temporary}", f"{temporary} to {shelf}/{digest}", f"sync {shelf}"]
    # What was made on the way there has a name that survives, too.
    assert {"sync .", "sync files", "sync files/sha256"} <= set(done)


async def test_a_file_is_named_only_once_its_folder_was_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, synced = LocalFiles(tmp_path), list[Path]()
    made = File.from_bytes(b"x", "x.txt")
    await Files(store).keep(made)
    monkeypatch.setattr("engine.files.local.sync_folder", synced.append)
    # Whoever has put it there may not have come so far.
    await Files(store).keep(made)
    assert synced == [store._path(made.digest).parent]


async def test_what_is_named_is_not_collected_and_what_is_young_neither(store: FileStore) -> None:
    files = Files(store)
    named, unnamed = put(store, b"named"), put(store, b"unnamed")

    async def in_use(digests: object) -> set[str]:
        return {named}

    assert await files.collect(in_use) == 0
    assert await files.collect(in_use, grace=-60) == 1
    assert everything(store) == [named]
    assert store.size(unnamed) is None


async def test_many_files_are_kept_side_by_side(store: FileStore) -> None:
    files, found = Files(store), dict[int, File]()

    async def keep(number: int) -> None:
        found[number] = await files.keep(File.from_bytes(f"{number}", f"{number}.txt"))

    async with anyio.create_task_group() as group:
        for number in range(40):
            group.start_soon(keep, number)

    assert [await found[number].text() for number in range(40)] == [str(number) for number in range(40)]


def test_a_store_that_others_reach_travels_to_them(make: Make) -> None:
    store = make()
    digest = put(store, b"here and there")
    if store.reached_by_all:
        again: FileStore = pickle.loads(pickle.dumps(store))
        assert again.read(digest, 0, 20) == b"here and there"
    else:
        with pytest.raises(TypeError, match="another process"):
            pickle.dumps(store)


@pytest.mark.parametrize("url", ["", "ftp://host/folder", "file://", "s3://", "https://bucket/x"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="no place for files"):
        open_files(url)


def test_keys_of_a_bucket_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    address, _, settings = fresh_s3().partition("?")
    for name, value in parse_qsl(settings):
        if name.endswith(("key_id", "access_key")):
            monkeypatch.setenv(f"AWS_{name.upper()}", value)
    kept = [f"{name}={value}" for name, value in parse_qsl(settings) if not name.endswith(("key_id", "access_key"))]

    store = open_files(f"{address}?{'&'.join(kept)}")
    assert store.read(put(store, b"with keys"), 0, 20) == b"with keys"
    assert "key" not in store.url


def test_a_bucket_that_is_not_there_is_told_to_the_operator() -> None:
    address, _, settings = fresh_s3().partition("?")
    store = open_files(f"{address.replace('s3://files', 's3://nowhere')}?{settings}")
    with pytest.raises(FilesUnavailable, match="NoSuchBucket"):
        put(store, b"lost")
