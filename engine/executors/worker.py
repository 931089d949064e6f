"""What a worker process is, and the bytes that go to it and come back.

A worker starts by loading this file, not as a part of its package: it knows the standard library only, and of that
as little as will do, so that the first call is soon answered. What else is needed comes with the first function that
needs it.

A message is a list of byte strings: pickles, and after them large buffers (arrays) that need not be copied into these.
The code for reading and writing is shared by both ends and does no I/O: it hands out memory to fill or to send.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from types import CoroutineType, ModuleType
from typing import Any, NoReturn

ALIAS = "_engine_worker"
"""What this module is called in a worker, and in pickles from there. Its own name would import the engine."""

PROTOCOL = 5
Buffer = bytes | bytearray | memoryview

_SMALL_BYTES = 65_536  # below this, joining is cheaper than another system call

_FIRST_READ_BYTES = 16_384

loading_main = False
"""Whether a worker is just running the parent's script, in order to find a function there."""


# --- messages -------------------------------------------------------------------------------------------


class Part(list[Buffer]):
    """One pickle or one buffer, in pieces. As the pickler's file it takes large strings of bytes without a copy."""

    write = list.append


def dump(value: Any) -> list[Part]:
    """A value as the last parts of a message."""
    pickled = Part()
    buffers: list[pickle.PickleBuffer] = []
    pickle.Pickler(pickled, PROTOCOL, buffer_callback=buffers.append).dump(value)
    return [pickled, *(Part([buffer.raw()]) for buffer in buffers)]


def load(parts: Sequence[bytearray]) -> Any:
    """The value that `dump` was given."""
    return pickle.loads(parts[0], buffers=parts[1:])


def to_send(parts: Sequence[Part]) -> list[memoryview]:
    """The bytes of a message, small pieces joined and large ones not copied."""
    sizes = [sum(map(len, part)) for part in parts]
    small: list[Buffer] = [struct.pack(f"!I{len(sizes)}Q", len(sizes), *sizes)]
    chunks = []
    for part in parts:
        for piece in part:
            if len(piece) < _SMALL_BYTES:
                small.append(piece)
            else:
                chunks += [memoryview(b"".join(small)), memoryview(piece)]
                small = []
    return [chunk for chunk in (*chunks, memoryview(b"".join(small))) if chunk]


def to_receive() -> Generator[memoryview, int, list[bytearray]]:
    """Give memory to be filled, be sent how much of it was, and return the parts of the message that came.

    One read is enough for a small message. It may bring nothing of another: each side waits for the other's answer.
    """
    start = bytearray(_FIRST_READ_BYTES)
    got, head = 0, 4
    while got < head:
        got += yield memoryview(start)[got:]
        head = 4 + 8 * int.from_bytes(start[:4], "big")
        if head > len(start):
            start = start[:got] + bytearray(head - got)
    parts = [bytearray(size) for (size,) in struct.iter_unpack("!Q", start[4:head])]
    for part in parts:
        have = min(len(part), got - head)
        part[:have] = start[head : head + have]
        head += have
        rest = memoryview(part)[have:]
        while rest:
            rest = rest[(yield rest) :]
    return parts


# --- async functions ------------------------------------------------------------------------------------


def backend_here() -> str:
    """The backend that runs the caller, by the name that `anyio.run` knows it by."""
    sniffio = sys.modules.get("sniffio")  # anyio brings it only where there is more than one
    return sniffio.current_async_library() if sniffio else "asyncio"


def finished(result: Any, backend: str) -> Any:
    """What a function has returned, awaited in a new loop if it was an async one."""
    if type(result) is not CoroutineType:
        return result
    import anyio

    async def awaited() -> Any:
        return await result

    return anyio.run(awaited, backend=backend)


# --- what a function does to the state that it is given -------------------------------------------------


class Observed:
    """A node's function, for where its state is a copy: tells what it did to that, besides what it returned.

    What counts in a node is which values are the very ones that it was given. Of copies only the place where they
    were made can tell. Calls give (`changed`, `gone`, `mutated`, `kept`, `returned`) for each state: items set in
    place, names removed, names of values changed inside, names of values passed on in what was returned, which is
    None if it was the given state itself.
    """

    def __init__(
        self, function: Callable[..., Any], where: int | str, many: bool, isolation: str, reducers: Sequence[str]
    ) -> None:
        """Observe the argument at a position or of a name; `many` says that it is a list of states."""
        self.function = function
        self.where = where
        self.many = many
        self.isolation = isolation
        self.reducers = tuple(reducers)

    def in_worker(self) -> Observed:
        """The same, to be found by the name that this module has in a worker."""
        return _ObservedThere(self.function, self.where, self.many, self.isolation, self.reducers)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; an async one gives a coroutine that tells what it did."""
        subject = args[self.where] if isinstance(self.where, int) else kwargs[self.where]
        given = list(subject) if self.many else [subject]
        before = [values_in(state) for state in given]
        marks = [self._marks(values) for values in before]
        returned = self.function(*args, **kwargs)
        if type(returned) is CoroutineType:
            return self._awaited(returned, given, before, marks)
        return self._told(returned, given, before, marks)

    async def _awaited(self, coroutine: Any, *seen: Any) -> Any:
        return self._told(await coroutine, *seen)

    def _told(self, returned: Any, given: list[Any], before: list[Any], marks: list[Any]) -> Any:
        if not self.many:
            return self.of_one(returned, given[0], before[0], marks[0])
        if not isinstance(returned, (list, tuple)) or len(returned) != len(given):
            return returned
        return list(map(self.of_one, returned, given, before, marks))

    def _marks(self, values: dict[str, Any]) -> dict[str, Any]:
        if self.isolation == "shallow":
            return {}
        fingerprint = _fingerprint()
        return {name: fingerprint(value) for name, value in values.items()}

    def of_one(self, returned: Any, given: Any, before: dict[str, Any], marks: dict[str, Any]) -> Any:
        """What was done to one state that held `before`, and what was returned for it."""
        after = values_in(given)
        changed = {name: value for name, value in after.items() if value is not before.get(name, _NOTHING)}
        gone = [name for name in before if name not in after]
        mutated = [name for name, mark in marks.items() if _fingerprint()(before[name]) != mark]
        if returned is given:
            return changed, gone, mutated, [], None
        update = getattr(returned, "update", returned) if is_goto(returned) else returned
        if update is given:
            return changed, gone, mutated, [], type(returned)(returned.targets)
        kept = [
            name
            for name, value in values_in(update).items()
            if value is before.get(name, _NOTHING) and (name not in mutated or name in self.reducers)
        ]
        if isinstance(update, Mapping):
            # These need not travel. Put by None, so that the order stays.
            update = {**update, **dict.fromkeys(kept)}
            returned = type(returned)(returned.targets, update) if is_goto(returned) else update
        return changed, gone, mutated, kept, returned


class _ObservedThere(Observed):
    __module__ = ALIAS


_NOTHING: Any = object()


def values_in(state: Any) -> dict[str, Any]:
    """The top level of a state: a mapping's items, or the fields that an attrs class is made with."""
    if isinstance(state, Mapping):
        return dict(state)
    fields = getattr(type(state), "__attrs_attrs__", ())
    return {f.name: getattr(state, f.name) for f in fields if f.init and hasattr(state, f.name)}


def is_goto(returned: Any) -> bool:
    # Whoever returned one has loaded its module.
    values = sys.modules.get("engine.values")
    return values is not None and isinstance(returned, values.Goto)


def _fingerprint() -> Callable[[Any], Any]:
    """The engine's own, which needs nothing else of the engine."""
    name = "_engine_fingerprint"
    if name not in sys.modules:
        from importlib.util import module_from_spec, spec_from_file_location

        file = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fingerprint.py")
        spec = spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[name] = module
    found: Callable[[Any], Any] = sys.modules[name].fingerprint
    return found


# --- errors that travel ---------------------------------------------------------------------------------


class ErrorPickler(pickle.Pickler):
    """Keeps what plain pickling loses of an exception: its cause and context, and arguments it was not called with."""

    links = True

    def reducer_override(self, value: Any) -> Any:
        reduced = value.__reduce_ex__(PROTOCOL) if isinstance(value, BaseException) else None
        if not isinstance(reduced, tuple):
            return NotImplemented
        make, args, state, *_ = *reduced, None
        links = (value.__cause__, value.__context__, value.__suppress_context__) if self.links else None
        # As state, which is pickled after the error itself: a cause may lead back to it.
        return make_error, (make, args), (state, value.args, links), None, None, restore_error


def make_error(make: Callable[..., BaseException], args: tuple[Any, ...]) -> BaseException:
    """Make an exception from its arguments, though its class may want others."""
    try:
        return make(*args)
    except Exception:
        if not isinstance(make, type):
            raise
        error: BaseException = make.__new__(make, *args)
        return error


def restore_error(error: BaseException, facts: tuple[Any, tuple[Any, ...], tuple[Any, Any, bool] | None]) -> None:
    """Give an exception back what it had."""
    state, args, links = facts
    if state is not None:
        error.__setstate__(state)
    error.args = args
    if links is not None:
        error.__cause__, error.__context__, error.__suppress_context__ = links


def dump_error(error: BaseException) -> bytes:
    """An exception with its traceback's text; without its causes, if only these cannot be pickled."""
    import io
    import traceback

    # The first frame is this module's.
    trace = error.__traceback__ and error.__traceback__.tb_next
    text = "".join(traceback.format_exception(type(error), error, trace))
    for links in (True, False):
        file = io.BytesIO()
        pickler = ErrorPickler(file, PROTOCOL)
        pickler.links = links
        try:
            pickler.dump(("raised", error, text))
        except Exception:
            if not links:
                raise
        else:
            break
    return file.getvalue()


def culprit(value: Any, name: str, depth: int = 5) -> str:
    """Where in a value is what cannot be pickled, and of what type it is."""
    if depth:
        for child, where in _inside(value, name):
            try:
                pickle.dumps(child, PROTOCOL)
            except Exception:
                return culprit(child, where, depth - 1)
    return f"{name} (of type {type(value).__module__}.{type(value).__qualname__})"


def _inside(value: Any, name: str) -> list[tuple[Any, str]]:
    if isinstance(value, dict):
        return [(child, f"{name}[{key!r}]") for key, child in value.items()]
    if isinstance(value, (list, tuple)):
        return [(child, f"{name}[{index}]") for index, child in enumerate(value)]
    slots = [slot for base in type(value).__mro__ for slot in base.__dict__.get("__slots__", ())]
    names = [*getattr(value, "__dict__", ()), *slots, *(["args"] if isinstance(value, BaseException) else [])]
    return [(getattr(value, key), f"{name}.{key}") for key in names if key[:2] != "__" and hasattr(value, key)]


# --- the worker -----------------------------------------------------------------------------------------


def main(channel: int, lifeline: int) -> None:
    """Answer calls until the parent closes its end. Started by `processes`."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # They are for the parent, which ends its workers. Not SIG_IGN: programs started here would inherit that.
        signal.signal(number, lambda *_: None)
    held = [channel, lifeline]
    for fd in held:
        os.set_inheritable(fd, False)

    def let_go() -> None:
        # Once only: a child of the child may have other files under these numbers.
        while held:
            os.close(held.pop())

    # A forked child must not keep the channel open: the parent waits for its end.
    os.register_at_fork(after_in_child=let_go)
    die_with_parent(lifeline)
    backend = ""
    try:
        while True:
            settings, *call = _receive(channel)
            if settings:
                backend = _set_up(load([settings]))
            reply = _answer(call, backend)
            _flush()
            _send(channel, reply)
            del reply
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass


def _flush() -> None:
    # A worker may be killed at any time, with what it has printed so far.
    try:
        sys.stdout.flush()
    except Exception:
        return  # closed or replaced by the function, whose affair that is


def die_with_parent(lifeline: int) -> None:
    """Have this process, and all that it starts, killed when the other end of a pipe closes.

    On Linux the kernel does it, which works even while C code holds the interpreter's lock; elsewhere a thread does.
    """
    import fcntl

    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC | os.O_NONBLOCK)
        try:
            os.read(lifeline, 1)
        except BlockingIOError:
            return
        _die()  # the parent went before the kernel knew whom to kill
    import threading

    threading.Thread(target=lambda: (os.read(lifeline, 1), _die()), daemon=True).start()


def _die() -> NoReturn:
    os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def _set_up(settings: dict[str, Any]) -> str:
    sys.path[:] = settings["path"]
    sys.argv[:] = settings["argv"]
    sys.modules["__main__"] = _Main(settings["main_name"], settings["main_file"])
    backend: str = settings["backend"]
    return backend


class _Main(ModuleType):
    """Stands for the parent's script, which runs here only once something of it is needed."""

    def __init__(self, name: str | None, file: str | None) -> None:
        super().__init__("__main__")
        self._name = name
        self._file = file

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_load_main(self._name, self._file), name)


def _load_main(name: str | None, file: str | None) -> ModuleType:
    """Run the parent's script under another name, as `multiprocessing` does, so that its guard keeps it from acting."""
    global loading_main
    module = ModuleType("__mp_main__")
    if name is not None:
        from importlib.util import find_spec

        spec = find_spec(name)
        if spec is None or spec.loader is None:
            raise ImportError(f"the main module {name!r} cannot be found")
        code = spec.loader.get_code(name)  # type: ignore[attr-defined]  # as runpy does
        module.__package__ = spec.parent
    elif file is not None:
        with open(file, "rb") as source:
            code = compile(source.read(), file, "exec")
    else:
        # Not an AttributeError: of that, pickle would drop the message.
        raise ImportError("it is defined in an interactive session, which has no file to import")
    module.__file__ = file
    before = sys.modules["__main__"]
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    loading_main = True
    try:
        exec(code, module.__dict__)
    except BaseException:
        sys.modules["__main__"] = before
        raise
    finally:
        loading_main = False
    return module


def _answer(parts: list[bytearray], backend: str) -> list[Part]:
    """Call a function and say how it went. `SystemExit` means what it says: it ends this process."""
    try:
        function = load(parts[:1])
    except (Exception, SystemExit) as error:  # a script without a guard may end itself
        return _refuse("function", "", error)
    try:
        args, kwargs = load(parts[1:])
    except Exception as error:
        return _refuse("arguments", "", error)
    parts.clear()
    try:
        result = finished(function(*args, **kwargs), backend)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        try:
            return [Part([dump_error(error)])]
        except Exception as why:
            return _refuse("exception", culprit(error, type(error).__qualname__) + f": {error}", why)
    try:
        return dump(("returned", result, ""))
    except Exception as error:
        return _refuse("result", culprit(result, "result"), error)


def _refuse(what: str, where: str, error: BaseException) -> list[Part]:
    return dump(("refused", (what, where), f"{type(error).__name__}: {error}"))


def _receive(channel: int) -> list[bytearray]:
    reading = to_receive()
    view = next(reading)
    try:
        while count := os.readv(channel, [view]):
            view = reading.send(count)
    except StopIteration as end:
        parts: list[bytearray] = end.value
        return parts
    raise EOFError


def _send(channel: int, parts: Sequence[Part]) -> None:
    for view in to_send(parts):
        while view:
            view = view[os.write(channel, view) :]
