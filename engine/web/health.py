"""`/health` and `/ready`: for supervisors of processes and for load balancers, who ask without a key.

`/health` is whether this process is worth keeping: it looks at the engine, not at whether the server answers, which
it would long after its engine died. It never waits, so a dead engine is 503 at once. `/ready` is whether to send it
work: not while it drains, and not while its store cannot be reached, which is nothing that a restart would mend. The
store is asked at most once a second, however many ask, and not waited for longer than `PATIENCE`.

An engine that fell back to memory is ready, since its operator asked for that, and says so, loudly: `"fallback"`.
"""

from __future__ import annotations

from typing import Any, Final

import anyio

from ..app import Engine
from ..errors import EngineError
from .draining import Draining

PATIENCE: Final = 2.0
FRESH_SECONDS: Final = 1.0

Checked = tuple[int, dict[str, Any]]
"""Status and document of an answer; with 503 goes a Retry-After."""


def health(engine: Engine) -> Checked:
    """Status and document of `/health`."""
    if engine.vitals.alive:
        return 200, {"status": "ok"}
    return 503, {"status": "dead", "reason": "the engine has ended; this process has to be started again"}


class Readiness:
    """Tells whether to send work here."""

    def __init__(self, engine: Engine, draining: Draining) -> None:
        self._engine = engine
        self._draining = draining
        self._looked_at = float("-inf")
        self._found: str | None = None
        self._lock = anyio.Lock()

    async def check(self) -> Checked:
        """Status and document of `/ready`."""
        vitals = self._engine.vitals
        reason = None
        if not vitals.alive:
            reason = "the engine has ended"
        elif vitals.draining or self._draining.begun:
            reason = "draining"
        elif await self._store_fault() is not None:
            reason = "the store cannot be reached"  # no more: whoever asks need not have a key
        document: dict[str, Any] = {"status": "ok" if reason is None else "unavailable"}
        if reason is not None:
            document["reason"] = reason
        if vitals.fell_back:
            document["fallback"] = "memory"
        return 200 if reason is None else 503, document

    async def _store_fault(self) -> str | None:
        async with self._lock:
            if anyio.current_time() - self._looked_at >= FRESH_SECONDS:
                self._found = await self._ask()
                self._looked_at = anyio.current_time()
            return self._found

    async def _ask(self) -> str | None:
        try:
            with anyio.fail_after(PATIENCE):
                await self._engine.check_store()
        except (EngineError, TimeoutError) as error:
            return str(error) or type(error).__name__
        return None
