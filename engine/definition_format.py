"""The format of a graph that is data, as shapes: what is read, and what the published JSON Schema says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from .datastate import PYTHON
from .named import ERRORS, REDUCERS
from .shapes import Anything, Cases, Either, Flag, ListOf, MapOf, Named, Null, Number, OneOf, Record, Shape, Text

ADDRESS: Final = "https://json-schema.org/draft/2020-12/schema"

MOST_NODES: Final = 10_000
"""Those of all graphs inside counted too, as often as they are used. More are better made in Python."""
MOST_EDGES: Final = 20_000
MOST_KEYS: Final = 10_000

INNER_GRAPH: Final = Named("graph", lambda: Record("a graph", PARTS, required=["name", "nodes"]))
INNER_TYPE: Final = Named("type", lambda: Record("a type", TYPE))

NAME: Final = Text()
NAMES: Final = Either([NAME, ListOf(NAME, least=1)])
SECONDS: Final = Number()
COUNT: Final = Number(whole=True)
ERROR_NAMES: Final = Either([OneOf(tuple(ERRORS)), ListOf(OneOf(tuple(ERRORS)), least=1)])

WORDS: Final = OneOf(tuple(PYTHON))
TYPE: Final[Mapping[str, Shape]] = {
    "type": Either([WORDS, ListOf(WORDS, least=1)]),
    "items": INNER_TYPE,
}
KEY: Final = Record(
    "a key of the state",
    {
        **TYPE,
        "required": Flag(),
        "default": Anything(),
        "reduce": OneOf(tuple(REDUCERS)),
        "description": Text(may_be_empty=True),
    },
)

RETRY: Final = Record(
    "retry",
    {
        "attempts": COUNT,
        "delay": Number(least=0),
        "factor": Number(),
        "max_delay": Number(least=0),
        "jitter": Number(least=0),
        "on": ERROR_NAMES,
    },
)
BATCH: Final = Record("batch", {"size": COUNT, "wait": SECONDS}, required=["size"])
BREAKER: Final = Record("breaker", {"failures": COUNT, "within": SECONDS, "cooldown": SECONDS})
CACHE: Final = Record("cache", {"ttl": SECONDS, "key": NAMES, "size": COUNT}, required=["ttl"])
MAP: Final = Record(
    "map",
    {
        "over": NAME,
        "into": NAME,
        "item": NAME,
        "concurrency": COUNT,
        "on_item_error": OneOf(["fail", "skip", "keep"]),
    },
    required=["over", "into"],
)
WAIT: Final = Record("wait", {"signal": NAMES, "into": NAME}, required=["signal", "into"])

FILES: Final = Either([NAME, ListOf(NAME, least=1), MapOf(NAMES)])
"""Keys of the state, or media types; with parameters or roles before them, media types only."""

OPTIONS: Final[Mapping[str, Shape]] = {
    "retry": Either([RETRY, ListOf(RETRY, least=1, partly=True)]),
    "timeout": SECONDS,
    "concurrency": COUNT,
    "rate": Either([Text(), Number()]),
    "batch": BATCH,
    "breaker": BREAKER,
    "cache": CACHE,
    "run_in": NAME,
    "join": Either([OneOf(["all", "any", "first"]), COUNT]),
    "rest": OneOf(["absorb", "cancel"]),
    "goto": NAMES,
    "inputs": MapOf(NAME),
    "outputs": MapOf(NAME),
    "accepts": FILES,
    "produces": FILES,
    "effect": Flag(),
    "resources": MapOf(Either([Number(least=0), Text()])),
    "keep_remote": Flag(),
    "params": MapOf(Anything()),
    "description": Text(may_be_empty=True),
}
WORK: Final[Mapping[str, Shape]] = {"name": NAME, **OPTIONS}
OF_GRAPH: Final[Mapping[str, Shape]] = {"graph": Either([NAME, INNER_GRAPH])}
# The concurrency of a map counts items, and stands with what it does with them.
OF_MAP: Final[Mapping[str, Shape]] = {
    "map": MAP,
    **{key: shape for key, shape in WORK.items() if key != "concurrency"},
}
NODE: Final = Cases(
    [
        (["wait"], Record("a wait", {"wait": WAIT, **WORK}, required=["name"])),
        (
            ["map"],
            Cases(
                [(["graph"], Record("a map of a graph", {**OF_MAP, **OF_GRAPH}, required=["name"]))],
                Record("a map", {"tool": NAME, **OF_MAP}, required=["name"]),
            ),
        ),
        (["graph"], Record("a node that runs a graph", {**WORK, **OF_GRAPH}, required=["name"])),
    ],
    Record("a node", {"tool": NAME, **WORK}, required=["name"]),
)

EDGE: Final = Cases(
    [
        (
            ["choose", "targets"],
            Record(
                "a choice",
                {
                    "source": NAMES,
                    "choose": Text(),
                    "targets": Either([ListOf(NAME, least=1), MapOf(NAME, least=1)]),
                },
                required=["source", "choose", "targets"],
            ),
        )
    ],
    Record(
        "an edge",
        {
            "source": NAMES,
            "target": NAMES,
            "when": Text(),
            "otherwise": Flag(),
            "on_error": ERROR_NAMES,
            "max_iterations": COUNT,
            "on_limit": OneOf(["exit", "fail"]),
            "capacity": COUNT,
        },
        required=["source", "target"],
    ),
)

SETTINGS: Final[Mapping[str, Shape]] = {
    "max_iterations": COUNT,
    "max_activations": Either([COUNT, Null()]),
    "on_failure": OneOf(["cancel", "continue"]),
    "conflicts": OneOf(["error", "last"]),
    "isolation": OneOf(["shallow", "deep", "check"]),
    "check": OneOf(["boundary", "always"]),
    "history": COUNT,
    "deadline": Either([SECONDS, Null()]),
}
PARTS: Final[Mapping[str, Shape]] = {
    "name": NAME,
    "version": NAME,
    "description": Text(may_be_empty=True),
    "entry_point": NAMES,
    "state": MapOf(KEY, most=MOST_KEYS, partly=True),
    **SETTINGS,
    "nodes": ListOf(NODE, most=MOST_NODES, partly=True),
    "edges": ListOf(EDGE, most=MOST_EDGES, partly=True),
}
GRAPH: Final = Record(
    "a definition", {"$schema": Text(), **PARTS, "graphs": MapOf(INNER_GRAPH, partly=True)}, required=["name", "nodes"]
)

TASK: Final = Record(
    "a task",
    {
        "name": NAME,
        "tool": NAME,
        **{option: shape for option, shape in OPTIONS.items() if option not in ("batch", "inputs", "outputs", "goto")},
    },
    required=["name"],
)
STEP: Final = Record(
    "a step",
    {"execution_type": OneOf(["sequential", "parallel"]), "tasks": ListOf(TASK, least=1, most=MOST_NODES, partly=True)},
    required=["tasks"],
)
STEPS: Final = Record(
    "a definition in steps",
    {"$schema": Text(), "name": NAME, "version": NAME, "steps": ListOf(STEP, least=1, most=MOST_NODES, partly=True)},
    required=["name", "steps"],
)

_NAMED: Final = {shape.name: shape for shape in (INNER_GRAPH, INNER_TYPE)}


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a definition, as the package publishes it."""
    return {
        "$schema": ADDRESS,
        "title": "A graph of workflow-engine",
        "oneOf": [GRAPH.schema(), STEPS.schema()],
        "$defs": {name: shape.find().schema() for name, shape in _NAMED.items()},
    }


def publish() -> None:
    """Write the schema into the package."""
    text = json.dumps(json_schema(), indent=2) + "\n"
    Path(__file__).with_name("definition.schema.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    publish()
