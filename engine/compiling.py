"""From a graph as written to its plan, with every problem on the way.

What is faulty is reported and left out, or put in with its default, so that one
fault does not hide the next: the plan of what remains is judged too (checks.py).
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, Protocol

import attrs

from . import checks
from .call import PLAIN, Call, Signature, analyse, returns_goto, signature_of
from .errors import GraphProblem
from .nodespec import NodeSpec
from .options import (
    NODE_OPTIONS,
    edge_option_faults,
    graph_option_faults,
    join_fault,
    mapping_fault,
    node_option_faults,
    one_of_fault,
    parse_rate,
    positive_fault,
)
from .plan import (
    ChoiceDecl,
    EdgeDecl,
    GraphDecl,
    MapDecl,
    NodeDecl,
    Plan,
    SubgraphDecl,
    WaitDecl,
    compile_plan,
)
from .schema import Key, Schema, View, did_you_mean, is_state_type, read_schema, view_of
from .typecheck import fits, is_union, shown, type_name, unwrap
from .values import RESERVED, Reducer
from .written import Written, WrittenNode, written_of


class ToolSource(Protocol):
    """Finds tools by name: a registry, or any mapping from names to functions."""

    def get(self, name: str, /) -> Callable[..., Any] | None: ...


@attrs.frozen
class Reading:
    """What was found out about a function, for every node that runs it."""

    call: Call
    view: View | None
    spec: NodeSpec
    signature: Signature | None = None
    goes: bool = False
    """It says that it may return a `Goto`."""
    faults: tuple[tuple[str, str, str], ...] = ()
    """(code, message, hint)"""


_UNREAD = Reading(PLAIN, None, NodeSpec(run_in="thread"))


class Compiler:
    """Compiles one graph. `parts` remembers plans of subgraphs; `outer` are the graphs that contain it."""

    def __init__(
        self,
        written: Written,
        tools: ToolSource | None = None,
        inherited: Mapping[str, Reducer] | None = None,
        outer: tuple[Written, ...] = (),
    ) -> None:
        self.written = written
        self.tools = tools
        self.inherited = dict(inherited or {})
        self.outer = (*outer, written)
        self.problems: list[GraphProblem] = []
        self.schema = self._schema()
        self._readings: dict[Any, Reading] = {}
        self._views: dict[Any, Schema] = {}
        self._conditions: dict[Any, str] = {}
        self.known = {node.name for node in written.nodes} - RESERVED
        self._loose = checks.Loose()

    def problem(self, code: str, where: str, message: str, hint: str = "") -> None:
        self.problems.append(GraphProblem(code, where, message, hint))

    def compile(self) -> Plan:
        """The plan of what is sound; only if `problems` holds no error may it be used."""
        self._settings()
        nodes = self._nodes()
        edges = self._edges()
        entries = self._entries()
        decl = GraphDecl(state=self.schema, nodes=nodes, edges=edges, entries=entries, **self._decl_settings())
        plan = compile_plan(decl)
        self.problems += checks.structure(plan, self._loose)
        return plan

    # --- the graph itself -----------------------------------------------------------------------------

    def _schema(self) -> Schema:
        settings = self.written.settings
        reducers = settings.get("reducers") or {}
        if not isinstance(reducers, Mapping):
            self.problem("bad_reducer", "state", f"reducers must be a mapping, found {shown(reducers)}")
            reducers = {}
        isolation: Any = settings["isolation"]
        schema, found = read_schema(
            self.written.state,
            reducers,
            names=dict(self.written.names or {}),
            isolation=isolation if isolation in ("deep", "check") else "shallow",
            always=settings["check"] == "always",
        )
        self.problems += found
        return self._inheriting(schema)

    def _inheriting(self, schema: Schema) -> Schema:
        keys = dict(schema.keys)
        for name, reducer in self.inherited.items():
            key = keys.get(name, Key(name))
            if key.reducer is None:
                keys[name] = attrs.evolve(key, reducer=reducer, required=key.required and bool(key.argument))
        return schema.evolve(keys=keys) if self.inherited else schema

    def _settings(self) -> None:
        name: Any = self.written.name
        if not isinstance(name, str) or not name:
            self.problem("bad_option", "graph", f"a graph's name must be text, found {shown(name)}")
        for option, fault in graph_option_faults(self.written.settings):
            self.problem("bad_option", str(name), f"{option} {fault}")

    def _decl_settings(self) -> dict[str, Any]:
        faulty = {option for option, _ in graph_option_faults(self.written.settings)}
        names = ("max_iterations", "max_activations", "on_failure", "conflicts", "history", "deadline")
        sound = {n: self.written.settings[n] for n in names if n not in faulty}
        return {"name": str(self.written.name), "version": str(self.written.settings["version"]), **sound}

    # --- nodes ----------------------------------------------------------------------------------------

    def _nodes(self) -> tuple[NodeDecl, ...]:
        found: dict[str, NodeDecl] = {}
        for written in self.written.nodes:
            name = written.name
            if self._name_is_free(name, found):
                found[name] = self._node(written)
        return tuple(found.values())

    def _name_is_free(self, name: Any, found: Mapping[str, NodeDecl]) -> bool:
        if not isinstance(name, str) or not name:
            self.problem("bad_option", str(name), f"a node's name must be text, found {shown(name)}", "give it name=")
            return False
        if name in found:
            self.problem("duplicate_node", name, "there are two nodes of this name", "give one another name")
            return False
        if name in RESERVED:
            self.problem("duplicate_node", name, f"{name!r} is the engine's own", "give the node another name")
            return False
        if "/" in name or "#" in name:
            # They separate the parts of an activation's address: `sub#1/inner#2`.
            self.problem("bad_option", name, "a node's name may contain neither '/' nor '#'", "rename the node")
        return True

    def _node(self, written: WrittenNode) -> NodeDecl:
        if written.kind == "wait":
            return self._wait(written)
        if written.kind == "map":
            return self._map(written)
        if written_of(written.what) is not None:
            return self._subgraph(written)
        name, options = written.name, written.options
        function, tool = self._function(written)
        reading = self._reading(function, written)
        for code, message, hint in reading.faults:
            self.problem(code, name, message, hint)
        if reading.goes and not options.get("goto"):
            hint = "declare where it may go: goto=['...']"
            self.problem("undeclared_goto", name, "it returns a Goto, whose targets are not declared", hint)
        view = self._own_view(reading.view, name)
        if not options and tool is None:
            return NodeDecl(name=name, function=function, view=view, options=reading.spec)
        shared = self._shared_options(written)
        self._only_for("a subgraph", written, "inputs", "outputs")
        if reading.signature is not None:
            self._check_place(written, reading.signature)
        accepted = self._accepted(options, name)
        spec = self._spec(reading, written, tool)
        return NodeDecl(
            name=name, function=function, view=self._own_view(accepted, name) or view, options=spec, **shared
        )

    def _function(self, written: WrittenNode) -> tuple[Any, str | None]:
        """The function of a node, found by its name if it is a tool."""
        what = written.what
        if not isinstance(what, str):
            if callable(what):
                return what, None
            hint = "give a function, a Graph or a tool's name"
            self.problem("bad_option", written.name, f"{shown(what)} cannot be run", hint)
            return _nothing, None
        function = self.tools.get(what) if self.tools is not None else None
        if function is None:
            tools: Any = self.tools
            hint = (
                did_you_mean(what, map(str, tools) if isinstance(tools, Iterable) else ())
                or "register it, or give the function itself"
            )
            self.problem("unknown_tool", written.name, f"no tool is called {what!r}", hint)
            return _nothing, what
        return function, what

    def _own_view(self, view: View | None, name: str) -> Any:
        """What the node reads, if not the whole state; with `isolation="check"` errors must name the node."""
        if self.schema.isolation != "check":
            return view
        whole = self.schema.evolve(node=name)
        return whole if view is None else View(whole, view.narrow.evolve(node=name))

    def _reading(self, function: Any, written: WrittenNode, *, is_map: bool = False) -> Reading:
        if function is _nothing:
            return _UNREAD
        params = written.options.get("params")
        params = params if isinstance(params, Mapping) else None
        key = _same_code(function, is_map) if not params else None
        if key is not None and (known := self._readings.get(key)):
            return known
        reading = self._read(function, params, written.names, is_map)
        if key is not None:
            self._readings[key] = reading
        return reading

    def _read(self, function: Any, params: Any, names: Any, is_map: bool) -> Reading:
        try:
            signature = signature_of(function, names)
        except (ValueError, TypeError):
            # Some built-in functions show no signature; they are taken at their word.
            return _UNREAD
        call, subject, found = analyse(signature, params, is_map=is_map)
        faults = [("bad_params", message, hint) for message, hint in found]
        if signature.is_generator:
            faults.append(("bad_option", "its function is a generator", "return the changes instead of yielding"))
        view = None
        if subject is not None:
            view, more = self._view(subject.name, subject.annotation, names)
            faults += more
        spec = NodeSpec(
            call=call,
            is_async=signature.is_async,
            run_in="loop" if signature.is_async else "thread",
            gives=self._gives(signature.returns),
        )
        return Reading(call, view, spec, signature, returns_goto(function, signature), tuple(faults))

    def _view(self, parameter: str, hint: Any, names: Any) -> tuple[View | None, list[tuple[str, str, str]]]:
        """The view that a parameter's annotation asks for; None if it gets the whole state."""
        hint = unwrap(hint)
        schema = self.schema
        if is_union(hint):
            hint = next((arg for arg in typing.get_args(hint) if is_state_type(arg)), None)
        if hint is None or hint is schema.type or hint in (Any, object) or hint == schema.type:
            return None, []
        if isinstance(hint, str):
            if hint == schema.name:
                return None, []
            cure = "define it at module level, or where the node is added"
            return None, [("type_mismatch", f"the annotation {hint!r} of {parameter!r} cannot be resolved", cure)]
        plain = typing.get_origin(hint) or hint
        if not isinstance(plain, type) and not typing.is_typeddict(hint):
            return None, []
        if is_state_type(hint) and not _is_dict(plain):
            return self._narrow(hint, names)
        if _is_dict(plain) and _is_dict(_base(schema)):
            return None, []
        if getattr(plain, "_is_protocol", False) or (
            isinstance(_base(schema), type) and issubclass(_base(schema), plain)
        ):
            return None, []
        message = f"its parameter {parameter!r} is annotated {type_name(hint)}, but it is given a {schema.name}"
        cure = f"annotate it {schema.name}, or with a TypedDict or attrs class of some of its keys"
        return None, [("type_mismatch", message, cure)]

    def _narrow(self, hint: Any, names: Any) -> tuple[View | None, list[tuple[str, str, str]]]:
        narrow = self._views.get(hint)
        faults: list[GraphProblem] = []
        if narrow is None:
            narrow, faults = read_schema(hint, names=dict(names or {}), isolation=self.schema.isolation)
            self._views[hint] = narrow
        view, more = view_of(self.schema, narrow, "")
        return view, [(p.code, p.message, p.hint) for p in (*faults, *more)]

    # --- options --------------------------------------------------------------------------------------

    def _shared_options(self, written: WrittenNode) -> dict[str, Any]:
        """The options that every kind of node has, as `NodeDecl` wants them; faulty ones left out."""
        options, name = written.options, written.name
        for option in options:
            if option not in NODE_OPTIONS:
                self.problem("bad_option", name, f"there is no option {option!r}", did_you_mean(option, NODE_OPTIONS))
        faulty = set()
        for option, fault in node_option_faults(options):
            faulty.add(option)
            self.problem("bad_option", name, f"{option} {fault}")
        shared = {o: options[o] for o in ("timeout", "rest") if options.get(o) is not None and o not in faulty}
        retry = options.get("retry")
        if retry is not None and "retry" not in faulty:
            shared["retry"] = tuple(retry) if isinstance(retry, list | tuple) else (retry,)
        self._join(written, shared)
        if goto := options.get("goto"):
            shared["goto"] = self._goto(written.name, goto)
        self._params(written)
        return shared

    def _join(self, written: WrittenNode, shared: dict[str, Any]) -> None:
        join = written.options.get("join")
        if join is not None:
            if fault := join_fault(join):
                self.problem("bad_join", written.name, f"join {fault}")
                return
            shared["join"] = join
        if shared.get("rest") is not None and shared.get("join", "all") in ("all", "any"):
            hint = "use join='first' or join=k with it, or leave rest out"
            self.problem("bad_join", written.name, "rest is for joins that do not take every arrival", hint)

    def _goto(self, name: str, goto: Any) -> tuple[str, ...]:
        targets = (goto,) if isinstance(goto, str) else tuple(goto) if isinstance(goto, Iterable) else (goto,)
        found = tuple(t for t in targets if self._target_exists(name, t, f"{name} -> {t}"))
        return tuple(dict.fromkeys(found))

    def _params(self, written: WrittenNode) -> None:
        params = written.options.get("params")
        if params is None:
            return
        if fault := mapping_fault(params):
            self.problem("bad_params", written.name, f"params {fault}")
        elif written.kind == "wait" or written_of(written.what) is not None:
            self.problem("bad_params", written.name, "only a function takes params", "leave params out")

    def _only_for(self, kind: str, written: WrittenNode, *options: str) -> None:
        for option in options:
            if written.options.get(option) is not None:
                self.problem("bad_option", written.name, f"{option} is for {kind} only", f"leave {option} out")

    def _check_place(self, written: WrittenNode, signature: Signature) -> None:
        place = written.options.get("run_in")
        if signature.is_async and place in ("thread", "process"):
            hint = "leave run_in out, or make the function sync"
            self.problem("bad_option", written.name, f"an async function cannot run in a {place}", hint)

    def _spec(self, reading: Reading, written: WrittenNode, tool: str | None = None) -> NodeSpec:
        options = written.options
        faulty = {option for option, _ in node_option_faults(options)}

        def sound(option: str) -> Any:
            return options.get(option) if option not in faulty else None

        found: dict[str, Any] = {
            name: value
            for name in ("run_in", "concurrency", "batch", "effect", "resources", "params", "description")
            if (value := sound(name)) is not None
        }
        if (rate := sound("rate")) is not None:
            found["rate"] = parse_rate(rate)
        for option in ("accepts", "produces"):
            if (declared := options.get(option)) is not None:
                found[option] = self._declared_keys(option, declared, written.name)
        if gives := self._gives(options.get("produces")):
            found["gives"] = gives
        return attrs.evolve(reading.spec, tool=tool, **found)

    def _declared_keys(self, option: str, declared: Any, where: str) -> frozenset[str] | None:
        """The keys that `accepts` or `produces` declare: as a type, or by their names."""
        if is_state_type(declared) and not _is_dict(declared):
            if option == "accepts":
                return frozenset(self._type_keys(declared))
            _, faults = view_of(self.schema, self._type(declared), where)
            self.problems += faults
            return frozenset(self._type_keys(declared))
        names = (declared,) if isinstance(declared, str) else declared
        names = list(names) if isinstance(names, Iterable) else [None]
        if not all(isinstance(name, str) for name in names):
            hint = "give keys by name, a TypedDict or an attrs class"
            self.problem("bad_option", where, f"{option} declares no keys, found {shown(declared)}", hint)
            return None
        for name in names:
            self._known_key(name, where, option)
        return frozenset(names)

    def _gives(self, declared: Any) -> dict[str, Any]:
        """The keys and types that a type declares as returned."""
        declared = unwrap(declared)
        if declared is None or not is_state_type(declared) or _is_dict(declared):
            return {}
        return {name: key.type for name, key in self._type(declared).keys.items()}

    def _type(self, declared: Any) -> Schema:
        if declared not in self._views:
            self._views[declared] = read_schema(declared, isolation=self.schema.isolation)[0]
        return self._views[declared]

    def _type_keys(self, declared: Any) -> Iterable[str]:
        return self._type(declared).keys

    def _accepted(self, options: Mapping[str, Any], name: str) -> View | None:
        declared = options.get("accepts")
        if declared is None or not is_state_type(declared) or _is_dict(declared):
            return None
        view, faults = self._narrow(declared, None)
        for code, message, hint in faults:
            self.problem(code, name, message, hint)
        return view

    def _known_key(self, key: Any, where: str, what: str) -> None:
        if not isinstance(key, str):
            self.problem("bad_option", where, f"{what} must name a key, found {shown(key)}")
        elif not self.schema.knows(key):
            message = f"{what} names {key!r}, which the state {self.schema.name} does not have"
            self.problem("unknown_key", where, message, did_you_mean(key, self.schema.keys))

    # --- subgraphs, maps, waits -----------------------------------------------------------------------

    def _part(self, what: Written, where: str, inherited: Mapping[str, Reducer]) -> tuple[Plan, Schema] | None:
        """The plan of a graph inside this one, its problems placed under the node that holds it."""
        if what in self.outer:
            chain = " in ".join(repr(w.name) for w in (what, *reversed(self.outer)))
            hint = "a graph cannot contain itself; submit it from a node instead"
            self.problem("subgraph_cycle", where, f"it runs graph {chain}", hint)
            return None
        inner = Compiler(what, self.tools, inherited, self.outer)
        plan = inner.compile()
        for p in inner.problems:
            self.problems.append(GraphProblem(p.code, f"{where}/{p.where}", p.message, p.hint, p.severity))
        return plan, inner.schema

    def _subgraph(self, written: WrittenNode) -> NodeDecl:
        name, options = written.name, written.options
        shared = self._shared_options(written)
        self._only_for("a function", written, "batch", "run_in")
        enter, leave = self._renames(options.get("inputs")), self._renames(options.get("outputs"))
        what = written_of(written.what)
        assert what is not None
        part = self._part(what, name, self._inheritance(what, name, enter, leave))
        if part is None:
            return NodeDecl(name=name, function=_nothing, options=NodeSpec(), **shared)
        self._passing(name, part[1], enter, leave)
        spec = self._spec(Reading(PLAIN, None, NodeSpec()), written)
        subgraph = SubgraphDecl(plan=part[0], enter=enter, leave=leave)
        view = self._own_view(None, name)
        return NodeDecl(name=name, kind="subgraph", subgraph=subgraph, view=view, options=spec, **shared)

    def _renames(self, given: Any) -> dict[str, str]:
        return dict(given) if isinstance(given, Mapping) and not mapping_fault(given, str) else {}

    def _inheritance(
        self, what: Written, where: str, enter: Mapping[str, str], leave: Mapping[str, str]
    ) -> dict[str, Reducer]:
        """The reducers of this graph that hold inside; a different one there is refused."""
        inner, _ = read_schema(what.state, what.settings.get("reducers"), names=dict(what.names or {}))
        inherited: dict[str, Reducer] = {}
        for key, reducer in self.schema.reducers.items():
            for name in {enter.get(key, key), *(child for child, parent in leave.items() if parent == key)}:
                mine = inner.reducers.get(name)
                if mine is not None and mine != reducer:
                    message = f"{name!r} has another reducer inside {what.name!r} than {key!r} has outside"
                    self.problem("bad_reducer", where, message, "give both the same, or rename one by inputs=")
                elif inner.knows(name):
                    inherited[name] = reducer
        return inherited

    def _passing(self, where: str, inner: Schema, enter: Mapping[str, str], leave: Mapping[str, str]) -> None:
        """Every renamed key must exist on both sides, and what is passed must fit."""
        for parent, child in enter.items():
            self._known_key(parent, where, "inputs")
            self._known_inside(child, inner, where, "inputs")
        for child, parent in leave.items():
            self._known_inside(child, inner, where, "outputs")
            self._known_key(parent, where, "outputs")
        inward = {enter.get(key, key): key for key in self.schema.keys}
        for name, key in inner.keys.items():
            if name in inward:
                mine = self.schema.keys[inward[name]]
                if not fits(mine.type, key.type):
                    message = f"{name!r} is {type_name(key.type)} inside, and {type_name(mine.type)} outside"
                    self.problem("type_mismatch", where, message, "make the two types agree")
            elif key.required and self.schema.closed:
                message = f"the state inside needs {name!r}, which {self.schema.name} does not have"
                self.problem("unknown_key", where, message, "pass another key to it by inputs=")

    def _known_inside(self, key: str, inner: Schema, where: str, what: str) -> None:
        if not inner.knows(key):
            message = f"{what} names {key!r}, which the state {inner.name} inside does not have"
            self.problem("unknown_key", where, message, did_you_mean(key, inner.keys))

    def _map(self, written: WrittenNode) -> NodeDecl:
        name, own = written.name, written.own
        shared = self._shared_options(written)
        self._only_for("a subgraph", written, "inputs", "outputs")
        if isinstance(own["over"], str):
            self._known_key(own["over"], name, "over")
        elif fault := self._condition_fault(own["over"]):
            self.problem("bad_option", name, f"over {fault}", "give a key, or a function of the state")
        self._known_key(own["into"], name, "into")
        settings: dict[str, Any] = {}
        for option, fault in (
            ("concurrency", positive_fault(own["concurrency"], whole=True)),
            ("on_item_error", one_of_fault(own["on_item_error"], ("fail", "skip", "keep"))),
        ):
            if fault:
                self.problem("bad_option", name, f"{option} {fault}")
            else:
                settings[option] = own[option]
        worker, spec = self._worker(written)
        over = own["over"] if isinstance(own["over"], str) or callable(own["over"]) else ""
        decl = MapDecl(worker=worker, over=over, into=str(own["into"]), item=own["item"], **settings)
        view = self._own_view(None, name)
        return NodeDecl(name=name, kind="map", map=decl, view=view, options=spec, **shared)

    def _worker(self, written: WrittenNode) -> tuple[Callable[..., Any] | Plan, NodeSpec]:
        name, item = written.name, written.own["item"]
        what = written_of(written.what)
        if what is not None:
            self._only_for("a function", written, "batch", "run_in")
            part = self._part(what, name, {})
            spec = self._spec(Reading(PLAIN, None, NodeSpec()), written)
            if part is not None and item is not None:
                self._known_inside(item, part[1], name, "item")
            return (part[0] if part is not None else _nothing), spec
        if item is not None:
            hint = "a function gets the item as its first argument"
            self.problem("bad_option", name, "item is for a worker that is a graph", hint)
        function, tool = self._function(written)
        reading = self._reading(function, written, is_map=True)
        for code, message, hint in reading.faults:
            self.problem(code, name, message, hint)
        if reading.signature is not None:
            self._check_place(written, reading.signature)
        return function, self._spec(reading, written, tool)

    def _wait(self, written: WrittenNode) -> NodeDecl:
        name, signal = written.name, written.own["signal"]
        shared = self._shared_options(written)
        self._only_for("a function", written, "batch", "run_in")
        self._only_for("a subgraph", written, "inputs", "outputs")
        signals = (signal,) if isinstance(signal, str) else tuple(signal) if isinstance(signal, Iterable) else ()
        if not signals or not all(isinstance(one, str) and one for one in signals):
            hint = "give a signal's name, or several"
            self.problem("bad_option", name, f"signal must be a name or a list of names, found {shown(signal)}", hint)
            signals = ()
        self._known_key(written.own["into"], name, "into")
        timeout = shared.pop("timeout", None)
        decl = WaitDecl(signals=tuple(dict.fromkeys(signals)), into=str(written.own["into"]), timeout=timeout)
        spec = self._spec(Reading(PLAIN, None, NodeSpec()), written)
        return NodeDecl(name=name, kind="wait", wait=decl, options=spec, **shared)

    # --- edges ----------------------------------------------------------------------------------------

    def _entries(self) -> tuple[str, ...]:
        entries: list[str] = []
        for name in self.written.entries:
            if name not in self.known:
                hint = did_you_mean(name, self.known)
                self.problem("unknown_node", str(name), f"the entry point {name!r} is no node", hint)
                self._loose.anywhere = True
            elif name in entries:
                self.problem("duplicate_edge", name, "it is an entry point twice", "name it once")
            else:
                entries.append(name)
        if not self.written.entries:
            first = self.written.nodes[0].name if self.written.nodes else "first"
            hint = f"say graph.set_entry_point({first!r})"
            self.problem("no_entry_point", str(self.written.name), "the graph has no entry point", hint)
        return tuple(entries)

    def _edges(self) -> tuple[EdgeDecl | ChoiceDecl, ...]:
        """The edges whose ends exist, faulty options left out."""
        sound: list[EdgeDecl | ChoiceDecl] = []
        plain: set[tuple[str, str]] = set()
        for edge in self.written.edges:
            if isinstance(edge, ChoiceDecl):
                if (choice := self._choice(edge)) is not None:
                    sound.append(choice)
                continue
            if not self._ends_exist(edge):
                continue
            if edge.when is None and not edge.otherwise and edge.on_error is None:
                ends = (edge.source, edge.target)
                if ends in plain:
                    hint = "draw it once, or give each a condition"
                    where = f"{edge.source} -> {edge.target}"
                    self.problem("duplicate_edge", where, "there are two unconditional edges here", hint)
                    continue
                plain.add(ends)
            sound.append(self._sound_edge(edge))
        return tuple(sound)

    def _ends_exist(self, edge: EdgeDecl) -> bool:
        source, target = edge.source, edge.target
        if source in self.known and (target in self.known or target in RESERVED):
            return True
        where = f"{source} -> {target}"
        there = self._source_exists(source, where)
        return self._target_exists(source, target, where) and there

    def _source_exists(self, source: Any, where: str) -> bool:
        if source in self.known:
            return True
        if source in RESERVED:
            hint = "turn the edge round, or leave it out"
            self.problem("edge_from_end", where, f"nothing comes after {source}", hint)
        else:
            self.problem("unknown_node", where, f"there is no node {source!r}", self._name_hint(source))
        self._loose.targets.add(where.rpartition(" -> ")[2])
        return False

    def _target_exists(self, source: Any, target: Any, where: str) -> bool:
        if target in self.known or target in RESERVED:
            return True
        hint = self._name_hint(target)
        self.problem("unknown_node", where, f"there is no node {target!r}", hint)
        self._loose.sources.add(str(source))
        if hint.startswith("did you mean"):
            self._loose.targets.update(name for name in self.known if repr(name) in hint)
        return False

    def _name_hint(self, wrong: Any) -> str:
        name = getattr(wrong, "__name__", None)
        if name in self.known:
            return f"give its name, {name!r}"
        return did_you_mean(wrong, [*sorted(self.known), *sorted(RESERVED)])

    def _sound_edge(self, edge: EdgeDecl) -> EdgeDecl:
        """The edge without what is wrong with it; nearly always the very same."""
        if (
            edge.when is None
            and edge.on_error is None
            and edge.otherwise is False
            and edge.max_iterations is None
            and edge.on_limit is None
            and edge.capacity is None
        ):
            return edge
        where = f"{edge.source} -> {edge.target}"
        without: dict[str, Any] = {}
        conditions = [n for n in ("when", "otherwise", "on_error") if getattr(edge, n) not in (None, False)]
        if len(conditions) > 1:
            hint = "draw an edge for each"
            self.problem("bad_condition", where, f"it has {' and '.join(conditions)} at once", hint)
            without |= {"otherwise": False, "on_error": None} if edge.when else {"otherwise": False}
        if edge.when is not None and (fault := self._condition_fault(edge.when)):
            self.problem("bad_condition", where, f"its condition {fault}", "give a plain function of the state")
            without["when"] = _always
        for option, fault in edge_option_faults(edge):
            self.problem("bad_option", where, f"{option} {fault}")
            without[option] = Exception if option == "on_error" else False if option == "otherwise" else None
        return attrs.evolve(edge, **without) if without else edge

    def _choice(self, choice: ChoiceDecl) -> ChoiceDecl | None:
        if not choice.targets:
            hint = "list the nodes that the router may choose"
            where = f"{choice.source} -> ?"
            self.problem("bad_condition", where, f"its router has no targets, found {shown(choice.targets)}", hint)
            return None
        wheres = {target: f"{choice.source} -> {target}" for target in choice.targets.values()}
        first = next(iter(wheres.values()))
        there = self._source_exists(choice.source, first)
        router = choice.router
        if fault := self._condition_fault(router):
            self.problem("bad_condition", first, f"its router {fault}", "give a plain function of the state")
            router = _always
        targets = {
            label: target
            for label, target in choice.targets.items()
            if self._target_exists(choice.source, target, wheres[target])
        }
        return ChoiceDecl(source=choice.source, router=router, targets=targets) if there and targets else None

    def _condition_fault(self, condition: Any) -> str:
        """What is wrong with a condition or router, as the end of a sentence."""
        if not callable(condition):
            return f"is {shown(condition)}, not a function"
        key = _same_code(condition, None) or id(condition)
        if key not in self._conditions:
            self._conditions[key] = _condition_fault(condition)
        return self._conditions[key]


def _condition_fault(condition: Any) -> str:
    try:
        signature = signature_of(condition)
    except (ValueError, TypeError):
        return ""
    if signature.is_async:
        return "is async"
    if signature.is_generator:
        return "is a generator"
    needed = sum(not p.optional for p in signature.parameters)
    by_place = sum(p.positional for p in signature.parameters)
    if needed > 1 or (by_place == 0 and not signature.some) or needed > by_place:
        takes = ", ".join(p.name for p in signature.parameters)
        return f"must take the state and nothing else, it takes ({takes})"
    return ""


def _nothing(state: Any) -> None:
    """Stands for a function that could not be found, so that the rest of the graph can be judged."""


def _always(state: Any) -> bool:
    """Stands for a condition that cannot be used."""
    return True


def _is_dict(tp: Any) -> bool:
    return tp in (dict, Mapping, MutableMapping, typing.Mapping, typing.MutableMapping)


def _base(schema: Schema) -> Any:
    """The class of what a node is given."""
    return dict if schema.type is dict or typing.is_typeddict(schema.type) else schema.type


def _same_code(function: Any, more: Any) -> Any:
    """A key under which functions with the same signature meet: those made by one `def`, mostly."""
    if type(function) is not types.FunctionType:
        return None
    annotations = function.__annotations__
    hints = tuple(map(id, annotations.values())) if annotations else ()
    defaults = function.__defaults__
    return id(function.__code__), defaults and len(defaults), bool(function.__kwdefaults__), hints, more
