"""`workflow-engine check` and `draw`: what is wrong with graphs, and what they look like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

import anyio
import click

from ..errors import EngineError, GraphInvalid, GraphProblem
from .faults import REFUSED, SUCCESS, Refusal, problem_lines, told
from .looking import look
from .safe import safe_line
from .setup import Setup, json_option, options, prepared, store_option, tools_option
from .streams import OutputLost

Form = Literal["mermaid", "text", "svg", "png"]
_FORMATS: Final = get_args(Form)
_FORMS: Final[dict[str, Form]] = {
    ".svg": "svg", ".png": "png", ".txt": "text", ".mmd": "mermaid", ".mermaid": "mermaid", ".md": "mermaid",
}  # fmt: skip
"""What is written to a file by the end of its name."""


@click.command()
@click.argument("sources", metavar="FILE|MODULE:GRAPH...", nargs=-1, required=True)
@tools_option
@json_option
@prepared
def check(setup: Setup, sources: Sequence[str], as_json: bool) -> int:
    """Tell all that is wrong with graphs: what, where, and what to do about it.

    \b
    Examples:
        workflow-engine check review.json --tools my_tools
        workflow-engine check flows.py *.yaml --json | jq '.[].message'

    The exit code is 2 if there are errors; warnings alone are none.
    """
    found: list[tuple[str, str, GraphProblem]] = []
    checked = 0
    for source in sources:
        try:
            for loaded in setup.loader.all([source]):
                checked += 1
                found += [(loaded.source, loaded.graph.name, problem) for problem in loaded.graph.validate()]
        except GraphInvalid as error:
            checked += 1
            found += [(source, error.graph, problem) for problem in error.problems]
        except (Refusal, EngineError) as error:
            said = told(error)
            problem = GraphProblem("not_loaded", "/", said.message, "; ".join((*said.details, *said.advice)))
            found.append((source, "", problem))
    if as_json or not setup.terminal.is_read_by_people:
        setup.terminal.result([_as_data(*one) for one in found])
    errors = sum(problem.severity == "error" for _, _, problem in found)
    if setup.terminal.is_read_by_people and not as_json:
        setup.terminal.text("".join(f"{line}\n" for line in _lines(found)))
    warnings = len(found) - errors
    setup.terminal.say(f"{_so_many(checked, 'graph')}: {_so_many(errors, 'error')}, {_so_many(warnings, 'warning')}")
    return REFUSED if errors else SUCCESS


def _so_many(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _as_data(source: str, graph: str, problem: GraphProblem) -> dict[str, Any]:
    return {
        "source": source,
        "graph": graph,
        "severity": problem.severity,
        "code": problem.code,
        "where": problem.where,
        "message": problem.message,
        "hint": problem.hint,
    }


def _lines(found: Sequence[tuple[str, str, GraphProblem]]) -> Iterator[str]:
    last = ""
    for source, _, problem in found:
        if source != last:
            yield f"{safe_line(source)}:"
            last = source
        yield from (f"  {line}" for line in problem_lines(problem))


@click.command()
@click.argument("graph", metavar="FILE|MODULE:GRAPH")
@click.option("--format", "form", type=click.Choice(_FORMATS), help="[default: that of the file, or mermaid]")
@click.option("-o", "--output", metavar="FILE", help="Where to write it, instead of to stdout.")
@click.option("--run", "run_id", metavar="ID", help="Show how far this run of it is.")
@options(store_option, tools_option)
@prepared
def draw(setup: Setup, graph: str, form: str | None, output: str | None, run_id: str | None) -> int:
    """Draw a graph, with a run's progress on it if one is named.

    \b
    Examples:
        workflow-engine draw review.json --format text
        workflow-engine draw flows.py:review -o review.svg
        workflow-engine draw flows.py:review --run 7f3a… -o review.png
    """
    form = form or _form_of(output)
    loaded = setup.loader.one(graph)
    run = None
    if run_id is not None:
        found = anyio.run(look, setup.stored().store, run_id, [loaded.graph])
        run = found.seen
        if run is None:
            raise Refusal(f"run {run_id!r} cannot be drawn: {found.why}")
    drawing = loaded.graph.draw(cast(Form, form), run)
    data = drawing if isinstance(drawing, bytes) else drawing.encode()
    if output is not None:
        try:
            Path(output).write_bytes(data)
        except OSError as error:
            raise OutputLost.of(error, output) from error
    elif isinstance(drawing, bytes):
        if setup.terminal.is_read_by_people:
            raise Refusal(f"{form} is no text: name a file with -o")
        setup.terminal.data(data)
    else:
        setup.terminal.text(drawing if drawing.endswith("\n") else f"{drawing}\n")
    return SUCCESS


def _form_of(output: str | None) -> str:
    suffix = Path(output or "").suffix.lower()
    if suffix and suffix not in _FORMS:
        known = ", ".join(_FORMS)
        raise Refusal(f"no format is written to files that end in {suffix!r}; known are {known}", "or name a --format")
    return _FORMS.get(suffix, "mermaid")
