"""Claims that wait for a person, through kill -9: paid once, refused, or sent back when time is up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine import Engine
from examples.approval.flow import Claim, expenses
from tests.examples.processes import said_by


@pytest.mark.parametrize("backend", ["asyncio", "trio"], ids="on-{}".format)
def test_claims_that_wait_outlive_the_service_and_come_to_their_ends(backend: str) -> None:
    said = said_by("examples.approval", backend)

    assert re.findall(r"  (\w+): (\w+)", said) == [
        ("ada", "succeeded"),
        ("bob", "waiting"),
        ("cleo", "waiting"),
        ("dora", "waiting"),
    ]
    assert "waiting, as the store has it: claim-of-bob claim-of-cleo" in said
    assert "bob claims 480.00 -> paid, approved by eve" in said
    assert "cleo claims 99.00 -> refused by eve: no receipt" in said
    assert "dora claims 75.00 -> nobody decided in time; sent back" in said
    assert said.endswith("\n  claim-of-ada/pay#1 ada 1200\n  claim-of-bob/pay#1 bob 48000\n")


async def test_a_payment_that_was_made_but_not_recorded_is_not_made_again(tmp_path: Path) -> None:
    paid = tmp_path / "paid.txt"
    paid.write_text("17/pay#1 ada 1200\n")  # and then the power went

    async with Engine("memory://") as engine:
        run = await engine.submit(expenses(paid), Claim("ada", 1200), run_id="17")
        result = await run.result()

    assert result.state.story[-1] == "paid, approved by rule"
    assert paid.read_text() == "17/pay#1 ada 1200\n"
