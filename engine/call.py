"""How a node's function is called: its signature, read once when the graph is compiled.

A parameter gets, in this order: what `params` names it for; the `Context`, if it
is annotated so; the subject (a node's state, a map's item) if it is the first
that can take it, or called `state`; in a map, the state if it is the second; all
`params` if it is called `params`; or else its own default. What nothing gives is
a problem of the graph, not a surprise of the run.

What is annotated with something that no state is (`x: int`) does not get the
state if it has a default, nor where `params` are given, nor in a tool: there it
is a parameter that was forgotten, and said to be so. In the latter two cases
nothing with a default gets the state, unless it is annotated as one.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import attrs

from .context import Context
from .file import File
from .schema import did_you_mean, is_state_type
from .typecheck import is_union, type_name, unwrap
from .values import Goto

Source = Literal["subject", "state", "context", "files"]


@attrs.frozen
class Parameter:
    """A parameter of a signature, whatever kind of callable it belongs to."""

    name: str
    annotation: Any = None
    positional: bool = True
    by_name: bool = True
    optional: bool = False


@attrs.frozen
class Signature:
    """A function as the engine sees it. `many` stands for `**kwargs`."""

    parameters: tuple[Parameter, ...]
    many: bool = False
    some: bool = False
    """It takes `*args`."""
    returns: Any = None
    is_async: bool = False
    is_generator: bool = False


@attrs.frozen
class Fixed:
    """A value of `params`, the same at every call."""

    # Not compared: two calls of one function are the same if what was given to its node is.
    value: Any = attrs.field(eq=False)


@attrs.frozen
class Call:
    """What to give a function: by position, by name, and fixed values by name."""

    positional: tuple[Source | Fixed, ...] = ("subject",)
    named: Mapping[str, Source] = {}
    fixed: Mapping[str, Any] = attrs.field(factory=dict, eq=False)
    plain: bool = True
    """It takes the subject and nothing else: call `function(subject)`."""
    wants_context: bool = False

    def bound(self, function: Callable[..., Any]) -> tuple[Callable[..., Any], Call]:
        """The function with its params bound, once, and how to call that: mostly with the subject alone."""
        if self.fixed and self.positional == ("subject",) and not self.named:
            return functools.partial(function, **self.fixed), PLAIN
        return function, self

    def arguments(
        self, subject: Any, context: Context | None = None, state: Any = None
    ) -> tuple[list[Any], dict[str, Any]]:
        """The positional and the named arguments for one call."""
        sources = {"subject": subject, "state": state, "context": context}
        positional = [s.value if isinstance(s, Fixed) else sources[s] for s in self.positional]
        return positional, {**self.fixed, **{name: sources[source] for name, source in self.named.items()}}

    def __call__(
        self, function: Callable[..., Any], subject: Any, context: Context | None = None, state: Any = None
    ) -> Any:
        """Call the function; an async one gives its coroutine."""
        if self.plain:
            return function(subject)
        positional, named = self.arguments(subject, context, state)
        return function(*positional, **named)


PLAIN = Call()


def is_async(function: Any) -> bool:
    """Whether calling it gives a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(_annotated(function))


def signature_of(function: Any, names: Mapping[str, Any] | None = None) -> Signature:
    """The signature of any callable, its annotations resolved where they can be.

    `names` are those known where the function was defined, for annotations written as strings.
    Raises `ValueError` if it has no signature that can be seen.
    """
    if type(function) is types.FunctionType and not function.__dict__:
        return _of_function(function, names)
    seen = inspect.signature(function)
    annotated = _annotated(function)
    hints = resolved(annotated, names)
    kinds = inspect.Parameter
    parameters = tuple(
        Parameter(
            name,
            hints.get(name, None if p.annotation is kinds.empty else p.annotation),
            p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD),
            p.kind is not kinds.POSITIONAL_ONLY,
            p.default is not kinds.empty,
        )
        for name, p in seen.parameters.items()
        if p.kind not in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)
    )
    found = {p.kind for p in seen.parameters.values()}
    generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    returns = hints.get("return")
    return Signature(
        parameters,
        kinds.VAR_KEYWORD in found,
        kinds.VAR_POSITIONAL in found,
        returns,
        is_async(function),
        generator,
    )


def _annotated(function: Any) -> Any:
    """Where the annotations of a callable are: below partials, in a class's or an object's method."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function):
        return function
    return vars(function).get("__init__") if isinstance(function, type) else type(function).__call__


def _of_function(function: types.FunctionType, names: Mapping[str, Any] | None) -> Signature:
    """The same for a plain function, from its code: a graph may have very many of them."""
    code = function.__code__
    flags = code.co_flags
    hints = resolved(function, names)
    count, only = code.co_argcount, code.co_posonlyargcount
    named = code.co_varnames
    required = count - len(function.__defaults__ or ())
    defaults = function.__kwdefaults__ or {}
    parameters = [Parameter(named[i], hints.get(named[i]), True, i >= only, i >= required) for i in range(count)]
    for name in named[count : count + code.co_kwonlyargcount]:
        parameters.append(Parameter(name, hints.get(name), False, True, name in defaults))
    return Signature(
        tuple(parameters),
        bool(flags & inspect.CO_VARKEYWORDS),
        bool(flags & inspect.CO_VARARGS),
        hints.get("return"),
        bool(flags & (inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE)),
        bool(flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR)),
    )


def resolved(function: Any, names: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Its annotations; those written as strings resolved one by one, left as they are where that fails."""
    hints: dict[str, Any] = getattr(function, "__annotations__", None) or {}
    if not any(isinstance(hint, str) for hint in hints.values()):
        return hints
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    return {name: _resolve(hint, scope, names) if isinstance(hint, str) else hint for name, hint in hints.items()}


def _resolve(hint: str, scope: Mapping[str, Any], names: Mapping[str, Any] | None) -> Any:
    probe = type("probe", (), {"__annotations__": {"it": hint}})
    try:
        return typing.get_type_hints(probe, dict(scope), dict(names or {}), include_extras=True)["it"]
    except Exception:
        return hint


def names_around(what: Any) -> Mapping[str, Any] | None:
    """The names that annotations written as strings may mean, of what is defined inside a function.

    They are found nowhere else than in the frames of the functions around it, while these still run.
    """
    place = getattr(what, "__qualname__", "")
    if "<locals>" not in place:
        return None
    hints = (getattr(hint, "__forward_arg__", hint) for hint in (getattr(what, "__annotations__", None) or {}).values())
    words = {word for hint in hints if isinstance(hint, str) for word in re.findall(r"\w+", hint)}
    found: dict[str, Any] = {}
    frame: types.FrameType | None = sys._getframe(1)
    while words and frame is not None:
        if place.startswith(f"{frame.f_code.co_qualname}.<locals>."):
            found = {name: value for name, value in frame.f_locals.items() if name in words} | found
        frame = frame.f_back
    return found or None


@attrs.frozen
class FileParameter:
    """A parameter that is annotated `File` or `list[File]`, perhaps `| None`."""

    name: str
    many: bool
    optional: bool
    has_default: bool


def wants_files(parameter: Parameter) -> FileParameter | None:
    """What files a parameter wants by its annotation, if it wants any."""
    tp, optional = unwrap(parameter.annotation), parameter.optional
    if is_union(tp):
        members = [arg for arg in typing.get_args(tp) if arg is not type(None)]
        optional = optional or len(members) < len(typing.get_args(tp))
        tp = unwrap(members[0]) if len(members) == 1 else tp
    if _is_class(tp) and issubclass(tp, File):
        return FileParameter(parameter.name, False, optional, parameter.optional)
    if typing.get_origin(tp) in (list, collections.abc.Sequence, tuple) and mentions_files(tp):
        return FileParameter(parameter.name, True, optional, parameter.optional)
    return None


def mentions_files(annotation: Any) -> bool:
    """Whether a type says that a file is, or is in, what it types."""
    tp = unwrap(annotation)
    if _is_class(tp):
        return issubclass(tp, File)
    return any(mentions_files(arg) for arg in typing.get_args(tp))


def _is_class(tp: Any) -> bool:
    return isinstance(tp, type) and typing.get_origin(tp) is None


def wants_context(annotation: Any) -> bool:
    """`Context`, `Context | None`, or the name of it where annotations could not be resolved."""
    if isinstance(annotation, str):
        return annotation.split("|")[0].strip().rpartition(".")[2] == "Context"
    members = (annotation, *typing.get_args(annotation))
    return any(isinstance(member, type) and issubclass(member, Context) for member in members)


def can_be_state(annotation: Any, state: Any = None) -> bool:
    """Whether what is annotated so may be given a graph's state, of the class `state` if that is known."""
    tp = unwrap(annotation)
    if is_union(tp):
        return any(can_be_state(arg, state) for arg in typing.get_args(tp) if arg is not type(None))
    if tp is Any or is_state_type(tp):  # no annotation is one of the latter
        return True
    plain = typing.get_origin(tp) or tp
    if not isinstance(plain, type):
        return isinstance(tp, str | typing.TypeVar | typing.ForwardRef)
    if plain is object or getattr(plain, "_is_protocol", False):
        return True
    if issubclass(plain, collections.abc.MutableMapping):
        return True
    # A list of things is not meant for a dict, though that can be iterated, too.
    return plain.__module__ != "collections.abc" and isinstance(state, type) and issubclass(state, plain)


def is_for_state(annotation: Any) -> bool:
    """Whether an annotation says that something is a state, and not only that it might be one."""
    is_open = annotation in (None, Any, object) or isinstance(annotation, str | typing.TypeVar)
    is_open = is_open or getattr(annotation, "_is_protocol", False)
    return not is_open and not wants_context(annotation) and can_be_state(annotation)


Facts = list[tuple[str, str]]
"""(message, hint)"""


def analyse(
    signature: Signature,
    params: Mapping[str, Any] | None,
    *,
    is_map: bool = False,
    takes: Callable[[Any], bool] = lambda annotation: True,
    is_tool: bool = False,
) -> tuple[Call, Parameter | None, Facts]:
    """How to call it, the parameter that gets the graph's state (or None), and faults as (message, hint).

    `takes` tells by an annotation whether a parameter can take the subject.
    """
    strict = is_tool or bool(params)
    params = params or {}
    # Waiting to be given away, in order, to the first parameters that nothing else is meant for.
    waiting: list[Source] = ["subject", "state"] if is_map else ["subject"]
    named = None if is_map or "state" in params else next((p for p in signature.parameters if p.name == "state"), None)
    given: list[tuple[Parameter, Source | Fixed]] = []
    faults: Facts = []
    used: set[str] = set()
    for parameter in signature.parameters:
        if parameter.name in params:
            used.add(parameter.name)
            if wants_context(parameter.annotation) or parameter.name == "state":
                what = "the state" if parameter.name == "state" else "the Context"
                faults.append((f"params has {parameter.name!r}, which is given {what}", "leave it out of params"))
            given.append((parameter, Fixed(params[parameter.name])))
        elif wants_context(parameter.annotation):
            given.append((parameter, "context"))
        elif not is_map and wants_files(parameter) is not None:
            given.append((parameter, "files"))
            if not parameter.by_name:
                faults.append((f"its parameter {parameter.name!r} gets files by its name", "leave out the '/'"))
        elif parameter.name == "params" and strict:
            used.update(params)
            given.append((parameter, Fixed(dict(params))))
        elif parameter is named or (named is None and _is_next(parameter, waiting, takes, strict)):
            given.append((parameter, waiting.pop(0)))
        elif parameter.name == "params":
            given.append((parameter, Fixed({})))
        elif not parameter.optional:
            faults.append(_nothing_for(parameter))
    faults += _left_over(signature, params, used)
    spare = {name: params[name] for name in params if name not in used} if signature.many else {}
    call = _call(given, spare, more="subject" in waiting and signature.some)
    reads = "state" if is_map else "subject"
    return call, next((parameter for parameter, source in given if source == reads), None), faults


def _is_next(parameter: Parameter, waiting: list[Source], takes: Callable[[Any], bool], strict: bool) -> bool:
    """Whether a parameter gets what waits next."""
    if not waiting or not parameter.positional:
        return False
    if parameter.optional and waiting == ["state"]:
        return False
    if strict and parameter.optional and "state" not in waiting and not is_for_state(parameter.annotation):
        return False
    return takes(parameter.annotation) or not (strict or parameter.optional)


def _call(given: list[tuple[Parameter, Source | Fixed]], spare: Mapping[str, Any], more: bool) -> Call:
    """By position what has to be, and the subject if it comes first; the rest by name."""
    positional: list[Source | Fixed] = []
    named: dict[str, Source] = {}
    fixed = dict(spare)
    for index, (parameter, source) in enumerate(given):
        if source == "files":
            continue  # what comes is different each time, and given by its name
        if not parameter.by_name or (source == "subject" and index == len(positional)):
            positional.append(source)
        elif isinstance(source, Fixed):
            fixed[parameter.name] = source.value
        else:
            named[parameter.name] = source
    if more:
        positional.append("subject")
    if positional == ["subject"] and not named and not fixed:
        return PLAIN
    wants = "context" in positional or "context" in named.values()
    return Call(tuple(positional), named, fixed, plain=False, wants_context=wants)


def _nothing_for(parameter: Parameter) -> tuple[str, str]:
    expected = "" if parameter.annotation is None else f", expected {type_name(parameter.annotation)}"
    return (
        f"its parameter {parameter.name!r} gets nothing{expected}",
        f"give it in params={{{parameter.name!r}: ...}}, give it a default, or annotate it with Context",
    )


def _left_over(signature: Signature, params: Mapping[str, Any], used: set[str]) -> Iterator[tuple[str, str]]:
    if signature.many:
        return
    takes = [p.name for p in signature.parameters if not wants_context(p.annotation)]
    for name in params:
        if name not in used:
            hint = did_you_mean(name, takes) or f"it takes {', '.join(map(repr, takes)) or 'nothing'}"
            yield f"params has {name!r}, which its function does not take", hint


def returns_goto(function: Any, signature: Signature) -> bool:
    """Whether a function says, in its annotation or by using the class, that it may return a `Goto`."""
    returns = unwrap(signature.returns)
    if Goto in (returns, *typing.get_args(returns)):
        return True
    function = inspect.unwrap(function) if callable(function) else function
    code = getattr(function, "__code__", None)
    if code is None or not code.co_names:
        return False
    scope = function.__globals__
    return any(scope.get(name) is Goto for name in code.co_names)
