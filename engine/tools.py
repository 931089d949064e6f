"""Tools: functions that a graph, or another node, may call by name.

`@tool` leaves the function as it is and enters it in a registry. What a tool takes is read from its signature when
somebody asks, since annotations may name what stands below it in its module.

Of its parameters one gets the state when the tool is a node: the first, if it is called `state` or annotated with a
state type (`dict`, a `TypedDict`, an attrs class). One annotated with `Context` gets that. All others are its
parameters, filled by name: from a node's `params`, or by whoever calls it. The first of them also takes the state, in
a node whose `params` do not name it, if no annotation says that it is something else.

A registry only ever changes by additions. Where a tool is replaced (its module was imported anew), what stood before
is left behind as it was, for the runs that began with it: `ToolSet` is what a run holds.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Final, TypeVar, overload

import attrs

from .call import Signature, is_async, is_for_state, names_around, signature_of, wants_context
from .errors import BadArguments, ToolConflict, ToolInvalid, UnknownTool
from .jsonschema import DIALECT, Schemas, with_default
from .schema import did_you_mean
from .typecheck import shown
from .values import Goto

F = TypeVar("F", bound=Callable[..., Any])

_SEVERAL: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_NAME: Final = re.compile(r"[^\s@]+")

Stamp = tuple[int, int]
"""What tells whether a file has changed."""


@attrs.frozen(eq=False, repr=False)
class Tool:
    """A function with a name and a version, and what is known of it. Calling it calls the function."""

    name: str
    version: str
    function: Callable[..., Any]
    description: str
    is_async: bool
    module: str
    place: str
    """Where it is defined: `module.function (file:line)`."""
    names: Mapping[str, Any] | None = None
    """What annotations written as strings mean, if the function was defined inside another."""
    stamp: Stamp | None = None
    """Of the file of its module, when it was registered."""
    _code: Any = None
    _read: dict[str, Any] = attrs.field(factory=dict, init=False)

    @property
    def id(self) -> str:
        """`name@version`, by which a node may ask for just this one."""
        return f"{self.name}@{self.version}"

    @property
    def signature(self) -> Signature | None:
        """Its function's signature, or None if it shows none."""
        return self._once("signature", self._signature)  # type: ignore[no-any-return]  # see _once

    @property
    def state(self) -> str | None:
        """The parameter that is there for a node's state, if one is."""
        return self._once("state", self._state)  # type: ignore[no-any-return]

    @property
    def parameters(self) -> dict[str, Any]:
        """What else it takes, as a JSON Schema of an object."""
        return self._once("parameters", self._parameters)  # type: ignore[no-any-return]

    @property
    def returns(self) -> dict[str, Any] | None:
        """The JSON Schema of what it says it returns, if it does."""
        return self._once("returns", self._returns)  # type: ignore[no-any-return]

    def to_dict(self) -> dict[str, Any]:
        """All that can be told of it as data."""
        return {
            "name": self.name,
            "version": self.version,
            "description": self.description,
            "is_async": self.is_async,
            "takes_state": self.state is not None,
            "parameters": self.parameters,
            "returns": self.returns,
        }

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Tool {self.id}, {self.place}>"

    def bound(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], context: Callable[[], Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as the function takes them, a `Context` added where one is wanted.

        Raises `BadArguments` with every fault.
        """
        found: _Binding = self._once("binding", lambda: _Binding.of(self))
        return found.bound(args, kwargs, context)

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._read:
            self._read[name] = make()
        return self._read[name]

    def _signature(self) -> Signature | None:
        try:
            return signature_of(self.function, self.names)
        except (ValueError, TypeError):
            return None

    def _state(self) -> str | None:
        if self.signature is None:
            return None
        parameters = self.signature.parameters
        if any(parameter.name == "state" for parameter in parameters):
            return "state"
        first = next(iter(parameters), None)
        return first.name if first is not None and first.positional and is_for_state(first.annotation) else None

    def _parameters(self) -> dict[str, Any]:
        schemas = Schemas()
        properties: dict[str, Any] = {}
        required: list[str] = []
        signature = self.signature or Signature((), many=True)
        is_open = signature.many
        defaults = _defaults(self.function)
        for parameter in signature.parameters:
            if parameter.name == self.state or wants_context(parameter.annotation):
                continue
            if parameter.name == "params":
                is_open = True
                continue
            schema = {} if parameter.annotation is None else schemas.of(parameter.annotation)
            properties[parameter.name] = with_default(schema, defaults.get(parameter.name, attrs.NOTHING))
            if not parameter.optional:
                required.append(parameter.name)
        found: dict[str, Any] = {"$schema": DIALECT, "type": "object", "properties": properties}
        if required:
            found["required"] = required
        found["additionalProperties"] = is_open
        return {**found, "$defs": schemas.definitions} if schemas.definitions else found

    def _returns(self) -> dict[str, Any] | None:
        declared = None if self.signature is None else self.signature.returns
        if declared in (None, Goto, inspect.Signature.empty):
            return None
        schemas = Schemas()
        found = {"$schema": DIALECT, **schemas.of(declared)}
        return {**found, "$defs": schemas.definitions} if schemas.definitions else found


def _defaults(function: Any) -> dict[str, Any]:
    try:
        parameters = inspect.signature(function).parameters
    except (ValueError, TypeError):
        return {}
    return {name: p.default for name, p in parameters.items() if p.default is not inspect.Parameter.empty}


@attrs.frozen
class _Binding:
    """How a tool is called with arguments, read once."""

    tool: str
    signature: inspect.Signature | None
    contexts: tuple[str, ...]
    collects: bool
    """It has a parameter `params`, which gets what no other parameter is named for."""

    @staticmethod
    def of(tool: Tool) -> _Binding:
        try:
            signature = inspect.signature(tool.function)
        except (ValueError, TypeError):
            return _Binding(tool.id, None, (), False)
        seen = tool.signature.parameters if tool.signature else ()
        contexts = tuple(p.name for p in seen if p.by_name and wants_context(p.annotation))
        takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
        return _Binding(tool.id, signature, contexts, "params" in signature.parameters and not takes_any)

    def bound(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], context: Callable[[], Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if self.signature is None:
            return args, kwargs
        if self.contexts:
            taken = list(self.signature.parameters)[: len(args)]
            missing = [name for name in self.contexts if name not in kwargs and name not in taken]
            kwargs = {**kwargs, **{name: context() for name in missing}}
        if self.collects and "params" not in kwargs:
            known = self.signature.parameters
            rest = {name: value for name, value in kwargs.items() if name not in known}
            if rest or len(args) <= list(known).index("params"):
                kwargs = {**{name: value for name, value in kwargs.items() if name in known}, "params": rest}
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError:
            raise BadArguments(self.tool, list(self._faults(args, kwargs))) from None
        return args, kwargs

    def _faults(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[str]:
        assert self.signature is not None
        parameters = self.signature.parameters.values()
        kinds = inspect.Parameter
        by_place = [p.name for p in parameters if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
        by_name = [p.name for p in parameters if p.kind in (kinds.KEYWORD_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
        several = any(p.kind is kinds.VAR_POSITIONAL for p in parameters)
        if len(args) > len(by_place) and not several:
            yield f"takes at most {len(by_place)} arguments by position, got {len(args)}"
        if not any(p.kind is kinds.VAR_KEYWORD for p in parameters):
            takes = [name for name in by_name if name not in self.contexts]
            for name in kwargs:
                if name not in by_name:
                    hint = did_you_mean(name, takes) or f"it takes {', '.join(map(repr, takes)) or 'nothing'}"
                    yield f"takes no parameter {name!r} ({hint})"
        for name in by_place[: len(args)]:
            if name in kwargs and name in by_name:
                yield f"got its parameter {name!r} twice, by position and by name"
        given = {*kwargs, *by_place[: len(args)], *(p.name for p in parameters if p.kind in _SEVERAL)}
        for p in parameters:
            if p.default is kinds.empty and p.name not in given:
                yield f"needs its parameter {p.name!r}"


# --- versions -------------------------------------------------------------------------------------------


INLINE: Final = "inline-"
"""How versions begin that a definition without one gets when it is run at once: the rest is its digest."""


def version_order(version: str) -> tuple[Any, ...]:
    """By what versions are compared: numbers as numbers, words (`rc`, `beta`) before the number or the end.

    So 1.9 < 1.10 < 2rc1 < 2 = 2.0 < 2.0.1, and dates come in their order. A `v` in front says nothing. A graph that was
    only run at once is below all: whoever did that must not change what its name means to others.
    """
    if version.startswith(INLINE):
        return ((-1, version),)
    parts: list[tuple[int, Any]] = []
    for part in [*re.findall(r"\d+|[a-z]+", version.lower().removeprefix("v")), ""]:
        if not part.isdigit():
            while parts and parts[-1] == (2, 0):
                parts.pop()
        parts.append((2, int(part)) if part.isdigit() else (0, part) if part else (1, 0))
    return tuple(parts)


def split_id(name: str) -> tuple[str, str | None]:
    """`clean@2` is version 2 of `clean`; `clean` leaves the version open."""
    name, at, version = name.partition("@")
    return name, version if at else None


# --- registries -----------------------------------------------------------------------------------------


class ToolSet:
    """The tools of a registry as they are found: by name, and by version where several are there."""

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._versions: dict[str, dict[str, Tool]] = {}
        self._newest: dict[str, Tool] = {}
        for tool in tools:
            self.add(tool)

    def add(self, tool: Tool) -> None:
        """Add one, in the place of another of the same name and version."""
        versions = self._versions.setdefault(tool.name, {})
        versions[tool.version] = tool
        newest = max(versions.values(), key=lambda each: (version_order(each.version), each.version))
        self._newest[tool.name] = newest

    def get(self, name: str, version: str | None = None) -> Tool | None:
        """The tool of this name (`clean`, the newest, or `clean@2`), or None."""
        if version is None:
            newest = self._newest.get(name)
            if newest is not None:
                return newest
            name, version = split_id(name)
        return self._versions.get(name, {}).get(version or "")

    def find(self, name: str, version: str | None = None) -> Tool:
        """The same, or `UnknownTool` with a hint."""
        found = self.get(name, version)
        if found is None:
            raise self.unknown(name, version)
        return found

    def unknown(self, name: str, version: str | None = None) -> UnknownTool:
        """What is to be said of a tool that is not there."""
        if version is None:
            name, version = split_id(name)
        versions = [tool.version for tool in self.versions(name)]
        return UnknownTool(name, version, versions, did_you_mean(name, self))

    def versions(self, name: str) -> list[Tool]:
        """Every version of a tool, the oldest first."""
        found = self._versions.get(name, {}).values()
        return sorted(found, key=lambda tool: (version_order(tool.version), tool.version))

    def tools(self) -> list[Tool]:
        """Every tool, by name and then by version."""
        return [tool for name in sorted(self._versions) for tool in self.versions(name)]

    def name_of(self, function: Any) -> str | None:
        """By what name a node would ask for this function, if it is a tool here; with a version if it must."""
        for tool in self.tools():
            if function is tool or function is tool.function:
                return tool.name if self._newest[tool.name] is tool else tool.id
        return None

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._versions))

    def __len__(self) -> int:
        return sum(map(len, self._versions.values()))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None


# What is registered while modules are imported anew, which comes into force once all of them are there.
staged: Final[ContextVar[list[tuple[ToolRegistry, Tool]] | None]] = ContextVar("workflow_engine_staged", default=None)


class ToolRegistry:
    """Tools by name and version. May be used from any thread."""

    def __init__(self) -> None:
        self.current = ToolSet()
        """What runs that begin now call. A tool that is added shows in it; to replace one makes another set."""
        self.sources: dict[str, Stamp | None] = {}
        """What tools were loaded from by name, so that it can be loaded anew."""
        self.given: set[str] = set()
        """The ids of tools that were given one by one, in a list say."""
        self._lock = threading.RLock()

    def add(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        version: str | int = "1",
    ) -> Tool:
        """Register a function; by default under its own name, described by the first line of its docstring.

        Raises `ToolInvalid`, or `ToolConflict` if this name and version are another function's. The same function
        defined anew, by its module and name, takes the place of what it was.
        """
        return self.take(make_tool(function, name, description, version))

    def take(self, tool: Tool) -> Tool:
        """Register a tool that is one already, from another registry say."""
        waiting = staged.get()
        if waiting is not None:
            waiting.append((self, tool))
            return tool
        with self._lock:
            known = self.current.get(tool.name, tool.version)
            if known is not None:
                if known.function is tool.function and known.description == tool.description:
                    return known
                check_replaces(known, tool)
                self.current = ToolSet(self.current.tools())
            self.current.add(tool)
        return tool

    def take_all(self, tools: Iterable[Tool]) -> None:
        """Register several, or none of them if one cannot be."""
        trial = self
        with self._lock:
            if staged.get() is None:
                trial = ToolRegistry()
                trial.current = ToolSet(self.current.tools())
            for tool in tools:
                trial.take(tool)
            self.current = trial.current

    @overload
    def tool(self, function: F, /) -> F: ...
    @overload
    def tool(
        self, name: str | None = None, description: str | None = None, version: str | int = "1"
    ) -> Callable[[F], F]: ...
    def tool(self, name: Any = None, description: str | None = None, version: str | int = "1") -> Any:
        """`@registry.tool`, or with options `@registry.tool("name", version="2")`: as `@tool`, for this registry."""

        def add(function: F) -> F:
            self.add(function, name=name, description=description, version=version)
            return function

        if callable(name):
            function, name = name, None
            return add(function)
        return add

    def remove(self, name: str, version: str | None = None) -> None:
        """Take a tool out, in one version or in all; runs in flight keep it. Raises `UnknownTool`."""
        with self._lock:
            self.current.find(name, version)
            name, version = (name, version) if version is not None else split_id(name)
            kept = [t for t in self.current.tools() if t.name != name or version not in (None, t.version)]
            self.current = ToolSet(kept)

    def replace(self, tools: ToolSet) -> None:
        """Have these from now on; runs in flight keep what they have."""
        with self._lock:
            self.current = tools

    def get(self, name: str, version: str | None = None) -> Tool | None:
        """The tool of this name, the newest unless a version is given (`get("clean", "2")`, `get("clean@2")`)."""
        return self.current.get(name, version)

    def find(self, name: str, version: str | None = None) -> Tool:
        """The same, or `UnknownTool` with a hint."""
        return self.current.find(name, version)

    def unknown(self, name: str, version: str | None = None) -> UnknownTool:
        """What is to be said of a tool that is not there."""
        return self.current.unknown(name, version)

    def tools(self) -> list[Tool]:
        """Every tool, by name and then by version."""
        return self.current.tools()

    def __iter__(self) -> Iterator[str]:
        return iter(self.current)

    def __len__(self) -> int:
        return len(self.current)

    def __contains__(self, name: object) -> bool:
        return name in self.current

    def __repr__(self) -> str:
        return f"<ToolRegistry of {len(self)} tools>"


_process_wide: Final = ToolRegistry()


def get_tool_registry() -> ToolRegistry:
    """The registry that `@tool` enters functions in, and that an engine without `tools=` uses."""
    return _process_wide


@overload
def tool(function: F, /) -> F: ...
@overload
def tool(
    name: str | None = None,
    description: str | None = None,
    version: str | int = "1",
    *,
    registry: ToolRegistry | None = None,
) -> Callable[[F], F]: ...
def tool(
    name: Any = None,
    description: str | None = None,
    version: str | int = "1",
    *,
    registry: ToolRegistry | None = None,
) -> Any:
    """Make the function below a tool, in the process-wide registry unless another is given.

    `@tool`, or with options `@tool("name", description="...", version="2")`. The function stays as it is.
    """
    made: Any = (registry if registry is not None else _process_wide).tool
    return made(name, description, version)


# --- making one -----------------------------------------------------------------------------------------


def make_tool(function: Any, name: Any = None, description: Any = None, version: Any = "1") -> Tool:
    """A tool of a function, in no registry yet. Raises `ToolInvalid`."""
    if not callable(function):
        raise ToolInvalid(f"{shown(function)} cannot be a tool: it is no function")
    plain = inspect.unwrap(function)
    while isinstance(plain, functools.partial):
        plain = inspect.unwrap(plain.func)
    if name is None:
        name = getattr(function, "__name__", "")
        if not name or name == "<lambda>":
            raise ToolInvalid(f"{shown(function)} has no name of its own: give one, @tool('name')")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ToolInvalid(f"{shown(name)} cannot be the name of a tool: it is text without spaces and '@'")
    if isinstance(version, bool) or not isinstance(version, str | int) or not _NAME.fullmatch(str(version)):
        raise ToolInvalid(
            f"tool {name!r}: {shown(version)} cannot be a version: it is text without spaces and '@', such as '1.2'"
        )
    if description is not None and not isinstance(description, str):
        raise ToolInvalid(f"tool {name!r}: the description must be text, found {shown(description)}")
    if inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain):
        raise ToolInvalid(f"tool {name!r} is a generator: return the result instead of yielding")
    called = plain if inspect.isroutine(plain) or isinstance(plain, type) else type(plain)
    module = getattr(called, "__module__", None) or ""
    return Tool(
        name,
        str(version),
        function,
        _first_line(function) if description is None else description,
        is_async=is_async(function),
        module=module,
        place=_place(called, module),
        names=names_around(plain),
        stamp=stamp_of(module),
        code=_code_of_module(module),
    )


def _first_line(function: Any) -> str:
    if not inspect.isroutine(function) and not isinstance(function, type):
        function = getattr(function, "func", function)  # that of `partial` is about partials
    text: str = (inspect.getdoc(function) or "").strip()
    return text.partition("\n")[0]


def _place(called: Any, module: str) -> str:
    code = getattr(called, "__code__", None)
    where = f" ({code.co_filename}:{code.co_firstlineno})" if code is not None else ""
    return f"{module}.{getattr(called, '__qualname__', type(called).__name__)}{where}"


def stamp_of(module: str) -> Stamp | None:
    """What the file of an imported module looks like now; None if it has none."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if module == "__main__" or not file:
        return None
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _code_of_module(module: str) -> weakref.ref[types.CodeType] | None:
    """The code of a module that is being run now: a second run, of a module imported anew, has another."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == module:
            return weakref.ref(frame.f_code)
        frame = frame.f_back
    return None


def check_replaces(known: Tool, tool: Tool) -> None:
    """Raise `ToolConflict` unless one is the other, defined anew."""
    one, other = known.function, tool.function
    if one is other:
        return
    same_place = known.place.partition(" (")[0] == tool.place.partition(" (")[0]
    if same_place and isinstance(one, types.FunctionType) and isinstance(other, types.FunctionType):
        run = known._code() if known._code is not None else None
        # In one run of a module, two functions of one name are two, unless the very same lines made both.
        if run is None or tool._code is None or tool._code() is not run:
            return
        if one.__code__ is other.__code__ and not one.__closure__ and not other.__closure__:
            return
    raise ToolConflict(tool.name, tool.version, (known.place, tool.place))
