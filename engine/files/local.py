"""Contents in a folder: each in a file that is called by its digest.

They are written to a temporary file, synced, and renamed to their place, and the folder is synced after that: so
what is there is whole, and what was named once is there after a power cut. Contents that are there already are marked
as kept now (by the file's time), so that who collects what nothing needs leaves them alone.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

from ..errors import FileMissing, FilesUnavailable
from ..file import CHUNK, DIGEST
from .digests import agreed, checked

T = TypeVar("T")

_TEMPORARY: Final = "tmp"
_OBJECTS: Final = "sha256"
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class LocalFiles:
    """Keeps contents in a folder, which is made when the first are kept; see `FileStore`."""

    durable: Final = True
    reached_by_all: Final = True
    piece: Final = CHUNK

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder: Final = Path(folder).absolute()

    @property
    def url(self) -> str:
        """The folder as an address."""
        return self.folder.as_uri()

    def begin(self) -> LocalUpload:
        """New contents; see `FileStore.begin`."""
        return self._trying(lambda: LocalUpload(self))

    def size(self, digest: str) -> int | None:
        """How many bytes there are; see `FileStore.size`."""
        path = self._path(digest)
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unavailable(error) from error

    def read(self, digest: str, start: int, size: int) -> bytes:
        """Some bytes; see `FileStore.read`."""
        path = self._path(digest)
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(start)
                return file.read(size) or b""
        except FileNotFoundError:
            raise FileMissing(digest, self.url) from None
        except OSError as error:
            raise self._unavailable(error) from error

    def mark(self, digest: str) -> int | None:
        """Count them as kept now; see `FileStore.mark`."""
        path = self._path(digest)
        try:
            os.utime(path)
            # Whoever has put them there may not have come so far, and they are about to be named.
            sync_folder(path.parent)
            return path.stat().st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unavailable(error) from error

    def pin(self, digest: str) -> object:
        """Nothing: what is in a folder stays there."""
        return None

    def all(self) -> Iterator[tuple[str, float]]:
        """Every digest, and since when; see `FileStore.all`."""
        for shelf in self._entries(self.folder / _OBJECTS):
            for entry in self._entries(Path(shelf.path)):
                if DIGEST.fullmatch(entry.name):
                    try:
                        yield entry.name, entry.stat().st_mtime
                    except FileNotFoundError:
                        continue

    def remove(self, digest: str, before: float) -> bool:
        """Remove contents; see `FileStore.remove`.

        They are moved out of the way first, and looked at there: who finds them in their place has marked them as
        kept, and who finds them gone writes them anew. Neither can lose them.
        """
        path = self._path(digest)
        aside = self._temporary("removed")
        try:
            if path.stat().st_mtime >= before:
                return False
            path.rename(aside)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._unavailable(error) from error
        if aside.stat().st_mtime >= before:
            aside.rename(path)
            return False
        aside.unlink()
        return True

    def sweep(self, before: float) -> int:
        """Remove what was left behind; see `FileStore.sweep`."""
        found = 0
        for entry in self._entries(self.folder / _TEMPORARY):
            try:
                if entry.stat().st_mtime < before:
                    os.unlink(entry.path)
                    found += 1
            except FileNotFoundError:
                continue
        return found

    def place(self, digest: str) -> Path:
        """Where contents are, its folder made."""
        path = self._path(digest)
        self._make(path.parent)
        return path

    def temporary(self) -> Path:
        """Where contents may be written before they are whole."""
        self._make(self.folder / _TEMPORARY)
        return self._temporary("upload")

    def _temporary(self, what: str) -> Path:
        return self.folder / _TEMPORARY / f"{what}-{uuid.uuid4().hex}"

    def _path(self, digest: str) -> Path:
        return self.folder / _OBJECTS / checked(digest)[:2] / digest

    def _make(self, folder: Path) -> None:
        """Make a folder whose entry in the one above survives, too."""
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for one in reversed(missing):
            one.mkdir(exist_ok=True)
            sync_folder(one.parent)

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as found:
                return sorted(found, key=lambda entry: entry.name)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unavailable(error) from error

    def _trying(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except OSError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: OSError) -> FilesUnavailable:
        cure = "; make room on the disk, nothing was kept" if error.errno in _FULL else ""
        return FilesUnavailable(f"files cannot be kept or read in {self.folder}: {error}{cure}")

    def __reduce__(self) -> Any:
        return LocalFiles, (str(self.folder),)


class LocalUpload:
    """Contents on their way into a folder; see `Upload`."""

    def __init__(self, store: LocalFiles) -> None:
        self._store = store
        self._path = store.temporary()
        self._hash = sha256()
        self._size = 0
        self._file: BinaryIO | None = self._path.open("xb", buffering=0)

    def write(self, chunk: bytes) -> None:
        """The next piece."""
        assert self._file is not None
        left = memoryview(chunk)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise self._store._unavailable(error) from error
        self._hash.update(chunk)
        self._size += len(chunk)

    def commit(self, expected: str = "") -> tuple[str, int]:
        """Keep what was written; see `Upload.commit`."""
        file = self._file
        assert file is not None
        try:
            digest = agreed(self._hash.hexdigest(), expected, "the upload")
            place = self._store.place(digest)
            if self._store.mark(digest) != self._size:
                os.fsync(file.fileno())
                os.replace(self._path, place)
                sync_folder(place.parent)
        except OSError as error:
            raise self._store._unavailable(error) from error
        finally:
            self.abort()
        return digest, self._size

    def abort(self) -> None:
        """Forget what was written."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Have the entries of a folder survive a power cut."""
    if os.name == "nt":
        return  # where folders cannot be opened, and renames are written through
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
