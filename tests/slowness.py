"""How slow the processor is at this moment, for tests that bound what something may take."""

import time

STEPS = 1_000_000
USUAL_SECONDS = 0.03


def slowness() -> float:
    """How many times as long as usual the processor takes for a known piece of work; at least 1.

    Processor time leaves out what others take of the machine, but not that they share its caches with us, and another
    machine may be slower altogether. Both slow this down as much as what is measured beside it.
    """
    began = time.process_time()
    for _ in range(STEPS):
        pass
    return max(1.0, (time.process_time() - began) / USUAL_SECONDS)
