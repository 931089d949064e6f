"""Tools from elsewhere: from modules by name, from installed packages, and once more from modules that have changed.

Modules are imported anew as new modules, not into the old ones: functions that runs in flight hold go on seeing the
helpers and constants that they were written with. Everything is imported before anything is replaced, so a module
with a fault changes nothing.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

import attrs

from .errors import GraphInvalid, ToolConflict, ToolInvalid, ToolsNotLoaded
from .schema import did_you_mean
from .tools import Stamp, Tool, ToolRegistry, ToolSet, get_tool_registry, make_tool, staged, stamp_of
from .typecheck import shown

logger = logging.getLogger("engine")

ENTRY_POINTS: Final = "workflow_engine.tools"


def load_tools(*sources: Any, registry: ToolRegistry | None = None) -> ToolRegistry:
    """Tools from `"module:attribute"`, `"module"`, a registry, a function, or lists and mappings of these.

    They come into a new registry unless one is given. Of a module, these are the registries in it and what `@tool`
    marks in it and its submodules. Raises `ToolsNotLoaded`, `ToolInvalid` or `ToolConflict`; then nothing is loaded.
    """
    into = ToolRegistry() if registry is None else registry
    marked = get_tool_registry().current
    named = {source: list(_from_source(source, marked)) for source in sources if isinstance(source, str)}
    given = [tool for one in sources if not isinstance(one, str) for tool in _tools_in(one, shown(one), marked)]
    into.take_all([*given, *(tool for tools in named.values() for tool in tools)])
    into.sources.update({source: stamp_of(source.partition(":")[0]) for source in named})
    into.given.update(tool.id for tool in given)
    return into


def tools_of(given: Any) -> ToolRegistry:
    """What `Engine(tools=...)` means: a registry as it is, None the process-wide one, anything else is loaded."""
    if given is None:
        return get_tool_registry()
    return given if isinstance(given, ToolRegistry) else load_tools(given)


def load_installed_tools(registry: ToolRegistry | None = None, *, strict: bool = False) -> list[ToolsNotLoaded]:
    """Load what installed packages bring as entry points `workflow_engine.tools`, by default process-wide.

    One that is broken keeps none of the others away. It is logged as an error and returned; with `strict` all that
    are broken are raised together once the others are loaded.
    """
    from importlib.metadata import entry_points  # 30 ms, for those who ask for it

    into = get_tool_registry() if registry is None else registry
    failed: list[ToolsNotLoaded] = []
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: (entry.name, entry.value)):
        try:
            load_tools(entry.value.replace(" ", "").partition("[")[0], registry=into)
        except (ToolsNotLoaded, ToolInvalid, ToolConflict) as error:
            owner = f" of {entry.dist.name} {entry.dist.version}" if entry.dist is not None else ""
            reason = error.reason if isinstance(error, ToolsNotLoaded) else str(error)
            broken = ToolsNotLoaded(entry.value, f"{reason} (entry point {entry.name!r}{owner})")
            broken.__cause__ = error.__cause__ or error
            logger.error("%s", broken, exc_info=broken.__cause__)
            failed.append(broken)
    if failed and strict:
        raise ExceptionGroup("some installed tools cannot be loaded", failed)
    return failed


# --- finding tools in what was loaded -------------------------------------------------------------------


_NONE: Final[Mapping[int, ToolSet]] = {}


def _from_source(source: str, marked: ToolSet, news: Mapping[int, ToolSet] = _NONE) -> Iterator[Tool]:
    """The tools that `module` or `module:attribute` means.

    `marked` are those that `@tool` has registered, `news` what registries will hold after a reload.
    """
    name, colon, attribute = source.partition(":")
    if not name or not all(part.isidentifier() for part in name.split(".")) or (colon and not attribute):
        raise ToolsNotLoaded(source, "expected 'module' or 'module:attribute'")
    found: Any = _imported(name, source)
    for part in attribute.split(".") if attribute else ():
        try:
            found = getattr(found, part)
        except AttributeError:
            hint = did_you_mean(part, [known for known in dir(found) if not known.startswith("_")])
            said = f"{name!r} has no {attribute!r}"
            raise ToolsNotLoaded(source, f"{said}; {hint}" if hint else said) from None
    yield from _tools_in(found, source, marked, news)


def _imported(name: str, source: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise ToolsNotLoaded(source, f"there is no module {error.name!r}") from None
        raise ToolsNotLoaded(source, f"importing {name!r} raised {type(error).__name__}: {error}") from error
    except (Exception, SystemExit) as error:  # a script without a guard may end itself
        raise ToolsNotLoaded(source, f"importing {name!r} raised {type(error).__name__}: {error}") from error


def _tools_in(found: Any, source: str, marked: ToolSet, news: Mapping[int, ToolSet] = _NONE) -> Iterator[Tool]:
    match found:
        case Tool():
            yield found
        case ToolRegistry():
            yield from news.get(id(found), found.current).tools()
        case ModuleType():
            yield from _tools_of_module(found, source, marked, news)
        case str():
            yield from _from_source(found, marked, news)
        case Mapping():
            for name, one in found.items():
                yield make_tool(one.function if isinstance(one, Tool) else one, name)
        case _ if callable(found):
            same = [tool for tool in marked.tools() if tool.function is found]
            yield from same or [make_tool(found)]
        case Iterable():
            for one in found:
                yield from _tools_in(one, source, marked, news)
        case _:
            raise ToolsNotLoaded(source, f"found {shown(found)}, which is neither a tool nor a registry nor a function")


def _tools_of_module(module: ModuleType, source: str, marked: ToolSet, news: Mapping[int, ToolSet]) -> Iterator[Tool]:
    found: dict[int, Tool] = {}
    inside = f"{module.__name__}."
    held = {id(value) for value in vars(module).values()}
    for tool in marked.tools():
        if f"{tool.module}.".startswith(inside) or id(tool.function) in held:
            found[id(tool)] = tool
    for value in vars(module).values():
        if isinstance(value, ToolRegistry) and value is not get_tool_registry():
            found.update({id(tool): tool for tool in news.get(id(value), value.current).tools()})
    if not found:
        raise ToolsNotLoaded(source, f"module {module.__name__!r} has no tools: mark functions with @tool")
    yield from found.values()


# --- once more ------------------------------------------------------------------------------------------


@attrs.frozen
class Reloaded:
    """What became of tools whose modules were imported anew."""

    modules: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    """Tools by `name@version` that are there as before, from a module that was imported anew."""
    removed: tuple[str, ...] = ()
    refused: tuple[GraphInvalid, ...] = ()
    """Graphs whose nodes the tools do not fit any more: they keep those that they had."""


@attrs.frozen
class Reload:
    """Tools imported anew that wait to be put in their places."""

    registry: ToolRegistry
    modules: tuple[str, ...] = ()
    news: tuple[tuple[ToolRegistry, ToolSet], ...] = ()

    def commit(self) -> Reloaded:
        """Have new runs call them. Runs in flight hold what they began with."""
        before = {tool.id: tool for tool in self.registry.tools()}
        for registry, tools in self.news:
            registry.replace(tools)
        after = {tool.id: tool for tool in self.registry.tools()}
        for source in self.registry.sources:
            self.registry.sources[source] = stamp_of(source.partition(":")[0])
        return Reloaded(
            self.modules,
            added=tuple(id for id in after if id not in before),
            changed=tuple(id for id, tool in after.items() if id in before and before[id] is not tool),
            removed=tuple(id for id in before if id not in after),
        )


def reload_tools(registry: ToolRegistry | None = None) -> Reloaded:
    """Import the modules of a registry's tools anew where their files have changed, for runs that begin from now on.

    Raises `ToolsNotLoaded` or another fault of the new code, and then changes nothing. Of a running engine call
    `await engine.reload_tools()`, which compiles its graphs again.
    """
    return prepare_reload(get_tool_registry() if registry is None else registry).commit()


def prepare_reload(registry: ToolRegistry) -> Reload:
    """The part of it that reads files and imports, for any thread."""
    modules = _to_import(registry)
    if not modules:
        return Reload(registry)
    with _anew(modules) as defined:
        marked = get_tool_registry()
        owners = {id(each): each for each in (registry, marked, *(owner for owner, _ in defined))}
        news: dict[int, ToolSet] = {}
        for key, each in owners.items():
            kept = [tool for tool in each.tools() if tool.module not in modules]
            news[key] = _together([*kept, *(tool for owner, tool in defined if owner is each)])
        mine = [*news[id(registry)].tools(), *_given(registry, modules, defined)]
        for source in registry.sources:
            mine += _from_source(source, news[id(marked)], news)
        news[id(registry)] = _together(mine)
    return Reload(registry, tuple(modules), tuple((each, news[key]) for key, each in owners.items()))


def _given(registry: ToolRegistry, modules: Iterable[str], defined: Iterable[tuple[Any, Tool]]) -> Iterator[Tool]:
    """What has become of the tools that were given to a registry one by one."""
    for tool in registry.tools():
        if tool.id not in registry.given or tool.module not in modules:
            continue
        same = [new for _, new in defined if (new.name, new.module) == (tool.name, tool.module)]
        if same:
            yield ToolSet(same).find(tool.name)
            continue
        found: Any = sys.modules[tool.module]
        for part in getattr(tool.function, "__qualname__", "").split("."):
            found = getattr(found, part, None)
        if callable(found):
            yield make_tool(found, tool.name, version=tool.version)


def _together(tools: Iterable[Tool]) -> ToolSet:
    into = ToolSet()
    for tool in tools:
        known = into.get(tool.name, tool.version)
        if known is not None and known.function is not tool.function:
            raise ToolConflict(tool.name, tool.version, (known.place, tool.place))
        into.add(known or tool)
    return into


def _to_import(registry: ToolRegistry) -> list[str]:
    """The modules to import anew: those that have changed, and then also those that gather tools from others."""
    stamps: dict[str, Stamp | None] = {tool.module: tool.stamp for tool in registry.tools()}
    gathering = {source.partition(":")[0]: stamp for source, stamp in registry.sources.items()}
    stamps = {**gathering, **stamps}
    changed = [name for name, stamp in stamps.items() if stamp is not None and stamp_of(name) != stamp]
    if not changed:
        return []
    return [*changed, *(name for name, stamp in gathering.items() if name not in changed and stamp is not None)]


@contextmanager
def _anew(names: list[str]) -> Iterator[list[tuple[ToolRegistry, Tool]]]:
    """Import modules once more; gives what they define, and where. If the body raises, the old ones are back."""
    old = {name: sys.modules[name] for name in names if name in sys.modules}
    defined: list[tuple[ToolRegistry, Tool]] = []
    token = staged.set(defined)
    try:
        for name, module in old.items():
            _forget_bytecode(module)
            del sys.modules[name]
        importlib.invalidate_caches()
        for name in names:
            _imported(name, name)
        kept = _kept_registries(old)
        yield [(kept.get(id(owner), owner), tool) for owner, tool in defined]
    except BaseException:
        for name, module in old.items():
            sys.modules[name] = module
            parent, _, child = name.rpartition(".")
            if parent in sys.modules:
                setattr(sys.modules[parent], child, module)
        raise
    finally:
        staged.reset(token)


def _kept_registries(old: Mapping[str, ModuleType]) -> dict[int, ToolRegistry]:
    """The registries of old modules, by those that took their places in the new ones; there they stand again.

    For an engine may have been given one, or another module, and must not be left with what was.
    """
    kept: dict[int, ToolRegistry] = {}
    for name, module in old.items():
        for attribute, registry in vars(module).items():
            new = getattr(sys.modules[name], attribute, None)
            if isinstance(registry, ToolRegistry) and isinstance(new, ToolRegistry) and new is not registry:
                setattr(sys.modules[name], attribute, registry)
                kept[id(new)] = registry
    return kept


def _forget_bytecode(module: ModuleType) -> None:
    """Python trusts its cache if a file has the size that it had, and was written in the same second."""
    cached = getattr(module, "__cached__", None)
    if cached:
        with contextlib.suppress(OSError):
            os.unlink(cached)
