"""Under any schedule: each item and each message has exactly one fate, and every ask ends."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import pytest
from anyio import CancelScope
from anyio.lowlevel import checkpoint

from actors import (
    Actor,
    ActorError,
    ChildSpec,
    DeadLetter,
    EndOfMailbox,
    Mailbox,
    MailboxClosed,
    MailboxFull,
    NullObserver,
    Terminated,
    supervise,
)
from actors.capacity import Overflow
from actors.testing import BACKENDS, Backend, run

SEEDS = range(25)
POLICIES: list[Overflow] = ["block", "fail", "drop_newest", "drop_oldest"]
Item = tuple[str, int]


class Interrupter:
    """Cancels, at random moments, whatever is running inside `interruptible`: by scopes, or natively."""

    def __init__(self, dice: random.Random, *, native: bool) -> None:
        self.dice = dice
        self.native = native
        self.cancels: dict[object, Callable[[], object]] = {}

    async def run(self) -> None:
        while True:
            for _ in range(self.dice.randrange(4)):
                await checkpoint()
            if self.cancels:
                self.cancels.pop(self.dice.choice(list(self.cancels)))()
            await anyio.sleep(0.01)

    async def interruptible(self, function: Callable[[], Any]) -> bool:
        """Await the function; tells whether it was cancelled."""
        key = object()
        try:
            if self.native:
                task = asyncio.ensure_future(function())
                self.cancels[key] = task.cancel
                await asyncio.wait([task])
                if not task.cancelled():
                    task.result()
                return task.cancelled()
            with CancelScope() as scope:
                self.cancels[key] = scope.cancel
                await function()
            return scope.cancelled_caught
        finally:
            self.cancels.pop(key, None)


async def use_a_mailbox(seed: int, overflow: Overflow, native: bool) -> None:
    dice = random.Random(seed)
    fates: dict[str, list[Item]] = {name: [] for name in ("taken", "dropped", "refused", "cancelled")}
    mailbox: Mailbox[Item] = Mailbox(2, overflow, on_drop=fates["dropped"].append)
    interrupter = Interrupter(dice, native=native)

    async def produce(name: str) -> None:
        for number in range(15):
            item = (name, number)
            try:
                if await interrupter.interruptible(partial(mailbox.put, item)):
                    fates["cancelled"].append(item)
            except (MailboxFull, MailboxClosed):
                fates["refused"].append(item)
            assert mailbox.statistics().data <= mailbox.capacity
            if dice.random() < 0.5:
                await checkpoint()

    async def take() -> None:
        fates["taken"].append(await mailbox.get())

    async def consume() -> None:
        while True:
            try:
                await interrupter.interruptible(take)
            except EndOfMailbox:
                return
            if dice.random() < 0.5:
                await checkpoint()

    async with anyio.create_task_group() as outer:
        outer.start_soon(interrupter.run)
        outer.start_soon(consume)
        async with anyio.create_task_group() as producers:
            for name in "abcd":
                producers.start_soon(produce, name)
        mailbox.close()
        await anyio.sleep(1)
        outer.cancel_scope.cancel()

    assert len(mailbox) == 0
    assert Counter(item for items in fates.values() for item in items) == Counter(
        (name, number) for name in "abcd" for number in range(15)
    )
    for name in "abcd":
        of_one = [number for producer, number in fates["taken"] if producer == name]
        assert of_one == sorted(of_one)
    assert len(fates["dropped"]) == mailbox.statistics().dropped


@pytest.mark.parametrize("overflow", POLICIES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_each_item_put_has_one_fate_and_each_producer_its_order(backend: Backend, overflow: Overflow) -> None:
    for seed in SEEDS:
        run(use_a_mailbox, seed, overflow, False, backend=backend, seed=seed, virtual_time=True)


@pytest.mark.parametrize("overflow", POLICIES)
@pytest.mark.parametrize("backend", ["asyncio", "uvloop"])
def test_each_item_put_has_one_fate_though_tasks_are_cancelled_natively(backend: Backend, overflow: Overflow) -> None:
    for seed in SEEDS:
        run(use_a_mailbox, seed, overflow, True, backend=backend, seed=seed, virtual_time=True)


class Fates(NullObserver):
    def __init__(self) -> None:
        self.letters: list[DeadLetter] = []

    def dead_letter(self, letter: DeadLetter) -> None:
        self.letters.append(letter)


class Moody(Actor[Any]):
    """Handles, crashes on, defers or is slow with what it gets, as the dice say; and watches another."""

    def __init__(self, dice: random.Random, fates: dict[str, list[Any]]) -> None:
        self.dice = dice
        self.fates = fates

    async def receive(self, message: Any) -> Any:
        mood = self.dice.random()
        if mood < 0.1:
            self.fates["crashed"].append(message)
            raise RuntimeError(message)
        if mood < 0.3:
            await anyio.sleep(self.dice.random() / 10)
        if mood > 0.9 and message[0] == "ask":
            self.context.defer_reply()  # and never answers
        if mood > 0.98:
            self.context.stop()
        self.fates["handled"].append(message)
        return message


class Watcher(Actor[Any]):
    def __init__(self, target: list[Any], heard: list[str]) -> None:
        self.target = target
        self.heard = heard

    async def receive(self, message: Any) -> None:
        self.context.watch(self.target[0])

    async def on_terminated(self, terminated: Terminated) -> None:
        self.heard.append(terminated.reason.kind)


async def use_an_actor(seed: int, overflow: Overflow) -> None:
    dice = random.Random(seed)
    fates: dict[str, list[Any]] = {name: [] for name in ("handled", "crashed", "refused", "asked")}
    observer = Fates()
    target: list[Any] = []
    heard: list[str] = []
    moody = ChildSpec(
        "moody",
        Moody,
        [dice, fates],
        restart="transient",
        capacity=3,
        overflow=overflow,
        shutdown=dice.choice([0, 0.05]),
        max_restarts=1000,
    )
    watcher = ChildSpec("watcher", Watcher, [target, heard])

    async def tell(name: str) -> None:
        for number in range(8):
            message = ("tell", name, number)
            try:
                await ref.tell(message)
            except MailboxFull:
                fates["refused"].append(message)
            await anyio.sleep(dice.random() / 20)

    async def ask(name: str) -> None:
        for number in range(5):
            try:
                answer: Any = await ref.ask(("ask", name, number), timeout=dice.choice([0.02, 1, 10]))
                assert answer == ("ask", name, number)
            except (ActorError, TimeoutError) as error:
                answer = error
            fates["asked"].append(answer)
            await anyio.sleep(dice.random() / 20)

    async with supervise([moody, watcher], observer=observer) as root:
        ref = root.child("moody")
        target.append(ref)
        await root.child("watcher").ask("watch")
        async with anyio.create_task_group() as group:
            for name in "ab":
                group.start_soon(tell, name)
                group.start_soon(ask, name)
            await anyio.sleep(dice.random())
            await root.terminate_child("moody")
        await anyio.sleep(1)

    assert heard in (["shutdown"], ["killed"], ["normal"])
    assert len(fates["asked"]) == 10
    letters = [letter.message for letter in observer.letters if letter.reason != "late_reply"]
    told = [
        message
        for message in [*fates["handled"], *fates["crashed"], *fates["refused"], *letters]
        if message[0] == "tell"
    ]
    assert Counter(told) == Counter(("tell", name, number) for name in "ab" for number in range(8))


@pytest.mark.parametrize("overflow", POLICIES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_each_message_told_has_one_fate_each_ask_ends_and_each_watch_is_answered_once(
    backend: Backend, overflow: Overflow
) -> None:
    for seed in SEEDS:
        try:
            run(use_an_actor, seed, overflow, backend=backend, seed=seed, virtual_time=True)
        except BaseException as error:
            error.add_note(f"on {backend} with seed {seed}")
            raise
