"""Plain numbers that a scrape reads. Those who do the work keep them, an addition each."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import attrs

# Upper bounds in seconds. Each costs a line per node in every scrape, so they are few.
NODE_SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)
RUN_SECONDS: Final = (0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 600.0, 3600.0, 86400.0)


class Histogram:
    """How many took how long."""

    __slots__ = ("bounds", "buckets", "seconds")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.seconds += seconds
        self.buckets[bisect_left(self.bounds, seconds)] += 1

    def include(self, more: Histogram) -> None:
        """Count what another has counted, with the same bounds."""
        self.seconds += more.seconds
        self.buckets = [one + other for one, other in zip(self.buckets, more.buckets, strict=True)]


class Waits:
    """How often something waited, and for how long in all."""

    __slots__ = ("count", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.count += 1
        self.seconds += seconds


class RunCounts:
    """What all runs of one graph count together, beside what its crews count. Nodes are known by their labels."""

    __slots__ = ("durations", "ended", "inside", "join_waits", "loop_limits", "retries", "submitted")

    def __init__(self) -> None:
        self.submitted = 0
        self.ended: dict[str, int] = {}
        self.durations = Histogram(RUN_SECONDS)
        self.inside: dict[tuple[str, str], int] = {}
        """Activations that run no function (waits, maps, subgraphs), by node and outcome."""
        self.retries: dict[str, int] = {}
        """Of those."""
        self.loop_limits: dict[str, int] = {}
        self.join_waits: dict[str, Waits] = {}

    def ended_inside(self, node: str, outcome: str) -> None:
        """An activation of a wait, map or subgraph is over."""
        self.inside[node, outcome] = self.inside.get((node, outcome), 0) + 1

    def retried_inside(self, node: str) -> None:
        """An activation of a subgraph will be tried again."""
        self.retries[node] = self.retries.get(node, 0) + 1

    def loop_limit(self, node: str) -> None:
        """An edge of this node was at its limit."""
        self.loop_limits[node] = self.loop_limits.get(node, 0) + 1

    def joined(self, node: str, seconds: float) -> None:
        """A join ran, so long after its first token had come."""
        waits = self.join_waits.get(node)
        if waits is None:
            waits = self.join_waits[node] = Waits()
        waits.add(seconds)


@attrs.define
class FleetCounts:
    """What has become of leases and runs, at an engine that shares its store."""

    renewals_failed: int = 0
    leases_lost: int = 0
    claimed: int = 0
    taken_over: int = 0
    """Runs of other engines that it has made free for anybody."""
    poisoned: int = 0
