"""Where things stand in a definition: what compiling finds of a node is told at that node's JSON pointer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from .errors import GraphProblem
from .shapes import Found, below


@attrs.define
class Places:
    """Where the parts of a graph stand in its definition, so that what compiling finds is told there."""

    at: str
    nodes: dict[str, list[Found]] = attrs.field(factory=dict)
    edges: dict[str, list[Found]] = attrs.field(factory=dict)
    parts: dict[str, Places] = attrs.field(factory=dict)
    state: Mapping[str, Found] = attrs.field(factory=dict)

    def placed(self, problem: GraphProblem) -> GraphProblem:
        """The same problem at its JSON pointer."""
        at, name = self._find(problem.where, problem)
        message = f"{name}: {problem.message}" if name else problem.message
        return GraphProblem(problem.code, at or "/", message, problem.hint, problem.severity)

    def _find(self, where: str, problem: GraphProblem) -> tuple[str, str]:
        if problem.code == "duplicate_edge" and where in self.nodes:
            return below(self.at, "entry_point"), ""
        for known, kind in ((self.nodes, "node {!r}"), (self.edges, "{}")):
            if found := known.get(where):
                # What is there twice is told of the second.
                return deeper(found[-1 if problem.code.startswith("duplicate") else 0], problem), kind.format(where)
        source = where.partition(" -> ")[0]
        if source != where and source in self.nodes:
            # A way that is no edge is one that the node may choose by itself.
            return deeper(self.nodes[source][0], problem), where
        head, _, rest = where.partition("/")
        if rest and head in self.parts:
            return self.parts[head]._find(rest, problem)
        if where == "state":
            name = next(iter(_quoted(problem)), "")
            return deeper(self.state[name], problem) if name in self.state else below(self.at, "state"), ""
        if problem.code in ("no_entry_point", "unknown_node"):
            return below(self.at, "entry_point"), ""
        return self.at, ""


_CODES: Final[Mapping[str, Sequence[str]]] = {
    "unknown_tool": ["tool"],
    "bad_params": ["params"],
    "bad_condition": ["when", "choose", "on_error"],
    "bad_join": ["join", "rest"],
    "bad_reducer": ["reduce"],
    "unknown_key": ["when", "choose"],
    "unknown_node": ["source", "target", "targets", "goto"],
    "subgraph_cycle": ["graph"],
}
"""The keys that problems of a code are about."""


def deeper(found: Found, problem: GraphProblem) -> str:
    """The place of the very key of a part that a problem is about, where that is known."""
    keys = [key for key in _CODES.get(problem.code, ()) if key in found]
    for key in keys:
        for quoted in _quoted(problem):
            if (place := _among(found[key], quoted)) is not None:
                return below(found.at, key) + place
    words = problem.message.split(" ", 3)[:3]  # "timeout must be …", "into names …", "a node's name …"
    for inner in (found, found.get("map"), found.get("wait")):
        for word in words:
            if isinstance(inner, Found) and word in inner:
                return below(inner.at, word)
    return below(found.at, keys[0]) if keys and problem.code != "unknown_node" else found.at


def _among(names: Any, spoken_of: str) -> str | None:
    """Where the name that is spoken of stands among several: in a list, as a key, as what a key means."""
    if names == spoken_of:
        return ""
    if isinstance(names, list | tuple) and spoken_of in names:
        return below("", list(names).index(spoken_of))
    if isinstance(names, Mapping):
        if spoken_of in names:
            return below("", spoken_of)
        return next((below("", key) for key, name in names.items() if name == spoken_of), None)
    return None


def _quoted(problem: GraphProblem) -> list[str]:
    """The names that a message speaks of."""
    return re.findall(r"'([^']*)'", problem.message)
