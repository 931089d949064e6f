"""An executor of a user's own, with nothing of ours but what the protocol asks for."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from engine import Capabilities, Engine, Graph, Health, Retry, RunFailed, Work, WorkerLost
from tests.engine.test_metrics import values
from tests.virtual_time import in_virtual_time


class Bare:
    """Says what is asked of it."""

    limit = 2
    capabilities = Capabilities(shares_memory=True)

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.trouble = ""
        self.lost = 0

    async def start(self) -> None:
        self.asked.append("start")

    async def submit(self, work: Work) -> Any:
        self.asked.append("submit")
        if self.lost:
            self.lost -= 1
            raise WorkerLost(work.name, None, None)
        return await anyio.to_thread.run_sync(work)

    async def cancel(self, work: Work) -> bool:
        await anyio.sleep(0.01)  # it is shielded, so it may wait
        self.asked.append("cancel")
        return False

    def health(self) -> Health:
        return Health(trouble=self.trouble, running=1)

    async def close(self) -> None:
        self.asked.append("close")


class Hanging(Bare):
    """Whose calls never end."""

    async def submit(self, work: Work) -> Any:
        self.asked.append("submit")
        await anyio.sleep_forever()


def double(state: dict[str, Any]) -> dict[str, int]:
    return {"double": 2 * state["n"]}


def graph(**options: Any) -> Graph:
    return Graph("g").add_node("double", double, run_in="mine", **options).set_entry_point("double")


async def test_what_the_protocol_names_is_all_that_it_needs() -> None:
    mine = Bare()
    async with Engine(executors={"mine": mine}) as engine:
        result = await engine.run(graph(), {"n": 21})

    assert result.state == {"n": 21, "double": 42}
    assert mine.asked == ["start", "submit", "close"]


async def test_what_is_cancelled_is_told_to_it_and_waited_for() -> None:
    mine = Hanging()
    async with Engine(executors={"mine": mine}) as engine:
        run = await engine.submit(graph(), {"n": 1})
        while "submit" not in mine.asked:
            await anyio.lowlevel.checkpoint()
        await run.cancel()
        assert await run.wait() == "cancelled"
        assert mine.asked == ["start", "submit", "cancel"]


@in_virtual_time
async def test_a_time_out_is_told_to_it_as_well() -> None:
    mine = Hanging()
    async with Engine(executors={"mine": mine}) as engine:
        run = await engine.submit(graph(timeout=0.02), {"n": 1})
        with pytest.raises(RunFailed, match="took longer"):
            await run.result()

    assert mine.asked == ["start", "submit", "cancel", "close"]


async def test_one_that_cannot_start_is_closed_and_the_engine_does_not_start() -> None:
    class Broken(Bare):
        async def start(self) -> None:
            raise ConnectionError("no such machine")

    mine = Broken()
    with pytest.raises(ConnectionError):
        async with Engine(executors={"mine": mine}):
            raise AssertionError("it is entered")

    assert mine.asked == ["close"]


@pytest.mark.parametrize(
    ("on", "statuses"), [(Exception, ["failed"]), (WorkerLost, ["failed", "failed", "succeeded"])], ids=["all", "named"]
)
async def test_what_is_lost_may_have_been_done_so_a_retry_has_to_name_it(on: Any, statuses: list[str]) -> None:
    mine = Bare()
    mine.lost = 2
    async with Engine(executors={"mine": mine}) as engine:
        run = await engine.submit(graph(retry=Retry(attempts=3, delay=0, on=on)), {"n": 1})
        await run.wait()

        assert [entry.status for entry in run.log] == statuses


async def test_its_health_is_in_the_metrics() -> None:
    mine = Bare()
    async with Engine(executors={"mine": mine}) as engine:
        assert values(engine, "executor_up")["mine",] == 1
        mine.trouble = "nobody answers"
        assert values(engine, "executor_up")["mine",] == 0
        assert values(engine, "executor_running")["mine",] == 1
