"""What a run came to, in a form in which two runs can be compared."""

from collections import Counter
from typing import Any

from attrs import Factory, define


@define
class Outcome:
    status: str = "running"
    state: dict[str, Any] | None = None  # of a run that succeeded
    activations: Counter[Any] = Factory(Counter)  # (node, number, input state; None for a map)
    iterations: Counter[Any] | None = Factory(Counter)  # (node, number, ctx.iteration); None: not observed
    routes: Counter[Any] | None = Factory(Counter)  # (node, number, target); None: not observed
    errors: Counter[Any] = Factory(Counter)  # (node, number, attempts, type of the cause)
    facts: Counter[str] = Factory(Counter)  # what the run was good for; the interpreter's alone


class Failure(Exception):
    """An activation failed; the argument names the type of the cause."""


def freeze(value: Any) -> Any:
    """A hashable copy that is equal exactly when the original is."""
    if isinstance(value, dict):
        return tuple(sorted((key, freeze(item)) for key, item in value.items()))
    return tuple(map(freeze, value)) if isinstance(value, list | tuple) else value
