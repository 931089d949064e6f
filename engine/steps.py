"""The short form of a graph: steps one after the other, each sequential or parallel.

Each step comes after the one before. The tasks of a sequential step follow each
other; those of a parallel step run side by side, and what comes next joins them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from .errors import GraphInvalid, GraphProblem
from .options import NODE_OPTIONS
from .retry import Retry
from .schema import did_you_mean
from .typecheck import shown

GRAPH_KEYS = ("name", "version", "steps")
STEP_KEYS = ("execution_type", "tasks")
OWN_TASK_KEYS = ("name", "tool")
TASK_KEYS = (
    *OWN_TASK_KEYS,
    *sorted(NODE_OPTIONS - {"batch", "accepts", "produces", "inputs", "outputs", "goto"}),
)


@attrs.frozen
class Task:
    """One task as a node: its own name, what it runs, its options."""

    name: str
    what: Any
    options: Mapping[str, Any]


@attrs.frozen
class Steps:
    """What the short form says, as nodes and edges."""

    name: str
    version: str | None
    tasks: tuple[Task, ...]
    edges: tuple[tuple[str, str], ...]
    entries: tuple[str, ...]


def read_steps(data: Any, functions: Any = None) -> Steps:
    """Read the short form; raises `GraphInvalid` with every fault, each at its JSON pointer."""
    return _Reader(functions).read(data)


class _Reader:
    def __init__(self, functions: Any) -> None:
        self.functions = functions
        self.problems: list[GraphProblem] = []
        self.tasks: dict[str, Task] = {}
        self.edges: list[tuple[str, str]] = []

    def problem(self, code: str, where: str, message: str, hint: str = "") -> None:
        self.problems.append(GraphProblem(code, where or "/", message, hint))

    def read(self, data: Any) -> Steps:
        entries: tuple[str, ...] = ()
        name, version = "", None
        if self._is_mapping(data, "", GRAPH_KEYS):
            name = self._text(data, "name", "")
            version = self._text(data, "version", "") if "version" in data else None
            entries = self._steps(data.get("steps"))
        if self.problems:
            raise GraphInvalid.of(name, self.problems)
        return Steps(name, version, tuple(self.tasks.values()), tuple(self.edges), entries)

    def _steps(self, steps: Any) -> tuple[str, ...]:
        if not self._is_list(steps, "/steps", "step"):
            return ()
        entries: tuple[str, ...] = ()
        before: tuple[str, ...] = ()
        for index, step in enumerate(steps):
            where = f"/steps/{index}"
            if not self._is_mapping(step, where, STEP_KEYS):
                continue
            kind = step.get("execution_type", "sequential")
            if kind not in ("sequential", "parallel"):
                message = f"execution_type must be 'sequential' or 'parallel', found {shown(kind)}"
                self.problem("bad_option", f"{where}/execution_type", message)
            if not self._is_list(step.get("tasks"), f"{where}/tasks", "task"):
                continue
            names = self._tasks(step["tasks"], f"{where}/tasks")
            for group in [names] if kind == "parallel" else [(name,) for name in names]:
                self.edges += [(source, target) for source in before for target in group]
                entries = entries or group
                before = group
        return entries

    def _tasks(self, tasks: Sequence[Any], where: str) -> tuple[str, ...]:
        names = []
        for index, task in enumerate(tasks):
            place = f"{where}/{index}"
            if self._is_mapping(task, place, TASK_KEYS):
                called = self._text(task, "name", place)
                name = self._free_name(called)
                tool = self._text(task, "tool", place) if "tool" in task else called
                options = {key: value for key, value in task.items() if key not in OWN_TASK_KEYS}
                if "retry" in options:
                    options["retry"] = self._retry(options["retry"], f"{place}/retry")
                self.tasks[name] = Task(name, self._find(tool, place), options)
                names.append(name)
        return tuple(names)

    def _free_name(self, name: str) -> str:
        """A task may be done several times; each time is a node of its own: `clean`, `clean_2`."""
        free, number = name, 2
        while free in self.tasks:
            free, number = f"{name}_{number}", number + 1
        return free

    def _find(self, name: str, where: str) -> Any:
        if self.functions is None or not name:
            return name
        found = self.functions.get(name)
        if found is None:
            known = [str(n) for n in self.functions] if isinstance(self.functions, Iterable) else []
            self.problem("unknown_tool", where, f"no function is called {name!r}", did_you_mean(name, known))
        return found

    def _retry(self, retry: Any, where: str) -> Any:
        if isinstance(retry, Retry):
            return retry
        fields = tuple(field.name for field in attrs.fields(Retry) if field.name != "on")
        if not self._is_mapping(retry, where, fields):
            return None
        try:
            return Retry(**retry)
        except (TypeError, ValueError) as error:
            self.problem("bad_option", where, str(error))
            return None

    def _is_mapping(self, value: Any, where: str, keys: Sequence[str]) -> bool:
        if not isinstance(value, Mapping):
            self.problem("bad_option", where, f"expected an object, found {shown(value)}")
            return False
        unknown = [key for key in value if key not in keys]
        for key in unknown:
            hint = did_you_mean(key, keys) or f"known are {', '.join(map(repr, keys))}"
            self.problem("bad_option", f"{where}/{key}", f"there is nothing called {key!r} here", hint)
        return not unknown

    def _is_list(self, value: Any, where: str, of: str) -> bool:
        if isinstance(value, list | tuple) and value:
            return True
        found = "an empty list" if isinstance(value, list | tuple) else "nothing" if value is None else shown(value)
        self.problem("bad_option", where, f"expected a list with at least one {of}, found {found}")
        return False

    def _text(self, data: Mapping[str, Any], key: str, where: str) -> str:
        value = data.get(key)
        if isinstance(value, str) and value:
            return value
        self.problem("bad_option", f"{where}/{key}", f"expected text, found {shown(value)}")
        return ""
