"""Runs by the clock.

Each tick has a number, the time divided by the period, and its run has that number in its idempotency key. So
submitting a tick again is no second run, and everything else is simple: a program that was killed in the middle of a
tick submits it again; one that was down for some ticks submits the last few, of which the store knows those that were.
What a tick is given follows from its number alone, since the same key with another state would be refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import time
from typing import Any

import anyio
from attrs import frozen

from engine import Engine, EngineBusy, EngineClosed, Run, StoreUnavailable

logger = logging.getLogger("examples.service")


@frozen(kw_only=True)
class Schedule:
    """What is to run, and how often."""

    name: str
    graph: str
    every: float
    """In seconds."""
    state: Callable[[float, float], Any]
    """What a run is given: of when the period of its tick began, and when it ended."""
    catch_up: int = 3
    """Of the ticks that fell into a time when nobody kept it, so many are made up for; older ones are not."""

    def tick(self, now: float) -> int:
        """The newest tick that is due."""
        return int(now // self.every)


async def keep_time(engine: Engine, schedule: Schedule, told: Callable[[Run], object] = lambda run: None) -> None:
    """Submit a run for each tick, until it is cancelled or the engine drains."""
    newest = schedule.tick(time())
    oldest = await engine.runs(tags={"schedule": schedule.name}, limit=1)
    # Nothing is made up for that was due before there was a schedule.
    done = min([newest, *[int(run.tags["tick"]) for run in oldest]]) - 1
    while True:
        newest = schedule.tick(time())
        for tick in range(max(done + 1, newest - schedule.catch_up), newest + 1):
            run = await _submitted(engine, schedule, tick)
            if run is None:
                return
            told(run)
        done = max(done, newest)  # a clock that is set back submits nothing twice
        await anyio.sleep(max(0.0, (done + 1) * schedule.every - time()))


async def _submitted(engine: Engine, schedule: Schedule, tick: int) -> Run | None:
    """The run of a tick, however long it takes to get a place for it; None once there is none to be had any more."""
    state = schedule.state((tick - 1) * schedule.every, tick * schedule.every)
    while True:
        try:
            return await engine.submit(
                schedule.graph,
                state,
                idempotency_key=f"{schedule.name} {tick}",
                tags={"schedule": schedule.name, "tick": str(tick)},
            )
        except EngineBusy as error:
            logger.warning("%s, tick %d, is late: %s", schedule.name, tick, error)
            await anyio.sleep(error.retry_after)
        except StoreUnavailable as error:
            logger.warning("%s, tick %d, is late: %s", schedule.name, tick, error)
            await anyio.sleep(1)
        except EngineClosed:
            return None
