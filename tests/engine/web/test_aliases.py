"""Paths that existing clients use: the answers are theirs, what is behind them is the same."""

from typing import Any

import pytest

from tests.engine.web.served import COUNTING, GATED, connected, served

STEPS: dict[str, Any] = {
    "name": "sample",
    "steps": [
        {"execution_type": "sequential", "tasks": [{"name": "count"}]},
        {"execution_type": "parallel", "tasks": [{"name": "tell"}, {"name": "tell"}]},
    ],
}


@pytest.mark.parametrize("family", ["/graph", "/api/graph"])
async def test_a_graph_is_created_run_and_looked_at(family: str) -> None:
    async with served() as service:
        created = await service.ask("POST", f"{family}/create", COUNTING)
        graph_id = created.json()["graph_id"]
        ran = await service.ask("POST", f"{family}/run", {"graph_id": graph_id, "initial_state": {"n": 4}})
        found = await service.ask("GET", f"{family}/state/{ran.json()['run_id']}")

    assert created.status_code == 201
    assert ran.status_code == 200
    assert ran.json() == found.json()
    run = ran.json()
    assert (run["status"], run["state"], run["visited_nodes"]) == ("succeeded", {"n": 5}, ["count"])
    (entry,) = run["logs"]
    assert entry["node"] == "count"
    assert entry["timestamp"].endswith("Z")
    assert entry["duration"] >= 0


@pytest.mark.parametrize("path", ["/graph/run/async", "/api/graph/run-async"])
async def test_a_graph_is_run_without_waiting(path: str) -> None:
    async with served() as service:
        await service.ask("POST", "/graph/create", GATED)
        answer = await service.ask("POST", path, {"graph_id": "gated", "state": {"n": 4}})
        execution = await service.ask("GET", f"/execution/{answer.json()['run_id']}")

    assert answer.status_code == 202
    assert execution.json()["run_id"] == answer.json()["run_id"]


async def test_a_workflow_is_run_and_its_tasks_told() -> None:
    async with served() as service:
        started = await service.ask("POST", "/api/workflow", {**STEPS, "state": {"n": 1}})
        run_id = started.json()["id"]
        await service.ask("GET", f"/api/runs/{run_id}?wait=60")
        found = (await service.ask("GET", f"/api/workflow/{run_id}")).json()
        listed = (await service.ask("GET", "/api/workflows")).json()

    assert started.status_code == 202
    assert [task["name"] for task in started.json()["tasks"]] == ["count", "tell", "tell_2"]
    assert (found["status"], found["state"]) == ("succeeded", {"n": 2})
    assert {task["status"] for task in found["tasks"]} == {"succeeded"}
    assert [(each["id"], each["status"]) for each in listed["workflows"]] == [(run_id, "succeeded")]


async def test_a_workflow_may_be_another_one_under_the_same_name() -> None:
    other = {**STEPS, "steps": STEPS["steps"][:1]}
    async with served() as service:
        answers = [await service.ask("POST", "/api/workflow", body) for body in (STEPS, other, STEPS)]

    assert [answer.status_code for answer in answers] == [202] * 3


async def test_tools_are_listed() -> None:
    async with served() as service:
        assert (await service.ask("GET", "/tools")).json() == (await service.ask("GET", "/api/tools")).json()


@pytest.mark.parametrize("path", ["/ws/execution/{id}", "/ws/monitor/{id}"])
async def test_a_run_is_watched(path: str) -> None:
    async with served() as service:
        run_id = await service.submitted(COUNTING)
        async with connected(service.app, path.replace("{id}", run_id)) as socket:
            found = await socket.until("result")

    assert found[-1]["run"]["run_id"] == run_id


async def test_a_graph_is_executed() -> None:
    async with served() as service:
        await service.ask("POST", "/graph/create", COUNTING)
        async with connected(service.app, "/ws/execute/counting") as socket:
            await socket.say({"state": {"n": 1}})
            found = await socket.until("result")

    assert found[-1]["run"]["state"] == {"n": 2}


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/graph/run", {"initial_state": {}}, "/graph_id"),
        ("/graph/run", {"graph_id": "counting", "state": {"a": 1}, "initial_state": {}}, "/state"),
        ("/graph/run", {"graph_id": ""}, "/graph_id"),
        ("/api/workflow", {"name": "x", "steps": 3}, "/steps"),
        ("/api/workflow", [], ""),
    ],
)
async def test_what_is_wrong_is_told_with_its_place(path: str, body: Any, pointer: str) -> None:
    async with served() as service:
        await service.ask("POST", "/graph/create", COUNTING)
        answer = await service.ask("POST", path, body)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer


async def test_an_unknown_graph_is_404() -> None:
    async with served() as service:
        assert (await service.ask("POST", "/graph/run", {"graph_id": "nothing"})).status_code == 404


# --- graphs in the words of clients ----------------------------------------------------------------------

LOOP: dict[str, Any] = {
    "name": "loop",
    "entry_point": "count",
    "nodes": [{"name": "count"}, {"name": "tell"}],
    "edges": [
        {"source": "count", "target": "count", "when": "state.n < 3"},
        {"source": "count", "target": "tell", "otherwise": True},
    ],
}
TOLD: dict[str, Any] = {"count": "count", "tell": None}
CONDITION: dict[str, Any] = {"condition": "state.n < 3", "if_true": "count", "if_false": "tell"}


@pytest.mark.parametrize(
    "body",
    [
        {"nodes": ["count", "tell"], "edges": LOOP["edges"], "start_node": "count"},
        {"nodes": TOLD, "edges": {"count": CONDITION, "tell": "END"}, "entry_point": "count"},
        {"nodes": TOLD, "edges": {"tell": None}, "conditional_edges": {"count": CONDITION}},
        {"nodes": TOLD, "edges": [], "conditional_edges": [{"from": "count", **CONDITION}]},
        {"nodes": TOLD, "edges": [["count", "count", "state.n < 3"], ["tell", "end"], {**LOOP["edges"][1]}]},
        {"nodes": [{"id": "count", "function": "count"}, {"id": "tell", "func": "tell", "config": {"times": 1}}],
         "edges": [{"from": "__start__", "to": "count"}, {"source": "count", "condition": "state.n < 3",
                   "true": "count", "false": "tell"}, {"from": "tell", "to": "__end__"}]},
        {"nodes": TOLD, "edges": {"count": {"condition": "'again' if state.n < 3 else 'on'",
                                            "branches": {"again": "count", "on": "tell"}}}},
        {"nodes": TOLD, "entry": "count", "edges": {"count": [{"to": "count", "when": "state.n < 3"},
                                                               {"to": "tell", "otherwise": True}]}},
    ],
)  # fmt: skip
async def test_a_graph_may_be_said_in_many_ways(body: dict[str, Any]) -> None:
    async with served() as service:
        created = await service.ask("POST", "/graph/create", body)
        assert created.status_code == 201, created.text
        submission = {"graph_id": created.json()["graph_id"], "initial_state": {"n": 0}}
        run = (await service.ask("POST", "/graph/run", submission)).json()

    assert (run["status"], run["state"]) == ("succeeded", {"n": 3})
    assert run["visited_nodes"] == ["count", "count", "count", "tell"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"nodes": 3}, "/nodes"),
        ({"nodes": ["count", 3]}, "/nodes/1"),
        ({"nodes": {"a": "no_such_tool"}}, "/nodes/a"),
        ({"nodes": [{"id": "count", "func": 3}]}, "/nodes/0/func"),
        ({"nodes": [{"name": "count", "tool": "count", "function": "tell"}]}, "/nodes/0/function"),
        ({"nodes": ["count"], "edges": 3}, "/edges"),
        ({"nodes": ["count"], "edges": {"count": "nowhere"}, "entry": "count"}, "/edges/count"),
        ({"nodes": ["count"], "edges": [["count"]], "entry": "count"}, "/edges/0"),
        ({"nodes": ["count", "tell"], "edges": {"count": {"if_true": "tell", "if_false": None}}}, "/edges/count"),
        ({"nodes": ["count", "tell"], "edges": {"count": {"condition": "1 +", "true": "tell", "false": None}}},
         "/edges/count/condition"),
        ({"nodes": ["count", "tell"], "conditional_edges": [{"from": "count", "condition": "true", "true": "tell"}]},
         "/conditional_edges/0"),
        ({"nodes": ["count", "tell"], "edges": {"count": {"condition": "True", "true": "x", "false": None}}},
         "/edges/count/true"),
        ({"nodes": ["count"], "entry_point": "count", "start": "other"}, "/start"),
        ({"nodes": ["count"], "start": "other"}, "/start"),
        ({"nodes": ["count"], "colour": "red"}, "/colour"),
        ([], ""),
    ],
)  # fmt: skip
async def test_what_is_not_clear_in_a_graph_is_told_where_the_client_said_it(body: Any, pointer: str) -> None:
    async with served() as service:
        answer = await service.ask("POST", "/graph/create", body)

    assert answer.status_code == 422, answer.text
    assert pointer in [error["pointer"] for error in answer.json()["errors"]], answer.text


async def test_a_node_may_be_called_end() -> None:
    body = {"nodes": {"count": "count", "end": "tell"}, "edges": {"count": "end"}}
    async with served() as service:
        graph_id = (await service.ask("POST", "/graph/create", body)).json()["graph_id"]
        run = (await service.ask("POST", "/graph/run", {"graph_id": graph_id, "input": {"n": 1}})).json()

    assert run["visited_nodes"] == ["count", "end"]


@pytest.mark.parametrize("path", ["/graph/create", "/api/graph/create"])
async def test_a_whole_definition_means_what_it_means_elsewhere(path: str) -> None:
    async with served() as service:
        await service.ask("POST", path, LOOP)
        there = (await service.ask("GET", "/api/graphs/loop")).json()
        same = await service.ask("POST", "/api/graphs", LOOP)

    assert same.status_code == 200
    assert there["entry_points"] == ["count"]


async def test_a_run_that_only_began_is_told_in_the_same_shape() -> None:
    async with served() as service:
        await service.ask("POST", "/graph/create", GATED)
        run = await service.ask("POST", "/graph/run/async", {"graph_id": "gated", "initial_state": {"n": 1}})
        state = await service.ask("GET", f"/graph/state/{run.json()['run_id']}")
        workflow = await service.ask("POST", "/api/workflow", {**STEPS, "state": {}})

    assert run.status_code == workflow.status_code == 202
    assert run.json().keys() == state.json().keys()
    assert {task["status"] for task in workflow.json()["tasks"]} <= {"pending", "running", "succeeded"}


async def test_a_graph_is_executed_with_the_state_that_clients_send() -> None:
    async with served() as service:
        await service.ask("POST", "/graph/create", COUNTING)
        async with connected(service.app, "/ws/execute/counting") as socket:
            await socket.say({"initial_state": {"n": 1}})
            found = await socket.until("result")

    assert found[-1]["run"]["state"] == {"n": 2}
