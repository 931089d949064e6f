"""The same client for programs that block, and for threads: its requests are made on a loop in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack

import anyio.from_thread

from ..blocking import Backend, BlockingFacts, in_a_loop
from ..errors import EngineClosed
from ..file import File
from ..history import Event, LogEntry
from ..limits import LimitChanges
from ..runs import Status
from ..web.models import AuditItem, GraphInfo, Health, NodeLimits, RunInfo, ToolItem, Validation
from .asynchronous import AsyncClient, RemoteRun
from .following import Events
from .sending import Definition
from .told import RemoteResult

T = TypeVar("T")


class Client:
    """A client of a service whose methods block: for use in `with`, by any number of threads at once.

    Takes what `AsyncClient` takes.
    """

    def __init__(self, url: str | None = None, *, backend: Backend = "asyncio", **options: Any) -> None:
        self._client = AsyncClient(url, **options)
        self._backend: Backend = backend
        self._stack = ExitStack()
        self._portal: anyio.from_thread.BlockingPortal | None = None

    def __enter__(self) -> Self:
        if in_a_loop():
            raise RuntimeError(
                "a blocking call in an event loop would stop all of it: use AsyncClient there, or another thread"
            )
        with ExitStack() as stack:
            portal = stack.enter_context(anyio.from_thread.start_blocking_portal(self._backend))
            stack.enter_context(portal.wrap_async_context_manager(self._client))
            self._portal, self._stack = portal, stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._portal = None
        self._stack.close()

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._client.url

    def __repr__(self) -> str:
        return f"<Client of {self.url}>"

    # -- graphs

    def define(self, graph: Definition | str) -> GraphInfo:
        """Make a graph known: see `AsyncClient.define`."""
        return self._await(lambda: self._client.define(graph))

    def register(self, graph: Definition | str) -> GraphInfo:
        """The same, by the name that it has in Python."""
        return self.define(graph)

    def validate(self, definition: Definition) -> Validation:
        """All that is wrong with a definition; nothing is kept."""
        return self._await(lambda: self._client.validate(definition))

    def graphs(self) -> list[tuple[str, str]]:
        """Name and version of each graph."""
        return self._await(self._client.graphs)

    def graph(self, name: str, version: str | None = None) -> GraphInfo:
        """A graph that is known; raises `GraphNotFound`."""
        return self._await(lambda: self._client.graph(name, version))

    def forget(self, name: str, version: str | None = None) -> None:
        """Have a graph not be known any more."""
        self._await(lambda: self._client.forget(name, version))

    def draw(self, name: str, format: Literal["mermaid", "svg", "text"] = "mermaid", **options: Any) -> str:
        """A drawing of a graph: see `AsyncClient.draw`."""
        return self._await(lambda: self._client.draw(name, format, **options))

    def limits(self, graph: str, node: str, *, version: str | None = None) -> NodeLimits:
        """What holds for a node at the service: see `AsyncClient.limits`."""
        return self._await(lambda: self._client.limits(graph, node, version=version))

    def set_limits(
        self, graph: str, node: str, *, version: str | None = None, **changes: Unpack[LimitChanges]
    ) -> NodeLimits:
        """Change what holds for a node, while runs go on: see `AsyncClient.set_limits`."""
        return self._await(lambda: self._client.set_limits(graph, node, version=version, **changes))

    # -- runs

    def submit(self, graph: Definition | str, state: Any = None, **options: Any) -> BlockingRemoteRun:
        """Start a run: see `AsyncClient.submit`."""
        return BlockingRemoteRun(self, self._await(lambda: self._client.submit(graph, state, **options)))

    def run(self, graph: Definition | str, state: Any = None, **options: Any) -> RemoteResult:
        """Submit a run and wait for its result."""
        return self._await(lambda: self._client.run(graph, state, **options))

    def get(self, run_id: str) -> BlockingRemoteRun:
        """The run of this id; raises `RunNotFound`."""
        return BlockingRemoteRun(self, self._await(lambda: self._client.get(run_id)))

    def runs(self, *args: Any, **filters: Any) -> list[BlockingRemoteRun]:
        """The runs that match: see `AsyncClient.runs`."""
        return [BlockingRemoteRun(self, run) for run in self._await(lambda: self._client.runs(*args, **filters))]

    def fork(self, run_id: str, at: str, update: Mapping[str, Any] | None = None) -> BlockingRemoteRun:
        """Start a new run from one activation of an older one: see `AsyncClient.fork`."""
        return BlockingRemoteRun(self, self._await(lambda: self._client.fork(run_id, at, update)))

    # -- files

    def upload(self, file: Any, name: str | None = None) -> File:
        """Have the service keep a file, a path or bytes: see `AsyncClient.upload`."""
        return self._await(lambda: self._client.upload(file, name))

    def download(self, file: File | str, path: Any = None) -> Any:
        """The contents of a file, as bytes or written to a path: see `AsyncClient.download`."""
        return self._await(lambda: self._client.download(file, path))

    # -- operation

    def tools(self) -> list[ToolItem]:
        """The tools that nodes may name."""
        return self._await(self._client.tools)

    def audits(self, run_id: str | None = None, **filters: Any) -> list[AuditItem]:
        """Lines of the service's audit log: see `AsyncClient.audits`."""
        return self._await(lambda: self._client.audits(run_id, **filters))

    def metrics(self) -> str:
        """The service's metrics, in the text that Prometheus reads."""
        return self._await(self._client.metrics)

    def health(self) -> Health:
        """Whether the service's process is worth keeping."""
        return self._await(self._client.health)

    def ready(self) -> Health:
        """Whether it takes work."""
        return self._await(self._client.ready)

    # -- for its runs

    def _await(self, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        portal = self._portal
        if portal is None:
            raise EngineClosed("the client is closed; use it inside `with`")
        future = portal.start_task_soon(begin)
        try:
            answer: T = future.result()
        except BaseException:
            future.cancel()  # an interrupt is this thread's: what it waited for is wanted no more
            raise
        return answer


class BlockingRemoteRun(BlockingFacts[RemoteRun]):
    """A run of a service. Its properties ask the service each time; `info` is what it last said."""

    def __init__(self, client: Client, run: RemoteRun) -> None:
        self._client = client
        self._run = run

    @property
    def info(self) -> RunInfo:
        """All that the service told, when it was last asked."""
        return self._run.info

    @property
    def status(self) -> Status:
        """Where the run is."""
        return self._refreshed().status

    @property
    def state(self) -> Any:
        """The state as it stands, as JSON shows it."""
        return self._refreshed().state

    @property
    def files(self) -> tuple[File, ...]:
        """What it has made."""
        return self._refreshed().files

    @property
    def log(self) -> list[LogEntry]:
        """One entry for each attempt that has ended."""
        return self._refreshed().log

    @property
    def visited(self) -> list[str]:
        """The node of each activation in the order of their starts."""
        return self._refreshed().visited

    def _refreshed(self) -> RemoteRun:
        return self._client._await(self._run.refresh)

    def wait(self) -> Status:
        """Wait until the run is over, and tell how it ended."""
        return self._client._await(self._run.wait)

    def result(self, timeout: float | None = None) -> RemoteResult:
        """Wait for the result; raises `RunFailed`, `RunCancelled` or `TimeoutError`."""
        return self._client._await(lambda: self._run.result(timeout))

    def events(self, after: int = 0) -> Iterator[Event]:
        """Every event with a larger number, those that were and then live, until the run is over."""

        async def begin() -> Events:
            return self._run.events(after)

        stream = self._client._await(begin)

        async def following() -> Event | None:
            return await anext(stream, None)

        try:
            while (event := self._client._await(following)) is not None:
                yield event
        finally:
            if self._client._portal is not None:
                self._client._await(stream.aclose)

    def cancel(self, reason: str | None = None) -> None:
        """Ask the run to end."""
        self._client._await(lambda: self._run.cancel(reason))

    def signal(self, name: str, payload: Any = None, id: str | None = None) -> None:
        """Give the run a signal."""
        self._client._await(lambda: self._run.signal(name, payload, id))

    def pause(self) -> None:
        """Hold new activations."""
        self._client._await(self._run.pause)

    def resume(self) -> None:
        """Let what `pause()` held go."""
        self._client._await(self._run.resume)

    def retry(self, update: Mapping[str, Any] | None = None) -> None:
        """Run a failed run on from its failure."""
        self._client._await(lambda: self._run.retry(update))

    def __repr__(self) -> str:
        return f"<BlockingRemoteRun {self.id} of {self.graph!r}>"
