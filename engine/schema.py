"""State types: which keys a state has, what fits them, and how nodes get and change them.

Inside the engine a state is its *values*, a plain dict from key to value that
nobody changes once it exists. A `Schema` turns what a caller submits into values
(`admit`), values into what a node, a condition or a caller gets (`give`,
`build`), and what a node did into an update (`take`). So the decisions know one
kind of state; `dict`, `TypedDict` and attrs classes differ only here. It fulfils
the `StateType` of state.py.
"""

from __future__ import annotations

import copy
import difflib
import inspect
import logging
import typing
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Literal

import attrs

from .datastate import ABSENT, DataState
from .errors import GraphProblem, StateFault, StateInvalid, StateMutated, UnknownKey
from .fingerprint import fingerprint
from .logs import about
from .named import REDUCERS, append
from .reducers import CheckedReducer, annotated_reducer, by_name, reducer_fault
from .typecheck import Check, Checks, required_keys, safe_hints, shown, type_name, unwrap
from .values import Reduce, Reducer, Replace

logger = logging.getLogger("engine")

Isolation = Literal["shallow", "deep", "check"]
Values = dict[str, Any]

_MISSING: Any = attrs.NOTHING
_TEXT = frozenset({str})


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """A hint towards the nearest known name, or all of them if they are few, or nothing."""
    known = list(known)
    # Of a name that is no name, however long, the beginning tells as much.
    near = difflib.get_close_matches(str(name)[:200], known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known are {', '.join(map(repr, known))}" if 0 < len(known) <= 8 else ""


class Hints:
    """`did_you_mean` for faults by the thousand: after so many comparisons, of 20 us each, it gives no more hints."""

    def __init__(self, comparisons: int = 10_000) -> None:
        self._left = comparisons

    def __call__(self, name: object, known: Collection[str]) -> str:
        if self._left <= 0:
            return ""
        self._left -= len(known)
        return did_you_mean(name, known)


def same(one: Any, other: Any) -> bool:
    """The same object, or equal and of one type; a comparison that fails or gives no bool means different."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    try:
        return (one == other) is True
    except Exception:
        return False


@attrs.frozen
class Key:
    """One key of a state: its type, whether it must be given, how contributions are combined."""

    name: str
    type: Any = Any
    required: bool = False
    reducer: Reducer | None = None
    argument: str = ""
    """The name of its argument, for attrs classes."""
    has_default: bool = False
    check: Check | None = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen
class Loan:
    """The values inside a deep copy as a node was given them, and their fingerprints."""

    inside: Values
    marks: Mapping[str, list[Any]]


class LentDict(dict[str, Any]):
    """A dict that can be remembered without being kept alive."""

    __slots__ = ("__weakref__",)


class Schema:
    """A state type that was read once. Abstract: `DictSchema` and `AttrsSchema` are its kinds."""

    def __init__(
        self,
        declared: Any,
        keys: Mapping[str, Key],
        *,
        closed: bool,
        isolation: Isolation = "shallow",
        always: bool = False,
        node: str = "",
        graph: str = "",
    ) -> None:
        self.type = declared
        self.keys = keys
        self.closed = closed
        self.isolation = isolation
        self.always = always
        self.node = node
        self.graph = graph
        self.reducers: Mapping[str, Reducer] = {
            k.name: CheckedReducer(k.name, k.reducer) if isolation == "check" else k.reducer
            for k in keys.values()
            if k.reducer is not None
        }
        self._stay_shared: set[str] = set()
        self._loans: dict[int, tuple[Any, Loan]] = {}
        self._short = isolation == "shallow" and not always

    @property
    def name(self) -> str:
        return type_name(self.type)

    def __reduce__(self) -> tuple[Any, ...]:
        # Checks and reducers are closures. A worker process needs neither: it gives and takes by their names.
        options = {"isolation": self.isolation, "always": self.always, "node": self.node}
        return _read_again, (self.type, tuple(self.reducers), options)

    def _settings(self) -> tuple[Any, ...]:
        return self.type, self.keys, self.closed, self.isolation, self.always, self.node

    def __eq__(self, other: object) -> bool:
        return self._settings() == other._settings() if isinstance(other, Schema) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.name, *self.keys))

    def evolve(self, **changes: Any) -> Schema:
        """The same type with other settings or keys."""
        now = {
            "keys": self.keys,
            "closed": self.closed,
            "isolation": self.isolation,
            "always": self.always,
            "node": self.node,
            "graph": self.graph,
        }
        made = type(self)(self.type, **{**now, **changes})
        made._stay_shared = self._stay_shared
        return made

    def knows(self, key: str) -> bool:
        """May a state of this type have this key?"""
        return not self.closed or key in self.keys

    # --- the boundary ---------------------------------------------------------------------------------

    def admit(self, state: Any) -> Values:
        """The values of a state from outside, with defaults; raises `StateInvalid` with every fault."""
        raise NotImplementedError

    def check(self, values: Mapping[str, Any], what: str = "the state") -> None:
        """Raise `StateInvalid` for values that do not fit their keys, every one with its path."""
        if faults := self._type_faults(values):
            raise StateInvalid.of(what, faults, node=self.node or None)

    def _type_faults(self, values: Mapping[str, Any]) -> list[StateFault]:
        faults: list[StateFault] = []
        for name, value in values.items():
            key = self.keys.get(name)
            if key is not None and key.check is not None:
                key.check(value, (name,), faults)
        return faults

    def _admitted(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        if not self.keys and not self.closed and _TEXT.issuperset(map(type, state)):
            return state
        unknown = self._unknown(state)
        faults = [self._unknown_fault(name) for name in unknown]
        faults += [StateFault((k.name,), "missing") for k in self.keys.values() if k.required and k.name not in state]
        faults += self._type_faults(state)
        if unknown:
            raise UnknownKey.of("the initial state", faults)
        if faults:
            raise StateInvalid.of("the initial state", faults)
        return state

    def _unknown(self, names: Iterable[Any]) -> list[Any]:
        keys, closed = self.keys, self.closed
        return [name for name in names if type(name) is not str or (closed and name not in keys)]

    def _unknown_fault(self, name: Any) -> StateFault:
        if not isinstance(name, str):
            return StateFault((str(name),), f"a state's keys are strings, found {shown(name)}")
        hint = did_you_mean(name, self.keys)
        return StateFault((name,), f"{self.name} has no such key" + (f", {hint}" if hint else ""))

    def check_keys(self, names: Iterable[Any]) -> None:
        """Raise `UnknownKey` if an update names a key that this type does not have."""
        if unknown := self._unknown(names):
            faults = [self._unknown_fault(name) for name in unknown]
            raise UnknownKey.of("the update", faults, node=self.node or None)

    # --- what a node gets -----------------------------------------------------------------------------

    def build(self, values: Values) -> Any:
        """A whole state of this type; changing its top level changes no run."""
        raise NotImplementedError

    def seed(self, values: Values) -> Any:
        """What `admit` makes these values of once more."""
        return self.build(values)

    def give(self, values: Values) -> Any:
        """What one attempt gets: a top level of its own, the values shared or copied as `isolation` says."""
        if self.isolation == "shallow":
            return self.build(values)
        copied = deep_copied(self.visible(values), self._not_copied)
        given = self._lent(copied)
        self._remember(given)
        return given

    def _not_copied(self, name: str, value: Any, error: Exception) -> None:
        # Once for each key of a graph: every activation would say it again.
        if name not in self._stay_shared:
            self._stay_shared.add(name)
            logger.warning(
                "isolation=%r of graph %r: what key %r holds (%s) cannot be copied and stays shared, first at node %r: "
                "%s: %s",
                self.isolation,
                self.graph,
                name,
                type(value).__name__,
                self.node,
                type(error).__name__,
                error,
                extra=about(graph=self.graph, node=self.node, key=name),
            )

    def visible(self, values: Values) -> Values:
        """The part of the values that a state of this type shows."""
        return values

    def _lent(self, copied: Values) -> Any:
        return self.build(copied)

    def _inside(self, given: Any) -> Values:
        """The values in an object that was given."""
        raise NotImplementedError

    def _remember(self, given: Any) -> None:
        inside = self._inside(given)
        marks = {k: fingerprint(v) for k, v in inside.items()} if self.isolation == "check" else {}
        place, loans = id(given), self._loans
        try:
            held: Any = weakref.ref(given, lambda _: loans.pop(place, None))
        except TypeError:
            # A class with slots and none for weak references: kept until it is taken back.
            held = given
        loans[place] = (held, Loan(inside, marks))

    def _loan(self, given: Any, values: Values) -> Loan:
        """What was inside of `given` when it was lent; unknown (after a process boundary) the originals."""
        found = self._loans.pop(id(given), None)
        if found is None or (found[0] is not given and found[0]() is not given):
            return Loan(values, {})
        loan = found[1]
        for name, mark in loan.marks.items():
            if fingerprint(loan.inside[name]) != mark:
                raise StateMutated(self.node, name)
        return loan

    # --- what a node did ------------------------------------------------------------------------------

    def take(self, values: Values, given: Any, returned: Any) -> Values | None:
        """The update of an attempt that got `give(values)` and returned `returned`; None if nothing changed.

        What was changed in place at the top level counts, then what was returned.
        A value that was merely passed on is no change.
        """
        return self.taken(self, values, values, given, returned)

    def taken(self, whole: Schema, values: Values, seen: Values, given: Any, returned: Any) -> Values | None:
        """`take` for a node that was given the part `seen` of `values`, with `whole` as its graph's state."""
        inside = seen if self.isolation == "shallow" else self._loan(given, seen).inside
        update = self._changed_in_place(inside, given, whole.reducers)
        if update:
            whole.check_keys(update)
        if returned is not None and returned is not given:
            if isinstance(returned, Mapping):
                whole.check_keys(returned)
                update = whole._returned(inside, values, returned, update)
            elif type(returned) is self.type:
                update = {**update, **self._differences(inside, returned, whole.reducers)}
            elif type(returned) is whole.type:
                update = {**update, **whole._differences(values, returned, whole.reducers)}
            else:
                raise StateInvalid(
                    f"the node returned {shown(returned)}, expected a mapping of changed keys, "
                    f"a whole {whole.name}, a Goto or None{_cure_of(returned)}",
                    node=self.node or None,
                )
        return whole._fitting(values, update) if update else None

    def _returned(self, inside: Values, values: Values, returned: Mapping[str, Any], update: Values) -> Values:
        reducers = self.reducers
        for name, value in returned.items():
            if value is inside.get(name, _MISSING):
                # `{**state, "x": 1}`: what was merely passed on is no change, and does not double a list.
                if name in reducers:
                    if isinstance(value, list | dict | set):
                        continue
                elif self.isolation == "shallow" or same(value, values.get(name, _MISSING)):
                    continue
            elif type(value) is Replace and name not in reducers:
                value = value.value
            update[name] = value
        return update

    def _changed_in_place(self, inside: Values, given: Any, reducers: Mapping[str, Reducer]) -> Values:
        raise NotImplementedError

    def _differences(self, inside: Values, state: Any, reducers: Mapping[str, Reducer]) -> Values:
        """The fields of a whole state that differ; a reducer's field that differs replaces its value."""
        changed = {}
        for name in self.keys:
            value = getattr(state, name)
            if not same(value, inside.get(name, _MISSING)):
                changed[name] = Replace(value) if name in reducers else value
        return changed

    def _fitting(self, values: Values, update: Values) -> Values:
        """The update as the state takes it, or `StateInvalid`."""
        if self.always:
            # A contribution may be of another type than its key (an item for a list): not checked.
            self.check(
                {
                    name: value.value if type(value) is Replace else value
                    for name, value in update.items()
                    if name not in self.reducers or type(value) is Replace
                },
                "the update",
            )
        return update


def deep_copied(values: Values, not_copied: Callable[[str, Any, Exception], None]) -> Values:
    """A deep copy; what cannot be copied (a lock, a client) is told and stays shared. What was one object stays one."""
    memo: dict[int, Any] = {}
    copied = {}
    for name, value in values.items():
        try:
            copied[name] = copy.deepcopy(value, memo)
        except Exception as error:
            not_copied(name, value, error)
            copied[name] = value
    return copied


class DictSchema(Schema):
    """A plain dict (any keys) or a `TypedDict` (the declared ones)."""

    def admit(self, state: Any) -> Values:
        if not isinstance(state, Mapping):
            cure = f"; say Graph(…, state={type(state).__name__})" if attrs.has(type(state)) else ""
            fault = StateFault((), f"expected {self.name}, found {shown(state)}{cure}")
            raise StateInvalid.of("the initial state", [fault])
        return dict(self._admitted(state))

    def take(self, values: Values, given: Any, returned: Any) -> Values | None:
        """As `Schema.take`; short for what nearly every activation does, the long way for all else."""
        if self._short and len(given) == len(values):
            find = values.get
            for name, value in given.items():
                if find(name, _MISSING) is not value:
                    return super().take(values, given, returned)
            if returned is None or returned is given:
                return None
            if type(returned) is dict:
                return self._changed(values, returned)
        return super().take(values, given, returned)

    def _changed(self, values: Values, returned: Values) -> Values | None:
        update: Values = {}
        reducers, find, keys = self.reducers, values.get, self.keys if self.closed else None
        for name, value in returned.items():
            kind = type(value)
            if type(name) is not str or kind is Replace or (keys is not None and name not in keys):
                return super().take(values, values, returned)
            if find(name, _MISSING) is not value or (name in reducers and not issubclass(kind, list | dict | set)):
                update[name] = value
        return update or None

    def build(self, values: Values) -> Any:
        return values.copy()

    def _lent(self, copied: Values) -> Any:
        return LentDict(copied)

    def _inside(self, given: Any) -> Values:
        return dict(given)

    def _changed_in_place(self, inside: Values, given: Any, reducers: Mapping[str, Reducer]) -> Values:
        update = {name: value for name, value in given.items() if value is not inside.get(name, _MISSING)}
        if (update or len(given) != len(inside)) and (gone := sorted(inside.keys() - given.keys())):
            faults = [StateFault((name,), "keys cannot be removed; set it to None instead") for name in gone]
            raise StateInvalid.of("the update", faults, node=self.node or None)
        return update


class DataSchema(DictSchema):
    """A state that was declared as data: a dict of the declared keys, some of which have a default."""

    def __init__(self, declared: DataState, keys: Mapping[str, Key], **settings: Any) -> None:
        super().__init__(declared, keys, **settings)
        self._defaults = {name: key.default for name, key in declared.keys.items() if key.default is not ABSENT}

    @property
    def name(self) -> str:
        return str(self.type.name)

    def admit(self, state: Any) -> Values:
        values = super().admit(state)
        # Each run has defaults of its own, and they come first, as they were declared.
        return {**copy.deepcopy({k: v for k, v in self._defaults.items() if k not in values}), **values}


class AttrsSchema(Schema):
    """An attrs class. Of a frozen one every reader shares one object, of a mutable one each gets its own."""

    def __init__(self, declared: Any, keys: Mapping[str, Key], **settings: Any) -> None:
        super().__init__(declared, keys, **settings)
        self._arguments = {key.name: key.argument for key in keys.values()}
        self._plain = all(name == argument for name, argument in self._arguments.items())
        self._frozen = is_frozen(declared)
        self._hooked = _has_hooks(declared)
        # The object built last: a frozen state is mostly read several times (conditions, then the next node).
        self._last: tuple[Any, Any] = (None, None)

    def admit(self, state: Any) -> Values:
        if type(state) is self.type:
            values = self._inside(state)
            self.check(values, "the initial state")
            if self._frozen:
                self._last = (values, state)
            return values
        if isinstance(state, Mapping):
            return self._inside(self._make(dict(self._admitted(state)), "the initial state"))
        why = f"; fields that {self.name} does not have would be lost" if isinstance(state, self.type) else ""
        fault = StateFault((), f"expected {self.name} or a mapping of its fields, found {shown(state)}{why}")
        raise StateInvalid.of("the initial state", [fault])

    def build(self, values: Values) -> Any:
        if not self._frozen:
            return self._make(values, "the state")
        last, state = self._last
        if last is not values:
            state = self._make(values, "the state")
            self._last = (values, state)
        return state

    def _make(self, values: Values, what: str) -> Any:
        try:
            if self._plain:
                return self.type(**values)
            return self.type(**{self._arguments[name]: value for name, value in values.items()})
        except Exception as error:
            faults = [
                StateFault((k.name,), "missing") for k in self.keys.values() if k.required and k.name not in values
            ]
            faults = faults or [StateFault((), f"{self.name} refused it: {error}")]
            raise StateInvalid.of(what, faults, node=self.node or None) from error

    def _lent(self, copied: Values) -> Any:
        return self._make(copied, "the state")

    def visible(self, values: Values) -> Values:
        return {name: values[name] for name in self.keys if name in values}

    def _inside(self, given: Any) -> Values:
        return {name: getattr(given, name) for name in self.keys}

    def _changed_in_place(self, inside: Values, given: Any, reducers: Mapping[str, Reducer]) -> Values:
        return {} if self._frozen else self._differences(inside, given, reducers)

    def _fitting(self, values: Values, update: Values) -> Values:
        """Run the class's own validators and converters now, so that a misfit fails the node that made it."""
        update = super()._fitting(values, update)
        plain = {name: value for name, value in update.items() if name not in self.reducers}
        if self._hooked and plain:
            state = self._make({**values, **plain}, "the update")
            update = {**update, **{name: getattr(state, name) for name in plain}}
        return update


def is_frozen(cls: type) -> bool:
    """Whether instances of this attrs class cannot be changed."""
    properties = getattr(cls, "__attrs_props__", None)
    if properties is not None:
        return bool(properties.is_frozen)
    return getattr(cls.__setattr__, "__name__", "") == "_frozen_setattrs"


def _has_hooks(cls: Any) -> bool:
    hooks = any(field.validator or field.converter for field in attrs.fields(cls))
    return hooks or hasattr(cls, "__attrs_post_init__") or hasattr(cls, "__attrs_pre_init__")


# --- reading a type -------------------------------------------------------------------------------------


def is_state_type(declared: Any) -> bool:
    """Whether this can type a state: `dict`, a `TypedDict`, an attrs class, or keys declared as data."""
    return _reader(unwrap(declared)) is not None


def read_schema(
    declared: Any,
    reducers: Mapping[str, Any] | None = None,
    *,
    where: str = "state",
    names: dict[str, Any] | None = None,
    isolation: Isolation = "shallow",
    always: bool = False,
) -> tuple[Schema, list[GraphProblem]]:
    """Read a state type, and tell what is wrong with it or with the reducers given beside it.

    `names` helps to resolve annotations that were written as strings inside a function.
    """
    problems: list[GraphProblem] = []
    given = dict(reducers or {})
    declared = unwrap(declared)
    reader = _reader(declared)
    if reader is None:
        hint = "use dict, a TypedDict or an attrs class"
        problems.append(GraphProblem("type_mismatch", where, f"{shown(declared)} is no state type", hint))
        declared, reader = dict, _no_keys
    kind, found = reader(declared, names)
    for key in found:
        if isinstance(key.type, str) and "Annotated" in key.type:
            message = f"the annotation {key.type!r} of {key.name!r} cannot be resolved"
            problems.append(GraphProblem("bad_reducer", where, message, "define what it names at module level"))
    keys = {key.name: _with_reducer(key, given.pop(key.name, None), where, problems) for key in found}
    closed = reader is not _no_keys
    for name, reducer in given.items():
        if closed:
            message = f"reducers= names {name!r}, which {type_name(declared)} does not have"
            problems.append(GraphProblem("unknown_key", where, message, did_you_mean(name, keys)))
        else:
            keys[name] = _with_reducer(Key(name), reducer, where, problems)
    return kind(declared, keys, closed=closed, isolation=isolation, always=always), problems


def _with_reducer(key: Key, given: Any, where: str, problems: list[GraphProblem]) -> Key:
    annotated = annotated_reducer(key.type)
    reducer = given.function if isinstance(given, Reduce) else given
    annotated, reducer = by_name(annotated), by_name(reducer)
    if reducer is None:
        reducer = annotated
    elif annotated is not None and annotated != reducer:
        message = f"key {key.name!r} has two reducers, one in its annotation and another in reducers="
        problems.append(GraphProblem("bad_reducer", where, message, "keep one of them"))
    if reducer is None:
        return key
    if fault := reducer_fault(reducer):
        hint = "a reducer is called as reduce(value, contribution), e.g. operator.add"
        if isinstance(reducer, str):
            hint = did_you_mean(reducer, REDUCERS)
        problems.append(GraphProblem("bad_reducer", where, f"the reducer of {key.name!r} {fault}", hint))
        return key
    # Without a value the first contribution becomes the value, so a mapping need not bring one.
    needed = reducer is append or bool(key.argument)
    if needed and not (key.required or key.has_default):
        message = f"{key.name!r} may have no value yet that 'append' could add an item to"
        problems.append(GraphProblem("bad_reducer", where, message, "give it a default, or use 'extend' with lists"))
    return attrs.evolve(key, reducer=reducer, required=key.required and needed)


Reader = Callable[[Any, dict[str, Any] | None], tuple[type[Schema], list[Key]]]


def _reader(declared: Any) -> Reader | None:
    if declared in (None, dict, Mapping, typing.Any) or typing.get_origin(declared) in (dict, Mapping):
        return _no_keys
    if typing.is_typeddict(declared):
        return _typed_keys
    if isinstance(declared, DataState):
        return _data_keys
    return _attrs_keys if isinstance(declared, type) and attrs.has(declared) else None


def _no_keys(declared: Any, names: dict[str, Any] | None) -> tuple[type[Schema], list[Key]]:
    return DictSchema, []


def _typed_keys(declared: Any, names: dict[str, Any] | None) -> tuple[type[Schema], list[Key]]:
    checks = Checks()
    hints = safe_hints(declared, names)
    required = required_keys(declared, hints)
    keys = [Key(n, hint, required=n in required, check=checks.of(hint)) for n, hint in hints.items()]
    return DictSchema, keys


def _data_keys(declared: DataState, names: dict[str, Any] | None) -> tuple[type[Schema], list[Key]]:
    checks = Checks()
    keys = []
    for name, key in declared.keys.items():
        hint = key.type.python if key.reduce is None else typing.Annotated[key.type.python, Reduce(key.reduce)]
        has_default = key.default is not ABSENT
        keys.append(Key(name, hint, key.required, check=checks.of(hint), has_default=has_default))
    return DataSchema, keys


def _attrs_keys(declared: Any, names: dict[str, Any] | None) -> tuple[type[Schema], list[Key]]:
    checks = Checks()
    hints = safe_hints(declared, names)
    keys = []
    # A field that the class computes for itself (init=False) is no key: nobody can set it.
    for field in attrs.fields(declared):
        if field.init:
            hint = hints.get(field.name, field.type if field.type is not None else Any)
            argument = field.alias or field.name
            required = field.default is attrs.NOTHING
            keys.append(Key(field.name, hint, required, None, argument, not required, checks.of(hint)))
    return AttrsSchema, keys


def _read_again(declared: Any, reducers: tuple[str, ...], options: dict[str, Any]) -> Schema:
    schema, _ = read_schema(declared)
    keys = dict(schema.keys)
    for name in reducers:
        key = keys.get(name, Key(name))
        keys[name] = key if key.reducer else attrs.evolve(key, reducer=_reduced_elsewhere)
    return schema.evolve(keys=keys, **options)


def _reduced_elsewhere(value: Any, contribution: Any) -> Any:
    raise AssertionError("states are reduced where the run is, not in a worker")


def _cure_of(returned: Any) -> str:
    """What to do about something that no node may return, where that is known."""
    if inspect.iscoroutine(returned):
        returned.close()  # or Python would say beside this that it was never awaited, and not where
        return "; await what it calls: `return await …`"
    if isinstance(returned, tuple | list | str | int | float):
        return "; name the key that it is for: return {'key': …}"
    return ""
