"""What is named on a command line and has no end, or one that is too far away."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.cli.faults import Refusal
from engine.cli.files import MOST_DATA_BYTES, read_file
from engine.cli.loading import Loader
from engine.cli.reading import json_of
from engine.cli.settings import from_file


def read_state(name: str) -> object:
    return json_of(f"@{name}", "--state")


READERS: list[tuple[Callable[[str], object], str]] = [
    (Loader().one, "x.json"),
    (Loader().one, "x.yaml"),
    (read_state, "x.json"),
    (from_file, "x.toml"),
]


def endless(file: Path) -> None:
    file.symlink_to("/dev/zero")


def of_a_pipe(file: Path) -> None:
    os.mkfifo(file)


def sparse(file: Path) -> None:
    with file.open("wb") as opened:
        opened.truncate(6_000_000_000)


@pytest.mark.parametrize(("read", "name"), READERS)
@pytest.mark.parametrize(
    ("make", "said"),
    [(endless, "it is a device"), (of_a_pipe, "it is a pipe"), (Path.mkdir, "it is a folder"), (sparse, "longer than")],
)
def test_what_has_no_end_or_is_too_long_is_refused_at_once(
    make: Callable[[Path], None], said: str, read: Callable[[str], object], name: str, folder: Path
) -> None:
    make(folder / name)

    with pytest.raises(Refusal, match=said):
        read(name)


def test_who_names_a_pipe_is_told_of_stdin(folder: Path) -> None:
    os.mkfifo(folder / "x.json")

    with pytest.raises(Refusal) as refused:
        read_state("x.json")
    assert refused.value.advice == ("what another program writes is read from stdin: give -",)


def test_no_more_is_read_than_is_wanted(folder: Path) -> None:
    (folder / "x").write_bytes(b"12345")

    assert read_file(folder / "x", 5) == b"12345"
    with pytest.raises(Refusal, match="longer than 4 bytes"):
        read_file(folder / "x", 4)


def test_stdin_is_read_no_further_either(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        given = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            assert self.given <= MOST_DATA_BYTES
            self.given += len(buffer)
            return len(buffer)

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(Endless())))

    with pytest.raises(Refusal, match=r"--state \(stdin\) is longer than"):
        json_of("-", "--state")
