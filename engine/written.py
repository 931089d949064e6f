"""A graph as it was written: names and values, nothing judged yet.

The builder only writes down. So a graph may be written in any order, every
fault is found together with all others, and writing costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import attrs

from .plan import ChoiceDecl, EdgeDecl

Kind = Literal["function", "map", "wait"]


@attrs.define(eq=False)
class WrittenNode:
    """One node: what it was given to run, its options, and for maps and waits their own arguments."""

    name: str
    kind: Kind
    what: Any
    options: Mapping[str, Any]
    own: Mapping[str, Any]
    names: Mapping[str, Any] | None = None
    """What annotations written as strings mean, if the function was defined inside another."""


@attrs.define(eq=False)
class Written:
    """Everything an author wrote. `revision` grows with every change."""

    name: str
    state: Any
    settings: Mapping[str, Any]
    nodes: list[WrittenNode] = attrs.field(factory=list)
    edges: list[EdgeDecl | ChoiceDecl] = attrs.field(factory=list)
    entries: tuple[str, ...] = ()
    names: Mapping[str, Any] | None = None
    parts: list[Written] = attrs.field(factory=list)
    """The graphs that nodes of this one run."""
    tools: list[str] = attrs.field(factory=list)
    revision: int = 0
    description: str = ""

    def add(self, node: WrittenNode) -> None:
        self.nodes.append(node)
        if (part := written_of(node.what)) is not None:
            self.parts.append(part)
        elif isinstance(node.what, str):
            self.tools.append(node.what)
        self.revision += 1

    def everything(self, seen: set[int] | None = None) -> Iterator[Written]:
        """This graph and all that it contains, each once."""
        seen = set() if seen is None else seen
        if id(self) not in seen:
            seen.add(id(self))
            yield self
            for part in self.parts:
                yield from part.everything(seen)


def written_of(what: Any) -> Written | None:
    """What a `Graph` was written as, or None for anything else."""
    found = getattr(what, "_written", None)
    return found if isinstance(found, Written) else None
