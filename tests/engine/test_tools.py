"""Registries of tools: names, versions, what is read from signatures, and what is refused."""

import dataclasses
import datetime
import enum
import functools
import json
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import attrs
import pytest

from engine import Context, Tool, ToolBox, ToolConflict, ToolInvalid, ToolRegistry, UnknownTool, get_tool_registry, tool
from engine.tools import version_order


@pytest.fixture
def registry() -> ToolRegistry:
    return ToolRegistry()


@pytest.fixture
def process_wide() -> Iterator[ToolRegistry]:
    registry = get_tool_registry()
    before = registry.current
    registry.replace(type(before)(before.tools()))
    yield registry
    registry.replace(before)


class Mode(enum.Enum):
    FAST = "fast"
    SAFE = "safe"


class Range(TypedDict):
    low: float
    high: NotRequired[float]


@attrs.frozen
class Rule:
    column: str
    inner: "Rule | None" = None
    tags: list[str] = attrs.Factory(list)


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


def clean(state: dict[str, Any], limit: int = 3) -> dict[str, Any]:
    """Cleans rows.

    In more words.
    """
    return {"limit": limit}


# --- registering ------------------------------------------------------------------------------------------


def test_a_bare_decorator_leaves_the_function_as_it_is(process_wide: ToolRegistry) -> None:
    @tool
    def double(x: int) -> int:
        return 2 * x

    assert double(4) == 8
    assert vars(double) == {}
    assert process_wide.find("double").function is double


def test_options_give_name_description_and_version(registry: ToolRegistry) -> None:
    @tool("clean_rows", "Takes out rows.", "2.1", registry=registry)
    def first() -> None: ...

    @registry.tool(description="", version=3)
    def second() -> None:
        """Not this."""

    assert [(t.id, t.description) for t in registry.tools()] == [
        ("clean_rows@2.1", "Takes out rows."),
        ("second@3", ""),
    ]


def test_the_description_is_the_first_line_of_the_docstring(registry: ToolRegistry) -> None:
    assert registry.add(clean).description == "Cleans rows."
    assert registry.add(lambda: None, name="none").description == ""
    assert registry.add(functools.partial(clean, limit=1), name="part").description == "Cleans rows."


def test_calling_a_tool_calls_its_function(registry: ToolRegistry) -> None:
    assert registry.add(clean)({}, limit=5) == {"limit": 5}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": ""}, "cannot be the name"),
        ({"name": "a b"}, "without spaces and '@'"),
        ({"name": "a@1"}, "without spaces and '@'"),
        ({"name": 5}, "cannot be the name"),
        ({"version": ""}, "cannot be a version"),
        ({"version": True}, "cannot be a version"),
        ({"version": 1.5}, "cannot be a version"),
        ({"description": 5}, "description must be text"),
    ],
    ids=str,
)
def test_a_wrong_name_version_or_description_is_refused(options: Any, said: str, registry: ToolRegistry) -> None:
    with pytest.raises(ToolInvalid, match=said):
        registry.add(clean, **options)


def generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("function", "said"),
    [(5, "no function"), ("clean", "no function"), (lambda: None, "no name of its own"), (generator, "is a generator")],
    ids=["number", "text", "lambda", "generator"],
)
def test_what_cannot_be_a_tool_is_refused(function: Any, said: str, registry: ToolRegistry) -> None:
    with pytest.raises(ToolInvalid, match=said):
        registry.add(function)


def test_the_same_function_again_is_the_same_tool(registry: ToolRegistry) -> None:
    assert registry.add(clean) is registry.add(clean)


def test_another_function_of_the_same_name_and_version_is_refused_with_both_places(registry: ToolRegistry) -> None:
    registry.add(clean)
    with pytest.raises(ToolConflict) as caught:
        registry.add(Point, name="clean")

    error = caught.value
    assert (error.name, error.version) == ("clean", "1")
    assert "test_tools.clean (" in error.places[0]
    assert __file__ in error.places[0]
    assert error.places[1].endswith("test_tools.Point")
    assert registry.find("clean").function is clean


def test_two_functions_of_one_name_in_a_module_are_two(registry: ToolRegistry) -> None:
    source = "@registry.tool\ndef f(): ...\n@registry.tool\ndef f(): ...\n"
    with pytest.raises(ToolConflict, match="twice"):
        exec(compile(source, "twice.py", "exec"), {"registry": registry, "__name__": "twice"})


def test_a_function_defined_anew_takes_its_place_and_who_began_with_it_keeps_it(registry: ToolRegistry) -> None:
    scope = {"registry": registry, "__name__": "cell"}
    for result in (1, 2):
        held = registry.current
        exec(compile(f"@registry.tool\ndef f(): return {result}\n", "cell.py", "exec"), scope)

    assert held.find("f")() == 1
    assert registry.find("f")() == 2


def test_a_factory_in_a_test_may_define_its_tool_again(registry: ToolRegistry) -> None:
    def define(result: int) -> None:
        @registry.tool
        def f() -> int:
            return result

    define(1)
    define(2)

    assert registry.find("f")() == 2


def test_a_tool_may_be_removed_in_one_version_or_in_all(registry: ToolRegistry) -> None:
    for version in (1, 2, 3):
        registry.add(clean, version=version)

    registry.remove("clean", "3")
    assert registry.find("clean").version == "2"
    registry.remove("clean@1")
    assert [t.id for t in registry.tools()] == ["clean@2"]
    registry.remove("clean")
    assert len(registry) == 0
    with pytest.raises(UnknownTool):
        registry.remove("clean")


def test_tools_may_be_registered_from_many_threads(registry: ToolRegistry) -> None:
    def register(start: int) -> None:
        for number in range(start, start + 50):
            registry.add(clean, name=f"t{number}")

    threads = [threading.Thread(target=register, args=(50 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(registry) == 400


# --- finding ----------------------------------------------------------------------------------------------


def test_without_a_version_the_newest_is_found(registry: ToolRegistry) -> None:
    for version in ("1.9", "1.10", "1.2"):
        registry.add(clean, version=version)

    assert registry.find("clean").version == "1.10"
    assert registry.find("clean", "1.2") is registry.find("clean@1.2")
    assert [t.version for t in registry.tools()] == ["1.2", "1.9", "1.10"]
    assert "clean" in registry
    assert "clean@1.9" in registry
    assert "clean@7" not in registry
    assert registry.get("clean", "7") is None
    assert list(registry) == ["clean"]


def test_versions_are_ordered_by_their_numbers() -> None:
    order = ["1.0rc1", "1", "1.2-beta", "1.2", "1.10", "2024-05-01", "2024-11-01"]

    assert sorted(order, key=version_order) == order
    assert version_order("v2.0") == version_order("2")


def test_an_unknown_tool_gets_a_hint(registry: ToolRegistry) -> None:
    registry.add(clean)
    with pytest.raises(UnknownTool, match="no tool is called 'clena'; did you mean 'clean'") as caught:
        registry.find("clena")

    assert (caught.value.name, caught.value.version, caught.value.versions) == ("clena", None, ())


def test_a_missing_version_says_which_are_there(registry: ToolRegistry) -> None:
    registry.add(clean, version="1")
    registry.add(clean, version="2")
    for missing in (("clean", "3"), ("clean@3",)):
        with pytest.raises(UnknownTool, match="tool 'clean' has no version '3'; there are '1', '2'") as caught:
            registry.find(*missing)

    assert caught.value.versions == ("1", "2")


# --- what is read from a signature ------------------------------------------------------------------------


def parameters(function: Any) -> dict[str, Any]:
    return ToolRegistry().add(function, name="f").parameters


def test_types_defaults_and_what_is_required_are_told() -> None:
    def f(
        state: dict[str, Any],
        ctx: Context,
        rate: float,
        names: list[str],
        mode: Mode = Mode.FAST,
        how: Literal["a", "b"] = "a",
        when: datetime.datetime | None = None,
        count: Annotated[int, "how many"] = 3,
        *,
        pair: tuple[int, str] = (1, "x"),
        tags: set[str] = frozenset(),  # type: ignore[assignment]
        path: Path = Path("/tmp"),
        by_name: dict[str, Decimal] | None = None,
    ) -> None: ...

    found = parameters(f)

    assert found["required"] == ["rate", "names"]
    assert found["additionalProperties"] is False
    assert found["properties"] == {
        "rate": {"type": "number"},
        "names": {"type": "array", "items": {"type": "string"}},
        "mode": {"enum": ["fast", "safe"], "title": "Mode", "default": "fast"},
        "how": {"enum": ["a", "b"], "default": "a"},
        "when": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}], "default": None},
        "count": {"type": "integer", "description": "how many", "default": 3},
        "pair": {
            "type": "array",
            "minItems": 2,
            "maxItems": 2,
            "prefixItems": [{"type": "integer"}, {"type": "string"}],
            "default": [1, "x"],
        },
        "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "default": []},
        "path": {"type": "string", "format": "path", "default": "/tmp"},
        "by_name": {
            "anyOf": [
                {"type": "object", "additionalProperties": {"type": ["string", "number"], "format": "decimal"}},
                {"type": "null"},
            ],
            "default": None,
        },
    }


def test_classes_are_defined_once_and_may_contain_themselves() -> None:
    def f(rule: Rule, others: list[Rule], area: Range, *points: Point, point: Point = Point(1)) -> None: ...  # noqa: B008

    found = parameters(f)

    assert found["properties"]["others"] == {"type": "array", "items": {"$ref": "#/$defs/Rule"}}
    assert found["properties"]["point"] == {"$ref": "#/$defs/Point", "default": {"x": 1, "y": 0}}
    assert found["$defs"]["Rule"]["properties"]["inner"] == {
        "anyOf": [{"$ref": "#/$defs/Rule"}, {"type": "null"}],
        "default": None,
    }
    assert found["$defs"]["Rule"]["required"] == ["column"]
    assert found["$defs"]["Range"]["required"] == ["low"]


def test_what_has_no_form_as_data_is_shown_by_its_name() -> None:
    def f(lock: threading.Event, default: Any = object(), number: float = float("nan")) -> None: ...  # noqa: B008

    assert parameters(f)["properties"] == {"lock": {"title": "Event"}, "default": {}, "number": {"type": "number"}}


def test_annotations_may_name_what_is_defined_later(registry: ToolRegistry) -> None:
    @registry.tool
    def f(later: "Later") -> "Later": ...  # type: ignore[empty-body]

    class Later(TypedDict):
        x: int

    # Names inside of a function are those that are there when it is marked; of a module all count.
    assert registry.find("f").parameters["properties"] == {"later": {}}
    scope = {"registry": registry, "__name__": "later"}
    exec("@registry.tool\ndef g(later: 'Later'): ...\nclass Later: ...", scope)
    assert registry.find("g").parameters["properties"] == {"later": {"title": "Later"}}


@pytest.mark.parametrize(
    ("function", "state", "names"),
    [
        (lambda state, x: 0, "state", ["x"]),
        (lambda x, state: 0, "state", ["x"]),
        (lambda x: 0, None, ["x"]),
        (lambda: 0, None, []),
        (clean, "state", ["limit"]),
        (lambda state, params: 0, "state", []),
        (dict.fromkeys, None, []),
        (min, None, []),
    ],
    ids=["state", "state later", "other name", "none", "annotated", "params", "no signature", "builtin"],
)
def test_the_state_is_no_parameter(function: Any, state: str | None, names: list[str], registry: ToolRegistry) -> None:
    found = registry.add(function, name="f")

    assert found.state == state
    if names or state:
        assert list(found.parameters["properties"]) == names


def test_a_first_parameter_annotated_with_a_state_type_is_the_state(registry: ToolRegistry) -> None:
    def reads(rule: Rule, point: Point) -> None: ...
    def counts(number: int) -> None: ...
    def draws(point: Point) -> None: ...

    assert [registry.add(f).state for f in (reads, counts, draws)] == ["rule", None, None]


def test_a_tool_that_takes_anything_says_so() -> None:
    assert parameters(lambda **more: 0)["additionalProperties"] is True
    assert parameters(lambda params: 0)["additionalProperties"] is True


def test_a_tool_as_data_is_json(registry: ToolRegistry) -> None:
    @registry.tool(version=2)
    async def fetch(state: dict[str, Any], url: str) -> list[int]:
        """Fetches."""
        return []

    assert json.loads(json.dumps(registry.find("fetch").to_dict())) == {
        "name": "fetch",
        "version": "2",
        "description": "Fetches.",
        "is_async": True,
        "takes_state": True,
        "parameters": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {"url": {"type": "string"}},
            "required": ["url"],
            "additionalProperties": False,
        },
        "returns": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "array",
            "items": {"type": "integer"},
        },
    }


def test_whatever_can_be_called_may_be_a_tool(registry: ToolRegistry) -> None:
    class Scaler:
        def __init__(self, by: int) -> None:
            self.by = by

        async def __call__(self, state: Any, offset: int) -> int:
            return self.by * offset

        def scale(self, x: int) -> int:
            return self.by * x

    scaler = Scaler(3)
    called = registry.add(scaler, name="scaler")
    registry.add(scaler.scale)
    registry.add(functools.partial(clean, limit=5), name="some")

    assert called.is_async
    assert list(called.parameters["properties"]) == ["offset"]
    assert registry.find("scale")(4) == 12
    assert registry.find("some")({}) == {"limit": 5}


# --- by hand, without an engine ---------------------------------------------------------------------------


async def test_a_node_may_be_tested_with_a_box_of_tools(registry: ToolRegistry) -> None:
    registry.add(clean)

    @registry.tool
    async def twice(x: int, ctx: Context) -> int:
        assert ctx.tools.names() == ["clean", "twice"]
        return 2 * x

    context = Context(tools=ToolBox(registry))

    assert await context.tools.call("clean", {}, limit=4) == {"limit": 4}
    assert await context.tools.call("twice", x=4) == 8
    assert ("clean" in context.tools, "x" in context.tools, len(context.tools)) == (True, False, 2)
    assert isinstance(context.tools.get("clean"), Tool)
