"""Runs over HTTP: submit, look, act."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from ..errors import ActivationNotFound, FileMismatch, FileMissing, RunNotFound, StateFault, StateInvalid
from ..handle import Run
from ..kept import KeptRun
from ..plan import Plan
from ..replay import ReplayError
from ..submitting import OptionsRefused
from .files import input_files
from .graphs import define_inline
from .models import ForkOrder, InlineSubmission, LogPage, RetryOrder, RunList, SignalOrder, Submission, values
from .problems import Detail, code_of, facts_of, invalid, invalid_faults, of_state
from .service import log_item, run_info, run_item
from .streams import Waiting
from .table import Call
from .wire import Answer


async def submit(call: Call, submission: Submission, name: str, version: str | None) -> Run:
    """Submit a run; returns when it is safe."""
    engine = call.service.engine
    plan = engine.plan(name, version)
    state = typed(plan, submission.state, "state")
    key = _as_in_header(call, "Idempotency-Key", "idempotency_key", submission.idempotency_key)
    deadline = _as_in_header(call, "X-Deadline-Seconds", "deadline", submission.deadline)
    files = await input_files(call, submission.files) if submission.files else None
    try:
        run = await engine.submit(
            plan.name,
            state,
            version=plan.version,
            run_id=submission.run_id,
            idempotency_key=key,
            tags=submission.tags or None,
            deadline=deadline,
            priority=submission.priority,
            files=files,
        )
    except OptionsRefused as refused:
        raise invalid([Detail(pointer=f"/{option}", message=fault) for option, fault in refused.faults]) from None
    except StateInvalid as error:
        raise of_state(error, "/state") from None
    except FileMismatch as error:
        raise invalid([Detail(pointer="/files", message=error.message, code=code_of(type(error)))]) from None
    except FileMissing as error:
        message = f"it names a file whose contents {error.digest} are not there; upload them"
        raise invalid([Detail(pointer="/state", message=message, code=code_of(type(error)))]) from None
    call.note(run_id=run.id, graph=run.graph)
    return run


def _as_in_header(call: Call, header: str, field: str, said: Any) -> Any:
    """What the header says, or else the body; they may not say two things."""
    given = call.query.get(header)
    if given is not None and said is not None and given != said:
        raise invalid([Detail(pointer=f"/{field}", message=f"the header {header} says another", parameter=header)])
    return given or said


def typed(plan: Plan, data: Mapping[str, Any], below: str) -> dict[str, Any]:
    """Values that came as JSON, as the state's types have them; raises `Refused` with a pointer for every fault."""
    keys: Mapping[str, Any] = getattr(plan.decl.state, "keys", {})
    if not keys:
        return dict(data)
    faults: list[StateFault] = []
    types = {name: key.type for name, key in keys.items()}
    found = values(types, data, below, faults)
    if faults:
        raise invalid_faults(faults)
    return found


async def until_over(call: Call, run: Run, seconds: float | None) -> None:
    """Wait so long at most for its end; a service that drains does not wait, nor does anybody for a run that cannot."""
    if seconds and not run.over and not isinstance(run, KeptRun):
        with Waiting(call.service.streams) as waiting:
            await waiting.wait(run.wait(), seconds)


async def answer_when_over(call: Call, run: Run, seconds: float | None) -> Answer:
    """200 with the run if it is over in time; otherwise, and always without a time to wait, 202."""
    headers = {"Location": f"{call.root}/api/runs/{quote(run.id, safe='')}"}
    await until_over(call, run, seconds)
    if seconds and run.over:
        return Answer(200, run_info(run, call.root), headers)
    return Answer(202, run_item(run), headers)


async def submit_run(call: Call) -> Answer:
    """`POST /api/graphs/{name}/runs`."""
    run = await submit(call, call.body, call.path["name"], call.query["version"])
    return await answer_when_over(call, run, call.query["wait"])


async def submit_inline(call: Call) -> Answer:
    """`POST /api/runs`."""
    submission: InlineSubmission = call.body
    graph = await define_inline(call, submission.definition, "/definition")
    run = await submit(call, submission, graph.name, graph.version)
    return await answer_when_over(call, run, call.query["wait"])


# --- looking --------------------------------------------------------------------------------------------


async def run_of(call: Call) -> Run:
    """The run that the path names; raises `RunNotFound`."""
    run = await call.service.engine.get(call.path["run_id"])
    call.note(run_id=run.id, graph=run.graph)
    return run


async def list_runs(call: Call) -> Answer:
    """`GET /api/runs`."""
    tags = {}
    for text in call.query["tag"]:
        name, colon, value = text.partition(":")
        if not colon:
            raise invalid([Detail(parameter="tag", message=f"expected name:value, found {text[:80]!r}")])
        tags[name] = value
    after, limit = call.query["after"], call.query["limit"]
    status: Any = call.query["status"]
    try:
        found = await call.service.engine.runs(
            status, call.query["graph"], tags, call.query["since"], limit=limit + 1, after=after
        )
    except RunNotFound:
        raise invalid([Detail(parameter="after", message="no run has this id", code="run_not_found")]) from None
    page = found[:limit]
    return Answer(data=RunList(runs=[run_item(run) for run in page], next=page[-1].id if len(found) > limit else None))


async def get_run(call: Call) -> Answer:
    """`GET /api/runs/{run_id}`."""
    run = await run_of(call)
    await until_over(call, run, call.query["wait"])
    return Answer(data=run_info(run, call.root))


async def get_log(call: Call) -> Answer:
    """`GET /api/runs/{run_id}/log`."""
    run = await run_of(call)
    log, dropped = run.log, run.log_dropped
    after, limit = call.query["after"], call.query["limit"]
    begin = max(0, after - dropped)
    page = log[begin : begin + limit]
    seen = dropped + begin + len(page)
    return Answer(
        data=LogPage(
            entries=[log_item(entry) for entry in page],
            dropped=dropped,
            next=seen if begin + len(page) < len(log) else None,
        )
    )


# --- acting ---------------------------------------------------------------------------------------------


async def cancel_run(call: Call) -> Answer:
    """`POST /api/runs/{run_id}/cancel`."""
    run = await run_of(call)
    await run.cancel(call.body.reason)
    return await answer_when_over(call, run, call.query["wait"])


async def retry_run(call: Call) -> Answer:
    """`POST /api/runs/{run_id}/retry`."""
    run, order = await run_of(call), call.body
    assert isinstance(order, RetryOrder)
    await _with_update(call, run, order.update, run.retry)
    return await answer_when_over(call, run, call.query["wait"])


async def fork_run(call: Call) -> Answer:
    """`POST /api/runs/{run_id}/fork`."""
    old, order = await run_of(call), call.body
    assert isinstance(order, ForkOrder)
    forked: list[Run] = []

    async def fork(update: Mapping[str, Any] | None) -> None:
        forked.append(await call.service.engine.fork(old.id, order.at, update))

    try:
        await _with_update(call, old, order.update, fork)
    except (ActivationNotFound, ReplayError) as error:
        detail = Detail(pointer="/at", message=str(error), code=code_of(type(error)))
        raise invalid([detail], facts_of(error)) from None
    return await answer_when_over(call, forked[0], call.query["wait"])


async def _with_update(call: Call, run: Run, update: Mapping[str, Any] | None, act: Callable[..., Any]) -> None:
    """Do something with an update of the state, which came as JSON."""
    if update is not None:
        update = typed(call.service.engine.plan(run.graph, run.version), update, "update")
    try:
        await act(update)
    except StateInvalid as error:
        raise of_state(error, "/update") from None


async def signal_run(call: Call) -> Answer:
    """`POST /api/runs/{run_id}/signal`."""
    run, order = await run_of(call), call.body
    assert isinstance(order, SignalOrder)
    await run.signal(order.name, order.payload, order.id)
    return Answer(202, run_item(run))


async def pause_run(call: Call) -> Answer:
    """`POST /api/runs/{run_id}/pause`."""
    run = await run_of(call)
    await run.pause()
    return Answer(202, run_item(run))


async def resume_run(call: Call) -> Answer:
    """`POST /api/runs/{run_id}/resume`."""
    run = await run_of(call)
    await run.resume()
    return Answer(202, run_item(run))
