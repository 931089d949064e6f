"""Files on a command line: those that a run is given, and those that it made, which go to a folder."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import EngineError
from ..file import LONGEST_NAME, File
from .faults import Refusal
from .streams import OutputLost


def inputs_of(given: Sequence[str]) -> dict[str, list[File]]:
    """The files of `ROLE=PATH`; raises `Refusal` for what cannot be read, before anything has begun."""
    found: dict[str, list[File]] = {}
    for text in given:
        role, equals, path = text.partition("=")
        if not equals or not role or not path:
            raise Refusal(f"--file {text!r} is none: write --file table=orders.csv")
        if not Path(path).is_file():
            kind = "a folder, not a file" if Path(path).is_dir() else "no file that can be read"
            raise Refusal(f"--file {role}: {path} is {kind}")
        try:
            found.setdefault(role, []).append(File.from_path(path))
        except (OSError, ValueError) as error:
            raise Refusal(f"--file {role}: {path} cannot be read: {error}") from error
    return found


def told(files: Sequence[File]) -> list[dict[str, Any]]:
    """Files as a result tells of them."""
    return [file.to_dict() for file in files]


def saved(files: Sequence[File], folder: str) -> list[dict[str, Any]]:
    """Write files to a folder, each under its own name, and tell where; raises `OutputLost`.

    What is there under that name is replaced at once and as a whole; a link is replaced, and not followed.
    """
    out, taken, found = Path(folder), set[str](), list[dict[str, Any]]()
    try:
        out.mkdir(parents=True, exist_ok=True)
        for file in files:
            name = _free(file.name, taken)
            part = out / f".{uuid.uuid4().hex}.part"
            try:
                file.blocking.save(part)
                os.replace(part, out / name)
            finally:
                part.unlink(missing_ok=True)
            found.append({**file.to_dict(), "path": str(out / name)})
    except OSError as error:
        raise OutputLost.of(error, f"--out {folder}") from error
    except EngineError as error:
        raise OutputLost(f"--out {folder}: {error}") from error
    return found


def _free(name: str, taken: set[str]) -> str:
    """The name, with a number if another file of the run has it."""
    stem, dot, ending = name.rpartition(".")
    found, number = name, 1
    while found.casefold() in taken:
        number += 1
        start, end = (stem, f"-{number}.{ending}") if dot and stem else (name, f"-{number}")
        # No longer than a name may be, and no half of a letter.
        found = start.encode()[: LONGEST_NAME - len(end.encode())].decode(errors="ignore") + end
    taken.add(found.casefold())
    return found
