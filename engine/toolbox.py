"""What a node calls tools with: `ctx.tools`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import anyio
import attrs

from actors import Waker, new_waker

from .context import Context
from .errors import EngineError, noted
from .executors.work import Work, done_by
from .executors.worker import finished
from .nodes import Places
from .ports import Executor
from .tools import Tool, ToolRegistry, ToolSet


@attrs.frozen
class Threads:
    """The threads of an engine, as calls use them that are no node's."""

    executor: Executor
    places: Places
    backend: str
    loop: int
    """The thread of the event loop."""

    async def run(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call a sync function, once it is its turn among the nodes that wait for a thread."""
        turn = _Turn(self.places)
        await turn.come()
        try:
            return await done_by(self.executor, Work(function, args, kwargs))
        finally:
            self.places.give_back()


class _Turn:
    """One call in the queue for the places that nodes take, too."""

    __slots__ = ("_has_place", "_places", "_waker")

    def __init__(self, places: Places) -> None:
        self._places = places
        self._has_place = False
        self._waker: Waker | None = None

    async def come(self) -> None:
        """Wait for a place, to be given back."""
        if self._places.take(self):
            return
        self._waker = new_waker()
        try:
            while not self._has_place:
                await self._waker.park()
        except BaseException:
            if self._has_place:
                self._places.give_back()
            else:
                self._places.leave(self)
            raise

    def take_queued(self) -> None:
        """There is a place."""
        self._has_place = self._places.take(self)
        if self._waker is not None:
            self._waker.wake()


class ToolBox:
    """The tools that a node may call, as they were when its run began.

    Made by the engine; in a test of a node by hand, `Context(tools=ToolBox(registry))`.
    """

    __slots__ = ("_context", "_threads", "_tools")

    def __init__(
        self,
        tools: ToolSet | ToolRegistry,
        threads: Threads | None = None,
        context: Callable[[], Context] | None = None,
    ) -> None:
        self._tools: Final = tools
        self._threads = threads
        self._context = context

    async def call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a tool (`"clean"`, or `"clean@2"`) and return its result: a sync one in a thread of the engine's.

        It is part of the activation that calls it: what ends that ends the call. A tool that wants a `Context` gets
        that of its caller. Raises `UnknownTool`, `BadArguments`, and whatever the tool raises, with a note.
        """
        tool, args, kwargs = self._bound(name, args, kwargs)
        try:
            if tool.is_async:
                return await tool.function(*args, **kwargs)
            if self._threads is None:
                return await anyio.to_thread.run_sync(partial(tool.function, *args, **kwargs), abandon_on_cancel=True)
            return await self._threads.run(tool.function, args, kwargs)
        except Exception as error:
            noted(error, f"in tool {tool.id!r}")
            raise

    def call_sync(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """The same for a sync node: here and now, in its own thread; an async tool in a loop of its own."""
        tool, args, kwargs = self._bound(name, args, kwargs)
        threads = self._threads
        if tool.is_async and threads is not None and threading.get_ident() == threads.loop:
            raise EngineError(
                f"ctx.tools.call_sync({name!r}): an async tool cannot be waited for in the event loop; "
                f"make the node async and await ctx.tools.call(...), or leave out run_in='loop'"
            )
        try:
            return finished(tool.function(*args, **kwargs), "asyncio" if threads is None else threads.backend)
        except Exception as error:
            noted(error, f"in tool {tool.id!r}")
            raise

    def get(self, name: str, version: str | None = None) -> Tool | None:
        """The tool of this name, the newest unless a version is given."""
        return self._tools.get(name, version)

    def names(self) -> list[str]:
        """The names of all tools, sorted."""
        return list(self._tools)

    def tools(self) -> list[Tool]:
        """Every tool, by name and then by version."""
        return self._tools.tools()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tools)

    def __len__(self) -> int:
        return len(self._tools)

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def __repr__(self) -> str:
        return f"<ToolBox of {len(self)} tools>"

    def _bound(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Tool, tuple[Any, ...], dict[str, Any]]:
        tool = self._tools.find(name)
        return tool, *tool.bound(args, kwargs, self._context or partial(Context, tools=self))
