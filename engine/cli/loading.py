"""Graphs and tools by what people call them: a definition file, a Python file, `module:attribute`.

The only place that knows where they come from. Definitions are data and run nothing; Python files and modules are
imported, since whoever names them means to run them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import attrs

from ..errors import EngineError, GraphInvalid, StateFault, StateInvalid
from ..fromdata import FromData
from ..graph import Graph
from ..loading import load_installed_tools
from ..loading import load_tools as register
from ..schema import did_you_mean
from ..texts import MOST_BYTES, MOST_YAML_BYTES, read_json, read_yaml
from ..tools import get_tool_registry
from ..typecheck import shown
from ..written import written_of
from .faults import Refusal
from .files import read_file
from .wording import for_definition, limited_by_name

DEFINITIONS: Final = (".json", ".yaml", ".yml")
_USUAL_LIMIT: Final = 1000
"""`Graph(max_iterations=)` of whoever says nothing."""


@attrs.frozen
class Loaded:
    """A graph, and what to call it when it is to be loaded again."""

    graph: Graph
    source: str


def load_tools(sources: Sequence[str]) -> None:
    """Register tools, process-wide: those of these modules, and those that installed packages bring."""
    _find_beside()
    register(*sources, registry=get_tool_registry())
    load_installed_tools()


@attrs.frozen
class Loader:
    """Loads graphs."""

    max_iterations: int | None = None
    """The limit of cycles in graphs that say nothing of it."""

    def one(self, source: str) -> Loaded:
        """The graph that is called so; raises `Refusal` if it is none or several, `GraphInvalid` for a definition."""
        found = list(self._of(source))
        if len(found) != 1:
            raise _not_one(source, found)
        return found[0]

    def all(self, sources: Iterable[str]) -> list[Loaded]:
        """Every graph in these."""
        found: list[Loaded] = []
        for source in sources:
            here = list(self._of(source))
            if not here:
                raise _not_one(source, here)
            found += here
        return found

    def _of(self, source: str) -> Iterator[Loaded]:
        file, attribute = _split(source)
        if file.suffix.lower() in DEFINITIONS and not attribute:
            yield Loaded(self._definition(file), source)
            return
        if file.is_dir() and not attribute:
            yield from self.all([str(each) for each in sorted(file.iterdir()) if each.suffix.lower() in DEFINITIONS])
            return
        if file.suffix == ".py":
            found = list(_graphs_in(_module_of_file(file), attribute, str(file)))
        elif file.is_file():
            raise Refusal(f"{source} is no definition: its name must end in {', '.join(DEFINITIONS)}, or .py")
        else:
            module = source.partition(":")[0]
            found = list(_graphs_in(_imported(module, source), attribute, module))
        for loaded in found:
            self._limit(loaded.graph)
        yield from found

    def _limit(self, graph: Graph, but: Collection[str] = ()) -> None:
        written = written_of(graph)
        assert written is not None
        for part in written.everything() if self.max_iterations is not None else ():
            if part.settings.get("max_iterations") == _USUAL_LIMIT and part.name not in but:
                part.settings = {**part.settings, "max_iterations": self.max_iterations}
                part.revision += 1

    def _definition(self, file: Path) -> Graph:
        is_json = file.suffix.lower() == ".json"
        try:
            text = read_file(file, MOST_BYTES if is_json else MOST_YAML_BYTES)
        except FileNotFoundError:
            raise Refusal(f"there is no file {str(file)!r}") from None
        try:
            graph = (Graph.from_json if is_json else Graph.from_yaml)(text, tools=get_tool_registry())
        except GraphInvalid as error:
            raise for_definition(error) from None
        if self.max_iterations is not None:
            # Who writes 1000 in a definition means it, though it is what is usual.
            self._limit(graph, limited_by_name((read_json if is_json else read_yaml)(text)))
        return graph


def _split(source: str) -> tuple[Path, str]:
    """The file and the attribute; only the last colon parts them, since a drive has one, too."""
    head, colon, tail = source.rpartition(":")
    if colon and all(part.isidentifier() for part in tail.split(".")):
        return Path(head), tail
    return Path(source), ""


def _not_one(source: str, found: Sequence[Loaded]) -> Refusal:
    if not found:
        return Refusal(f"there is no graph in {source}", "name what holds it: file.py:graph, or module:graph")
    names = ", ".join(loaded.source for loaded in found)
    return Refusal(f"{source} holds {len(found)} graphs", f"name one of them: {names}")


# --- Python ---------------------------------------------------------------------------------------------


def _module_of_file(file: Path) -> ModuleType:
    """The module of a file, under its own name: so its classes are found again when a stored run is read."""
    if not file.is_file():
        raise Refusal(f"there is no file {str(file)!r}")
    folder, name = str(file.resolve().parent), file.stem
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = _imported(name, str(file))
    found = getattr(module, "__file__", None)
    if found is None or Path(found).resolve() != file.resolve():
        raise Refusal(
            f"{file} cannot be imported as {name!r}: that is {found or 'a module of Python itself'}",
            "give the file another name",
        )
    return module


def _find_beside() -> None:
    """Have modules found in the working directory, as `python -m` does and the script of a package does not."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))


def _imported(name: str, source: str) -> ModuleType:
    _find_beside()
    if not name or not all(part.isidentifier() for part in name.split(".")):
        raise Refusal(f"there is no file {source!r}, and {name!r} is no module's name")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _import_failed(source, error) from error
        hint = f"if a file is meant: {name}.py" if Path(f"{name}.py").is_file() else ""
        raise Refusal(f"there is no file and no module {name!r}", *([hint] if hint else [])) from None
    except (Exception, SystemExit) as error:  # a script without a guard may end itself
        raise _import_failed(source, error) from error


def _import_failed(source: str, error: BaseException) -> Refusal:
    if isinstance(error, EngineError):
        return Refusal(f"importing {source} failed: {error}")
    place, traceback = "", error.__traceback__
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if not file.startswith("<"):
            place = f" ({Path(file).name}, line {traceback.tb_lineno})"
        traceback = traceback.tb_next
    if isinstance(error, SyntaxError):
        place = ""  # it says so itself
    return Refusal(f"importing {source} raised {type(error).__name__}: {error}{place}", "--debug shows the traceback")


def _graphs_in(module: ModuleType, attribute: str, source: str) -> Iterator[Loaded]:
    """The graphs of a module: the one under an attribute, those in it, or all that are its own."""
    if not attribute:
        own = {id(value): name for name, value in reversed(vars(module).items()) if isinstance(value, Graph)}
        for name in reversed(own.values()):
            yield Loaded(getattr(module, name), f"{source}:{name}")
        return
    found: Any = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            hint = did_you_mean(part, [known for known in vars(found) if not known.startswith("_")])
            raise Refusal(f"{source} has no {attribute!r}", *([hint] if hint.startswith("did") else [])) from None
    yield from _graphs_of(found, f"{source}:{attribute}")


def _graphs_of(found: Any, source: str) -> Iterator[Loaded]:
    if isinstance(found, Graph):
        yield Loaded(found, source)
    elif isinstance(found, Mapping | list | tuple):
        for one in found.values() if isinstance(found, Mapping) else found:
            yield from _graphs_of(one, source)
    elif callable(found) and not isinstance(found, type):
        try:
            made = found()
        except Exception as error:
            raise Refusal(
                f"{source}() raised {type(error).__name__}: {error}", "--debug shows the traceback"
            ) from error
        if not isinstance(made, Graph):
            raise Refusal(f"{source}() gave {shown(made)}, which is no graph")
        yield Loaded(made, source)
    else:
        raise Refusal(f"{source} is {shown(found)}, which is no graph")


# --- states ---------------------------------------------------------------------------------------------


def state_for(graph: Graph, data: Any) -> Any:
    """What JSON means as the initial state of a graph: a date where its class has one; raises `StateInvalid`."""
    if not isinstance(graph.state, type) or graph.state is dict or not isinstance(data, dict):
        return data
    faults: list[StateFault] = []
    state = FromData().read(graph.state, data, (), faults)
    if faults:
        raise StateInvalid.of("the initial state", faults)
    return state
