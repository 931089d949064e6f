"""Every promise of `mailbox.py`, and a plain model that it must agree with under any schedule."""

import asyncio
from collections import deque
from typing import Any

import anyio
import attrs
import pytest
from anyio import CancelScope
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import EndOfMailbox, Mailbox, MailboxClosed, MailboxFull, MailboxStatistics
from actors.capacity import Overflow
from actors.mailbox import BURST
from actors.testing import BACKENDS, Backend, run

on_asyncio_loops = pytest.mark.parametrize("backend", ["asyncio", "uvloop"])


def full(overflow: Overflow = "block", **options: Any) -> Mailbox[str]:
    """A mailbox that holds the two items it has room for, "a" and "b"."""
    mailbox: Mailbox[str] = Mailbox(2, overflow, **options)
    mailbox.put_nowait("a")
    mailbox.put_nowait("b")
    return mailbox


# Two lanes


def test_items_come_out_in_the_order_they_were_put() -> None:
    mailbox = full()

    assert [mailbox.take_nowait(), mailbox.take_nowait()] == ["a", "b"]


def test_control_overtakes_data_and_keeps_its_own_order() -> None:
    mailbox = full()
    mailbox.put_control("x")
    mailbox.put_control("y")

    assert mailbox.drain() == ["x", "y", "a", "b"]


def test_control_is_never_refused_for_lack_of_room() -> None:
    mailbox = full("fail")

    for number in range(1000):
        mailbox.put_control(str(number))

    assert mailbox.statistics().control == 1000


async def test_get_serves_control_first_even_when_data_came_first() -> None:
    mailbox = full()
    mailbox.put_control("x")

    assert [await mailbox.get() for _ in range(3)] == ["x", "a", "b"]


def test_an_item_put_back_is_the_next_of_its_lane_whatever_the_capacity() -> None:
    mailbox = full()
    mailbox.put_back("again")
    mailbox.put_control("x")

    assert mailbox.drain() == ["x", "again", "a", "b"]


def test_admit_needs_no_room() -> None:
    mailbox = full("fail")
    mailbox.admit("c")

    assert mailbox.drain() == ["a", "b", "c"]


# Waiting for an item


async def test_get_waits_for_an_item() -> None:
    mailbox: Mailbox[str] = Mailbox()

    async with anyio.create_task_group() as group:
        group.start_soon(_put_after_a_turn, mailbox, "late")
        item = await mailbox.get()

    assert item == "late"


async def test_a_get_cancelled_while_it_waits_loses_nothing() -> None:
    mailbox: Mailbox[str] = Mailbox()
    with anyio.move_on_after(1):
        await mailbox.get()
    mailbox.put_nowait("a")

    assert await mailbox.get() == "a"


@pytest.mark.parametrize("first", ["put", "cancel"])
async def test_a_get_cancelled_in_the_moment_an_item_comes_loses_nothing(first: str) -> None:
    mailbox: Mailbox[str] = Mailbox()
    got: list[str] = []
    scope = CancelScope()

    async def consume() -> None:
        with scope:
            got.append(await mailbox.get())

    async with anyio.create_task_group() as group:
        group.start_soon(consume)
        await anyio.sleep(1)
        if first == "put":
            mailbox.put_nowait("a")
            scope.cancel()
        else:
            scope.cancel()
            mailbox.put_nowait("a")

    assert got + mailbox.drain() == ["a"]


@on_asyncio_loops
@pytest.mark.parametrize("first", ["put", "cancel"])
def test_a_get_cancelled_natively_in_the_moment_an_item_comes_loses_nothing(first: str, backend: Backend) -> None:
    async def main() -> tuple[bool, list[str]]:
        mailbox: Mailbox[str] = Mailbox()
        task = asyncio.ensure_future(mailbox.get())
        await checkpoint()
        if first == "put":
            mailbox.put_nowait("a")
            task.cancel()
        else:
            task.cancel()
            mailbox.put_nowait("a")
        await asyncio.wait([task])
        return task.cancelled(), mailbox.drain()

    assert run(main, backend=backend) == (True, ["a"])


async def test_after_64_items_in_a_row_siblings_get_one_turn() -> None:
    mailbox: Mailbox[int] = Mailbox(1000)
    taken = 0
    taken_when_sibling_ran: list[int] = []

    async def sibling() -> None:
        while taken < 3 * BURST:
            taken_when_sibling_ran.append(taken)
            await checkpoint()

    for number in range(3 * BURST + 1):
        mailbox.put_nowait(number)
    async with anyio.create_task_group() as group:
        group.start_soon(sibling)
        await checkpoint()  # the sibling is ready from now on
        for _ in range(3 * BURST + 1):
            await mailbox.get()
            taken += 1

    assert BURST == 64
    assert len(taken_when_sibling_ran) >= 2
    assert {count % BURST for count in taken_when_sibling_ran} == {0}


async def test_get_does_not_yield_within_a_burst() -> None:
    mailbox: Mailbox[int] = Mailbox()
    ran: list[str] = []

    async def sibling() -> None:
        ran.append("sibling")

    for number in range(BURST):
        mailbox.put_nowait(number)
    async with anyio.create_task_group() as group:
        group.start_soon(sibling)
        for _ in range(BURST):
            await mailbox.get()
        ran.append("consumer")

    assert ran == ["consumer", "sibling"]


# Waiting for room


async def test_put_does_not_wait_when_there_is_room() -> None:
    mailbox: Mailbox[str] = Mailbox(1)
    with CancelScope() as scope:
        scope.cancel()
        await mailbox.put("a")

    assert not scope.cancelled_caught
    assert mailbox.drain() == ["a"]


async def test_producers_get_room_in_the_order_they_came() -> None:
    mailbox = full()
    got: list[str] = []
    async with anyio.create_task_group() as group:
        for name in "cdef":
            group.start_soon(mailbox.put, name)
            await anyio.sleep(1)
        for _ in range(6):
            got.append(await mailbox.get())
            await anyio.sleep(1)

    assert got == list("abcdef")


async def test_a_latecomer_does_not_overtake_a_producer_that_was_given_room() -> None:
    mailbox = full()
    async with anyio.create_task_group() as group:
        group.start_soon(mailbox.put, "c")
        await anyio.sleep(1)
        mailbox.take_nowait()
        with pytest.raises(MailboxFull):
            mailbox.put_nowait("latecomer")

    assert mailbox.drain() == ["b", "c"]


async def test_a_cancelled_put_has_put_nothing() -> None:
    mailbox = full()
    with anyio.move_on_after(1):
        await mailbox.put("c")

    assert mailbox.drain() == ["a", "b"]
    assert mailbox.statistics().waiting_producers == 0


async def test_a_put_that_was_given_room_before_it_was_cancelled_has_put() -> None:
    mailbox = full()
    scope = CancelScope()

    async def put() -> None:
        with scope:
            await mailbox.put("c")

    async with anyio.create_task_group() as group:
        group.start_soon(put)
        await anyio.sleep(1)
        mailbox.take_nowait()
        scope.cancel()

    assert not scope.cancelled_caught
    assert mailbox.drain() == ["b", "c"]


@on_asyncio_loops
def test_a_put_cancelled_natively_in_the_moment_it_is_given_room_passes_it_on(backend: Backend) -> None:
    async def main() -> list[str]:
        mailbox = full()
        first = asyncio.ensure_future(mailbox.put("first"))
        second = asyncio.ensure_future(mailbox.put("second"))
        await checkpoint()
        mailbox.take_nowait()  # gives its room to the first
        first.cancel()
        await asyncio.wait([first, second])
        assert first.cancelled()
        return mailbox.drain()

    assert run(main, backend=backend, virtual_time=True) == ["b", "second"]


@on_asyncio_loops
def test_room_passed_on_is_no_more_than_there_is(backend: Backend) -> None:
    async def main() -> tuple[list[str], list[str]]:
        mailbox = full()
        first = asyncio.ensure_future(mailbox.put("first"))
        second = asyncio.ensure_future(mailbox.put("second"))
        await checkpoint()
        mailbox.take_nowait()  # gives its room to the first ...
        mailbox.admit("credited")  # ... but a channel's item does not ask for room
        first.cancel()
        await anyio.sleep(1)
        over = mailbox.drain()
        await second
        return over, mailbox.drain()

    assert run(main, backend=backend, virtual_time=True) == (["b", "credited"], ["second"])


@on_asyncio_loops
def test_a_put_cancelled_natively_after_the_mailbox_was_closed_harms_nothing(backend: Backend) -> None:
    async def main() -> list[str]:
        mailbox = full()
        put = asyncio.ensure_future(mailbox.put("c"))
        await checkpoint()
        mailbox.close()
        put.cancel()
        await asyncio.wait([put])
        assert put.cancelled()
        return mailbox.drain()

    assert run(main, backend=backend, virtual_time=True) == ["a", "b"]


async def test_draining_lets_waiting_producers_in_as_far_as_there_is_room() -> None:
    mailbox = full()
    async with anyio.create_task_group() as group:
        for name in "cde":
            group.start_soon(mailbox.put, name)
            await anyio.sleep(1)
        first = mailbox.drain()
        await anyio.sleep(1)
        second = mailbox.statistics()
        mailbox.drain()

    assert first == ["a", "b"]
    assert (second.data, second.waiting_producers) == (2, 1)


# Overflow


@pytest.mark.parametrize("overflow", ["block", "fail"])
def test_put_nowait_into_a_full_mailbox_raises_under(overflow: Overflow) -> None:
    mailbox = full(overflow)

    with pytest.raises(MailboxFull, match="the mailbox is full: it holds 2 items of 2"):
        mailbox.put_nowait("c")

    assert mailbox.drain() == ["a", "b"]


async def test_put_into_a_full_mailbox_raises_under_fail() -> None:
    mailbox = full("fail")

    with pytest.raises(MailboxFull):
        await mailbox.put("c")


@pytest.mark.parametrize(
    ("overflow", "left", "gone"), [("drop_newest", ["a", "b"], ["c"]), ("drop_oldest", ["b", "c"], ["a"])]
)
async def test_what_a_policy_drops_is_given_to_on_drop_and_counted(
    overflow: Overflow, left: list[str], gone: list[str]
) -> None:
    dropped: list[str] = []
    mailbox = full(overflow, on_drop=dropped.append)

    await mailbox.put("c")

    assert dropped == gone
    assert mailbox.statistics().dropped == 1
    assert mailbox.drain() == left


def test_what_a_policy_drops_needs_nobody_to_hear_of_it() -> None:
    mailbox = full("drop_oldest")
    mailbox.put_nowait("c")

    assert mailbox.drain() == ["b", "c"]


def test_control_is_never_dropped() -> None:
    mailbox = full("drop_oldest")
    mailbox.put_control("x")
    mailbox.put_nowait("c")

    assert mailbox.drain() == ["x", "b", "c"]


# Closing


def test_a_closed_mailbox_refuses_every_way_in() -> None:
    mailbox: Mailbox[str] = Mailbox()
    mailbox.close()

    assert mailbox.closed
    for put in (mailbox.put_nowait, mailbox.put_control, mailbox.admit):
        with pytest.raises(MailboxClosed, match="the mailbox is closed"):
            put("a")
    assert len(mailbox) == 0


async def test_put_into_a_closed_mailbox_raises_rather_than_waits() -> None:
    mailbox = full()
    mailbox.close()

    with pytest.raises(MailboxClosed):
        await mailbox.put("c")


async def test_the_consumer_of_a_closed_mailbox_gets_the_rest_and_then_the_end() -> None:
    mailbox = full()
    mailbox.put_control("x")
    mailbox.close()

    assert [await mailbox.get() for _ in range(3)] == ["x", "a", "b"]
    with pytest.raises(EndOfMailbox, match="closed and empty"):
        await mailbox.get()


async def test_closing_wakes_the_consumer_that_waits() -> None:
    mailbox: Mailbox[str] = Mailbox()

    async def close() -> None:
        await checkpoint()
        mailbox.close()

    async with anyio.create_task_group() as group:
        group.start_soon(close)
        with pytest.raises(EndOfMailbox):
            await mailbox.get()


async def test_closing_refuses_the_producers_that_wait() -> None:
    mailbox = full()
    refused: list[str] = []

    async def put(item: str) -> None:
        try:
            await mailbox.put(item)
        except MailboxClosed:
            refused.append(item)

    async with anyio.create_task_group() as group:
        for name in "cd":
            group.start_soon(put, name)
        await anyio.sleep(1)
        mailbox.take_nowait()  # one of them has room, but has not run yet
        mailbox.close()

    assert sorted(refused) == ["c", "d"]
    assert mailbox.drain() == ["b"]


# Building one


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_capacity_below_one_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match=f"a capacity is at least 1, got {capacity}"):
        Mailbox(capacity)


@pytest.mark.parametrize("capacity", [1.0, "64", None, True])
def test_a_capacity_that_is_no_integer_is_refused(capacity: Any) -> None:
    with pytest.raises(TypeError, match="a capacity is an integer, got "):
        Mailbox(capacity)


def test_an_unknown_overflow_policy_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(
        ValueError, match="unknown overflow policy 'drop': it is one of block, fail, drop_newest, drop_oldest"
    ):
        Mailbox(1, "drop")  # type: ignore[arg-type]


def test_a_mailbox_may_be_built_and_filled_before_any_loop_runs() -> None:
    mailbox = full()

    async def main() -> str:
        return await mailbox.get()

    for backend in BACKENDS[:2]:
        assert run(main, backend=backend) in ("a", "b")


async def test_statistics_tell_what_it_holds_and_has_seen() -> None:
    mailbox = full()
    mailbox.put_control("x")
    async with anyio.create_task_group() as group:
        group.start_soon(mailbox.put, "c")
        await anyio.sleep(1)
        statistics = mailbox.statistics()
        mailbox.drain()

    assert statistics == MailboxStatistics(control=1, data=2, capacity=2, waiting_producers=1, dropped=0, closed=False)
    assert len(mailbox) == 1


# Against a model


@attrs.define
class Model:
    """A mailbox as plain as can be: what each step may do, without tasks."""

    capacity: int
    overflow: Overflow
    control: deque[int] = attrs.field(factory=deque)
    data: deque[int] = attrs.field(factory=deque)
    waiting: deque[int] = attrs.field(factory=deque)
    dropped: list[int] = attrs.field(factory=list)
    refused: list[int] = attrs.field(factory=list)
    cancelled: list[int] = attrs.field(factory=list)
    taken: list[int] = attrs.field(factory=list)
    closed: bool = False

    def put(self, item: int) -> None:
        if self.closed:
            self.refused.append(item)
        elif len(self.data) < self.capacity and not self.waiting:
            self.data.append(item)
        elif self.overflow == "block":
            self.waiting.append(item)
        elif self.overflow == "fail":
            self.refused.append(item)
        elif self.overflow == "drop_newest":
            self.dropped.append(item)
        else:
            self.dropped.append(self.data.popleft())
            self.data.append(item)

    def put_control(self, item: int) -> None:
        (self.refused if self.closed else self.control).append(item)

    def cancel_put(self, item: int) -> None:
        if item in self.waiting:
            self.waiting.remove(item)
            self.cancelled.append(item)

    def take(self) -> None:
        if self.control or self.data:
            self.taken.append((self.control or self.data).popleft())
        self.let_in()

    def close(self) -> None:
        self.closed = True
        self.refused.extend(self.waiting)
        self.waiting.clear()

    def drain(self) -> None:
        self.taken.extend([*self.control, *self.data])
        self.control.clear()
        self.data.clear()
        self.let_in()

    def let_in(self) -> None:
        while self.waiting and len(self.data) < self.capacity:
            self.data.append(self.waiting.popleft())


moves = st.lists(
    st.sampled_from(["put"] * 4 + ["put_control", "cancel_put", "get", "get", "get", "drain", "close"]),
    max_size=40,
)


async def _play(program: list[str], capacity: int, overflow: Overflow) -> tuple[Model, Model]:
    """Do the same to a mailbox and to its model, everything settled between two moves."""
    model, real = Model(capacity, overflow), Model(capacity, overflow)
    mailbox: Mailbox[int] = Mailbox(capacity, overflow, on_drop=real.dropped.append)
    scopes: dict[int, CancelScope] = {}

    async def put(item: int) -> None:
        with scopes.setdefault(item, CancelScope()) as scope:
            try:
                await mailbox.put(item)
            except (MailboxClosed, MailboxFull):
                real.refused.append(item)
        if scope.cancelled_caught:
            real.cancelled.append(item)

    async def get() -> None:
        with anyio.move_on_after(0.5):
            try:
                real.taken.append(await mailbox.get())
            except EndOfMailbox:
                assert mailbox.closed

    async with anyio.create_task_group() as group:
        for number, move in enumerate(program):
            if move == "put":
                group.start_soon(put, number)
                model.put(number)
            elif move == "put_control":
                try:
                    mailbox.put_control(number)
                except MailboxClosed:
                    real.refused.append(number)
                model.put_control(number)
            elif move == "cancel_put" and model.waiting:
                victim = model.waiting[number % len(model.waiting)]
                scopes[victim].cancel()
                model.cancel_put(victim)
            elif move == "get":
                await get()
                model.take()
            elif move == "drain" and len(model.waiting) < 2:  # several let in at once come in any order
                real.taken.extend(mailbox.drain())
                model.drain()
            elif move == "close":
                mailbox.close()
                model.close()
            await anyio.sleep(1)
        statistics = mailbox.statistics()
        real.waiting.extend([0] * statistics.waiting_producers)
        real.closed = mailbox.closed
        left = mailbox.drain()
        real.control.extend(left[: statistics.control])
        real.data.extend(left[statistics.control :])
        group.cancel_scope.cancel()
    return model, real


@settings(deadline=None, max_examples=60)
@given(
    program=moves,
    capacity=st.integers(1, 3),
    overflow=st.sampled_from(["block", "fail", "drop_newest", "drop_oldest"]),
    backend=st.sampled_from(BACKENDS),
)
def test_a_mailbox_agrees_with_a_plain_model(
    program: list[str], capacity: int, overflow: Overflow, backend: Backend
) -> None:
    model, real = run(_play, program, capacity, overflow, backend=backend, virtual_time=True)

    assert [len(model.waiting), model.closed] == [len(real.waiting), real.closed]
    assert sorted(real.refused) == sorted(model.refused)  # several refused at once hear of it in any order
    for part in ("control", "data", "dropped", "cancelled", "taken"):
        assert list(getattr(real, part)) == list(getattr(model, part)), part


async def _put_after_a_turn(mailbox: Mailbox[str], item: str) -> None:
    await checkpoint()
    mailbox.put_nowait(item)
