"""Which ended runs an engine leaves in its store: `Engine(keep=...)`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from actors.testing import BACKENDS, Backend, run
from engine import Engine, EngineError, Graph, Kept, RunNotFound, StoreUnavailable
from engine.stored import Compacted, Query, Write
from engine.stores.memory import MemoryStore

State = dict[str, Any]


class Store(MemoryStore):
    """Counts compactions, takes its time for them, and fails if it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.compactions: list[float] = []
        self.seconds = 0.0
        self.failing: Exception | None = None

    async def compact(self, keep: Kept, *, now: float) -> Compacted:
        self.compactions.append(anyio.current_time())
        await anyio.sleep(self.seconds)
        if self.failing is not None:
            raise self.failing
        return await super().compact(keep, now=now)

    async def commit(self, writes: Sequence[Write], *, sync: bool = False) -> None:
        await anyio.lowlevel.checkpoint()
        await super().commit(writes, sync=sync)


def graph() -> Graph:
    async def node(state: State) -> None:
        if state.get("fail"):
            raise OSError("as asked")

    return Graph("g").add_node("a", node).set_entry_point("a")


def in_virtual_time(backend: Backend, main: Any) -> None:
    run(main, backend=backend, virtual_time=True, patience_seconds=0.0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_runs_that_need_not_be_kept_are_removed_at_the_start_and_then_by_and_by(backend: Backend) -> None:
    store, left = Store(), list[int]()

    async def main() -> None:
        async with Engine(store) as engine:
            for _ in range(5):
                await engine.run(graph(), {})
        async with Engine(store, keep=Kept(count=2)) as engine:
            await anyio.sleep(1)
            left.append(len(await store.find(Query())))
            for _ in range(5):
                await engine.run(graph(), {})
            left.append(len(await store.find(Query())))
            await anyio.sleep(61)
            left.append(len(await store.find(Query())))

    in_virtual_time(backend, main)
    assert left == [2, 7, 2]
    assert len(store.compactions) == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_takes_long_is_done_rarely_and_what_fails_is_tried_again(backend: Backend, caplog: Any) -> None:
    store, began = Store(), 0.0
    store.seconds = 10.0

    async def main() -> None:
        nonlocal began
        began = anyio.current_time()
        async with Engine(store, keep=Kept(seconds=60)) as engine:
            await anyio.sleep(500)
            store.seconds, store.failing = 0.0, StoreUnavailable("the disk is full")
            await anyio.sleep(520)
            store.failing = RuntimeError("a bug")
            await anyio.sleep(70)
            store.failing = None
            assert (await engine.run(graph(), {})).status == "succeeded"

    in_virtual_time(backend, main)
    gaps = [later - earlier for earlier, later in zip(store.compactions, store.compactions[1:], strict=False)]
    assert store.compactions[0] - began < 1
    assert max(gaps) >= 1010
    assert 60 <= gaps[-1] < 70
    assert "at present: the disk is full" in caplog.text
    assert "a bug" in caplog.text


async def test_a_run_that_was_removed_is_not_retried_where_nothing_of_it_would_be_kept() -> None:
    async with Engine(MemoryStore()) as engine:
        failed = await engine.submit(graph(), {"fail": True})
        await failed.wait()
        await engine.compact(keep_count=0)
        with pytest.raises(RunNotFound, match="removed from the store since it ended"):
            await failed.retry({"fail": False})
        assert failed.status == "failed"


@pytest.mark.parametrize(
    ("store", "keep", "said"),
    [
        ("memory://", 5, "keep must be a Kept"),
        ("memory://", Kept(), "keep says neither seconds nor count"),
        (None, Kept(count=1), "keep is for a store"),
    ],
)
def test_a_limit_that_means_nothing_is_refused(store: Any, keep: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Engine(store, keep=keep)


@pytest.mark.parametrize("limits", [{"seconds": -1}, {"count": 1.5}, {"seconds": "week"}, {"count": True}])
async def test_limits_are_numbers(limits: Any) -> None:
    with pytest.raises(ValueError, match="must be a"):
        Kept(**limits)
    async with Engine("memory://") as engine:
        with pytest.raises((ValueError, EngineError), match="must be a"):
            await engine.compact(**{f"keep_{name}": value for name, value in limits.items()})
