"""A run whose body ends its process again and again is ended itself, and what ran beside it is not."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from engine import Engine, EngineError, PoisonRun, RunFailed, Settings, Sharing
from tests.durability.fleet import ask
from tests.durability.poison import RUNS, Place, graphs, let_loose, told
from tests.servers import fresh_postgres

TAKEOVERS = 4
# An engine that loses its lease because the machine has no turn for it has killed nobody, and would be counted as well.
SHARING = Sharing(lease=4.0, renew=0.5, poll=0.1, takeovers=TAKEOVERS)
ALL_OVER = "SELECT count(*) FROM $.runs WHERE status <> 'running' HAVING count(*) = 3"


async def ends_of(url: str) -> dict[str, object]:
    """The state of each run, or why it has none, or how it stands."""
    ends: dict[str, object] = {}
    async with Engine(url, shared=SHARING, settings=Settings(recover=False)) as engine:
        for graph in graphs():
            engine.register(graph)
        for run in await engine.runs():
            assert run.key is not None
            try:
                ends[run.key] = (await run.result()).state if run.over else run.status
            except EngineError as error:
                ends[run.key] = error
    return ends


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_run_that_kills_its_engine_again_and_again_fails_and_its_neighbours_do_not(
    tmp_path: Path, backend: str
) -> None:
    place = Place(fresh_postgres(), str(tmp_path / "lines"), SHARING, backend)
    let_loose(place, 2, ALL_OVER)
    ends = anyio.run(ends_of, place.url)

    assert ends.keys() == RUNS.keys()
    assert ends["before"] == ends["after"] == {"done": True}
    assert ends["waits"] in ("queued", "waiting")
    lost = ask(place.url, "SELECT times FROM $.losses JOIN $.runs ON number = run WHERE graph = 'waits'")
    assert lost in ([], [(1,)]), "one that only waits is lost with its engine, and has killed nobody"
    assert isinstance(ends["poison"], RunFailed)
    (error,) = ends["poison"].exceptions
    assert isinstance(error, PoisonRun)
    kills = told(place, "kill")
    pids = {line.life: line.words[0] for line in told(place, "joined")}
    assert [line.words[0] for line in kills] == [error.run_id] * TAKEOVERS
    assert error.times == TAKEOVERS
    assert [name.rpartition(":")[2] for name in error.engines] == [pids[line.life] for line in reversed(kills)]
