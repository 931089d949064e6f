"""What is wrong with the arguments of an engine's calls: said all at once, before anything is accepted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from .faults import Fault, name_fault, positive_fault
from .options import mapping_fault
from .sharing import Sharing
from .stored import Kept
from .typecheck import shown

MOST_PRIORITY: Final = (1 << 63) - 1

_EXECUTOR: Final = ("limit", "capabilities", "start", "submit", "cancel", "health", "close")


class OptionsRefused(ValueError):
    """Arguments of a call that cannot be used."""

    def __init__(self, call: str, faults: Sequence[tuple[str, Fault]]) -> None:
        super().__init__(f"{call}: {'; '.join(f'{name} {fault}' for name, fault in faults)}")
        self.faults = faults
        """Each by its name, with what is wrong with it."""


def refuse(call: str, faults: Iterable[tuple[str, Fault]]) -> None:
    """Raise `OptionsRefused`, a `ValueError`, if there are any."""
    if found := list(faults):
        raise OptionsRefused(call, found)


def submission_faults(run_id: Any, idempotency_key: Any, tags: Any, deadline: Any, priority: Any) -> Iterator[Any]:
    """(option, fault) for each option of a submission that cannot be used."""
    if run_id is not None and (not isinstance(run_id, str) or not run_id or "/" in run_id or "#" in run_id):
        # They part run, node and number in `Context.token`: two activations must not have one token.
        yield "run_id", f"must be text without '/' and '#', found {shown(run_id)}; leave it out to get a new one"
    elif run_id is not None and (fault := name_fault(run_id)):
        yield "run_id", f"{fault}; leave it out to get a new one"
    if idempotency_key is not None and (fault := name_fault(idempotency_key)):
        yield "idempotency_key", fault
    if tags is not None and (fault := mapping_fault(tags, str)):
        yield "tags", f"{fault}; both names and values are text"
    elif tags is not None:
        yield from (("tags", f"has a wrong entry {shown(name)}: {fault}") for name, fault in _tag_faults(tags))
    if deadline is not None and (fault := positive_fault(deadline)):
        yield "deadline", f"{fault}; it is in seconds from now, leave it out for none"
    if type(priority) is not int or not -MOST_PRIORITY <= priority <= MOST_PRIORITY:
        yield "priority", f"must be a whole number, found {shown(priority)}; higher ones start first, 64 bits are kept"


def _tag_faults(tags: Mapping[str, str]) -> Iterator[tuple[str, Fault]]:
    for name, value in tags.items():
        if fault := name_fault(name, empty=True):
            yield name, f"its name {fault}"
        if fault := name_fault(value, empty=True):
            yield name, f"its value {fault}"


def signal_faults(name: Any, id: Any) -> Iterator[tuple[str, Fault]]:
    """(option, fault) for what a signal is called, and its id."""
    if fault := text_fault(name):
        yield "name", fault
    if id is not None and (fault := name_fault(id, empty=True)):
        yield "id", fault


def timeout_fault(value: Any) -> Fault:
    """Seconds to wait for something, for ever among them."""
    if value is None or value is math.inf or not positive_fault(value, zero=True):
        return ""
    return f"must be a number of at least 0, found {shown(value)}; leave it out to wait as long as it takes"


def text_fault(value: Any) -> Fault:
    return "" if isinstance(value, str) else f"must be text, found {shown(value)}"


def engine_faults(
    tools: Any, executors: Any, max_runs: Any, max_queued: Any, settings: Any, kind: type[Any]
) -> Iterator[tuple[str, Fault]]:
    """(option, fault) for each argument of an engine that cannot be used; `kind` is that of its settings."""
    if tools is not None and not isinstance(tools, Iterable):  # which texts, mappings and registries are, too
        cure = "a ToolRegistry, a list of tools, a mapping from names to functions, or 'module:attribute'"
        yield "tools", f"must be {cure}, found {shown(tools)}"
    if executors is not None:
        yield from (("executors", fault) for fault in _executor_faults(executors))
    if max_runs is not None and (fault := positive_fault(max_runs, whole=True)):
        yield "max_runs", fault
    if max_queued is not None and (fault := positive_fault(max_queued, whole=True, zero=True)):
        yield "max_queued", fault
    elif max_queued is not None and max_runs is None:
        yield "max_queued", f"is {max_queued}, but without max_runs no run is ever queued; give max_runs, too"
    if settings is not None and not isinstance(settings, kind):
        yield "settings", f"must be a Settings(...), found {shown(settings)}"


def keep_faults(keep: Any, store: Any) -> Iterator[tuple[str, Fault]]:
    """What is wrong with `Engine(keep=...)`."""
    if keep is not None and not isinstance(keep, Kept):
        yield "keep", f"must be a Kept(seconds=..., count=...), found {shown(keep)}"
    elif keep is not None and store is None:
        yield "keep", "is for a store; runs in memory are limited by Settings(keep_runs=...)"
    elif keep == Kept():
        yield "keep", "says neither seconds nor count; leave it out to keep all runs"


def sharing_faults(shared: Any, store: Any, fallback: Any) -> Iterator[tuple[str, Fault]]:
    """What is wrong with `Engine(shared=...)`."""
    if not isinstance(shared, bool | Sharing):
        yield "shared", f"must be True, False or a Sharing(...), found {shown(shared)}"
    elif not shared:
        return
    elif store is None:
        yield "shared", "is for a store: give the address of a PostgreSQL database, the same to each engine"
    elif not _can_be_shared(store):
        yield "shared", "is for postgresql://… only: other stores are for one engine at a time"
    elif fallback is not None:
        yield "fallback", "is for one engine alone: runs in memory cannot be shared"


def _can_be_shared(store: Any) -> bool:
    if isinstance(store, str):
        return store.partition("://")[0] in ("postgresql", "postgres")
    return hasattr(store, "share")


def _executor_faults(executors: Any) -> Iterator[Fault]:
    if not isinstance(executors, Mapping):
        yield f"must be a mapping from names to executors, found {shown(executors)}"
        return
    for name, executor in executors.items():
        missing = [part for part in _EXECUTOR if not hasattr(executor, part)]
        if not isinstance(name, str) or not name:
            yield f"has the name {name!r}; names are text"
        elif name == "loop":
            yield "has the name 'loop', which is the event loop itself; take another"
        elif isinstance(executor, type):
            yield f"has the class {executor.__name__} as {name!r}; give an object of it"
        elif missing:
            yield f"has {shown(executor)} as {name!r}, which is no executor: it has no {', '.join(missing)}"
