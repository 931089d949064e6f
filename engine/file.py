"""A file as it travels through a graph: a small value. Its contents are elsewhere, found by their digest.

In states, messages and the journal a file is a name, a media type, a size and a SHA-256 digest. What it holds is kept
once, outside the state, by whoever keeps files for the engine (files/), before anything names it. A file that was
just made (`from_path`, `from_bytes`, `from_chunks`) is not kept yet: the engine keeps what a node returns, what a run
is submitted on and what is uploaded. Until then its digest is empty, unless it is known already.

Contents are read in pieces, in threads, so a file of any size takes a little memory. They are checked against the
digest wherever all of them are read. Functions that run in a thread or in another process read with `file.blocking`,
or `with file.open() as stream`.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeVar

import attrs

from .errors import FileDamaged, FileMissing, FilesUnavailable
from .guessing import guessed
from .mediatypes import media_type
from .typecheck import shown

if TYPE_CHECKING:
    from hashlib import _Hash

T = TypeVar("T")

CHUNK: Final = 1 << 20
"""How much is read at once: enough to keep a disk busy, little enough for many at a time."""
DIGEST: Final = re.compile(r"[0-9a-f]{64}")
LONGEST_NAME: Final = 255
"""In bytes of UTF-8: what file systems take."""
_NOT_IN_NAMES: Final = re.compile(r"[/\\\x00-\x1f\x7f]")
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class Contents(Protocol):
    """Where the bytes of a file come from. Its methods block: they are called in threads."""

    def size(self) -> int | None:
        """How many bytes there are, if that is known."""
        ...

    def read(self, start: int, size: int) -> bytes:
        """At most so many bytes from there on; fewer only at the end, none behind it."""
        ...


class Keeps(Protocol):
    """Who keeps contents by their digest, as far as a file that was kept needs it. Blocks."""

    @property
    def url(self) -> str: ...

    @property
    def reached_by_all(self) -> bool: ...

    @property
    def piece(self) -> int: ...

    def size(self, digest: str) -> int | None: ...

    def read(self, digest: str, start: int, size: int) -> bytes: ...


open_stores: Final[list[Keeps]] = []
"""Where a file looks that came out of a journal and knows no store: the ones of the engines that are running here.

A digest names its contents, so whichever has them has the right ones.
"""


@attrs.frozen(eq=False)
class Kept:
    """Contents that a store keeps. `pin` is what keeps them, if nothing else does."""

    store: Keeps
    digest: str
    pin: object = None

    def size(self) -> int | None:
        return self.store.size(self.digest)

    def read(self, start: int, size: int) -> bytes:
        return self.store.read(self.digest, start, size)


@attrs.frozen(eq=False)
class InMemory:
    """Contents that are at hand."""

    data: bytes

    def size(self) -> int | None:
        return len(self.data)

    def read(self, start: int, size: int) -> bytes:
        return self.data[start : start + size]


@attrs.frozen(eq=False)
class OnDisk:
    """Contents of a file somewhere on this machine, as they are when they are read."""

    path: str

    def size(self) -> int | None:
        return os.stat(self.path).st_size

    def read(self, start: int, size: int) -> bytes:
        with open(self.path, "rb", buffering=0) as file:
            file.seek(start)
            return file.read(size) or b""


@attrs.frozen(eq=False)
class Unreachable:
    """Contents that only the engine's own process can read, in another one."""

    url: str

    def size(self) -> int | None:
        return None

    def read(self, start: int, size: int) -> bytes:
        why = "it cannot be reached from another process; keep files in a folder, or run the node with run_in='thread'"
        raise FileMissing("", self.url, why)


@attrs.define(eq=False)
class Passing:
    """Contents that come by once."""

    chunks: AsyncIterable[bytes] | Iterable[bytes] | None

    def size(self) -> int | None:
        return None

    def read(self, start: int, size: int) -> bytes:
        raise FileMissing("", "a stream", "it can be read only once: by who keeps it")

    def taken(self) -> AsyncIterable[bytes] | Iterable[bytes]:
        """The stream, for the one who reads it."""
        chunks, self.chunks = self.chunks, None
        if chunks is None:
            raise FileMissing("", "a stream", "it has been read already")
        return chunks


def file_name_fault(name: Any) -> str:
    """Why this cannot be a file's name, as the end of a sentence; empty if it can."""
    if not isinstance(name, str):
        return f"must be text, found {shown(name)}"
    if not name or name in (".", "..") or name != name.strip():
        return f"must be the name of a file, found {name!r}"
    if _NOT_IN_NAMES.search(name):
        return f"may contain neither '/' nor '\\' nor control characters, found {name[:80]!r}"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return f"cannot be written in UTF-8, found {name[:80]!r}"
    return f"may have {LONGEST_NAME} bytes, found {size}" if size > LONGEST_NAME else ""


def _named(name: Any) -> str:
    if fault := file_name_fault(name):
        raise ValueError(f"a file's name {fault}")
    found: str = name
    return found


def _is_file_name(instance: File, attribute: attrs.Attribute[Any], value: Any) -> None:
    _named(value)


def _is_media_type(instance: File, attribute: attrs.Attribute[Any], value: Any) -> None:
    media_type(value)


def _is_digest(instance: File, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or (value and not DIGEST.fullmatch(value)):
        raise ValueError(f"a file's digest is 64 hexadecimal digits (SHA-256), found {shown(value)}")


def _is_size(instance: File, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise ValueError(f"a file's size is a number of bytes, found {shown(value)}")


def _is_metadata(instance: File, attribute: attrs.Attribute[Any], value: Any) -> None:
    for key, item in value.items():
        if not isinstance(key, str) or not isinstance(item, str):
            raise ValueError(f"a file's metadata is text by name, found {key!r}: {shown(item)}")


def _fixed(metadata: Mapping[str, str]) -> Mapping[str, str]:
    if not isinstance(metadata, Mapping):
        raise ValueError(f"a file's metadata is text by name, found {shown(metadata)}")
    return MappingProxyType(dict(metadata)) if metadata else _NOTHING


def _moment(moment: datetime) -> datetime:
    if not isinstance(moment, datetime):
        raise ValueError(f"a file's time of creation is a datetime, found {shown(moment)}")
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


@attrs.frozen(kw_only=True)
class File:
    """A file; two are equal if they have the same name, type, contents and metadata, whenever they were made."""

    name: str = attrs.field(validator=_is_file_name)
    media_type: str = attrs.field(validator=_is_media_type)
    size: int | None = attrs.field(default=None, validator=_is_size)
    """In bytes; None of a stream that has not been kept."""
    digest: str = attrs.field(default="", validator=_is_digest)
    """SHA-256, in hexadecimal; empty until the contents are kept."""
    metadata: Mapping[str, str] = attrs.field(default=_NOTHING, converter=_fixed, validator=_is_metadata, hash=False)
    created: datetime = attrs.field(factory=lambda: datetime.now(UTC), converter=_moment, eq=False)
    ephemeral: bool = False
    """Its contents are in memory only, and gone with the run."""
    _contents: Contents | None = attrs.field(default=None, eq=False, repr=False, metadata={"hidden": True})

    # -- made

    @classmethod
    def from_bytes(
        cls,
        data: bytes | bytearray | memoryview | str,
        name: str = "file",
        media_type: str | None = None,
        *,
        metadata: Mapping[str, str] = _NOTHING,
        ephemeral: bool = False,
    ) -> Self:
        """A file of these bytes, or of this text in UTF-8; without a type, that of its name, else of its contents."""
        from hashlib import sha256  # who makes no files needs no digests

        if isinstance(data, str):
            data = data.encode()
        elif not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"File.from_bytes: the contents are bytes or text, found {shown(data)}")
        found = bytes(data)
        return cls(
            name=name,
            media_type=guessed(_named(name), found[:4096], len(found) <= 4096) if media_type is None else media_type,
            size=len(found),
            digest=sha256(found).hexdigest(),
            metadata=metadata,
            ephemeral=ephemeral,
            contents=InMemory(found),
        )

    @classmethod
    def from_path(
        cls,
        path: str | os.PathLike[str],
        name: str | None = None,
        media_type: str | None = None,
        *,
        metadata: Mapping[str, str] = _NOTHING,
    ) -> Self:
        """A file of what is at this path when it is kept; raises `OSError` if nothing can be read there now.

        Looks at its size and its first bytes; the rest is read by who keeps it, or reads it.
        """
        where = Path(path)
        named = where.name if name is None else name
        mode = os.stat(where).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # of a folder, opening it says so
            why = "it is a pipe or a device, not a file; give what has no size to File.from_chunks"
            raise OSError(errno.EINVAL, why, str(where))
        with where.open("rb", buffering=0) as opened:
            size = os.fstat(opened.fileno()).st_size
            kind = guessed(_named(named), opened.read(4096) or b"", size <= 4096) if media_type is None else media_type
        return cls(name=named, media_type=kind, size=size, metadata=metadata, contents=OnDisk(str(where.absolute())))

    @classmethod
    def from_chunks(
        cls,
        chunks: AsyncIterable[bytes] | Iterable[bytes],
        name: str = "file",
        media_type: str | None = None,
        *,
        metadata: Mapping[str, str] = _NOTHING,
    ) -> Self:
        """A file of what comes by, of any length: read once, by who keeps it. Without a type, that of its name."""
        if isinstance(chunks, bytes | str) or not isinstance(chunks, AsyncIterable | Iterable):
            raise TypeError(f"File.from_chunks: expected an iterable of bytes, async or not, found {shown(chunks)}")
        kind = guessed(_named(name), b"", False) if media_type is None else media_type
        return cls(name=name, media_type=kind, metadata=metadata, contents=Passing(chunks))

    @property
    def is_kept(self) -> bool:
        """Whether a store has its contents, as far as it knows."""
        contents = self._contents
        return bool(self.digest) and (contents is None or isinstance(contents, Kept))

    @property
    def contents(self) -> Contents | None:
        """Where its bytes come from, if that is at hand."""
        return self._contents

    def with_contents(self, contents: Contents | None, **changes: Any) -> Self:
        """The same file, its bytes coming from there."""
        return attrs.evolve(self, contents=contents, **changes)

    # -- read

    def open(self, start: int = 0, end: int | None = None) -> Reader:
        """A reader of the bytes from `start` up to `end`: `async with file.open() as stream`.

        `async for chunk in stream` and `await stream.read(n)`; in a function that runs in a thread,
        `with file.open() as stream` gives a binary file as Python's `open` does.
        """
        return Reader(self, start, end)

    async def read(self) -> bytes:
        """All of it. Raises `FileMissing`, `FileDamaged`, `FilesUnavailable`."""
        found = bytearray()
        async with self.open() as stream:
            async for chunk in stream:
                found += chunk
        return bytes(found)

    async def text(self, encoding: str | None = None, errors: str = "strict") -> str:
        """All of it as text: in the charset of its type, or else in UTF-8."""
        return self._decoded(await self.read(), encoding, errors)

    async def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it to a new file at this path; raises `FileExistsError` if there is one."""
        from .threads import in_thread

        return await in_thread(self.blocking.save, path)

    @property
    def blocking(self) -> BlockingFile:
        """The same for functions that do not await: `file.blocking.read()`."""
        return BlockingFile(self)

    def _decoded(self, data: bytes, encoding: str | None, errors: str) -> str:
        charset = encoding or media_type(self.media_type).parameter("charset") or "utf-8"
        # A byte order mark is no part of the text.
        return data.decode("utf-8-sig" if charset.replace("_", "-") in ("utf-8", "utf8") else charset, errors)

    def found(self) -> Contents:
        """Where its bytes are; blocks. Raises `FileMissing`."""
        contents = self._contents
        if contents is not None:
            return contents
        if self.ephemeral:
            raise FileMissing(self.digest, "memory", "the file was ephemeral, and is gone with what had made it")
        for store in open_stores:
            if store.size(self.digest) is not None:
                return Kept(store, self.digest)
        where = ", ".join(store.url for store in open_stores) or "any store: no engine is running here"
        raise FileMissing(self.digest, where)

    # -- travelling

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # nothing of it can change

    def __getstate__(self) -> dict[str, Any]:
        plain = {field.name: getattr(self, field.name) for field in attrs.fields(type(self))}
        contents = self._contents
        if isinstance(contents, Kept):
            contents = Kept(contents.store, self.digest) if contents.store.reached_by_all else _elsewhere(contents)
        return {**plain, "metadata": dict(self.metadata), "_contents": contents}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, _fixed(value) if name == "metadata" else value)

    def to_dict(self) -> dict[str, Any]:
        """What can be told of it as data."""
        return {
            "name": self.name,
            "media_type": self.media_type,
            "size": self.size,
            "digest": self.digest,
            "metadata": dict(self.metadata),
            "created": self.created.isoformat(),
            **({"ephemeral": True} if self.ephemeral else {}),
        }

    def __str__(self) -> str:
        return f"{self.name} ({self.media_type})"


def _elsewhere(contents: Kept) -> Unreachable:
    return Unreachable(contents.store.url)


class _Checked:
    """Reads contents from front to back, and checks them against their digest once all have been read."""

    def __init__(self, file: File, start: int, end: int | None) -> None:
        self.file = file
        self.place = start
        self.end = end
        self._contents: Contents | None = None
        self._ahead = b""
        self._hash: _Hash | None = None
        if file.digest and start == 0 and end is None:
            from hashlib import sha256

            self._hash = sha256()

    def next(self, size: int = CHUNK) -> bytes:
        """The next bytes; none at the end. Blocks."""
        if self._contents is None:
            self._contents = self.file.found()
        if self.end is not None:
            size = min(size, self.end - self.place)
        if size <= 0:
            return b""
        chunk = self._ahead[:size] if self._ahead else self._read(self._contents, size)
        self._ahead = self._ahead[len(chunk) :]
        self.place += len(chunk)
        if self._hash is not None:
            if chunk:
                self._hash.update(chunk)
            elif (found := self._hash.hexdigest()) != self.file.digest:
                raise FileDamaged(self.file.digest, found, repr(self.file.name))
        return chunk

    def _read(self, contents: Contents, size: int) -> bytes:
        """At most so much, of as much as is worth asking for at once; the rest is kept for the next time."""
        wanted = max(size, piece_of(contents))
        if self.end is not None:
            wanted = min(wanted, self.end - self.place)
        try:
            self._ahead = contents.read(self.place, wanted)
        except OSError as error:
            raise FilesUnavailable(f"cannot read {self.file.name!r}: {error}") from error
        return self._ahead[:size]


def piece_of(contents: Contents) -> int:
    """How much is worth reading at once: where each read is a request, more than of a disk."""
    return contents.store.piece if isinstance(contents, Kept) else CHUNK


class Reader:
    """A file that is open for reading; see `File.open`."""

    def __init__(self, file: File, start: int, end: int | None) -> None:
        if start < 0 or (end is not None and end < start):
            raise ValueError(f"cannot open {file.name!r} from {start} to {end}: the range is none")
        self._file = file
        self._range = start, end
        self._checked = _Checked(file, start, end)
        self._blocking: io.BufferedReader | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    async def read(self, size: int = CHUNK) -> bytes:
        """At most so many bytes; none at the end."""
        from .threads import in_thread

        return await in_thread(self._checked.next, size)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self.read():
            yield chunk

    def __enter__(self) -> io.BufferedReader:
        self._blocking = io.BufferedReader(_Raw(self._file, *self._range), CHUNK)
        return self._blocking

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._blocking is not None:
            self._blocking.close()


class _Raw(io.RawIOBase):
    """Contents as what Python reads binary files from: they can be read from front to back, and from any place."""

    def __init__(self, file: File, start: int, end: int | None) -> None:
        self._file = file
        self._start, self._end = start, end
        self._checked = _Checked(file, start, end)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._checked.next(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        place = {io.SEEK_SET: self._start, io.SEEK_CUR: self._checked.place}.get(whence)
        if place is None:
            size = self._file.found().size() if self._end is None else self._end
            if size is None:
                raise io.UnsupportedOperation("the size of a stream is not known")
            place = size
        if place + offset != self._checked.place:
            fresh = _Checked(self._file, max(self._start, place + offset), self._end)
            if fresh.place:
                fresh._hash = None
            self._checked = fresh
        return self._checked.place - self._start

    def tell(self) -> int:
        return self._checked.place - self._start


class BlockingFile:
    """A file for functions that do not await: in a thread, or in a process of its own."""

    def __init__(self, file: File) -> None:
        self._file = file

    def chunks(self) -> Iterator[bytes]:
        """All of it, piece by piece."""
        checked = _Checked(self._file, 0, None)
        while chunk := checked.next():
            yield chunk

    def read(self) -> bytes:
        """All of it."""
        return b"".join(self.chunks())

    def text(self, encoding: str | None = None, errors: str = "strict") -> str:
        """All of it as text."""
        return self._file._decoded(self.read(), encoding, errors)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it to a new file at this path; what is not written to its end is removed."""
        where = Path(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(where, flags, 0o666)
        try:
            with open(descriptor, "wb", buffering=0) as target:
                for chunk in self.chunks():
                    left = memoryview(chunk)
                    while left:
                        left = left[target.write(left) :]
        except BaseException:
            where.unlink(missing_ok=True)
            raise
        return where
