"""Reading functions: how each wants to be called, what it sees of the state, and what is wrong with it.

Functions made by one `def` are read once, however many nodes run them.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, MutableMapping
from typing import Any

import attrs

from .call import (
    PLAIN,
    Call,
    FileParameter,
    Signature,
    analyse,
    can_be_state,
    mentions_files,
    returns_goto,
    signature_of,
    wants_context,
    wants_files,
)
from .errors import GraphProblem, StateFault
from .fromdata import FromData
from .nodespec import NodeSpec
from .schema import DictSchema, Schema, is_state_type, read_schema
from .tools import Tool
from .typecheck import is_union, shown, type_name, unwrap
from .views import View, view_of
from .written import WrittenNode

Faults = list[tuple[str, str, str]]
"""(code, message, hint)"""


@attrs.frozen
class Reading:
    """What was found out about a function, for every node that runs it."""

    call: Call
    view: View | None
    spec: NodeSpec
    signature: Signature | None = None
    goes: bool = False
    """It says that it may return a `Goto`."""
    faults: tuple[tuple[str, str, str], ...] = ()
    """(code, message, hint)"""
    files: tuple[FileParameter, ...] = ()
    """The parameters that want files."""
    gives_files: bool = False
    """It says by its annotation that it returns files."""


UNREAD = Reading(PLAIN, None, NodeSpec(run_in="thread"))


class Reader:
    """Reads the functions of one graph, whose state is `schema`."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._readings: dict[Any, Reading] = {}
        self._types: dict[Any, Schema] = {}
        self._conditions: dict[Any, str] = {}
        self._from_data = FromData()

    def read(self, function: Any, written: WrittenNode, *, is_map: bool = False, tool: Tool | None = None) -> Reading:
        """What the function of this node wants and gives, and its faults; `tool` is the one it belongs to."""
        if function is nothing:
            return UNREAD
        names, params = written.names if tool is None else tool.names, written.options.get("params")
        params = params if isinstance(params, Mapping) else None
        # Whatever was found by its name is a tool, whoever brought it.
        is_tool = tool is not None or isinstance(written.what, str)
        is_batch = written.options.get("batch") is not None
        local = tuple(map(id, names.values())) if names else ()
        key = None if params else _same_code(function, (is_map, is_batch, local, is_tool))
        if key is not None and (known := self._readings.get(key)):
            return known
        reading = self._read(function, params, names, is_map, is_batch, is_tool)
        if key is not None:
            self._readings[key] = reading
        return reading

    def _read(self, function: Any, params: Any, names: Any, is_map: bool, is_batch: bool, is_tool: bool) -> Reading:
        try:
            signature = signature_of(function, names)
        except (ValueError, TypeError):
            # Some built-in functions show no signature; they are taken at their word.
            return UNREAD
        params, faults = self._values(signature, params)
        takes = _takes_anything if is_map or is_batch else self._takes
        call, subject, found = analyse(signature, params, is_map=is_map, takes=takes, is_tool=is_tool)
        faults += [("bad_params", message, hint) for message, hint in found]
        if signature.is_generator:
            faults.append(("bad_option", "its function is a generator", "return the changes instead of yielding"))
        view = None
        if subject is not None:
            hint = _item_type(subject.annotation) if is_batch and not is_map else subject.annotation
            view, more = self._view(subject.name, hint, names)
            faults += more
        spec = NodeSpec(
            call=call,
            is_async=signature.is_async,
            run_in="loop" if signature.is_async else "thread",
            gives=self.gives(signature.returns),
        )
        goes = not is_map and returns_goto(function, signature)
        files = () if is_map else tuple(one for p in signature.parameters if (one := wants_files(p)))
        if files and is_batch:
            cure = "take one state at a time, or keep files under keys of the state"
            faults.append(("bad_option", "a function that takes batches is given no files", cure))
        gives_files = not is_map and mentions_files(signature.returns)
        return Reading(call, view, spec, signature, goes, tuple(faults), files, gives_files)

    def _takes(self, annotation: Any) -> bool:
        return can_be_state(annotation, _base(self.schema))

    def _values(self, signature: Signature, params: Any) -> tuple[Any, Faults]:
        """The params as their parameters ask for them, read once, for every call; and what does not fit."""
        faults: Faults = []
        if not params:
            return params, faults
        annotations = {parameter.name: parameter.annotation for parameter in signature.parameters}
        values = {}
        for name, value in params.items():
            annotation, found = annotations.get(name), list[StateFault]()
            if annotation is not None and not wants_context(annotation):
                value = self._from_data.read(annotation, value, (name,), found)
            faults += [("bad_params", f"its parameter {name!r}{str(fault)[len(name) :]}", "") for fault in found]
            values[name] = value
        return values, faults

    def _view(self, parameter: str, hint: Any, names: Any) -> tuple[View | None, Faults]:
        """The view that a parameter's annotation asks for; None if it gets the whole state."""
        hint = unwrap(hint)
        schema = self.schema
        if is_union(hint):
            hint = next((arg for arg in typing.get_args(hint) if is_state_type(arg)), None)
        if hint is None or hint is schema.type or hint in (Any, object) or hint == schema.type:
            return None, []
        if isinstance(hint, str):
            if hint == schema.name:
                return None, []
            cure = "define it at module level, or where the node is added"
            return None, [("type_mismatch", f"the annotation {hint!r} of {parameter!r} cannot be resolved", cure)]
        plain = typing.get_origin(hint) or hint
        if not isinstance(plain, type) and not typing.is_typeddict(hint):
            return None, []
        if is_state_type(hint) and not is_dict(plain):
            return self.narrow(hint, names)
        if is_dict(plain) and is_dict(_base(schema)):
            return None, []
        if getattr(plain, "_is_protocol", False) or (
            isinstance(_base(schema), type) and issubclass(_base(schema), plain)
        ):
            return None, []
        message = f"its parameter {parameter!r} is annotated {type_name(hint)}, but it is given a {schema.name}"
        cure = f"annotate it {schema.name}, or with a TypedDict or attrs class of some of its keys"
        return None, [("type_mismatch", message, cure)]

    def narrow(self, hint: Any, names: Any = None) -> tuple[View | None, Faults]:
        """The view that a type gives of the state, and what is wrong with it."""
        narrow = self._types.get(hint)
        faults: list[GraphProblem] = []
        if narrow is None:
            narrow, faults = read_schema(hint, names=dict(names or {}), isolation=self.schema.isolation)
            self._types[hint] = narrow
        view, more = view_of(self.schema, narrow, "")
        return view, [(p.code, p.message, p.hint) for p in (*faults, *more)]

    def gives(self, declared: Any) -> dict[str, Any]:
        """The keys and types that a type declares as returned."""
        declared = unwrap(declared)
        if declared is None or not is_state_type(declared) or is_dict(declared) or mentions_files(declared):
            return {}
        return {name: key.type for name, key in self.type_of(declared).keys.items()}

    def type_of(self, declared: Any) -> Schema:
        """A type of some keys, read once."""
        if declared not in self._types:
            self._types[declared] = read_schema(declared, isolation=self.schema.isolation)[0]
        return self._types[declared]

    def condition_fault(self, condition: Any) -> str:
        """What is wrong with a condition or router, as the end of a sentence."""
        if not callable(condition):
            return f"is {shown(condition)}, not a function"
        key = _same_code(condition, None) or id(condition)
        if key not in self._conditions:
            self._conditions[key] = _condition_fault(condition)
        return self._conditions[key]


def _condition_fault(condition: Any) -> str:
    try:
        signature = signature_of(condition)
    except (ValueError, TypeError):
        return ""
    if signature.is_async:
        return "is async"
    if signature.is_generator:
        return "is a generator"
    return _parameters_fault(signature)


def source_fault(over: Any) -> str:
    """What is wrong with where a map takes its items from, which may well be a generator, as the end of a sentence."""
    if not callable(over):
        return f"is {shown(over)}, not a function"
    try:
        return _parameters_fault(signature_of(over))
    except (ValueError, TypeError):
        return ""


def _parameters_fault(signature: Signature) -> str:
    needed = sum(not p.optional for p in signature.parameters)
    by_place = sum(p.positional for p in signature.parameters)
    if needed > 1 or (by_place == 0 and not signature.some) or needed > by_place:
        takes = ", ".join(p.name for p in signature.parameters)
        return f"must take the state and nothing else, it takes ({takes})"
    return ""


def _takes_anything(annotation: Any) -> bool:
    return True


def nothing(state: Any) -> None:
    """Stands for a function that could not be found, so that the rest of the graph can be judged."""


def is_dict(tp: Any) -> bool:
    return tp in (dict, Mapping, MutableMapping, typing.Mapping, typing.MutableMapping)


def _item_type(hint: Any) -> Any:
    """A batch of states is annotated `list[State]`."""
    items = typing.get_args(unwrap(hint))
    return items[0] if len(items) == 1 else None


def _base(schema: Schema) -> Any:
    """The class of what a node is given."""
    return dict if isinstance(schema, DictSchema) else schema.type


def _same_code(function: Any, more: Any) -> Any:
    """A key under which functions with the same signature meet: those made by one `def`, mostly."""
    if type(function) is not types.FunctionType:
        return None
    annotations = function.__annotations__
    hints = tuple(map(id, annotations.values())) if annotations else ()
    defaults = function.__defaults__
    return id(function.__code__), defaults and len(defaults), bool(function.__kwdefaults__), hints, more
