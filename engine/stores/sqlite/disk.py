"""On what kind of disk a file is: not every one keeps what is written to it."""

from __future__ import annotations

import os

_MEMORY = {"tmpfs", "ramfs"}
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph", "glusterfs"}


def doubts(file: str) -> str | None:
    """Why what is synced may be lost all the same, if there is a reason."""
    kind = _file_system(os.path.realpath(file))
    if kind in _MEMORY:
        return f"{file} is in memory ({kind}): it is gone when the machine restarts"
    if kind in _NETWORK:
        return f"{file} is on a network file system ({kind}), where locks and syncs may not hold: use a local disk"
    return None


def _file_system(path: str) -> str | None:
    """Its kind, where the system tells (Linux)."""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
            found = [line.split()[1:3] for line in mounts]
    except OSError:
        return None
    above = [(place, kind) for place, kind in found if os.path.commonpath([place, path]) == place]
    # The longest is the nearest, and of two on one place the later lies on top.
    return max(enumerate(above), key=lambda item: (len(item[1][0]), item[0]))[1][1] if above else None
