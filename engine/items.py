"""Reading the items of a map whose `over` is a function: an iterable or an async one, taken as capacity allows."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Iterator, Sequence
from inspect import isawaitable
from typing import Any, Protocol

import anyio

from actors import Waker, new_waker

from .errors import StateInvalid
from .tokens import Activation


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

    def __init__(self, activation: Activation, wanted_by: ItemsWanted) -> None:
        self._activation = activation
        self._wanted_by = wanted_by
        self._wanted = 0
        self._scope = anyio.CancelScope()
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
        self._scope.cancel()

    async def serve(self) -> None:
        """Take items as they are wanted, until they are at an end or none is wanted any more."""
        self._waker = new_waker()
        with self._scope:
            try:
                await self._read()
            except Exception as error:
                if not self._closed:
                    self._wanted_by.items_failed(self._activation, error)

    async def _read(self) -> None:
        activation = self._activation
        decl = activation.node.decl.map
        assert decl is not None
        assert callable(decl.over)
        items = decl.over(activation.state[1])
        if isawaitable(items):
            items = await items
        if isinstance(items, AsyncIterable):
            await self._read_async(items)
        elif isinstance(items, Iterable):
            await self._read_sync(iter(items))
        else:
            raise StateInvalid(f"map {activation.node.name!r}: `over` gave {type(items).__name__}, which has no items")

    async def _read_async(self, items: AsyncIterable[Any]) -> None:
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
            if close is not None:
                with anyio.move_on_after(1, shield=True):
                    await close()
        self._give([], False)

    async def _read_sync(self, items: Iterator[Any]) -> None:
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

    def _give(self, items: list[Any], more: bool) -> None:
        self._wanted -= len(items)
        if not self._closed:
            self._wanted_by.items_given(self._activation, items, more)

    async def _until_wanted(self) -> None:
        assert self._waker is not None
        while self._wanted <= 0:
            await self._waker.park()
