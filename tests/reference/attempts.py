"""What a node does until it is done: attempts (section 8) and the items of a map (section 7)."""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from .spec import ERRORS, Answer, Map, Node, Retry


def work(node: Node, state: dict[str, Any], number: int) -> tuple[int, str | None, Answer]:
    """The attempts made, the error of the last if it failed, and else the answer."""
    if node.map is not None:
        error, results = mapped(node.map, state, node.retry)
        return 1, error, Answer({node.map.into: results})
    attempts, error = tried(lambda attempt: node.error(number, attempt), node.retry)
    return attempts, error, node.answer(state, number) if error is None else Answer({})


def tried(error: Callable[[int], str | None], rules: Sequence[Retry]) -> tuple[int, str | None]:
    """Of several rules the first that matches counts, with all attempts so far."""
    for attempt in count(1):
        raised = error(attempt)
        rule = next((r for r in rules if raised and issubclass(ERRORS[raised], ERRORS[r.on])), None)
        if raised is None or rule is None or attempt >= rule.attempts:
            return attempt, raised
    raise AssertionError


def mapped(map_: Map, state: dict[str, Any], retry: Sequence[Retry]) -> tuple[str | None, list[Any]]:
    results: list[Any] = []
    for item in state[map_.over] if map_.over else map_.items(state):
        _, error = tried(lambda attempt, item=item: map_.item_error(item, attempt), retry)  # type: ignore[misc]
        if error is None:
            results.append(map_.result(item))
        elif map_.on_item_error == "fail":
            return error, []
        elif map_.on_item_error == "keep":
            results.append(("ItemError", item[0], error))
    return None, results
