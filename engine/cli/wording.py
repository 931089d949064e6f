"""What the engine says to people who write Python, in words of those who write definitions and command lines."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from ..errors import GraphInvalid, GraphProblem

_TOOLS: Final = "tools are loaded by --tools MODULE, and marked with @tool there"


def for_definition(invalid: GraphInvalid) -> GraphInvalid:
    """The same, of a graph that is a definition."""
    return GraphInvalid.of(invalid.graph, [_reworded(problem) for problem in invalid.problems])


def _reworded(problem: GraphProblem) -> GraphProblem:
    hint = problem.hint
    if problem.code == "unknown_tool" and not hint.startswith(("did you mean", "there ")):
        hint = _TOOLS
    for pattern, say in _SAID:
        if found := pattern.search(hint):
            hint = hint.replace(found[0], say(found))
    return GraphProblem(problem.code, problem.where, problem.message, hint, problem.severity)


_SAID: Final[tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...]] = (
    (re.compile(r"graph\.set_entry_point\('(.*)'\)"), lambda found: f'"entry_point": {json.dumps(found[1])}'),
    (
        re.compile(r"add_edge\('(.*)', END, when=\.\.\.\)"),
        lambda found: json.dumps({"source": found[1], "target": "END", "when": "…"}, ensure_ascii=False),
    ),
)


def limited_by_name(data: Any) -> frozenset[str]:
    """The graphs of a definition that say themselves how often a cycle may go round."""
    found = set()
    # Iterative: how deep it is, is checked elsewhere.
    pending: list[tuple[str, Any]] = [("", data)]
    while pending:
        name, here = pending.pop()
        if isinstance(here, Mapping):
            if "max_iterations" in here and ("nodes" in here or "steps" in here):
                found.add(str(here.get("name", name)))
            pending += [(str(key), value) for key, value in here.items()]
        elif isinstance(here, list):
            pending += [("", value) for value in here]
    return frozenset(found)
