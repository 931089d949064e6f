"""One lock for each name that somebody holds at present."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio


class Locks:
    """Two that want the same name take turns; different names know nothing of each other."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], tuple[anyio.Lock, list[None]]] = {}

    @asynccontextmanager
    async def of(self, kind: str, name: str | None) -> AsyncIterator[None]:
        """Hold this one; without a name there is nothing to hold."""
        if name is None:
            yield
            return
        lock, users = self._held.setdefault((kind, name), (anyio.Lock(), []))
        users.append(None)
        try:
            async with lock:
                yield
        finally:
            users.pop()
            if not users:
                self._held.pop((kind, name), None)
