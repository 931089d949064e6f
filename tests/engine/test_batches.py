"""A node with `batch=` gets several waiting activations at once."""

import random
from typing import Any

import anyio
import pytest

from actors import testing
from engine import Batch, Engine, Graph, NodeTimeout, Retry, RunFailed
from engine.batches import wait_for_more


def batching(function: Any, size: int = 3, wait: float = 0.05, **options: Any) -> Graph:
    return Graph("batching").add_node("many", function, batch=Batch(size, wait), **options).set_entry_point("many")


async def run_all(engine: Engine, graph: Graph, count: int) -> list[Any]:
    runs = [await engine.submit(graph, {"number": number}) for number in range(count)]
    return [(await run.result()).state for run in runs]


async def test_a_batch_starts_when_it_is_full() -> None:
    sizes: list[int] = []

    async def many(states: list[dict[str, int]]) -> list[dict[str, int]]:
        sizes.append(len(states))
        return [{"double": 2 * state["number"]} for state in states]

    async with Engine() as engine:
        states = await run_all(engine, batching(many, wait=60), 6)

    assert sizes == [3, 3]
    assert states == [{"number": number, "double": 2 * number} for number in range(6)]


@pytest.mark.parametrize("backend", testing.BACKENDS)
def test_a_batch_that_is_not_full_starts_when_its_oldest_has_waited(backend: testing.Backend) -> None:
    sizes: list[int] = []

    async def many(states: list[dict[str, int]]) -> list[None]:
        sizes.append(len(states))
        return [None] * len(states)

    async def main() -> None:
        async with Engine() as engine:
            await run_all(engine, batching(many, size=100, wait=0.01), 2)

    testing.run(main, backend=backend)

    assert sizes == [2]


async def test_an_exception_in_the_list_fails_its_own_activation_only() -> None:
    async def many(states: list[dict[str, int]]) -> list[Any]:
        return [ValueError("odd") if state["number"] % 2 else None for state in states]

    async with Engine() as engine:
        runs = [await engine.submit(batching(many, size=2), {"number": number}) for number in range(2)]
        await runs[0].result()
        with pytest.raises(RunFailed) as failed:
            await runs[1].result()

    assert isinstance(failed.value.failures[0].cause, ValueError)


async def test_a_raised_exception_fails_all_and_each_is_tried_again() -> None:
    sizes: list[int] = []

    async def many(states: list[dict[str, int]]) -> list[None]:
        sizes.append(len(states))
        if len(sizes) == 1:
            raise ConnectionError("once")
        return [None] * len(states)

    graph = batching(many, size=2, retry=Retry(attempts=2, delay=0.001, jitter=0))
    async with Engine() as engine:
        await run_all(engine, graph, 2)

    assert sizes == [2, 2]


@pytest.mark.parametrize("wrong", [[{}], {"number": 1}, None])
async def test_too_few_results_are_a_failure_that_says_so(wrong: Any) -> None:
    async def many(states: list[dict[str, int]]) -> Any:
        return wrong

    async with Engine() as engine:
        runs = [await engine.submit(batching(many, size=2), {"number": number}) for number in range(2)]
        for run in runs:
            with pytest.raises(RunFailed) as failed:
                await run.result()
            assert "one result for each of the 2 states" in str(failed.value.failures[0].cause)


async def test_cancelling_one_run_leaves_the_rest_of_its_batch_alone() -> None:
    started, release = anyio.Event(), anyio.Event()

    async def many(states: list[dict[str, int]]) -> list[None]:
        started.set()
        await release.wait()
        return [None] * len(states)

    async with Engine() as engine:
        runs = [await engine.submit(batching(many, size=2), {"number": number}) for number in range(2)]
        await started.wait()
        await runs[0].cancel()
        release.set()
        assert await runs[0].wait() == "cancelled"
        assert await runs[1].wait() == "succeeded"


async def test_cancelling_every_run_of_a_batch_stops_it() -> None:
    started = anyio.Event()

    async def many(states: list[dict[str, int]]) -> list[None]:
        started.set()
        await anyio.sleep_forever()
        raise AssertionError("never")

    async with Engine() as engine:
        runs = [await engine.submit(batching(many, size=2), {"number": number}) for number in range(2)]
        await started.wait()
        for run in runs:
            await run.cancel()
        assert [await run.wait() for run in runs] == ["cancelled", "cancelled"]


async def test_a_time_out_holds_for_the_whole_batch() -> None:
    async def many(states: list[dict[str, int]]) -> list[None]:
        await anyio.sleep_forever()
        raise AssertionError("never")

    async with Engine() as engine:
        runs = [await engine.submit(batching(many, size=2, timeout=0.02), {"number": n}) for n in range(2)]
        for run in runs:
            with pytest.raises(RunFailed) as failed:
                await run.result()
            assert isinstance(failed.value.failures[0].cause, NodeTimeout)


@pytest.mark.parametrize(
    ("waiting", "seconds", "wait"), [(1, 0.0, 5.0), (2, 4.0, 1.0), (2, 5.0, 0.0), (2, 9.0, 0.0), (3, 0.0, 0.0)]
)
def test_how_long_a_batch_waits_for_more(waiting: int, seconds: float, wait: float) -> None:
    assert wait_for_more(Batch(3, 5.0), waiting, seconds) == wait


@pytest.mark.parametrize("backend", testing.BACKENDS)
def test_its_wait_goes_by_the_clock_of_the_loop(backend: testing.Backend) -> None:
    started: list[float] = []

    async def many(states: list[dict[str, int]]) -> list[None]:
        started.append(anyio.current_time())
        return [None] * len(states)

    async def main() -> None:
        async with Engine() as engine:
            began = anyio.current_time()
            await run_all(engine, batching(many, size=100, wait=3600), 2)
            assert started == pytest.approx([began + 3600], abs=0.01)

    testing.run(main, backend=backend, virtual_time=True)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("backend", testing.BACKENDS)
def test_under_any_schedule_each_gets_its_own_answer_and_waits_no_longer(backend: testing.Backend, seed: int) -> None:
    dice = random.Random(seed)
    batch = Batch(dice.randint(2, 6), dice.choice([0.5, 3]))
    sizes: list[int] = []
    waited: list[float] = []

    async def many(states: list[dict[str, Any]]) -> list[Any]:
        sizes.append(len(states))
        waited.extend(anyio.current_time() - state["at"] for state in states)
        await anyio.sleep(dice.choice([0, 1]))
        return [ValueError(state["n"]) if state["n"] % 7 == 0 else {"double": 2 * state["n"]} for state in states]

    async def main() -> None:
        graph = batching(many, batch.size, batch.wait)

        async def submit(number: int) -> None:
            await anyio.sleep(dice.uniform(0, 20))
            run = await engine.submit(graph, {"n": number, "at": anyio.current_time()})
            if dice.random() < 0.2:
                await anyio.sleep(dice.uniform(0, 1))
                await run.cancel()
            match await run.wait():
                case "succeeded":
                    assert (await run.result()).state["double"] == 2 * number
                case "failed":
                    assert number % 7 == 0

        async with Engine() as engine, anyio.create_task_group() as group:
            for number in range(60):
                group.start_soon(submit, number)

    testing.run(main, backend=backend, seed=seed, virtual_time=True)

    assert max(sizes) <= batch.size
    assert max(sizes) > 1
    assert max(waited) <= batch.wait + 0.01
