"""DBOS: a workflow is a function, a step is a function that it calls; both are written to its database."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from dbos import DBOS, DBOSConfig

from ..peer import Peer, Run, Work

ALWAYS_DURABLE = "every workflow and step is written to its database: see the durable rows"


class Dbos(Peer):
    name = "dbos"
    distributions = ("dbos",)
    module = "dbos"
    configuration = "async workflow and steps, SQLite as the system database, on a file in WAL mode"
    cannot = {  # noqa: RUF012
        "chain": ALWAYS_DURABLE,
        "fan": ALWAYS_DURABLE,
        "loop": ALWAYS_DURABLE,
        "dag": "a workflow is a function and no graph, and " + ALWAYS_DURABLE,
    }

    @asynccontextmanager
    async def durable(self, works: Sequence[Work], folder: Path) -> AsyncIterator[Run]:
        with Launched(folder):

            @DBOS.step()
            async def step(number: int, n: int) -> int:
                return await works[number]({"n": n})

            @DBOS.workflow()
            async def chain() -> int:
                n = 0
                for number in range(len(works)):
                    n = await step(number, n)
                return n

            DBOS.launch()
            yield chain

    @asynccontextmanager
    async def processor(self, work: Callable[[], None], branches: int) -> AsyncIterator[Run]:
        with TemporaryDirectory() as folder, Launched(Path(folder)):

            @DBOS.workflow()
            def burn() -> None:
                work()

            DBOS.launch()

            def burn_all() -> None:
                for handle in [DBOS.start_workflow(burn) for _ in range(branches)]:  # plain functions: they get threads
                    handle.get_result()

            async def run() -> None:
                await asyncio.get_running_loop().run_in_executor(caller, burn_all)

            with ThreadPoolExecutor(1) as caller:  # of our own: DBOS puts its own in the loop's place
                yield run


class Launched:
    """DBOS on a new database, of which there is one to a process; it is taken down in the end."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "dbos.db"

    def __enter__(self) -> None:
        with sqlite3.connect(self._file) as connection:
            connection.execute("PRAGMA journal_mode=WAL")  # it would not do so itself
        connection.close()
        config: DBOSConfig = {
            "name": "peers",
            "system_database_url": f"sqlite:///{self._file}",
            "log_level": "ERROR",
            "enable_otlp": False,
        }
        DBOS(config=config)

    def __exit__(self, *of_error: object) -> None:
        DBOS.destroy(destroy_registry=True)
