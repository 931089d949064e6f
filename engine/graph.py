"""The builder: what an author writes, and `compile()`, which turns it into a plan.

A `Graph` only writes down what it is told, so that a graph may be written in any
order and all its faults are found at once, by `validate()` or `compile()`.
"""

from __future__ import annotations

import gc
import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, overload

from .call import names_around
from .compiling import Compiler, ToolSource
from .errors import GraphInvalid, GraphProblem
from .logs import about
from .options import MapOptions, NodeOptions, WaitOptions
from .plan import ChoiceDecl, EdgeDecl, Plan
from .schema import Isolation
from .tools import get_tool_registry
from .values import Reducer
from .written import Written, WrittenNode

if TYPE_CHECKING:
    from .steps import Steps

logger = logging.getLogger("engine.graph")

F = TypeVar("F", bound=Callable[..., Any])
Names = str | Sequence[str]
_NOTHING: Mapping[str, Any] = {}  # One for all: a graph may have very many nodes without options.
Condition = Callable[[Any], object]
Targets = Sequence[str] | Mapping[Any, str] | str


class Graph:
    """Named nodes, edges between them, entry points and a state type.

    Methods that add something return the graph, so they chain. Nothing is
    checked before `validate()` or `compile()`, which then tell everything at once.
    """

    def __init__(
        self,
        name: str,
        *,
        state: Any = dict,
        version: str = "1",
        reducers: Mapping[str, Reducer] | None = None,
        max_iterations: int = 1000,
        max_activations: int | None = None,
        on_failure: Literal["cancel", "continue"] = "cancel",
        conflicts: Literal["error", "last"] = "error",
        isolation: Isolation = "shallow",
        check: Literal["boundary", "always"] = "boundary",
        history: int = 10_000,
        deadline: float | None = None,
    ) -> None:
        settings = {
            "version": version,
            "reducers": dict(reducers) if isinstance(reducers, Mapping) else reducers,
            "max_iterations": max_iterations,
            "max_activations": max_activations,
            "on_failure": on_failure,
            "conflicts": conflicts,
            "isolation": isolation,
            "check": check,
            "history": history,
            "deadline": deadline,
        }
        self._written = Written(name, state, settings, names=names_around(state))
        self._compiled: tuple[Any, Plan, list[GraphProblem]] | None = None
        self._warned = False

    @property
    def name(self) -> str:
        """The name it is registered under."""
        return self._written.name

    @property
    def version(self) -> str:
        """The version it is registered under; a changed graph needs another."""
        return str(self._written.settings["version"])

    @property
    def state(self) -> Any:
        """The state type as it was given."""
        return self._written.state

    def __repr__(self) -> str:
        written = self._written
        return f"<Graph {written.name!r}, {len(written.nodes)} nodes, {len(written.edges)} edges>"

    # --- nodes ----------------------------------------------------------------------------------------

    @overload
    def node(self, function: F, /) -> F: ...
    @overload
    def node(self, /, *, name: str | None = None, **options: Unpack[NodeOptions]) -> Callable[[F], F]: ...
    def node(self, function: Any = None, /, *, name: str | None = None, **options: Any) -> Any:
        """Make the function below a node of its name. The function stays as it is."""

        if function is not None and not callable(function):
            written = f"name={function!r}" if isinstance(function, str) else "retry=Retry(attempts=3)"
            raise TypeError(
                f"graph.node() was given {function!r}, expected a function: write @graph.node above it, "
                f"without calling it, or @graph.node({written}), with options by name"
            )

        def add(function: F) -> F:
            self.add_node(str(name or getattr(function, "__name__", "")), function, **options)
            return function

        return add if function is None else add(function)

    def add_node(self, name: str, what: Any, **options: Unpack[NodeOptions]) -> Self:
        """Add a node that runs a function, another `Graph`, or the tool of a name: `"clean"`, or `"clean@2"`."""
        self._written.add(WrittenNode(name, "function", what, options or _NOTHING, _NOTHING, names_around(what)))
        return self

    def add_map(
        self,
        name: str,
        worker: Any,
        *,
        over: str | Callable[[Any], Any],
        into: str,
        item: str | None = None,
        concurrency: int = 64,
        on_item_error: Literal["fail", "skip", "keep"] = "fail",
        **options: Unpack[MapOptions],
    ) -> Self:
        """Add a node that runs `worker` once per item and collects the results in the order of the items.

        A function given as `over` is called in the loop, so it must be quick; it may be async. What it gives, or what
        is under the key, is read in the loop if it is a collection (list, tuple, range, set, deque, view of a dict) or
        async. Any other iterator may block, and is read in threads: not always the same one.
        """
        own = {
            "over": over,
            "into": into,
            "item": item,
            "concurrency": concurrency,
            "on_item_error": on_item_error,
        }
        self._written.add(WrittenNode(name, "map", worker, options, own, names_around(worker)))
        return self

    def add_wait(
        self,
        name: str,
        *,
        signal: Names,
        into: str,
        timeout: float | None = None,
        **options: Unpack[WaitOptions],
    ) -> Self:
        """Add a node that waits, without a task, until one of these signals comes."""
        given: dict[str, Any] = {**options, "timeout": timeout}
        self._written.add(WrittenNode(name, "wait", None, given, {"signal": signal, "into": into}))
        return self

    # --- edges ----------------------------------------------------------------------------------------

    def add_edge(
        self,
        source: Names,
        target: Names,
        *,
        when: Condition | str | None = None,
        otherwise: bool = False,
        on_error: type[BaseException] | Sequence[type[BaseException]] | None = None,
        max_iterations: int | None = None,
        on_limit: Literal["exit", "fail"] | None = None,
        capacity: int | None = None,
    ) -> Self:
        """Draw an edge, or with lists one from each source to each target.

        A condition is a function of the state, or text: `when="state.score < 0.8"`.
        """
        errors: Any = tuple(on_error) if isinstance(on_error, list) else on_error
        written = self._written
        for one in _each(source):
            for other in _each(target):
                written.edges.append(
                    EdgeDecl(
                        source=one,
                        target=other,
                        when=when,
                        otherwise=otherwise,
                        on_error=errors,
                        max_iterations=max_iterations,
                        on_limit=on_limit,
                        capacity=capacity,
                    )
                )
        written.revision += 1
        return self

    def add_choice(self, node: Names, router: Callable[[Any], object] | str, targets: Targets) -> Self:
        """Let `router` choose where to go after `node`: names or labels of `targets`, END or STOP.

        It is a function of the state, or text: `"state.kind"`.
        """
        if isinstance(targets, Mapping):
            labels: Any = dict(targets)
        else:
            labels = {target: target for target in _each(targets)}
        for one in _each(node):
            self._written.edges.append(ChoiceDecl(source=one, router=router, targets=labels))
        self._written.revision += 1
        return self

    def set_entry_point(self, *names: str | Sequence[str]) -> Self:
        """Say where a run starts; several entry points start side by side."""
        self._written.entries = tuple(name for one in names for name in _each(one))
        self._written.revision += 1
        return self

    # --- compiling ------------------------------------------------------------------------------------

    def validate(self, tools: ToolSource | None = None) -> list[GraphProblem]:
        """Every problem of this graph and the graphs inside it: errors first, then warnings.

        `tools` finds those that nodes name: a `ToolRegistry` (by default the process-wide one), or a mapping.
        """
        return list(self._outcome(tools)[1])

    def compile(self, tools: ToolSource | None = None) -> Plan:
        """The plan of this graph, or `GraphInvalid` with every error.

        Kept until something is added. Warnings are logged once.
        """
        plan, problems = self._outcome(tools)
        errors = [problem for problem in problems if problem.severity == "error"]
        if errors:
            raise GraphInvalid.of(self.name, errors)
        if not self._warned:
            self._warned = True
            for problem in problems:
                logger.warning("graph %r: %s", self.name, problem, extra=about(graph=self.name, node=problem.where))
        return plan

    def _outcome(self, tools: ToolSource | None) -> tuple[Plan, list[GraphProblem]]:
        tools = get_tool_registry() if tools is None else tools
        now = self._fingerprint(tools)
        if self._compiled is None or self._compiled[0] != now:
            compiler = Compiler(self._written, tools)
            with _no_collection():
                plan = compiler.compile()
            problems = sorted(compiler.problems, key=lambda problem: problem.severity != "error")
            self._compiled = now, plan, problems
            self._warned = False
        return self._compiled[1], self._compiled[2]

    def _fingerprint(self, tools: ToolSource) -> Any:
        # For every submission.
        written = self._written
        if not written.parts and not written.tools:
            return written.revision
        parts = list(written.everything())
        names = [name for part in parts for name in part.tools]
        found = [tools.get(name) for name in names]
        return [(id(part), part.revision) for part in parts], found, id(tools) if names else 0

    @property
    def revisions(self) -> list[tuple[int, int]]:
        """How often it, and each graph inside it, has been changed: equal if nothing was added in between."""
        return [(id(part), part.revision) for part in self._written.everything()]

    @property
    def tool_names(self) -> list[str]:
        """The tools that its nodes name, and those of the graphs inside it."""
        return [name for part in self._written.everything() for name in part.tools]

    # --- other faces ----------------------------------------------------------------------------------

    @overload
    def draw(self, format: Literal["mermaid", "svg", "text"] = "mermaid", run: Any = None) -> str: ...
    @overload
    def draw(self, format: Literal["png"], run: Any = None) -> bytes: ...
    @overload
    def draw(self, format: Literal["mermaid", "svg", "text", "png"], run: Any = None) -> str | bytes: ...
    def draw(self, format: Literal["mermaid", "svg", "text", "png"] = "mermaid", run: Any = None) -> str | bytes:
        """The graph as a drawing, with a run's progress on it if one is given. Draws faulty graphs too.

        PNG comes as bytes and needs the extra `draw`. Raises `ValueError` for a graph that is too large to be laid out
        as SVG or PNG.
        """
        from . import drawing  # only who draws needs what draws

        return drawing.draw(self._written, format, run)

    # --- as data --------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """The graph as data, which `from_dict` makes the same graph of.

        Raises `GraphInvalid` with all that no data can say: functions that are no tools, conditions that are not
        written as text, types that JSON does not have.
        """
        from .definition_of import definition_of  # who writes no data does not wait for what does

        return definition_of(self._written, _defaults(), get_tool_registry().current.name_of)

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], *, tools: ToolSource | None = None, graphs: Mapping[str, Graph] | None = None
    ) -> Self:
        """A graph from its definition. Raises `GraphInvalid` with every fault, each at its JSON pointer.

        `tools` are those that nodes may name (as a rule those of `get_tool_registry()`), `graphs` those that they may
        run besides the definition's own. Nothing in a definition runs code, imports or reads anything.
        """
        from .definition import read_definition

        given: Any = data
        if isinstance(given, Mapping) and "steps" in given:
            return cls._of_steps(given, tools)
        with _no_collection():
            graph: Self = read_definition(data, cls, get_tool_registry() if tools is None else tools, graphs or {})
        return graph

    @classmethod
    def from_json(
        cls, text: str | bytes, *, tools: ToolSource | None = None, graphs: Mapping[str, Graph] | None = None
    ) -> Self:
        """As `from_dict`, of JSON text; what is no JSON is told with line and column."""
        from .texts import read_json

        return cls._from_text(read_json, text, tools, graphs)

    @classmethod
    def from_yaml(
        cls, text: str | bytes, *, tools: ToolSource | None = None, graphs: Mapping[str, Graph] | None = None
    ) -> Self:
        """As `from_dict`, of YAML text, for which PyYAML must be there (the extra `yaml`)."""
        from .texts import read_yaml

        return cls._from_text(read_yaml, text, tools, graphs)

    @classmethod
    def _from_text(cls, read: Callable[[str | bytes], Any], text: str | bytes, tools: Any, graphs: Any) -> Self:
        from .texts import NotData

        try:
            data = read(text)
        except NotData as error:
            raise error.as_invalid() from None
        return cls.from_dict(data, tools=tools, graphs=graphs)

    @classmethod
    def _of_steps(cls, data: Mapping[str, Any], tools: ToolSource | None) -> Self:
        from .definition_places import Places
        from .steps import read_steps

        read = read_steps(data)
        graph = cls._built(read, {})
        if problems := [problem for problem in graph.validate(tools) if problem.severity == "error"]:
            places = Places("", nodes={task.name: [task.found] for task in read.tasks})
            placed = [places.placed(problem) for problem in problems]
            raise GraphInvalid.of(graph.name, placed)
        return graph

    @classmethod
    def from_steps(
        cls,
        steps: Mapping[str, Any],
        functions: Any = None,
        **settings: Any,
    ) -> Self:
        """A graph from its short form: each step after the one before, parallel tasks side by side.

        `functions` finds tasks by name: a mapping, or a registry. Without it tasks are tools, found when the
        graph is compiled. Raises `GraphInvalid` with every fault and its JSON pointer.
        """
        from .steps import read_steps

        return cls._built(read_steps(steps, functions), settings)

    @classmethod
    def _built(cls, read: Steps, settings: Mapping[str, Any]) -> Self:
        graph = cls(read.name, **{**({"version": read.version} if read.version else {}), **settings})
        for task in read.tasks:
            graph.add_node(task.name, task.what, **task.options)
        for source, target in read.edges:
            graph.add_edge(source, target)
        return graph.set_entry_point(*read.entries)


def _defaults() -> dict[str, Any]:
    """The settings of a graph that nobody gave any."""
    return {name: parameter.default for name, parameter in inspect.signature(Graph).parameters.items()}


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector out of a compilation.

    Everything made here is kept, so looking for garbage finds none, again and
    again over a growing heap: it doubled the time of a graph of 100,000 nodes.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _each(names: Any) -> Iterable[Any]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        return (names,)
    # The order of edges counts at joins: a set must not decide it by chance.
    return sorted(names) if isinstance(names, set | frozenset) else names
