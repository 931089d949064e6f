"""Paths that existing clients use: a table onto the routes, with nothing behind it.

An alias says what a body means in the words of its route, and how that route's answer is told in the client's words:
run id, status, state, logs with timestamps and durations, visited nodes; of a workflow its id, status and tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final

import attrs

from ..errors import EngineError
from .models import (
    Deadline,
    GraphInfo,
    InlineSubmission,
    LogItem,
    Object,
    Priority,
    RunError,
    RunId,
    RunInfo,
    RunItem,
    RunList,
    Status,
    Submission,
    Tags,
)
from .problems import Detail, invalid
from .routes import MOST_WAITED, ROUTES, SOCKETS, WAIT
from .service import Service
from .sockets import Begin
from .table import Call, Needed, Route
from .wire import Answer, Sends

DEFAULT_WAIT: Final = 60.0
"""Seconds that `/graph/run` waits for the end of a run, since its clients expect the result."""


# --- in the words of clients ----------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class AliasGraph:
    """A graph that was defined."""

    graph_id: str
    name: str
    version: str
    nodes: list[str]


@attrs.frozen(kw_only=True)
class AliasSubmission:
    """A graph by its id, which is its name, and what to run it on."""

    graph_id: Annotated[str, {"minLength": 1}]
    initial_state: Annotated[Object | None, "the initial state"] = None
    state: Annotated[Object | None, "the same"] = None
    run_id: RunId = None
    tags: Tags = attrs.field(factory=dict)
    deadline: Deadline = None
    priority: Priority = 0


@attrs.frozen(kw_only=True)
class AliasRun:
    """A run with what has become of it."""

    run_id: str
    graph_id: str
    status: Status
    state: Any
    logs: list[LogItem]
    visited_nodes: list[str]
    error: RunError | None


@attrs.frozen(kw_only=True)
class Task:
    """A task of a workflow: a node of its graph."""

    name: str
    status: Annotated[str, "pending, running, succeeded, failed, cancelled or timed_out"]
    start: float | None = None
    duration: Annotated[float | None, "seconds"] = None
    error: str | None = None


@attrs.frozen(kw_only=True)
class Workflow:
    """A run of a workflow."""

    id: str
    name: str
    status: Status
    tasks: list[Task]
    state: Any = None


@attrs.frozen(kw_only=True)
class WorkflowItem:
    """A workflow in a list."""

    id: str
    name: str
    status: Status
    submitted_at: float


@attrs.frozen(kw_only=True)
class WorkflowList:
    """Workflows in the order of their submission."""

    workflows: list[WorkflowItem]
    next: str | None = None


# --- there and back -------------------------------------------------------------------------------------

_BESIDE: Final = ("state", "run_id", "tags", "deadline", "priority")
"""What a workflow's body says beside its definition."""


def _submission(call: Call) -> None:
    said: AliasSubmission = call.body
    if said.state is not None and said.initial_state is not None and said.state != said.initial_state:
        raise invalid([Detail(pointer="/state", message="initial_state says another: give one of them")])
    call.path = {"name": said.graph_id}
    call.body = Submission(
        state=said.initial_state or said.state or {},
        run_id=said.run_id,
        tags=said.tags,
        deadline=said.deadline,
        priority=said.priority,
    )


def _workflow_submission(call: Call) -> None:
    if not isinstance(call.body, Mapping):
        raise invalid([Detail(pointer="", message="expected an object: a name and its steps")])
    from .models import read

    beside = {name: call.body[name] for name in _BESIDE if name in call.body and (name != "state" or _is_steps(call))}
    definition = {name: value for name, value in call.body.items() if name not in beside}
    call.body = read(InlineSubmission, {**beside, "definition": definition})


def _is_steps(call: Call) -> bool:
    """Whether `state` is the initial state: in a whole definition it declares the keys."""
    return "steps" in call.body


def _graph_told(service: Service, data: GraphInfo) -> AliasGraph:
    return AliasGraph(graph_id=data.name, name=data.name, version=data.version, nodes=data.nodes)


def _run_told(service: Service, data: RunInfo | RunItem) -> AliasRun:
    info = data if isinstance(data, RunInfo) else None
    return AliasRun(
        run_id=data.run_id,
        graph_id=data.graph,
        status=data.status,
        state=info.state if info else None,
        logs=info.log if info else [],
        visited_nodes=info.visited if info else [],
        error=info.error if info else None,
    )


def _workflow_told(service: Service, data: RunInfo | RunItem) -> Workflow:
    info = data if isinstance(data, RunInfo) else None
    try:
        names = [node.name for node in service.engine.plan(data.graph, data.version).decl.nodes]
    except EngineError:
        names = []
    return Workflow(
        id=data.run_id,
        name=data.graph,
        status=data.status,
        tasks=[_task(name, info) for name in names],
        state=info.state if info else None,
    )


def _task(name: str, info: RunInfo | None) -> Task:
    if info is None:
        return Task(name=name, status="pending")
    last = next((item for item in reversed(info.log) if item.node == name), None)
    if last is None:
        return Task(name=name, status="running" if name in info.visited else "pending")
    return Task(name=name, status=last.status, start=last.start, duration=last.duration, error=last.error)


def _workflows_told(service: Service, data: RunList) -> WorkflowList:
    items = [
        WorkflowItem(id=run.run_id, name=run.graph, status=run.status, submitted_at=run.submitted_at)
        for run in data.runs
    ]
    return WorkflowList(workflows=items, next=data.next)


# --- the table ------------------------------------------------------------------------------------------


def _as_it_is(call: Call) -> None: ...


def _same(service: Service, data: Any) -> Any:
    return data


def _run_id(call: Call) -> None:
    call.path = {"run_id": call.path["id"]}


@attrs.frozen(kw_only=True)
class Told:
    """How the answers of a route are told."""

    by: Callable[[Service, Any], Any]
    answers: Mapping[int, Any]


GRAPH: Final = Told(by=_graph_told, answers={201: AliasGraph, 200: AliasGraph})
RUN: Final = Told(by=_run_told, answers={200: AliasRun})
SUBMITTED: Final = Told(by=_run_told, answers={202: AliasRun, 200: AliasRun})
WORKFLOW: Final = Told(by=_workflow_told, answers={200: Workflow})
STARTED: Final = Told(by=_workflow_told, answers={202: Workflow, 200: Workflow})
WORKFLOWS: Final = Told(by=_workflows_told, answers={200: WorkflowList})

# Path, the route it stands for, what becomes of the request and of the answer, and what differs in the route.
Alias = tuple[str, str, Callable[[Call], None], Told | None, Mapping[str, Any]]

_WAITS: Final = {
    "body": AliasSubmission,
    "body_optional": False,
    "query": (attrs.evolve(WAIT, default=DEFAULT_WAIT),),
    "problems": (404, 409),
    "example": {"graph_id": "review", "initial_state": {"text": "a fine day"}},
}
_DOES_NOT: Final = {**_WAITS, "query": ()}
_STEPS: Final = {
    "body": Mapping,
    "example": {"name": "sample", "steps": [{"execution_type": "sequential", "tasks": [{"name": "task_a"}]}]},
}

ALIASES: Final[Sequence[Alias]] = (
    ("/graph/create", "create_graph", _as_it_is, GRAPH, {}),
    ("/graph/run", "submit_run", _submission, SUBMITTED, _WAITS),
    ("/graph/run/async", "submit_run", _submission, SUBMITTED, _DOES_NOT),
    ("/graph/state/{run_id}", "get_run", _as_it_is, RUN, {}),
    ("/tools", "list_tools", _as_it_is, None, {}),
    ("/execution/{id}", "get_run", _run_id, RUN, {}),
    ("/api/graph/create", "create_graph", _as_it_is, GRAPH, {}),
    ("/api/graph/run", "submit_run", _submission, SUBMITTED, _WAITS),
    ("/api/graph/run-async", "submit_run", _submission, SUBMITTED, _DOES_NOT),
    ("/api/graph/state/{run_id}", "get_run", _as_it_is, RUN, {}),
    ("/api/workflow", "submit_inline", _workflow_submission, STARTED, _STEPS),
    ("/api/workflow/{id}", "get_run", _run_id, WORKFLOW, {}),
    ("/api/workflows", "list_runs", _as_it_is, WORKFLOWS, {}),
)

# Path, the socket it stands for, and the name that its parameter has there.
SOCKET_ALIASES: Final = (
    ("/ws/execution/{id}", "/ws/runs/{run_id}", "run_id"),
    ("/ws/execute/{graph_id}", "/ws/graphs/{name}/execute", "name"),
    ("/ws/monitor/{run_id}", "/ws/runs/{run_id}", "run_id"),
)


def aliased(alias: Alias) -> Route:
    """The route that an alias is."""
    path, name, arrive, told, changes = alias
    route = next(route for route in ROUTES if route.name == name)

    async def handler(call: Call) -> Answer | Sends:
        call.query = {"version": None, "wait": 0.0, **call.query}
        arrive(call)
        answer = await route.handler(call)
        if told is None or not isinstance(answer, Answer):
            return answer
        return attrs.evolve(answer, data=told.by(call.service, answer.data))

    words = path.replace("{", "").replace("}", "").replace("-", "_").strip("/").split("/")
    return attrs.evolve(
        route,
        path=path,
        name="alias_" + "_".join(words),
        handler=handler,
        group="aliases",
        description=f"What existing clients call `{route.method} {route.path}`.",
        answers=route.answers if told is None else told.answers,
        deprecated=True,
        **changes,
    )


def aliased_socket(alias: tuple[str, str, str]) -> tuple[str, Needed, Begin]:
    """The socket that an alias is."""
    path, target, parameter = alias
    needs, begin = next((needs, begin) for each, needs, begin in SOCKETS if each == target)

    async def begin_as(call: Call, socket: Any) -> Any:
        call.path = {parameter: next(iter(call.path.values()))}
        return await begin(call, socket)

    return path, needs, begin_as


ALIAS_ROUTES: Final = tuple(map(aliased, ALIASES))
ALIAS_SOCKETS: Final = tuple(map(aliased_socket, SOCKET_ALIASES))

assert MOST_WAITED >= DEFAULT_WAIT
