"""Async tests of the semantics run in virtual time, on the three backends; none may hang or leave a task behind.

Files whose name ends in `real_time_engine.py` have the real clock: threads and processes do not know another.
"""

import functools
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from actors.testing import BACKENDS, tasks_left
from actors.testing import anyio_backend as options_of

# Longer than anything a test waits for. Once nothing can go on, time jumps to its end.
A_DAY_SECONDS = 86_400.0
A_MINUTE_SECONDS = 60.0


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The backend of an async test, with a clock that jumps, except in the files that need the real one."""
    return options_of(request.param, virtual_time=not is_in_real_time(request))


def is_in_real_time(request: pytest.FixtureRequest) -> bool:
    return request.path.stem.endswith("real_time_engine")


@pytest.fixture(autouse=True)
def _ends_and_leaves_nothing(request: pytest.FixtureRequest) -> None:
    item = request.node
    assert isinstance(item, pytest.Function)
    if inspect.iscoroutinefunction(item.obj):
        item.obj = _tidy(item.obj, A_MINUTE_SECONDS if is_in_real_time(request) else A_DAY_SECONDS)


def _tidy(test: Callable[..., Awaitable[None]], seconds: float) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def tidy(*args: Any, **kwargs: Any) -> None:
        before = Counter(tasks_left())
        with anyio.fail_after(seconds):
            await test(*args, **kwargs)
        left = Counter(tasks_left()) - before
        assert not left, f"no task outlives the engine, but {sorted(left)} did"

    return tidy
