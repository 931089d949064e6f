"""On trio, a Ctrl-C that comes in the middle of our own code is heard at the next checkpoint of the main task.

Trio raises `KeyboardInterrupt` wherever the program is when it comes. In the middle of handing a message over, or of
telling those who wait that something is written, it would leave them waiting for ever, and what is being left could
not be left. Trio spares functions that say so, and what they call; ours all do. On asyncio the main task is cancelled,
and nothing is interrupted anywhere else.

So a node, or an actor, that holds the event loop is not interrupted either: neither is it on asyncio.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from types import FunctionType
from typing import Any, Final

from .waker import in_trio

_seen: Final[set[str]] = set()


def uninterrupted(package: str) -> None:
    """Have no function of a package interrupted on trio, as far as its modules are imported; elsewhere do nothing."""
    if not in_trio():
        return
    from trio.lowlevel import enable_ki_protection

    for name, module in list(sys.modules.items()):
        if name in _seen or name.partition(".")[0] != package:
            continue
        _seen.add(name)
        for function in _functions_of(list(vars(module).values())):
            if function.__code__.co_filename == getattr(module, "__file__", None):
                enable_ki_protection(function)


def _functions_of(things: list[Any]) -> Iterator[FunctionType]:
    """Those among some things, and the methods of the classes among them."""
    for thing in things:
        if isinstance(thing, type):
            yield from _functions_of([one for one in vars(thing).values() if not isinstance(one, type)])
        elif isinstance(thing, property):
            yield from _functions_of([thing.fget, thing.fset])
        else:
            method = getattr(thing, "__func__", thing)
            function = inspect.unwrap(method) if callable(method) else None
            if isinstance(function, FunctionType):
                yield function
