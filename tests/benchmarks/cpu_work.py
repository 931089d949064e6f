"""Work that fills a processor: in a module of its own, which a worker process imports without all else."""

from __future__ import annotations

from time import process_time
from typing import Any


def burn(state: dict[str, Any]) -> dict[str, Any]:
    """Count for as long as the state says."""
    left = state["loops"]
    while left:
        left -= 1
    return {}


def loops_per_second() -> int:
    """How far this machine counts in a second of processor time."""
    loops = 1_000_000
    start = process_time()
    burn({"loops": loops})
    return int(loops / (process_time() - start))
