"""The short form of a graph: steps one after the other, each sequential or parallel.

Each step comes after the one before. The tasks of a sequential step follow each
other; those of a parallel step run side by side, and what comes next joins them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from .definition_format import MOST_EDGES, MOST_NODES, STEPS
from .errors import GraphInvalid
from .node_options import read_options
from .shapes import TOO_MANY, Faults, Found
from .texts import NotData, check_data


@attrs.frozen
class Task:
    """One task as a node: its own name, what it runs, its options, and what it was read from."""

    name: str
    what: Any
    options: Mapping[str, Any]
    found: Found


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
    try:
        check_data(data)
    except NotData as error:
        raise error.as_invalid() from None
    reader = _Reader(functions)
    sound = STEPS.read(data, "", reader.faults)
    name, version = "?", None
    if isinstance(sound, Found):
        name, version = sound.get("name", "?"), sound.get("version")
        reader.read(sound.get("steps", ()))
    if reader.faults.problems:
        raise GraphInvalid.of(name, reader.faults.told(data))
    return Steps(name, version, tuple(reader.tasks.values()), tuple(reader.edges), reader.entries)


class _Reader:
    def __init__(self, functions: Any) -> None:
        self.functions = functions
        self.faults = Faults()
        self.tasks: dict[str, Task] = {}
        self.edges: list[tuple[str, str]] = []
        self.entries: tuple[str, ...] = ()
        self._free: dict[str, int] = {}

    def read(self, steps: Sequence[Found]) -> None:
        before: tuple[str, ...] = ()
        for step in steps:
            for group in self._groups(step):
                if len(self.edges) + len(before) * len(group) > MOST_EDGES or len(self.tasks) > MOST_NODES:
                    self.faults.add(
                        "/steps", f"that is more than {MOST_EDGES:,} edges or {MOST_NODES:,} nodes", TOO_MANY
                    )
                    return
                self.edges += [(source, target) for source in before for target in group]
                self.entries = self.entries or group
                before = group

    def _groups(self, step: Found) -> Iterator[tuple[str, ...]]:
        """The tasks of a step that run side by side, group after group."""
        names = tuple(self._task(task) for task in step.get("tasks", ()) if "name" in task)
        if step.get("execution_type") == "parallel":
            yield names
        else:
            yield from ((name,) for name in names)

    def _task(self, task: Found) -> str:
        name = self._free_name(task["name"])
        options = read_options(task)
        what = None if "tool" in task.faulty else self._find(task.get("tool", task["name"]), task.at)
        self.tasks[name] = Task(name, what, options, task)
        return name

    def _free_name(self, name: str) -> str:
        """A task may be done several times; each time is a node of its own: `clean`, `clean_2`."""
        free, number = name, self._free.get(name, 2)
        while free in self.tasks:
            free, number = f"{name}_{number}", number + 1
        self._free[name] = number
        return free

    def _find(self, name: str, at: str) -> Any:
        if self.functions is None:
            return name
        found = self.functions.get(name)
        if found is None:
            known = [str(n) for n in self.functions] if isinstance(self.functions, Iterable) else []
            self.faults.add(at, f"no function is called {name!r}", self.faults.hint(name, known), "unknown_tool")
        return found
