"""Functions for nodes on a cluster: in a module, which its workers import."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path
from typing import Any

import attrs


class Refused(Exception):
    """Has more to tell than its text."""

    def __init__(self, code: int, *, where: str) -> None:
        super().__init__(f"refused with {code}")
        self.code = code
        self.where = where


def begun(state: dict[str, Any]) -> None:
    """Say that one execution has begun, and where."""
    with open(os.path.join(state["folder"], "begun"), "ab", buffering=0) as file:
        file.write(b"%d\n" % os.getpid())


def refuse(state: dict[str, Any]) -> None:
    raise Refused(403, where="there")


def count(state: dict[str, Any]) -> None:
    """Write until stopped, in Python; and clean up."""
    begun(state)
    try:
        with open(os.path.join(state["folder"], "count"), "ab", buffering=0) as file:
            while True:
                file.write(b"x")
                time.sleep(0.002)
    finally:
        Path(state["folder"], "cleaned").touch()


def sleep_in_c(state: dict[str, Any]) -> None:
    """Wait in C, as for a database: no interrupt of Python's is heard."""
    begun(state)
    ctypes.CDLL(None).sleep(1000)


def hold_the_lock_in_c(state: dict[str, Any]) -> None:
    """The same with the interpreter's lock in hand: no other thread of the process gets a turn either."""
    begun(state)
    ctypes.PyDLL(None).sleep(1000)


def die(state: dict[str, Any]) -> None:
    begun(state)
    os.kill(os.getpid(), 9)


def die_once(state: dict[str, Any]) -> None:
    begun(state)
    if len(Path(state["folder"], "begun").read_text().split()) == 1:
        os.kill(os.getpid(), 9)


def wait_until_told(state: dict[str, Any]) -> dict[str, Any]:
    begun(state)
    while not Path(state["folder"], "go").exists():
        time.sleep(0.01)
    return {"pid": os.getpid()}


def quick(state: dict[str, Any]) -> dict[str, Any]:
    return {"pid": os.getpid()}


def where(state: dict[str, Any]) -> dict[str, Any]:
    import ray

    return {"on": sorted(ray.get_runtime_context().get_assigned_resources())}


def make(state: dict[str, Any]) -> dict[str, Any]:
    return {"data": bytearray(state["size"]), "hops": 0}


def hop(state: dict[str, Any]) -> dict[str, Any]:
    """Make another large value of the one given."""
    data = bytearray(state["data"])
    data[state["hops"]] = 1
    return {"data": data, "hops": state["hops"] + 1}


def look(state: dict[str, Any]) -> dict[str, Any]:
    """Look at the large value, and leave it as it is."""
    return {"ones": sum(state["data"][:100]), "type": type(state["data"]).__name__}


def fail_with_data(state: dict[str, Any]) -> None:
    raise ValueError(f"given {len(state['data'])} bytes")


def look_and_drop(state: dict[str, Any]) -> dict[str, Any]:
    """Look at the large value, which nobody needs any more."""
    return {**look(state), "data": None}


def together(states: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"double": 2 * state["number"], "size": len(states)} for state in states]


@attrs.frozen
class Held:
    """A state that is returned whole."""

    size: int = 0
    data: Any = None
    hops: int = 0


def make_held(state: Held) -> Held:
    return attrs.evolve(state, data=bytearray(state.size))


def pass_held(state: Held) -> Held:
    return attrs.evolve(state, hops=state.hops + 1)


def change_held(state: Held) -> Held:
    return attrs.evolve(state, data=bytearray(state.data) + b"x", hops=state.hops + 1)
