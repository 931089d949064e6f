"""A place for files by its address. What a cloud needs is imported here only, and only when one is asked for."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import unquote, urlsplit

from ..ports import FileStore
from .local import LocalFiles
from .memory import MemoryFiles

KNOWN: Final = "file:///folder, memory://, s3://bucket/prefix, gs://bucket/prefix, az://account/container/prefix"
_CLOUDS: Final = frozenset({"s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss"})


def open_files(where: str | Path) -> FileStore:
    """The place at an address, or in a folder; nothing is opened before something is kept or read.

    Raises `ValueError` for an address that names no place, `ImportError` if obstore is not installed.
    """
    if isinstance(where, Path):
        return LocalFiles(where)
    scheme, colon, rest = where.partition("://")
    match scheme if colon else "":
        case "":
            if where:
                return LocalFiles(where)
        case "file":
            parts = urlsplit(where)
            if parts.path.strip("/") and not parts.netloc:
                return LocalFiles(unquote(parts.path))
        case "memory":
            return MemoryFiles()
        case cloud if cloud in _CLOUDS and rest:
            return cast(FileStore, _objects()(where))
    shown = where.partition("?")[0]
    raise ValueError(f"no place for files has the address {shown!r}; known are a folder, {KNOWN}")


def _objects() -> Any:
    try:
        return importlib.import_module(".objects", __package__).ObjectFiles
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "obstore":
            raise
        raise ImportError(
            "ObjectFiles needs obstore, which is not installed: pip install 'workflow-engine[files]'", name="obstore"
        ) from error


def files_beside(store: str) -> FileStore | None:
    """Where files are kept for a store that nobody has said it for: beside the SQLite file, in memory, or nowhere."""
    scheme, _, rest = store.partition("://")
    if scheme == "sqlite" and rest.startswith("/") and rest != "/":
        return LocalFiles(f"{rest[1:]}.files")
    return MemoryFiles() if scheme == "memory" else None
