"""Paths that existing clients use: a table onto the routes, with nothing behind it.

An alias says what a body means in the words of its route, and how that route's answer is told in the client's words:
run id, status, state, logs with timestamps and durations, visited nodes; of a workflow its id, status and tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final

import attrs

from ..errors import EngineError
from .alias_graphs import AliasDefinition, Words, in_our_words
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
    read,
)
from .problems import Detail, Refused, invalid
from .routes import MOST_WAITED, ROUTES, SOCKETS, WAIT
from .service import Service, run_info
from .sockets import Begin, execute_graph
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
class AliasState:
    """What to run a graph on, over a socket that names it."""

    initial_state: Annotated[Object | None, "the initial state"] = None
    state: Annotated[Object | None, "the same"] = None
    input: Annotated[Object | None, "the same"] = None
    run_id: RunId = None
    tags: Tags = attrs.field(factory=dict)
    deadline: Deadline = None
    priority: Priority = 0


def _id_first(_: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    """As bodies are described and refused, though a base class's fields come first otherwise."""
    return sorted(fields, key=lambda field: field.name != "graph_id")


@attrs.frozen(kw_only=True, field_transformer=_id_first)
class AliasSubmission(AliasState):
    """A graph by its id, which is its name, and what to run it on."""

    graph_id: Annotated[str, {"minLength": 1}]


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

WorkflowDefinition = Annotated[
    Object,
    "a graph in steps, or a whole definition; beside it what a submission says",
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "steps": {"type": "array", "items": {"type": "object"}},
            "state": {"type": "object", "description": "with `steps` the initial state, otherwise the keys it has"},
            "run_id": {"type": ["string", "null"]},
            "tags": {"type": "object", "additionalProperties": {"type": "string"}},
            "deadline": {"type": ["number", "null"], "exclusiveMinimum": 0},
            "priority": {"type": "integer"},
        },
        "required": ["name"],
    },
]

_BESIDE: Final = ("state", "run_id", "tags", "deadline", "priority")
"""What a workflow's body says beside its definition."""


Placed = Callable[[Refused], Refused]
"""Leads the places of a refusal back to where they are in the client's words."""


def submission_of(said: AliasState) -> Submission:
    """The submission that it means; raises `Refused` if it gives several states."""
    given = [
        (name, state) for name in ("initial_state", "state", "input") if (state := getattr(said, name)) is not None
    ]
    for name, state in given[1:]:
        if state != given[0][1]:
            raise invalid([Detail(pointer=f"/{name}", message=f"{given[0][0]} says another: give one of them")])
    return Submission(
        state=given[0][1] if given else {},
        run_id=said.run_id,
        tags=said.tags,
        deadline=said.deadline,
        priority=said.priority,
    )


def _submission(call: Call) -> None:
    call.path = {"name": call.body.graph_id}
    call.body = submission_of(call.body)


def _graph_submission(call: Call) -> Placed | None:
    if not isinstance(call.body, Mapping):
        return None  # what it should have been is told by who reads it
    words = in_our_words(call.body)
    call.body = words.definition
    return words.placed


def _workflow_submission(call: Call) -> Placed:
    if not isinstance(call.body, Mapping):
        raise invalid([Detail(pointer="", message="expected an object: a name and its steps")])
    beside = {name: call.body[name] for name in _BESIDE if name in call.body and (name != "state" or _is_steps(call))}
    definition = {name: value for name, value in call.body.items() if name not in beside}
    call.body = read(InlineSubmission, {**beside, "definition": definition})
    return Words(definition, {"/definition": ""}).placed


def _is_steps(call: Call) -> bool:
    """Whether `state` is the initial state: in a whole definition it declares the keys."""
    return "steps" in call.body


def _graph_told(service: Service, data: GraphInfo) -> AliasGraph:
    return AliasGraph(graph_id=data.name, name=data.name, version=data.version, nodes=data.nodes)


def _run_told(service: Service, data: RunInfo) -> AliasRun:
    return AliasRun(
        run_id=data.run_id,
        graph_id=data.graph,
        status=data.status,
        state=data.state,
        logs=data.log,
        visited_nodes=data.visited,
        error=data.error,
    )


def _workflow_told(service: Service, data: RunInfo) -> Workflow:
    try:
        names = [node.name for node in service.engine.plan(data.graph, data.version).decl.nodes]
    except EngineError:
        names = []  # the graph is not here any more: its run is told as far as it is known
    return Workflow(
        id=data.run_id,
        name=data.graph,
        status=data.status,
        tasks=[_task(name, data) for name in names],
        state=data.state,
    )


def _task(name: str, info: RunInfo) -> Task:
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
Alias = tuple[str, str, Callable[[Call], Placed | None], Told | None, Mapping[str, Any]]

_WAITS: Final = {
    "body": AliasSubmission,
    "body_optional": False,
    "query": (attrs.evolve(WAIT, default=DEFAULT_WAIT),),
    "problems": (404, 409),
    "example": {"graph_id": "review", "initial_state": {"text": "a fine day"}},
}
_DOES_NOT: Final = {**_WAITS, "query": ()}
_CREATES: Final = {
    "body": AliasDefinition,
    "example": {
        "name": "review",
        "nodes": ["draft", "grade", "publish"],
        "edges": {"draft": "grade", "publish": "END"},
        "conditional_edges": {"grade": {"condition": "state.score < 0.8", "if_true": "draft", "if_false": "publish"}},
        "entry_point": "draft",
    },
}
_STEPS: Final = {
    "body": WorkflowDefinition,
    "example": {"name": "sample", "steps": [{"execution_type": "sequential", "tasks": [{"name": "task_a"}]}]},
}

ALIASES: Final[Sequence[Alias]] = (
    ("/graph/create", "create_graph", _graph_submission, GRAPH, _CREATES),
    ("/graph/run", "submit_run", _submission, SUBMITTED, _WAITS),
    ("/graph/run/async", "submit_run", _submission, SUBMITTED, _DOES_NOT),
    ("/graph/state/{run_id}", "get_run", _as_it_is, RUN, {}),
    ("/tools", "list_tools", _as_it_is, None, {}),
    ("/execution/{id}", "get_run", _run_id, RUN, {}),
    ("/api/graph/create", "create_graph", _graph_submission, GRAPH, _CREATES),
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
        placed = arrive(call)
        try:
            answer = await route.handler(call)
        except Refused as refused:
            raise (refused if placed is None else placed(refused)) from None
        if told is None or not isinstance(answer, Answer):
            return answer
        data = answer.data
        if isinstance(data, RunItem) and not isinstance(data, RunInfo):
            # Whatever the route leaves out of an answer that came at once: these clients know one shape of a run.
            data = run_info(await call.service.engine.get(data.run_id))
        return attrs.evolve(answer, data=told.by(call.service, data))

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
        if begin is execute_graph:
            return await execute_graph(call, socket, lambda data: submission_of(read(AliasState, data)))
        return await begin(call, socket)

    return path, needs, begin_as


ALIAS_ROUTES: Final = tuple(map(aliased, ALIASES))
ALIAS_SOCKETS: Final = tuple(map(aliased_socket, SOCKET_ALIASES))

assert MOST_WAITED >= DEFAULT_WAIT
