"""Contents in an object store: S3 and whatever speaks it (Supabase Storage, MinIO, R2), Google's and Azure's.

What is to be kept goes through a temporary file on this machine's disk: its name is its digest, which is known at the
end. An object is there as a whole or not at all, so no reader sees a part. Contents that are there already are
written again once they are half as old as what a collection may remove: so it finds them young.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, urlsplit

import obstore
from obstore.exceptions import BaseError

from ..errors import FileMissing, FilesUnavailable
from ..file import DIGEST
from .digests import agreed, checked

T = TypeVar("T")

# What is read at once: each costs a request.
PIECE: Final = 8 << 20
# An upload in parts keeps so many of them in memory at once.
PART: Final = 8 << 20
MOST_PARTS: Final = 9_000
PARTS_AT_ONCE: Final = 3
FRESH: Final = 6 * 3600.0
"""Younger contents are not written again: less than half the age from which they are removed (`files.GRACE`)."""


class ObjectFiles:
    """Keeps contents in a bucket; see `FileStore`.

    What follows the `?` of the address is settings of obstore: `endpoint`, `region`, and keys if they are not to come
    from where its SDK looks for them (`AWS_ACCESS_KEY_ID`, …).
    """

    durable: Final = True
    reached_by_all: Final = True
    piece: Final = PIECE

    def __init__(self, url: str) -> None:
        self._address = url
        plain, _, query = url.partition("?")
        settings: Any = dict(parse_qsl(query))
        options: Any = {}
        if settings.get("endpoint", "").startswith("http://"):
            options["allow_http"] = True
        parts = urlsplit(plain)
        self.url: Final = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        try:
            self._store: Any = obstore.store.from_url(plain, config=settings or None, client_options=options or None)
        except BaseError as error:
            # Not the error itself: it may tell what is secret.
            raise ValueError(f"{self.url!r} is no address of an object store: {type(error).__name__}") from None

    def begin(self) -> ObjectUpload:
        """New contents; see `FileStore.begin`."""
        return ObjectUpload(self)

    def size(self, digest: str) -> int | None:
        """How many bytes there are; see `FileStore.size`."""
        found = self._head(digest)
        return None if found is None else int(found["size"])

    def read(self, digest: str, start: int, size: int) -> bytes:
        """Some bytes; see `FileStore.read`."""
        key = self._key(digest)
        if size <= 0:
            return b""
        try:
            return bytes(obstore.get_range(self._store, key, start=start, length=size))
        except FileNotFoundError:
            raise FileMissing(digest, self.url) from None
        except (BaseError, OSError, ValueError) as error:
            # Behind the end there is no range: not an error here.
            known = self.size(digest)
            if known is None:
                raise FileMissing(digest, self.url) from None
            if start >= known:
                return b""
            raise self.unavailable(error) from error

    def mark(self, digest: str) -> int | None:
        """Count them as kept now; see `FileStore.mark`."""
        found = self._head(digest)
        if found is None:
            return None
        size = int(found["size"])
        if found["last_modified"].timestamp() <= time.time() - FRESH:
            upload = self.begin()
            try:
                for start in range(0, size, PIECE):
                    upload.write(self.read(digest, start, PIECE))
                upload.commit(digest)
            finally:
                upload.abort()
        return size

    def pin(self, digest: str) -> object:
        """Nothing: what is in a bucket stays there."""
        return None

    def all(self) -> Iterator[tuple[str, float]]:
        """Every digest, and since when; see `FileStore.all`."""
        pages = self.trying(lambda: iter(obstore.list(self._store, "sha256/", chunk_size=1000)))
        while (page := self.trying(lambda: next(pages, None))) is not None:
            for found in page:
                name = found["path"].rpartition("/")[2]
                if DIGEST.fullmatch(name):
                    yield name, found["last_modified"].timestamp()

    def remove(self, digest: str, before: float) -> bool:
        """Remove contents; see `FileStore.remove`."""
        found = self._head(digest)
        if found is None or found["last_modified"].timestamp() >= before:
            return False
        self.trying(lambda: obstore.delete(self._store, self._key(digest)))
        return True

    def sweep(self, before: float) -> int:
        """Nothing of ours is left: a bucket's own rules end what uploads in parts left behind."""
        return 0

    def keep(self, file: Any, digest: str, size: int) -> None:
        """Have what is in a file kept under its digest."""
        there = self._head(digest)
        if there is not None and there["size"] == size and there["last_modified"].timestamp() > time.time() - FRESH:
            return

        def put() -> None:
            file.seek(0)
            obstore.put(
                self._store,
                self._key(digest),
                file,
                use_multipart=size > PART,
                chunk_size=max(PART, -(-size // MOST_PARTS)),
                max_concurrency=PARTS_AT_ONCE,
            )

        self.trying(put)

    def _head(self, digest: str) -> Any:
        key = self._key(digest)
        try:
            return obstore.head(self._store, key)
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise self.unavailable(error) from error

    def _key(self, digest: str) -> str:
        return f"sha256/{checked(digest)[:2]}/{digest}"

    def trying(self, call: Callable[[], T]) -> T:
        """What a call gives, its errors as ours."""
        try:
            return call()
        except (BaseError, OSError) as error:
            raise self.unavailable(error) from error

    def unavailable(self, error: Exception) -> FilesUnavailable:
        """The error for whoever looks after the place."""
        said = str(error).partition("\n\nDebug source")[0][:500]
        return FilesUnavailable(f"files cannot be kept or read in {self.url}: {said}")

    def __reduce__(self) -> Any:
        return ObjectFiles, (self._address,)


class ObjectUpload:
    """Contents on their way into a bucket; see `Upload`."""

    def __init__(self, store: ObjectFiles) -> None:
        self._store = store
        self._hash = sha256()
        self._size = 0
        # Open until `commit` or `abort`, and gone when it is closed, also by the end of the process.
        self._file: Any = store.trying(partial(tempfile.TemporaryFile, prefix="workflow-engine-"))

    def write(self, chunk: bytes) -> None:
        """The next piece."""
        self._store.trying(lambda: self._file.write(chunk))
        self._hash.update(chunk)
        self._size += len(chunk)

    def commit(self, expected: str = "") -> tuple[str, int]:
        """Keep what was written; see `Upload.commit`."""
        try:
            digest = agreed(self._hash.hexdigest(), expected, "the upload")
            self._store.trying(self._file.flush)
            self._store.keep(self._file, digest, self._size)
        finally:
            self.abort()
        return digest, self._size

    def abort(self) -> None:
        """Forget what was written."""
        self._file.close()
