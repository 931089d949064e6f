"""Requests made up from the description of the API, a thousand and more: each answer is one that it allows."""

from __future__ import annotations

from collections import Counter
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from engine.web.limits import Limits
from tests.engine.web.real import Real, running
from tests.engine.web.served import COUNTING, FAILING, GATED

CASES = 18
"""Of each kind for each operation, of which there are some forty."""
# A definition may fit its schema and name a tool that there is not, and a state its graph or not.
NOT_ASKED = [positive_data_acceptance]


def test_no_answer_is_one_that_the_document_does_not_allow() -> None:
    answered = Counter[int]()
    failures: list[Exception] = []
    with running("asyncio", "memory://", limits=Limits(anybody_rate=None)) as real:
        real.call(_prepare, real)
        schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{real.port}/openapi.json")
        # Ten thousand items are too many for a list, and before that too many bytes.
        schema.config.checks.negative_data_rejection.expected_statuses.append("413")
        for result in schema.get_all_operations():
            for mode in GenerationMode:
                try:
                    _try(result.ok(), mode, answered)
                except Unsatisfiable:
                    continue  # it takes nothing that could be wrong
                except Exception as failure:
                    failures.append(failure)

    if failures:
        raise ExceptionGroup(f"{len(failures)} operations answer what they should not", failures)

    print(f"{answered.total()} requests: {dict(sorted(answered.items()))}")
    assert answered.total() >= 1000
    assert {200, 201, 202, 204, 404, 409, 422} <= answered.keys()
    assert not {status for status in answered if status >= 500}


def _try(operation: Any, mode: GenerationMode, answered: Counter[int]) -> None:
    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=CASES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Any) -> None:
        if mode is GenerationMode.POSITIVE and answered.total() % 2:
            _of_what_is_there(case.path_parameters)
        if isinstance(case.query, dict):
            case.query.pop("wait", None)
        response = case.call(timeout=30)
        answered[response.status_code] += 1
        case.validate_response(response, excluded_checks=NOT_ASKED)

    check()


def _of_what_is_there(parameters: dict[str, Any] | None) -> None:
    """Half of the requests are about something that is there."""
    for name in parameters or {}:
        assert parameters is not None
        parameters[name] = {"name": "counting", "file": "start.js"}.get(name, "over")


async def _prepare(real: Real) -> None:
    for definition in (COUNTING, FAILING, GATED):
        await real.engine.define(definition)
    await real.engine.run("counting", {}, run_id="over")
