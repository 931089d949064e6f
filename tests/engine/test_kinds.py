"""What is known of values by the types and schemas that declare them; what is not known may be anything."""

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NewType, NotRequired, TypedDict

import pytest
from attrs import frozen

from engine import Reduce
from engine.kinds import Kind, either, kind_of, kind_of_type, may_be_ordered, may_equal

UserId = NewType("UserId", int)


class Order(TypedDict):
    total: float
    tags: NotRequired[list[str]]


@frozen
class Tree:
    """Contains itself."""

    name: str
    left: "Tree | None" = None


@dataclasses.dataclass
class Point:
    x: int


class Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    ("tp", "said"),
    [
        (int, "a number"),
        (float, "a number"),
        (bool, "a boolean"),
        (str, "a string"),
        (None, "None"),
        (list[int], "a list"),
        (tuple[int, ...], "a tuple"),
        (frozenset[str], "a set"),
        (dict[str, int], "an object"),
        (Mapping[str, int], "an object"),
        (Order, "an object"),
        (Tree, "an object"),
        (Point, "an object"),
        (UserId, "a number"),
        (Annotated[list[int], Reduce(list.__add__)], "a list"),
        (Literal["a", 1], "a number or a string"),
        (int | str | None, "a number, a string or None"),
        (Colour, "anything"),
        (Sequence[int], "anything"),
        (Any, "anything"),
        ("Unknown", "anything"),
        (int | Any, "anything"),
    ],
)
def test_the_kind_of_a_python_type(tp: Any, said: str) -> None:
    assert str(kind_of_type(tp)) == said


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ("number", "a number"),
        ("array", "a list"),
        ("object", "an object"),
        ("null", "None"),
        ("any", "anything"),
        ("what is this", "anything"),
        (None, "anything"),
        ({}, "anything"),
        ({"type": "integer", "default": 0}, "a number"),
        ({"type": ["string", "null"]}, "a string or None"),
        ({"type": []}, "anything"),
        ({"type": 5}, "anything"),
        (int, "a number"),
        (Kind(frozenset({"set"})), "a set"),
    ],
)
def test_the_kind_of_what_json_declares(declared: Any, said: str) -> None:
    assert str(kind_of(declared)) == said


def test_keys_are_known_down_to_where_a_type_contains_itself() -> None:
    kind = kind_of_type(Tree)

    for _ in range(5):
        assert kind.keys is not None
        assert str(kind.keys()["name"]) == "a string"
        kind = kind.keys()["left"]


def test_items_of_a_union_are_of_any_of_its_lists() -> None:
    kind = kind_of_type(list[int] | tuple[str, ...] | None)

    assert kind.items is not None
    assert str(kind.items()) == "a number or a string"


def test_items_are_not_known_if_one_list_does_not_tell_them() -> None:
    assert kind_of_type(list[int] | tuple[Any]).items is not None
    assert either([kind_of("array"), kind_of_type(list[int])]).items is None


def test_keys_of_a_union_of_two_classes_are_not_known() -> None:
    assert kind_of_type(Tree | Point).keys is None
    assert kind_of_type(Tree | None).keys is not None


@pytest.mark.parametrize(
    ("schema", "closed"),
    [
        ({"type": "object", "properties": {"a": {"type": "string"}}}, False),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}, True),
    ],
)
def test_an_object_of_json_is_open_unless_it_says_otherwise(schema: Any, closed: bool) -> None:
    kind = kind_of(schema)

    assert kind.keys is not None
    assert (str(kind.keys()["a"]), kind.closed) == ("a string", closed)


def test_what_may_be_equal_or_ordered() -> None:
    number, string, boolean, none, anything = map(kind_of, ("number", "string", "boolean", "null", "any"))

    assert may_be_ordered(number, kind_of("integer"))
    assert may_be_ordered(number, anything)
    assert not may_be_ordered(number, string)
    assert not may_be_ordered(number, boolean)
    assert not may_be_ordered(number, none)
    assert may_equal(number, boolean)
    assert may_equal(string, none)
    assert not may_equal(number, string)
