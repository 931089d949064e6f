"""Async tests of the runtime run in virtual time, on the three backends; what would hang fails at once."""

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from actors.testing import BACKENDS
from actors.testing import anyio_backend as options_of

# Longer than anything a test waits for. Once nothing can go on, time jumps to its end.
A_DAY_SECONDS = 86_400.0


# For a thread. A process that gets no turn for a moment would lose a shorter one with it, and time would jump past what
# the thread is about to bring.
PATIENCE_SECONDS = 30.0


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The backend of an async test, with a clock that jumps."""
    return options_of(request.param, virtual_time=True, patience_seconds=PATIENCE_SECONDS)


@pytest.fixture(autouse=True)
def _nothing_hangs(request: pytest.FixtureRequest) -> None:
    item = request.node
    assert isinstance(item, pytest.Function)
    if inspect.iscoroutinefunction(item.obj):
        item.obj = _within_a_day(item.obj)


def _within_a_day(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def within_a_day(*args: Any, **kwargs: Any) -> None:
        with anyio.fail_after(A_DAY_SECONDS):
            await test(*args, **kwargs)

    return within_a_day
