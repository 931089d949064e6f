"""Facts that hold on trio alone, mostly about virtual time: async tests here run on trio only.

anyio's plugin runs these too. pytest-trio was tried and left out: beside `anyio_mode = "auto"` the async
fixtures of its tests run in another `trio.run` than the test, and its `trio_mode` is what runs tests named
`[asyncio]` on trio without a word.
"""

from typing import Any

import pytest
from trio.testing import MockClock


@pytest.fixture
def autojump_clock() -> MockClock:
    """A clock for the test that requests it: it jumps to the next deadline when every task waits."""
    return MockClock(autojump_threshold=0)


@pytest.fixture(params=["trio"])  # one parameter, so that the test's name says trio
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Trio, with the test's clock if it requests one."""
    if "autojump_clock" in request.fixturenames:
        return "trio", {"clock": request.getfixturevalue("autojump_clock")}
    return "trio", {}
