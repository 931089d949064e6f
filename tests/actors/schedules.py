"""Runs one test on the three backends under many seeded schedules, in virtual time."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from actors import Actor, DeadLetter, NullObserver, StopReason
from actors.testing import BACKENDS, Backend, run, tasks_left

SEEDS = range(50)


def on_all_schedules(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a test of an async function: three backends, each under every seed; what fails names its seed."""

    @pytest.mark.parametrize("backend", BACKENDS)
    @functools.wraps(test)
    def scheduled(backend: Backend, quiet_log: None, **arguments: Any) -> None:
        for seed in SEEDS:
            try:
                run(functools.partial(_tidy, test, arguments), backend=backend, seed=seed, virtual_time=True)
            except BaseException as error:
                error.add_note(f"on {backend} with seed {seed}")
                raise

    # pytest gives what the signature names: what the wrapper wants, and what the test wants.
    own = list(inspect.signature(_wanted).parameters.values())
    theirs = list(inspect.signature(test).parameters.values())
    scheduled.__signature__ = inspect.Signature(own + theirs)  # type: ignore[attr-defined]
    return scheduled


def _wanted(backend: Backend, quiet_log: None) -> None: ...


async def _tidy(test: Callable[..., Awaitable[None]], arguments: dict[str, Any]) -> None:
    await test(**arguments)
    assert tasks_left() == []


@pytest.fixture
def quiet_log() -> Any:
    """Nobody reads the log of thousands of schedules, and formatting its tracebacks would take half of the time."""
    logger = logging.getLogger("actors")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(before)


class Boom(Exception):
    """What a crashing actor of a test raises."""


class Log(NullObserver):
    """What happened, in order, as short texts; also the observer of the tree."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.letters: list[DeadLetter] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)

    def restarting(self, ref: Any, incarnation: int, delay: float) -> None:
        self(f"{ref.name}{incarnation} in {delay:g}")

    def stopped(self, ref: Any, reason: StopReason) -> None:
        self(f"{ref.name} is {reason.kind}")

    def dead_letter(self, letter: DeadLetter) -> None:
        self.letters.append(letter)

    def of(self, *words: str) -> list[str]:
        """The lines that hold one of the words, in order."""
        return [line for line in self.lines if any(word in line.split() for word in words)]


class Worker(Actor[Any]):
    """Logs its life. `"boom"` crashes it; a number is slept; whatever else is remembered and all of it returned."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.memory: list[Any] = []

    @property
    def name(self) -> str:
        return f"{self.context.ref.name}{self.context.incarnation}"

    async def on_start(self) -> None:
        self.log(f"start {self.name}")
        await anyio.lowlevel.checkpoint()
        self.log(f"started {self.name}")

    async def receive(self, message: Any) -> Any:
        if message == "boom":
            raise Boom(self.name)
        if message == "stop":
            self.context.stop()
        elif isinstance(message, int | float):
            await anyio.sleep(message)
        self.memory.append(message)
        return list(self.memory)

    async def on_stop(self, reason: StopReason) -> None:
        self.log(f"stop {self.name}")
        await anyio.lowlevel.checkpoint()
        self.log(f"stopped {self.name}")
