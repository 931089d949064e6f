import anyio
import trio
from trio.testing import MockClock


async def test_a_test_with_the_autojump_clock_sleeps_for_a_day_in_no_time(autojump_clock: MockClock) -> None:
    started = trio.current_time()

    await anyio.sleep(86_400)

    assert trio.current_time() - started == 86_400
