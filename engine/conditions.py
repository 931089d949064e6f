"""Conditions as text: a small safe part of Python's expressions, compiled to closures.

    state.quality < 0.95 and has(state.rows)

A graph that comes as data brings its conditions as text, and whoever wrote it is not trusted. So nothing is ever given
to `eval`: the text is parsed, each kind of node that is on the list here becomes a closure (terms.py) over its parts,
and there is none for anything else. What a closure may do with a value is decided in operations.py.

What can be known of a text without a state is told when it is compiled, all of it at once: what is no part of the
language, keys that the state's schema does not have, a number compared with a string. What depends on the state is
told by `ConditionFailed` when it happens, never by a bare error from inside.

An evaluation costs no more than its parts (`MOST_NODES`) times the size of the values in the state that they look
through. What it makes is bounded. Not bounded is what the author's own classes do when their objects are compared.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

import attrs

from . import terms
from .errors import ConditionFailed, ConditionFault, ConditionInvalid, said_by
from .kinds import (
    ANYTHING,
    FILLED,
    INTEGER,
    KEYED,
    LISTS,
    NUMBER,
    STRING,
    SUMS,
    Kind,
    common,
    either,
    kind_of,
    kind_of_type,
    may_be_ordered,
    may_equal,
)
from .operations import (
    BOOLEAN,
    CALCULATIONS,
    EQUALITIES,
    FUNCTIONS,
    INTEGER_BITS,
    MEMBERSHIPS,
    ORDERS,
    SIZED,
    Comparison,
    Function,
    Refused,
    minus,
    number,
)
from .scanning import Scanned, scan
from .schema import Schema, did_you_mean
from .terms import Fail, Holds, Read

StateKinds = Schema | Kind | Mapping[str, Any]
"""What is known of a state: a schema of the engine's, or every key with its kind (see `compile_condition`)."""


@attrs.frozen
class Condition:
    """A condition compiled from its text: a function of the state. Two are equal if their texts are.

    `holds` is the function itself, for who calls it often. Both raise `ConditionFailed`.
    """

    text: str
    holds: Holds = attrs.field(eq=False, repr=False)

    def __call__(self, state: Any) -> bool:
        """Whether it holds for a state."""
        return self.holds(state)

    @property
    def __name__(self) -> str:
        # What drawings and messages call a function.
        return self.text

    def __reduce__(self) -> tuple[Any, ...]:
        # Closures do not travel. It need not be checked again: it was when it was made.
        return compile_condition, (self.text,)


def compile_condition(text: Any, schema: StateKinds | None = None) -> Condition:
    """The condition that a text says.

    With a schema it is checked against it: one of the engine's, or a mapping from every key that the state has to its
    kind, as a word or schema of JSON ("number", {"type": "array"}), a Python type, or None for anything. Raises
    `ConditionInvalid` with every fault.
    """
    scanned = scan(text)
    compiler = _Compiler(scanned, _kind_of_state(schema))
    holds = compiler.whole()
    if compiler.faults:
        raise ConditionInvalid(scanned.text, sorted(compiler.faults, key=lambda fault: fault.column))
    return Condition(scanned.text, holds)


@attrs.frozen
class Router:
    """What chooses the way of a run by its state, compiled from its text. Two are equal if their texts are.

    It gives a label: a text as it is; a number, True, False or None as JSON writes them, since that is how a
    definition can name them; of a list each.
    """

    text: str
    read: Read = attrs.field(eq=False, repr=False)

    def __call__(self, state: Any) -> Any:
        """The label, or labels, for a state."""
        found = self.read(state)
        return [_label(one) for one in found] if isinstance(found, list | tuple) else _label(found)

    @property
    def __name__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[Any, ...]:
        return compile_router, (self.text,)


def _label(value: Any) -> Any:
    match value:
        case None | bool():
            return str(value).lower() if value is not None else "null"
        case int() | float():
            return str(value)
    return value


def compile_router(text: Any, schema: StateKinds | None = None) -> Router:
    """The router that a text says: as `compile_condition`, of an expression that gives a label."""
    scanned = scan(text)
    compiler = _Compiler(scanned, _kind_of_state(schema))
    read = compiler.value()
    if compiler.faults:
        raise ConditionInvalid(scanned.text, sorted(compiler.faults, key=lambda fault: fault.column))
    return Router(scanned.text, read)


def _kind_of_state(schema: StateKinds | None) -> Kind:
    match schema:
        case None:
            return Kind(KEYED)
        case Kind():
            return schema
        case Schema():
            kinds = {key.name: kind_of_type(key.type) for key in schema.keys.values()}
            if isinstance(schema.type, type) and attrs.has(schema.type):
                # A field that the class works out itself is no key of the state, but can be read.
                kinds = {field.name: ANYTHING for field in attrs.fields(schema.type)} | kinds
            return Kind(KEYED, keys=lambda: kinds, closed=schema.closed)
    return Kind(KEYED, keys=lambda: {name: kind_of(its) for name, its in schema.items()}, closed=True)


# --- compiling ------------------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class _Term:
    """A part of a condition: how its value is read, and what is known of it."""

    read: Read
    kind: Kind = ANYTHING
    is_bool: bool = False
    """It is certainly True or False, not only as a schema says."""
    find: Read | None = None
    """Of a path into the state: its value, or MISSING."""
    explain: Read | None = None
    """Of a path: raises the error that says where it ends."""
    is_constant: bool = False
    value: Any = None


def _never(state: Any) -> NoReturn:
    raise AssertionError("a condition with faults is not evaluated")


_FAULTY: Final = _Term(_never)
_SAID: Final = 60
"""Of a part of the text, or of what another error says, what a message shows."""

_SIGNS: Final[Mapping[type[ast.AST], str]] = {
    **{ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="},
    **{ast.In: "in", ast.NotIn: "not in", ast.Is: "is", ast.IsNot: "is not"},
    **{ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%"},
}
_IDENTITIES: Final[Mapping[str, Comparison]] = {"is": operator.is_, "is not": operator.is_not}
_COMPARISONS: Final = {**ORDERS, **EQUALITIES, **MEMBERSHIPS, **_IDENTITIES}

_REFUSED: Final[Mapping[type[ast.AST], str]] = {
    ast.Lambda: "a lambda",
    **dict.fromkeys((ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp), "a comprehension"),
    ast.Await: "await",
    **dict.fromkeys((ast.Yield, ast.YieldFrom), "yield"),
    ast.Starred: "a star",
    ast.Slice: "a slice",
}
_WORDS: Final = {"true": "True", "false": "False", "null": "None", "none": "None", "nil": "None", "undefined": "None"}
_SPECIAL: Final = {"has": "has(state.rows)", "get": "get(state.count, 0)"}
_CALLED: Final = sorted([*FUNCTIONS, *_SPECIAL])


class _Compiler:
    """Makes the terms of one tree, and gathers its faults. A part with a fault may be anything to what is around it."""

    def __init__(self, scanned: Scanned, state: Kind) -> None:
        self.faults: list[ConditionFault] = []
        self._scanned = scanned
        self._state = state

    def whole(self) -> Holds:
        """The tree as a function of the state."""
        tree = self._scanned.tree
        if isinstance(tree, ast.Tuple | ast.List | ast.Set | ast.Dict):
            self._fault(self._column(tree), "it is a list of things, not a condition", "join them by `and` or `or`")
        return terms.guarded(self._test(tree), self._failing(self._column(tree)))

    def value(self) -> Read:
        """The tree as a function that gives its value."""
        tree = self._scanned.tree
        return terms.guarded(self._term(tree).read, self._failing(self._column(tree)))

    # --- telling ------------------------------------------------------------------------------------------

    def _fault(self, column: int, message: str, hint: str = "") -> _Term:
        self.faults.append(ConditionFault("bad_condition", column, message, hint))
        return _FAULTY

    def _failing(self, column: int) -> Fail:
        text = self._scanned.text

        def fail(why: Exception | str) -> NoReturn:
            if isinstance(why, str | Refused):
                raise ConditionFailed(text, column, str(why)) from None
            said = said_by(why).partition("\n")[0][:_SAID]
            raise ConditionFailed(text, column, f"{type(why).__name__}: {said}") from why

        return fail

    def _column(self, node: ast.expr) -> int:
        return self._scanned.column(node)

    def _said(self, node: ast.expr) -> str:
        said = self._scanned.said(node)
        return f"`{said}`" if len(said) <= _SAID else f"`{said[: _SAID - 1]}…`"

    # --- parts --------------------------------------------------------------------------------------------

    def _term(self, node: ast.expr) -> _Term:
        match node:
            case ast.Constant():
                return self._literal(node)
            case ast.Name():
                return self._name(node)
            case ast.Attribute():
                return self._attribute(node)
            case ast.Subscript():
                return self._subscript(node)
            case ast.Compare():
                return self._comparison(node)
            case ast.BoolOp():
                return self._and_or(node)
            case ast.UnaryOp():
                return self._unary(node)
            case ast.BinOp():
                return self._calculation(node)
            case ast.IfExp():
                return self._choice(node)
            case ast.Call():
                return self._call(node)
            case ast.List() | ast.Tuple() | ast.Set() | ast.Dict():
                return self._display(node)
        what = _REFUSED.get(type(node), f"{type(node).__name__.lower()}")
        return self._fault(self._column(node), f"{what} is no part of a condition", "let a node work it out")

    def _test(self, node: ast.expr) -> Holds:
        term = self._term(node)
        return term.read if term.is_bool else terms.truth(term.read, self._failing(self._column(node)))

    def _literal(self, node: ast.Constant) -> _Term:
        value = node.value
        if type(value) is int and value.bit_length() > INTEGER_BITS:
            return self._fault(self._column(node), f"an integer has at most {INTEGER_BITS} bits")
        if type(value) is float and not math.isfinite(value):
            return self._fault(self._column(node), f"{self._said(node)} is too large for a number")
        return _constant(value)

    def _name(self, node: ast.Name) -> _Term:
        if node.id == "state":
            return _Term(terms.itself, self._state, find=terms.itself)
        if node.id in _CALLED:
            hint = f"call it, e.g. {_example(node.id)}"
            return self._fault(self._column(node), f"{node.id!r} is a function", hint)
        if node.id in _WORDS:
            hint = f"did you mean {_WORDS[node.id]}?"
        elif node.id in self._known():
            hint = f"did you mean state.{node.id}?"
        else:
            hint = f"the keys of the state are read as state.{node.id}"
        return self._fault(self._column(node), f"there is no name {node.id!r}", hint)

    def _known(self) -> Mapping[str, Kind]:
        return self._state.keys() if self._state.keys else {}

    # --- paths --------------------------------------------------------------------------------------------

    def _attribute(self, node: ast.Attribute) -> _Term:
        column = self._scanned.end(node) - len(node.attr)
        parent = self._term(node.value)
        if node.attr.startswith("_"):
            hint = f"write [{node.attr!r}] if it is a key" if not node.attr.startswith("__") else ""
            return self._fault(column, f"{node.attr!r} begins with an underscore, which is private", hint)
        return self._key(node.value, parent, node.attr, column)

    def _key(self, above: ast.expr, parent: _Term, name: str, column: int) -> _Term:
        kind = parent.kind
        if not kind.meets(KEYED):
            hint = f"write {name}(...)" if name in FUNCTIONS else ""
            return self._fault(column, f"{self._said(above)} is {kind}, which has no keys", hint)
        found = ANYTHING
        if kind.keys:
            keys = kind.keys()
            if name in keys:
                found = keys[name]
            elif kind.closed:
                whose = "the state" if isinstance(above, ast.Name) else self._said(above)
                fault = ConditionFault("unknown_key", column, f"{whose} has no key {name!r}", did_you_mean(name, keys))
                self.faults.append(fault)
                return _FAULTY
        source = parent.find or parent.read
        find = terms.key_of_state(name) if source is terms.itself else terms.key_of(source, name)
        return self._path(above, parent, find, terms.constant(name), found, column)

    def _path(self, above: ast.expr, parent: _Term, find: Read, index: Read, kind: Kind, column: int) -> _Term:
        fail = self._failing(column)
        explain = terms.absence(self._said(above), parent.find or parent.read, parent.explain, index, fail)
        # What is no path itself may still have keys, but not be asked for: `has(lower(x)[0])` means nothing.
        is_path = parent.find is not None
        return _Term(
            terms.present(find, explain, fail),
            kind,
            find=find if is_path else None,
            explain=explain if is_path else None,
        )

    def _subscript(self, node: ast.Subscript) -> _Term:
        parent, index = self._term(node.value), self._term(node.slice)
        column = self._scanned.operator_after(node.value)
        if index.is_constant and type(index.value) is str:
            return self._key(node.value, parent, index.value, column)
        kind, found = parent.kind, ANYTHING
        if not kind.meets(LISTS | STRING | KEYED):
            return self._fault(column, f"{self._said(node.value)} is {kind}, which has no items")
        if kind.may_be <= LISTS | STRING:
            if not index.kind.meets(INTEGER):
                return self._fault(self._column(node.slice), f"an index is an integer, found {index.kind}")
            if kind.may_be <= STRING:
                found = Kind(STRING)
            elif kind.may_be <= LISTS and kind.items:
                found = kind.items()
        find = terms.item_of(parent.find or parent.read, index.read)
        return self._path(node.value, parent, find, index.read, found, column)

    # --- logic --------------------------------------------------------------------------------------------

    def _and_or(self, node: ast.BoolOp) -> _Term:
        found = [self._term(value) for value in node.values]
        is_or = isinstance(node.op, ast.Or)
        if all(term.is_bool for term in found):
            join = terms.disjunction if is_or else terms.conjunction
            return _truth(join([term.read for term in found]))
        fails = [self._failing(self._column(value)) for value in node.values]
        read = terms.first_of([(term.read, fail) for term, fail in zip(found, fails, strict=True)], is_or)
        return _Term(read, either(term.kind for term in found))

    def _choice(self, node: ast.IfExp) -> _Term:
        test, yes, no = self._test(node.test), self._term(node.body), self._term(node.orelse)
        read = terms.chosen(test, yes.read, no.read)
        return _Term(read, either([yes.kind, no.kind]), is_bool=yes.is_bool and no.is_bool)

    def _comparison(self, node: ast.Compare) -> _Term:
        nodes = [node.left, *node.comparators]
        found = [self._term(part) for part in nodes]
        links: list[tuple[Comparison, str, Read, Fail]] = []
        for place, op in enumerate(node.ops):
            sign = _SIGNS[type(op)]
            column = self._scanned.operator_after(nodes[place])
            self._check_comparison(found[place], sign, found[place + 1], column)
            links.append((_COMPARISONS[sign], sign, found[place + 1].read, self._failing(column)))
        if len(links) > 1:
            return _truth(terms.chained(found[0].read, links))
        ((compare, sign, right, fail),) = links
        if found[1].is_constant:
            return _truth(terms.compared_with(found[0].read, compare, sign, found[1].value, fail))
        return _truth(terms.compared(found[0].read, compare, sign, right, fail))

    def _check_comparison(self, left: _Term, sign: str, right: _Term, column: int) -> None:
        one, other = left.kind, right.kind
        if sign in _IDENTITIES:
            if not any(term.is_constant and term.value is None for term in (left, right)):
                instead = "==" if sign == "is" else "!="
                self._fault(column, f"{sign!r} is for None only", f"did you mean `{instead}`?")
        elif sign in MEMBERSHIPS:
            self._check_membership(one, other, column)
        elif sign in ORDERS and not may_be_ordered(one, other):
            self._fault(column, f"{one} and {other} have no order")
        elif sign in EQUALITIES and not may_equal(one, other):
            self._fault(column, f"{one} is never equal to {other}")

    def _check_membership(self, one: Kind, other: Kind, column: int) -> None:
        if not other.meets(SIZED):
            self._fault(column, f"nothing is in {other}")
        elif other.may_be <= STRING and not one.meets(STRING):
            self._fault(column, f"only a string is in a string, found {one}")
        elif other.may_be <= FILLED and other.items and not may_equal(one, other.items()):
            self._fault(column, f"{one} is never in a list of which each is {other.items()}")

    # --- calculating --------------------------------------------------------------------------------------

    def _unary(self, node: ast.UnaryOp) -> _Term:
        if isinstance(node.op, ast.Not):
            return _truth(terms.negation(self._test(node.operand)))
        term = self._term(node.operand)
        if not term.kind.meets(NUMBER):
            return self._fault(self._column(node), f"{self._said(node.operand)} is {term.kind}, not a number")
        function = minus if isinstance(node.op, ast.USub) else number
        if term.is_constant:
            return _constant(function(term.value))
        return _Term(
            terms.applied(function, [term.read], self._failing(self._column(node))), Kind(term.kind.may_be & NUMBER)
        )

    def _calculation(self, node: ast.BinOp) -> _Term:
        sign = _SIGNS[type(node.op)]
        column = self._scanned.operator_after(node.left)
        left, right = self._term(node.left), self._term(node.right)
        one, other = left.kind, right.kind
        may_be = common(SUMS if sign == "+" else (NUMBER,), one, other)
        if not may_be:
            what = f"{one} and {other} cannot be added" if sign == "+" else f"`{sign}` is for numbers"
            return self._fault(column, what if sign == "+" else f"{what}, found {one} and {other}")
        if sign != "/" and one.may_be | other.may_be <= INTEGER:
            may_be = INTEGER
        return _Term(terms.applied(CALCULATIONS[sign], [left.read, right.read], self._failing(column)), Kind(may_be))

    # --- calling --------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> _Term:
        assert not node.keywords  # neither `=` nor `**` gets past the scanner
        column = self._column(node)
        if isinstance(node.func, ast.Attribute):
            name = node.func.attr
            place = self._scanned.end(node.func) - len(name)
            hint = (
                f"write {name}({self._scanned.said(node.func.value)}, ...)"
                if name in _CALLED
                else _functions_hint(name)
            )
            self._arguments(node)
            return self._fault(place, f"a condition calls no methods, found {name!r}", hint)
        if not isinstance(node.func, ast.Name) or node.func.id not in _CALLED:
            self._arguments(node)
            if not isinstance(node.func, ast.Name):
                return self._fault(column, "only functions are called", _functions_hint(""))
            return self._fault(column, f"there is no function {node.func.id!r}", _functions_hint(node.func.id))
        name = node.func.id
        if name in _SPECIAL:
            return self._path_call(node, name)
        function = FUNCTIONS[name]
        arguments = self._arguments(node)
        most = len(arguments) if function.most is None else function.most
        if not function.fewest <= len(arguments) <= most:
            return self._wrong_count(node, name, function.fewest, function.most)
        return self._function(node, function, arguments)

    def _arguments(self, node: ast.Call) -> list[_Term]:
        return [self._term(argument) for argument in node.args]

    def _wrong_count(self, node: ast.Call, name: str, fewest: int, most: int | None) -> _Term:
        wanted = "at least 1" if most is None else str(fewest) if fewest == most else f"{fewest} or {most}"
        message = f"{name} takes {wanted} argument{'s' * (wanted[-1] != '1')}, found {len(node.args)}"
        return self._fault(self._column(node), message, f"e.g. {_example(name)}")

    def _function(self, node: ast.Call, function: Function, arguments: list[_Term]) -> _Term:
        kinds = [term.kind for term in arguments]
        # Of several values, min and max compare the values themselves.
        takes = function.takes if function.most is not None or len(arguments) == 1 else ()
        for argument, kind, wanted in zip(node.args, kinds, takes, strict=False):
            if not kind.meets(wanted):
                self._fault(self._column(argument), f"{self._said(argument)} is {kind}, expected {Kind(wanted)}")
                return _FAULTY
        read = terms.applied(function.run, [term.read for term in arguments], self._failing(self._column(node)))
        kind = function.gives(kinds)
        return _Term(read, kind, is_bool=kind is BOOLEAN)

    def _path_call(self, node: ast.Call, name: str) -> _Term:
        arguments = self._arguments(node)
        wanted = 1 if name == "has" else 2
        if len(arguments) != wanted:
            return self._wrong_count(node, name, wanted, wanted)
        path = arguments[0]
        if path is _FAULTY:
            return _FAULTY
        if path.find is None:
            message = f"{name} takes a path into the state, found {self._said(node.args[0])}"
            return self._fault(self._column(node.args[0]), message, f"e.g. {_example(name)}")
        if name == "has":
            return _truth(terms.has(path.find))
        default = arguments[1]
        return _Term(terms.get(path.find, default.read), either([path.kind, default.kind]))

    # --- lists and the like -------------------------------------------------------------------------------

    def _display(self, node: ast.List | ast.Tuple | ast.Set | ast.Dict) -> _Term:
        if isinstance(node, ast.Dict):
            keys = [self._term(key) for key in node.keys if key is not None]
            assert len(keys) == len(node.keys)  # `**` does not get past the scanner
            return self._mapping(node, keys, [self._term(value) for value in node.values])
        parts = [self._term(part) for part in node.elts]
        kinds = [part.kind for part in parts]
        if all(part.is_constant for part in parts):
            return self._made(node, lambda: _MAKERS[type(node)](part.value for part in parts), kinds)
        if isinstance(node, ast.Set):
            return self._fault(self._column(node), "a set has literals only", "use a list")
        make = _MAKERS[type(node)]
        return _Term(terms.display(make, [part.read for part in parts]), _filled(make, kinds))

    def _mapping(self, node: ast.Dict, keys: list[_Term], values: list[_Term]) -> _Term:
        if not all(part.is_constant for part in [*keys, *values]):
            return self._fault(self._column(node), "a dict has literals only", "use `a if condition else b`")
        return self._made(node, lambda: {key.value: value.value for key, value in zip(keys, values, strict=True)}, [])

    def _made(self, node: ast.expr, make: Callable[[], Any], kinds: list[Kind]) -> _Term:
        try:
            value = make()
        except TypeError as error:  # of a key that cannot be hashed
            return self._fault(self._column(node), str(error))
        kind = _filled(type(value), kinds)
        return _Term(terms.constant(value), kind, is_constant=True, value=value)


_MAKERS: Final[Mapping[type[ast.AST], Any]] = {ast.List: list, ast.Tuple: tuple, ast.Set: set}


def _filled(make: type, kinds: list[Kind]) -> Kind:
    kind = kind_of_type(make)
    return attrs.evolve(kind, items=lambda: either(kinds)) if kinds else kind


def _constant(value: Any) -> _Term:
    # As a type, float includes the integers.
    kind = Kind(frozenset({"float"})) if type(value) is float else kind_of_type(type(value))
    return _Term(terms.constant(value), kind, type(value) is bool, is_constant=True, value=value)


def _truth(holds: Holds) -> _Term:
    return _Term(holds, BOOLEAN, is_bool=True)


def _example(name: str) -> str:
    return _SPECIAL[name] if name in _SPECIAL else FUNCTIONS[name].example


def _functions_hint(name: str) -> str:
    near = did_you_mean(name, _CALLED)
    return near or f"there are {', '.join(_CALLED)}"
