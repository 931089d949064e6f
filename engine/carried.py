"""The files that a token carries: a tuple under one key of its values that no state type shows.

What a node makes takes the place of what it was given; what makes none passes them on. Where tokens meet, each brings
its own, in the order of the join's edges. So which files come where depends on the edges taken, and on nothing else:
no clock, no scheduler, no name that two nodes might share.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

FILES: Final = "$files"
"""The key. No state has one of this name: it would be refused where the state comes in."""

Carried = tuple[Any, ...]
"""One file on its way: its role ('' if it has none), the activation that made it ('' for what the run was submitted
on), its number among those, the file itself, and, with the first ephemeral one of an activation, what all of those
can be made of again if they are gone after a crash."""

ROLE: Final = 0
ORIGIN: Final = 1
NUMBER: Final = 2
FILE: Final = 3
RECIPE: Final = 4


class _Branch(Protocol):
    @property
    def values(self) -> Mapping[str, Any]: ...


def carried(values: Mapping[str, Any]) -> tuple[Carried, ...]:
    """The files that come with these values."""
    found: tuple[Carried, ...] = values.get(FILES, ())
    return found


def files_of(values: Mapping[str, Any]) -> tuple[Any, ...]:
    """The files themselves, in their order."""
    return tuple(one[FILE] for one in values.get(FILES, ()))


def gathered(branches: Iterable[_Branch]) -> tuple[Carried, ...]:
    """The files of branches that meet, in their order; what came by two ways is there once."""
    found: dict[tuple[str, int], Carried] = {}
    for branch in branches:
        for one in branch.values.get(FILES, ()):
            found.setdefault((one[ORIGIN], one[NUMBER]), one)
    return tuple(found.values())


def without_files(values: dict[str, Any]) -> dict[str, Any]:
    """The values that a state shows."""
    if FILES not in values:
        return values
    return {key: value for key, value in values.items() if key != FILES}
