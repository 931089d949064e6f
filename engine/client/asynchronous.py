"""The service as an engine: `AsyncClient` has the verbs of `Engine`, and `RemoteRun` those of `Run`.

A run here is what the service last said of it: `status` and what else can be had without waiting is as old as the last
answer. `refresh()` asks; `wait()`, `result()` and whatever acts on the run do so on their way.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import PurePath
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, Unpack
from urllib.parse import quote
from uuid import uuid4

import anyio

from ..errors import EngineError, GraphNotFound
from ..file import File
from ..history import LogEntry
from ..limits import LimitChanges
from ..runs import Status
from ..submitting import timeout_fault
from ..web.models import (
    AuditItem,
    AuditList,
    GraphInfo,
    GraphList,
    Health,
    LogPage,
    NodeLimits,
    RunInfo,
    RunItem,
    RunList,
    ToolItem,
    ToolList,
    Validation,
)
from .faults import run_error_of
from .files import chunks, download, file_of, sent_files, upload
from .following import Events
from .patience import Patience
from .sending import Definition, definition_of, sendable
from .told import RemoteResult, file_told, log_entry, told
from .transport import Answer, Transport

if TYPE_CHECKING:
    import httpx2


URL_VARIABLE: Final = "WORKFLOW_SERVER"
KEY_VARIABLE: Final = "WORKFLOW_API_KEY"
DEFAULT_URL: Final = "http://127.0.0.1:8000"
TIMEOUT_SECONDS: Final = 30.0
WAIT_SECONDS: Final = 25.0
"""How long one request waits for the end of a run: proxies give one up after 30 or 60."""
PAGE: Final = 1_000
LOG_PAGE: Final = 10_000
_ENDED: Final = ("succeeded", "failed", "cancelled")


class AsyncClient:
    """A client of a service, on asyncio and trio: for use in `async with`.

    The address is `url` or WORKFLOW_SERVER, by default this machine's port 8000; the key `api_key` or WORKFLOW_API_KEY.
    `timeout` is for each request, in seconds; `patience` says for how long one that could not be answered is tried
    again, as seconds or in full.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        patience: Patience | float = Patience(),  # noqa: B008  # frozen
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        if fault := timeout_fault(timeout):
            raise ValueError(f"AsyncClient: timeout {fault}")
        self._transport = Transport(
            url or os.environ.get(URL_VARIABLE) or DEFAULT_URL,
            os.environ.get(KEY_VARIABLE) if api_key is None else api_key,
            timeout,
            patience if isinstance(patience, Patience) else Patience(total=patience),
            transport,
        )
        self._streams: set[Events] = set()

    async def __aenter__(self) -> Self:
        await self._transport.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for stream in list(self._streams):
            await stream.aclose()
        await self._transport.close()

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._transport.url

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.url}>"

    # -- graphs

    async def define(self, graph: Definition | str) -> GraphInfo:
        """Make a graph known, which is then kept: itself if data can say it, as data, its steps, or a file of these.

        Raises `GraphInvalid` with all that is wrong, `GraphConflict`. The same again is no change.
        """
        data = definition_of(PurePath(graph) if isinstance(graph, str) else graph)
        answer = await self._transport.ask("POST", "/api/graphs", data, repeatable=True)
        return told(GraphInfo, answer.data)

    async def register(self, graph: Definition | str) -> GraphInfo:
        """The same, by the name that it has in Python."""
        return await self.define(graph)

    async def validate(self, definition: Definition) -> Validation:
        """All that is wrong with a definition, by the tools that the service has; nothing is kept."""
        data = definition_of(definition)
        return told(Validation, (await self._transport.ask("POST", "/api/graphs/validate", data, repeatable=True)).data)

    async def graphs(self) -> list[tuple[str, str]]:
        """Name and version of each graph."""
        found: list[tuple[str, str]] = []
        after: str | None = None
        while True:
            query = {"limit": PAGE} if after is None else {"limit": PAGE, "after": after}
            page = told(GraphList, (await self._transport.ask("GET", "/api/graphs", query=query)).data)
            found += [(item.name, version) for item in page.graphs for version in item.versions]
            after = page.next
            if after is None:
                return found

    async def graph(self, name: str, version: str | None = None) -> GraphInfo:
        """A graph that is known; raises `GraphNotFound`."""
        return told(GraphInfo, (await self._transport.ask("GET", _graph(name), query=_given(version=version))).data)

    async def forget(self, name: str, version: str | None = None) -> None:
        """Have a graph not be known any more; raises `GraphNotFound`, `GraphInUse`."""
        await self._transport.ask("DELETE", _graph(name), query=_given(version=version), repeatable=False)

    async def draw(
        self,
        name: str,
        format: Literal["mermaid", "svg", "text"] = "mermaid",
        *,
        version: str | None = None,
        run: str | None = None,
    ) -> str:
        """A drawing of a graph; with the id of a run, of that run's progress."""
        query = _given(format=format, version=version, run=run)
        return str((await self._transport.ask("GET", f"{_graph(name)}/drawing", query=query, accept="*/*")).data)

    async def limits(self, graph: str, node: str, *, version: str | None = None) -> NodeLimits:
        """What holds for a node at the service, over all runs; raises `GraphNotFound`, `UnknownNode`."""
        answer = await self._transport.ask("GET", _limits(graph, node), query=_given(version=version))
        return told(NodeLimits, answer.data)

    async def set_limits(
        self, graph: str, node: str, *, version: str | None = None, **changes: Unpack[LimitChanges]
    ) -> NodeLimits:
        """Change what holds for a node, while runs go on: see `Engine.set_limits`. Several engines are told one by one.

        What is left out stays, None takes a limit away. A cache's `key` can be names of keys only.
        """
        body = sendable(changes, "limits")
        path, query = _limits(graph, node), _given(version=version)
        return told(NodeLimits, (await self._transport.ask("PATCH", path, body, query=query, repeatable=True)).data)

    # -- runs

    async def submit(
        self,
        graph: Definition | str,
        state: Any = None,
        *,
        version: str | None = None,
        run_id: str | None = None,
        idempotency_key: str | None = None,
        tags: Mapping[str, str] | None = None,
        deadline: float | None = None,
        priority: int = 0,
        files: Mapping[str, Any] | None = None,
    ) -> RemoteRun:
        """Start a run of a graph by its name, or of a definition; returns once it is safe with the service.

        It is one run, however often it has to be sent: without a key of yours it has one of its own. Raises what
        `Engine.submit` does; `EngineBusy` if the service stays full for as long as the client is patient. `files` are
        uploaded first, but for those that the service has told of.
        """
        return await self._submit(graph, state, version, run_id, idempotency_key, tags, deadline, priority, files, 0.0)

    async def run(self, graph: Definition | str, state: Any = None, **options: Any) -> RemoteResult:
        """Submit a run and wait for its result; options as for `submit`."""
        known = {"version", "run_id", "idempotency_key", "tags", "deadline", "priority", "files"}
        if unknown := sorted(options.keys() - known):
            raise TypeError(f"run() takes no {unknown[0]!r}; known are {', '.join(sorted(known))}")
        given = {**dict.fromkeys(known), "priority": 0, **options}
        return await (await self._submit(graph, state, **given, wait=WAIT_SECONDS)).result()

    async def _submit(
        self,
        graph: Definition | str,
        state: Any,
        version: str | None,
        run_id: str | None,
        idempotency_key: str | None,
        tags: Mapping[str, str] | None,
        deadline: float | None,
        priority: int,
        files: Mapping[str, Any] | None,
        wait: float,
    ) -> RemoteRun:
        body: dict[str, Any] = {
            "state": {} if state is None else sendable(state),
            "idempotency_key": f"client-{uuid4().hex}" if idempotency_key is None else idempotency_key,
            "priority": priority,
            **_given(run_id=run_id, tags=tags, deadline=deadline),
        }
        if files:
            body["files"] = await sent_files(self._transport, files)
        path, query = "/api/runs", _given(wait=wait or None)
        if isinstance(graph, str):
            path, query = f"{_graph(graph)}/runs", {**query, **_given(version=version)}
        else:
            body["definition"] = _versioned(definition_of(graph), version)
        answer = await self._transport.ask("POST", path, body, query=query, repeatable=True, waits=wait)
        return self._run_of(answer)

    async def get(self, run_id: str) -> RemoteRun:
        """The run of this id, as it stands; raises `RunNotFound`."""
        return self._run_of(await self._transport.ask("GET", _run(run_id)))

    async def runs(
        self,
        status: Status | Collection[Status] | None = None,
        graph: str | None = None,
        tags: Mapping[str, str] | None = None,
        since: float | None = None,
        limit: int | None = 100,
        after: str | None = None,
    ) -> list[RemoteRun]:
        """The runs that match, oldest first, at most `limit` (None for all), in as many requests as that takes.

        `after` is the id of the last one seen. Several statuses mean any of them.
        """
        wanted = {status} if isinstance(status, str) else None if status is None else set(status)
        filters = _given(graph=graph, since=since, status=next(iter(wanted)) if wanted and len(wanted) == 1 else None)
        filters["tag"] = [f"{name}:{value}" for name, value in (tags or {}).items()]
        found: list[RemoteRun] = []
        while limit is None or len(found) < limit:
            most = PAGE if limit is None else min(PAGE, limit - len(found))
            query = {**filters, **_given(after=after, limit=most)}
            page = told(RunList, (await self._transport.ask("GET", "/api/runs", query=query)).data)
            found += [RemoteRun(self, item) for item in page.runs if wanted is None or item.status in wanted]
            after = page.next
            if after is None:
                break
        return found

    async def fork(self, run_id: str, at: str, update: Mapping[str, Any] | None = None) -> RemoteRun:
        """Start a new run from one activation (`"score#2"`) of an older one.

        Sent once: if its answer is lost, `ServiceUnreachable` says that whether it was done is not known.
        """
        body = {"at": at, **_given(update=None if update is None else sendable(update, "update"))}
        return self._run_of(await self._transport.ask("POST", f"{_run(run_id)}/fork", body, repeatable=False))

    # -- files

    async def upload(self, file: File | str | os.PathLike[str] | bytes, name: str | None = None) -> File:
        """Have the service keep a file, a path or bytes; gives it as it is known there. Again is no change."""
        return await upload(self._transport, file_of(file, name))

    async def download(self, file: File | str, path: str | os.PathLike[str] | None = None) -> Any:
        """The contents of a file (or of a digest): as bytes, or written to this path, which is returned then.

        Checked against the digest. Raises `FileMissing`, `FileDamaged`.
        """
        digest = file.digest if isinstance(file, File) else file
        if path is not None:
            return await download(self._transport, digest, path)
        return b"".join([piece async for piece in chunks(self._transport, digest)])

    # -- operation

    async def tools(self) -> list[ToolItem]:
        """The tools that nodes may name."""
        return told(ToolList, (await self._transport.ask("GET", "/api/tools")).data).tools

    async def audits(
        self,
        run_id: str | None = None,
        *,
        who: str | None = None,
        since: float | None = None,
        limit: int | None = 100,
        after: int = 0,
    ) -> list[AuditItem]:
        """Lines of the service's audit log, the newest first: about a run, by the key of this name, since a time.

        At most `limit` (None for all), in as many requests as that takes; `after` is the number of the last one seen.
        """
        filters = _given(run_id=run_id, who=who, since=since)
        found: list[AuditItem] = []
        while limit is None or len(found) < limit:
            query = {**filters, "after": after, "limit": PAGE if limit is None else min(PAGE, limit - len(found))}
            page = told(AuditList, (await self._transport.ask("GET", "/api/audit", query=query)).data)
            found += page.lines
            if page.next is None:
                break
            after = page.next
        return found

    async def metrics(self) -> str:
        """The service's metrics, in the text that Prometheus reads."""
        return str((await self._transport.ask("GET", "/metrics", accept="text/plain")).data)

    async def health(self) -> Health:
        """Whether the service's process is worth keeping."""
        return told(Health, (await self._transport.ask("GET", "/health", takes=(503,))).data)

    async def ready(self) -> Health:
        """Whether it takes work."""
        return told(Health, (await self._transport.ask("GET", "/ready", takes=(503,))).data)

    # -- for its runs

    def _run_of(self, answer: Answer) -> RemoteRun:
        return RemoteRun(self, _item_of(answer.data))

    def _events(self, run_id: str, after: int) -> Events:
        return Events(self._transport, run_id, after, self._streams)


class RemoteRun:
    """A run of a service, as it was last told."""

    def __init__(self, client: AsyncClient, item: RunItem) -> None:
        self._client = client
        self._item = item
        self._info = item if isinstance(item, RunInfo) else None
        self._log: list[LogEntry] | None = None
        self.id: Final = item.run_id
        self.graph: Final = item.graph
        self.version: Final = item.version
        self.tags: Final = item.tags
        self.priority: Final = item.priority
        self.submitted_at: Final = item.submitted_at

    # -- look

    @property
    def status(self) -> Status:
        """Where the run was at the last answer."""
        return self._item.status

    @property
    def over(self) -> bool:
        """Whether it had ended then."""
        return self._item.status in _ENDED

    @property
    def info(self) -> RunInfo:
        """All that the service told; raises `LookupError` before the first `refresh()`, `wait()` or `result()`."""
        if self._info is None:
            raise LookupError(f"of run {self.id!r} only its status is known here: await run.refresh() first")
        return self._info

    @property
    def state(self) -> Any:
        """The state, as JSON shows it; as `info`."""
        return self.info.state

    @property
    def files(self) -> tuple[File, ...]:
        """What it had made; as `info`."""
        return tuple(map(file_told, self.info.files))

    @property
    def log(self) -> list[LogEntry]:
        """One entry for each attempt that had ended, as many as the service keeps; as `info`."""
        info = self.info
        return [log_entry(item) for item in info.log] if self._log is None else list(self._log)

    @property
    def visited(self) -> list[str]:
        """The node of each activation in the order of their starts, the newest thousand; as `info`."""
        return list(self.info.visited)

    @property
    def error(self) -> EngineError | None:
        """Why it has no result, once it is over: `RunFailed`, `RunCancelled`; as `info`."""
        error = self.info.error
        return None if error is None else run_error_of(self.id, self.graph, error)

    async def refresh(self) -> Self:
        """Ask how it stands, with its state and log; raises `RunNotFound`."""
        await self._look(0.0)
        await self._read_log()
        return self

    def events(self, after: int = 0) -> Events:
        """Every event with a larger number, those that were and then live, until the run is over.

        Misses none and gives none twice, through lost connections and restarts of the service: raises `HistoryGone` if
        one is not kept any more, and `ServiceUnreachable` if there is no service for as long as the client is patient.
        """
        return self._client._events(self.id, after)

    async def log_after(self, count: int) -> list[LogEntry]:
        """The entries of the log that follow so many, as they are now."""
        found: list[LogEntry] = []
        after: int | None = count
        while after is not None:
            query = {"after": after, "limit": LOG_PAGE}
            page = told(LogPage, (await self._client._transport.ask("GET", f"{_run(self.id)}/log", query=query)).data)
            found += map(log_entry, page.entries)
            after = page.next
        return found

    # -- wait

    async def wait(self) -> Status:
        """Wait until the run is over, however it ends, and tell how it did."""
        await self._until_over(None)
        await self._read_log()
        return self.status

    async def result(self, timeout: float | None = None) -> RemoteResult:
        """Wait for the result; raises `RunFailed` or `RunCancelled`, or `TimeoutError` (the run goes on)."""
        if timeout is not None and (fault := timeout_fault(timeout)):
            raise ValueError(f"result: timeout {fault}")
        with anyio.move_on_after(timeout):
            await self._until_over(None if timeout is None else monotonic() + timeout)
        if not self.over:
            raise TimeoutError(f"run {self.id!r} is not over after {timeout:g} s; it goes on ({self.status})")
        error = self.error
        if error is not None:
            raise error
        await self._read_log()
        return RemoteResult.of(self.info, tuple(self.log))

    async def _until_over(self, until: float | None) -> None:
        attempts = self._client._transport.attempts()
        while not (self.over and self._info is not None):
            wait = WAIT_SECONDS if until is None else min(WAIT_SECONDS, max(0.0, until - monotonic()))
            asked = monotonic()
            await self._look(round(wait, 3))
            if not self.over and monotonic() - asked < wait:
                # It did not wait: it drains, or cannot drive the run. That is no reason to give up, or to ask at once.
                gap = attempts.gap(monotonic())
                await anyio.sleep(self._client._transport.patience.longest_gap if gap is None else gap)

    async def _look(self, wait: float) -> None:
        query = _given(wait=wait or None)
        self._learn(await self._client._transport.ask("GET", _run(self.id), query=query, waits=wait))

    async def _read_log(self) -> None:
        """What is too long to be told with the run."""
        self._log = await self.log_after(0) if self.info.log_dropped else None

    def _learn(self, answer: Answer) -> None:
        self._item = _item_of(answer.data)
        if isinstance(self._item, RunInfo):
            self._info, self._log = self._item, None

    # -- act

    async def cancel(self, reason: str | None = None) -> None:
        """Ask the run to end; idempotent, and without effect on one that is over. `wait()` tells when it is."""
        await self._act("cancel", _given(reason=reason), repeatable=True)

    async def signal(self, name: str, payload: Any = None, id: str | None = None) -> None:
        """Give the run a signal, which counts once, however often it has to be sent; `UnknownSignal`, `RunEnded`.

        One that is sent again with its `id` is the same: nothing happens, though it may have ended the run.
        """
        body = {
            "name": name,
            "payload": sendable(payload, "payload"),
            "id": f"client-{uuid4().hex}" if id is None else id,
        }
        await self._act("signal", body, repeatable=True)

    async def pause(self) -> None:
        """Hold new activations; what runs goes on."""
        await self._act("pause", {}, repeatable=True)

    async def resume(self) -> None:
        """Let what `pause()` held go."""
        await self._act("resume", {}, repeatable=True)

    async def retry(self, update: Mapping[str, Any] | None = None) -> None:
        """Run a failed run on from its failure, with `update` applied to what the failed activations were given.

        Sent once: if its answer is lost, `ServiceUnreachable` says that whether it was done is not known.
        """
        body = _given(update=None if update is None else sendable(update, "update"))
        # It may have none of its old end any more, even if this fails: the next `wait()` or `result()` asks.
        self._info = self._log = None
        await self._act("retry", body, repeatable=False)

    async def _act(self, verb: str, body: dict[str, Any], *, repeatable: bool) -> None:
        path = f"{_run(self.id)}/{verb}"
        self._learn(await self._client._transport.ask("POST", path, body, repeatable=repeatable))

    def __repr__(self) -> str:
        return f"<RemoteRun {self.id} of {self.graph!r}, {self.status} when last asked>"


def _item_of(data: Any) -> RunItem:
    """A run as it is told: in short, or with all that there is."""
    return told(RunInfo if isinstance(data, Mapping) and "log" in data else RunItem, data)


def _versioned(definition: dict[str, Any], version: str | None) -> dict[str, Any]:
    if version is None or definition.get("version", version) == version:
        return definition if version is None else {**definition, "version": version}
    raise GraphNotFound(str(definition.get("name")), [str(definition["version"])], version)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _graph(name: str) -> str:
    return f"/api/graphs/{quote(name, safe='')}"


def _limits(graph: str, node: str) -> str:
    return f"{_graph(graph)}/nodes/{quote(node, safe='')}/limits"


def _run(run_id: str) -> str:
    return f"/api/runs/{quote(run_id, safe='')}"
