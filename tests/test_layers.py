"""Imports point down, and what decides does nothing else: ARCHITECTURE's rules, read off the source.

To add a module, add its name to the order below. A name stands for the file, or for a whole folder
(`stores` is everything under engine/stores/), or for a file in one (`drawing.svg`). A file may import what stands on
the lines before its own; names on one line are siblings, which know nothing of each other. An import inside a
function counts as well. One under `if TYPE_CHECKING` may point up within its package, as a ref and its cell name each
other's types, but it may not name the other package or a backend either.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parent.parent

ORDER = {
    "actors": [
        "shown",
        "errors",
        "waker",
        "interrupts",
        "flag",
        "capacity",
        "message_type",
        "lifecycle",
        "spec",
        "restarts",
        "rounds",
        "supervision",
        "observer",
        "letters",
        "mailbox",
        "channel",
        "tree",
        "reply",
        "cell",
        "ref",
        "context",
        "actor",
        "incarnation",
        "supervisor",
        "supervise",
        "testing",
    ],
    "engine": [
        "ids",
        "logs",
        "redaction",
        "logging_json",
        "values",
        "errors",
        "locks",
        "fingerprint",
        "remembered",
        "typecheck",
        "mediatypes",
        "guessing",
        "threads",
        "file",
        "carried",
        "filetyping",
        "kinds",
        "named",
        "datastate",
        "reducers",
        "faults",
        "stored",
        "sharing",
        "retry",
        "theory",
        "state",
        "schema",
        "operations",
        "terms",
        "scanning",
        "conditions",
        "views",
        "filestate",
        "writes",
        "merge",
        "plan",
        "filechecks",
        "identity",
        "context",
        "jsonschema",
        "fromdata",
        "call",
        "tools",
        "loading",
        "options",
        "submitting",
        "nodespec",
        "limits",
        "pace",
        "breaking",
        "reusing",
        "classes",
        "encoding",
        "decoding",
        "codec",
        "raised",
        "ports",
        "files.digests",
        "files.memory files.local files.objects",
        "files.urls",
        "files.inputs",
        "files",
        "resolving",
        "stores",
        "executors",
        "gates",
        "counts",
        "journal",
        "auditing",
        "exposition",
        "metrics",
        "timers",
        "driving",
        "history",
        "packing",
        "tokens",
        "format",
        "orders",
        "waits",
        "maps",
        "joins",
        "routes",
        "tree",
        "live",
        "branches",
        "starting",
        "stopping",
        "settling",
        "inside",
        "going_on",
        "quick",
        "replay",
        "forking",
        "snapshot",
        "restore",
        "explain",
        "underway",
        "runs",
        "keeper",
        "keeping",
        "recovery",
        "migration",
        "durable",
        "exporting",
        "past",
        "result",
        "bodies",
        "filebody",
        "filestart",
        "elsewhere",
        "hands",
        "nodes",
        "batches",
        "guarded",
        "items",
        "toolbox",
        "scheduler",
        "written",
        "checks",
        "reading",
        "edges",
        "compiling",
        "drawing.lettering drawing.progress drawing.wording",
        "drawing.picture",
        "drawing.mermaid",
        "drawing.layering",
        "drawing.rails",
        "drawing.ways",
        "drawing.sketch",
        "drawing.ordering drawing.placing",
        "drawing.sides drawing.tightening drawing.routing",
        "drawing.layout",
        "drawing.shapes",
        "drawing.looks",
        "drawing.arrows drawing.boxes",
        "drawing.scene",
        "drawing.svg drawing.png",
        "drawing.formats",
        "drawing",
        "shapes",
        "texts",
        "definition_format",
        "definition_places",
        "node_options",
        "definition",
        "definition_of",
        "steps",
        "graph",
        "sameness",
        "registry",
        "settings",
        "reader",
        "handle",
        "handing",
        "kept",
        "away",
        "books",
        "watchers",
        "tally",
        "door",
        "leaving",
        "catalogue",
        "listed",
        "blocking",
        "vitals",
        "returning",
        "bell",
        "following",
        "fleet.standing",
        "fleet.belongings fleet.lease_keeping",
        "fleet.bringing",
        "fleet.claiming fleet.asking fleet.looking",
        "fleet.peers",
        "fleet",
        "admission",
        "beside",
        "app",
        "readable",
        "web",
        "client",
        "cli",
        "__main__",
    ],
}

# What a package may import of the others.
BELOW = {"actors": set[str](), "engine": {"actors"}}

# The modules which decide: event in, commands out, so that replaying the journal decides the same again.
DECISION_CORE = {
    "actors.restarts",
    "actors.rounds",
    "actors.supervision",
    "engine.plan",
    "engine.runs",
    "engine.state",
    "engine.retry",
    "engine.pace",
    "engine.breaking",
    "engine.reusing",
    "engine.merge",
    "engine.kinds",
    "engine.operations",
    "engine.terms",
    "engine.scanning",
    "engine.conditions",
    "engine.tokens",
    "engine.waits",
    "engine.maps",
    "engine.joins",
    "engine.routes",
    "engine.replay",
    "engine.forking",
    "engine.snapshot",
    "engine.restore",
    "engine.packing",
    "engine.theory",
    "engine.history",
    "engine.tree",
    "engine.live",
    "engine.branches",
    "engine.starting",
    "engine.stopping",
    "engine.settling",
    "engine.inside",
    "engine.going_on",
    "engine.quick",
    "engine.explain",
}
# `random` is not among these: a decision may be given a generator, and so name its type.
IO_MODULES = {
    "anyio", "asyncio", "concurrent", "contextvars", "ctypes", "fcntl", "glob", "http", "importlib",
    "io", "logging", "multiprocessing", "orjson", "os", "pathlib", "prometheus_client", "queue",
    "sched", "secrets", "select", "selectors", "shutil", "signal", "socket", "sqlite3", "ssl",
    "subprocess", "tempfile", "threading", "time", "trio", "urllib", "uuid", "uvloop",
}  # fmt: skip
IO_CALLS = {"open", "print", "input", "breakpoint", "exec", "eval", "__import__"}
CLOCK_METHODS = {"now", "utcnow", "today"}

BACKENDS = {"asyncio", "trio", "uvloop"}
MAY_NAME_BACKENDS = {
    "actors.interrupts",  # what is protected is trio's own affair
    "actors.testing",
    "actors.waker",
    "engine.web.trio_worker",  # Hypercorn's own sockets are trio's
}


def modules_of(package: str, root: Path = ROOT) -> dict[str, str]:
    """The source of each module of a package, by dotted name; the package itself stands for its __init__."""
    sources = {}
    for file in sorted((root / package).rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        sources[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file.read_text()
    return sources


@attrs.frozen
class Import:
    """An import, by the full dotted name of what it brings, names within modules included."""

    line: int
    name: str
    types_only: bool = False

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]


def imports_of(module: str, source: str, *, is_package: bool = False) -> Iterator[Import]:
    """Every import in a module."""
    tree = ast.parse(source)
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            base = []
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")
            base = parents[: len(parents) - node.level + is_package] if node.level else []
            base += [node.module] if node.module else []
        else:
            continue
        for alias in node.names:
            yield Import(node.lineno, ".".join([*base, alias.name]), types_only=id(node) in for_types)


def layer_of(module: str, order: list[str]) -> tuple[int, str] | None:
    """The height of a module within its package and the name in the order that it goes by."""
    inside = module.partition(".")[2]
    for height, line in enumerate(order):
        for name in line.split():
            if inside == name or inside.startswith(f"{name}."):
                return height, name
    return None


def wrong_directions(package: str, sources: dict[str, str], order: list[str]) -> Iterator[str]:
    """Every import in a package that does not point down."""
    for module in sources.keys() - {package}:  # __init__ stands on top of its package
        own = layer_of(module, order)
        if own is None:
            yield f"{module}: not in the order: add it to ORDER[{package!r}] in {Path(__file__).name}"
            continue
        is_package = any(other.startswith(f"{module}.") for other in sources)
        for found in imports_of(module, sources[module], is_package=is_package):
            fault = fault_of_import(package, own, found, order)
            if fault:
                yield f"{module}:{found.line}: {fault}"


def fault_of_import(package: str, own: tuple[int, str], found: Import, order: list[str]) -> str | None:
    """What is wrong with an import by a module which stands at `own`."""
    if found.top in ORDER.keys() - BELOW[package] - {package}:
        return f"{package} never imports {found.top}"
    if found.top != package or found.types_only:
        return None
    other = layer_of(found.name, order)
    if other is None:
        return f"imports {found.name}, but the order has no such module"
    if other == own or other[0] < own[0]:
        return None
    return f"imports {other[1]}, which stands {'beside' if other[0] == own[0] else 'above'} {own[1]}"


def actions(module: str, source: str) -> Iterator[str]:
    """Everything in a module that does more than decide: I/O, waiting, the clock, chance."""
    for found in imports_of(module, source):
        if found.top in IO_MODULES:
            yield f"{module}:{found.line}: imports {found.top}"
        elif found.top == "random" and found.name not in ("random", "random.Random"):
            yield f"{module}:{found.line}: imports {found.name}: be given a random.Random"
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
                yield f"{module}:{node.lineno}: waits"
            case ast.Attribute(value=ast.Name(id="random"), attr=attr) if attr != "Random":
                yield f"{module}:{node.lineno}: uses random.{attr}: be given a random.Random"
            case ast.Call(func=ast.Name(id=name)) if name in IO_CALLS:
                yield f"{module}:{node.lineno}: calls {name}"
            case ast.Call(func=ast.Attribute(value=ast.Name(id="random"), attr="Random") | ast.Name(id="Random")):
                yield f"{module}:{node.lineno}: makes a random generator: be given one"
            case ast.Call(func=ast.Attribute(attr=attr)) if attr in CLOCK_METHODS:
                yield f"{module}:{node.lineno}: reads a clock: be given the time"


def backends_named(module: str, source: str) -> Iterator[str]:
    """Every import of a backend in a module."""
    for found in imports_of(module, source):
        if found.top in BACKENDS:
            yield f"{module}:{found.line}: imports {found.name}, which only {sorted(MAY_NAME_BACKENDS)} may"


ALL_MODULES = {**modules_of("actors"), **modules_of("engine")}


@pytest.mark.parametrize("package", ORDER)
def test_the_order_names_only_what_is_there(package: str) -> None:
    there = {module.partition(".")[2] for module in modules_of(package)}

    assert {name for line in ORDER[package] for name in line.split()} <= there


@pytest.mark.parametrize("package", ORDER)
def test_imports_point_down(package: str) -> None:
    faults = sorted({*wrong_directions(package, modules_of(package), ORDER[package])})

    assert not faults, "\n".join(faults)


def test_the_decision_core_does_nothing_but_decide() -> None:
    core = {module: source for module, source in ALL_MODULES.items() if module in DECISION_CORE}
    faults = [fault for module, source in core.items() for fault in actions(module, source)]

    assert not faults, "\n".join(faults)


def test_only_the_waker_and_the_testing_tools_know_a_backend() -> None:
    others = {module: source for module, source in ALL_MODULES.items() if module not in MAY_NAME_BACKENDS}
    faults = [fault for module, source in others.items() for fault in backends_named(module, source)]

    assert not faults, "\n".join(faults)


# The rest shows that the tests above can fail.


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("from .high import High", "imports high, which stands above low"),
        ("from . import high", "imports high, which stands above low"),
        ("import engine.high", "imports high, which stands above low"),
        ("from engine.high import High", "imports high, which stands above low"),
        ("def f():\n    from .high import High", "low:2: imports high"),
        ("if TYPE_CHECKING: ...\nelse:\n    from .high import High", "low:3: imports high"),
        ("if not TYPE_CHECKING:\n    from .high import High", "low:2: imports high"),
        ("from .left import Left", "imports left, which stands above low"),
        ("from engine import High", "imports engine.High, but the order has no such module"),
    ],
)
def test_an_import_of_what_stands_above_is_found(source: str, complaint: str) -> None:
    sources = {"engine": "", "engine.low": source, "engine.high": "", "engine.left": "", "engine.right": ""}

    (found,) = wrong_directions("engine", sources, ["low", "left right", "high"])

    assert complaint in found


def test_an_import_of_a_sibling_is_found() -> None:
    (found,) = wrong_directions("engine", {"engine.right": "from .left import Left"}, ["low", "left right"])

    assert found == "engine.right:1: imports left, which stands beside right"


@pytest.mark.parametrize(
    "source",
    ["import engine.graph", "from engine import Graph", "if typing.TYPE_CHECKING: from engine import Graph"],
)
def test_an_import_of_the_engine_by_the_actors_is_found(source: str) -> None:
    (found,) = wrong_directions("actors", {"actors.ref": source}, ["ref"])

    assert found == "actors.ref:1: actors never imports engine"


def test_imports_that_point_down_are_left_alone() -> None:
    sources = {
        "engine": "from .high import High",
        "engine.high": "import math\nfrom actors import ActorRef\nfrom .low import Low\nfrom . import left",
        "engine.stores": "from ..low import Low\nfrom .. import left",
        "engine.stores.memory": "from ..low import Low\nfrom .sqlite import rows",
        "engine.stores.sqlite": "import engine.low",
        "engine.left": "",
        "engine.low": "if TYPE_CHECKING:\n    from .high import High",
    }

    assert list(wrong_directions("engine", sources, ["low", "left", "stores", "high"])) == []


def test_a_module_outside_the_order_is_found_with_the_cure() -> None:
    (found,) = wrong_directions("actors", {"actors": "", "actors.surprise": ""}, ["ref"])

    assert found == "actors.surprise: not in the order: add it to ORDER['actors'] in test_layers.py"


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "import os.path",
        "from time import monotonic",
        "def f():\n    import sqlite3",
        "async def f(): ...",
        "import random\nrandom.random()",
        "from random import choice",
        "import random\nrandom.Random()",
        "from random import Random\nRandom(1)",
        "print(1)",
        "open('x')",
        "import datetime\ndatetime.datetime.now()",
    ],
)
def test_a_core_that_acts_is_found(source: str) -> None:
    assert len(list(actions("engine.runs", source))) == 1


def test_a_core_that_decides_is_left_alone() -> None:
    source = "import math\nimport random\nfrom .plan import Plan\ndef jitter(r: random.Random): return r.random()"

    assert list(actions("engine.runs", source)) == []


@pytest.mark.parametrize("source", ["import asyncio", "from trio.lowlevel import Task", "def f(): import uvloop"])
def test_a_module_that_knows_a_backend_is_found(source: str) -> None:
    assert len(list(backends_named("engine.scheduler", source))) == 1


def test_every_module_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "engine" / "stores").mkdir(parents=True)
    for name in ("__init__.py", "plan.py", "stores/__init__.py", "stores/sqlite.py"):
        (tmp_path / "engine" / name).touch()

    assert modules_of("engine", tmp_path).keys() == {
        "engine",
        "engine.plan",
        "engine.stores",
        "engine.stores.sqlite",
    }
