"""What existing clients say when they create a graph, in the words of our definitions.

They are read liberally where they are clear: nodes as names, as a mapping of names to tools or as objects; edges as a
mapping, as pairs or as objects; conditional edges with a branch for true and one for false, or with named branches; an
end that is called END, end or null. What is not known goes through as it is, so that the one reader of definitions
refuses it. Where a fault is then found, its pointer is led back to the place in the client's own words.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

import attrs

from ..shapes import below
from ..values import END
from .models import Object
from .problems import Detail, Refused, invalid

Data = dict[str, Any]

ENTRIES: Final = ("entry_point", "entry", "entry_node", "start_node", "start")
NAMES: Final = ("name", "id", "node_id")
TOOLS: Final = ("tool", "tool_name", "function", "func", "handler")
PARAMS: Final = ("params", "config")
SOURCES: Final = ("source", "from", "from_node")
TARGETS: Final = ("target", "to", "to_node")
CONDITIONS: Final = ("when", "condition")
IF_TRUE: Final = ("if_true", "true", "then", "true_target")
IF_FALSE: Final = ("if_false", "false", "else", "false_target")
ROUTERS: Final = ("choose", "condition", "router")
BRANCHES: Final = ("targets", "branches", "mapping", "routes", "path_map")
CONDITIONAL: Final = ("conditional_edges", "conditions")
BEGINNINGS: Final = ("__start__", "START")
ENDS: Final = ("END", "end", "__end__")

_TARGET: Final[Data] = {"type": ["string", "array", "object", "null"]}
_EDGES: Final[Data] = {
    "anyOf": [
        {"type": "object", "description": "source -> target, targets, or a condition", "additionalProperties": _TARGET},
        {"type": "array", "items": {"type": ["object", "array"]}, "description": "[source, target], or objects"},
    ]
}
AliasDefinition = Annotated[
    Object,
    "a graph as data, or in the words of existing clients",
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "description": "also its id; made up if it is left out"},
            "nodes": {
                "description": "names of tools, names mapped to tools, or objects with `name` and `tool`",
                "anyOf": [
                    {"type": "array", "items": {"type": ["string", "object"]}},
                    {"type": "object", "additionalProperties": {"type": ["string", "object", "null"]}},
                ],
            },
            "edges": _EDGES,
            "conditional_edges": {
                **_EDGES,
                "description": "`condition` with `if_true` and `if_false`, or with `branches` by the value that it "
                "has; an edge may say the same",
            },
            "entry_point": {"description": "where it begins; without it the one node that no edge leads to"},
        },
    },
]


@attrs.define
class Words:
    """A definition, and where in the client's words each part of it was said."""

    definition: Data
    places: dict[str, str]

    def place(self, pointer: str) -> str:
        """The pointer into what the client sent."""
        part = pointer
        while part:
            if part in self.places:
                return self.places[part] + pointer[len(part) :]
            part = part.rpartition("/")[0]
        return pointer

    def placed(self, refused: Refused) -> Refused:
        """The refusal of the definition, as one of what the client sent."""
        problem = refused.problem
        details = [
            each if each.pointer is None else attrs.evolve(each, pointer=self.place(each.pointer))
            for each in problem.errors
        ]
        return Refused(problem.status, problem.code, problem.detail, details, refused.headers, problem.facts)


def in_our_words(body: Mapping[str, Any]) -> Words:
    """The definition that this says; raises `Refused` with every place that is not clear."""
    if "steps" in body:
        return Words({**body}, {})
    return _Reader(body).read()


class _Reader:
    def __init__(self, body: Mapping[str, Any]) -> None:
        self._body = body
        self._faults: list[Detail] = []
        self._places: dict[str, str] = {}
        self._names: set[str] = set()
        self._nodes: list[Any] = []
        self._edges: list[Any] = []
        self._entries: list[str] = []

    def read(self) -> Words:
        read = {"nodes", "edges", *CONDITIONAL, *ENTRIES}
        found: Data = {key: value for key, value in self._body.items() if key not in read}
        if "nodes" in self._body:
            self._read_nodes(self._body["nodes"])
            found["nodes"] = self._nodes
        if "name" not in found:
            said = json.dumps(self._body, sort_keys=True, default=str)
            found["name"] = f"graph-{hashlib.sha256(said.encode()).hexdigest()[:16]}"
        for key in ("edges", *CONDITIONAL):
            if self._body.get(key) is not None:
                self._read_edges(self._body[key], f"/{key}")
        if self._edges:
            found["edges"] = self._edges
        self._read_entry(found)
        if self._faults:
            raise invalid(self._faults)
        return Words(found, self._places)

    # -- nodes

    def _read_nodes(self, said: Any) -> None:
        if isinstance(said, Mapping):
            for name, what in said.items():
                at = below("/nodes", name)
                if not isinstance(what, Mapping):
                    self._places[f"/nodes/{len(self._nodes)}/tool"] = at
                self._node(what if isinstance(what, Mapping) else {}, at, name)
                if not isinstance(what, Mapping) and what is not None:
                    self._nodes[-1]["tool"] = what
        elif isinstance(said, list):
            for index, what in enumerate(said):
                self._node(what, f"/nodes/{index}", None)
        else:
            self._fault("/nodes", f"expected a list or an object, found {type(said).__name__}")

    def _node(self, said: Any, at: str, name: str | None) -> None:
        here = f"/nodes/{len(self._nodes)}"
        self._places[here] = at
        if isinstance(said, str):
            node: Any = {"name": said}
        elif isinstance(said, Mapping):
            node = self._renamed(said, {"name": NAMES, "tool": TOOLS, "params": PARAMS}, at, here)
            if name is not None:
                node = {"name": name, **node}
            if "tool" in node and node["tool"] is None:
                del node["tool"]
        else:
            node = said
        if isinstance(node, dict) and isinstance(node.get("name"), str):
            self._names.add(node["name"])
        self._nodes.append(node)

    def _renamed(self, said: Mapping[str, Any], words: Mapping[str, Sequence[str]], at: str, here: str) -> Data:
        """The same with our names for what has others, of which one may be given."""
        ours = {word: name for name, theirs in words.items() for word in theirs}
        found: Data = {}
        for key, value in said.items():
            name = ours.get(key, key)
            if name in found and found[name] != value:
                self._fault(below(at, key), f"this is the {name}, of which there is another")
            found[name] = value
            self._places[below(here, name)] = below(at, key)
        return found

    # -- edges

    def _read_edges(self, said: Any, at: str) -> None:
        if isinstance(said, Mapping):
            for source, what in said.items():
                self._from(source, what, below(at, source))
        elif isinstance(said, list):
            for index, what in enumerate(said):
                place = f"{at}/{index}"
                if isinstance(what, list):
                    self._pair(what, place)
                elif isinstance(what, Mapping):
                    self._edge(what, place)
                else:
                    self._fault(place, "expected an edge: [source, target], or an object with source and target")
        else:
            self._fault(at, f"expected a list or an object, found {type(said).__name__}")

    def _pair(self, said: list[Any], at: str) -> None:
        if len(said) not in (2, 3):
            self._fault(at, f"expected source, target and perhaps a condition, found {len(said)} of them")
            return
        self._edge(dict(zip(("source", "target", "when"), said, strict=False)), at, {
            "source": f"{at}/0", "target": f"{at}/1", "when": f"{at}/2",
        })  # fmt: skip

    def _from(self, source: str, said: Any, at: str) -> None:
        """What stands behind a source in a mapping."""
        if isinstance(said, Mapping):
            self._edge({"source": source, **said}, at)
        elif isinstance(said, list):
            for index, each in enumerate(said):
                self._from(source, each, f"{at}/{index}")
        else:
            self._edge({"source": source, "target": said}, at, {"source": at, "target": at})

    def _edge(self, said: Mapping[str, Any], at: str, places: Mapping[str, str] | None = None) -> None:
        has = {name: key for name, words in _PARTS.items() if (key := next((w for w in words if w in said), None))}
        if "branches" in has and ("choose" in has or "when" in has):
            choice = {"choose": ROUTERS, "targets": BRANCHES, "source": SOURCES}
            self._put(said, choice, at, places)
        elif "true" in has or "false" in has:
            self._both(said, has, at)
        else:
            self._put(said, {"source": SOURCES, "target": TARGETS, "when": CONDITIONS}, at, places)

    def _both(self, said: Mapping[str, Any], has: Mapping[str, str], at: str) -> None:
        """An edge for each of two branches."""
        missing = [name for name in ("when", "true", "false") if name not in has]
        if missing:
            what = {"when": "condition", "true": "if_true", "false": "if_false"}[missing[0]]
            self._fault(
                at, f"a condition leads somewhere if it holds and if it does not; {what} is missing (null: END)"
            )
            return
        words = {"source": SOURCES, "when": CONDITIONS}
        rest = {key: value for key, value in said.items() if key not in (has["true"], has["false"])}
        otherwise = {key: value for key, value in rest.items() if key != has["when"]}
        self._put({**rest, "target": said[has["true"]]}, words, at, {"target": below(at, has["true"])})
        false = {**otherwise, "target": said[has["false"]], "otherwise": True}
        self._put(false, words, at, {"target": below(at, has["false"])})

    def _put(
        self, said: Mapping[str, Any], words: Mapping[str, Sequence[str]], at: str, places: Mapping[str, str] | None
    ) -> None:
        here = f"/edges/{len(self._edges)}"
        self._places[here] = at
        edge = self._renamed(said, words, at, here)
        for name, place in (places or {}).items():
            self._places[below(here, name)] = place
        source, target = edge.get("source"), edge.get("target")
        if source in BEGINNINGS and source not in self._names:
            if isinstance(target, str):
                self._entries.append(target)
                return
            self._fault(at, "the beginning leads to one node")
            return
        if "target" in edge:
            edge["target"] = [self._end(one) for one in target] if isinstance(target, list) else self._end(target)
        if isinstance(targets := edge.get("targets"), Mapping):
            edge["targets"] = {label: self._end(one) for label, one in targets.items()}
        elif isinstance(targets, list):
            edge["targets"] = [self._end(one) for one in targets]
        self._edges.append(edge)

    def _end(self, target: Any) -> Any:
        is_end = target is None or (isinstance(target, str) and target in ENDS and target not in self._names)
        return END if is_end else target

    # -- where it begins

    def _read_entry(self, found: Data) -> None:
        given = [key for key in ENTRIES if self._body.get(key) is not None]
        for key in given[1:]:
            if self._body[key] != self._body[given[0]]:
                self._fault(f"/{key}", f"{given[0]} says another: give one of them")
        if given:
            found["entry_point"] = self._body[given[0]]
            self._places["/entry_point"] = f"/{given[0]}"
        elif self._entries:
            found["entry_point"] = self._entries
        elif self._edges or len(self._names) == 1:
            led_to = {target for edge in self._edges for target in _targets(edge)}
            if len(first := [name for name in self._in_order() if name not in led_to]) == 1:
                found["entry_point"] = first[0]

    def _in_order(self) -> Iterator[str]:
        for node in self._nodes:
            if isinstance(node, dict) and isinstance(name := node.get("name"), str):
                yield name

    def _fault(self, at: str, message: str) -> None:
        self._faults.append(Detail(pointer=at, message=message))


_PARTS: Final[Mapping[str, Sequence[str]]] = {
    "true": IF_TRUE,
    "false": IF_FALSE,
    "branches": BRANCHES,
    "choose": ROUTERS,
    "when": CONDITIONS,
}


def _targets(edge: Any) -> Iterator[str]:
    for key in ("target", "targets"):
        said = edge.get(key)
        each = said.values() if isinstance(said, Mapping) else said if isinstance(said, list) else [said]
        yield from (one for one in each if isinstance(one, str) and one != edge.get("source"))
