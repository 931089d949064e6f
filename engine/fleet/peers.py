"""The other engines: what is heard of them, and taking over from those that are gone."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from ..logs import about
from ..stored import Kind
from .claiming import Claims
from .standing import Standing

logger = logging.getLogger("engine")

# How long it listens at a time.
LISTEN_SECONDS: Final = 60.0


class Peers:
    """Looks after the others."""

    def __init__(self, standing: Standing, claims: Claims, learn: Callable[[], Awaitable[None]]) -> None:
        self._standing = standing
        self._claims = claims
        self._learn = learn
        self._strangers: dict[Kind, None] = {}
        """What it has said that it cannot run."""

    async def take_over(self) -> None:
        """Have the runs of engines that are gone be for anybody, until it is cancelled."""
        standing = self._standing
        while True:
            if standing.lease is not None:
                await standing.tried(self._take_over_once, "cannot look after the leases of other engines")
            await anyio.sleep(standing.sharing.poll)

    async def _take_over_once(self) -> None:
        for gone in await self._standing.member.take_over():
            self._standing.counts.taken_over += gone.runs
            logger.warning("engine %s is gone: its %d runs go on elsewhere", gone.name, gone.runs)
            self._standing.ring("claims")

    async def listen(self) -> None:
        """Wake whoever is to know what the others say, until it is cancelled."""
        standing = self._standing
        missed = {"graphs"}  # what may have been said before it listened; runs that wait are looked for anyhow
        while True:
            words: set[str] = set()

            async def listen() -> None:
                words.update(await standing.member.heard(0.0 if missed else LISTEN_SECONDS))  # noqa: B023  # called at once

            if not await standing.tried(listen, "does not hear the other engines at present, but looks"):
                missed = {"queued", "inbox", "graphs"}
                await anyio.sleep(standing.sharing.poll)
            else:
                words |= missed
                missed = set()
            if "queued" in words:
                self._claims.may_wait()
            standing.ring(*(words & {"inbox", "graphs"}))

    async def learn_graphs(self) -> None:
        """Know the graphs that others define, until it is cancelled."""
        standing = self._standing
        look_at = anyio.current_time() + standing.sharing.lease
        while True:
            # All of them are read: so it is done when somebody says that there are more, and rarely else.
            if await standing.bells["graphs"].wait(max(0.0, look_at - anyio.current_time())):
                await standing.tried(self._learn, "cannot read the graphs that others have defined")
            if anyio.current_time() >= look_at and self._claims.are_wanted:
                look_at = anyio.current_time() + standing.sharing.lease
                await standing.tried(self._tell_of_strangers, "cannot see which runs wait")

    async def _tell_of_strangers(self) -> None:
        """Say once which runs have waited for long and cannot run here: perhaps nobody can run them."""
        standing = self._standing
        for kind, runs in (await standing.member.strangers(self._claims.kinds(), standing.sharing.lease)).items():
            if kind not in self._strangers:
                self._strangers[kind] = None
                standing.ring("graphs")  # perhaps it is defined, and nobody has heard it
                name, version, fingerprint = kind
                logger.warning(
                    "%d runs of %r version %r wait for an engine that knows it as %s…: this one does not",
                    *(runs, name, version, fingerprint[:12]),
                    extra=about(graph=name),
                )
