"""The files of an engine: keeps what runs are about to name, finds what they have named, collects what nothing names.

Contents are kept before anything says that they are: a file is returned from here when what its digest names is safe.
What nothing names is removed a day after it was kept last: whoever has uploaded something has so much time to submit
a run on it, and a node to have its file recorded.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import anyio

from ..errors import FileMissing, FilesUnavailable
from ..file import CHUNK, Contents, File, InMemory, Kept, Passing, open_stores, piece_of
from ..mediatypes import UNKNOWN
from ..ports import FileStore, Upload
from ..threads import check_wanted, in_thread
from ..typecheck import shown
from .digests import checked

GRACE: Final = 24 * 3600.0
"""How long contents stay that nothing names, in seconds since they were kept last."""
# Contents that are looked at together when it is asked what is named.
AT_ONCE: Final = 500

Named = Callable[[Sequence[str]], Awaitable[set[str]]]
"""Which of these digests something names."""


class Files:
    """Keeps and finds files: `engine.files`, and in a node `ctx.files`."""

    def __init__(self, store: FileStore | None, why_none: str = "") -> None:
        self._store = store
        self._why_none = why_none

    @property
    def store(self) -> FileStore:
        """Where contents are; raises `FilesUnavailable` if nothing is kept."""
        if self._store is None:
            raise FilesUnavailable(self._why_none or "no files are kept here; give the engine files=...")
        return self._store

    @property
    def has_store(self) -> bool:
        """Whether files are kept at all."""
        return self._store is not None

    def open(self) -> None:
        """Have files that know no store looked for here, too."""
        if self._store is not None:
            open_stores.append(self._store)

    def close(self) -> None:
        """Have them not looked for here any more."""
        if self._store is not None:
            open_stores.remove(self._store)

    async def keep(self, file: File, *, expected: str = "") -> File:
        """The file once its contents are safe; what is kept already is marked as needed.

        Raises `FileMissing` if there are none, `FileDamaged` if they are not those of its digest (or the `expected`
        one), `FilesUnavailable` if they cannot be kept.
        """
        if not isinstance(file, File):
            raise TypeError(f"files.keep: expected a File, found {shown(file)}")
        contents = file.contents
        if file.ephemeral:
            return file if isinstance(contents, InMemory) else await _in_memory(file)
        store = self.store
        if file.digest and (expected or file.digest) == file.digest:
            size: int | None = await in_thread(store.mark, file.digest)
            # Contents of another size are not those: what was cut off is kept anew.
            if size is not None and size == (size if file.size is None else file.size):
                return self._kept(file, file.digest, size)
        if contents is None:
            contents = await in_thread(file.found)
        upload: Upload = await in_thread(store.begin)
        try:
            if isinstance(contents, Passing):
                await _take(contents.taken(), upload)
            else:
                await in_thread(_copy, contents, upload)
            digest, written = await in_thread(upload.commit, expected or file.digest)
        finally:
            with anyio.CancelScope(shield=True):
                await in_thread(upload.abort)
        return self._kept(file, digest, written)

    async def keep_bytes(self, data: bytes, name: str = "file", media_type: str | None = None, **options: Any) -> File:
        """As `keep(File.from_bytes(...))`."""
        return await self.keep(File.from_bytes(data, name, media_type, **options))

    async def get(self, digest: str, name: str = "file", media_type: str = UNKNOWN) -> File:
        """The file of contents that are kept. Raises `FileMissing`, or `ValueError` for what is no digest."""
        size: int | None = await in_thread(self.store.size, checked(digest))
        if size is None:
            raise FileMissing(digest, self.store.url)
        return self._kept(File(name=name, media_type=media_type), digest, size)

    def _kept(self, file: File, digest: str, size: int) -> File:
        contents = Kept(self.store, digest, self.store.pin(digest))
        return file.with_contents(contents, digest=digest, size=size)

    async def collect(self, named: Named, grace: float | None = None) -> int:
        """Remove contents that nothing names, and have not been kept for so many seconds; how many."""
        if self._store is None:
            return 0
        before = time.time() - (GRACE if grace is None else grace)
        found = self._store.all()
        removed = 0
        while digests := await in_thread(_some, found, before):
            kept = await named(digests)
            for digest in digests:
                if digest not in kept and await in_thread(self._store.remove, digest, before):
                    removed += 1
        await in_thread(self._store.sweep, before)
        return removed

    def __repr__(self) -> str:
        return f"<Files in {self._store.url}>" if self._store is not None else "<Files, none kept>"


def _some(found: Iterator[tuple[str, float]], before: float) -> list[str]:
    """The next of those that are old enough."""
    some: list[str] = []
    for digest, kept_at in found:
        if kept_at < before:
            some.append(digest)
            if len(some) == AT_ONCE:
                break
    return some


async def _in_memory(file: File) -> File:
    contents = file.contents
    if contents is None:
        return file  # it is gone, or known by its digest only: who reads it is told
    if isinstance(contents, Passing):
        data = bytearray()
        async for chunk in _each(contents.taken()):
            data += chunk
    else:
        data = bytearray(await file.read())
    made = File.from_bytes(bytes(data), file.name, file.media_type)
    return file.with_contents(made.contents, digest=made.digest, size=made.size)


async def _take(chunks: AsyncIterable[bytes] | Iterable[bytes], upload: Upload) -> None:
    """Write all that comes by, in pieces that are worth a thread."""
    if not isinstance(chunks, AsyncIterable):
        await in_thread(_write_all, chunks, upload)
        return
    waiting = bytearray()
    async for chunk in chunks:
        waiting += _bytes_of(chunk)
        if len(waiting) >= CHUNK:
            await in_thread(upload.write, bytes(waiting))
            waiting.clear()
    if waiting:
        await in_thread(upload.write, bytes(waiting))


async def _each(chunks: AsyncIterable[bytes] | Iterable[bytes]) -> Any:
    if isinstance(chunks, AsyncIterable):
        async for chunk in chunks:
            yield _bytes_of(chunk)
    else:
        for chunk in chunks:
            yield _bytes_of(chunk)


def _write_all(chunks: Iterable[bytes], upload: Upload) -> None:
    for chunk in chunks:
        check_wanted()
        upload.write(_bytes_of(chunk))


def _copy(contents: Contents, upload: Upload) -> None:
    place = 0
    try:
        while chunk := contents.read(place, piece_of(contents)):
            check_wanted()
            upload.write(chunk)
            place += len(chunk)
    except OSError as error:
        raise FilesUnavailable(f"a file that is to be kept cannot be read: {error}") from error


def _bytes_of(chunk: Any) -> bytes:
    if not isinstance(chunk, bytes | bytearray | memoryview):
        raise TypeError(f"a file is made of pieces of bytes, found {shown(chunk)}")
    return bytes(chunk)
