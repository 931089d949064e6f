"""Records and admissions come back from bytes, errors with their class and text; damage is named."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import inspect
import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import errors
from engine.errors import (
    ClassChanged,
    Damaged,
    EngineError,
    GraphInvalid,
    GraphProblem,
    NodeFailed,
    NotStorable,
    RecordedError,
    RunFailed,
)
from engine.format import (
    BLOB_SIZE,
    Packed,
    digests_in,
    pack_admission,
    pack_record,
    pack_snapshot,
    pack_values,
    unpack_admission,
    unpack_record,
    unpack_snapshot,
    unpack_values,
)
from engine.tokens import Record, RecordKind
from engine.values import Replace
from engine.writes import Contributions
from tests.engine.test_errors import EXAMPLES as ENGINE_ERRORS
from tests.stored_values import alike, values

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

E = TypeVar("E", bound=BaseException)

FORMATS = Path(__file__).parent / "journal_formats"


def record(kind: RecordKind, **facts: Any) -> Record:
    made = Record(kind)
    for name, fact in facts.items():
        setattr(made, name, fact)
    return made


def shown(error: BaseException | None) -> Any:
    """All of an error that is promised to come back."""
    if error is None:
        return None
    members = [shown(member) for member in error.exceptions] if isinstance(error, BaseExceptionGroup) else []
    context = None if error.__suppress_context__ else error.__context__
    notes = getattr(error, "__notes__", [])
    kind = f"{type(error).__module__}:{type(error).__qualname__}"
    return kind, str(error), notes, members, shown(error.__cause__), shown(context), error.__suppress_context__


def same(one: Record, other: Record) -> bool:
    names = [name for name in Record.__slots__ if name not in ("error", "packed")]
    return (
        all(
            plain(getattr(one, name)) == plain(getattr(other, name))
            for name in names
            if name not in ("update", "signal")
        )
        and alike(one.update, other.update)
        and alike(one.signal, other.signal)
        and shown(one.error) == shown(other.error)
    )


def plain(fact: Any) -> Any:
    return tuple(fact) if isinstance(fact, list) else fact


def there_and_back(error: BaseException) -> BaseException:
    packed = pack_record(record("failed", error=error))
    again = unpack_record(packed.data, packed.blobs).error
    assert again is not None
    return again


# --- values ---------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text(max_size=3) | st.just("$"), values, max_size=4))
def test_values_come_back_as_they_were(state: dict[str, Any]) -> None:
    packed = pack_values(state)

    assert alike(unpack_values(packed.data, packed.blobs), state)


LARGE = {
    "rows": [{"n": n, "f": n / 2} for n in range(2_000)],
    "bytes": b"\x00\xff" * 10_000,
    "array": bytearray(b"ab" * 10_000),
    "text": "ü\ud800" * 10_000,
    "tuple": tuple("abc" * 10_000),
    "small": (1, 2),
}


def test_large_values_go_to_blobs_and_come_back() -> None:
    packed = pack_values(LARGE)

    assert len(packed.data) < 1_000
    assert len(packed.blobs) == 5
    assert alike(unpack_values(packed.data, packed.blobs), LARGE)


def test_large_values_come_back_from_a_state_with_odd_keys() -> None:
    state = {"$": b"x" * 20_000, "\ud800": "y" * 20_000, "z": 1}

    packed = pack_values(state)

    assert len(packed.blobs) == 2
    assert alike(unpack_values(packed.data, packed.blobs), state)


def test_bytes_and_text_in_blobs_are_as_large_as_they_are() -> None:
    packed = pack_values({"bytes": b"x" * BLOB_SIZE, "text": "y" * BLOB_SIZE})

    assert sorted(map(len, packed.blobs.values())) == [BLOB_SIZE + 1, BLOB_SIZE + 1]


def test_one_value_makes_one_blob_however_often_it_is_written() -> None:
    first, second = pack_values({"a": LARGE["rows"]}), pack_values({"b": 1, "c": list(LARGE["rows"])})

    assert first.blobs == second.blobs
    assert list(first.refs) == digests_in(second.data)


@pytest.mark.parametrize("size", [BLOB_SIZE - 2, BLOB_SIZE - 1])
def test_a_value_larger_than_the_limit_is_a_blob(size: int) -> None:
    packed = pack_values({"a": "x" * size})

    assert bool(packed.blobs) == (size + len('""') > BLOB_SIZE)


def test_many_small_values_stay_in_the_text() -> None:
    packed = pack_values({f"k{n}": "x" * 900 for n in range(50)})

    assert not packed.blobs
    assert len(unpack_values(packed.data)) == 50


def test_digests_are_found_and_nothing_that_looks_like_one() -> None:
    digest = "0" * 64
    packed = pack_values({"text": f'"$":"blob","of":"{digest}"', "dict": {"$": "blob", "of": digest}, **LARGE})

    assert digests_in(packed.data) == list(packed.refs) == list(packed.blobs)
    assert digests_in(b"{}") == []


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"rows": [{"a": object()}]}, "node 'grade': rows[0]['a']: an object cannot be kept in a store"),
        ({"my key": (object(),)}, "node 'grade': ['my key'][0]: an object"),
        ({"big": "x" * 20_000, "bad": object()}, "node 'grade': bad: an object"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_node_and_path(state: dict[str, Any], says: str) -> None:
    with pytest.raises(NotStorable) as caught:
        pack_values(state, "node 'grade'")

    assert str(caught.value).startswith(says)


def test_a_blob_that_is_missing_or_changed_is_named() -> None:
    packed = pack_values({"a": "x" * 20_000})
    (digest,) = packed.blobs

    with pytest.raises(Damaged, match=f"the blob {digest} is named, but not there"):
        unpack_values(packed.data)
    with pytest.raises(Damaged, match=f"the blob {digest} does not hold what it did"):
        unpack_values(packed.data, {digest: b"tx"})


# --- admissions -----------------------------------------------------------------------------------------


def test_an_admission_comes_back() -> None:
    packed = pack_admission({**LARGE, "$": {1}})

    assert alike(unpack_admission(packed.data, packed.blobs), {**LARGE, "$": {1}})
    assert unpack_admission(pack_admission({"a": 1}).data) == {"a": 1}


def test_an_admission_of_a_newer_version_is_refused() -> None:
    with pytest.raises(Damaged, match="of version 2 of the journal's format, this engine reads 1"):
        unpack_admission(b'{"format":2,"values":{}}')


def test_an_initial_state_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises(NotStorable, match=r"^the initial state: a: an object"):
        pack_admission({"a": object()})


# --- snapshots ------------------------------------------------------------------------------------------


@attrs.frozen
class Standing:
    data: dict[str, Any]
    values: list[Any]
    errors: list[BaseException]


def test_a_snapshot_comes_back_and_shares_blobs_with_records() -> None:
    data = {"format": 1, "run": {"states": [{"$": 0, "a": 1}], "none": None}}
    packed = pack_snapshot(Standing(data, [(1, 2), "y" * 20_000], [failure(), conflict()]))

    again, kept, failures = unpack_snapshot(packed.data, packed.blobs)

    assert again == data
    assert kept == [(1, 2), "y" * 20_000]
    assert [shown(error) for error in failures] == [shown(failure()), shown(conflict())]
    assert packed.blobs == pack_record(RECORDS["settled, large"]).blobs
    assert digests_in(packed.data) == list(packed.refs)


@pytest.mark.parametrize(
    "data",
    [
        b"1",
        b'{"format":2,"data":{},"values":[],"errors":[]}',
        b'{"format":1,"data":{},"values":[{"$":"blob","of":"x"}],"errors":[]}',
        b'{"format":1,"data":{},"values":[],"errors":[1]}',
        b'{"format":1,"data":{},"values":[],"errors":[{"type":"a:B","args":1}]}',
    ],
)
def test_a_snapshot_that_is_damaged_is_refused(data: bytes) -> None:
    with pytest.raises(Damaged):
        unpack_snapshot(data)


# --- records --------------------------------------------------------------------------------------------


def fixed(error: E) -> E:
    """With a text that stays when messages are put in other words."""
    error.args = ("as it was said",)
    return error


def failure() -> NodeFailed:
    error = fixed(NodeFailed("a", 2, 3, ValueError("no", 7)))
    error.add_note("seen twice")
    return error


def conflict() -> errors.MergeConflict:
    return fixed(errors.MergeConflict("x", ["a", "b"], [1, (2,)], "END"))


PATH = (("sub", 1, -1), ("each", 2, 5))
RECORDS: dict[str, Record] = {
    "settled": record(
        "settled",
        node="a",
        activation=2,
        attempts=1,
        consumed=(3, 4),
        emitted=((0, 5), (2, 6)),
        absorbed=[1],
        limits=(7,),
        update={"x": 1, "y": (2,), "z": Contributions([1, Replace([2])])},
    ),
    "settled, bare": record("settled", node="a", activation=1, attempts=1, consumed=(1,)),
    "settled, empty": record("settled", node="a", activation=1, attempts=1, update={}),
    "settled, large": record("settled", path=PATH, node="a", activation=1, update={"x": "y" * 20_000}),
    "settled, a wait": record("settled", node="w", activation=1, signal=3, update={"go": None}),
    "error edge": record("error_edge", node="a", activation=1, attempts=3, emitted=((1, 2),), error=ValueError("no")),
    "failed": record("failed", path=PATH, node="a", activation=2, attempts=3, error=failure()),
    "failed, routing": record("failed", node="a", activation=2, stage="routing", update={"x": 1}, error=failure()),
    "failed, merging": record(
        "failed", node="END", error=fixed(errors.MergeConflict("x", ["a", "b"], [1, (2,)], "END"))
    ),
    "cancelled": record("cancelled", node="a", activation=1, attempts=1, consumed=(3,)),
    "done": record("done", node="a", activation=2, attempts=1, update={"x": 1}, status="succeeded", goto=("b", "END")),
    "done, failed": record("done", node="a", activation=3, attempts=2, error=ValueError("no"), status="failed", edge=4),
    "retrying": record("retrying", node="a", activation=1, attempts=1, error=failure(), status="failed", delay=0.5),
    "attempt": record("attempt", node="a", activation=1, attempts=2),
    "timeout": record("timeout", node="sub", activation=1, attempts=1),
    "item": record("item", node="m", activation=1, item=7, update={"scores": 0.5}, status="succeeded"),
    "item, left out": record("item", node="m", activation=1, item=8, error=ValueError("no"), status="failed"),
    "gone": record("gone", node="a", activation=1, attempts=1, status="cancelled"),
    "waiting": record("waiting", waits=True),
    "signal": record("signal", signal=(4, "approved", {"by": ("ann",)}, "id-1")),
    "signal, bare": record("signal", signal=(5, "approved", None, None)),
    "pause": record("pause"),
    "resume": record("resume"),
    "cancel": record("cancel", signal="enough"),
    "cancel, no reason": record("cancel"),
    "deadline": record("deadline", signal=2.5),
    "poison": record("poison", signal=(3, ["one", "two"])),
    "retry": record("retry", update={"x": {1}}),
    "ended": record("ended", update={"status": "succeeded"}),
    "forked": record("forked", node="a", activation=2, update={"x": 1}, signal=("run", 7)),
}
"""What the examples of each version of the format, checked in as text, were made of. Blobs are made again."""


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_comes_back(name: str) -> None:
    packed = pack_record(RECORDS[name])

    assert same(unpack_record(packed.data, packed.blobs), RECORDS[name])
    assert digests_in(packed.data) == list(packed.refs)


def test_every_kind_of_record_is_among_the_examples() -> None:
    assert {one.kind for one in RECORDS.values()} == set(get_args(RecordKind))


def test_every_attribute_of_a_record_comes_back() -> None:
    every = {
        "kind": "settled",
        "time": 1.5,
        "seq": 9,
        "path": PATH,
        "node": "a",
        "activation": 1,
        "attempts": 2,
        "consumed": (1,),
        "update": {"a": 1},
        "error": ValueError("x"),
        "status": "succeeded",
        "started": 2.5,
        "emitted": ((1, 2),),
        "absorbed": [3],
        "limits": (4,),
        "goto": (),
        "edge": 0,
        "stage": "routing",
        "item": 0,
        "delay": 0.5,
        "signal": (1, 2),
        "waits": True,
    }
    there: dict[str, Any] = {name: fact for name, fact in every.items() if name in Record.__slots__}
    assert set(there) == set(Record.__slots__) - {"packed"}, "add a line to the table in format.py, and here"

    assert same(unpack_record(pack_record(record(**there)).data), record(**there))


def test_an_update_that_is_packed_already_is_used_as_it_is() -> None:
    packed = pack_record(record("settled", update={"a": object()}), Packed(b'{"a":7}', {"d": b"x"}))

    assert unpack_record(packed.data).update == {"a": 7}
    assert packed.blobs == {"d": b"x"}


def test_the_payload_of_a_signal_that_is_packed_already_is_used_as_it_is() -> None:
    signal = record("signal", signal=(1, "go", object(), None))

    packed = pack_record(signal, pack_values({"go": (1,)}, "signal 'go'"))

    assert unpack_record(packed.data).signal == (1, "go", (1,), None)


def test_a_record_leaves_out_what_is_as_always() -> None:
    assert pack_record(record("pause")).data == b'{"k":"pause"}'


def test_a_record_whose_update_cannot_be_kept_names_its_node() -> None:
    with pytest.raises(NotStorable, match=r"^node 'a': x: an object"):
        pack_record(record("settled", node="a", update={"x": object()}))


# --- errors ---------------------------------------------------------------------------------------------


class Refused(Exception):
    def __init__(self, code: int, *, hint: str) -> None:
        super().__init__(f"refused with {code}")  # which, as its only argument, would not do
        self.code = code
        self.hint = hint


class Forgetful(Exception):
    """What it says is not in its args."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle

    def __str__(self) -> str:
        return f"lost {self.handle.name}"


class Handle:
    name = "the handle"

    def __repr__(self) -> str:
        return "<the handle>"


class Rude(Exception):
    def __str__(self) -> str:
        raise RuntimeError

    def __repr__(self) -> str:
        raise RuntimeError


class BadFile(UnicodeDecodeError):
    pass


class Denied(PermissionError):
    def __init__(self, path: str) -> None:
        super().__init__(13, "no way", path)


@attrs.define
class Typed(Exception):
    code: int
    more: Any = ()

    def __str__(self) -> str:
        return f"code {self.code}"


class Failures(ExceptionGroup[Exception]):
    pass


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


def met(error: BaseException, context: BaseException, *, hidden: bool) -> BaseException:
    error.__context__ = context
    error.__suppress_context__ = hidden
    return error


def decoding(text: bytes) -> UnicodeDecodeError:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return error
    raise AssertionError


USERS: dict[str, BaseException] = {
    "plain": ValueError("no"),
    "no args": ValueError(),
    "key": KeyError("x"),
    "several args": RuntimeError("a", (1, 2), None),
    "os": FileNotFoundError(2, "No such file or directory", "a.txt"),
    "import": ImportError("no module", name="shop", path="/shop.py"),
    "decoding": decoding(b"\xff"),
    "stop": StopIteration(5),
    "own": Refused(7, hint="ask"),
    "own, of the system's": Denied("a.txt"),
    "own, of a decoding": BadFile("utf-8", b"\xff", 0, 1, "bad byte"),
    "attrs": Typed(5, (1,)),
    "group": BaseExceptionGroup("two", [ValueError("a"), caused(KeyError("b"), OSError("c"))]),
    "own group": Failures("one", [Refused(1, hint="")]),
    "caused": caused(ValueError("a"), KeyError("b")),
    "met": met(ValueError("a"), KeyError("b"), hidden=False),
    "alone": met(ValueError("a"), KeyError("b"), hidden=True),
    "cancelled": asyncio.CancelledError("by itself"),
    "exit": SystemExit(3),
    "lone surrogate": ValueError("\ud800"),
    "large": ValueError("x" * 50_000),
}


@pytest.mark.parametrize("error", ENGINE_ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_of_the_engine_comes_back_with_its_facts(error: EngineError) -> None:
    again = there_and_back(error)

    assert vars(again).keys() == vars(error).keys()
    assert all(str(vars(again)[name]) == str(fact) for name, fact in vars(error).items())
    if not isinstance(error, NodeFailed):
        assert shown(again) == shown(error)
    else:
        assert isinstance(again, NodeFailed)
        assert shown(again.cause) == shown(error.cause)


def test_every_error_of_the_engine_is_tried() -> None:
    tried = {type(error) for error in ENGINE_ERRORS} | {GraphInvalid, RunFailed, RecordedError, EngineError}
    every = {cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, EngineError)}

    for cls in every - tried:  # these have examples in the tests of what raises them
        again = there_and_back(_with_any_arguments(cls))
        assert type(again) is cls


def _with_any_arguments(cls: type[EngineError]) -> EngineError:
    fitting = {"int": 3, "float": 2.5, "str": "result", "int | None": None, "Sequence[str]": ("b",)}
    parameters = list(inspect.signature(cls).parameters.values())
    return cls(*[fitting[str(p.annotation)] for p in parameters if p.default is p.empty])


def test_groups_of_the_engine_come_back_with_their_members() -> None:
    failed = RunFailed.of("r1", "review", [failure(), NodeFailed("b", 1, 1, caused(OSError("x"), KeyError("y")))])
    invalid = GraphInvalid.of("review", [GraphProblem("unknown_node", "a -> b", "m", "h")])

    again, also = there_and_back(NodeFailed("sub", 1, 1, failed)), there_and_back(invalid)

    assert isinstance(again, NodeFailed)
    assert shown(again.cause) == shown(failed)
    assert isinstance(again.cause, RunFailed)
    assert (again.cause.run_id, again.cause.graph) == ("r1", "review")
    assert again.cause.failures[0].__notes__ == ["seen twice"]
    assert isinstance(also, GraphInvalid)
    assert (also.graph, also.problems) == (invalid.graph, invalid.problems)


@pytest.mark.parametrize("name", USERS)
def test_an_error_of_the_author_comes_back(name: str) -> None:
    assert shown(there_and_back(USERS[name])) == shown(USERS[name])


def test_an_error_comes_back_with_its_attributes() -> None:
    refused, typed, missing = (there_and_back(USERS[name]) for name in ("own", "attrs", "import"))

    assert isinstance(refused, Refused)
    assert (refused.code, refused.hint) == (7, "ask")
    assert isinstance(typed, Typed)
    assert (typed.code, typed.more) == (5, (1,))
    assert isinstance(missing, ImportError)
    assert (missing.name, missing.path) == ("shop", "/shop.py")


def test_an_error_that_cannot_be_had_back_is_stood_in_for() -> None:
    class Local(ValueError):
        pass

    error = Local("nothing left")
    error.add_note("look again")

    again = there_and_back(caused(error, KeyError("x")))

    assert isinstance(again, RecordedError)
    assert again.type_name.endswith("<locals>.Local")
    assert shown(again) == shown(error)
    assert shown(there_and_back(again)) == shown(error)


def test_a_group_that_cannot_be_had_back_names_its_members() -> None:
    class Local(ExceptionGroup[Exception]):
        pass

    again = there_and_back(Local("two", [ValueError("a"), KeyError("b")]))

    assert str(again) == "two (2 sub-exceptions)"
    assert again.__notes__ == ["with ValueError: a", "with KeyError: 'b'"]


def test_an_error_that_would_not_say_the_same_is_stood_in_for() -> None:
    forgetful, opaque = there_and_back(Forgetful(Handle())), there_and_back(ValueError(Handle()))

    assert (type(forgetful).__name__, str(forgetful)) == ("Forgetful", "lost the handle")
    assert isinstance(forgetful, RecordedError)
    assert (type(opaque), str(opaque), opaque.args) == (ValueError, "<the handle>", ("<the handle>",))


def test_what_cannot_be_kept_of_an_error_is_kept_as_its_repr() -> None:
    conflict = errors.MergeConflict("x", ["a", "b"], [Handle(), 1], "END")

    again = there_and_back(conflict)

    assert isinstance(again, errors.MergeConflict)
    assert again.values == ("<the handle>", 1)
    assert str(again) == str(conflict)


@pytest.mark.parametrize("error", [Rude(), Rude(Rude()), ValueError(Rude()), Typed.__new__(Typed)], ids=range(4))
def test_to_record_an_error_never_fails(error: BaseException) -> None:
    assert there_and_back(error) is not None


def test_a_chain_of_errors_is_bounded() -> None:
    error: BaseException = ValueError("first")
    for _ in range(200):
        error = NodeFailed("a", 1, 1, caused(KeyError("x"), error))

    again: BaseException | None = there_and_back(error)

    depth = 0
    while again is not None:
        assert not isinstance(again, NodeFailed) or again.cause is not None
        again, depth = again.__cause__, depth + 1
    assert 40 < depth < 60


def test_errors_that_cause_one_another_end_somewhere() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first

    again = there_and_back(first)

    assert str(again.__cause__) == "second"


def test_very_many_members_are_bounded() -> None:
    inner = [ExceptionGroup("inner", [ValueError(str(n)) for n in range(60)]) for _ in range(60)]

    again = there_and_back(ExceptionGroup("outer", inner))

    assert isinstance(again, ExceptionGroup)
    assert len(again.exceptions) == 60


# --- damage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no JSON"),
        (b"[]", "expected an object"),
        (b"{}", "of the kind None, which this version does not know"),
        (b'{"k":["settled"]}', "of the kind ['settled']"),
        (b'{"k":"later"}', "of the kind 'later' (str), which this version does not know"),
        (b'{"k":"pause","v":2}', "of version 2 of the journal's format"),
        (b'{"k":"pause","zz":2}', "'pause' cannot be read, at 'zz': this version does not know the key"),
        (b'{"k":"settled","a":"1"}', "at 'a': found '1' (str), expected an int"),
        (b'{"k":"settled","a":true}', "at 'a': found True (bool), expected an int"),
        (b'{"k":"settled","n":1}', "at 'n': found 1 (int), expected a str"),
        (b'{"k":"settled","c":[1.5]}', "at 'c': found 1.5 (float)"),
        (b'{"k":"settled","e":[1]}', "at 'e': TypeError"),
        (b'{"k":"settled","p":[["a",1]]}', "at 'p': ValueError"),
        (b'{"k":"settled","u":[1]}', "at 'u': found [1] (list), expected a dict"),
        (b'{"k":"settled","u":{"$":1}}', "at 'u': stored values are"),
        (b'{"k":"settled","u":{"a":{"$":"blob"}}}', "at 'u': the blob None is named, but not there"),
        (b'{"k":"signal"}', "at 's': KeyError"),
        (b'{"k":"signal","s":[1,"a",null],"u":{}}', "at 's': KeyError"),
        (b'{"k":"signal","s":[1,"a",null]}', "at 's': "),
        (b'{"k":"failed","x":1}', "at 'x': a stored error is 1 (int)"),
        (b'{"k":"failed","x":{"type":"a:B","args":1}}', "at 'x': TypeError"),
        (b'{"k":"failed","x":{"type":"a:B","facts":1}}', "at 'x': AttributeError"),
    ],
)
def test_damage_is_named(data: bytes, says: str) -> None:
    with pytest.raises(Damaged) as caught:
        unpack_record(data)

    assert says in str(caught.value)


@pytest.mark.parametrize(
    "data", [b"1", b"{}", b'{"format":1}', b'{"format":1,"values":1}', b'{"format":"1","values":{}}']
)
def test_an_admission_that_is_damaged_is_refused(data: bytes) -> None:
    with pytest.raises(Damaged):
        unpack_admission(data)


@pytest.mark.parametrize("data", [b"1", b'{"$":"tuple","of":[]}', b'{"$":"dict","of":[1]}', b'{"$":"dict"}'])
def test_values_that_are_damaged_are_refused(data: bytes) -> None:
    with pytest.raises(Damaged):
        unpack_values(data)


@pytest.mark.parametrize("stored", [b"", b"j", b"?1", b"j{", b"t\xff"])
def test_a_blob_that_is_damaged_is_refused(stored: bytes) -> None:
    digest = hashlib.sha256(stored).hexdigest()

    with pytest.raises(Damaged):
        unpack_record(b'{"k":"settled","u":{"a":{"$":"blob","of":"%b"}}}' % digest.encode(), {digest: stored})


@pytest.mark.parametrize("name", RECORDS)
def test_bytes_damaged_anywhere_give_a_clear_error_or_some_record(name: str) -> None:
    packed = pack_record(RECORDS[name])
    chance = random.Random(name)
    for _ in range(300):
        data = bytearray(packed.data)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(data) + 1)
            data[at : at + chance.randint(0, 2)] = chance.choice(
                [b"", b'"', b"0", b":", b"]", b"{", b"\xff", b"$", b"null"]
            )

        with contextlib.suppress(Damaged, ClassChanged):
            assert unpack_record(bytes(data), packed.blobs).kind


def test_a_tampered_error_sets_attributes_and_runs_nothing() -> None:
    data = b'{"k":"failed","x":{"type":"builtins:ValueError","args":["a"],"facts":{"__class__":1,"args":["b"],"c":2}}}'

    error = unpack_record(data).error

    assert type(error).__name__ == "ValueError"


# --- the format -----------------------------------------------------------------------------------------


def blobs_of_examples() -> Mapping[str, bytes]:
    return {digest: stored for one in RECORDS.values() for digest, stored in pack_record(one).blobs.items()}


def written() -> Iterator[Any]:
    for file in sorted(FORMATS.glob("v*/records.json")):
        for name, text in json.loads(file.read_text()).items():
            yield pytest.param(name, text.encode(), id=f"{file.parent.name}: {name}")


@pytest.mark.parametrize(("name", "data"), list(written()))
def test_what_an_earlier_version_wrote_can_be_read(name: str, data: bytes) -> None:
    assert same(unpack_record(data, blobs_of_examples()), RECORDS[name])


def test_the_format_is_the_newest_that_is_checked_in() -> None:
    file = max(FORMATS.glob("v*/records.json"), key=lambda file: int(file.parent.name[1:]))

    assert json.loads(file.read_text()) == {name: pack_record(one).data.decode() for name, one in RECORDS.items()}


def test_admissions_are_written_as_they_were() -> None:
    data = b'{"format":1,"values":{"a":{"$":"tuple","of":[1]}}}'

    assert pack_admission({"a": (1,)}).data == data
    assert unpack_admission(data) == {"a": (1,)}
