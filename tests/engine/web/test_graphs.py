"""Graphs over HTTP: define, list, look, version, check, draw, forget."""

from pathlib import Path
from typing import Any

import httpx2
import pytest

from engine import Graph
from engine.web.keys import Keys, new_key
from tests.contracts.stores import FACTORIES
from tests.engine.web.served import COUNTING, FAILING, GATED, TOOLS, Served, served


async def test_a_graph_that_is_posted_can_be_looked_at() -> None:
    async with served() as service:
        posted = await service.ask("POST", "/api/graphs", COUNTING)
        found = await service.ask("GET", posted.headers["location"])

    assert posted.status_code == 201
    assert posted.headers["location"] == "/api/graphs/counting?version=1"
    assert found.json() == posted.json()
    assert Graph.from_dict(found.json()["definition"], tools=TOOLS).to_dict()["nodes"][0]["name"] == "count"


async def test_the_same_graph_again_is_no_other_one() -> None:
    async with served() as service:
        await service.ask("POST", "/api/graphs", COUNTING)
        again = await service.ask("POST", "/api/graphs", COUNTING)
        other = await service.ask("PUT", "/api/graphs/counting", {**COUNTING, "max_iterations": 3})

    assert again.status_code == 200
    assert (other.status_code, other.json()["code"]) == (409, "graph_conflict")


async def test_a_new_version_is_kept_beside_the_old_one() -> None:
    async with served() as service:
        for version in ("2", "10", "9"):
            await service.ask("PUT", "/api/graphs/counting", {**COUNTING, "version": version})
        newest = (await service.ask("GET", "/api/graphs/counting")).json()
        listed = (await service.ask("GET", "/api/graphs")).json()
        run = await service.ask("POST", "/api/graphs/counting/runs?wait=60", {})
        old = await service.ask("POST", "/api/graphs/counting/runs?wait=60&version=9", {})

    assert newest["versions"] == ["2", "9", "10"]
    assert listed["graphs"] == [{"name": "counting", "version": "10", "versions": ["2", "9", "10"]}]
    assert (run.json()["version"], old.json()["version"]) == ("10", "9")


@pytest.mark.parametrize("path", ["/api/runs", "/api/workflow"])
async def test_who_may_only_submit_changes_nothing_for_others(path: str) -> None:
    made = {scope: new_key(scope, [scope]) for scope in ("submit", "admin")}
    headers = {scope: {"authorization": f"Bearer {key.text}"} for scope, key in made.items()}
    other = {**FAILING, "name": "counting"}
    async with served(keys=Keys(key.key for key in made.values())) as service:

        async def ask(scope: str, definition: Any) -> httpx2.Response:
            body = {"definition": definition, "state": {}} if path == "/api/runs" else definition
            return await service.ask("POST", path, body, headers=headers[scope])

        async def version_that_runs() -> str:
            answer = await service.ask("POST", "/api/graphs/counting/runs", {}, headers=headers["admin"])
            return str(answer.json()["version"])

        await service.engine.define({**COUNTING, "version": "beta"})
        refused = await ask("submit", {**other, "version": "99"})
        same = await ask("submit", {**COUNTING, "version": "beta"})
        at_once = await ask("submit", other)
        before = await version_that_runs()
        defined = await ask("admin", {**other, "version": "99"})
        after = await version_that_runs()

    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert (same.status_code, at_once.status_code, defined.status_code) == (202, 202, 202)
    assert (before, after) == ("beta", "99")


async def test_the_name_may_be_left_to_the_path_but_must_not_differ() -> None:
    nameless = {key: value for key, value in COUNTING.items() if key != "name"}
    async with served() as service:
        put = await service.ask("PUT", "/api/graphs/a%2Fb", nameless)
        got = await service.ask("GET", "/api/graphs/a%2Fb")
        wrong = await service.ask("PUT", "/api/graphs/other", COUNTING)

    assert (put.status_code, got.json()["name"]) == (201, "a/b")
    assert wrong.json()["errors"][0]["pointer"] == "/name"


async def test_all_faults_of_a_definition_are_told_with_their_pointers() -> None:
    faulty = {
        **GATED,
        "nodes": [{"name": "count", "tool": "cuont"}, {"name": "gate", "tool": "count", "timeout": "soon"}],
    }
    async with served() as service:
        answer = await service.ask("POST", "/api/graphs", faulty)
        checked = await service.ask("POST", "/api/graphs/validate", faulty)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    errors = answer.json()["errors"]
    assert [error["pointer"] for error in errors] == ["/nodes/0/tool", "/nodes/1/timeout"]
    assert errors[0]["hint"] == "did you mean 'count'?"
    assert checked.status_code == 200
    assert [problem["pointer"] for problem in checked.json()["problems"]] == [error["pointer"] for error in errors]


async def test_a_definition_may_be_checked_and_is_not_kept() -> None:
    async with served() as service:
        checked = await service.ask("POST", "/api/graphs/validate", GATED)
        listed = await service.ask("GET", "/api/graphs")

    assert checked.json() == {"valid": True, "problems": []}
    assert listed.json()["graphs"] == []


async def test_lists_of_graphs_come_in_pages() -> None:
    async with served() as service:
        for name in ("c", "a", "b"):
            await service.ask("PUT", f"/api/graphs/{name}", {**COUNTING, "name": name})
        first = (await service.ask("GET", "/api/graphs?limit=2")).json()
        second = (await service.ask("GET", f"/api/graphs?limit=2&after={first['next']}")).json()

    assert [graph["name"] for graph in first["graphs"]] == ["a", "b"]
    assert ([graph["name"] for graph in second["graphs"]], second["next"]) == (["c"], None)


async def test_a_graph_is_deleted_only_when_no_run_needs_it() -> None:
    async with served() as service:
        run_id = await service.submitted(GATED)
        refused = await service.ask("DELETE", "/api/graphs/gated")
        await service.ask("POST", f"/api/runs/{run_id}/cancel?wait=60")
        deleted = await service.ask("DELETE", "/api/graphs/gated")
        gone = await service.ask("GET", "/api/graphs/gated")

    assert (refused.status_code, refused.json()["code"]) == (409, "graph_in_use")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert gone.status_code == 404


async def test_which_of_several_versions_is_deleted_must_be_said() -> None:
    async with served() as service:
        for version in ("1", "2"):
            await service.ask("POST", "/api/graphs", {**COUNTING, "version": version})
        unclear = await service.ask("DELETE", "/api/graphs/counting")
        await service.ask("DELETE", "/api/graphs/counting?version=2")
        left = await service.ask("GET", "/api/graphs/counting")

    assert unclear.json()["errors"][0]["parameter"] == "version"
    assert left.json()["versions"] == ["1"]


@pytest.mark.parametrize(
    ("format", "kind", "begins"),
    [("mermaid", "text/plain", "flowchart"), ("text", "text/plain", "counting"), ("svg", "image/svg+xml", "<svg")],
)
async def test_a_graph_is_drawn(format: str, kind: str, begins: str) -> None:
    async with served() as service:
        await service.ask("POST", "/api/graphs", COUNTING)
        run = await service.ask("POST", "/api/graphs/counting/runs?wait=60", {})
        drawn = await service.ask("GET", f"/api/graphs/counting/drawing?format={format}")
        progress = await service.ask("GET", f"/api/graphs/counting/drawing?format={format}&run={run.json()['run_id']}")

    assert drawn.headers["content-type"].startswith(kind)
    assert drawn.text.startswith(begins)
    assert drawn.text != progress.text


async def test_a_graph_is_drawn_as_png_where_that_is_installed() -> None:
    async with served() as service:
        await service.ask("POST", "/api/graphs", COUNTING)
        drawn = await service.ask("GET", "/api/graphs/counting/drawing?format=png")

    assert (drawn.headers["content-type"], drawn.content[:4]) == ("image/png", b"\x89PNG")


async def test_a_drawing_of_another_graphs_run_is_refused() -> None:
    async with served() as service:
        run_id = await service.submitted(GATED)
        await service.ask("POST", "/api/graphs", COUNTING)
        answer = await service.ask("GET", f"/api/graphs/counting/drawing?run={run_id}")

    assert answer.json()["errors"][0]["parameter"] == "run"


async def test_a_graph_made_in_python_is_shown_though_data_cannot_say_it() -> None:
    graph = Graph("python").add_node("a", lambda state: None).set_entry_point("a")
    async with served() as service:
        service.engine.register(graph)
        found = (await service.ask("GET", "/api/graphs/python")).json()

    assert (found["definition"], found["nodes"]) == (None, ["a"])


async def test_graphs_that_are_run_at_once_leave_room_for_those_that_are_defined() -> None:
    async with served(most_graphs=3) as service:
        found = [
            (await service.ask("POST", "/api/runs", {"definition": {**COUNTING, "name": name}})).status_code
            for name in ("one", "two", "three", "one")
        ]
        defined = await service.ask("POST", "/api/graphs", COUNTING)

    assert found == [202, 202, 429, 202]
    assert defined.status_code == 201


async def test_no_more_graphs_than_allowed_can_be_defined() -> None:
    async with served(most_graphs=1) as service:
        await service.ask("POST", "/api/graphs", COUNTING)
        refused = await service.ask("POST", "/api/graphs", GATED)
        again = await service.ask("POST", "/api/graphs", COUNTING)

    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_graphs")
    assert again.status_code == 200


@pytest.mark.parametrize("kind", FACTORIES)
async def test_definitions_and_their_runs_survive_a_restart(tmp_path: Path, kind: str) -> None:
    make = FACTORIES[kind](tmp_path)
    async with served(make()) as service:
        await service.ask("POST", "/api/graphs", GATED)
        await service.ask("PUT", "/api/graphs/gated", {**GATED, "version": "2"})
        await service.ask("POST", "/api/graphs", COUNTING)
        await service.ask("DELETE", "/api/graphs/counting")
        known = (await service.ask("POST", "/api/graphs/gated/runs", {})).json()["run_id"]
        inline = (await service.ask("POST", "/api/runs", {"definition": GATED})).json()["run_id"]

    async with served(make()) as service:
        gated = (await service.ask("GET", "/api/graphs/gated")).json()
        forgotten = (await service.ask("GET", "/api/graphs/counting")).status_code
        same = (await service.ask("PUT", "/api/graphs/gated", {**GATED, "version": "2"})).status_code
        another = (await service.ask("POST", "/api/graphs", {**GATED, "deadline": 5})).status_code
        ended = []
        for run_id in (known, inline):
            await service.ask("POST", f"/api/runs/{run_id}/signal", {"name": "go", "payload": 7})
            ended.append((await service.ask("GET", f"/api/runs/{run_id}?wait=60")).json())

    assert (gated["version"], gated["versions"][1:]) == ("2", ["1", "2"]), "and that of the definition inline"
    assert (forgotten, same, another) == (404, 200, 409)
    assert [(run["status"], run["state"]) for run in ended] == [("succeeded", {"n": 1, "gone": 7})] * 2


async def test_tools_are_listed_with_their_parameters() -> None:
    async with served() as service:
        tools = {tool["name"]: tool for tool in (await service.ask("GET", "/api/tools")).json()["tools"]}

    assert tools["tell"]["parameters"]["properties"] == {"times": {"type": "integer", "default": 1}}
    assert tools["count"]["description"] == "Adds one to `n`."


async def _status(service: Served, *request: Any) -> int:
    return (await service.ask(*request)).status_code


async def test_a_graph_called_like_a_route_is_a_graph() -> None:
    async with served() as service:
        await service.ask("POST", "/api/graphs", {**COUNTING, "name": "validate"})

        assert await _status(service, "GET", "/api/graphs/validate") == 200
        assert await _status(service, "DELETE", "/api/graphs/validate") == 204
