"""Contents in memory: for engines whose runs are in memory, and for tests."""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Iterator
from hashlib import sha256
from threading import Lock
from typing import Any, Final

from ..errors import FileMissing
from ..file import CHUNK
from .digests import agreed, checked

# How long contents stay that no file refers to: who uploads some needs a moment until a run is submitted on them.
LINGERS: Final = 3600.0


class _Blob:
    __slots__ = ("__weakref__", "data", "kept_at")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.kept_at = 0.0


class MemoryFiles:
    """Keeps contents in memory; see `FileStore`.

    With `forgets=True` they are gone once no `File` refers to them any more, an hour after they were kept at the
    earliest; otherwise they stay until they are removed.
    """

    url: Final = "memory://"
    durable: Final = False
    reached_by_all: Final = False
    piece: Final = CHUNK

    def __init__(self, *, forgets: bool = False) -> None:
        self._forgets = forgets
        self._lock = Lock()
        self._blobs: Any = weakref.WeakValueDictionary[str, _Blob]() if forgets else dict[str, _Blob]()
        self._lingering: deque[_Blob] = deque()

    def begin(self) -> MemoryUpload:
        """New contents; see `FileStore.begin`."""
        return MemoryUpload(self)

    def size(self, digest: str) -> int | None:
        """How many bytes there are; see `FileStore.size`."""
        blob = self._blobs.get(checked(digest))
        return None if blob is None else len(blob.data)

    def read(self, digest: str, start: int, size: int) -> bytes:
        """Some bytes; see `FileStore.read`."""
        blob = self._blobs.get(checked(digest))
        if blob is None:
            raise FileMissing(digest, "memory")
        data: bytes = blob.data
        return data[start : start + size]

    def mark(self, digest: str) -> int | None:
        """Count them as kept now; see `FileStore.mark`."""
        with self._lock:
            blob = self._blobs.get(checked(digest))
            if blob is None:
                return None
            self._kept_now(blob)
            return len(blob.data)

    def pin(self, digest: str) -> object:
        """What keeps these contents; see `FileStore.pin`."""
        return self._blobs.get(checked(digest))

    def all(self) -> Iterator[tuple[str, float]]:
        """Every digest, and since when; see `FileStore.all`."""
        with self._lock:
            found = [(digest, blob.kept_at) for digest, blob in self._blobs.items()]
        return iter(found)

    def remove(self, digest: str, before: float) -> bool:
        """Remove contents; see `FileStore.remove`."""
        with self._lock:
            blob = self._blobs.get(checked(digest))
            if blob is None or blob.kept_at >= before:
                return False
            del self._blobs[digest]
            return True

    def sweep(self, before: float) -> int:
        """Nothing is left behind here."""
        return 0

    def keep(self, data: bytes, expected: str) -> tuple[str, int]:
        """Keep these; see `Upload.commit`."""
        digest = agreed(sha256(data).hexdigest(), expected, "the upload")
        with self._lock:
            blob = self._blobs.get(digest)
            if blob is None:
                blob = self._blobs[digest] = _Blob(data)
            self._kept_now(blob)
        return digest, len(data)

    def _kept_now(self, blob: _Blob) -> None:
        blob.kept_at = now = time.time()
        if self._forgets:
            self._lingering.append(blob)
            while self._lingering and self._lingering[0].kept_at < now - LINGERS:
                self._lingering.popleft()

    def __reduce__(self) -> Any:
        raise TypeError("files in memory cannot be reached from another process")


class MemoryUpload:
    """Contents on their way into memory; see `Upload`."""

    def __init__(self, store: MemoryFiles) -> None:
        self._store = store
        self._written = bytearray()

    def write(self, chunk: bytes) -> None:
        """The next piece."""
        self._written += chunk

    def commit(self, expected: str = "") -> tuple[str, int]:
        """Keep what was written; see `Upload.commit`."""
        return self._store.keep(bytes(self._written), expected)

    def abort(self) -> None:
        """Forget what was written."""
        self._written.clear()
