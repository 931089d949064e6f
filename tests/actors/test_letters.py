"""Dead letters: which there are, and how many lines of the log they take."""

import logging
from collections.abc import Callable
from typing import Any

import anyio
import attrs
import pytest

from actors import Actor, AskTimeout, ChildSpec, DeadLetter, DeadLetters, NullObserver, Tree, supervise
from actors.letters import LOGGED_PER_STRETCH, STRETCH_SECONDS, DeadReason


@attrs.define
class FakeClock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def seen() -> list[DeadLetter]:
    return []


@pytest.fixture
def letters(seen: list[DeadLetter], clock: FakeClock) -> DeadLetters:
    return DeadLetters(seen.append, clock=clock)


def letter(message: object = "x", target: str = "root/a", reason: DeadReason = "stopped") -> DeadLetter:
    return DeadLetter(message, target, None, reason)


# What is logged


def test_a_letter_is_logged_with_all_that_is_known_of_it(
    letters: DeadLetters, caplog: pytest.LogCaptureFixture
) -> None:
    letters.record(DeadLetter("hello", "root/a", "root/b", "overflow"))

    assert caplog.record_tuples == [
        ("actors", logging.WARNING, "dead letter for root/a from root/b (overflow): 'hello'")
    ]


def test_a_long_message_is_cut_in_the_log(letters: DeadLetters, caplog: pytest.LogCaptureFixture) -> None:
    letters.record(letter("x" * 10_000))

    assert len(caplog.messages[0]) < 300


def test_the_first_10_of_a_target_are_logged_and_the_rest_are_one_line(
    letters: DeadLetters, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(25):
        letters.record(letter(number))
    within = list(caplog.messages)
    clock.now += STRETCH_SECONDS
    letters.record(letter("later"))

    assert (LOGGED_PER_STRETCH, STRETCH_SECONDS) == (10, 10.0)
    assert [line[-2:].strip() for line in within] == [str(number) for number in range(10)]
    assert caplog.messages[10:] == [
        "15 more dead letters for root/a within 10 s",
        "dead letter for root/a from None (stopped): 'later'",
    ]


def test_each_target_has_10_lines_of_its_own(letters: DeadLetters, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(11):
        letters.record(letter(number, "root/a"))
    letters.record(letter("y", "root/b"))

    assert caplog.messages[10:] == ["dead letter for root/b from None (stopped): 'y'"]


def test_the_line_for_the_rest_comes_with_the_next_letter_of_any_target(
    letters: DeadLetters, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(11):
        letters.record(letter(number, "root/a"))
    clock.now += 2 * STRETCH_SECONDS
    letters.record(letter("y", "root/b"))

    assert "1 more dead letters for root/a within 10 s" in caplog.messages


def test_a_target_that_is_forgotten_begins_anew(
    letters: DeadLetters, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        for number in range(10):
            letters.record(letter(number))
        clock.now += STRETCH_SECONDS

    assert len(caplog.messages) == 20


def test_a_stretch_ends_on_time_also_between_two_looks_at_old_ones(
    letters: DeadLetters, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    clock.now += 1
    for number in range(11):
        letters.record(letter(number, "root/a"))
    clock.now += STRETCH_SECONDS - 1  # the stretch is not over at this look
    letters.record(letter("y", "root/b"))
    clock.now += 1
    letters.record(letter("z", "root/a"))

    assert caplog.messages[11:] == [
        "1 more dead letters for root/a within 10 s",
        "dead letter for root/a from None (stopped): 'z'",
    ]


def test_a_stretch_that_is_not_over_outlives_the_look_at_old_ones(
    letters: DeadLetters, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    clock.now += STRETCH_SECONDS - 1
    for number in range(11):
        letters.record(letter(number, "root/a"))
    clock.now += 2
    letters.record(letter("y", "root/b"))
    letters.record(letter("x", "root/a"))

    assert [line for line in caplog.messages if "root/b" not in line] == caplog.messages[:10]


def test_what_is_held_back_is_logged_when_the_tree_ends(letters: DeadLetters, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(12):
        letters.record(letter(number))
    letters.flush()
    letters.flush()

    assert caplog.messages[10:] == ["2 more dead letters for root/a within 10 s"]


def test_what_one_target_left_behind_is_one_line(letters: DeadLetters, caplog: pytest.LogCaptureFixture) -> None:
    letters.record_all([letter(number, reason="cancelled") for number in range(100)])

    assert caplog.messages == ["100 dead letters for root/a (cancelled), the first 0"]


def test_nothing_left_behind_is_nothing_logged(letters: DeadLetters, caplog: pytest.LogCaptureFixture) -> None:
    letters.record_all([])

    assert caplog.messages == []


# What is counted and shown


def test_every_letter_is_counted_by_reason_and_shown_also_when_it_is_not_logged(
    letters: DeadLetters, seen: list[DeadLetter]
) -> None:
    for number in range(25):
        letters.record(letter(number))
    letters.record_all([letter(reason="cancelled")] * 3)

    assert letters.counts == {"stopped": 25, "cancelled": 3}
    assert len(seen) == 28


# Each reason for real


class Sink(Actor[Any]):
    async def receive(self, message: Any) -> Any:
        if message == "crash":
            raise RuntimeError(message)
        if isinstance(message, int | float):
            await anyio.sleep(message)
        return message


class Seen(NullObserver):
    def __init__(self) -> None:
        self.letters: list[DeadLetter] = []

    def dead_letter(self, letter: DeadLetter) -> None:
        self.letters.append(letter)


async def produce(spec: Callable[..., ChildSpec], act: Callable[[Any, Any], Any]) -> tuple[list[DeadLetter], Tree]:
    observer = Seen()
    tree = Tree(observer)
    async with supervise([spec("a", Sink)], tree=tree) as root:
        await act(root, root.child("a"))
        await anyio.sleep(100)
    return observer.letters, tree


async def test_stopped_is_what_a_dead_actor_was_sent_and_what_it_left() -> None:
    async def act(_root: Any, ref: Any) -> None:
        ref.tell_nowait("left")
        ref.stop()
        await ref.wait_stopped()
        ref.tell_nowait("sent")

    letters, tree = await produce(lambda *of: ChildSpec(*of, restart="temporary"), act)

    assert letters == [DeadLetter(what, "root/a", None, "stopped") for what in ("left", "sent")]
    assert tree.letters.counts == {"stopped": 2}


async def test_overflow_is_what_a_full_mailbox_dropped() -> None:
    async def act(_root: Any, ref: Any) -> None:
        for message in ("kept", "dropped"):
            ref.tell_nowait(message)

    letters, _ = await produce(lambda *of: ChildSpec(*of, capacity=1, overflow="drop_newest"), act)

    assert letters == [DeadLetter("dropped", "root/a", None, "overflow")]


async def test_late_reply_is_an_answer_that_nobody_waits_for() -> None:
    async def act(_root: Any, ref: Any) -> None:
        with pytest.raises(AskTimeout):
            await ref.ask(2.0, timeout=1)

    letters, _ = await produce(ChildSpec, act)

    assert letters == [DeadLetter(2.0, "a caller outside the tree", "root/a", "late_reply")]


async def test_poison_is_what_crashed_its_actor_as_often_as_it_may() -> None:
    async def act(_root: Any, ref: Any) -> None:
        ref.tell_nowait("crash")

    letters, _ = await produce(lambda *of: ChildSpec(*of, redeliver=1), act)

    assert letters == [DeadLetter("crash", "root/a", None, "poison")]


async def test_a_message_that_crashes_its_actor_is_consumed_where_nothing_is_redelivered() -> None:
    async def act(_root: Any, ref: Any) -> None:
        ref.tell_nowait("crash")

    letters, _ = await produce(ChildSpec, act)

    assert letters == []


async def test_cancelled_is_what_a_killed_actor_had_in_hand_and_left_with_one_line_for_what_it_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def act(root: Any, ref: Any) -> None:
        for message in (1000, "left", "left too"):
            ref.tell_nowait(message)
        await anyio.sleep(1)
        await root.terminate_child("a")

    letters, tree = await produce(lambda *of: ChildSpec(*of, shutdown=2), act)

    assert [letter.message for letter in letters] == [1000, "left", "left too"]
    assert tree.letters.counts == {"cancelled": 3}
    assert caplog.messages == [
        "dead letter for root/a from None (cancelled): 1000",
        "2 dead letters for root/a (cancelled), the first 'left'",
    ]
