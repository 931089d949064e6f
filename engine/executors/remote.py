"""What runs on a machine of the cluster: one function, guarded, and how its outcome travels.

Nothing that goes wrong in the function, or with what it takes and gives, is left to Ray, which would wrap it in a class
of its own and drop its attributes. An outcome is small and comes back at once; a large result is a second object,
which whoever wants it fetches, so that it need not pass through the engine's process on its way to the next node.
"""

from __future__ import annotations

import copy
import os
import pickle
import signal
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final

from . import worker as wire

# Below this a result travels with its outcome; from here on as an object of its own, which may stay where it is.
LARGE_BYTES: Final = 64 * 1024

_RAW: Final[dict[type, bytes]] = {bytes: b"b", bytearray: b"a"}

Parts = list[Any]
"""A pickle, and after it the buffers that need not be copied into it."""


class Remote:
    """A value that is on the cluster: what a state holds in its place between nodes with `keep_remote=True`.

    The engine puts the value itself back before anything but a node on the cluster could look at it.
    """

    __slots__ = ("name", "ref", "size", "type_name")

    def __init__(self, ref: Any, name: str, size: int, type_name: str) -> None:
        self.ref = ref
        self.name = name
        self.size = size
        self.type_name = type_name

    def __copy__(self) -> Remote:
        return self

    def __deepcopy__(self, memo: Any) -> Remote:
        return self

    def __reduce__(self) -> Any:
        return Remote, (self.ref, self.name, self.size, self.type_name)

    def __repr__(self) -> str:
        return f"<{self.type_name} of {self.size:,} bytes, on the cluster>"


def packed(value: Any) -> Parts:
    """A value as it travels."""
    if type(value) in _RAW and len(value) >= LARGE_BYTES:
        return [_RAW[type(value)], pickle.PickleBuffer(value)]  # a pickle would be one more copy
    cloudpickle = import_module("ray.cloudpickle")
    buffers: list[pickle.PickleBuffer] = []
    data = cloudpickle.dumps(value, protocol=wire.PROTOCOL, buffer_callback=buffers.append)
    return [data, *buffers]


def _shared(parts: Parts) -> Parts:
    """The same, to be put into the object store with no further copy on the way."""
    return [pickle.PickleBuffer(parts[0]), *parts[1:]]


def unpacked(parts: Sequence[Any]) -> Any:
    """The value of `packed`; its large buffers are read-only views of what is shared."""
    head = parts[0]
    if len(head) == 1:
        return bytes(parts[1]) if bytes(head) == _RAW[bytes] else bytearray(parts[1])
    return pickle.loads(head, buffers=parts[1:])


def size_of(parts: Sequence[Any]) -> int:
    """How many bytes they are."""
    size: int = len(parts[0]) + sum(buffer.raw().nbytes for buffer in parts[1:])
    return size


def run_guarded(
    function: bytes, observed: tuple[Any, ...] | None, arguments: tuple[Any, Any], keep: bool, backend: str
) -> tuple[tuple[str, Any, Any], Any]:
    """Call a function; gives (how it went, what it gave or raised, more) and what is too large for that.

    What Ray cancels by raising `KeyboardInterrupt`, and what ends the process, is not caught.
    """
    try:
        call: Any = pickle.loads(function)
    except Exception as error:
        return _refused("function", "", error), None
    if observed is not None:
        call = wire.Observed(call, *observed)
    try:
        args, kwargs = _with_values(arguments)
    except Exception as error:
        return _refused("arguments", "", error), None
    try:
        result = wire.finished(call(*args, **kwargs), backend)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        return _raised(error), None
    try:
        reducers = observed[3] if observed is not None else ()
        return _returned(result, keep and observed is not None and not observed[1], reducers)
    except Exception as error:
        return _refused("result", wire.culprit(result, "result"), error), None


def _returned(result: Any, keep: bool, reducers: Sequence[str]) -> tuple[tuple[str, Any, Any], Any]:
    kept: dict[str, Parts] = {}
    if keep:
        result = _without_large(result, kept, reducers)
    parts = packed(result)
    if kept:
        return ("returned", parts[0], ([bytes(buffer.raw()) for buffer in parts[1:]], True)), kept
    if size_of(parts) < LARGE_BYTES:
        return ("returned", parts[0], ([bytes(buffer.raw()) for buffer in parts[1:]], False)), None
    return ("large", None, None), _shared(parts)


def _without_large(told: Any, kept: dict[str, Parts], reducers: Sequence[str]) -> Any:
    """What was done to a state, its large values taken out and their places held by what stands for them."""
    changed, gone, mutated, passed_on, returned = told
    changed = _taken_out(changed, kept, reducers)
    update = getattr(returned, "update", returned) if wire.is_goto(returned) else returned
    if type(update) is dict:
        update = _taken_out(update, kept, reducers)
        returned = type(returned)(returned.targets, update) if wire.is_goto(returned) else update
    elif hasattr(type(update), "__attrs_attrs__"):
        returned = copy.copy(update)
        values = {name: value for name, value in wire.values_in(update).items() if name not in passed_on}
        for name, value in {**_taken_out(values, kept, reducers), **dict.fromkeys(passed_on)}.items():
            object.__setattr__(returned, name, value)
    return changed, gone, mutated, passed_on, returned


def _taken_out(values: Mapping[str, Any], kept: dict[str, Parts], reducers: Sequence[str]) -> dict[str, Any]:
    found = {}
    for name, value in values.items():
        if type(name) is str and name not in reducers and not isinstance(value, Remote):
            parts = packed(value)
            if (size := size_of(parts)) >= LARGE_BYTES:
                # Set in place and returned as well: what is returned counts, so that one is kept under the name.
                kept[name] = _shared(parts)
                value = Remote(None, name, size, type(value).__name__)
        found[name] = value
    return found


def _with_values(arguments: tuple[Any, Any]) -> tuple[Any, Any]:
    """The arguments, with what is on the cluster in the place of what stands for it, at the top level of a state."""
    args, kwargs = arguments
    remotes = [
        (state, name, value)
        for state in (*args, *kwargs.values())
        for name, value in wire.values_in(state).items()
        if isinstance(value, Remote)
    ]
    if remotes:
        refs = list({remote.ref: None for _, _, remote in remotes})
        found = dict(zip(refs, import_module("ray").get(refs), strict=True))
        for state, name, remote in remotes:
            value = unpacked(found[remote.ref][remote.name])
            if isinstance(state, dict):
                state[name] = value
            else:
                object.__setattr__(state, name, value)
    return args, kwargs


def _raised(error: BaseException) -> tuple[str, Any, Any]:
    try:
        return "raised", wire.dump_error(error), None
    except Exception as why:
        return _refused("exception", wire.culprit(error, type(error).__qualname__) + f": {error}", why)


def hunt(name: str) -> list[int]:
    """Kill the workers on this machine that run a call of this name, which nothing else reaches; their process ids.

    One that is deep in C code, and holds the interpreter's lock, hears neither Ray's interrupt nor, after that, its
    order to exit. Ray has workers bear the name of what they run.
    """
    found = []
    for entry in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                title = file.read().strip(b"\0 ").decode(errors="replace")
        except OSError:
            continue  # gone meanwhile
        if title == f"ray::{name}":
            os.kill(int(entry), signal.SIGKILL)
            found.append(int(entry))
    return found


def _refused(what: str, where: str, error: BaseException) -> tuple[str, Any, Any]:
    return "refused", (what, where), f"{type(error).__name__}: {error}"
