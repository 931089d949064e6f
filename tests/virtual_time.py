"""`anyio_backend` for files whose tests wait for nothing but each other: in virtual time, on the three backends.

Imported into such a file, it takes the place of the one with the real clock. A sleep is then over once all else has
come to rest, however long that takes: on a busy machine, too, what is to happen first happens first.
"""

from typing import Any

import pytest

from actors.testing import BACKENDS
from actors.testing import anyio_backend as options_of


@pytest.fixture(params=[pytest.param(options_of(name, virtual_time=True), id=name) for name in BACKENDS])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The backend of an async test, with a clock that jumps."""
    backend: tuple[str, dict[str, Any]] = request.param
    return backend


in_virtual_time = pytest.mark.parametrize(
    "anyio_backend", [pytest.param(options_of(name, virtual_time=True), id=name) for name in BACKENDS]
)
"""For single tests of a file with the real clock."""
in_real_time = pytest.mark.parametrize("anyio_backend", [pytest.param(options_of(name), id=name) for name in BACKENDS])
"""For single tests of a file in virtual time."""
