"""What a run is given as files, however it was said: a `File`, a path, bytes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import FileMismatch
from ..file import File
from ..typecheck import shown


def input_files(given: Mapping[str, Any]) -> list[tuple[str, File]]:
    """The files with their roles, in the order in which they were given; under one role there may be several.

    Raises `FileMismatch` for what is no file, and `OSError` for a path at which nothing can be read.
    """
    if not isinstance(given, Mapping):
        raise FileMismatch("START", f"files= is a mapping from roles to files, found {shown(given)}")
    found: list[tuple[str, File]] = []
    for role, value in given.items():
        if not _is_text(role):
            raise FileMismatch("START", f"a file's role is text, found {shown(role)}")
        several = isinstance(value, Iterable) and not isinstance(value, str | bytes | bytearray | os.PathLike | Mapping)
        found += [(role, _file(role, one)) for one in (value if several else (value,))]
    return found


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _file(role: str, value: Any) -> File:
    if isinstance(value, File):
        return value
    if isinstance(value, str | os.PathLike):
        return File.from_path(value)
    if isinstance(value, bytes | bytearray):
        return File.from_bytes(value, role)
    raise FileMismatch("START", f"the file {role!r} is a File, a path or bytes, found {shown(value)}")
