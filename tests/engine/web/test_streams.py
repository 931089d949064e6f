"""Following runs: server-sent events and WebSockets, from any number on, and everything that ends them."""

import json
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from engine import Graph
from engine.web.limits import Limits
from engine.web.streams import StreamLimits
from tests.engine.web.asgi import websocket
from tests.engine.web.served import COUNTING, GATED, EventSource, Socket, connected, served
from tests.virtual_time import in_virtual_time

PINGING = StreamLimits(ping=0.05)
IMPATIENT = StreamLimits(slow=0.5)
LONG = 1.5 * IMPATIENT.slow  # and so within what the last word may take
PINGED = StreamLimits().ping  # when it is noticed at the latest


def telling(times: int) -> dict[str, Any]:
    return {
        "name": "telling",
        "entry_point": "gate",
        "nodes": [
            {"name": "gate", "wait": {"signal": "go", "into": "x"}},
            {"name": "tell", "params": {"times": times}},
        ],
        "edges": [{"source": "gate", "target": "tell"}],
    }


def numbers(messages: Sequence[dict[str, Any]]) -> list[int]:
    return [message["seq"] for message in messages if "seq" in message]


# --- WebSockets -----------------------------------------------------------------------------------------


async def test_a_socket_tells_every_event_and_then_the_result() -> None:
    async with served() as service:
        run_id = await service.submitted(GATED)
        async with connected(service.app, f"/ws/runs/{run_id}") as socket:
            before = await socket.until("run_waiting")
            await service.ask("POST", f"/api/runs/{run_id}/signal", {"name": "go", "payload": 1})
            rest = await socket.until("result")
            closed = await socket.next()

    assert numbers([*before, *rest]) == list(range(1, len([*before, *rest])))
    assert rest[-1]["run"]["state"] == {"n": 1, "gone": 1}
    assert (closed["type"], closed["code"]) == ("websocket.close", 1000)


async def test_a_socket_begins_after_any_number() -> None:
    async with served() as service:
        run_id = await service.submitted(COUNTING)
        await service.ask("GET", f"/api/runs/{run_id}?wait=60")
        async with connected(service.app, f"/ws/runs/{run_id}?after=2") as socket:
            found = await socket.until("result")

    assert numbers(found) == list(range(3, found[-1]["run"]["last_event"] + 1))


async def test_a_graph_is_executed_over_a_socket() -> None:
    async with served() as service:
        await service.ask("POST", "/api/graphs", COUNTING)
        async with connected(service.app, "/ws/graphs/counting/execute") as socket:
            await socket.say({"state": {"n": 4}, "run_id": "mine"})
            accepted = await socket.next()
            found = await socket.until("result")

    assert (accepted["type"], accepted["run"]["run_id"]) == ("accepted", "mine")
    assert found[-1]["run"]["state"] == {"n": 5}


@pytest.mark.parametrize(
    ("path", "message", "code"),
    [
        ("/ws/runs/nothing", None, 4404),
        ("/ws/nothing", None, 4404),
        ("/ws/runs/x?after=-1", None, 4422),
        ("/ws/graphs/nothing/execute", None, 4404),
        ("/ws/graphs/counting/execute", "{", 4422),
        ("/ws/graphs/counting/execute", '{"state": 3}', 4422),
        ("/ws/graphs/counting/execute", '{"state": {"n": NaN}}', 4422),
        ("/ws/graphs/counting/execute", None, 4408),
    ],
)
async def test_what_is_wrong_is_told_before_the_socket_is_closed(path: str, message: str | None, code: int) -> None:
    limits = StreamLimits(first_message=0.2 if code == 4408 else 60.0)
    async with served(streams=limits) as service:
        await service.ask("POST", "/api/graphs", COUNTING)
        async with connected(service.app, path) as socket:
            if message is not None:
                await socket.say(message)
            told, closed = await socket.next(), await socket.next()

    assert (told["type"], told["problem"]["status"]) == ("problem", code - 4000)
    assert closed["code"] == code


async def test_a_full_engine_refuses_over_a_socket() -> None:
    async with served(max_runs=1, max_queued=0) as service:
        run_id = await service.submitted(GATED)
        async with connected(service.app, "/ws/graphs/gated/execute") as socket:
            await socket.say({})
            told, closed = await socket.next(), await socket.next()
        await service.ask("POST", f"/api/runs/{run_id}/cancel?wait=60")

    assert (told["problem"]["code"], closed["code"]) == ("engine_busy", 4429)


async def test_a_quiet_socket_is_pinged() -> None:
    async with served(streams=PINGING) as service:
        run_id = await service.submitted(GATED)
        async with connected(service.app, f"/ws/runs/{run_id}") as socket:
            await socket.until("ping")
            await socket.until("ping")


async def test_a_socket_ends_that_had_nothing_but_pings_for_long() -> None:
    async with served(streams=StreamLimits(ping=0.02, idle=0.1)) as service:
        run_id = await service.submitted(GATED)
        async with connected(service.app, f"/ws/runs/{run_id}") as socket:
            found = await socket.until("end")
            closed = await socket.next()

    assert (found[-1]["reason"], found[-1]["after"], closed["code"]) == ("idle", numbers(found)[-1], 4408)


@in_virtual_time
async def test_a_reader_that_is_too_slow_is_cut_off_and_can_come_back_without_loss() -> None:
    async with served(streams=IMPATIENT) as service:
        run_id = await service.submitted(telling(50))
        async with connected(service.app, f"/ws/runs/{run_id}") as socket:
            read = list(await socket.until("run_waiting"))
            await service.ask("POST", f"/api/runs/{run_id}/signal", {"name": "go"})
            await service.ask("GET", f"/api/runs/{run_id}?wait=60")
            await anyio.sleep(LONG)  # reads nothing
            *more, closed = await socket.until("websocket.close")
            read += more
        async with connected(service.app, f"/ws/runs/{run_id}?after={numbers(read)[-1]}") as socket:
            read += await socket.until("result")

    assert (closed["type"], closed["code"]) == ("websocket.close", 1013)
    assert numbers(read) == list(range(1, read[-1]["run"]["last_event"] + 1))


async def test_a_client_that_goes_is_noticed_at_once() -> None:
    async with served() as service:
        run_id = await service.submitted(GATED)
        async with connected(service.app, f"/ws/runs/{run_id}") as socket:
            await socket.until("run_waiting")
            await socket.leave()
            with anyio.fail_after(PINGED / 2):
                await socket.over.wait()


@pytest.mark.parametrize("left_at", ["websocket.accept", "websocket.send", "websocket.close"])
async def test_a_client_that_has_gone_when_it_is_to_be_refused_is_no_fault(
    left_at: str, caplog: pytest.LogCaptureFixture
) -> None:
    messages = iter([{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1006}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        if message["type"] == left_at:
            raise OSError("the client has gone")  # as uvicorn has it

    async with served() as service:
        scope = {**websocket("/ws/runs/nothing"), "raw_path": b"/ws/runs/nothing", "query_string": b""}
        await service.app(scope, receive, send)

    assert not [line for line in caplog.records if line.levelname == "ERROR"]


async def test_a_message_that_is_too_large_while_it_watches_is_no_fault_of_the_service(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served(limits=Limits(message_bytes=100)) as service:
        run_id = await service.submitted(GATED)
        async with connected(service.app, f"/ws/runs/{run_id}") as socket:
            await socket.until("run_waiting")
            await socket.say("x" * 101)
            closed = await socket.next()

    assert (closed["type"], closed["code"]) == ("websocket.close", 1009)
    assert not [line for line in caplog.records if line.levelname == "ERROR"]


async def test_sockets_end_when_the_engine_drains() -> None:
    async with served() as service:
        run_id = await service.submitted(GATED)
        async with connected(service.app, f"/ws/runs/{run_id}") as socket:
            await socket.until("run_waiting")
            async with anyio.create_task_group() as group:
                group.start_soon(service.engine.drain, 0.01)
                told, closed = await socket.next(), await socket.next()

    assert (told["type"], told["reason"], closed["code"]) == ("end", "draining", 1012)


async def test_what_is_not_kept_any_more_is_told() -> None:
    graph = Graph("forgetful", history=5)
    graph.add_node("a", lambda state: {"n": state["n"] + 1}, run_in="loop")
    graph.add_edge("a", "a", when=lambda state: state["n"] < 100).add_edge("a", "END", otherwise=True)
    graph.set_entry_point("a")
    async with served() as service:
        run = await service.engine.submit(graph, {"n": 0})
        await run.wait()
        async with connected(service.app, f"/ws/runs/{run.id}") as socket:
            told, closed = await socket.next(), await socket.next()
        answer = await service.ask("GET", f"/api/runs/{run.id}/events")
        log = (await service.ask("GET", f"/api/runs/{run.id}/log")).json()

    assert (told["problem"]["code"], closed["code"]) == ("history_gone", 4410)
    assert answer.status_code == 410
    assert (len(log["entries"]), log["dropped"]) == (5, 95)


# --- server-sent events ---------------------------------------------------------------------------------


async def test_a_stream_tells_every_event_and_then_that_it_is_over() -> None:
    async with served() as service:
        run_id = await service.submitted(GATED)
        async with connected(service.app, f"/api/runs/{run_id}/events", kind=EventSource) as source:
            await source.start()
            retry, *before = await source.until("run_waiting")
            await service.ask("POST", f"/api/runs/{run_id}/signal", {"name": "go"})
            *rest, end = await source.until("end")

    assert retry == {"retry": "1000"}
    events = [*before, *rest]
    assert [int(event["id"]) for event in events] == list(range(1, len(events) + 1))
    assert [json.loads(event["data"])["type"] for event in events] == [event["event"] for event in events]
    assert json.loads(end["data"])["reason"] == "over"
    assert source.status == 200


async def test_a_stream_begins_after_the_last_event_that_was_seen() -> None:
    async with served() as service:
        run_id = await service.submitted(COUNTING)
        await service.ask("GET", f"/api/runs/{run_id}?wait=60")
        path = f"/api/runs/{run_id}/events?after=1"
        async with connected(service.app, path, kind=EventSource, **{"last-event-id": "3"}) as source:
            await source.start()
            _, first, *_ = await source.until("end")
        last = (await service.ask("GET", f"/api/runs/{run_id}")).json()["last_event"]
        nothing_left = await service.ask("GET", f"/api/runs/{run_id}/events", headers={"Last-Event-ID": str(last)})

    assert first["id"] == "4"
    assert nothing_left.status_code == 204


async def test_a_quiet_stream_is_pinged_and_ends_when_the_engine_drains() -> None:
    async with served(streams=PINGING) as service:
        run_id = await service.submitted(GATED)
        async with connected(service.app, f"/api/runs/{run_id}/events", kind=EventSource) as source:
            await source.start()
            await source.until("run_waiting")
            assert await source.next() == {}
            async with anyio.create_task_group() as group:
                group.start_soon(service.engine.drain, 0.01)
                end = (await source.until("end"))[-1]

    assert json.loads(end["data"])["reason"] == "draining"


@in_virtual_time
async def test_a_stream_that_is_read_too_slowly_is_cut_off_and_says_so() -> None:
    async with served(streams=IMPATIENT) as service:
        run_id = await service.submitted(GATED)
        async with connected(service.app, f"/api/runs/{run_id}/events", kind=EventSource) as source:
            await source.start()
            first = await source.next()
            await anyio.sleep(LONG)  # reads nothing
            end = await source.next()

    assert first == {"retry": "1000"}
    assert (end["event"], json.loads(end["data"])["reason"]) == ("end", "too_slow")


async def test_a_client_that_leaves_its_stream_is_noticed_at_once() -> None:
    async with served() as service:
        run_id = await service.submitted(GATED)
        async with connected(service.app, f"/api/runs/{run_id}/events", kind=EventSource) as source:
            await source.start()
            await source.until("run_waiting")
            await source.leave()
            with anyio.fail_after(PINGED / 2):
                await source.over.wait()


async def test_the_head_of_a_stream_has_no_events() -> None:
    async with served() as service:
        run_id = await service.submitted(GATED)
        answer = await service.ask("HEAD", f"/api/runs/{run_id}/events")

    assert answer.headers["content-type"].startswith("text/event-stream")


async def test_many_readers_of_one_run_each_miss_nothing() -> None:
    read: list[list[int]] = []

    async with served() as service:
        run_id = await service.submitted(telling(300))

        async def follow() -> None:
            async with connected(service.app, f"/ws/runs/{run_id}", kind=Socket) as socket:
                read.append(numbers(await socket.until("result")))

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(follow)
            await anyio.wait_all_tasks_blocked()
            await service.ask("POST", f"/api/runs/{run_id}/signal", {"name": "go"})

    assert len(read) == 20
    assert all(each == list(range(1, len(each) + 1)) for each in read)
