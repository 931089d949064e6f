"""The small values that authors write and nodes receive.

They stand lowest: the plan, the decisions and the scheduler all read them.
`END` and `STOP` are plain strings and reserved node names, so that a router's
answer, a journal record and a graph written as JSON need no special case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal

import attrs

END: Final = "END"
"""The target that ends a branch on purpose."""

STOP: Final = "STOP"
"""The target that ends the whole run, with success, at once."""

RESERVED: Final = frozenset({END, STOP})


def _names(target: str | Iterable[str]) -> tuple[str, ...]:
    return (target,) if isinstance(target, str) else tuple(target)


@attrs.frozen
class Goto:
    """Returned by a node: go to these targets instead of along the node's edges.

    `update` is the activation's update, as if it had been returned by itself.
    """

    targets: tuple[str, ...] = attrs.field(converter=_names)
    update: Any = None


@attrs.frozen
class Replace:
    """Set a key that has a reducer, instead of contributing to it."""

    value: Any


@attrs.frozen
class Reduce:
    """Mark a key's type with its reducer: `Annotated[list[str], Reduce(operator.add)]`.

    The function gets the value so far and one contribution and returns the new
    value; it must change neither. `append`, `extend`, `add`, `max`, `min`, `merge`
    and `union` are known by their names: `Reduce("extend")`.
    """

    function: Callable[[Any, Any], Any] | str


@attrs.frozen
class Signal:
    """What a wait for several signals puts into the state: which came, and with what."""

    name: str
    payload: Any = None


@attrs.frozen
class ItemError:
    """In a map with `on_item_error="keep"`: stands where an item's result would be."""

    index: int
    type: str
    message: str


@attrs.frozen
class Arrival:
    """How one incoming edge of a join stood when the join ran."""

    source: str
    status: Literal["arrived", "skipped", "failed"]
    activation: int | None = None


Reducer = Callable[[Any, Any], Any]
"""`reduce(value, contribution)` gives the new value and changes neither."""

Update = Mapping[str, Any]
"""What an activation changed: state keys and their new values (or contributions)."""
