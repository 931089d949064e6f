"""How one engine stands among the others: what all parts of its fleet go by."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from ..bell import Bell
from ..counts import FleetCounts
from ..errors import EngineClosed, EngineError, LeaseLost
from ..ports import Member
from ..sharing import Lease, Sharing

logger = logging.getLogger("engine")

# How often in a row something may fail before it is told: a connection is lost now and then, and made anew.
PATIENCE: Final = 3


class Standing:
    """Its place in the store, its lease, and who is to be woken for what."""

    def __init__(self, sharing: Sharing) -> None:
        self.name: Final = f"{socket.gethostname()}:{os.getpid()}"
        self.sharing: Final = sharing
        self.joined: Member | None = None
        self.lease: Lease | None = None
        self.lost: LeaseLost | None = None
        """Why it has no lease."""
        self.left = False
        self.lose: Callable[[LeaseLost], None]
        """What ends its lease. Set before it serves."""
        self._failures: dict[str, int] = {}
        """In a row, of what does not work at present."""
        self.counts: Final = FleetCounts()
        self.bells: Final = {name: Bell() for name in ("lease", "claims", "inbox", "graphs")}

    @property
    def member(self) -> Member:
        """Once it has joined."""
        assert self.joined is not None
        return self.joined

    def check(self) -> None:
        """Raise `LeaseLost` while it has no lease: nothing can be accepted then."""
        if self.lost is not None:
            raise LeaseLost(self.lost.engine, self.lost.found)

    def check_lease(self, lease: Lease) -> None:
        """Raise `LeaseLost` if it is not this one any more."""
        if self.lease is not lease:
            raise LeaseLost(self.name, "it was away for too long")

    def ring(self, *names: str) -> None:
        """Wake those who wait for these."""
        for name in names:
            self.bells[name].ring()

    async def tried(self, act: Callable[[], Awaitable[None]], failed: str, *, patience: int = PATIENCE) -> bool:
        """Whether it could be done. What fails is told once, when it has failed more often than it may."""
        lease = self.lease
        try:
            await act()
        except LeaseLost as error:
            if lease is not None and self.lease is lease and not self.left:
                self.lose(error)
            return False
        except EngineClosed:
            return False
        except Exception as error:
            self._failures[failed] = failures = self._failures.get(failed, 0) + 1
            known = error if not isinstance(error, EngineError) else None
            if failures == (patience if known is None else 1):
                logger.warning("engine %s %s: %s", self.name, failed, error, exc_info=known)
            if known is not None:
                await anyio.sleep(self.sharing.poll)
            return False
        self._failures.pop(failed, None)
        return True
