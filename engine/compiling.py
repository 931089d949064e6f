"""From a graph as written to its plan, with every problem on the way.

What is faulty is reported and left out, or put in with its default, so that one
fault does not hide the next: the plan of what remains is judged too (checks.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

import attrs

from .call import PLAIN, Signature, mentions_files
from .checks import structure
from .edges import Edges
from .errors import BadMediaType, GraphProblem
from .faults import name_fault, positive_fault
from .filechecks import file_channels
from .filestate import with_files
from .filetyping import EVERYTHING, Makes, Takes, is_media, ranges_of
from .limits import cache_fault
from .mediatypes import ANYTHING
from .nodespec import NodeSpec
from .options import (
    NODE_OPTIONS,
    graph_option_faults,
    join_fault,
    mapping_fault,
    node_option_faults,
    one_of_fault,
    parse_rate,
)
from .plan import (
    GraphDecl,
    MapDecl,
    NodeDecl,
    Plan,
    SubgraphDecl,
    WaitDecl,
    compile_plan,
)
from .reading import Reader, Reading, is_dict, nothing, source_fault
from .schema import Hints, Key, Schema, is_state_type, read_schema
from .tools import Tool, ToolRegistry, ToolSet
from .typecheck import fits, shown, type_name
from .values import RESERVED, Reducer
from .views import View, view_of
from .written import Written, WrittenNode, written_of

# Each graph inside another costs a run about ten frames of the interpreter's thousand.
MOST_NESTED: Final = 50

# The options that mean something only where a function is called.
OF_FUNCTIONS: Final = ("batch", "breaker", "cache", "run_in", "keep_remote")

# A definition may name ten thousand tools that there are not.
MOST_HINTED: Final = 100


class ToolSource(Protocol):
    """Finds tools by name: a `ToolRegistry`, or any mapping from names to functions."""

    def get(self, name: str, /) -> Callable[..., Any] | None: ...


class Compiler:
    """Compiles one graph. `parts` remembers plans of subgraphs; `outer` are the graphs that contain it."""

    def __init__(
        self,
        written: Written,
        tools: ToolSource | None = None,
        inherited: Mapping[str, Reducer] | None = None,
        outer: tuple[Written, ...] = (),
        carries: bool = False,
    ) -> None:
        self.written = written
        self.tools = tools
        self.inherited = dict(inherited or {})
        self.outer = (*outer, written)
        self.problems: list[GraphProblem] = []
        self.hint = Hints()
        self.carries = carries
        """Whether it is known that files travel through it; found out, it is compiled once more, knowing it."""
        self._has_files = False
        self._inherited = inherited
        self.schema = self._schema()
        self.reader = Reader(self.schema)
        self.edges = Edges(written, self.reader, self.problems, self.hint)

    def problem(self, code: str, where: str, message: str, hint: str = "") -> None:
        self.problems.append(GraphProblem(code, where, message, hint))

    def compile(self) -> Plan:
        """The plan of what is sound; only if `problems` holds no error may it be used."""
        self._settings()
        nodes = self._nodes()
        if self._has_files and not self.carries and len(self.outer) == 1:
            return self._compile_again()
        edges, entries = self.edges.edges(), self.edges.entries()
        state = with_files(self.schema) if self.carries else self.schema
        settings = self._decl_settings()
        decl = GraphDecl(state=state, nodes=nodes, edges=edges, entries=entries, carries=self.carries, **settings)
        plan = compile_plan(decl)
        self.problems += structure(plan, self.edges.loose)
        if self.carries:
            self.problems += file_channels(plan)
        return plan

    def _compile_again(self) -> Plan:
        """Compile it, and all graphs inside it, as graphs that files travel through: few are."""
        again = Compiler(self.written, self.tools, self._inherited, self.outer[:-1], carries=True)
        plan = again.compile()
        self.problems, self.schema = again.problems, again.schema
        return plan

    # --- the graph itself -----------------------------------------------------------------------------

    def _schema(self) -> Schema:
        settings = self.written.settings
        reducers = settings["reducers"] if settings["reducers"] is not None else {}
        if not isinstance(reducers, Mapping):
            self.problem("bad_reducer", "state", f"reducers must be a mapping, found {shown(reducers)}")
            reducers = {}
        for key in [key for key in reducers if not isinstance(key, str)]:
            self.problem("bad_reducer", "state", f"reducers= names {key!r}; a state's keys are strings")
            reducers = {name: reducer for name, reducer in reducers.items() if name is not key}
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
        self._has_files |= any(mentions_files(key.type) for key in keys.values())
        return schema.evolve(keys=keys, graph=str(self.written.name))

    def _settings(self) -> None:
        name: Any = self.written.name
        if fault := name_fault(name):
            self.problem("bad_option", "graph", f"a graph's name {fault}")
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
        if fault := name_fault(name):
            self.problem("bad_option", str(name), f"a node's name {fault}", "give it name=")
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
        reading = self.reader.read(function, written, tool=tool)
        for code, message, hint in reading.faults:
            self.problem(code, name, message, hint)
        if reading.goes and not options.get("goto"):
            hint = "declare where it may go: goto=['...']"
            self.problem("undeclared_goto", name, "it returns a Goto, whose targets are not declared", hint)
        takes, makes = self._files(reading, written)
        view = self._own_view(reading.view, name)
        if not options and not isinstance(written.what, str | Tool):
            spec = attrs.evolve(reading.spec, takes=takes, makes=makes) if takes or makes else reading.spec
            return NodeDecl(name=name, function=function, view=view, options=spec)
        shared = self._shared_options(written)
        self._only_for("a subgraph", written, "inputs", "outputs")
        if reading.signature is not None:
            self._check_place(written, reading.signature)
        accepted = self._accepted(options, name)
        spec = self._spec(reading, written, takes, makes)
        return NodeDecl(
            name=name, function=function, view=self._own_view(accepted, name) or view, options=spec, **shared
        )

    def _function(self, written: WrittenNode) -> tuple[Any, Tool | None]:
        """The function of a node; of a registered tool that tool as well."""
        what = written.what
        if not isinstance(what, str):
            if isinstance(what, Tool):
                return what.function, what
            if callable(what):
                return what, None
            hint = "give a function, a Graph or a tool's name"
            self.problem("bad_option", written.name, f"{shown(what)} cannot be run", hint)
            return nothing, None
        found = self.tools.get(what) if self.tools is not None else None
        if isinstance(found, Tool):
            return found.function, found
        if callable(found):
            return found, None
        self._unknown_tool(written.name, what)
        return nothing, None

    def _unknown_tool(self, where: str, name: str) -> None:
        tools: Any = self.tools
        if isinstance(tools, ToolRegistry | ToolSet) and len(self.problems) < MOST_HINTED:
            unknown = tools.unknown(name)
            said, hint = unknown.said, unknown.hint
        else:
            known = list(map(str, tools)) if isinstance(tools, Iterable) else ()
            said, hint = f"no tool is called {name!r}", self.hint(name, known)
        self.problem("unknown_tool", where, said, hint or "register it with @tool, or give the function itself")

    def _own_view(self, view: View | None, name: str) -> Any:
        """What the node reads, if not the whole state; where values are copied, what is said must name the node."""
        if self.schema.isolation == "shallow":
            return view
        whole = self.schema.evolve(node=name)
        return whole if view is None else View(whole, view.narrow.evolve(node=name, graph=whole.graph))

    # --- options --------------------------------------------------------------------------------------

    def _shared_options(self, written: WrittenNode) -> dict[str, Any]:
        """The options that every kind of node has, as `NodeDecl` wants them; faulty ones left out."""
        options, name = written.options, written.name
        for option in options:
            if option not in NODE_OPTIONS:
                self.problem("bad_option", name, f"there is no option {option!r}", self.hint(option, NODE_OPTIONS))
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
        found = tuple(t for t in targets if self.edges.target_exists(name, t, f"{name} -> {t}"))
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

    def _spec(
        self, reading: Reading, written: WrittenNode, takes: tuple[Takes, ...] = (), makes: tuple[Makes, ...] = ()
    ) -> NodeSpec:
        options = written.options
        faulty = {option for option, _ in node_option_faults(options)}

        def sound(option: str) -> Any:
            return options.get(option) if option not in faulty else None

        found: dict[str, Any] = {
            name: value
            for name in (
                "run_in",
                "concurrency",
                "batch",
                "breaker",
                "cache",
                "effect",
                "resources",
                "keep_remote",
                "params",
                "description",
            )
            if (value := sound(name)) is not None
        }
        if (rate := sound("rate")) is not None:
            found["rate"] = parse_rate(rate)
        for option in ("accepts", "produces"):
            if written.kind != "function" or written_of(written.what) is not None:
                self._no_media(option, options.get(option), written.name)
            if (declared := self._keys_among(options.get(option))) is not None:
                found[option] = self._declared_keys(option, declared, written.name)
        if gives := self.reader.gives(options.get("produces")):
            found["gives"] = gives
        spec = attrs.evolve(reading.spec, is_map=written.kind == "map", takes=takes, makes=makes, **found)
        if spec.cache is not None and (fault := cache_fault(spec, spec.cache)):
            self.problem("bad_option", written.name, f"cache {fault}")
        self._cached_keys(spec, written.name)
        what = written.what
        tool = what if isinstance(what, str) else what.id if isinstance(what, Tool) else None
        return attrs.evolve(spec, tool=tool)

    def _cached_keys(self, spec: NodeSpec, where: str) -> None:
        """The keys that a cache goes by must be there to be looked at."""
        for name in spec.cache.keys if spec.cache is not None and not spec.is_map else ():
            self._known_key(name, where, "cache")

    # --- files ----------------------------------------------------------------------------------------

    def _keys_among(self, declared: Any) -> Any:
        """What of an option names keys of the state, and not media types; None if nothing does."""
        if isinstance(declared, Mapping) or is_media(declared):
            return None
        if isinstance(declared, list | tuple | set | frozenset) and any(map(is_media, declared)):
            return [name for name in declared if not is_media(name)] or None
        return declared

    def _no_media(self, option: str, declared: Any, where: str) -> None:
        if isinstance(declared, Mapping) or self._media_among(declared):
            hint = "say it of the functions inside; a map's worker gets and gives files as its items"
            self.problem("bad_option", where, f"{option} names media types, but only a function takes files", hint)

    def _media_among(self, declared: Any) -> list[str]:
        texts = [declared] if isinstance(declared, str) else declared
        return [one for one in texts if is_media(one)] if isinstance(texts, list | tuple | set | frozenset) else []

    def _files(self, reading: Reading, written: WrittenNode) -> tuple[tuple[Takes, ...], tuple[Makes, ...]]:
        """The files that a function takes and makes, with the media types that its node declares."""
        accepts, produces = written.options.get("accepts"), written.options.get("produces")
        takes = self._takes(reading, accepts, written.name)
        makes: list[Makes] = []
        if isinstance(produces, Mapping):
            for role, declared in produces.items():
                if not isinstance(role, str) or not role:
                    self.problem("bad_option", written.name, f"produces names {shown(role)}, expected a role")
                    continue
                makes += [Makes(one, role) for one in self._ranges("produces", declared, written.name)]
        elif media := self._media_among(produces):
            makes = [Makes(one) for one in self._ranges("produces", media, written.name)]
        if not makes and reading.gives_files:
            makes = [Makes(ANYTHING)]
        self._has_files |= bool(takes or makes)
        return takes, tuple(makes)

    def _takes(self, reading: Reading, accepts: Any, where: str) -> tuple[Takes, ...]:
        named: dict[str, tuple[str, ...]] = {}
        everything: tuple[str, ...] = EVERYTHING
        parameters = [one.name for one in reading.files]
        if isinstance(accepts, Mapping):
            for name, declared in accepts.items():
                if name not in parameters and reading.signature is not None:
                    hint = "annotate the parameter with File, or list[File]"
                    self.problem("bad_option", where, f"accepts names {name!r}, which takes no files", hint)
                named[name] = self._ranges("accepts", declared, where)
        elif media := self._media_among(accepts):
            everything = self._ranges("accepts", media, where)
            if not parameters and reading.signature is not None:
                hint = "annotate a parameter of its function with File, or list[File]"
                self.problem("bad_option", where, "accepts names media types, but no parameter takes files", hint)
        return tuple(
            Takes(one.name, named.get(one.name, everything) or EVERYTHING, one.many, one.optional, one.has_default)
            for one in reading.files
        )

    def _ranges(self, option: str, declared: Any, where: str) -> tuple[str, ...]:
        try:
            return ranges_of(declared)
        except BadMediaType as error:
            self.problem(
                "bad_option", where, f"{option} is wrong: {error}", "write it like 'text/csv', 'text/*' or '*/*'"
            )
            return ()

    def _declared_keys(self, option: str, declared: Any, where: str) -> frozenset[str] | None:
        """The keys that `accepts` or `produces` declare: as a type, or by their names."""
        if is_state_type(declared) and not is_dict(declared):
            keys = self.reader.type_of(declared)
            if option == "produces":
                self.problems += view_of(self.schema, keys, where)[1]
            return frozenset(keys.keys)
        names = (declared,) if isinstance(declared, str) else declared
        names = list(names) if isinstance(names, Iterable) else [None]
        if not all(isinstance(name, str) for name in names):
            hint = "give keys by name, a TypedDict or an attrs class"
            self.problem("bad_option", where, f"{option} declares no keys, found {shown(declared)}", hint)
            return None
        for name in names:
            self._known_key(name, where, option)
        return frozenset(names)

    def _accepted(self, options: Mapping[str, Any], name: str) -> View | None:
        declared = options.get("accepts")
        if declared is None or not is_state_type(declared) or is_dict(declared):
            return None
        view, faults = self.reader.narrow(declared)
        for code, message, hint in faults:
            self.problem(code, name, message, hint)
        return view

    def _known_key(self, key: Any, where: str, what: str) -> None:
        if not isinstance(key, str):
            self.problem("bad_option", where, f"{what} must name a key, found {shown(key)}")
        elif not self.schema.knows(key):
            message = f"{what} names {key!r}, which the state {self.schema.name} does not have"
            self.problem("unknown_key", where, message, self.hint(key, self.schema.keys))

    # --- subgraphs, maps, waits -----------------------------------------------------------------------

    def _part(self, what: Written, where: str, inherited: Mapping[str, Reducer]) -> tuple[Plan, Schema] | None:
        """The plan of a graph inside this one, its problems placed under the node that holds it."""
        if len(self.outer) > MOST_NESTED:
            hint = "make the repetition a loop or a map, or submit the inner graph from a node"
            self.problem("subgraph_cycle", where, f"graphs are nested more than {MOST_NESTED} deep here", hint)
            return None
        if what in self.outer:
            chain = " in ".join(repr(w.name) for w in (what, *reversed(self.outer)))
            hint = "a graph cannot contain itself; submit it from a node instead"
            self.problem("subgraph_cycle", where, f"it runs graph {chain}", hint)
            return None
        inner = Compiler(what, self.tools, inherited, self.outer, self.carries)
        plan = inner.compile()
        self._has_files |= inner._has_files
        for p in inner.problems:
            self.problems.append(GraphProblem(p.code, f"{where}/{p.where}", p.message, p.hint, p.severity))
        return plan, inner.schema

    def _subgraph(self, written: WrittenNode) -> NodeDecl:
        name, options = written.name, written.options
        shared = self._shared_options(written)
        self._only_for("a function", written, *OF_FUNCTIONS)
        enter, leave = self._renames(options.get("inputs")), self._renames(options.get("outputs"))
        what = written_of(written.what)
        assert what is not None
        part = self._part(what, name, self._inheritance(what, name, enter, leave))
        if part is None:
            return NodeDecl(name=name, function=nothing, options=NodeSpec(), **shared)
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
        own = what.settings["reducers"]
        own = own if isinstance(own, Mapping) else None
        inner, _ = read_schema(what.state, own, names=dict(what.names or {}))
        inherited: dict[str, Reducer] = {}
        reducers = {key.name: key.reducer for key in self.schema.keys.values() if key.reducer is not None}
        for key, reducer in reducers.items():
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
            self.problem("unknown_key", where, message, self.hint(key, inner.keys))

    def _map(self, written: WrittenNode) -> NodeDecl:
        name, own = written.name, written.own
        shared = self._shared_options(written)
        self._only_for("a subgraph", written, "inputs", "outputs")
        if isinstance(own["over"], str):
            self._known_key(own["over"], name, "over")
        elif fault := source_fault(own["over"]):
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
            self._only_for("a function", written, *OF_FUNCTIONS)
            part = self._part(what, name, {})
            spec = self._spec(Reading(PLAIN, None, NodeSpec()), written)
            if part is not None and item is not None:
                self._known_inside(item, part[1], name, "item")
            return (part[0] if part is not None else nothing), spec
        if item is not None:
            hint = "a function gets the item as its first argument"
            self.problem("bad_option", name, "item is for a worker that is a graph", hint)
        function, tool = self._function(written)
        reading = self.reader.read(function, written, is_map=True, tool=tool)
        for code, message, hint in reading.faults:
            self.problem(code, name, message, hint)
        if reading.signature is not None:
            self._check_place(written, reading.signature)
        return function, self._spec(reading, written)

    def _wait(self, written: WrittenNode) -> NodeDecl:
        name, signal = written.name, written.own["signal"]
        shared = self._shared_options(written)
        self._only_for("a function", written, *OF_FUNCTIONS)
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
        view = self._own_view(None, name)
        return NodeDecl(name=name, kind="wait", wait=decl, view=view, options=spec, **shared)
