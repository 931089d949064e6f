"""The three backends that every async test runs on, and the check that it really does.

A wrong plugin setting can run a test named `[asyncio]` on trio and report success. So the check does not
ask pytest's settings, nor sniffio (which the plugin tells what to answer): it looks, from inside the
coroutine that runs the test, at the loop that runs it.
"""

import asyncio
import functools
import inspect
import logging
import signal
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from engine import get_tool_registry
from engine.tools import ToolSet
from tests import servers
from tests.clusters import ray_cluster as ray_cluster

BACKENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}

# How long an example takes is no promise of anybody's, and where the machine is busy any of them may take a second.
settings.register_profile("at its own pace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("at its own pace")


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a shell starts what it puts into the background. Tests that interrupt themselves, or a process of their own,
    # would wait for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Here, since pytest asks for options before it looks into folders; tests/semantics/conftest.py says what it is."""
    parser.addoption("--store", choices=("none", "memory", "faulty", "sqlite"), help="for tests/semantics")


@pytest.fixture(params=[pytest.param(options, id=name) for name, options in BACKENDS.items()])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The backend of an async test, which so runs three times."""
    backend: tuple[str, dict[str, Any]] = request.param
    return backend


@pytest.fixture(autouse=True)
def _backend_is_the_one_named(request: pytest.FixtureRequest) -> Iterator[None]:
    # The test function itself is wrapped, not a fixture beside it: whoever runs the test runs the check.
    item = request.node
    assert isinstance(item, pytest.Function)
    hypothesis = getattr(item.obj, "hypothesis", None)
    if hypothesis is not None:
        original = hypothesis.inner_test
        if inspect.iscoroutinefunction(original):
            hypothesis.inner_test = _checked(original, item)
        yield
        hypothesis.inner_test = original  # anyio's plugin, too, has put a wrapper here
    else:
        if inspect.iscoroutinefunction(item.obj):
            item.obj = _checked(item.obj, item)
        yield


@pytest.fixture(autouse=True)
def _tools_stay_those_that_there_were() -> Iterator[None]:
    # What one test registers process-wide, from a module that is gone after it, is nothing to the next.
    registry = get_tool_registry()
    before, tools = registry.current, registry.tools()
    sources, given = dict(registry.sources), set(registry.given)
    yield
    if registry.current is not before or len(before) != len(tools):
        registry.current = ToolSet(tools)
        registry.sources, registry.given = sources, given


@pytest.fixture(autouse=True)
def _logging_stays_as_it_was() -> Iterator[None]:
    # A handler that a test has left behind writes every line of all later ones to a stream that is long closed.
    loggers = [logging.getLogger(name) for name in (None, "engine", "actors")]
    before = [(logger.level, logger.handlers[:]) for logger in loggers]
    yield
    left = [(logger.level, logger.handlers[:]) for logger in loggers]
    for logger, (level, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers
    assert left == before, "the test has changed what is logged, and left it so"


def _checked(test: Callable[..., Awaitable[None]], item: pytest.Function) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def checked(*args: Any, **kwargs: Any) -> None:
        named, running = backends_named(item), running_backend()
        if named != {running}:
            pytest.fail(f"{item.name} names {sorted(named) or 'no backend'}, but runs on {running!r}")
        await test(*args, **kwargs)

    return checked


def backends_named(item: pytest.Function) -> set[str]:
    """The backends in the square brackets at the end of a test's name."""
    callspec = getattr(item, "callspec", None)
    return set() if callspec is None else BACKENDS.keys() & set(callspec.id.split("-"))


def running_backend() -> str:
    """The backend that runs the caller, by the loop it is in."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        from trio.lowlevel import in_trio_run

        return "trio" if in_trio_run() else "none"
    return "uvloop" if type(loop).__module__.partition(".")[0] == "uvloop" else "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _servers_end() -> Iterator[None]:
    yield
    servers.close_shared()


@pytest.fixture(autouse=True)
def _schemas_end() -> Iterator[None]:
    yield
    servers.drop_schemas()


@pytest.fixture
def postgres_url() -> str:
    """The address of an empty schema on a real PostgreSQL server, which this starts if no test did before."""
    return servers.fresh_postgres()


@pytest.fixture
def redis_url() -> str:
    """The address of a prefix that no key has, on a real Redis server, which this starts if no test did before."""
    return servers.fresh_redis()
