"""One process at a time: a lock on a file beside the database.

It is the operating system's, so it dies with its process, however that ends. A POSIX lock rather than `flock`, which
a child that was forked goes on holding. But that one is nothing between two stores of one process, and gone as soon as
the process closes the file anywhere: so those are told apart here, before the file is opened. The file stays: whoever
removed it could let two others lock two files of one name.
"""

from __future__ import annotations

import os
import sys
from typing import ClassVar

from ...errors import StoreUnavailable

if sys.platform == "win32":
    import msvcrt

    # Far behind the text: what is locked there cannot be read either.
    _PLACE = 1 << 30

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _PLACE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class FileLock:
    """Held by one store on one file."""

    # By real path, with the process: what was forked has a copy, but not the lock.
    _held: ClassVar[dict[str, int]] = {}

    def __init__(self, file: str) -> None:
        self._file = os.path.realpath(file)
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take it, or raise `StoreUnavailable` with the process that has it; does nothing when it is held."""
        if self._descriptor is not None:
            return
        if self._held.get(self._file) == os.getpid():
            raise self._refused("another store of this process", os.getpid())
        try:
            descriptor = os.open(f"{self._file}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            _lock(descriptor)
        except OSError:
            holder = os.read(descriptor, 20).decode(errors="replace").strip()
            os.close(descriptor)
            raise self._refused(f"process {holder or 'of unknown id'}", holder) from None
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, b"%d\n" % os.getpid())
        except OSError as error:
            os.close(descriptor)
            raise self._unwritable(error) from error
        self._descriptor = descriptor
        self._held[self._file] = os.getpid()

    def release(self) -> None:
        """Give it back, if it is held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            del self._held[self._file]
            os.close(descriptor)

    def _unwritable(self, error: OSError) -> StoreUnavailable:
        return StoreUnavailable(
            f"the store {self._file} is not available: {self._file}.lock cannot be written ({error.strerror}); "
            f"the folder must be there with room on its disk, and this user have the right to write to it",
            facts={"file": self._file, "code": error.errno},
        )

    def _refused(self, who: str, pid: object) -> StoreUnavailable:
        return StoreUnavailable(
            f"the store {self._file} is in use by {who}: one process at a time can have it; end the other, give this "
            f"one another file, or share a postgresql:// store",
            facts={"file": self._file, "pid": pid},
        )
