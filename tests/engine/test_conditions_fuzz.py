"""Conditions that nobody thought of: those of the grammar mean what Python means, and nothing else gets anywhere.

Expressions are grown from a grammar, since random characters hardly ever get past a parser: once from the grammar of
conditions (beside each the same for Python, to be judged by `eval`), once from one that is far too wide.
"""

import ast
import gc
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engine.conditions import Condition, compile_condition
from engine.errors import ConditionFailed, ConditionInvalid
from engine.operations import FUNCTIONS


def examples(count: int) -> settings:
    """So many; how long one takes is checked where it matters."""
    return settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))


def words(text: str) -> list[str]:
    return text.split()


Draw = Callable[[st.SearchStrategy[Any]], Any]
Pair = tuple[str, str]
"""A part of a condition, and what it is in Python."""

AT_MOST_SECONDS = 1.0
"""Of the processor's time. A thousandth of it is usual."""


@pytest.fixture(scope="module", autouse=True)
def _what_other_tests_left_is_not_looked_through() -> Iterator[None]:
    # In a process with thousands of tests behind it a collection of garbage takes half a second.
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def compiled(text: str, schema: Any = None) -> Condition | None:
    """The condition, or None if it is refused; in good time, with a place in the text, and with no other error."""
    began = time.process_time()
    try:
        return compile_condition(text, schema)
    except ConditionInvalid as refused:
        error = refused
    finally:
        assert time.process_time() - began < AT_MOST_SECONDS
    assert error.faults
    assert all(1 <= fault.column <= len(error.text) + 1 for fault in error.faults)
    assert all(fault.code in ("bad_condition", "unknown_key") and fault.message for fault in error.faults)
    assert str(error)
    return None


def judged(condition: Condition, state: Any) -> bool | ConditionFailed:
    """What it says of a state; in good time, and with no other error."""
    began = time.process_time()
    try:
        found: bool | ConditionFailed = condition(state)
    except ConditionFailed as failed:
        found = failed
    assert time.process_time() - began < AT_MOST_SECONDS
    assert type(found) is bool or 1 <= found.column <= len(condition.text) + 1
    return found


# --- the grammar of conditions --------------------------------------------------------------------------


def pick(draw: Draw, *choices: Any) -> Any:
    return choices[draw(st.integers(0, len(choices) - 1))]


def literal(draw: Draw, strategy: st.SearchStrategy[Any]) -> Pair:
    text = repr(draw(strategy))
    return text, text


# Few and small ones, so that they are equal, and at the ends of lists, often enough.
_integers = st.sampled_from([0, 1, 1, 2, 2, 3, 4, 7, 2**63, 2**255])
_floats = st.sampled_from([0.0, 0.5, 1.0, 2.0, 2.5, 1e308, 1e-300])
_texts = st.sampled_from(["", "a", "b", "abc", "Ab", "ß", "x y"])


def path(draw: Draw, key: str) -> Pair:
    ours = pick(draw, f"state.{key}", f'state["{key}"]', f"state [ '{key}' ]")
    return ours, f"item(state, {key!r})"


def under(draw: Draw, above: Pair, index: Pair) -> Pair:
    return f"{above[0]}[{index[0]}]", f"item({above[1]}, {index[1]})"


def either_path(draw: Draw, depth: int, kind: str) -> Pair:
    """A path to a value of a kind, if the state is as it should be."""
    if kind == "list":
        return pick(draw, lambda: path(draw, "rows"), lambda: inner(draw, "rows"))()
    if kind == "text":
        return pick(draw, lambda: path(draw, "name"), lambda: inner(draw, "name"))()
    if depth > 0 and draw(st.booleans()):
        return under(draw, either_path(draw, depth - 1, "list"), number(draw, 0))
    return pick(draw, lambda: path(draw, "n"), lambda: path(draw, "q"), lambda: inner(draw, "n"))()


def inner(draw: Draw, key: str) -> Pair:
    above = path(draw, "order")
    ours = pick(draw, f"{above[0]}.{key}", f'{above[0]}["{key}"]')
    return ours, f"item({above[1]}, {key!r})"


def parts(draw: Draw, depth: int, kind: str) -> Pair:
    """What there is for every kind."""

    def choice() -> Pair:
        (yes, yes2), (test, test2), (no, no2) = grow(draw, depth, kind), truth(draw, depth), grow(draw, depth, kind)
        return f"({yes} if {test} else {no})", f"({yes2} if {test2} else {no2})"

    def get() -> Pair:
        (ours, theirs), (default, default2) = either_path(draw, depth, kind), grow(draw, depth, kind)
        return f"get({ours}, {default})", f"get(lambda: {theirs}, lambda: {default2})"

    def logic() -> Pair:
        (left, left2), (right, right2) = grow(draw, depth, kind), grow(draw, depth, kind)
        sign = pick(draw, "and", "or")
        return f"({left} {sign} {right})", f"({left2} {sign} {right2})"

    return pick(draw, choice, get, logic)()


def number(draw: Draw, depth: int) -> Pair:
    if depth <= 0:
        return pick(
            draw,
            lambda: literal(draw, _integers),
            lambda: literal(draw, _floats),
            lambda: either_path(draw, 0, "number"),
        )()

    def binary() -> Pair:
        (left, left2), (right, right2) = number(draw, depth - 1), number(draw, depth - 1)
        sign = pick(draw, "+", "-", "*", "/", "//", "%")
        bare = draw(st.booleans())
        return (
            (f"{left} {sign} {right}", f"{left2} {sign} {right2}")
            if bare
            else (
                f"({left} {sign} {right})",
                f"({left2} {sign} {right2})",
            )
        )

    def one() -> Pair:
        ours, theirs = number(draw, depth - 1)
        shape = pick(draw, "-{}", "+{}", "abs({})", "round({})", "round({}, 1)", "({})")
        return shape.format(ours), shape.format(theirs)

    def of_list() -> Pair:
        ours, theirs = many(draw, depth - 1)
        shape = pick(draw, "len({})", "min({})", "max({})")
        return shape.format(ours), shape.format(theirs)

    def of_two() -> Pair:
        (left, left2), (right, right2) = number(draw, depth - 1), number(draw, depth - 1)
        name = pick(draw, "min", "max")
        return f"{name}({left}, {right})", f"{name}({left2}, {right2})"

    return pick(
        draw,
        binary,
        one,
        of_list,
        of_two,
        lambda: either_path(draw, depth - 1, "number"),
        lambda: parts(draw, depth - 1, "number"),
    )()


def text(draw: Draw, depth: int) -> Pair:
    if depth <= 0:
        return pick(draw, lambda: literal(draw, _texts), lambda: either_path(draw, 0, "text"))()

    def one() -> Pair:
        ours, theirs = text(draw, depth - 1)
        name = pick(draw, "lower", "upper")
        return f"{name}({ours})", f"str.{name}({theirs})"

    def both() -> Pair:
        (left, left2), (right, right2) = text(draw, depth - 1), text(draw, depth - 1)
        return f"({left} + {right})", f"({left2} + {right2})"

    return pick(draw, one, both, lambda: text(draw, 0), lambda: parts(draw, depth - 1, "text"))()


def many(draw: Draw, depth: int) -> Pair:
    if depth <= 0:
        return either_path(draw, 0, "list")

    def display() -> Pair:
        found = [number(draw, depth - 1) for _ in range(draw(st.integers(0, 3)))]
        return f"[{', '.join(ours for ours, _ in found)}]", f"[{', '.join(theirs for _, theirs in found)}]"

    def both() -> Pair:
        (left, left2), (right, right2) = many(draw, depth - 1), many(draw, depth - 1)
        return f"({left} + {right})", f"({left2} + {right2})"

    return pick(draw, display, both, lambda: many(draw, 0), lambda: parts(draw, depth - 1, "list"))()


def truth(draw: Draw, depth: int) -> Pair:
    depth -= 1

    def compare() -> Pair:
        kind = pick(draw, "number", "number", "text", "list")
        found = [grow(draw, depth, kind) for _ in range(pick(draw, 2, 2, 3))]
        signs = [pick(draw, "<", "<=", ">", ">=", "==", "!=") for _ in found[1:]]
        ours, theirs = found[0]
        for sign, (more, more2) in zip(signs, found[1:], strict=True):
            ours, theirs = f"{ours} {sign} {more}", f"{theirs} {sign} {more2}"
        return ours, theirs

    def member() -> Pair:
        kind, of = pick(draw, ("number", "list"), ("text", "text"))
        (left, left2), (right, right2) = grow(draw, depth, kind), grow(draw, depth, of)
        sign = pick(draw, "in", "not in")
        return f"{left} {sign} {right}", f"{left2} {sign} {right2}"

    def none() -> Pair:
        ours, theirs = either_path(draw, depth, pick(draw, "number", "text", "list"))
        sign = pick(draw, "is", "is not", "==", "!=")
        return f"{ours} {sign} None", f"{theirs} {sign} None"

    def there() -> Pair:
        ours, theirs = either_path(draw, depth, pick(draw, "number", "text", "list"))
        return f"has({ours})", f"has(lambda: {theirs})"

    def test() -> Pair:
        (left, left2), (right, right2) = text(draw, depth), text(draw, depth)
        name = pick(draw, "startswith", "endswith")
        return f"{name}({left}, {right})", f"str.{name}({left2}, {right2})"

    def some() -> Pair:
        ours, theirs = many(draw, depth)
        name = pick(draw, "any", "all")
        return f"{name}({ours})", f"{name}({theirs})"

    def join() -> Pair:
        found = [truth(draw, depth) for _ in range(pick(draw, 2, 2, 3))]
        sign = pick(draw, " and ", " or ")
        wrap = pick(draw, "({})", "{}")
        return wrap.format(sign.join(p for p, _ in found)), wrap.format(sign.join(p for _, p in found))

    def negated() -> Pair:
        ours, theirs = truth(draw, depth)
        return f"(not {ours})", f"(not {theirs})"

    if depth <= 0:
        return pick(draw, compare, member, none, there)()
    return pick(draw, compare, compare, member, none, there, test, some, join, join, negated)()


def grow(draw: Draw, depth: int, kind: str) -> Pair:
    return {"number": number, "text": text, "list": many}[kind](draw, depth)


@st.composite
def conditions(draw: Draw) -> Pair:
    return truth(draw, pick(draw, 1, 2, 3, 4))


_odd = st.sampled_from([None, True, "abc", [], {"a": 1}, 2**300, -(2**255), math.inf, math.nan, (1, 2), {1, 2}])


@st.composite
def states(draw: Draw) -> dict[str, Any]:
    """Mostly as the conditions want it."""
    right = {
        "n": st.integers(-4, 4),
        "q": st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.5, 2.0]),
        "name": _texts,
        "rows": st.lists(st.integers(-3, 5), max_size=4),
    }

    def filled() -> dict[str, Any]:
        made = {}
        for key, strategy in right.items():
            luck = draw(st.integers(0, 9))
            if luck:
                made[key] = draw(strategy if luck > 1 else _odd)
        return made

    return {**filled(), "order": filled() if draw(st.integers(0, 9)) else draw(_odd)}


def item(value: Any, index: Any) -> Any:
    """What conditions mean by `value[index]`, in Python."""
    if isinstance(value, dict) or (type(index) is int and isinstance(value, list | tuple | str)):
        return value[index]
    raise LookupError(index)


def has(find: Callable[[], Any]) -> bool:
    try:
        find()
    except Exception:
        return False
    return True


def get(find: Callable[[], Any], default: Callable[[], Any]) -> Any:
    try:
        return find()
    except Exception:
        return default()


# Where conditions refuse what Python does: no arithmetic with anything but bounded numbers, no iteration over texts
# and mappings.
STRICTER = ("is no number", "too large", "expected a list")


@examples(1_500)
@given(conditions(), states())
@example(("state.n * 2 // 0 == 1", "item(state, 'n') * 2 // 0 == 1"), {"n": 1})
def test_a_condition_of_the_grammar_means_what_python_means(pair: Pair, state: dict[str, Any]) -> None:
    ours, theirs = pair
    condition = compiled(ours)
    if condition is None:
        with pytest.raises(ConditionInvalid, match=r"characters, |parts|deep|bits|too large|never|order|added"):
            compile_condition(ours)
        return

    found = judged(condition, state)

    try:
        expected = bool(eval(theirs, {"item": item, "has": has, "get": get, "state": state}))
    except Exception:
        assert isinstance(found, ConditionFailed)
    else:
        if isinstance(found, ConditionFailed):
            assert any(said in found.message for said in STRICTER), found
        else:
            assert found is expected


# --- a grammar that is far too wide -----------------------------------------------------------------------

NAMES = [
    *("state", "len", "has", "get", "any", "min", "round", "lower", "x", "self", "__builtins__", "__import__"),
    *("eval", "open", "type", "getattr", "print", "globals", "True", "None", "__class__", "__debug__"),
]
ATTRIBUTES = [
    *("a", "items", "keys", "__class__", "__init__", "__globals__", "__subclasses__", "__dict__", "_x", "mro"),
    *("format", "upper", "real", "__getattribute__", "func_code", "__call__", "gi_frame", "append", "pop"),
]
SIGNS = words("+ - * / // % ** << >> & | ^ @ < > == != in is and or")


LEAVES = [
    *(
        "state",
        "state.a",
        "state.b",
        'state["c"]',
        "state.d.e",
        "state.trap",
        "state.trap.a",
        "state.trap[0]",
        "state.b[0]",
    ),
    *("0", "1", "-2", "2.5", '"a"', '"keys"', "True", "None", "[]", "{}", "()"),
]
WILD_LEAVES = ['"%s"', 'f"{state}"', "b'x'", "1j", "...", "10**9", *NAMES]
# Each `@` becomes an expression, `$` an attribute, `§` a name and `¤` a sign.
SHAPES = [
    *("@.$", "@[@]", "len(@)", "min(@)", "max(@, @)", "abs(@)", "round(@)", "round(@, @)", "any(@)", "all([@, @])"),
    *("lower(@)", "startswith(@, @)", "has(@)", "get(@, @)", "(@ == @)", "(@ != @)", "(@ < @)", "@ in @", "(@ + @)"),
    *("(@ - @)", "(@ * @)", "(@ / @)", "@ // @", "(@ and @)", "(@ or @)", "not @", "-@", "[@, @]", "(@, @)"),
    *("(@ if @ else @)", "@ <= @ != @", "(@ is None)", "@ not in @"),
]
WILD_SHAPES = [
    *(
        "@.$()",
        "@[@:@]",
        "§(@)",
        "@(@, *@, k=@, **@)",
        "@ ¤ @",
        "~@",
        "await @",
        "*@",
        "{@: @, **@}",
        "{@: @}",
        "{@, @}",
    ),
    *(
        "[@ for x in @ if @]",
        "any(@ for x in @)",
        "[[x for x in @] for y in @]",
        "{x: @ for x in @}",
        "(lambda x=state: @)",
    ),
    *("(lambda: @)()", "(x := @)", 'f"{@!r:>{9}}"', "(yield @)", "(@).__class__.__mro__[-1].__subclasses__()", "@.§"),
]


@st.composite
def expressions(draw: Draw) -> str:
    """Python's expressions, nearly all of them; half of them of what conditions have, but with no regard to types."""
    is_wild = draw(st.booleans())

    def wide(depth: int) -> str:
        wild = is_wild and draw(st.integers(0, 3)) == 0
        if depth <= 0:
            return str(pick(draw, *(WILD_LEAVES if wild else LEAVES)))
        grown = []
        for sign in pick(draw, *(WILD_SHAPES if wild else SHAPES)):
            match sign:
                case "@":
                    grown.append(wide(depth - draw(st.integers(1, 2))))
                case "$":
                    grown.append(pick(draw, *ATTRIBUTES))
                case "§":
                    grown.append(pick(draw, *NAMES))
                case "¤":
                    grown.append(pick(draw, *SIGNS))
                case _:
                    grown.append(sign)
        return "".join(grown)

    return wide(3)


class Trap:
    """Records everything that is done with it."""

    def __getattribute__(self, name: str) -> Any:
        touched.append(name)
        raise AttributeError(name)


touched: list[str] = []


def _recording(name: str) -> Any:
    def method(self: Any, *args: Any) -> Any:
        touched.append(name)
        return 5 if name == "__hash__" else name == "__bool__"

    return method


COMPARING = {"__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__bool__", "__hash__"}
OTHERS = [
    *words(
        "call len iter next contains getitem setitem delitem missing add radd iadd sub rsub mul rmul mod rmod truediv"
    ),
    *words(
        "rtruediv floordiv rfloordiv pow rpow neg pos invert abs round int float index complex repr str format bytes"
    ),
    *words("await enter exit get set delete instancecheck subclasscheck reversed length_hint matmul lshift and or xor"),
]
for _name in [*COMPARING, *(f"__{other}__" for other in OTHERS)]:
    setattr(Trap, _name, _recording(_name))


def trapped() -> dict[str, Any]:
    trap = Trap()
    return {"a": trap, "b": [trap, 1, "x"], "c": {"a": trap}, "d": {"e": 3}, "trap": trap, "keys": "x"}


PARTS = (
    *(ast.Expression, ast.Constant, ast.Name, ast.Load, ast.Attribute, ast.Subscript, ast.Compare, ast.BoolOp, ast.And),
    *(ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.UAdd, ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv),
    *(ast.Mod, ast.IfExp, ast.Call, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.cmpop),
)


def harmless(text: str) -> bool:
    """What a compiled text may consist of, told independently of the compiler."""
    for node in ast.walk(ast.parse(" ".join(text.split()), mode="eval")):
        match node:
            case ast.Name(id=name) if name != "state" and name not in {*FUNCTIONS, "has", "get"}:
                return False
            case ast.Attribute(attr=name) if name.startswith("_"):
                return False
            case ast.Call(func=func, keywords=words) if not isinstance(func, ast.Name) or words:
                return False
            case _ if not isinstance(node, PARTS):
                return False
    return True


def check(text: str) -> None:
    """Whatever the text is, it is refused or harmless, and does nothing to what it is given but compare it."""
    condition = compiled(text)
    if condition is None:
        return
    assert harmless(text)
    touched.clear()
    for state in (trapped(), Trap(), None, [], trapped()["c"]):
        judged(condition, state)
    assert {*touched} <= COMPARING
    compiled(text, {"a": "string", "b": "array", "c": "object", "d": {"type": "object"}})


@examples(1_500)
@given(expressions())
@example("state.trap.__class__")
@example("().__class__.__bases__[0].__subclasses__()")
@example("[x for x in [y for y in state.b]]")
@example("state" + ".a" * 300)
def test_python_that_is_no_condition_is_refused_or_harmless(text: str) -> None:
    check(text)


TOKENS = [
    *SIGNS,
    *NAMES,
    *ATTRIBUTES,
    *words("( ) [ ] { } , . : ; = := -> ! # \\ ` ~ $ ? && || not if else for lambda await yield import class def"),
    *words("0 1 2.5 .5 1e9 0x1 1_0 007 1j 1if 9**9 'a' \"b\" '%s' f'{a}' b'' '' \"\"\" ' \" \\n \\N{DASH} \\x"),
    *("\n", "\t", "\0", "\x0c", "\u2028", "ﬁ", "é", "\ud800", "\uff10", "\uff3f", "²", "\xa0"),
]


@examples(800)
@given(st.lists(st.sampled_from(TOKENS), max_size=25), st.sampled_from(["", " "]))
def test_a_soup_of_tokens_is_refused_or_harmless(tokens: list[str], between: str) -> None:
    check(between.join(tokens))


@examples(700)
@given(conditions(), st.integers(0, 200), st.integers(0, 4), st.sampled_from(TOKENS) | st.text(max_size=4))
def test_a_condition_with_a_slip_in_it_is_refused_or_harmless(pair: Pair, at: int, drop: int, put: str) -> None:
    text = pair[0]
    check(text[: at % (len(text) + 1)] + put + text[at % (len(text) + 1) + drop :])


@examples(500)
@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda data: data.decode("latin-1")))
def test_any_text_is_refused_or_harmless(text: str) -> None:
    check(text)
