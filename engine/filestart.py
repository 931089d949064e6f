"""The files that a run is submitted on: inside its state, and given beside it by their roles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .carried import FILES
from .errors import EphemeralRefused, FileMismatch, StateFault, StateInvalid
from .file import File
from .filebody import kept_inside
from .files.files import Files
from .files.inputs import input_files
from .plan import Plan
from .state import Values


async def with_files(plan: Plan, state: Any, given: Mapping[str, Any] | None, files: Files, *, recorded: bool) -> Any:
    """The state as it is admitted, all files in it and beside it kept."""
    if not plan.carries:
        raise FileMismatch("START", f"no node of graph {plan.name!r} takes files", list(given or ()))

    async def keep(file: File) -> File:
        if file.ephemeral and recorded:
            raise EphemeralRefused(
                f"the run is submitted on the ephemeral file {file.name!r}, which it would need after a crash, and "
                f"nothing makes it again; give it without ephemeral=True"
            )
        return await files.keep(file)

    if isinstance(state, Mapping) and FILES in state:
        raise StateInvalid.of("the initial state", [StateFault((FILES,), "the key is the engine's own")])
    # What does not fit is refused before anything is kept for it.
    values = plan.state.admit({} if state is None else state)
    numbered = enumerate(input_files(given or {}))
    found = [(role, "", number, await keep(file)) for number, (role, file) in numbered]
    kept: Values = await kept_inside(values, keep)
    return plan.state.seed({**kept, FILES: tuple(found)} if found or FILES not in kept else kept)
