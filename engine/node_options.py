"""From a node's options as data to those that an author gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .named import ERRORS
from .options import NODE_OPTIONS, Batch, Breaker, Cache
from .retry import Retry


def names_of(names: Any) -> tuple[str, ...]:
    """One name, or a list of them."""
    return (names,) if isinstance(names, str) else tuple(names)


def errors_of(names: Any) -> Any:
    """The error classes that one or more names mean."""
    kinds = tuple(ERRORS[name] for name in names_of(names))
    return kinds[0] if len(kinds) == 1 else kinds


def read_options(node: Mapping[str, Any]) -> dict[str, Any]:
    """The options among what is sound of a node."""
    options = {key: value for key, value in node.items() if key in NODE_OPTIONS}
    if "retry" in options:
        retry = options["retry"]
        options["retry"] = [_retry(one) for one in retry] if isinstance(retry, list) else _retry(retry)
    if "batch" in options:
        options["batch"] = Batch(**options["batch"]) if "size" in options["batch"] else None
    if "breaker" in options:
        options["breaker"] = Breaker(**options["breaker"])
    if "cache" in options:
        options["cache"] = Cache(**options["cache"]) if "ttl" in options["cache"] else None
    for option in ("goto", "accepts", "produces"):
        if isinstance(given := options.get(option), Mapping):
            options[option] = {name: names_of(one) for name, one in given.items()}
        elif option in options:
            options[option] = names_of(given)
    return options


def _retry(found: Mapping[str, Any]) -> Retry:
    given = dict(found)
    if "on" in given:
        given["on"] = errors_of(given["on"])
    return Retry(**given)
