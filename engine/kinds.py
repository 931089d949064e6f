"""What is known of a value before there is one: a number, a list of texts, an object with these keys.

Read off a Python type, or off the words and schemas of JSON, so that what is asked of a state can be checked when a
graph is defined, whichever way its state was declared. Only plain contradictions are to be found with it: what is not
known may be anything.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import attrs

from .typecheck import is_union, safe_hints, type_name, unwrap

INTEGER: Final = frozenset({"integer"})
NUMBER: Final = INTEGER | {"float"}
STRING: Final = frozenset({"string"})
LISTS: Final = frozenset({"list", "tuple"})
FILLED: Final = LISTS | {"set"}
KEYED: Final = frozenset({"object", "record"})
"""What has keys: a mapping, or an object of an attrs class or a dataclass."""

_EVERYTHING: Final = frozenset({"None", "boolean", "string", "set", *NUMBER, *LISTS, *KEYED})
_WORDS: Final = {
    "null": frozenset({"None"}),
    "boolean": frozenset({"boolean"}),
    "integer": frozenset({"integer"}),
    "number": NUMBER,
    "string": frozenset({"string"}),
    "array": LISTS,
    # A tool written in Python may well put an object of a class where the definition says object.
    "object": KEYED,
}
_CLASSES: Final[Mapping[type, frozenset[str]]] = {
    types.NoneType: _WORDS["null"],
    bool: _WORDS["boolean"],
    int: _WORDS["integer"],
    float: NUMBER,
    str: _WORDS["string"],
    list: frozenset({"list"}),
    tuple: frozenset({"tuple"}),
    set: frozenset({"set"}),
    frozenset: frozenset({"set"}),
    collections.abc.Mapping: frozenset({"object"}),
}


@attrs.frozen(eq=False)
class Kind:
    """What a value may be. Its keys and items are worked out when asked for: a type may contain itself."""

    may_be: frozenset[str] = _EVERYTHING
    items: Callable[[], Kind] | None = None
    keys: Callable[[], Mapping[str, Kind]] | None = None
    closed: bool = False
    """No other keys than these."""
    name: str = ""
    """What its author calls it, if it has keys."""

    def meets(self, atoms: frozenset[str]) -> bool:
        """Whether it may be one of these."""
        return not self.may_be.isdisjoint(atoms)

    def __str__(self) -> str:
        if self.may_be == _EVERYTHING:
            return "anything"
        # An array of JSON may be a list or a tuple, and is called a list.
        atoms = self.may_be - {"tuple"} if self.may_be >= LISTS else self.may_be
        *others, last = dict.fromkeys(said for atom, said in _SAID.items() if atom in atoms)
        return f"{', '.join(others)} or {last}" if others else last


_SAID: Final = {
    "boolean": "a boolean",
    "integer": "a number",
    "float": "a number",
    "string": "a string",
    "list": "a list",
    "tuple": "a tuple",
    "set": "a set",
    "object": "an object",
    "record": "an object",
    "None": "None",
}

ANYTHING: Final = Kind()


def either(kinds: Iterable[Kind]) -> Kind:
    """What a value is that is of one of these kinds."""
    found = list(kinds)
    if len(found) == 1:
        return found[0]
    # Keys and items are known of it if they are of the only one that can have them.
    keyed = [kind for kind in found if kind.meets(KEYED)]
    filled = [kind for kind in found if kind.meets(FILLED)]
    made = Kind(frozenset[str]().union(*(kind.may_be for kind in found)))
    if len(keyed) == 1:
        made = attrs.evolve(made, keys=keyed[0].keys, closed=keyed[0].closed, name=keyed[0].name)
    if filled and all(kind.items for kind in filled):
        made = attrs.evolve(made, items=lambda: either(kind.items() for kind in filled if kind.items))
    return made


# What can be added, be put in an order and be equal: each with its like only.
SUMS: Final = (NUMBER, STRING, frozenset({"list"}), frozenset({"tuple"}))
_ORDERS: Final = (*SUMS, frozenset({"boolean"}), frozenset({"set"}), KEYED)
_EQUALS: Final = (NUMBER | {"boolean"}, *_ORDERS)


def common(groups: Iterable[frozenset[str]], one: Kind, other: Kind) -> frozenset[str]:
    """The groups that both may be in, as one."""
    return frozenset[str]().union(*(group for group in groups if one.meets(group) and other.meets(group)))


def may_be_ordered(one: Kind, other: Kind) -> bool:
    """Whether `<` may have an answer."""
    return bool(common(_ORDERS, one, other))


def may_equal(one: Kind, other: Kind) -> bool:
    """Whether they may be equal. Anything may be None: a key can have that for its default."""
    return one.meets(_WORDS["null"]) or other.meets(_WORDS["null"]) or bool(common(_EQUALS, one, other))


def kind_of(declared: Any) -> Kind:
    """The kind of a value declared so: by a word or a schema of JSON, by a Python type, or None for anything."""
    match declared:
        case None:
            return ANYTHING
        case Kind():
            return declared
        case str():
            return Kind(_WORDS.get(declared, _EVERYTHING))
        case Mapping():
            return _of_json(declared)
    return kind_of_type(declared)


def _of_json(schema: Mapping[str, Any]) -> Kind:
    words = schema.get("type")
    if isinstance(words, list | tuple):
        return either(_of_json({**schema, "type": word}) for word in words) if words else ANYTHING
    may_be = _WORDS.get(words, _EVERYTHING) if isinstance(words, str) else _EVERYTHING
    items, properties = schema.get("items"), schema.get("properties")
    return Kind(
        may_be,
        items=(lambda: kind_of(items)) if isinstance(items, Mapping) and may_be & LISTS else None,
        keys=(lambda: {name: kind_of(its) for name, its in properties.items()})
        if isinstance(properties, Mapping) and may_be & KEYED
        else None,
        closed=schema.get("additionalProperties") is False,
    )


def kind_of_type(tp: Any) -> Kind:
    """The kind of the values of a Python type. A name that stands for a type which cannot be found is anything."""
    tp = unwrap(tp)
    if is_union(tp):
        return either(map(kind_of_type, typing.get_args(tp)))
    cls = typing.get_origin(tp) or tp
    if cls is typing.Literal:
        return either(kind_of_type(type(choice)) for choice in typing.get_args(tp))
    if cls is None:
        cls = types.NoneType
    if not isinstance(cls, type):
        return ANYTHING
    if typing.is_typeddict(cls):
        return _keyed("object", cls)
    if attrs.has(cls):
        return _keyed("record", cls, [field.name for field in attrs.fields(cls)])
    if dataclasses.is_dataclass(cls):
        return _keyed("record", cls, [field.name for field in dataclasses.fields(cls)])
    if issubclass(cls, enum.Enum):
        return ANYTHING
    return next((_of_class(atoms, tp) for base, atoms in _CLASSES.items() if issubclass(cls, base)), ANYTHING)


def _keyed(atom: str, cls: type, names: Iterable[str] | None = None) -> Kind:
    """A class with declared keys: these, or all that have an annotation."""

    def keys() -> Mapping[str, Kind]:
        hints = safe_hints(cls)
        return {name: kind_of_type(hints.get(name, Any)) for name in (hints if names is None else names)}

    return Kind(frozenset({atom}), keys=keys, closed=True, name=type_name(cls))


def _of_class(atoms: frozenset[str], tp: Any) -> Kind:
    arguments = [argument for argument in typing.get_args(tp) if argument is not ...]
    if not arguments or not atoms & (FILLED):
        return Kind(atoms)
    return Kind(atoms, items=lambda: either(map(kind_of_type, arguments)))
