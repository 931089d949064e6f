"""Interrupts are not supervised: they come out of the `async with` as themselves, the same on every backend.

On asyncio an interrupt in a task leaves the loop at once, past every `except` of the program; there only the caller
of the loop sees it. So these run whole programs.
"""

import asyncio
from functools import partial
from typing import Any

import anyio
import pytest

from actors import Actor, ActorError, ChildSpec, StopReason, Supervisor, supervise
from actors.testing import BACKENDS, Backend, run


class Raising(Actor[Any]):
    def __init__(self, ends: list[str]) -> None:
        self.ends = ends

    async def receive(self, message: Any) -> None:
        raise message

    async def on_stop(self, reason: StopReason) -> None:
        self.ends.append(reason.kind)


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt("now"), SystemExit(3)], ids=["interrupt", "exit"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_interrupt_in_an_actor_comes_out_bare_and_every_actor_is_cleaned_up(
    backend: Backend, interrupt: BaseException
) -> None:
    ends: list[str] = []

    async def main() -> None:
        sub = Supervisor.spec("sub", [ChildSpec("a", Raising, [ends]), ChildSpec("b", Raising, [ends])])
        async with supervise([sub]) as root:
            await root.supervisor("sub").child("a").ask(interrupt)

    with pytest.raises(type(interrupt)) as caught:
        run(main, backend=backend)

    assert caught.value is interrupt
    assert ends == ["killed", "killed"]


async def leave_with(error: BaseException) -> None:
    async with supervise([ChildSpec("a", Raising, [[]])]):
        raise error


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt("now"), SystemExit(3)], ids=["interrupt", "exit"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_interrupt_in_the_body_comes_out_bare(backend: Backend, interrupt: BaseException) -> None:
    async def main() -> None:
        with pytest.raises(type(interrupt)) as caught:
            await leave_with(interrupt)
        assert caught.value is interrupt

    run(main, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_interrupt_keeps_its_cause(backend: Backend) -> None:
    cause = LookupError("why")
    interrupt = SystemExit(3)
    interrupt.__cause__ = cause

    with pytest.raises(SystemExit):
        run(partial(leave_with, interrupt), backend=backend)

    assert interrupt.__cause__ is cause


@pytest.mark.parametrize("backend", ["asyncio", "uvloop"])
def test_a_child_whose_task_is_cancelled_natively_is_named(backend: Backend) -> None:
    class Exposed(Actor[Any]):
        async def receive(self, message: Any) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await anyio.sleep(1)

    async def main() -> None:
        async with supervise([ChildSpec("a", Exposed), ChildSpec("b", Exposed)]) as root:
            await root.child("b").tell("now")
            await anyio.sleep(1)

    with pytest.raises(ActorError, match="actor 'root/b' was cancelled from outside the tree"):
        run(main, backend=backend)
