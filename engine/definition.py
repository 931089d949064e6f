"""A graph as data: from what JSON or YAML holds to what an author would have written, with every fault at its place.

Reading runs nothing and imports nothing. What is faulty is told and left out, and the rest is compiled as well, so
that an unknown tool is told together with a key that there is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from .compiling import MOST_NESTED, Compiler, ToolSource
from .datastate import ABSENT, DataKey, DataState, DataType
from .definition_format import GRAPH, MAP, MOST_EDGES, MOST_NODES, SETTINGS, WAIT
from .definition_places import Places
from .errors import GraphInvalid, StateFault
from .named import FITTING
from .node_options import errors_of, names_of, read_options
from .plan import ChoiceDecl
from .reading import nothing
from .shapes import TOO_MANY, Faults, Found, below
from .texts import NotData, check_data
from .typecheck import Checks
from .written import Written, written_of

_PARTS: Final = {"map": MAP, "wait": WAIT}
_FOLLOWS: Final = ("unreachable", "no_exit")
"""Problems that may be there only because something faulty was left out."""


Make = Callable[..., Any]
"""`Graph`, which stands above this: what is read is built as an author would."""


def read_definition(data: Any, make: Make, tools: ToolSource | None, graphs: Mapping[str, Any]) -> Any:
    """The graph that a definition means; raises `GraphInvalid` with every fault, each at its JSON pointer.

    `graphs` are those that nodes may name, besides the definition's own.
    """
    try:
        check_data(data)
    except NotData as error:
        raise error.as_invalid() from None
    faults = Faults()
    sound = GRAPH.read(data, "", faults)
    if not isinstance(sound, Found):
        raise GraphInvalid.of("?", faults.problems)
    scope, places = _Scope(faults, make, sound.get("graphs", {}), graphs), Places("")
    graph = _Reader(scope, places).read(sound)
    named = scope.read_all()
    follows = {*_FOLLOWS} if faults.problems else set()
    if "entry_point" in sound.faulty:
        follows.add("no_entry_point")
    written = written_of(graph)
    assert written is not None
    inside = set(map(id, written.everything()))
    apart = [(found, at) for found, at in named if id(found) not in inside]
    if "nodes" in sound and scope.fits_together([(written, places), *named]):
        for what, at in [(written, places), *apart]:
            compiler = Compiler(what, tools)
            compiler.compile()
            problems = [problem for problem in compiler.problems if problem.severity == "error"]
            faults.problems += [at.placed(problem) for problem in problems if problem.code not in follows]
    if faults.problems:
        raise GraphInvalid.of(written.name, faults.told(data))
    return graph


class _Scope:
    """The graphs that can be named, each read once, when it is first."""

    def __init__(self, faults: Faults, make: Make, own: Mapping[str, Found], outside: Mapping[str, Any]) -> None:
        self.faults = faults
        self.make = make
        self.own = own
        self.outside = outside
        self._read: dict[str, tuple[Any, Places]] = {}
        self._open: list[str] = []

    def read_all(self) -> list[tuple[Written, Places]]:
        """All of the definition's own: of those that nobody names the faults count as well."""
        found = [self.find(name, graph.at) for name, graph in self.own.items() if "nodes" in graph]
        return [(graph._written, places) for graph, places in filter(None, found)]

    def find(self, name: str, at: str) -> tuple[Any, Places] | None:
        if name in self._open:
            chain = " in ".join(map(repr, [name, *reversed(self._open[self._open.index(name) :])]))
            hint = "a graph cannot contain itself; submit it from a node instead"
            self.faults.add(at, f"it runs graph {chain}", hint, "subgraph_cycle")
            return None
        if len(self._open) > MOST_NESTED:
            hint = "make the repetition a loop or a map"
            message = f"graphs are nested more than {MOST_NESTED} deep here"
            self.faults.add(at, message, hint, "subgraph_cycle")
            return None
        if name in self._read:
            return self._read[name]
        if name in self.own:
            self._open.append(name)
            places = Places(self.own[name].at)
            self._read[name] = _Reader(self, places).read(self.own[name]), places
            self._open.pop()
            return self._read[name]
        if name in self.outside:
            return self.outside[name], Places(at)
        hint = self.faults.hint(name, [*self.own, *self.outside]) or "define it under 'graphs'"
        self.faults.add(at, f"there is no graph {name!r}", hint, "unknown_node")
        return None

    def fits_together(self, graphs: Sequence[tuple[Written, Places]]) -> bool:
        """Whether all are small enough to be compiled, each graph inside counted as often as it is used."""
        sizes: dict[int, tuple[int, int]] = {}
        for what, places in graphs:
            nodes, edges = _size(what, sizes)
            for count, most, of in ((nodes, MOST_NODES, "nodes"), (edges, MOST_EDGES, "edges")):
                if count > most:
                    shown = f"{count:,}" if count < 10**9 else "more than a thousand million"
                    hint = "make the repetition a loop or a map, or make the graph in Python"
                    message = f"with the graphs inside it has {shown} {of}, and at most {most:,} are read"
                    self.faults.add(below(places.at, "nodes"), message, hint)
                    return False
        return not any(problem.code == "subgraph_cycle" for problem in self.faults.problems)


def _size(written: Written, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    if id(written) not in known:
        known[id(written)] = (0, 0)
        parts = [_size(part, known) for part in written.parts]
        nodes = len(written.nodes) + sum(nodes for nodes, _ in parts)
        drawn = sum(len(edge.targets) if isinstance(edge, ChoiceDecl) else 1 for edge in written.edges)
        gone = sum(len(names_of(node.options.get("goto") or ())) for node in written.nodes)
        known[id(written)] = nodes, drawn + gone + sum(edges for _, edges in parts)
    return known[id(written)]


class _Reader:
    """Reads one graph."""

    def __init__(self, scope: _Scope, places: Places) -> None:
        self.scope = scope
        self.faults = scope.faults
        self.places = places

    def read(self, sound: Found) -> Any:
        """The graph, of what is sound of its definition."""
        settings = {key: sound[key] for key in ("version", *SETTINGS) if key in sound}
        name = sound.get("name", "?")
        graph = self.scope.make(name, state=self._state(sound, name), **settings)
        for node in sound.get("nodes", ()):
            if "name" in node:
                self._node(graph, node)
        left = MOST_EDGES
        for edge in sound.get("edges", ()):
            left -= _drawn(edge)
            if left < 0:
                # Counted before they are drawn: two lists of thousands are millions of edges.
                message = f"its sources and targets make more than {MOST_EDGES:,} edges"
                self.faults.add(edge.at, message, TOO_MANY)
                break
            self._edge(graph, edge)
        graph._written.description = sound.get("description", "")
        return graph.set_entry_point(*names_of(sound.get("entry_point", ())))

    def _state(self, sound: Found, name: str) -> Any:
        if "state" not in sound:
            return dict
        self.places.state = sound["state"]
        keys = {key: _key(found) for key, found in sound["state"].items()}
        for key, found in keys.items():
            self._judge(key, sound["state"][key], found)
            check = Checks().of(found.type.python)
            if found.default is not ABSENT and check is not None:
                misfits: list[StateFault] = []
                check(found.default, (key, "default"), misfits)
                for misfit in misfits:
                    at = below(self.places.at, "state") + misfit.pointer
                    self.faults.add(at, f"the default does not fit: {misfit.message}", code="type_mismatch")
        return DataState(name, keys)

    def _judge(self, name: str, key: Found, read: DataKey) -> None:
        if "items" in key and "array" not in read.type.words:
            self.faults.add(below(key.at, "items"), f"{name!r} is no array, so it has no items", "leave items out")
        fitting = FITTING.get(read.reduce or "", ())
        if fitting and not {"any", *fitting} & {*read.type.words}:
            what = " or ".join(fitting)
            message = f"{read.reduce!r} is for {what}, and {name!r} is {' or '.join(read.type.words)}"
            self.faults.add(below(key.at, "reduce"), message, code="bad_reducer")

    # --- nodes ----------------------------------------------------------------------------------------

    def _node(self, graph: Any, node: Found) -> None:
        name = node["name"]
        self.places.nodes.setdefault(name, []).append(node)
        options = read_options(node)
        if any(key in node and not node[key].keys() >= set(shape.required) for key, shape in _PARTS.items()):
            # It lacks something, which has been said: to the rest of the graph it is any node.
            graph.add_node(name, nothing)
        elif "wait" in node:
            graph.add_wait(name, **node["wait"], **options)
        elif "map" in node:
            graph.add_map(name, self._what(node), **node["map"], **options)
        else:
            graph.add_node(name, self._what(node), **options)

    def _what(self, node: Found) -> Any:
        """What a node runs: a graph, or the tool that is called as it says, or as the node is."""
        if not node.faulty.isdisjoint(("graph", "tool")):
            return nothing
        if "graph" not in node:
            return node.get("tool", node["name"])
        graph, at = node["graph"], below(node.at, "graph")
        if isinstance(graph, str):
            found = self.scope.find(graph, at)
            if found is None:
                return nothing
            self.places.parts[node["name"]] = found[1]
            return found[0]
        places = self.places.parts[node["name"]] = Places(at)
        return _Reader(self.scope, places).read(graph)

    # --- edges ----------------------------------------------------------------------------------------

    def _edge(self, graph: Any, edge: Found) -> None:
        if "source" not in edge:
            return
        if "choose" in edge and "targets" in edge:
            for target in _targets(edge):
                self._placed(edge, target)
            graph.add_choice(edge["source"], edge["choose"], edge["targets"])
        elif "target" in edge:
            options = {key: value for key, value in edge.items() if key not in ("source", "target")}
            if "on_error" in options:
                options["on_error"] = errors_of(options["on_error"])
            for target in _targets(edge):
                self._placed(edge, target)
            graph.add_edge(edge["source"], edge["target"], **options)

    def _placed(self, edge: Found, target: str) -> None:
        for source in names_of(edge["source"]):
            self.places.edges.setdefault(f"{source} -> {target}", []).append(edge)


def _targets(edge: Found) -> Sequence[str]:
    targets = edge.get("target", edge.get("targets", ()))
    return tuple(targets.values()) if isinstance(targets, dict) else names_of(targets)


def _drawn(edge: Found) -> int:
    """How many edges one entry makes."""
    return len(names_of(edge.get("source", ()))) * len(_targets(edge))


def _key(found: Mapping[str, Any]) -> DataKey:
    plain = {key: value for key, value in found.items() if key not in ("type", "items")}
    return DataKey(type=_type(found), **plain)


def _type(found: Mapping[str, Any]) -> DataType:
    items = _type(found["items"]) if "items" in found else None
    return DataType(names_of(found.get("type", "any")), items)
