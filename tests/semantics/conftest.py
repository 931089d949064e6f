"""Async tests of the semantics run in virtual time, on the three backends; none may hang or leave a task behind.

Files whose name ends in `real_time_engine.py` have the real clock: threads and processes do not know another.

What the engine promises it promises with a journal, too. So each test through the engine runs without a store, over
one in memory, and over one that fails now and then: `Engine()` means that store then (`store_under`). What has no
clock of its own runs on one backend a test with the failing one, in turn; the rest of the products, and SQLite files:
`pytest tests/semantics --store none|memory|faulty|sqlite`, with which everything runs on that store alone, on every
backend. (In virtual time SQLite's threads are waited for in real time.)
"""

import functools
import inspect
import itertools
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import engine.durable
import engine.journal
from actors.testing import BACKENDS, tasks_left
from actors.testing import anyio_backend as options_of
from engine import Engine
from engine.ports import Store
from engine.stores.memory import MemoryStore
from engine.stores.sqlite import SqliteStore
from tests.faulty_store import FaultyStore

# Longer than anything a test waits for. Once nothing can go on, time jumps to its end.
A_DAY_SECONDS = 86_400.0
THREE_MINUTES_SECONDS = 180.0
# For a thread. A process that gets no turn for a moment would lose a shorter one with it, and time would jump past what
# the thread is about to bring.
PATIENCE_SECONDS = 30.0


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The backend of an async test, with a clock that jumps, except in the files that need the real one."""
    return options_of(request.param, virtual_time=not is_in_real_time(request), patience_seconds=PATIENCE_SECONDS)


def is_in_real_time(request: pytest.FixtureRequest) -> bool:
    return request.path.stem.endswith("real_time_engine")


# --- with a journal -------------------------------------------------------------------------------------

Make = Callable[[], Store]


def memory(folder: Path, seed: str) -> Make:
    """In memory, one for each engine."""
    return MemoryStore


def faulty(folder: Path, seed: str) -> Make:
    """Failing in one to five calls of a hundred, by the name of the test."""
    numbers = itertools.count()
    return lambda: FaultyStore(MemoryStore(), (seed, next(numbers)), longest_delay_seconds=0)


def sqlite(folder: Path, seed: str) -> Make:
    """In files."""
    numbers = itertools.count()
    return lambda: SqliteStore(folder / f"journal {next(numbers)}.db")


STORES: dict[str, Callable[[Path, str], Make]] = {"memory": memory, "faulty": faulty, "sqlite": sqlite}
# What runs if nothing is said, in the order of their importance.
BY_DEFAULT = ("none", "memory", "faulty")


def pytest_configure(config: pytest.Config) -> None:
    line = "only_on(*stores, reason): a test of what is rightly different with another store, and so is told elsewhere"
    config.addinivalue_line("markers", line)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if is_through_engine(metafunc.definition) and "store_under" in metafunc.fixturenames:
        asked = metafunc.config.getoption("--store")
        names = [asked] if asked else list(BY_DEFAULT)
        if (only := metafunc.definition.get_closest_marker("only_on")) is not None:
            assert only.kwargs["reason"], "why is it rightly different with a store?"
            names = [name for name in names if name in only.args]
        params = [pytest.param(name, id=pytest.HIDDEN_PARAM if name == "none" else name) for name in names]
        metafunc.parametrize("store_under", params, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of what is in real time one backend a test has a journal, and of the failing store one backend in any case."""
    if config.getoption("--store"):
        return
    dropped = [item for item in items if _is_one_too_many(item)]
    config.hook.pytest_deselected(items=dropped)
    items[:] = [item for item in items if item not in set(dropped)]


def _is_one_too_many(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    store = callspec.params.get("store_under", "none") if callspec is not None else "none"
    if callspec is None or store == "none" or not (store == "faulty" or item.path.stem.endswith("real_time_engine")):
        return False
    if "anyio_backend" not in callspec.params:
        return False
    turn = zlib.crc32(f"{item.path.name} {item.originalname} {store}".encode()) % len(BACKENDS)  # type: ignore[attr-defined]
    return callspec.params["anyio_backend"] != BACKENDS[turn]


def is_through_engine(item: pytest.Item) -> bool:
    """Whether it is one of those that run with each store; random graphs have journaled runs of their own."""
    return item.path.parent == Path(__file__).parent and (
        item.path.stem.endswith("_engine") and not item.path.stem.startswith("test_random")
    )


@pytest.fixture(autouse=True)
def store_under(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What `Engine()` keeps its runs in: the name of a store, or `none`."""
    name: str = getattr(request, "param", "none")
    if name != "none":
        make = STORES[name](tmp_path, request.node.nodeid)
        original = Engine.__init__

        @functools.wraps(original)
        def init(self: Engine, store: Any = None, **options: Any) -> None:
            original(self, make() if store is None else store, **options)

        monkeypatch.setattr(Engine, "__init__", init)
    if name == "faulty":
        # Or every test of times would have to know when the store was tried again.
        monkeypatch.setattr(engine.journal, "FIRST_DELAY", 0.0)
        monkeypatch.setattr(engine.durable, "FIRST_DELAY", 0.0)
    return name


# --- the end of a test ----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _ends_and_leaves_nothing(request: pytest.FixtureRequest) -> None:
    item = request.node
    assert isinstance(item, pytest.Function)
    if inspect.iscoroutinefunction(item.obj):
        item.obj = _tidy(item.obj, THREE_MINUTES_SECONDS if is_in_real_time(request) else A_DAY_SECONDS)


def _tidy(test: Callable[..., Awaitable[None]], seconds: float) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def tidy(*args: Any, **kwargs: Any) -> None:
        before = Counter(tasks_left())
        with anyio.fail_after(seconds):
            await test(*args, **kwargs)
        left = Counter(tasks_left()) - before
        assert not left, f"no task outlives the engine, but {sorted(left)} did"

    return tidy
