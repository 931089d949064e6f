"""Runs in the order in which they end, however many there are, and no task for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import anyio

from engine import Engine, Event, Run

OVER = ("run_succeeded", "run_failed", "run_cancelled")


@contextmanager
def ends_of(engine: Engine) -> Iterator[AsyncIterator[Run]]:
    """Each run of the engine that ends within the `with`, as it ends."""
    # Without a bound, since a subscriber must not wait; there are never more than runs that were submitted.
    send, receive = anyio.create_memory_object_stream[Run](float("inf"))

    def told(run: Run, event: Event) -> None:
        if event.type in OVER:
            send.send_nowait(run)

    unsubscribe = engine.subscribe(told)
    with send, receive:
        try:
            yield aiter(receive)
        finally:
            unsubscribe()
