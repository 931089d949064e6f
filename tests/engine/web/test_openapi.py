"""The description of the API: valid, whole, true, and shown by a page that needs nothing from elsewhere."""

import json
import re
from typing import Any

import pytest
from openapi_spec_validator import validate
from starlette.applications import Starlette
from starlette.routing import Mount

from engine.web.aliases import ALIAS_ROUTES
from engine.web.docs import FILES, POLICY
from engine.web.keys import Keys
from engine.web.models import Nothing, Submission, read
from engine.web.openapi import document
from engine.web.routes import ROUTES
from engine.web.table import Table
from tests.engine.web.served import COUNTING, served

KEYS = f"""[[keys]]
name = "me"
id = "00000000"
scopes = ["read"]
sha256 = "{"0" * 64}"
"""


async def described(**options: Any) -> dict[str, Any]:
    async with served(**options) as service:
        found: dict[str, Any] = (await service.ask("GET", "/openapi.json")).json()
    return found


async def test_the_document_is_valid_and_names_every_route() -> None:
    found = await described()

    validate(found)
    assert found["openapi"] == "3.1.0"
    paths = {(path, method.upper()) for path, item in found["paths"].items() for method in item}
    assert paths == {(route.path, route.method) for route in (*ROUTES, *ALIAS_ROUTES)} | {("/openapi.json", "GET")}


def test_operations_have_names_of_their_own_summaries_and_examples() -> None:
    operations = [operation for item in document(ROUTES)["paths"].values() for operation in item.values()]

    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert all(operation["summary"] and operation["tags"] for operation in operations)
    bodies = [route for route in ROUTES if route.body is not None and route.body is not Nothing]
    assert all(route.example is not None for route in bodies)


def test_examples_of_bodies_are_what_their_models_read() -> None:
    for route in (*ROUTES, *ALIAS_ROUTES):
        if route.example is not None and hasattr(route.body, "__attrs_attrs__"):
            read(route.body, route.example)


def test_every_route_says_which_scope_it_needs() -> None:
    open_to_all = {route.path for route in ROUTES if route.needs is None}

    assert open_to_all == {"/health", "/ready", "/docs", "/docs/{file}"}
    assert all(route.needs != "read" for route in ROUTES if route.method != "GET")


def test_aliases_need_what_their_routes_need_and_are_told_to_be_old() -> None:
    assert all(route.deprecated and route.needs for route in ALIAS_ROUTES)
    Table((*ROUTES, *ALIAS_ROUTES))  # no two in one place


async def test_keys_are_asked_for_where_they_are_needed() -> None:
    without = await described()
    async with served(keys=Keys.parse(KEYS)) as service:
        with_keys = (await service.ask("GET", "/openapi.json")).json()
        refused = await service.ask("GET", "/api/runs")

    assert {} in without["security"]
    assert {} not in with_keys["security"]
    assert with_keys["paths"]["/health"]["get"]["security"] == []
    assert refused.status_code == 401


async def test_the_page_takes_everything_from_here_and_runs_no_script_of_its_own() -> None:
    async with served() as service:
        page = await service.ask("GET", "/docs")
        files = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        answers = [await service.ask("GET", f"/{file}") for file in files]
        packed = await service.ask("GET", "/docs/swagger-ui-bundle.js", headers={"Accept-Encoding": "gzip"})
        plain = await service.ask("GET", "/docs/swagger-ui-bundle.js", headers={"Accept-Encoding": "identity"})

    assert page.headers["content-security-policy"] == POLICY
    assert "default-src 'self'" in POLICY
    assert "<script>" not in page.text
    assert "style=" not in page.text
    assert {file.removeprefix("docs/") for file in files} == set(FILES)
    assert [answer.status_code for answer in answers] == [200] * len(files)
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content


# --- mounted --------------------------------------------------------------------------------------------


def mounted(app: Any) -> Starlette:
    return Starlette(routes=[Mount("/inner/workflows", app)])


async def test_the_application_works_where_it_is_mounted() -> None:
    async with served(app=mounted) as service:
        created = await service.ask("POST", "/inner/workflows/api/graphs", COUNTING)
        run = await service.ask("POST", "/inner/workflows/api/graphs/counting/runs?wait=60", {})
        found = await service.ask("GET", run.headers["location"])
        page = await service.ask("GET", "/inner/workflows/docs")
        openapi = (await service.ask("GET", "/inner/workflows/openapi.json")).json()
        outside = await service.ask("GET", "/api/graphs")
        unknown = await service.ask("GET", "/inner/workflows/nothing")
        health = await service.ask("GET", "/inner/workflows/health")

    assert created.headers["location"].startswith("/inner/workflows/api/graphs/counting")
    assert found.json()["state"] == {"n": 1}
    assert page.status_code == 200
    assert openapi["servers"] == [{"url": "/inner/workflows"}]
    assert outside.status_code == 404
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_path")
    assert health.json()["status"] == "ok"


@pytest.mark.parametrize(
    ("accept", "kind", "end"),
    [
        ("", "text/plain", ""),
        ("text/plain", "text/plain", ""),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text", "# EOF\n"),
    ],
)
async def test_metrics_are_told_as_the_scraper_likes(accept: str, kind: str, end: str) -> None:
    async with served() as service:
        await service.ask("GET", "/api/graphs")
        answer = await service.ask("GET", "/metrics", headers={"Accept": accept})

    assert answer.headers["content-type"].startswith(kind)
    assert answer.text.endswith(end)
    assert 'workflow_http_requests_total{method="GET",route="/api/graphs",status="200"}' in answer.text


def test_a_submission_says_what_it_is_in_the_document() -> None:
    schema = document(ROUTES)["components"]["schemas"]["Submission"]

    names = {"state", "run_id", "idempotency_key", "tags", "deadline", "priority", "files"}
    assert set(schema["properties"]) == names
    assert schema["properties"]["priority"]["default"] == 0
    assert json.dumps(schema)
    assert read(Submission, {}).state == {}
