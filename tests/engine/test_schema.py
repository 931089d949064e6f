"""State types: what is admitted, what nodes are given, and what counts as their update."""

import dataclasses
import enum
import functools
import operator
import pickle
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NewType, NotRequired, Required, TypedDict, cast

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import StateInvalid, StateMutated, UnknownKey
from engine.schema import Schema, is_frozen, read_schema
from engine.typecheck import fits
from engine.values import Reduce, Replace
from engine.views import view_of


class Typed(TypedDict):
    text: str
    score: NotRequired[float]
    notes: Annotated[list[str], operator.add]


@attrs.frozen
class Review:
    text: str
    score: float = 0.0
    notes: Annotated[list[str], Reduce(list.__add__)] = []  # noqa: RUF008 - as in the README: never changed in place


@attrs.define
class Mutable:
    text: str
    score: float = 0.0
    _secret: int = 0


@attrs.frozen
class Checked:
    score: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    text: str = attrs.field(default="", converter=str)
    length: int = attrs.field(init=False, default=7)


@attrs.frozen
class Tree:
    value: int
    children: "list[Tree]" = attrs.field(factory=list)


UserId = NewType("UserId", int)


class Colour(enum.Enum):
    red = 1
    blue = 2


class Point(TypedDict):
    x: int
    y: NotRequired[int]


def schema(declared: Any, reducers: Mapping[str, Any] | None = None, **settings: Any) -> Schema:
    found, problems = read_schema(declared, reducers, **settings)
    assert problems == []
    return found


def updated(schema: Any, state: Any, node: Any) -> Any:
    """The update of a node, a plain function of what it is given."""
    values = schema.admit(state)
    given = schema.give(values)
    return schema.take(values, given, node(given))


def faults(declared: Any, state: Any) -> list[str]:
    with pytest.raises(StateInvalid) as caught:
        schema(declared).admit(state)
    return [str(fault) for fault in caught.value.faults]


# --- the boundary


def test_a_plain_dict_admits_any_keys() -> None:
    assert schema(dict).admit({"a": 1, "b": [2]}) == {"a": 1, "b": [2]}


def test_an_admitted_dict_is_a_copy() -> None:
    mine = {"a": 1}

    assert schema(dict).admit(mine) is not mine


@pytest.mark.parametrize("declared", [dict, Typed, Review])
@pytest.mark.parametrize("state", [None, 3, "text", [1]])
def test_what_is_no_state_is_refused(declared: Any, state: Any) -> None:
    assert "expected" in faults(declared, state)[0]


def test_every_fault_of_a_state_is_told_at_once_with_its_path() -> None:
    found = faults(Typed, {"score": "high", "notes": ["a", 1], "scor": 1})

    assert found == [
        "scor: Typed has no such key, did you mean 'score'?",
        "text: missing",
        "score: expected float, found 'high' (str)",
        "notes[1]: expected str, found 1 (int)",
    ]


def test_an_unknown_key_is_its_own_error() -> None:
    with pytest.raises(UnknownKey, match="did you mean 'text'") as caught:
        schema(Review).admit({"texd": "x"})

    assert caught.value.key == "texd"


def test_a_key_with_a_reducer_need_not_be_given_in_a_mapping() -> None:
    assert schema(Typed).admit({"text": "x"}) == {"text": "x"}


def test_an_attrs_state_may_come_as_a_mapping_and_gets_its_defaults() -> None:
    assert schema(Review).admit({"text": "x"}) == {"text": "x", "score": 0.0, "notes": []}


def test_an_attrs_state_is_checked_though_its_class_does_not() -> None:
    assert faults(Review, Review(text=1)) == ["text: expected str, found 1 (int)"]  # type: ignore[arg-type]


def test_a_subclass_is_refused_where_its_own_fields_would_be_lost() -> None:
    @attrs.frozen
    class More(Review):
        extra: int = 1

    assert "would be lost" in faults(Review, More("x"))[0]


def test_what_the_class_itself_refuses_is_a_fault() -> None:
    assert "must be >= 0" in faults(Checked, {"score": -1})[0]


def test_a_private_field_is_known_by_its_name_not_its_argument() -> None:
    mine = schema(Mutable)

    assert mine.admit(Mutable("x", secret=3))["_secret"] == 3
    assert mine.give({"text": "x", "score": 1.0, "_secret": 3})._secret == 3


def test_a_computed_field_is_no_key() -> None:
    assert set(schema(Checked).keys) == {"score", "text"}


# --- types


@pytest.mark.parametrize(
    ("tp", "good", "bad"),
    [
        (int, [1, -1, 10**30], [1.9, "5", True, None]),
        (float, [1.5, 1, float("inf")], ["1", True, None]),
        (bool, [True], [1, 0, "true"]),
        (str, ["", "x"], [b"x", 1, None]),
        (bytes, [b"x"], ["x"]),
        (None, [None], [0, ""]),
        (Any, [1, None], []),
        (object, [1, None], []),
        (list, [[1, "x"]], [(), {}]),
        (list[str], [[], ["x"]], [["x", 1], ("x",), "x"]),
        (set[int], [{1}], [{"x"}, [1]]),
        (tuple[int, ...], [(), (1, 2)], [(1, "x"), [1]]),
        (tuple[int, str], [(1, "x")], [(1,), (1, 2), (1, "x", 2)]),
        (dict[str, int], [{}, {"a": 1}], [{"a": "b"}, {1: 1}, []]),
        (Mapping[str, int], [{"a": 1}], [{"a": "b"}, 1]),
        (Sequence[str], [["a"], ("a",)], [[1], 1]),
        (int | None, [1, None], ["x"]),
        (int | str, [1, "x"], [1.5, None]),
        (list[int] | None, [None, [1]], [["x"]]),
        (Literal["a", 1], ["a", 1], ["b", True, 2]),
        (Colour, [Colour.red], ["red", 1]),
        (Annotated[int, "note"], [1], ["x"]),
        (Point, [{"x": 1}, {"x": 1, "y": 2}], [{}, {"x": "a"}, {"x": 1, "z": 1}, 3]),
        (Tree, [Tree(1, [Tree(2)])], [Tree("x"), Tree(1, [Tree("x")]), 1]),  # type: ignore[arg-type]
        (type[int], [int, str], [1]),
    ],
    ids=str,
)
def test_values_fit_their_types_strictly(tp: Any, good: list[Any], bad: list[Any]) -> None:
    mine = schema(TypedDict("State", {"key": tp}))  # type: ignore[operator]

    for value in good:
        assert mine.admit({"key": value}) == {"key": value}
    for value in bad:
        with pytest.raises(StateInvalid) as caught:
            mine.admit({"key": value})
        assert caught.value.path[0] == "key"


def test_a_fault_deep_inside_says_exactly_where() -> None:
    class Nested(TypedDict):
        rows: list[dict[str, Tree]]

    found = faults(Nested, {"rows": [{}, {"top": Tree(1, [Tree("x")])}]})  # type: ignore[arg-type]

    assert found == ["rows[1].top.children[0].value: expected int, found 'x' (str)"]


def test_nothing_is_coerced() -> None:
    assert type(schema(Review).admit({"text": "x", "score": 1})["score"]) is int


@pytest.mark.parametrize(
    ("given", "expected", "well"),
    [
        (int, str, False),
        (int, float, True),
        (float, int, False),
        (bool, int, False),
        (list[int], list[str], False),
        (list[int], list, True),
        (list[int], Sequence[int], True),
        (int | None, int, True),
        (int | None, str, False),
        (str, Literal["a"], True),
        (int, Literal["a"], False),
        (Review, dict, False),
        (Any, int, True),
    ],
)
def test_whether_one_type_may_be_read_as_another(given: Any, expected: Any, well: bool) -> None:
    assert fits(given, expected) is well


# --- what a node is given


def test_each_activation_of_a_dict_gets_its_own_top_level() -> None:
    mine = schema(dict)
    values = mine.admit({"rows": [1]})

    given = mine.give(values)

    assert given is not values
    assert given["rows"] is values["rows"]


def test_a_frozen_state_is_given_as_it_is() -> None:
    mine, state = schema(Review), Review("x")

    assert mine.give(mine.admit(state)) is state


def test_of_a_mutable_class_each_activation_gets_a_copy() -> None:
    mine = schema(Mutable)
    values = mine.admit(Mutable("x"))

    assert mine.give(values) is not mine.give(values)
    assert mine.give(values) == Mutable("x")


def test_deep_isolation_copies_the_values_too() -> None:
    mine = schema(dict, isolation="deep")
    values = mine.admit({"rows": [[1]]})

    given = mine.give(values)
    given["rows"][0].append(2)

    assert values == {"rows": [[1]]}
    assert isinstance(given, dict)


def test_deep_isolation_shares_what_cannot_be_copied() -> None:
    mine = schema(dict, isolation="deep")
    generator = (i for i in range(3))

    assert mine.give(mine.admit({"it": generator}))["it"] is generator


# --- what counts as an update


@pytest.mark.parametrize("isolation", ["shallow", "deep", "check"])
class TestUpdates:
    def test_a_mapping_names_the_changed_keys(self, isolation: Any) -> None:
        mine = schema(dict, isolation=isolation)

        assert updated(mine, {"a": 1}, lambda s: {"a": 2, "b": 3}) == {"a": 2, "b": 3}

    def test_nothing_returned_is_no_update(self, isolation: Any) -> None:
        mine = schema(dict, isolation=isolation)

        assert updated(mine, {"a": 1}, lambda s: None) is None
        assert updated(mine, {"a": 1}, lambda s: s) is None

    def test_a_dict_changed_in_place_is_an_update_whether_returned_or_not(self, isolation: Any) -> None:
        def change(state: Any) -> None:
            state["a"] = 2
            state["b"] = 3

        mine = schema(dict, isolation=isolation)

        assert updated(mine, {"a": 1}, change) == {"a": 2, "b": 3}
        assert updated(mine, {"a": 1}, lambda s: s | {"a": 2, "b": 3}) == {"a": 2, "b": 3}

    def test_with_a_mapping_returned_both_count_and_it_comes_last(self, isolation: Any) -> None:
        def change(state: Any) -> Any:
            state.update(a=2, b=3)
            return {"b": 4, "c": 5}

        assert updated(schema(dict, isolation=isolation), {"a": 1}, change) == {"a": 2, "b": 4, "c": 5}

    def test_passing_the_whole_state_on_changes_only_what_differs(self, isolation: Any) -> None:
        mine = schema(dict, {"notes": operator.add}, isolation=isolation)

        update = updated(mine, {"notes": ["a"], "rows": [1], "x": 1}, lambda s: {**s, "x": 2})

        assert update == {"x": 2}

    def test_a_new_list_for_a_reducer_is_a_contribution_though_it_is_equal(self, isolation: Any) -> None:
        mine = schema(dict, {"notes": operator.add}, isolation=isolation)

        assert updated(mine, {"notes": ["a"]}, lambda s: {"notes": ["a"]}) == {"notes": ["a"]}

    def test_numbers_and_strings_always_contribute(self, isolation: Any) -> None:
        mine = schema(dict, {"n": operator.add, "t": operator.add}, isolation=isolation)

        assert updated(mine, {"n": 1, "t": "a"}, lambda s: {**s}) == {"n": 1, "t": "a"}

    def test_a_whole_state_is_compared_with_what_was_given(self, isolation: Any) -> None:
        mine = schema(Review, isolation=isolation)

        assert updated(mine, Review("x"), lambda s: attrs.evolve(s, score=0.5)) == {"score": 0.5}

    def test_in_a_whole_state_a_reducer_key_that_differs_replaces(self, isolation: Any) -> None:
        mine = schema(Review, isolation=isolation)

        update = updated(mine, Review("x", notes=["a"]), lambda s: attrs.evolve(s, notes=["b"]))

        assert update == {"notes": Replace(["b"])}

    def test_a_mutable_state_changed_in_place_is_an_update(self, isolation: Any) -> None:
        def change(state: Any) -> None:
            state.score = 0.5
            state._secret = 4

        mine = schema(Mutable, isolation=isolation)

        assert updated(mine, Mutable("x"), change) == {"score": 0.5, "_secret": 4}

    def test_keys_cannot_be_removed(self, isolation: Any) -> None:
        def remove(state: Any) -> None:
            del state["a"]
            state["b"] = 1

        with pytest.raises(StateInvalid, match="cannot be removed") as caught:
            updated(schema(dict, isolation=isolation), {"a": 1}, remove)

        assert caught.value.path == ("a",)

    @pytest.mark.parametrize("declared", [Typed, Review])
    def test_an_unknown_key_is_refused(self, isolation: Any, declared: Any) -> None:
        with pytest.raises(UnknownKey, match="did you mean 'score'") as caught:
            updated(schema(declared, isolation=isolation), {"text": "x"}, lambda s: {"scor": 1})

        assert caught.value.key == "scor"

    def test_a_key_that_is_no_string_is_refused(self, isolation: Any) -> None:
        with pytest.raises(UnknownKey, match="keys are strings"):
            updated(schema(dict, isolation=isolation), {}, lambda s: {1: 2})

    @pytest.mark.parametrize("returned", [3, "x", ["a"], Mutable("x"), True])
    def test_what_is_no_update_is_refused(self, isolation: Any, returned: Any) -> None:
        with pytest.raises(StateInvalid, match="expected a mapping of changed keys"):
            updated(schema(Review, isolation=isolation), Review("x"), lambda s: returned)

    def test_replace_on_a_key_without_a_reducer_just_sets_it(self, isolation: Any) -> None:
        mine = schema(dict, isolation=isolation)

        assert updated(mine, {"a": 1}, lambda s: {"a": Replace(2)}) == {"a": 2}


VALUES = st.sampled_from([0, 1, 1.0, "a", None, Replace(1)]) | st.lists(st.integers(0, 1), max_size=1)
STATES = st.dictionaries(st.sampled_from(["text", "score", "notes"]), VALUES.filter(lambda v: type(v) is not Replace))


@given(
    state=STATES,
    changed=STATES,
    returned=st.none() | st.dictionaries(st.sampled_from(["text", "score", "notes", "other", 3]), VALUES),
    kept=st.booleans(),
    declared=st.sampled_from([dict, Typed]),
    reducers=st.sampled_from([{}, {"score": operator.add}]),
)
def test_the_short_way_to_an_update_gives_what_the_long_way_gives(
    state: Any, changed: Any, returned: Any, kept: bool, declared: Any, reducers: Any
) -> None:
    mine = schema(declared, reducers)

    def outcome(take: Any) -> Any:
        node_given = mine.give(state)
        node_given.update(changed)
        answer = {**node_given, **returned} if kept and returned is not None else returned
        try:
            return take(state, node_given, answer)
        except StateInvalid as error:
            return str(error)

    assert outcome(mine.take) == outcome(functools.partial(Schema.take, mine))


def test_the_update_is_not_the_mapping_that_the_node_may_still_change() -> None:
    kept = {"a": 2}

    update = updated(schema(dict), {"a": 1}, lambda s: kept)

    assert update is not kept


def test_comparisons_that_raise_or_give_no_bool_mean_different() -> None:
    class Odd:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError

        __hash__ = None  # type: ignore[assignment]

    mine, one, other = schema(Mutable), Odd(), Odd()

    update = updated(mine, Mutable("x", secret=0), lambda s: attrs.evolve(s, secret=one))
    assert update == {"_secret": one}
    values = {"text": "x", "score": 0.0, "_secret": one}
    given = mine.give(values)
    given._secret = other
    assert mine.take(values, given, None) == {"_secret": other}


def test_an_equal_value_of_another_type_is_a_change() -> None:
    assert updated(schema(Mutable), Mutable("x", 1), lambda s: attrs.evolve(s, score=1.0)) == {"score": 1.0}


def test_types_of_updates_are_checked_if_asked() -> None:
    mine = schema(Typed, always=True)

    with pytest.raises(StateInvalid) as caught:
        updated(mine, {"text": "x"}, lambda s: {"score": "high"})

    assert caught.value.path == ("score",)
    assert updated(mine, {"text": "x"}, lambda s: {"notes": ["a"]}) == {"notes": ["a"]}


def test_a_contribution_may_have_another_type_but_what_replaces_may_not() -> None:
    def append(value: list[str], one: str) -> list[str]:
        return [*value, one]

    class Notes(TypedDict):
        notes: Annotated[list[str], Reduce(append)]

    mine = schema(Notes, always=True, names=locals())

    assert updated(mine, {"notes": []}, lambda s: {"notes": "a"}) == {"notes": "a"}
    with pytest.raises(StateInvalid):
        updated(mine, {"notes": []}, lambda s: {"notes": Replace("a")})


def test_the_validators_of_a_class_refuse_the_update_of_the_node_that_made_it() -> None:
    with pytest.raises(StateInvalid, match="must be >= 0"):
        updated(schema(Checked), Checked(), lambda s: {"score": -1})


def test_the_converters_of_a_class_apply_to_updates() -> None:
    assert updated(schema(Checked), Checked(), lambda s: {"text": 5}) == {"text": "5"}


# --- changes in place


def test_a_value_changed_in_place_is_caught_with_its_node_and_key() -> None:
    mine = schema(dict, isolation="check").evolve(node="grade")

    with pytest.raises(StateMutated, match="'rows'") as caught:
        updated(mine, {"rows": [[1]]}, lambda s: s["rows"][0].append(2))

    assert (caught.value.node, caught.value.key) == ("grade", "rows")


class Plain:
    def __init__(self) -> None:
        self.seen = {"x": 1}


@pytest.mark.parametrize(
    ("value", "change"),
    [
        ([1], lambda v: v.append(2)),
        ([1, 2], lambda v: v.reverse()),
        ({"a": {"b": 1}}, lambda v: v["a"].update(b=2)),
        ({1}, lambda v: v.add(2)),
        (bytearray(b"x"), lambda v: v.extend(b"y")),
        (Mutable("x"), lambda v: setattr(v, "text", "y")),
        (Plain(), lambda v: v.seen.update(x=2)),
        ([Plain()], lambda v: setattr(v[0], "other", 1)),
    ],
    ids=["append", "reverse", "dict in a dict", "set", "bytearray", "attrs", "object", "object in a list"],
)
def test_any_change_inside_a_value_is_caught(value: Any, change: Any) -> None:
    with pytest.raises(StateMutated):
        updated(schema(dict, isolation="check"), {"it": value}, lambda s: change(s["it"]))


@pytest.mark.parametrize("value", [[1, [2]], {"a": {1, 2}}, bytearray(b"x"), Mutable("x"), Plain(), object(), print])
def test_a_value_that_was_only_read_is_not_caught(value: Any) -> None:
    assert updated(schema(dict, isolation="check"), {"it": value}, lambda s: repr(s["it"]) and None) is None


def test_a_value_that_contains_itself_is_looked_at_once() -> None:
    loop: list[Any] = [1]
    loop.append(loop)

    assert updated(schema(dict, isolation="check"), {"it": loop}, lambda s: None) is None


@pytest.mark.parametrize("declared", [dict, Review])
@pytest.mark.parametrize("isolation", ["deep", "check"])
def test_what_was_lent_to_an_attempt_that_failed_is_forgotten(declared: Any, isolation: Any) -> None:
    mine = schema(declared, isolation=isolation)

    given = mine.give(mine.admit({"text": "x"}))
    del given

    assert mine._loans == {}


# --- views


class TextOnly(TypedDict):
    text: str


@attrs.frozen
class ScoreOnly:
    score: float
    notes: list[str]


def view(whole: Schema, narrow: Any) -> Any:
    found, problems = view_of(whole, schema(narrow), "node")
    assert problems == []
    return found


def test_a_view_carries_only_its_own_keys() -> None:
    mine = view(schema(Review), TextOnly)

    assert mine.give({"text": "x", "score": 1.0, "notes": []}) == {"text": "x"}
    assert mine.keys == {"text"}


def test_a_node_with_a_view_may_write_any_key_of_the_state() -> None:
    mine = view(schema(Review), TextOnly)
    values = schema(Review).admit(Review("x"))

    assert mine.take(values, mine.give(values), {"score": 0.5}) == {"score": 0.5}
    with pytest.raises(UnknownKey):
        mine.take(values, mine.give(values), {"other": 1})


def test_a_view_may_be_returned_whole_and_obeys_the_reducers_of_the_state() -> None:
    mine = view(schema(Review), ScoreOnly)
    values = schema(Review).admit(Review("x", notes=["a"]))

    given = mine.give(values)

    assert given == ScoreOnly(0.0, ["a"])
    assert mine.take(values, given, ScoreOnly(0.5, ["b"])) == {"score": 0.5, "notes": Replace(["b"])}
    assert mine.take(values, mine.give(values), {"notes": given.notes}) is None


def test_a_view_of_a_plain_dict_says_which_key_is_missing() -> None:
    mine = view(schema(dict), TextOnly)

    with pytest.raises(StateInvalid, match="text: missing"):
        mine.give({"other": 1})


def test_a_view_changed_in_place_counts() -> None:
    mine = view(schema(dict), TextOnly)
    values = {"text": "x", "other": 1}
    given = mine.give(values)
    given["text"] = "y"

    assert mine.take(values, given, None) == {"text": "y"}


# --- reading types


def test_reducers_are_found_in_annotations_and_beside_them() -> None:
    assert set(schema(Typed).reducers) == {"notes"}
    assert schema(Review).reducers["notes"]([1], [2]) == [1, 2]
    assert schema(Typed, {"text": operator.add}).reducers["text"] is operator.add
    assert schema(dict, {"a": Reduce(operator.add)}).reducers == {"a": operator.add}


def test_a_class_among_annotations_is_no_reducer() -> None:
    assert schema(TypedDict("declared", {"a": Annotated[int, int]})).reducers == {}  # type: ignore[operator]


def test_a_schema_survives_pickling_for_a_worker_process() -> None:
    again = pickle.loads(pickle.dumps(schema(Review)))

    assert updated(again, Review("x"), lambda s: {"score": 1.0}) == {"score": 1.0}
    assert set(again.reducers) == {"notes"}


def test_frozen_classes_are_told_from_mutable_ones() -> None:
    assert is_frozen(Review)
    assert not is_frozen(Mutable)


def test_an_annotation_that_cannot_be_resolved_leaves_the_others_checked() -> None:
    class Partly(TypedDict):
        known: int
        unknown: "Unheard"  # type: ignore[name-defined]  # noqa: F821

    assert schema(Partly).admit({"known": 1, "unknown": object()})["known"] == 1
    assert faults(Partly, {"known": "x", "unknown": 1}) == ["known: expected int, found 'x' (str)"]


def test_new_types_and_data_classes_are_looked_through() -> None:
    @dataclasses.dataclass
    class Row:
        user: UserId

    class Rows(TypedDict):
        rows: list[Row]

    mine = schema(Rows, names=locals())

    assert mine.admit({"rows": [Row(UserId(1))]})
    with pytest.raises(StateInvalid) as caught:
        mine.admit({"rows": [Row(cast(UserId, "x"))]})
    assert caught.value.path == ("rows", 0, "user")


def test_a_deep_view_is_the_nodes_own_and_its_changes_count() -> None:
    whole = schema(dict, isolation="deep")
    mine, _ = view_of(whole, schema(TextOnly, isolation="deep"), "node")
    values = {"text": "x", "rows": [1]}
    given = mine.give(values)
    given["text"] = "y"

    assert mine.take(values, given, {"rows": [2]}) == {"text": "y", "rows": [2]}
    assert mine.build(values) == {"text": "x"}
    assert mine.admit({"a": 1}) == {"a": 1}
    assert mine.knows("anything")


class Written(TypedDict, total=False):
    """With annotations as `from __future__ import annotations` leaves them."""

    text: "Required[str]"
    score: "NotRequired[float]"
    rest: "Annotated[NotRequired[float], 'noted']"


def test_required_and_not_required_count_where_annotations_are_strings() -> None:
    schema, problems = read_schema(Written)

    assert problems == []
    assert {key.name for key in schema.keys.values() if key.required} == {"text"}
    assert schema.admit({"text": "hi"}) == {"text": "hi"}
