"""Random graphs on each store, undisturbed and left in the middle again and again, against the reference.

A longer run: `python -m tests.semantics.durable_graphs --store sqlite --graphs 10000`.
"""

from __future__ import annotations

import pytest

from tests.semantics.durable_graphs import IN_VIRTUAL_TIME, STORES, disagreements
from tests.semantics.engine_graphs import packs

# In real time, and with a real disk or a server behind it, a graph costs more.
GRAPHS, GRAPHS_IN_REAL_TIME = 300, 60


def graphs(store: str, first: int) -> range:
    return range(first, first + (GRAPHS if store in IN_VIRTUAL_TIME else GRAPHS_IN_REAL_TIME))


@pytest.mark.parametrize("store", STORES)
def test_on_a_store_runs_come_to_what_the_reference_says(store: str) -> None:
    seeds = graphs(store, 400_000)
    found = [line for pack, timing in packs(seeds) for line in disagreements(pack, timing, store, crashes=False)]

    assert not found, "\n\n".join(found)


@pytest.mark.parametrize("store", STORES)
def test_runs_left_in_the_middle_again_and_again_come_to_the_same_and_repeat_nothing_on_record(store: str) -> None:
    seeds = graphs(store, 500_000)
    found = [line for pack, timing in packs(seeds) for line in disagreements(pack, timing, store)]

    assert not found, "\n\n".join(found)
