"""The working folder of a run: tables as Arrow files, each named by what is in it.

A run's state is written to its store at every step, so a million rows must not be in it: the state holds names, the
rows are here. A name is the hash of the file's bytes. So a stage that runs again after a crash writes the same file
under the same name, a name that was recorded never means other rows later, and a file appears under its name only once
it is whole and on the disk: whatever is recorded can be gone on from.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from tempfile import NamedTemporaryFile

import attrs
import polars as pl

OURS = "__"
"""What columns begin with that are not the table's own."""
ROW = f"{OURS}row"
"""The column that says which row of the source a row is, whatever is dropped or changed on the way."""


@attrs.frozen
class Folder:
    """Tables by name. Any thread may use it, and several processes."""

    path: Path = attrs.field(converter=Path)

    def put(self, table: pl.DataFrame) -> str:
        """Keep a table, and tell its name."""
        self.path.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=self.path, suffix=".part", delete=False) as part:
            # Uncompressed it can be mapped into memory: five detectors then read the same pages, and copy none.
            table.rechunk().write_ipc(part, compression="uncompressed")
            part.flush()
            os.fsync(part.fileno())
        with open(part.name, "rb") as written:
            name = hashlib.file_digest(written, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        os.replace(part.name, self._file(name))
        return name

    def scan(self, name: str) -> pl.LazyFrame:
        """A table, read as far as it is needed."""
        file = self._file(name)
        if not file.exists():
            raise FileNotFoundError(f"the working file {file} is gone: begin anew with --anew")
        return pl.scan_ipc(file)

    def read(self, name: str) -> pl.DataFrame:
        """A table, all of it."""
        return self.scan(name).collect()

    def read_all(self, names: list[str], empty: pl.DataFrame) -> pl.DataFrame:
        """Several tables of one kind, one after the other."""
        return pl.concat([empty, *(self.read(name) for name in names)])

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.arrow"
