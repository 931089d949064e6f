"""Reading the items of a map from what may block or be async, taken as capacity allows.

A sync iterator that is no collection runs in a thread: nobody knows what its `next` does. A turn of a thread costs
more than most items do, so one turn takes as many as are wanted, for a short time: of a slow iterator each item goes
on its way at once, and of a quick one the threads cost little.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterator, Sequence
from inspect import isawaitable
from math import inf
from time import perf_counter
from typing import Any, Final, Protocol

import anyio

from actors import StrayCancellation, Waker, new_waker
from actors.waker import disown_cancellation

from .errors import EngineError, StateInvalid, noted
from .executors.work import Work, done_by
from .maps import IN_MEMORY, items_fault
from .ports import Executor
from .timers import Timer, Timers
from .tokens import Activation

# How long one turn of a thread takes items: far longer than the turn itself costs, far shorter than a node.
TURN_SECONDS: Final = 0.002


class ItemsWanted(Protocol):
    """Who wants the items."""

    def items_given(self, activation: Activation, items: Sequence[Any], more: bool) -> None:
        """These came, and there may be more."""
        ...

    def items_failed(self, activation: Activation, error: Exception) -> None:
        """The source raised."""
        ...


class ItemSource:
    """The items of one activation of a map; one task takes them, so that a generator keeps its scopes."""

    def __init__(self, activation: Activation, wanted_by: ItemsWanted, threads: Executor, timers: Timers) -> None:
        self._activation = activation
        self._wanted_by = wanted_by
        self._threads = threads
        self._timers = timers
        self._wanted = 0
        self._given = 0
        self._scope: anyio.CancelScope | None = None
        self._timer: Timer | None = None
        self._closed = False
        self._waker: Waker | None = None

    def want(self, count: int) -> None:
        """Ask for so many more."""
        self._wanted += count
        if self._waker is not None:
            self._waker.wake()

    def close(self) -> None:
        """Nothing more is wanted, and nothing is given from here on: the map may be at its next attempt."""
        self._closed = True
        if self._scope is not None:
            self._scope.cancel()

    async def serve(self) -> None:
        """Take items as they are wanted, until they are at an end or none is wanted any more.

        Called anew if the task was lost: from the beginning if nothing had been taken, else the map has failed.
        """
        self._waker = new_waker()
        with anyio.CancelScope() as self._scope:
            if self._closed:
                self._scope.cancel()
            try:
                if self._given:
                    after = f"{self._given} item{'s' * (self._given != 1)}"
                    raise EngineError(f"a crash of the engine's own tasks cut {self._name} short after {after}")
                await self._read()
            except Exception as error:
                self._failed(error)
            except anyio.get_cancelled_exc_class() as cancelled:
                if self._closed or not disown_cancellation():
                    raise
                stray = StrayCancellation(f"{self._name} raised a cancellation that nobody asked for")
                stray.__cause__ = cancelled
                self._failed(stray)

    def _failed(self, error: Exception) -> None:
        if not self._closed:
            self._wanted_by.items_failed(self._activation, error)

    @property
    def _name(self) -> str:
        return f"over= of map {self._activation.node.name!r}"

    async def _read(self) -> None:
        activation = self._activation
        decl = activation.node.decl.map
        assert decl is not None
        if isinstance(decl.over, str):
            items = activation.values[decl.over]
            # What is under a key is not ours to close, but a generator is of no use to anybody else.
            closes = isinstance(items, Generator | AsyncGenerator)
        else:
            try:
                items = decl.over(activation.state[1])
                if isawaitable(items):
                    items = await items
            except StopIteration as error:
                # No coroutine can raise it: as it is, it would say nothing of where it came from.
                raise RuntimeError(f"{self._name} raised StopIteration") from error
            except Exception as error:
                noted(error, f"raised by {self._name}")
                raise
            closes = True
            if fault := items_fault(items):
                raise StateInvalid(f"{self._name} gave {fault}")
        if isinstance(items, AsyncIterable):
            await self._read_async(items, closes)
        elif isinstance(items, IN_MEMORY):
            await self._read_here(iter(items))
        else:
            await self._read_in_thread(items, closes)

    async def _read_async(self, items: AsyncIterable[Any], closes: bool) -> None:
        iterator = aiter(items)
        try:
            while True:
                await self._until_wanted()
                try:
                    item = await anext(iterator)
                except StopAsyncIteration:
                    break
                self._give([item], True)
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None and closes:
                with anyio.move_on_after(1, shield=True):
                    await close()
        self._give([], False)

    async def _read_here(self, items: Iterator[Any]) -> None:
        more = True
        while more:
            await self._until_wanted()
            taken: list[Any] = []
            while more and len(taken) < self._wanted:
                try:
                    taken.append(next(items))
                except StopIteration:
                    more = False
            self._give(taken, more)

    async def _read_in_thread(self, items: Any, closes: bool) -> None:
        iterator = await done_by(self._threads, Work(iter, [items]))
        resting = True
        try:
            more = True
            while more:
                await self._until_wanted()
                resting = False
                more = await self._turn(iterator)
                resting = True
        finally:
            close = getattr(iterator, "close", None)
            # One that was given up in the middle of its `next` closes when that has come to its end.
            if close is not None and closes and resting:
                with anyio.move_on_after(1, shield=True):
                    await done_by(self._threads, Work(close))

    async def _turn(self, iterator: Iterator[Any]) -> bool:
        """Have a thread take items; whether there may be more."""
        turn = _Turn()

        def look() -> None:
            if perf_counter() <= turn.until:
                self._timer = self._timers.after(TURN_SECONDS, look)
            elif come := turn.news():
                # It waits for one more, which ends the turn; these must not wait with it.
                self._give(come, True)

        self._timer = self._timers.after(TURN_SECONDS, look)
        try:
            await done_by(self._threads, Work(turn.take, [iterator, self._wanted]))
        finally:
            self._timer.cancel()
        if come := turn.news():
            self._give(come, True)
        if turn.error is not None:
            raise turn.error
        if not turn.more:
            self._give([], False)
        return turn.more

    def _give(self, items: list[Any], more: bool) -> None:
        self._wanted -= len(items)
        self._given += len(items)
        if not self._closed:
            self._wanted_by.items_given(self._activation, items, more)

    async def _until_wanted(self) -> None:
        assert self._waker is not None
        while self._wanted <= 0:
            await self._waker.park()


class _Turn:
    """A thread's turn at an iterator. What it has taken can be had while it waits for the next."""

    def __init__(self) -> None:
        self.more = True
        self.error: Exception | None = None
        self.until = inf
        self._taken: list[Any] = []
        self._told = 0

    def take(self, items: Iterator[Any], wanted: int) -> None:
        """Take so many items, or for so long; in the thread."""
        self.until = perf_counter() + TURN_SECONDS
        try:
            for _ in range(wanted):
                self._taken.append(next(items))
                if perf_counter() > self.until:
                    break
        except StopIteration:
            self.more = False
        except Exception as error:
            self.error = error

    def news(self) -> list[Any]:
        """What has been taken since this was asked last; in the loop."""
        told, self._told = self._told, len(self._taken)
        return self._taken[told : self._told]
