"""How far the maps of a run are: counted when somebody looks, so that an item costs nothing to be counted."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import TYPE_CHECKING

import attrs

from .maps import MapWork

if TYPE_CHECKING:
    from .live import Live


@attrs.frozen
class MapUnderWay:
    """One activation of a map: how many of its items are finished, and of how many if that is known."""

    node: str
    """With the activations that it is inside of: `sub#1/scores`."""
    activation: int
    done: int
    total: int | None


def maps_under_way(run: Live) -> Iterator[MapUnderWay]:
    """The maps of a run and its subgraphs that are at work; not those inside the items of a map."""
    for activation in run.active:
        work = getattr(activation, "work", None)
        if isinstance(work, MapWork):
            done = len(work.results) - len(work.at_work) + len(work.known)
            yield MapUnderWay(activation.name, activation.number, done, _total(work))
        elif (child := getattr(activation, "child", None)) is not None:
            yield from maps_under_way(child)


def _total(work: MapWork) -> int | None:
    over = work.decl.over
    items = work.owner.values.get(over) if isinstance(over, str) else None
    return len(items) if isinstance(items, Sized) else None
