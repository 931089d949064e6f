"""The places for files that the contract suite holds to `FileStore`; to add one, a factory here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engine.files.local import LocalFiles
from engine.files.memory import MemoryFiles
from engine.files.objects import ObjectFiles
from engine.ports import FileStore
from tests.servers import fresh_s3

Make = Callable[[], FileStore]
"""A store on one place, each time anew, as after a restart of the process."""


def memory(_folder: Path) -> Make:
    """What is kept in memory lasts as long as the store itself."""
    store = MemoryFiles()
    return lambda: store


def local(folder: Path) -> Make:
    """A folder that nobody has made yet."""
    return lambda: LocalFiles(folder / "kept" / "files")


def s3(_folder: Path) -> Make:
    """A prefix of its own in a bucket, on a server that speaks S3."""
    url = fresh_s3()
    return lambda: ObjectFiles(url)


FACTORIES: dict[str, Callable[[Path], Make]] = {"memory": memory, "local": local, "s3": s3}


def put(store: FileStore, data: bytes) -> str:
    """Keep these bytes; gives their digest."""
    upload = store.begin()
    upload.write(data)
    return upload.commit()[0]
