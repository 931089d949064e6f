"""What drives a run asks of its journal; it knows no more of it, and imports nothing of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .packing import Packer
from .runs import Run
from .tokens import Command

CarryOut = Callable[[Run, Sequence[Command]], None]


class Keeper(Packer, Protocol):
    """One run's way into the journal: `Run(journal=...)`."""

    def keep(self, run: Run, commands: Sequence[Command], carry_out: CarryOut) -> Sequence[Command]:
        """The commands that may be carried out now; the others are when what stands before them is safe."""
        ...

    def afterwards(self, call: Callable[[], None]) -> None:
        """Call when all commands so far may be carried out and have been: now, or behind those that are held."""
        ...

    def stop(self) -> None:
        """The engine failed on the run: nothing more is kept of it, and nothing more follows from what was."""
        ...

    @property
    def behind(self) -> bool:
        """Whether something is not safe yet that commands wait for."""
        ...

    async def safe(self) -> None:
        """Wait until all that was kept so far is safe."""
        ...


def keeper_of(run: Run) -> Keeper | None:
    """The way into the journal of a run that has one."""
    journal: Any = run.tree.journal
    return journal or None
