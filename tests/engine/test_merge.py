"""Merging the steps of branches as they are, and merging their traces, come to the same."""

import operator
import random
from typing import Any

import attrs
import pytest

from engine.errors import MergeConflict
from engine.merge import Meeting, new_values
from engine.values import Replace
from engine.writes import PARTING, Contributions, Log, Values, effective

REDUCERS = {"notes": operator.add, "most": max}
START: Values = {"x": 0, "y": 1, "notes": ["start"], "most": 1}


@attrs.frozen
class Step:
    """A branch that has parted, and perhaps written something since."""

    values: Values
    log: Log | None


def step(update: dict[str, Any], number: int) -> Step:
    written = effective(update, START, REDUCERS)
    values = {**START, **new_values(START, written, REDUCERS)}
    return Step(values, Log(PARTING, written, START, f"n{number}", number) if written else PARTING)


def meeting() -> Meeting:
    return Meeting("join", REDUCERS, iter(range(10_000, 20_000)).__next__, last=False)


def outcome(merged: Any) -> Any:
    try:
        return merged()
    except MergeConflict as conflict:
        return str(conflict)


def some_update(chance: random.Random, number: int) -> dict[str, Any]:
    update: dict[str, Any] = {}
    if chance.random() < 0.3:
        update[chance.choice("xyz")] = chance.randrange(3)
    if chance.random() < 0.5:
        update["notes"] = [number]
    if chance.random() < 0.3:
        update["most"] = chance.randrange(5)
    if chance.random() < 0.05:
        update["notes"] = Replace([number])
    if chance.random() < 0.05:
        update["notes"] = Contributions([[number], [number + 1]])
    return update


@pytest.mark.parametrize("seed", range(300))
def test_steps_merged_as_they_are_come_to_what_their_traces_come_to(seed: int) -> None:
    chance = random.Random(seed)
    steps = [step(some_update(chance, 10 * number), 10 * number) for number in range(1, chance.randrange(3, 8))]

    assert outcome(lambda: meeting().values(steps)) == outcome(lambda: meeting().merge(steps)[0])


def test_a_write_that_came_by_two_edges_counts_once() -> None:
    one, other = step({"notes": ["once"]}, 1), step({"x": 5}, 2)

    assert meeting().values([one, other, one]) == {**START, "x": 5, "notes": ["start", "once"]}


def test_a_reducer_that_raises_says_which_key_it_was() -> None:
    def refuse(value: Any, item: Any) -> Any:
        raise ValueError("no")

    steps = [step({"notes": ["a"]}, 1), step({"notes": ["b"]}, 2)]
    with pytest.raises(ValueError, match="no") as raised:
        Meeting("join", {"notes": refuse}, iter(range(9)).__next__, last=False).values(steps)

    assert raised.value.__notes__ == ["raised by the reducer of 'notes'"]
