"""What engines that share a store decide: when a lease is over, when to renew it, and which runs to claim. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import attrs

from .faults import positive_fault
from .stored import Losses

# A lease that is renewed twice within itself survives one renewal that is lost.
LEAST_RENEWALS: Final = 2.0


def _seconds(instance: Sharing, attribute: attrs.Attribute[Any], value: Any) -> None:
    if fault := positive_fault(value, whole=attribute.name == "claim"):
        raise ValueError(f"Sharing({attribute.name}={value!r}): {fault}")


def _takeovers(instance: Sharing, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (fault := positive_fault(value, whole=True)):
        raise ValueError(f"Sharing(takeovers={value!r}): {fault}; None sets no limit")


def _limits(instance: Sharing, attribute: attrs.Attribute[Any], value: Any) -> None:
    for graph, limit in value.items():
        if not isinstance(graph, str) or positive_fault(limit, whole=True):
            raise ValueError(
                f"Sharing(graph_runs={{{graph!r}: {limit!r}}}): names of graphs, each with a whole number above 0"
            )


@attrs.frozen(kw_only=True)
class Sharing:
    """How engines share a store: `Engine("postgresql://…", shared=Sharing(...))`. Times are in seconds.

    An engine that nobody hears of for `lease` has lost its runs to the others, which go on with them within another
    `poll`. It stops what it had in hand itself, by its own clock, no later than that.
    """

    lease: float = attrs.field(default=15.0, validator=_seconds)
    """How long an engine may be silent. While the server is away for longer, everything stands still."""
    renew: float = attrs.field(default=5.0, validator=_seconds)
    """How often it says that it is there."""
    poll: float = attrs.field(default=1.0, validator=_seconds)
    """How often it looks for what it should have been told."""
    claim: int = attrs.field(default=100, validator=_seconds)
    """Runs that it claims at once, at most."""
    takeovers: int | None = attrs.field(default=100, validator=_takeovers)
    """How many engines in a row may be lost with a run that gets no further: then it fails, with `PoisonRun`.

    A run that only waits does not count. Nobody knows which of those that an engine had in hand has ended it: so from
    half of that on a run is tried while no other such run is, and is so told from those that were only beside it. Less
    than 4 leaves no room for that. None tries for ever.
    """
    graph_runs: Mapping[str, int] = attrs.field(factory=dict, validator=_limits)
    """Of a graph, by its name, so many runs at work at most, in all engines together. Give all engines the same."""

    def __attrs_post_init__(self) -> None:
        if self.renew * LEAST_RENEWALS > self.lease:
            raise ValueError(
                f"Sharing(lease={self.lease!r}, renew={self.renew!r}): a lease must be renewed at least "
                f"{LEAST_RENEWALS:g} times within itself, or one renewal that is late loses it"
            )


class Lease:
    """A lease as its holder knows it, by its own clock. It ends no later than the server lets it."""

    def __init__(self, sharing: Sharing, asked_at: float) -> None:
        self._sharing: Final = sharing
        self.until = 0.0
        """When it is over, unless it is renewed."""
        self.due = 0.0
        """When it is to be renewed."""
        self.renewed(asked_at)

    def renewed(self, asked_at: float) -> None:
        """The server has renewed it. It counts from when it was asked: nobody knows how long the answer took."""
        self.until = max(self.until, asked_at + self._sharing.lease)
        self.due = max(self.due, asked_at + self._sharing.renew)

    def is_over(self, now: float) -> bool:
        """Whether others may have taken over by now."""
        return now >= self.until

    def wait_after_failure(self, now: float) -> float:
        """How long until the next attempt, when one has failed: as many as may save it, and not in a storm."""
        return max(0.0, min(self._sharing.renew / 10, self.until - now))


Judged = Literal["innocent", "suspect", "poison"]


def judged(losses: Losses | None, seq: int, most: int | None) -> Judged:
    """What is to be done with a run that has just been claimed, and whose last record is this.

    One that engines were lost with is `suspect`, unless it has got further since: it counts when it goes on.
    """
    if most is None or losses is None or losses.seq != seq:
        return "innocent"
    return "poison" if losses.times >= most else "suspect"


def wary_from(most: int | None) -> int | None:
    """From how many losses on a run is tried while no other such run is. Never after one: that anybody may have."""
    return None if most is None else max(2, (most + 1) // 2)


@attrs.frozen
class Candidate:
    """A run that waits for an engine."""

    number: int
    graph: str


def choose(candidates: Sequence[Candidate], most: int, room: dict[str, int]) -> list[int]:
    """The first so many for whose graph there is room, which is used up; a graph without an entry has no limit."""
    chosen: list[int] = []
    for candidate in candidates:
        left = room.get(candidate.graph)
        if len(chosen) == most:
            break
        if left is None:
            chosen.append(candidate.number)
        elif left > 0:
            room[candidate.graph] = left - 1
            chosen.append(candidate.number)
    return chosen


def places_for(*, max_runs: int | None, taken: int, at_once: int) -> int:
    """How many runs an engine may claim now."""
    return at_once if max_runs is None else max(0, min(at_once, max_runs - taken))


def begins_at_once(*, is_full: bool, others_wait: bool, inside: bool, is_limited: bool) -> bool:
    """Whether a run that is submitted begins where it is submitted, or waits for whoever has a place first.

    What a node submits begins beside it, or its run might wait for a place that itself holds. A run of a graph with a
    limit of all engines is counted where all are: when it is claimed.
    """
    return inside or not (is_full or others_wait or is_limited)
