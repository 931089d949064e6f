"""From a graph to the definition that means the same: the way back of definition.py.

Only what has a word in the format can be written: tools, conditions that are text, reducers and errors by name, types
that JSON has. All that has none is told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from .datastate import ABSENT, DataKey, DataState, DataType, NoWord
from .definition_format import OPTIONS, SETTINGS
from .errors import GraphInvalid, GraphProblem
from .named import error_name, reducer_name
from .options import NODE_OPTIONS, Batch, Breaker, Cache
from .plan import ChoiceDecl, EdgeDecl
from .reducers import by_name
from .retry import Retry
from .schema import Key, Schema, read_schema
from .texts import NotData, check_data
from .typecheck import shown, type_name
from .written import Written, WrittenNode, written_of

ToolName = Callable[[Any], str | None]
"""Under which name a function can be called as a tool."""


def definition_of(written: Written, defaults: Mapping[str, Any], tool_name: ToolName) -> dict[str, Any]:
    """The definition as plain data; raises `GraphInvalid` with everything that is no data."""
    writer = _Writer(defaults, tool_name)
    found = writer.graph(written)
    if graphs := writer.shared():
        found["graphs"] = graphs
    try:
        check_data(found)
    except NotData as error:
        writer.problems.append(GraphProblem("bad_definition", error.where, error.message, error.hint))
    if writer.problems:
        raise GraphInvalid.of(str(written.name), writer.problems)
    return found


class _Writer:
    def __init__(self, defaults: Mapping[str, Any], tool_name: ToolName) -> None:
        self.defaults = defaults
        self.tool_name = tool_name
        self.problems: list[GraphProblem] = []
        self._names: dict[int, str] = {}
        self._graphs: dict[str, dict[str, Any]] = {}

    def _fault(self, where: str, message: str, hint: str) -> None:
        self.problems.append(GraphProblem("bad_definition", where, message, hint))

    def graph(self, written: Written) -> dict[str, Any]:
        found: dict[str, Any] = {"name": written.name, "version": written.settings["version"]}
        if written.description:
            found["description"] = written.description
        found |= {key: value for key in SETTINGS if (value := written.settings[key]) != self.defaults[key]}
        if len(written.entries) == 1:
            found["entry_point"] = written.entries[0]
        elif written.entries:
            found["entry_point"] = list(written.entries)
        if (state := self._state(written)) is not None:
            found["state"] = state
        found["nodes"] = [self._node(node) for node in written.nodes]
        if written.edges:
            found["edges"] = [
                self._choice(edge) if isinstance(edge, ChoiceDecl) else self._edge(edge) for edge in written.edges
            ]
        return found

    def shared(self) -> dict[str, Any]:
        """The graphs inside, each once, however often it is used."""
        return dict(self._graphs)

    def _named(self, inner: Written) -> str:
        """The name under which a graph inside stands in the definition."""
        if id(inner) not in self._names:
            name, number = str(inner.name), 2
            while name in self._graphs:
                name, number = f"{inner.name}_{number}", number + 1
            self._names[id(inner)] = name
            self._graphs[name] = {}
            self._graphs[name] = self.graph(inner)
        return self._names[id(inner)]

    # --- state ----------------------------------------------------------------------------------------

    def _state(self, written: Written) -> dict[str, Any] | None:
        given = {name: by_name(reducer) for name, reducer in (written.settings["reducers"] or {}).items()}
        schema, problems = read_schema(written.state, given, names=dict(written.names or {}))
        if problems:
            self.problems += problems
            return None
        if not schema.closed and not schema.keys:
            return None
        if not schema.closed:
            hint = "declare the state's keys: state=TypedDict, an attrs class, or data"
            self._fault("state", "a dict with reducers but no declared keys is no data", hint)
            return None
        return {name: key.to_dict() for name, key in self._keys(schema)}

    def _keys(self, schema: Schema) -> Iterator[tuple[str, DataKey]]:
        if isinstance(schema.type, DataState):
            for name, declared in schema.type.keys.items():
                yield name, attrs.evolve(declared, reduce=self._reduce(schema.keys[name]))
            return
        defaults = _defaults(schema.type)
        for name, key in schema.keys.items():
            try:
                words = DataType.of(key.type)
            except NoWord:
                hint = "use str, int, float, bool, list, dict, None or Any"
                self._fault("state", f"JSON has no word for the type of {name!r}, {type_name(key.type)}", hint)
                continue
            yield name, DataKey(words, key.required, defaults.get(name, ABSENT), self._reduce(key))

    def _reduce(self, key: Key) -> str | None:
        name = reducer_name(key.reducer) if key.reducer is not None else None
        if key.reducer is not None and name is None:
            self._fault("state", f"the reducer of {key.name!r} has no name", "use one of engine's: Reduce('extend')")
        return name

    # --- nodes ----------------------------------------------------------------------------------------

    def _node(self, node: WrittenNode) -> dict[str, Any]:
        found: dict[str, Any] = {"name": node.name}
        if node.kind == "wait":
            signal = node.own["signal"]
            found["wait"] = {"signal": signal if isinstance(signal, str) else list(signal), "into": node.own["into"]}
        else:
            self._what(node, found)
        if node.kind == "map":
            found["map"] = self._map(node)
        for option in OPTIONS:
            value = node.options.get(option)
            if option in NODE_OPTIONS and value is not None:
                found[option] = self._option(node.name, option, value)
        return found

    def _what(self, node: WrittenNode, found: dict[str, Any]) -> None:
        inner = written_of(node.what)
        if inner is not None:
            found["graph"] = self._named(inner)
            return
        name = node.what if isinstance(node.what, str) else self.tool_name(node.what)
        if name is None:
            hint = "make it a tool: @tool above it"
            self._fault(node.name, f"its function {shown(node.what)} is no tool", hint)
        else:
            found["tool"] = name

    def _map(self, node: WrittenNode) -> dict[str, Any]:
        own = node.own
        if not isinstance(own["over"], str):
            self._fault(node.name, f"over is a function, {shown(own['over'])}", "give the name of a key")
        found = {"over": own["over"], "into": own["into"]}
        defaults = {"item": None, "concurrency": 64, "on_item_error": "fail"}
        return {**found, **{key: own[key] for key, default in defaults.items() if own[key] != default}}

    def _option(self, where: str, option: str, value: Any) -> Any:
        match value:
            case Retry():
                return self._retry(where, value)
            case Batch() | Breaker():
                return attrs.asdict(value)
            case Cache():
                return self._cache(where, value)
            case list() | tuple() if option == "retry":
                return [self._retry(where, one) for one in value]
            case set() | frozenset():
                return sorted(value)
            case tuple() | list():
                return list(value) if len(value) != 1 else value[0]
            case Mapping() if option in ("accepts", "produces"):
                return {name: self._option(where, option, one) for name, one in value.items()}
            case Mapping():
                return dict(value)
            case type():
                self._fault(where, f"{option} is a type, {shown(value)}", "name the keys")
        return value

    def _cache(self, where: str, cache: Cache) -> dict[str, Any]:
        found: dict[str, Any] = {"ttl": cache.ttl}
        if cache.keys:
            found["key"] = cache.keys[0] if len(cache.keys) == 1 else list(cache.keys)
        elif cache.key is not None:
            self._fault(where, f"the key of its cache is a function, {shown(cache.key)}", "name keys of the state")
        if cache.size != attrs.fields(Cache).size.default:
            found["size"] = cache.size
        return found

    def _retry(self, where: str, retry: Retry) -> dict[str, Any]:
        plain = {field.name: field.default for field in attrs.fields(Retry)}
        found = {name: value for name, default in plain.items() if (value := getattr(retry, name)) != default}
        if "on" in found:
            found["on"] = self._errors(where, found["on"])
        return found

    def _errors(self, where: str, kinds: Any) -> Any:
        names = []
        for kind in kinds if isinstance(kinds, tuple) else (kinds,):
            name = error_name(kind)
            if name is None:
                self._fault(where, f"the error {shown(kind)} has no name in a definition", "use one of Python's")
            else:
                names.append(name)
        return names[0] if len(names) == 1 else names

    # --- edges ----------------------------------------------------------------------------------------

    def _edge(self, edge: EdgeDecl) -> dict[str, Any]:
        where = f"{edge.source} -> {edge.target}"
        found: dict[str, Any] = {"source": edge.source, "target": edge.target}
        if edge.when is not None:
            found["when"] = self._text(where, edge.when)
        if edge.otherwise:
            found["otherwise"] = True
        if edge.on_error is not None:
            found["on_error"] = self._errors(where, edge.on_error)
        for option in ("max_iterations", "on_limit", "capacity"):
            if (value := getattr(edge, option)) is not None:
                found[option] = value
        return found

    def _choice(self, choice: ChoiceDecl) -> dict[str, Any]:
        targets = dict(choice.targets)
        plain = all(label == target for label, target in targets.items())
        where = f"{choice.source} -> {next(iter(targets.values()), '?')}"
        return {
            "source": choice.source,
            "choose": self._text(where, choice.router),
            "targets": list(targets) if plain else targets,
        }

    def _text(self, where: str, condition: Any) -> str:
        text = condition if isinstance(condition, str) else getattr(condition, "text", None)
        if not isinstance(text, str):
            self._fault(
                where, f"its condition {shown(condition)} is a function", "write it as text: when='state.x < 1'"
            )
            return ""
        return text


def _defaults(declared: Any) -> dict[str, Any]:
    """The defaults of an attrs class, as data."""
    if not attrs.has(declared):
        return {}
    found = {}
    for field in attrs.fields(declared):
        default = field.default
        if isinstance(default, attrs.Factory) and not default.takes_self:  # type: ignore[arg-type]
            default = default.factory()
        if default is not attrs.NOTHING:
            found[field.name] = default
    return found
