"""The source of a map's items lives as long as the attempt that reads it."""

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from engine import Engine, Graph, RunFailed


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("failing", ["the source", "an item", "nobody"])
async def test_a_map_over_a_function_leaves_no_source_behind_and_can_be_retried(kind: str, failing: str) -> None:
    read: list[int] = []
    fails = failing != "nobody"

    def sync_rows(state: dict[str, Any]) -> Any:
        for number in range(5):
            read.append(number)
            if number == 3 and fails and failing == "the source":
                raise ValueError("as asked")
            yield number

    async def async_rows(state: dict[str, Any]) -> Any:
        for number in sync_rows(state):
            await anyio.lowlevel.checkpoint()
            yield number

    async def double(item: int) -> int:
        if item == 4 and fails and failing == "an item":
            raise ValueError("as asked")
        return 2 * item

    over = sync_rows if kind == "sync" else async_rows
    graph = Graph("mapping").add_map("map", double, over=over, into="results", concurrency=2).set_entry_point("map")
    with anyio.fail_after(30):
        async with Engine() as engine:
            run = await engine.submit(graph, {})
            if fails:
                with pytest.raises(RunFailed):
                    await run.result()
                fails = False
                await run.retry()
            result = await run.result()
            sources = engine._registry.find("mapping").scheduler._sources

            assert not sources

    assert result.state == {"results": [0, 2, 4, 6, 8]}
    assert read[-5:] == [0, 1, 2, 3, 4]
