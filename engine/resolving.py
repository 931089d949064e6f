"""The resolver: where a node's function, its input files and the keeping of its output files come together.

An engine makes one of its tools and its files. A program that keeps functions and documents in a place of its own
implements `Resolver` and passes it in, `Engine(resolver=...)`: three methods, and the engine neither knows nor cares
what is behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs

from .carried import FILE, NUMBER, ORIGIN, ROLE, Carried
from .file import File
from .files.files import Files
from .files.memory import MemoryFiles
from .filetyping import Makes, Takes, assigned


@attrs.frozen(kw_only=True)
class Task:
    """The activation that files are for."""

    run_id: str
    graph: str
    node: str
    activation: int
    token: str
    """The same for every attempt of this activation, for ever: what is saved under it is not doubled by another try."""
    takes: tuple[Takes, ...] = ()
    """The parameters that want files, with the media types that they take."""
    makes: tuple[Makes, ...] = ()
    """What its author says that it makes."""


@attrs.frozen
class Offer:
    """A file that has come to a node: from which activation (`clean#1`; empty: with the run's input) and as what."""

    file: File
    origin: str = ""
    role: str = ""
    number: int = 0
    """Its place among the files of that activation."""


class Resolver(Protocol):
    """Finds functions, gathers the files that a node is given, and keeps those that it made.

    Everything that it decides must follow from what it is asked: the same task with the same offers gets the same
    files, whenever it is asked, or a run that is tried again is another one.
    """

    def get_function(self, name: str) -> Callable[..., Any] | None:
        """The function of this name; None if there is none, and the engine's own tools are asked.

        Called when a graph is compiled. It may give a `Tool`.
        """
        ...

    async def gather_inputs(self, task: Task, offers: Sequence[Offer]) -> Mapping[str, File | Sequence[File] | None]:
        """What each parameter that wants files gets, by its name. Raises `FileMismatch` if that cannot be."""
        ...

    async def save_output(self, task: Task, file: File) -> File:
        """The file, once its contents are safe: called before anything says that the node has made it."""
        ...


class PortsResolver:
    """The engine's own: tools from its registry, files matched by media type and kept by its file store."""

    def __init__(self, tools: Any, files: Files) -> None:
        self.tools = tools
        self.files = files

    def get_function(self, name: str) -> Callable[..., Any] | None:
        """The tool of this name; see `Resolver`."""
        found: Callable[..., Any] | None = self.tools.get(name)
        return found

    async def gather_inputs(self, task: Task, offers: Sequence[Offer]) -> Mapping[str, File | Sequence[File] | None]:
        """The files by their media types; see `Resolver`."""
        return assigned(task.node, task.takes, [_carried(offer) for offer in offers])

    async def save_output(self, task: Task, file: File) -> File:
        """The file once it is kept; see `Resolver`."""
        return await self.files.keep(file)


class MemoryResolver:
    """Functions and files in memory, for tests: `saved` tells what was saved, in the order in which it was."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]] | None = None) -> None:
        self.functions = dict(functions or {})
        self.files = Files(MemoryFiles())
        self.saved: list[tuple[str, File]] = []
        """The token of the activation that made each, and the file."""

    def get_function(self, name: str) -> Callable[..., Any] | None:
        """The function of this name; see `Resolver`."""
        return self.functions.get(name)

    async def gather_inputs(self, task: Task, offers: Sequence[Offer]) -> Mapping[str, File | Sequence[File] | None]:
        """The files by their media types; see `Resolver`."""
        return assigned(task.node, task.takes, [_carried(offer) for offer in offers])

    async def save_output(self, task: Task, file: File) -> File:
        """The file once it is in memory; see `Resolver`."""
        kept = await self.files.keep(file)
        self.saved.append((task.token, kept))
        return kept


class Functions:
    """Finds functions for graphs: a resolver's, else the tools of the engine."""

    def __init__(self, resolver: Resolver, tools: Any) -> None:
        self._resolver = resolver
        self._tools = tools

    def get(self, name: str) -> Callable[..., Any] | None:
        """The function of this name, if there is one."""
        found = self._resolver.get_function(name)
        return self._tools.get(name) if found is None else found

    def __iter__(self) -> Any:
        return iter(self._tools)


def offer_of(one: Carried) -> Offer:
    """What a token carries, as a resolver is asked about it."""
    return Offer(one[FILE], one[ORIGIN], one[ROLE], one[NUMBER])


def _carried(offer: Offer) -> Carried:
    return (offer.role, offer.origin, offer.number, offer.file)
