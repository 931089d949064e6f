"""The main job end to end: what it makes of a table in a second, and of the same calls one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from engine import Context, Engine
from examples.data_quality import tools
from examples.data_quality.graph import DETECTORS, data_quality

from .harness import Row, now

ROUND: Final = (
    tools.profile_data,
    *DETECTORS.values(),
    tools.identify_anomalies,
    tools.generate_rules,
    tools.apply_rules,
    tools.evaluate_quality,
)


def a_job(folder: str, count: int) -> tools.Job:
    return tools.job({"rows": count, "seed": 7}, Path(folder, "work"), Path(folder), target=0.98, limit=5)


async def durably(count: int) -> float:
    """Rows a second of a run kept in SQLite, from submission to the report."""
    with TemporaryDirectory(prefix="workflow-engine-benchmark-") as folder:
        async with Engine(f"sqlite:///{folder}/runs.db") as engine:
            start = now()
            await engine.run(data_quality(), a_job(folder, count))
            return count / (now() - start)


async def one_after_the_other(count: int) -> float:
    """The same functions in a loop: no threads, no journal, no joins."""
    with TemporaryDirectory(prefix="workflow-engine-benchmark-") as folder:
        start = now()
        state: dict[str, Any] = {**a_job(folder, count), "quality": 0.0, "iteration": 0}
        state |= tools.load_data(state, Context())
        while state["quality"] < state["target"] and state["iteration"] < state["limit"]:
            for stage in ROUND:
                _call(stage, state)
        _call(tools.write_report, state)
        return count / (now() - start)


def _call(stage: Callable[..., dict[str, Any]], state: dict[str, Any]) -> None:
    for key, value in stage(state, Context(iteration=state["iteration"] + 1)).items():
        if key == "findings":
            state[key] = {**state.get(key, {}), **value}
        elif key in ("flagged", "aside", "history"):
            state[key] = [*state.get(key, ()), *value]
        else:
            state[key] = value


def rows(quick: bool) -> Iterable[Row]:
    """The rows of the examples."""
    count = 50_000 if quick else 1_000_000
    yield Row(
        f"data quality, {count:,} rows end to end, durable",
        "rows/s",
        partial(durably, count),
        {"one after the other": partial(one_after_the_other, count)},
        backends=["asyncio"],  # the loop has nothing to do with it
        most_rounds=3,
    )
