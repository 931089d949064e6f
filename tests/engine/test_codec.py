"""Values come back from bytes as they were, or are refused with their path; bytes that are damaged do no harm."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import enum
import json
import math
import random
import socket
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path, PureWindowsPath
from types import ModuleType
from typing import Any

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.classes import class_named
from engine.codec import pack, unpack
from engine.encoding import MAX_DEPTH
from engine.errors import ClassChanged, Damaged, NotStorable
from engine.schema import LentDict
from tests.stored_values import EXAMPLES, Account, Box, Color, Loose, Order, Plain, Point, alike, values

# hypothesis spells out a recursive strategy when it checks it, and warns that this is long.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

FORMATS = Path(__file__).parent / "journal_formats"


# --- there and back -------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(values)
@example([{"a": math.nan, "b": 1}] * 10)
@example([{"a": 1.5, "$": None}] * 10)
@example([{"a": 2**70}] * 10)
@example([{"a": "\ud800"}] * 10)
@example([1.5, math.inf])
@example([None, math.nan])
@example({"$": {"$": "$"}})
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    assert alike(unpack(pack(value)), value)


@settings(deadline=None, max_examples=50)
@given(values)
def test_packing_changes_nothing(value: Any) -> None:
    before = pack(value)

    assert pack(value) == before


def test_the_order_of_a_dict_is_kept() -> None:
    value = {"b": (1,), "a": 2, "c": {3: 1, "x": 2, 1: 3}}

    again = unpack(pack(value))

    assert list(again) == ["b", "a", "c"]
    assert list(again["c"]) == [3, "x", 1]


def test_plain_json_is_written_as_it_is() -> None:
    assert pack({"a": [1, 2.5, "x", None, True], "b": {}}) == b'{"a":[1,2.5,"x",null,true],"b":{}}'


def test_a_dict_that_the_engine_has_lent_comes_back_as_a_dict() -> None:
    assert alike(unpack(pack({"state": LentDict(a=1)})), {"state": {"a": 1}})


def test_an_object_is_made_again_without_its_constructor() -> None:
    order = Order(1, lines=(1,))
    object.__setattr__(order, "id", -1)

    assert unpack(pack(order)).id == -1


def test_a_cached_hash_and_a_cached_property_are_worked_out_anew() -> None:
    value = Loose("x", ())
    hash(value), value.shout

    again = unpack(pack(value))

    assert "shout" not in vars(again)
    assert (again.shout, hash(again)) == ("X", hash(value))


def test_an_object_of_a_generic_class_comes_back() -> None:
    assert unpack(pack(Box[int](1))) == Box(1)


def test_nesting_up_to_the_limit_comes_back() -> None:
    value: Any = 1.5
    for depth in range(MAX_DEPTH):
        value = (value,) if depth % 2 else {1: value}

    assert alike(unpack(pack(value)), value)


def test_integers_may_have_more_digits_than_python_reads() -> None:
    assert unpack(pack(10**10_000)) == 10**10_000


# --- what is refused ------------------------------------------------------------------------------------


class Words(list[str]):
    pass


class Slotted:
    __slots__ = ("handle",)


@attrs.define
class Odd(Slotted):
    x: int = 0


@attrs.define
class Titles(dict[str, Any]):
    x: int = 0


@attrs.define(slots=False)
class Open:
    x: int = 0


class Opaque:
    pass


def iter_nothing() -> Iterator[None]:
    yield


class Array:
    def tolist(self) -> list[int]:
        return [1]


class Model:
    def model_dump(self) -> dict[str, int]:
        return {}


def with_stray() -> Open:
    value = Open()
    value.stray = 1  # type: ignore[attr-defined]
    return value


def local() -> Any:
    @attrs.frozen
    class Local:
        pass

    return Local()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"rows": [0, 1, 2, {"a": Plain(Opaque())}]}, "['rows'][3]['a'].a: an Opaque cannot be kept in a store"),
        ([(1, [Point(1, Opaque())])], "[0][1][0].y: an Opaque"),
        ({1: [Opaque()]}, "[1 (int)][0]: an Opaque"),
        ({("a", 1): {Opaque(): 1}}, " (the key <"),
        ({frozenset({Words}): 1}, "(in a frozenset): a type"),
        ([[1.5] * 9 + [Opaque()]], "[0][9]: an Opaque"),
        ([{"a": 1}] * 9 + [{"a": Opaque()}], "[9]['a']: an Opaque"),
        (collections.defaultdict(list), "a defaultdict cannot be kept in a store; turn it into a plain dict"),
        (collections.OrderedDict(), "an OrderedDict cannot be kept in a store; turn it into a plain dict"),
        (Words(), "a Words cannot be kept in a store; turn it into a plain list"),
        (sys.version_info, "turn it into a plain tuple"),
        (enum.property, "a type cannot"),
        (lambda: 1, "a function cannot be kept in a store; return plain data, or keep what it takes to open it again"),
        (iter_nothing(), "a generator"),
        (ValueError("x"), "keep its message, or raise it"),
        (Odd(), "its base Slotted has the slot 'handle': make that a field"),
        (Titles(), "it extends a built-in type: make that a field"),
        (with_stray(), "an Open with an attribute 'stray' that is no field"),
        (local(), "define local.<locals>.Local at the top level"),
        (PureWindowsPath("//a/"), "a PureWindowsPath that its text does not stand for"),
        (Array(), "with .tolist()"),
        (Model(), "with .model_dump(), or make it an attrs class"),
        (object.__new__(Account), "._owner: a field that was never set"),
    ],
)
def test_what_would_not_come_back_is_refused_with_its_path(value: Any, says: str) -> None:
    with pytest.raises(NotStorable) as caught:
        pack(value)

    assert says in str(caught.value)


def test_a_refusal_has_its_facts() -> None:
    with socket.socket() as open_socket, pytest.raises(NotStorable) as caught:
        pack([{"handle": open_socket}], "rows", owner="node 'grade'")

    assert (caught.value.path, caught.value.what, caught.value.owner) == (
        "rows[0]['handle']",
        "a socket",
        "node 'grade'",
    )
    assert str(caught.value) == (
        "node 'grade': rows[0]['handle']: a socket cannot be kept in a store; "
        "return plain data, or keep what it takes to open it again"
    )
    assert isinstance(caught.value, TypeError)


def test_a_value_that_contains_itself_is_refused_with_its_path() -> None:
    value: dict[str, Any] = {"a": 1, "b": [0]}
    value["b"].append(Plain(value["b"]))

    with pytest.raises(NotStorable, match=r"^state\['b'\]\[1\]\.a: a value that contains itself cannot be kept"):
        pack(value, "state")


@pytest.mark.parametrize(
    "wrap",
    [lambda v: [v], lambda v: (v,), lambda v: {"a": v}, lambda v: {1: v}, Order],
    ids=["list", "tuple", "dict", "pairs", "object"],
)
def test_a_value_that_is_nested_too_deep_is_refused(wrap: Any) -> None:
    value: Any = 1.5
    for _ in range(MAX_DEPTH + 20):
        value = wrap(value)

    with pytest.raises(NotStorable, match="nested more than 100 deep"):
        pack(value)


# --- classes that are not what they were ----------------------------------------------------------------


@pytest.fixture
def shop() -> Iterator[ModuleType]:
    """A module that can be changed behind the codec's back."""
    module = ModuleType("shop_of_tests")
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def with_context(value: Any, owner: Any, field: Any) -> Any:
    return value, owner.a, field.name


def define(module: ModuleType, cls: type) -> type:
    cls.__module__, cls.__qualname__ = module.__name__, cls.__name__
    setattr(module, cls.__name__, cls)
    return cls


def test_a_class_of_a_module_that_is_not_imported_is_named_with_the_cure() -> None:
    with pytest.raises(ClassChanged) as caught:
        unpack(b'{"$":"shop.orders:Order","id":1}')

    assert str(caught.value) == (
        "a stored value is of the class 'Order' of 'shop.orders', which is not here; "
        "import shop.orders before the engine starts"
    )
    assert caught.value.name == "shop.orders:Order"


def test_a_class_that_is_gone_from_its_module_is_named() -> None:
    with pytest.raises(ClassChanged, match=r"'Gone' of .*, which is not here"):
        unpack(b'{"$":"engine.values:Gone"}')


def test_a_field_that_is_new_takes_its_default(shop: ModuleType) -> None:
    data = b'{"$":"shop_of_tests:Item","a":1}'
    rich: Any = attrs.Converter  # its types do not know all it takes
    define(
        shop,
        attrs.make_class(
            "Item",
            {
                "a": attrs.field(),
                "b": attrs.field(factory=list),
                "c": attrs.field(default=attrs.Factory(lambda self: self.a + 1, takes_self=True)),
                "d": attrs.field(default="7", converter=int),
                "e": attrs.field(
                    default=1,
                    converter=rich(lambda v, self, field: (v, self.a, field.name), takes_self=True, takes_field=True),
                ),
                "f": attrs.field(init=False),
            },
        ),
    )

    item = unpack(data)

    assert (item.a, item.b, item.c, item.d, item.e) == (1, [], 2, 7, (1, 1, "e"))
    assert not hasattr(item, "f")


def test_a_new_field_of_a_dataclass_or_a_named_tuple_takes_its_default(shop: ModuleType) -> None:
    define(
        shop,
        dataclasses.make_dataclass("Data", ["a", ("b", Any, 5), ("c", Any, dataclasses.field(default_factory=list))]),
    )
    define(shop, collections.namedtuple("Pair", "x y", defaults=[2]))

    assert (unpack(b'{"$":"shop_of_tests:Data","a":1}').b, unpack(b'{"$":"shop_of_tests:Data","a":1}').c) == (5, [])
    assert unpack(b'{"$":"shop_of_tests:Pair","x":1}') == (1, 2)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (
            b'{"$":"tests.stored_values:Order"}',
            "nothing for the field 'id', which the class has now; give it a default",
        ),
        (b'{"$":"tests.stored_values:Order","id":1,"gone":2}', "has a field 'gone', which the class has no more"),
        (b'{"$":"tests.stored_values:Point","y":2}', "nothing for the field 'x'"),
        (b'{"$":"tests.stored_values:Color","name":"GREEN"}', "stored_values:Color.GREEN is no member"),
        (b'{"$":"tests.stored_values:Color","value":77}', "has the value 77, which no member has"),
        (b'{"$":"tests.stored_values:Perm","value":77}', "stored_values:Perm has the value 77"),
        (b'{"$":"collections:OrderedDict"}', "is no enum, attrs class, dataclass or named tuple"),
        (b'{"$":"socket:socket"}', "is no enum, attrs class, dataclass or named tuple"),
        (b'{"$":"os:system"}', "which is not here"),
        (b'{"$":"tests.stored_values:"}', "which is not here"),
    ],
)
def test_a_class_that_has_changed_is_named_with_what_is_wrong(data: bytes, says: str) -> None:
    with pytest.raises(ClassChanged) as caught:
        unpack(data)

    assert says in str(caught.value)


def test_no_code_runs_to_find_a_class(shop: ModuleType) -> None:
    def loud(name: str) -> Any:
        raise AssertionError(f"asked for {name}")

    shop.__getattr__ = loud  # type: ignore[method-assign]

    assert class_named("shop_of_tests:Item") is None
    assert class_named("not_imported_by_tests:Item") is None
    assert class_named("tests.stored_values:Outer.Inner") is not None


def test_a_flag_is_made_without_the_code_of_its_class(shop: ModuleType) -> None:
    class Loud(enum.IntFlag):
        A = 1
        B = 2

        @classmethod
        def _missing_(cls, value: object) -> Any:
            raise AssertionError("called")

    define(shop, Loud)

    assert int(unpack(b'{"$":"shop_of_tests:Loud","value":3}')) == 3


# --- damage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 2000,
        b"[" * 1010 + b'{"$":"tuple","of":[]}' + b"]" * 1010,
        b'{"$":1}',
        b'{"$":null}',
        b'{"$":"nothing"}',
        b'{"$":"tuple"}',
        b'{"$":"tuple","of":1}',
        b'{"$":"tuple","of":[],"more":1}',
        b'{"$":"set","of":[[]]}',
        b'{"$":"dict","of":[1]}',
        b'{"$":"dict","of":[[],1]}',
        b'{"$":"int","of":"__import__"}',
        b'{"$":"int","of":7}',
        b'{"$":"float","of":"1"}',
        b'{"$":"float","of":[]}',
        b'{"$":"str","of":"!"}',
        b'{"$":"bytes","of":"abc"}',
        b'{"$":"datetime","of":"yesterday"}',
        b'{"$":"datetime","of":"2024-01-01T00:00:00","tz":3}',
        b'{"$":"datetime","of":"2024-01-01T00:00:00","fold":"x"}',
        b'{"$":"timedelta","of":[1]}',
        b'{"$":"timedelta","of":[99999999999,0,0]}',
        b'{"$":"timezone","of":[5,0,0]}',
        b'{"$":"ZoneInfo","of":"../../etc/passwd"}',
        b'{"$":"ZoneInfo","of":"Middle/Earth"}',
        b'{"$":"ZoneInfo","of":"Europe"}',
        b'{"$":"Decimal","of":"x"}',
        b'{"$":"Decimal","of":1.5}',
        b'{"$":"Fraction","of":[1,0]}',
        b'{"$":"UUID","of":"x"}',
        b'{"$":"range","of":[1,2,0]}',
        b'{"$":"complex","of":[1]}',
        b'{"$":"signal","name":1,"payload":2}',
        b'{"$":"item_error","index":"x","type":"","message":""}',
        b'{"$":"tests.stored_values:Color"}',
        b'{"$":"tests.stored_values:Color","name":["RED"]}',
    ],
)
def test_what_the_engine_does_not_write_is_damaged(data: bytes) -> None:
    with pytest.raises(Damaged) as caught:
        unpack(data)

    assert isinstance(caught.value, ValueError)


@settings(deadline=None, max_examples=150)
@given(values, st.randoms(use_true_random=False))
def test_damaged_bytes_give_a_clear_error_or_some_value(value: Any, random: random.Random) -> None:
    data = bytearray(pack(value))
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(data) + 1)
        data[at : at + random.randint(0, 2)] = random.choice(
            [b"", b"$", b'"', b"0", b":", b"]", b"{", b"\xff", b"os:system"]
        )

    with contextlib.suppress(Damaged, ClassChanged):
        unpack(bytes(data))


# --- the format -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", sorted(FORMATS.glob("v*/values.json")), ids=lambda file: file.parent.name)
def test_what_an_earlier_version_wrote_can_be_read(file: Path) -> None:
    written = json.loads(file.read_text())

    assert written.keys() == EXAMPLES.keys()
    for name, text in written.items():
        assert alike(unpack(text.encode()), EXAMPLES[name]), name


def test_the_format_is_the_newest_that_is_checked_in() -> None:
    file = max(FORMATS.glob("v*/values.json"), key=lambda file: int(file.parent.name[1:]))

    assert json.loads(file.read_text()) == {name: pack(value).decode() for name, value in EXAMPLES.items()}


def test_members_are_kept_by_name_not_by_value() -> None:
    assert pack(Color.RED) == b'{"$":"tests.stored_values:Color","name":"RED"}'


def test_a_moment_is_kept_as_people_write_it() -> None:
    assert pack(datetime(2024, 1, 2, 3)) == b'{"$":"datetime","of":"2024-01-02T03:00:00"}'
