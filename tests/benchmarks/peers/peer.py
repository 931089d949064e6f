"""What an adapter is: the same few shapes of work, written as the engine that it is for would have them written.

An adapter builds a shape once, outside of what is timed, and gives a function that runs it once and returns its result.
It does nothing else: what the work is, how often it runs, whether the result is right and what it took are the
worker's business, so that no adapter can make its engine look better than it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar, Literal

from attrs import frozen

State = Mapping[str, Any]
Work = Callable[[State], Awaitable[int]]  # what a node of a chain makes of the key "n"
Run = Callable[[], Coroutine[Any, Any, Any]]
Prepared = AbstractAsyncContextManager[Run]
Durability = Literal["standard", "strict"]


class Cannot(Exception):
    """This engine has no way to do that; the text says why."""


@frozen
class Dag:
    """Tasks that wait for others, in topological order; each is a coroutine function without arguments or result."""

    parents: tuple[tuple[int, ...], ...]
    tasks: Sequence[Callable[[], Awaitable[None]]]

    @property
    def children(self) -> tuple[tuple[int, ...], ...]:
        found: list[list[int]] = [[] for _ in self.parents]
        for task, parents in enumerate(self.parents):
            for parent in parents:
                found[parent].append(task)
        return tuple(map(tuple, found))

    @property
    def sources(self) -> tuple[int, ...]:
        return tuple(task for task, parents in enumerate(self.parents) if not parents)

    @property
    def sinks(self) -> tuple[int, ...]:
        return tuple(task for task, children in enumerate(self.children) if not children)


class Peer:
    """An engine; what it does not override, it cannot do, and `cannot` says why."""

    name: ClassVar[str]
    distributions: ClassVar[tuple[str, ...]]  # whose versions are printed
    module: ClassVar[str]  # what has to be imported to define and run a graph
    configuration: ClassVar[str]  # what was chosen, in one line
    cannot: ClassVar[Mapping[str, str]] = {}  # by the name of the method

    def chain(self, works: Sequence[Work], beside: State | None = None) -> Prepared:
        """One node per work, each after the other, over a state {"n": 0, **beside}; the result is the last "n"."""
        raise Cannot(self.cannot["chain"])

    def fan(self, width: int) -> Prepared:
        """One node, then so many side by side, each adding its number, then one; the result is all numbers, sorted."""
        raise Cannot(self.cannot["fan"])

    def loop(self, iterations: int) -> Prepared:
        """Two nodes round and round, the first adding one to "n", until "n" is `iterations`; the result is "n"."""
        raise Cannot(self.cannot["loop"])

    def dag(self, dag: Dag) -> Prepared:
        """Every task after its parents and not before; the result is of no interest."""
        raise Cannot(self.cannot["dag"])

    def processor(self, work: Callable[[], None], branches: int) -> Prepared:
        """A plain function that fills a processor, in so many branches side by side, by the engine's own means."""
        raise Cannot(self.cannot["processor"])

    def durable(self, works: Sequence[Work], folder: Path) -> Prepared:
        """`chain`, where every step is on disk before the run has ended."""
        raise Cannot(self.cannot["durable"])
