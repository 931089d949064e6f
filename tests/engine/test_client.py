"""The client against the application in the same process: its verbs, and every error that the service can answer."""

from __future__ import annotations

import datetime
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import anyio
import attrs
import httpx2
import pytest

from engine import Graph, GraphInvalid, RunCancelled, RunFailed, errors
from engine.client import AsyncClient, Patience, RemoteRun, ServiceError, ServiceUnreachable
from engine.client.faults import error_of, run_error_of
from engine.client.patience import Attempts
from engine.client.sending import NotSendable, sendable
from engine.client.sse import Parser
from engine.history import LogEntry
from engine.stores.memory import MemoryStore
from engine.web.keys import Keys, new_key
from engine.web.models import RunError
from engine.web.problems import answer_of, of_error
from engine.web.service import run_error
from tests.engine.web.served import COUNTING, FAILING, GATED, Served, Transport, served

URL = "http://service"


@asynccontextmanager
async def talking(store: Any = None, **options: Any) -> AsyncIterator[tuple[AsyncClient, Served]]:
    of_client = {name: options.pop(name) for name in ("patience", "api_key") if name in options}
    async with (
        served(store, **options) as there,
        AsyncClient(URL, transport=Transport(there.app), **of_client) as client,
    ):
        yield client, there


async def until(run: RemoteRun, status: str) -> None:
    """Ask until it stands so."""
    with anyio.fail_after(30):
        while (await run.refresh()).status != status:  # noqa: ASYNC110  # it is another's event
            await anyio.sleep(0.005)


# --- the verbs ------------------------------------------------------------------------------------------


async def test_a_graph_is_defined_listed_looked_at_and_forgotten() -> None:
    async with talking() as (client, _):
        made = await client.define(COUNTING)
        listed = await client.graphs()
        found = await client.graph("counting")
        drawn = await client.draw("counting")
        await client.forget("counting", "1")

        assert (made.name, made.nodes) == ("counting", ["count"])
        assert listed == [("counting", "1")]
        assert found == made
        assert "count" in drawn
        assert await client.graphs() == []


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
async def test_a_graph_is_defined_by_its_file(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"graph{suffix}"
    file.write_text('{"name": "of_file", "entry_point": "count", "nodes": [{"name": "count"}]}')

    async with talking() as (client, _):
        assert (await client.register(str(file))).name == "of_file"
        assert (await client.run(file, {"n": 1})).state == {"n": 2}


async def test_a_file_that_cannot_be_read_is_told_as_a_graph_is(tmp_path: Path) -> None:
    (tmp_path / "graph.json").write_text("{")

    async with talking() as (client, _):
        with pytest.raises(GraphInvalid):
            await client.define(tmp_path / "graph.json")


async def test_a_graph_object_is_run_if_data_can_say_it() -> None:
    async with talking() as (client, there):
        graph = Graph.from_dict(COUNTING, tools=there.engine.tools)

        result = await client.run(graph, {"n": 4}, tags={"a": "b"})

        assert (result.status, result.state, result.visited) == ("succeeded", {"n": 5}, ("count",))
        assert [type(entry) for entry in result.log] == [LogEntry]


async def test_a_graph_of_functions_is_refused_before_it_is_sent() -> None:
    graph = Graph("local").add_node("f", lambda state: state, run_in="loop").set_entry_point("f")

    async with talking() as (client, _):
        with pytest.raises(GraphInvalid):
            await client.submit(graph)


async def test_a_submission_keeps_its_options() -> None:
    async with talking() as (client, _):
        await client.define(GATED)
        run = await client.submit(
            "gated", {}, run_id="mine", tags={"team": "a b"}, deadline=60, priority=3, version="1"
        )

        assert (run.id, run.tags, run.priority, run.graph, run.version) == ("mine", {"team": "a b"}, 3, "gated", "1")
        await run.cancel()


async def test_a_run_is_signalled_to_its_end() -> None:
    async with talking() as (client, _):
        await client.define(GATED)
        run = await client.submit("gated", {"n": 1})
        await run.signal("go", {"by": "me"})

        result = await run.result(timeout=30)

        assert result.state == {"n": 2, "gone": {"by": "me"}}
        assert (run.over, run.status, run.state) == (True, "succeeded", result.state)


async def test_a_run_is_paused_resumed_and_cancelled() -> None:
    async with talking() as (client, _):
        await client.define(GATED)
        run = await client.submit("gated")
        await run.pause()
        paused = run.status
        await run.resume()
        await run.cancel("not needed")

        assert paused == "paused"
        with pytest.raises(RunCancelled, match="not needed") as raised:
            await run.result()
        assert (raised.value.run_id, raised.value.reason) == (run.id, "not needed")


async def test_a_failed_run_raises_what_failed_and_is_retried() -> None:
    async with talking() as (client, _):
        await client.define(FAILING)
        run = await client.submit("failing")
        with pytest.raises(RunFailed) as raised:
            await run.result()
        await run.retry({"mended": True})

        (failure,) = raised.value.failures
        assert (failure.node, failure.activation, failure.attempts) == ("fail", 1, 1)
        assert (type(failure.cause).__name__, str(failure.cause)) == ("ValueError", "it is broken")
        assert (await run.wait(), run.error) == ("succeeded", None)


async def test_a_run_is_forked() -> None:
    async with talking(MemoryStore()) as (client, _):
        result = await client.run(COUNTING, {"n": 1})
        forked = await client.fork(result.run_id, "count#1", {"n": 10})

        assert (await forked.result()).state == {"n": 11}


async def test_a_result_that_is_late_is_a_timeout_and_the_run_goes_on() -> None:
    async with talking() as (client, _):
        run = await client.submit(GATED)
        with pytest.raises(TimeoutError, match="it goes on"):
            await run.result(timeout=0.05)

        await until(run, "waiting")
        await run.cancel()


async def test_of_a_run_only_submitted_the_state_is_not_known() -> None:
    async with talking() as (client, _):
        run = await client.submit(GATED)
        with pytest.raises(LookupError, match="refresh"):
            _ = run.state

        await until(run, "waiting")
        assert run.state["n"] == 1
        await run.cancel()


async def test_lists_follow_the_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.client.asynchronous.PAGE", 2)
    async with talking() as (client, _):
        ids = [(await client.run(COUNTING, tags={"n": str(n)})).run_id for n in range(5)]
        waiting = await client.submit(GATED)
        await until(waiting, "waiting")

        everything = [run.id for run in await client.runs(limit=None)]

        assert everything == [*ids, waiting.id]
        assert [run.id for run in await client.runs(limit=3)] == ids[:3]
        assert [run.id for run in await client.runs(after=ids[3])] == [ids[4], waiting.id]
        assert [run.id for run in await client.runs("waiting")] == [waiting.id]
        assert [run.id for run in await client.runs({"waiting", "failed"})] == [waiting.id]
        assert [run.id for run in await client.runs(tags={"n": "3"}, graph="counting", since=1.0)] == [ids[3]]
        await waiting.cancel()


async def test_long_logs_are_read_to_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.web.service.MOST_SHOWN", 2)
    monkeypatch.setattr("engine.client.asynchronous.LOG_PAGE", 2)
    chain = {
        "name": "chain",
        "entry_point": "n0",
        "nodes": [{"name": f"n{i}", "tool": "count"} for i in range(5)],
        "edges": [{"source": f"n{i}", "target": f"n{i + 1}"} for i in range(4)],
    }
    async with talking() as (client, _):
        result = await client.run(chain)
        run = await (await client.get(result.run_id)).refresh()

        assert [entry.node for entry in result.log] == ["n0", "n1", "n2", "n3", "n4"]
        assert run.log == list(result.log)
        assert await run.log_after(3) == list(result.log[3:])


async def test_the_service_tells_of_itself() -> None:
    async with talking() as (client, _):
        await client.run(COUNTING)

        assert "count" in [tool.name for tool in await client.tools()]
        assert 'workflow_runs_total{graph="counting",status="succeeded"} 1.0' in await client.metrics()
        assert (await client.health()).status == "ok"
        assert (await client.ready()).status == "ok"
        assert not (await client.validate({"name": "x"})).valid


# --- errors ---------------------------------------------------------------------------------------------

SAMPLES: list[errors.EngineError] = [
    errors.EngineBusy("the queue is full", retry_after=7.0),
    errors.EngineClosed(),
    errors.RunNotFound("r1", "it was compacted"),
    errors.GraphNotFound("g", ["a", "b"], "2"),
    errors.UnknownSignal("go", ["stop"]),
    errors.UnknownNode("n", ["m"]),
    errors.UnknownTool("t", "2", ["1"]),
    errors.HistoryGone(1, 5),
    errors.RecordsGone("r1", "records 1 to 4", 5),
    errors.GraphConflict("g", "1"),
    errors.GraphInUse("g", "1", "r1"),
    errors.IdempotencyConflict("k", "r1"),
    errors.RunIdTaken("r1"),
    errors.RunEnded("r1", "failed"),
    errors.RunTimeout("r1", 3.5),
    errors.VersionMismatch("g", "abc", "def", run_id="r1", reasons=["node 'a' is gone"]),
    errors.ClassChanged("m:C", "it has other fields"),
    errors.NotStorable("a lambda", "state.f", "leave it out"),
    errors.TooDeep(17),
    errors.MergeConflict("k", ["a", "b"], [1, 2], "j"),
    errors.ToolInvalid("no name"),
]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_of_the_engine_is_the_same_on_the_other_side(error: errors.EngineError) -> None:
    refused = of_error(error)

    found = error_of(refused.problem.status, _sent(error))

    assert type(found) is type(error)
    assert str(found).removesuffix("; nothing was accepted") == str(error)
    plain = {name: value for name, value in vars(error).items() if name not in ("values",)}
    assert {name: getattr(found, name) for name in plain} == plain
    assert vars(pickle.loads(pickle.dumps(found))) == vars(found)


def _sent(error: Exception) -> Any:
    return httpx2.Response(200, content=answer_of(of_error(error)).body()).json()


@pytest.mark.parametrize("kind", [errors.StoreUnavailable, errors.Damaged])
def test_what_is_the_operators_business_keeps_its_class_alone(kind: type[errors.EngineError]) -> None:
    found = error_of(503, _sent(kind("the password is 1234")))

    assert type(found) is kind
    assert "1234" not in str(found)


def test_all_problems_of_a_graph_come_back() -> None:
    problems = [
        errors.GraphProblem("unknown_node", "/edges/0/target", "no such node", "did you mean 'a'?"),
        errors.GraphProblem("no_exit", "/", "it never ends"),
    ]

    found = error_of(422, _sent(GraphInvalid.of("g", problems)))

    assert isinstance(found, GraphInvalid)
    assert (found.graph, found.problems) == ("g", tuple(problems))


@pytest.mark.parametrize("kind", [errors.StateInvalid, errors.UnknownKey])
def test_all_faults_of_a_state_come_back(kind: type[errors.StateInvalid]) -> None:
    faults = [errors.StateFault(("rows", 3, "a/b"), "expected a number"), errors.StateFault(("x",), "missing")]
    from engine.web.problems import of_state

    sent = httpx2.Response(200, content=answer_of(of_state(kind.of("the state", faults), "/state")).body()).json()
    found = error_of(422, sent)

    assert type(found) is kind
    assert isinstance(found, errors.StateInvalid)
    assert list(found.faults) == faults


@pytest.mark.parametrize(
    "problem",
    [None, [], "text", {}, {"code": 3}, {"code": "new_in_another_version", "detail": "no", "errors": [1, {}]}],
)
def test_what_is_not_understood_is_a_service_error(problem: object) -> None:
    found = error_of(418, problem, "a teapot")

    assert isinstance(found, ServiceError)
    assert found.status == 418


@pytest.mark.parametrize(
    "error",
    [
        RunCancelled("r1", "why not"),
        RunCancelled("r1"),
        RunFailed.of("r1", "g", [errors.NodeFailed("n", 2, 3, ValueError("it: is so")), errors.RunTimeout("r1", 2.0)]),
        RunFailed.of("r1", "g", [errors.PoisonRun("r1", 100, ["host:7", "host:9"])]),
    ],
)
def test_why_a_run_has_no_result_comes_back(error: Exception) -> None:
    sent: RunError = run_error(error)

    found = run_error_of("r1", "g", sent)

    assert (type(found), str(found)) == (type(error), str(error))
    if isinstance(error, RunFailed) and len(error.exceptions) == 1:
        assert isinstance(found, RunFailed)
        assert vars(found.exceptions[0]) == vars(error.exceptions[0])
    elif isinstance(error, RunFailed):
        assert isinstance(found, RunFailed)
        failed, late = found.exceptions
        assert isinstance(failed, errors.NodeFailed)
        assert (str(failed), str(failed.cause), type(failed.cause).__name__) == (
            str(error.exceptions[0]), "it: is so", "ValueError",
        )  # fmt: skip
        assert isinstance(late, errors.RunTimeout)
        assert late.seconds == 2.0
    else:
        assert vars(found) == vars(error)


async def test_the_service_answers_what_the_engine_would_raise() -> None:
    async with talking(MemoryStore(), patience=0) as (client, _):
        await client.define(GATED)
        run = await client.submit("gated", idempotency_key="once")
        other = {**GATED, "nodes": [*GATED["nodes"], {"name": "more", "tool": "count"}]}

        with pytest.raises(errors.RunNotFound) as missing:
            await client.get("nobody/../x")
        with pytest.raises(errors.RunNotFound):
            await client.runs(after="nobody")
        with pytest.raises(errors.GraphNotFound) as unknown:
            await client.submit("gate")
        with pytest.raises(errors.IdempotencyConflict) as conflict:
            await client.submit("gated", {"n": 5}, idempotency_key="once")
        with pytest.raises(GraphInvalid):
            await client.define({"name": "bad", "nodes": []})
        with pytest.raises(GraphInvalid):
            await client.submit({"name": "bad", "nodes": []})
        with pytest.raises((errors.GraphConflict, GraphInvalid)):
            await client.define(other)
        with pytest.raises(errors.UnknownSignal):
            await run.signal("stop")
        with pytest.raises(errors.RunEnded):
            await run.retry()
        with pytest.raises(errors.ActivationNotFound) as at:
            await client.fork(run.id, "count#99")
        with pytest.raises(errors.RunIdTaken):
            await client.submit("gated", run_id=run.id)
        with pytest.raises(errors.GraphInUse):
            await client.forget("gated", "1")
        with pytest.raises(ServiceError, match="at least"):
            await client._transport.ask("GET", "/api/runs", query={"limit": 0})
        await run.cancel()
        await run.wait()
        with pytest.raises(errors.RunEnded) as ended:
            await run.signal("go")

        assert missing.value.run_id == "nobody/../x"
        assert unknown.value.known == ("gated",)
        assert (conflict.value.key, conflict.value.run_id) == ("once", run.id)
        assert at.value.at == "count#99"
        assert ended.value.status == "cancelled"


async def test_a_state_of_the_wrong_types_is_told_with_its_places() -> None:
    typed = {**COUNTING, "name": "typed", "state": {"n": {"type": "integer"}}}
    async with talking() as (client, _):
        with pytest.raises(errors.StateInvalid) as raised:
            await client.submit(typed, {"n": "many"})

        assert raised.value.path == ("n",)


async def test_a_full_engine_is_waited_for_and_then_told() -> None:
    async with talking(max_runs=1, max_queued=0, patience=0) as (client, there):
        first = await client.submit(GATED)
        with pytest.raises(errors.EngineBusy) as busy:
            await client.submit("gated")
        patient = AsyncClient(URL, transport=Transport(there.app), patience=60)
        async with patient, anyio.create_task_group() as group:
            group.start_soon(first.signal, "go")
            second = await patient.submit("gated")
            await second.cancel()

        assert busy.value.retry_after > 0
        assert second.id != first.id


# --- keys -----------------------------------------------------------------------------------------------

KEY = new_key("me", ["admin"]).text
OTHER = new_key("me", ["admin"]).text


async def test_a_key_is_sent_and_never_shown() -> None:
    async with talking(keys=Keys.of_text(KEY), api_key=KEY) as (client, _):
        await client.define(COUNTING)
        run = await client.submit("counting")
        with pytest.raises(errors.RunNotFound) as raised:
            await client.get("nobody")

        shown = [repr(client), repr(run), repr(vars(client)), repr(client._transport.http), repr(raised.value)]
        assert not any(KEY in text for text in shown)


@pytest.mark.parametrize("key", [None, OTHER], ids=["none", "unknown"])
async def test_without_a_good_key_the_error_says_so(key: str | None) -> None:
    async with talking(keys=Keys.of_text(KEY), api_key=key) as (client, _):
        with pytest.raises(ServiceError) as raised:
            await client.graphs()

        assert (raised.value.status, raised.value.code) == (401, "unauthenticated")
        assert OTHER not in str(raised.value)


async def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKFLOW_API_KEY", KEY)
    async with talking(keys=Keys.of_text(KEY)) as (client, _):
        assert await client.graphs() == []


@pytest.mark.parametrize("key", ["two words", "line\nend", "ключ"])
def test_a_key_that_no_header_can_hold_is_refused_unshown(key: str) -> None:
    with pytest.raises(ValueError, match="API key") as raised:
        AsyncClient(URL, api_key=key)

    assert key not in str(raised.value)


@pytest.mark.parametrize("url", ["service:80", "ftp://service", "http://", "http://me:hidden@service", "http://s?a=b"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="address of a service") as raised:
        AsyncClient(url)

    assert "hidden" not in str(raised.value)


# --- trying again ---------------------------------------------------------------------------------------


class Flaky(httpx2.AsyncBaseTransport):
    """Loses requests, or their answers, as it is told."""

    def __init__(self, app: Any, *script: str | httpx2.Response) -> None:
        self._inner = Transport(app)
        self._script = list(script)
        self.seen: list[httpx2.Request] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.seen.append(request)
        now = self._script.pop(0) if self._script else "pass"
        if isinstance(now, httpx2.Response):
            return now
        if now == "unsent":
            raise httpx2.ConnectError("connection refused")
        answer = await self._inner.handle_async_request(request)
        if now == "lost":
            raise httpx2.ReadError("connection reset")
        return answer


def flaky(there: Served, *script: Any, **options: Any) -> tuple[Flaky, AsyncClient]:
    transport = Flaky(there.app, *script)
    return transport, AsyncClient(URL, transport=transport, patience=Patience(total=60, first_gap=0.01), **options)


async def test_a_submission_whose_answer_was_lost_makes_one_run() -> None:
    async with served() as there:
        transport, client = flaky(there, "lost", "unsent", "lost")
        async with client:
            result = await client.run(COUNTING)

            assert len(transport.seen) == 4
            assert [run.id for run in await client.runs()] == [result.run_id]


async def test_a_signal_whose_answer_was_lost_counts_once() -> None:
    async with served() as there:
        transport, client = flaky(there, "pass", "lost")
        async with client:
            run = await client.submit(GATED)
            await run.signal("go", 1)  # which ends the run, of which the first answer would have told

            assert len(transport.seen) == 3
            assert (await run.result()).state == {"n": 1, "gone": 1}


async def test_an_error_after_a_lost_answer_says_that_there_was_one() -> None:
    async with served() as there:
        _, client = flaky(there, "pass", "lost")
        async with client:
            run = await client.submit(GATED)
            with pytest.raises(errors.UnknownSignal) as raised:
                await run.signal("stop")
            await run.cancel()

    assert raised.value.__notes__ == ["the answer to an earlier attempt was lost: that one may have been carried out"]


@pytest.mark.parametrize("verb", ["retry", "fork"])
async def test_what_must_not_be_done_twice_is_sent_once(verb: str) -> None:
    async with served(MemoryStore()) as there:
        _, setup = flaky(there)
        async with setup:
            run = await setup.submit(FAILING)
            await run.wait()
        transport, client = flaky(there, "unsent", "lost")
        async with client:
            mine = RemoteRun(client, run.info)
            with pytest.raises(ServiceUnreachable, match="whether it was done is not known"):
                await (mine.retry() if verb == "retry" else client.fork(run.id, "fail#1"))

            assert len(transport.seen) == 2


async def test_a_run_is_asked_for_again_when_the_answer_to_its_retry_was_lost() -> None:
    async with served(MemoryStore()) as there:
        transport, client = flaky(there, "pass", "pass", "lost")
        async with client:
            run = await client.submit(FAILING)
            assert await run.wait() == "failed"
            with pytest.raises(ServiceUnreachable):
                await run.retry({"mended": True})

            assert await run.wait() == "succeeded"
            assert len(transport.seen) == 4


async def test_a_proxy_that_says_not_now_is_asked_again() -> None:
    async with served() as there:
        later = httpx2.Response(503, headers={"retry-after": "0.01"}, text="<html>starting</html>")
        transport, client = flaky(there, later, httpx2.Response(502, text="bad gateway"))
        async with client:
            await client.run(COUNTING)

            assert len(transport.seen) == 3


async def test_patience_ends() -> None:
    async with AsyncClient("http://127.0.0.1:9", patience=Patience(total=0.2, first_gap=0.05)) as client:
        with pytest.raises(ServiceUnreachable, match=r"no answer from http://127\.0\.0\.1:9"):
            await client.graphs()


async def test_a_client_that_was_left_sends_nothing() -> None:
    client = AsyncClient(URL)

    with pytest.raises(errors.EngineClosed):
        await client.graphs()


def test_gaps_grow_to_a_limit_and_end_with_patience() -> None:
    attempts = Attempts(Patience(total=30, first_gap=1, longest_gap=4), Random(1))
    now, gaps = 0.0, []
    while (gap := attempts.gap(now)) is not None:
        gaps.append(gap)
        now += gap

    assert all(low <= gap <= high for gap, (low, high) in zip(gaps, [(0.5, 1), (1, 2), (2, 4), (2, 4)], strict=False))
    assert 26 <= sum(gaps) <= 30
    attempts.went_well()
    assert attempts.gap(now) is not None
    assert attempts.gap(now, at_least=31) is None


# --- what is sent ---------------------------------------------------------------------------------------


def test_states_of_any_kind_are_sent_as_json() -> None:
    @attrs.frozen
    class Row:
        when: datetime.date
        price: Decimal

    value = {"rows": (Row(datetime.date(2024, 5, 1), Decimal("1.50")),), "names": {"a"}, "raw": b"\x00"}

    assert sendable(value) == {"rows": [{"when": "2024-05-01", "price": "1.50"}], "names": ["a"], "raw": "AA=="}


@pytest.mark.parametrize(
    ("value", "place"),
    [({"a": [1, float("nan")]}, "state.a[1]"), ({"a": object()}, "state.a"), ({"a": {1: 2}}, "state.a")],
)
def test_what_json_cannot_say_is_refused_with_its_place(value: Any, place: str) -> None:
    with pytest.raises(NotSendable) as raised:
        sendable(value)

    assert raised.value.path == place


def test_events_are_read_however_they_are_cut() -> None:
    text = b": ping\n\nretry: 1000\n\nid: 1\nevent: a\ndata: {}\n\n"
    text += b"id: 2\r\nevent: b\r\ndata: x\r\ndata: y\r\n\r\nid: 3\ndata: lost"
    whole = Parser().feed(text)
    parser = Parser()

    pieces = [message for index in range(len(text)) for message in parser.feed(text[index : index + 1])]

    assert [(each.type, each.id, each.data) for each in whole] == [("a", "1", b"{}"), ("b", "2", b"x\ny")]
    assert pieces == whole
