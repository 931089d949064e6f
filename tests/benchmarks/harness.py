"""How we measure: every variant of a row in turn, several rounds, in one process; medians, and ratios of medians.

Single times on a shared machine mean little, and a baseline measured in another run means less. A row's ratio is the
median over the rounds of (ours / baseline), so that a slow spell of the machine hits both sides of one round.
"""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Awaitable, Callable, Iterable, Sequence
from statistics import median
from time import perf_counter, process_time
from typing import Any

import anyio
import attrs

Measure = Callable[[], Awaitable[float]]

BACKENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}

_clock = perf_counter


def count_processor_time() -> None:
    """Let `now()` count what this process spends, for a machine that others use, too. Sleeping costs nothing then."""
    global _clock
    _clock = process_time


def clock() -> Callable[[], float]:
    """The clock of `now()`."""
    return _clock


def now() -> float:
    """The seconds that figures are taken with: those on the wall, unless told otherwise."""
    return _clock()


@attrs.frozen
class On:
    """A baseline that runs on another backend than the row: what the loop itself makes of the same work."""

    backend: str
    measure: Measure


@attrs.frozen
class Row:
    """One line of the table: what we do, what we compare it with, and what we promised.

    `ours` and each baseline return one figure, in `unit`. A target is a limit of the ratio, or of the figure.
    """

    name: str
    unit: str
    ours: Measure
    baselines: dict[str, Measure | On] = attrs.field(factory=dict)
    at_most: dict[str, float] = attrs.field(factory=dict)  # baseline -> ratio
    at_least: dict[str, float] = attrs.field(factory=dict)  # baseline -> how many times faster
    limit: float | None = None  # of our own figure
    backends: Sequence[str] = tuple(BACKENDS)
    promised_on: Sequence[str] = tuple(BACKENDS)  # where the targets hold
    most_rounds: int = 1_000  # for what takes so long that a few must do


@attrs.frozen
class Result:
    """What was measured for one row on one backend."""

    row: Row
    backend: str
    figures: dict[str, list[float]]

    @property
    def figure(self) -> float:
        """Our own figure."""
        return median(self.figures["ours"])

    def ratios(self, baseline: str) -> list[float]:
        """Ours over the baseline's, round by round; one that takes very long may be in the first rounds only."""
        return [ours / other for ours, other in zip(self.figures["ours"], self.figures[baseline], strict=False)]

    def verdicts(self) -> Iterable[str]:
        """Each promise with what became of it."""
        if self.backend not in self.row.promised_on:
            return
        for baseline, most in self.row.at_most.items():
            yield _verdict(f"<= {most:g} x {baseline}", median(self.ratios(baseline)) <= most)
        for baseline, least in self.row.at_least.items():
            yield _verdict(f"{least:g} x faster than {baseline}", 1 / median(self.ratios(baseline)) >= least)
        if self.row.limit is not None:
            yield _verdict(f"<= {self.row.limit:g} {self.row.unit}", self.figure <= self.row.limit)


def _verdict(promise: str, kept: bool) -> str:
    return promise if kept else f"{promise} MISSED"


def available_backends() -> list[str]:
    """The backends that are installed here."""
    return [name for name in BACKENDS if name == "asyncio" or importlib.util.find_spec(name)]


def measure(row: Row, backend: str, rounds: int) -> Result:
    """Run a row's variants in turn; the first round warms up and is not counted."""
    variants: dict[str, Measure | On] = {"ours": row.ours, **row.baselines}
    figures: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(min(rounds, row.most_rounds) + 1):
        for name, variant in variants.items():
            gc.collect()
            figure = run_on(variant.backend, variant.measure) if isinstance(variant, On) else run_on(backend, variant)
            if turn:
                figures[name].append(figure)
    return Result(row, backend, figures)


def run_on(backend: str, function: Callable[..., Awaitable[float]], *args: Any) -> float:
    """Run an async function on a backend by its name."""
    library, options = BACKENDS[backend]
    return anyio.run(function, *args, backend=library, backend_options=options)


def table(results: Iterable[Result]) -> Iterable[str]:
    """The lines of a Markdown table."""
    yield "| work | backend | ours | baselines | ratio (min to max) | promise |"
    yield "|---|---|---|---|---|---|"
    for result in results:
        yield _line(result)


def _line(result: Result) -> str:
    row = result.row
    baselines = ", ".join(f"{name} {median(result.figures[name]):.3g}" for name in row.baselines)
    ratios = ", ".join(
        f"{median(of):.2f} ({min(of):.2f} to {max(of):.2f})" for name in row.baselines if (of := result.ratios(name))
    )
    promises = "; ".join(result.verdicts()) or "no target"
    return f"| {row.name} | {result.backend} | {result.figure:.3g} {row.unit} | {baselines} | {ratios} | {promises} |"
