"""Where an engine's files are kept: what was said of it, or what its store has beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..ports import Store
from .files import Files
from .memory import MemoryFiles
from .urls import files_beside, open_files


def files_for(files: Any, store: Store | str | None) -> Files:
    """Where files are kept, by what was said of it, or of the store."""
    if isinstance(files, Files):
        return files
    if isinstance(files, str | Path):
        return Files(open_files(files))
    if files is not None:
        return Files(files)
    if store is None:
        return Files(MemoryFiles(forgets=True))
    beside = files_beside(store) if isinstance(store, str) else None
    return Files(beside, "this store keeps no files beside its runs; say where: Engine(..., files='s3://bucket')")


def check_files(store: Store, files: Files) -> None:
    """Refuse to have runs survive and what they name not."""
    if store.facts.durable and files.has_store and not files.store.durable:
        raise ValueError(
            f"the files of {store.facts.url} would be in memory only ({files.store.url}), and missing when its runs go "
            f"on after a restart; say files=a folder, or files='s3://bucket'"
        )
