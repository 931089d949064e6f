"""A file by itself: its name, its type, how it is read, and how it travels to other processes."""

import copy
import os
import pickle
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engine import EngineError, File, FileMissing, Files, FilesUnavailable
from engine.codec import pack, unpack
from engine.files.local import LocalFiles
from engine.files.memory import MemoryFiles

BAD_NAMES = [
    "",
    ".",
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "a/b",
    "..\\..\\windows",
    "C:\\x",
    "a\0b",
    "a\nb",
    " a",
    "a ",
    "\x7f",
    "x" * 256,
    "\ud800",
    None,
    7,
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_leads_elsewhere_or_is_none_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match="a file's name"):
        File.from_bytes(b"", name)


@pytest.mark.parametrize("name", ["a", "..a", "a..", "report 12:30.csv", "naïve ☃.txt", "x" * 255, ".hidden", "-rf"])
def test_any_other_name_is_taken(name: str) -> None:
    assert File.from_bytes(b"", name).name == name


@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        ("orders.csv", b"", "text/csv"),
        ("ORDERS.CSV", b"\x89PNG\r\n\x1a\n", "text/csv"),
        ("a.json", b"", "application/json"),
        ("a.md", b"", "text/markdown"),
        ("a.parquet", b"", "application/vnd.apache.parquet"),
        ("page.html", b"", "text/html"),
        ("chart.png", b"", "image/png"),
        ("a.tar.gz", b"", "application/gzip"),
        ("file", b"\x89PNG\r\n\x1a\n....", "image/png"),
        ("file", b"%PDF-1.7", "application/pdf"),
        ("file", b"<!DOCTYPE html><p>", "text/html"),
        ("file", b"<?xml version='1.0'?>", "application/xml"),
        ("file", b'{"a": 1}', "application/json"),
        ("file", b'{"a": 1', "text/plain"),
        ("file", "naïve".encode(), "text/plain"),
        ("file", b"a\0b", "application/octet-stream"),
        ("file", b"\xff\xfe\xfd", "application/octet-stream"),
        ("file", b"", "application/octet-stream"),
        ("what.unheard-of", b"text", "text/plain"),
    ],
)
def test_a_type_that_is_not_given_is_that_of_the_name_or_else_of_the_contents(
    name: str, data: bytes, found: str
) -> None:
    assert File.from_bytes(data, name).media_type == found


def test_a_type_that_is_given_counts_and_must_be_one() -> None:
    assert File.from_bytes(b"", "a.csv", "text/plain; charset=utf-8").media_type == "text/plain; charset=utf-8"
    for nonsense in ("csv", "text/*", "text/csv;"):
        with pytest.raises(ValueError, match="is no media type"):
            File.from_bytes(b"", "a.csv", nonsense)


def test_a_piece_that_ends_within_a_letter_is_text(tmp_path: Path) -> None:
    (tmp_path / "letters").write_bytes(b"a" + "ï".encode() * 5000)

    assert File.from_path(tmp_path / "letters").media_type == "text/plain"


def test_two_files_are_equal_whenever_they_were_made() -> None:
    one = File.from_bytes(b"x", "x.txt", metadata={"a": "b"})
    other = File.from_bytes(b"x", "x.txt", metadata={"a": "b"})

    assert one == other
    assert hash(one) == hash(other)
    assert one != File.from_bytes(b"y", "x.txt", metadata={"a": "b"})
    assert one != File.from_bytes(b"x", "x.txt")


def test_nothing_of_a_file_can_be_changed() -> None:
    file = File.from_bytes(b"x", metadata={"a": "b"})
    with pytest.raises(AttributeError):
        file.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        file.metadata["a"] = "c"  # type: ignore[index]
    assert copy.deepcopy(file) is file


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": -1},
        {"size": True},
        {"digest": "abc"},
        {"metadata": {"a": 1}},
        {"metadata": ["a"]},
        {"created": "today"},
    ],
)
def test_facts_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a file's"):
        File(name="x", media_type="text/plain", **wrong)


async def test_text_is_read_in_the_charset_of_its_type() -> None:
    assert await File.from_bytes("é".encode("latin-1"), "x.txt", "text/plain; charset=latin-1").text() == "é"
    assert await File.from_bytes("\ufeffé".encode(), "x.txt").text() == "é"
    assert File.from_bytes(b"\xe9", "x.txt").blocking.text("latin-1") == "é"
    with pytest.raises(UnicodeDecodeError):
        await File.from_bytes(b"\xe9", "x.txt").text()


async def test_a_range_that_is_none_is_refused() -> None:
    file = File.from_bytes(b"0123")
    for start, end in ((-1, None), (3, 2)):
        with pytest.raises(ValueError, match="the range is none"):
            file.open(start, end)


async def test_a_stream_is_read_once_by_who_keeps_it() -> None:
    async def chunks() -> Any:
        yield b"a"

    file, files = File.from_chunks(chunks(), "x.txt"), Files(MemoryFiles())
    with pytest.raises(FileMissing, match="read only once"):
        await file.read()
    assert (await files.keep(file)).size == 1
    with pytest.raises(FileMissing, match="has been read already"):
        await files.keep(file)


async def test_a_stream_that_breaks_off_keeps_nothing_and_says_why() -> None:
    async def chunks() -> Any:
        yield b"a"
        raise ConnectionResetError("gone")

    store = MemoryFiles()
    with pytest.raises(ConnectionResetError, match="gone"):
        await Files(store).keep(File.from_chunks(chunks(), "x.txt"))
    with pytest.raises(TypeError, match="made of pieces of bytes"):
        await Files(store).keep(File.from_chunks(["text"], "x.txt"))  # type: ignore[list-item]
    assert list(store.all()) == []


async def test_a_path_at_which_nothing_can_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        File.from_path(tmp_path / "none.csv")
    (tmp_path / "gone.csv").write_text("a")
    file = File.from_path(tmp_path / "gone.csv")
    (tmp_path / "gone.csv").unlink()
    with pytest.raises(FilesUnavailable, match="cannot be read"):
        await Files(MemoryFiles()).keep(file)


@pytest.mark.skipif(sys.platform == "win32", reason="has neither")
def test_what_has_no_end_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match=r"not a file; give what has no size to File\.from_chunks"):
            File.from_path(path)


async def test_a_file_is_saved_as_a_new_one_and_never_over_another(tmp_path: Path) -> None:
    file = File.from_bytes(b"new", "x.txt")

    assert (await file.save(tmp_path / "x.txt")).read_bytes() == b"new"
    with pytest.raises(FileExistsError):
        await file.save(tmp_path / "x.txt")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="link"):
        file.blocking.save(tmp_path / "link")
    assert not (tmp_path / "elsewhere").exists()


async def test_what_is_not_written_to_its_end_is_removed(tmp_path: Path) -> None:
    store = MemoryFiles()
    file = await Files(store).keep(File.from_bytes(b"x" * 10))
    store.remove(file.digest, 1e12)
    with pytest.raises(FileMissing):
        await file.save(tmp_path / "half")
    assert not (tmp_path / "half").exists()


# --- in a journal, in another process -------------------------------------------------------------------


async def test_a_kept_file_comes_back_from_a_journal_and_one_that_is_not_is_refused() -> None:
    made = File.from_bytes(b"x", "naïve.txt", metadata={"a": "b"})
    file = await Files(MemoryFiles()).keep(made)
    again = unpack(pack({"it": [file, {"deep": (file,)}]}))

    assert again == {"it": [file, {"deep": (file,)}]}
    assert again["it"][0].created == file.created
    with pytest.raises(EngineError, match=r"\['it'\]\[0\]: the file 'naïve.txt', whose contents are not kept yet"):
        pack({"it": [made]})


@pytest.mark.parametrize(
    "text",
    [
        b'{"$":"file"}',
        b'{"$":"file","digest":"x","name":"a","media_type":"a/b","size":1,"created":"2026-01-01T00:00:00+00:00"}',
        b'{"$":"file","digest":"' + b"0" * 64 + b'","name":"../a","media_type":"a/b","size":1,"created":"2026-01-01"}',
        b'{"$":"file","digest":"' + b"0" * 64 + b'","name":"a","media_type":"a","size":1,"created":"2026-01-01"}',
        b'{"$":"file","digest":"' + b"0" * 64 + b'","name":"a","media_type":"a/b","size":"1","created":"2026-01-01"}',
    ],
)
def test_stored_data_that_is_no_file_is_told_as_damage(text: bytes) -> None:
    with pytest.raises(EngineError, match=r"a stored file cannot be read|stored data has"):
        unpack(text)


async def test_a_file_in_a_folder_is_read_in_another_process_and_one_in_memory_says_why_not(tmp_path: Path) -> None:
    here = await Files(LocalFiles(tmp_path)).keep(File.from_bytes(b"x", metadata={"a": "b"}))
    there = pickle.loads(pickle.dumps(here))
    assert (there, there.blocking.read()) == (here, b"x")

    there = pickle.loads(pickle.dumps(await Files(MemoryFiles()).keep(File.from_bytes(b"x"))))
    with pytest.raises(FileMissing, match="run the node with run_in='thread'"):
        there.blocking.read()
    made = File.from_bytes(b"made there")
    assert pickle.loads(pickle.dumps(made)).blocking.read() == b"made there"


async def test_a_file_whose_store_is_not_here_says_so() -> None:
    file = File(name="x", media_type="text/plain", size=1, digest="0" * 64, created=datetime.now(UTC))
    with pytest.raises(FileMissing, match="no engine is running here"):
        await file.read()


async def test_memory_that_forgets_keeps_what_somebody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.files.memory.LINGERS", 0.0)
    store = MemoryFiles(forgets=True)
    files = Files(store)
    file = await files.keep(File.from_bytes(b"held"))
    digest = (await files.keep(File.from_bytes(b"dropped"))).digest
    await files.keep(File.from_bytes(b"one more"))

    assert await file.read() == b"held"
    assert store.size(digest) is None
