"""What a node of a run is doing or waiting for, in words."""

from __future__ import annotations

from .errors import UnknownNode
from .history import LogEntry, described
from .live import Live
from .tokens import CANCELLING, DONE, HELD, PARKED, RETRYING, Activation
from .waits import names


def explain(run: Live, name: str) -> str:
    """What a node is doing or waiting for, in words."""
    node = run.plan.by_name.get(name)
    if node is None:
        raise UnknownNode(name, list(run.plan.by_name))
    said = [_doing(activation) for activation in run.activations_at(node)][::-1]
    for edge, places in run.joins.waits_for(node):
        where = ", ".join(places)
        said.append(
            f"waits for {edge.name!r}: a token at {where} can still come by it"
            if places
            else f"lacks {edge.name!r}, by which nothing can come any more"
        )
    waiting = run.joins.at.get(node.index)
    if waiting is not None and waiting.count:
        came = ", ".join(repr(token.edge.name) for token in waiting.tokens())
        said.insert(0, f"holds {came}")
    said += [f"#{f.activation} failed: {described(f.cause)}" for f in run.failures if f.node == name]
    if not said and (last := _last_of(run, run.prefix + name)) is not None:
        said = [f"#{last.activation} {last.status.replace('_', ' ')}" + (f": {last.error}" if last.error else "")]
    if not said:
        said = [f"never ran ({name!r})" if name in run.not_run else "has nothing to do"]
    return f"{name}: " + "; ".join(said)


def _last_of(run: Live, name: str) -> LogEntry | None:
    """The newest log entry of a node, if the history still has one."""
    return next((entry for entry in reversed(list(run.history.log())) if entry.node == name), None)


def _doing(activation: Activation) -> str:
    number = f"#{activation.number}"
    if activation.run.tree.replaying:
        return f"{number} is held: the run waits for a place"
    match activation.status:
        case s if s == HELD:
            return f"{number} is held: the run is paused"
        case s if s == RETRYING:
            return f"{number} waits for its attempt {activation.attempt + 1}"
        case s if s == PARKED:
            return f"{number} waits for the signal {' or '.join(map(repr, names(activation.node)))}"
        case s if s == DONE:
            return f"{number} is done and waits for its turn after #{activation.number - 1}"
        case s if s == CANCELLING:
            return f"{number} is being cancelled"
        case _:
            return f"{number} is running (attempt {activation.attempt})"
