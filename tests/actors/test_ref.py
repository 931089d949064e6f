"""What can be done with a ref: tell, ask, watch, drain, stop, wait; and what it says when it cannot."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import attrs
import pytest
from anyio import CancelScope
from anyio.lowlevel import checkpoint

from actors import (
    Actor,
    ActorCrashed,
    ActorRef,
    ActorStopped,
    AskCycle,
    AskTimeout,
    Backoff,
    ChildSpec,
    DeadLetter,
    MailboxFull,
    NullObserver,
    Reply,
    Request,
    State,
    StopReason,
    Terminated,
    WrongMessage,
    supervise,
)
from actors.capacity import Overflow
from actors.testing import Backend, Probe, run

Behaviour = Callable[[Actor[Any], Any], Awaitable[object]]


class Scripted(Actor[Any]):
    """Handles each message by a function that the test gives."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour

    async def receive(self, message: Any) -> object:
        return await self.behaviour(self, message)


async def echo(_actor: Actor[Any], message: Any) -> object:
    return message


async def crash(_actor: Actor[Any], message: Any) -> object:
    raise RuntimeError(message)


async def hang(_actor: Actor[Any], _message: Any) -> None:
    await anyio.sleep_forever()


class Letters(NullObserver):
    """Keeps the dead letters of a tree."""

    def __init__(self) -> None:
        self.letters: list[DeadLetter] = []

    def dead_letter(self, letter: DeadLetter) -> None:
        self.letters.append(letter)


@pytest.fixture
def observer() -> Letters:
    return Letters()


def child(name: str, behaviour: Behaviour, **options: Any) -> ChildSpec:
    return ChildSpec(name, Scripted, [behaviour], **{"restart": "temporary", "shutdown": 0, **options})


# tell


async def test_what_is_told_is_handled_in_order() -> None:
    probe: Probe[Any] = Probe()

    async def record(_actor: Actor[Any], message: Any) -> None:
        probe.record(message)

    async with supervise([child("a", record)]) as root:
        for number in range(3):
            await root.child("a").tell(number)
        await probe.wait_for(3)

    assert probe.items == [0, 1, 2]


async def test_an_urgent_message_overtakes_the_others() -> None:
    probe: Probe[Any] = Probe()

    async def record(_actor: Actor[Any], message: Any) -> None:
        probe.record(message)

    async with supervise([child("a", record, capacity=1)]) as root:
        root.child("a").tell_nowait("ordinary")
        root.child("a").tell_urgent("urgent")
        await probe.wait_for(2)

    assert probe.items == ["urgent", "ordinary"]


@pytest.mark.parametrize("way", ["tell", "tell_nowait", "tell_urgent"])
async def test_a_message_to_a_dead_actor_is_a_dead_letter_and_raises_nothing(way: str, observer: Letters) -> None:
    async with supervise([child("a", echo)], observer=observer) as root:
        ref = root.child("a")
        ref.stop()
        await ref.wait_stopped()
        sent = getattr(ref, way)("x")
        if way == "tell":
            await sent

    assert observer.letters == [DeadLetter("x", "root/a", None, "stopped")]


async def test_a_dead_letter_of_an_actor_names_it_as_the_sender(observer: Letters) -> None:
    async def pass_on(actor: Actor[Any], target: ActorRef[Any]) -> None:
        target.tell_nowait("x")

    async with supervise([child("dead", echo), child("a", pass_on)], observer=observer) as root:
        dead = root.child("dead")
        dead.stop()
        await dead.wait_stopped()
        await root.child("a").ask(dead)

    assert observer.letters == [DeadLetter("x", "root/dead", "root/a", "stopped")]


async def test_tell_waits_for_room_and_goes_on_when_there_is() -> None:
    probe: Probe[Any] = Probe()

    async def slow(_actor: Actor[Any], message: Any) -> None:
        await anyio.sleep(1)
        probe.record(message)

    async with supervise([child("a", slow, capacity=1)]) as root:
        began = anyio.current_time()
        for number in range(4):
            await root.child("a").tell(number)
        waited = anyio.current_time() - began
        await probe.wait_for(4)

    assert waited == 2  # one in hand and one queued need no wait
    assert probe.items == [0, 1, 2, 3]


async def test_a_tell_that_waits_for_room_of_an_actor_that_ends_is_a_dead_letter(observer: Letters) -> None:
    async with supervise([child("a", hang, capacity=1)], observer=observer) as root:
        ref = root.child("a")
        await ref.tell("in hand")
        await anyio.sleep(1)
        await ref.tell("queued")
        async with anyio.create_task_group() as group:
            group.start_soon(ref.tell, "waits for room")
            await anyio.sleep(1)
            waiting = ref.statistics().waiting_senders
            await root.terminate_child("a")

    assert waiting == 1
    assert {(letter.message, letter.reason) for letter in observer.letters} == {
        ("in hand", "cancelled"),
        ("queued", "cancelled"),
        ("waits for room", "stopped"),
    }


async def test_a_tell_cancelled_while_it_waits_has_sent_nothing() -> None:
    probe: Probe[Any] = Probe()

    async def slow(_actor: Actor[Any], message: Any) -> None:
        await anyio.sleep(10)
        probe.record(message)

    async with supervise([child("a", slow, capacity=1)]) as root:
        ref = root.child("a")
        await ref.tell(1)
        await checkpoint()
        await anyio.sleep(1)
        await ref.tell(2)
        with anyio.move_on_after(1) as scope:
            await ref.tell(3)
        await anyio.sleep(100)

    assert scope.cancelled_caught
    assert probe.items == [1, 2]


@pytest.mark.parametrize("overflow", ["block", "fail"])
async def test_tell_nowait_to_a_full_mailbox_raises_and_names_it(overflow: Overflow) -> None:
    async with supervise([child("a", hang, capacity=1, overflow=overflow)]) as root:
        ref = root.child("a")
        ref.tell_nowait(1)
        with pytest.raises(MailboxFull, match=r"the mailbox of 'root/a' is full: it holds 1 messages; see ChildSpec"):
            ref.tell_nowait(2)


async def test_tell_to_a_full_mailbox_raises_under_fail() -> None:
    async with supervise([child("a", hang, capacity=1, overflow="fail")]) as root:
        await root.child("a").tell(1)
        with pytest.raises(MailboxFull, match="the mailbox of 'root/a' is full"):
            await root.child("a").tell(2)


@pytest.mark.parametrize(("overflow", "left", "gone"), [("drop_newest", 1, 2), ("drop_oldest", 2, 1)])
@pytest.mark.parametrize("way", ["tell", "tell_nowait"])
async def test_what_a_full_mailbox_drops_is_a_dead_letter(
    overflow: Overflow, left: int, gone: int, way: str, observer: Letters
) -> None:
    probe: Probe[Any] = Probe()

    async def record(_actor: Actor[Any], message: Any) -> None:
        probe.record(message)

    async with supervise([child("a", record, capacity=1, overflow=overflow)], observer=observer) as root:
        ref = root.child("a")
        for number in (1, 2):
            sent = getattr(ref, way)(number)
            if way == "tell":
                await sent
        await probe.wait_for(1)
        dropped = ref.statistics().dropped

    assert probe.items == [left]
    assert observer.letters == [DeadLetter(gone, "root/a", None, "overflow")]
    assert dropped == 1


async def test_an_actor_that_tells_itself_with_a_full_mailbox_does_not_hang() -> None:
    async def tell_itself(actor: Actor[Any], _message: Any) -> str:
        await actor.context.ref.tell("queued")
        with pytest.raises(MailboxFull, match="the mailbox of 'root/a' is full: it holds 1 messages"):
            await actor.context.ref.tell("one too many")
        return "went on"

    async with supervise([child("a", tell_itself, capacity=1)]) as root:
        assert await root.child("a").ask("x") == "went on"


async def test_a_task_beside_an_actor_may_wait_for_room_in_its_mailbox() -> None:
    probe: Probe[Any] = Probe()

    class Feeding(Actor[int]):
        async def receive(self, message: int) -> None:
            probe.record(message)
            if message == 0:
                async with anyio.create_task_group() as group:
                    group.start_soon(self.feed)
                    await anyio.sleep(1)  # by now it waits
                    group.start_soon(anyio.sleep, 0)
                    group.cancel_scope.cancel()

        async def feed(self) -> None:
            for number in range(1, 5):
                await self.context.ref.tell(number)
                probe.record(-number)

    async with supervise([ChildSpec("a", Feeding, capacity=2)]) as root:
        await root.child("a").tell(0)
        await probe.wait_for(5)
        assert root.child("a").incarnation == 1

    assert probe.items == [0, -1, -2, 1, 2]


async def test_a_message_of_a_wrong_type_is_refused_at_the_sender() -> None:
    class Counting(Actor[int]):
        accepts = int | bytes

        async def receive(self, message: int) -> int:
            return message

    async with supervise([ChildSpec("a", Counting)]) as root:
        ref = root.child("a")
        for refused in (ref.tell_nowait, ref.tell_urgent):
            with pytest.raises(WrongMessage, match=r"actor 'root/a' takes int \| bytes, got str: 'x'"):
                refused("x")
        for refused_later in (ref.tell, ref.ask):
            with pytest.raises(WrongMessage):
                await refused_later("x")
        assert await ref.ask(1) == 1
        assert ref.incarnation == 1


async def test_a_class_behind_a_partial_still_says_what_it_accepts() -> None:
    from functools import partial

    class Counting(Actor[int]):
        accepts = int

    async with supervise([ChildSpec("a", partial(partial(Counting)))]) as root:
        with pytest.raises(WrongMessage):
            root.child("a").tell_nowait("x")


# ask


@attrs.frozen
class Double(Request[int]):
    number: int


async def test_ask_returns_what_the_handler_returns() -> None:
    async def double(_actor: Actor[Any], message: Double) -> int:
        return 2 * message.number

    async with supervise([child("a", double)]) as root:
        answer: int = await root.child("a").ask(Double(21))

    assert answer == 42


async def test_an_ask_of_a_dead_actor_raises_at_once() -> None:
    async with supervise([child("a", echo)]) as root:
        ref = root.child("a")
        ref.stop()
        await ref.wait_stopped()
        began = anyio.current_time()
        with pytest.raises(ActorStopped, match=r"actor 'root/a' is stopped \(normal\)"):
            await ref.ask("x")
        assert anyio.current_time() == began


async def test_an_ask_of_a_silent_actor_times_out() -> None:
    async with supervise([child("a", hang)]) as root:
        with pytest.raises(AskTimeout, match=r"actor 'root/a' did not answer within 0.5 s"):
            await root.child("a").ask("x", timeout=0.5)


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
async def test_a_timeout_that_leaves_no_time_is_refused(timeout: float) -> None:
    async with supervise([child("a", echo)]) as root:
        with pytest.raises(
            ValueError, match=r"ask\(timeout=.*\): must be more than 0 seconds, or None to wait for ever"
        ):
            await root.child("a").ask("x", timeout=timeout)


async def test_the_timeout_of_an_ask_counts_its_wait_for_room() -> None:
    async with supervise([child("a", hang, capacity=1)]) as root:
        ref = root.child("a")
        await ref.tell("in hand")
        await anyio.sleep(1)
        await ref.tell("queued")
        began = anyio.current_time()
        with pytest.raises(AskTimeout):
            await ref.ask("x", timeout=2)

    assert anyio.current_time() - began == pytest.approx(2)


async def test_an_ask_without_a_timeout_waits_for_as_long_as_it_takes() -> None:
    async def slow(_actor: Actor[Any], message: Any) -> Any:
        await anyio.sleep(3600)
        return message

    async with supervise([child("a", slow)]) as root:
        assert await root.child("a").ask("x", timeout=None) == "x"


async def test_a_late_answer_is_a_dead_letter(observer: Letters) -> None:
    async def slow(_actor: Actor[Any], message: Any) -> Any:
        await anyio.sleep(10)
        return "late"

    async with supervise([child("a", slow)], observer=observer) as root:
        with pytest.raises(AskTimeout):
            await root.child("a").ask("x", timeout=1)
        await anyio.sleep(20)

    assert observer.letters == [DeadLetter("late", "a caller outside the tree", "root/a", "late_reply")]


async def test_an_ask_whose_caller_is_cancelled_is_still_handled(observer: Letters) -> None:
    async def slow(_actor: Actor[Any], message: Any) -> Any:
        await anyio.sleep(10)
        return message

    async with supervise([child("a", slow)], observer=observer) as root:
        ref = root.child("a")
        with anyio.move_on_after(1):
            await ref.ask("x")
        await anyio.sleep(20)
        assert ref.statistics().handled == 1

    assert [letter.reason for letter in observer.letters] == ["late_reply"]


async def test_an_ask_on_which_the_actor_crashes_raises_with_the_cause() -> None:
    async with supervise([child("a", crash)]) as root:
        with pytest.raises(
            ActorCrashed, match=r"actor 'root/a' crashed before it answered: RuntimeError\('x'\)"
        ) as got:
            await root.child("a").ask("x")

    assert isinstance(got.value.__cause__, RuntimeError)


async def test_an_ask_in_hand_fails_at_once_when_its_actor_is_cancelled() -> None:
    async def main(root: Any) -> None:
        with pytest.raises(ActorStopped, match=r"actor 'root/a' stopped \(killed\) before it answered"):
            await root.child("a").ask("x")

    async with supervise([child("a", hang)]) as root, anyio.create_task_group() as group:
        group.start_soon(main, root)
        await anyio.sleep(1)
        await root.terminate_child("a")


async def test_an_ask_in_the_queue_fails_when_its_actor_ends() -> None:
    async def stop_then_sleep(actor: Actor[Any], message: Any) -> None:
        actor.context.stop()
        await anyio.sleep(1)

    async with supervise([child("a", stop_then_sleep)]) as root:
        ref = root.child("a")
        await ref.tell("stop")
        with pytest.raises(ActorStopped, match=r"actor 'root/a' stopped \(normal\) before it answered"):
            await ref.ask("x")


async def test_asks_pending_at_shutdown_fail_and_the_tree_comes_down() -> None:
    failed: list[str] = []

    async def ask(ref: ActorRef[Any]) -> None:
        try:
            await ref.ask("x", timeout=None)
        except ActorStopped:
            failed.append(ref.name)

    async with anyio.create_task_group() as group, supervise([child("a", hang), child("b", hang)]) as root:
        for _ in range(3):
            group.start_soon(ask, root.child("a"))
            group.start_soon(ask, root.child("b"))
        await anyio.sleep(1)

    assert sorted(failed) == ["a", "a", "a", "b", "b", "b"]


async def test_an_ask_in_the_queue_survives_a_restart() -> None:
    async def crash_on_none(_actor: Actor[Any], message: Any) -> Any:
        if message is None:
            raise RuntimeError
        return message

    async with supervise([child("a", crash_on_none, restart="permanent")]) as root:
        root.child("a").tell_nowait(None)
        assert await root.child("a").ask("x") == "x"


async def test_asks_of_each_overflow_policy_never_wait_in_vain(observer: Letters) -> None:
    outcomes: dict[str, list[str]] = {}

    async def ask(ref: ActorRef[Any], message: str) -> None:
        try:
            await ref.ask(message, timeout=10)
        except Exception as error:
            outcomes.setdefault(ref.name, []).append(f"{message}: {type(error).__name__}")

    policies: list[Overflow] = ["block", "fail", "drop_newest", "drop_oldest"]
    specs = [child(policy, hang, capacity=1, overflow=policy) for policy in policies]
    async with supervise(specs, observer=observer) as root, anyio.create_task_group() as group:
        for policy in policies:
            root.child(policy).tell_nowait("in hand")
        await anyio.sleep(1)
        for message in ("first", "second"):
            for policy in policies:
                group.start_soon(ask, root.child(policy), message)
            await anyio.sleep(1)

    assert {policy: sorted(seen) for policy, seen in outcomes.items()} == {
        "block": ["first: AskTimeout", "second: AskTimeout"],
        "fail": ["first: AskTimeout", "second: MailboxFull"],
        "drop_newest": ["first: AskTimeout", "second: MailboxFull"],
        "drop_oldest": ["first: MailboxFull", "second: AskTimeout"],
    }


# Answers that come later


async def test_a_deferred_answer_is_sent_when_the_actor_likes() -> None:
    waiting: list[Reply[Any]] = []

    async def pair_up(actor: Actor[Any], message: Any) -> None:
        waiting.append(actor.context.defer_reply())
        if len(waiting) == 2:
            for reply in waiting:
                reply.send("both are here")

    answers: list[str] = []

    async def ask(ref: ActorRef[Any]) -> None:
        answers.append(await ref.ask("x"))

    async with supervise([child("a", pair_up)]) as root, anyio.create_task_group() as group:
        group.start_soon(ask, root.child("a"))
        group.start_soon(ask, root.child("a"))

    assert answers == ["both are here"] * 2


async def test_a_second_answer_is_a_dead_letter(observer: Letters) -> None:
    async def answer_twice(actor: Actor[Any], message: Any) -> None:
        reply = actor.context.defer_reply()
        reply.send(1)
        reply.send(2)

    async def ask(_actor: Actor[Any], ref: ActorRef[Any]) -> Any:
        return await ref.ask("x")

    specs = [child("a", answer_twice), child("b", ask)]
    async with supervise(specs, observer=observer) as root:
        assert await root.child("b").ask(root.child("a")) == 1

    assert observer.letters == [DeadLetter(2, "root/b", "root/a", "late_reply")]


async def test_what_receive_returns_is_no_answer_once_the_reply_is_deferred(observer: Letters) -> None:
    async def answer_early(actor: Actor[Any], message: Any) -> str:
        actor.context.defer_reply().send("early")
        actor.context.defer_reply()
        return "not this"

    async with supervise([child("a", answer_early)], observer=observer) as root:
        assert await root.child("a").ask("x") == "early"

    assert observer.letters == []


@pytest.mark.parametrize("end", ["crash", "stop"])
async def test_a_deferred_ask_fails_when_the_incarnation_ends(end: str) -> None:
    async def defer(actor: Actor[Any], message: Any) -> None:
        if message == "crash":
            raise RuntimeError(message)
        if message == "stop":
            actor.context.stop()
        else:
            actor.context.defer_reply()

    async with supervise([child("a", defer, restart="permanent")]) as root:
        ref = root.child("a")

        async def ask() -> None:
            with pytest.raises(ActorCrashed if end == "crash" else ActorStopped):
                await ref.ask("x", timeout=None)

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await anyio.sleep(1)
            ref.tell_nowait(end)


async def test_a_deferred_ask_may_be_answered_in_on_stop() -> None:
    class Collecting(Actor[Any]):
        async def on_start(self) -> None:
            self.replies: list[Reply[Any]] = []

        async def receive(self, message: Any) -> None:
            self.replies.append(self.context.defer_reply())

        async def on_stop(self, reason: StopReason) -> None:
            for reply in self.replies:
                reply.send("flushed")

    answers: list[Any] = []

    async def ask(ref: ActorRef[Any]) -> None:
        answers.append(await ref.ask("x"))

    async with supervise([ChildSpec("a", Collecting)]) as root, anyio.create_task_group() as group:
        group.start_soon(ask, root.child("a"))
        await anyio.sleep(1)
        await root.terminate_child("a")

    assert answers == ["flushed"]


async def test_an_ask_given_up_before_it_was_deferred_is_not_kept() -> None:
    async def slow(actor: Actor[Any], message: Any) -> None:
        await anyio.sleep(2)
        actor.context.defer_reply().send("late")

    async with supervise([child("a", slow)]) as root:
        with pytest.raises(AskTimeout):
            await root.child("a").ask("x", timeout=1)
        await anyio.sleep(5)
        assert not root.child("a")._cell.deferred


# Tries


async def test_an_asked_message_is_tried_again_before_the_ask_fails() -> None:
    attempts: list[int] = []

    async def crash_once(actor: Actor[Any], message: Any) -> str:
        attempts.append(actor.context.attempt)
        if actor.context.attempt == 1:
            raise RuntimeError
        return "second try"

    async with supervise([child("a", crash_once, restart="permanent", redeliver=1)]) as root:
        assert await root.child("a").ask("x") == "second try"

    assert attempts == [1, 2]


async def test_a_reply_deferred_by_a_try_that_crashed_is_the_next_try_s_to_answer() -> None:
    async def crash_once(actor: Actor[Any], message: Any) -> str:
        if actor.context.attempt == 1:
            actor.context.defer_reply()
            raise RuntimeError
        return "second try"

    async with supervise([child("a", crash_once, restart="permanent", redeliver=1)]) as root:
        assert await root.child("a").ask("x") == "second try"


async def test_a_message_that_crashes_its_actor_too_often_is_poison(observer: Letters) -> None:
    attempts: list[int] = []

    async def always_crash(actor: Actor[Any], message: Any) -> None:
        attempts.append(actor.context.attempt)
        raise RuntimeError

    spec = child("a", always_crash, restart="permanent", redeliver=2)
    async with supervise([spec], observer=observer) as root:
        root.child("a").tell_nowait("x")
        await anyio.sleep(1)
        assert root.child("a").incarnation == 4

    assert attempts == [1, 2, 3]
    assert observer.letters == [DeadLetter("x", "root/a", None, "poison")]


async def test_an_asked_message_that_is_poison_fails_the_ask_with_its_cause() -> None:
    async with supervise([child("a", crash, restart="permanent", redeliver=2)]) as root:
        with pytest.raises(ActorCrashed):
            await root.child("a").ask("x")
        await anyio.sleep(1)
        assert root.child("a").incarnation == 4


async def test_a_crash_between_two_tries_does_not_start_their_count_anew(observer: Letters) -> None:
    attempts: list[tuple[Any, int]] = []

    async def always_crash(actor: Actor[Any], message: Any) -> None:
        attempts.append((message, actor.context.attempt))
        if attempts == [("x", 1)]:
            actor.context.ref.tell_urgent("urgent")
        raise RuntimeError

    spec = child("a", always_crash, restart="permanent", redeliver=1, max_restarts=10)
    async with supervise([spec], observer=observer) as root:
        root.child("a").tell_nowait("x")
        await anyio.sleep(1)

    assert sorted(attempts) == [("urgent", 1), ("urgent", 2), ("x", 1), ("x", 2)]
    assert {letter.message for letter in observer.letters} == {"urgent", "x"}


async def test_a_message_in_the_hand_of_an_actor_that_is_killed_for_a_restart_is_kept_where_it_may_be_tried_again(
    observer: Letters,
) -> None:
    seen: list[tuple[Any, int]] = []

    async def hang_once(actor: Actor[Any], message: Any) -> None:
        seen.append((message, actor.context.incarnation))
        if actor.context.incarnation == 1:
            await anyio.sleep_forever()

    specs = [child("a", hang_once, restart="permanent", redeliver=1), child("b", crash, restart="permanent")]
    async with supervise(specs, strategy="one_for_all", observer=observer) as root:
        root.child("a").tell_nowait("x")
        await anyio.sleep(1)
        root.child("b").tell_nowait("crash")
        await anyio.sleep(1)

    assert seen == [("x", 1), ("x", 2)]
    assert observer.letters == []


# Cycles


async def ask_others(actor: Actor[Any], others: list[ActorRef[Any]]) -> str:
    """Ask the first to ask the rest."""
    if not others:
        return "answer"
    answer: str = await others[0].ask(others[1:], timeout=60)
    return answer


async def test_actors_may_ask_each_other_in_a_row() -> None:
    async with supervise([child(name, ask_others) for name in "abc"]) as root:
        assert await root.child("a").ask([root.child("b"), root.child("c")]) == "answer"


async def test_an_actor_that_asks_itself_is_told_at_once() -> None:
    async with supervise([child("a", ask_others)]) as root:
        began = anyio.current_time()
        with pytest.raises(ActorCrashed) as crashed:
            await root.child("a").ask([root.child("a")])
        assert anyio.current_time() == began

    assert isinstance(crashed.value.__cause__, AskCycle)
    assert str(crashed.value.__cause__) == "'root/a' asks 'root/a': none could ever answer"


async def test_a_cycle_of_two_is_told_at_once() -> None:
    async with supervise([child(name, ask_others) for name in "ab"]) as root:
        began = anyio.current_time()
        with pytest.raises(ActorCrashed) as crashed:
            await root.child("a").ask([root.child("b"), root.child("a")])
        assert anyio.current_time() == began

    assert isinstance(crashed.value.__cause__, ActorCrashed)  # of b, whose ask it was
    assert isinstance(crashed.value.__cause__.__cause__, AskCycle)


async def test_a_cycle_through_three_actors_names_them_all() -> None:
    async with supervise([child(name, ask_others) for name in "abc"]) as root:
        with pytest.raises(ActorCrashed) as crashed:
            await root.child("a").ask([root.child("b"), root.child("c"), root.child("a")])

    error: BaseException | None = crashed.value
    while isinstance(error, ActorCrashed):
        error = error.__cause__
    assert str(error) == "'root/c' asks 'root/a' asks 'root/b' asks 'root/c': none could ever answer"


async def test_two_actors_that_ask_each_other_at_the_same_time_do_not_wait_for_the_timeout() -> None:
    async def ask_other(actor: Actor[Any], other: ActorRef[Any]) -> str:
        await anyio.sleep(1)
        try:
            await other.ask(None, timeout=60)
        except AskCycle:
            return "cycle"
        except ActorCrashed:
            return "crashed"
        return "answer"

    outcomes: list[str] = []
    async with supervise([child("a", ask_other), child("b", ask_other)]) as root:
        a, b = root.child("a"), root.child("b")

        async def ask(asked: ActorRef[Any], other: ActorRef[Any]) -> None:
            outcomes.append(await asked.ask(other, timeout=60))

        began = anyio.current_time()
        async with anyio.create_task_group() as group:
            group.start_soon(ask, a, b)
            group.start_soon(ask, b, a)
        assert anyio.current_time() - began < 3

    assert "cycle" in outcomes


async def test_an_ask_from_a_task_beside_the_handler_is_no_cycle() -> None:
    answers: list[Any] = []

    class Reentrant(Actor[Any]):
        async def receive(self, message: Any) -> Any:
            if message == "question":
                return "answer"
            self.context.ref.tell_nowait("run")
            message.start_soon(self.ask_itself)
            return None

        async def ask_itself(self) -> None:
            answers.append(await self.context.ref.ask("question"))

    async with anyio.create_task_group() as group, supervise([ChildSpec("a", _quiet(Reentrant))]) as root:
        await root.child("a").ask(group)
        await anyio.sleep(1)

    assert answers == ["answer"]


def _quiet(actor_class: type[Actor[Any]]) -> type[Actor[Any]]:
    class Quiet(actor_class):  # type: ignore[misc, valid-type]
        async def receive(self, message: Any) -> Any:
            return None if message == "run" else await super().receive(message)

    return Quiet


async def test_asking_an_actor_that_has_given_up_its_own_ask_is_no_cycle() -> None:
    outcomes: list[Any] = []

    async def give_up(actor: Actor[Any], message: Any) -> Any:
        if message == "question":
            return "answer"
        with suppress(AskTimeout):
            await message.ask(actor.context.ref, timeout=1)
        return None

    async def slow(actor: Actor[Any], asker: ActorRef[Any]) -> None:
        await anyio.sleep(2)
        outcomes.append(await asker.ask("question", timeout=60))

    async with supervise([child("a", give_up), child("b", slow)]) as root:
        await root.child("a").ask(root.child("b"))
        await anyio.sleep(5)

    assert outcomes == ["answer"]


async def test_asking_back_after_answering_is_no_cycle() -> None:
    outcomes: list[Any] = []

    async def ask_other(actor: Actor[Any], message: Any) -> Any:
        return "answer" if message == "question" else await message.ask(actor.context.ref, timeout=60)

    async def answer_then_ask(actor: Actor[Any], asker: ActorRef[Any]) -> None:
        actor.context.defer_reply().send("early")
        outcomes.append(await asker.ask("question", timeout=60))

    async with supervise([child("a", ask_other), child("b", answer_then_ask)]) as root:
        assert await root.child("a").ask(root.child("b")) == "early"
        await anyio.sleep(1)

    assert outcomes == ["answer"]


async def test_asking_an_actor_whose_answer_is_on_its_way_is_no_cycle() -> None:
    outcomes: list[Any] = []

    async def ask_other(_actor: Actor[Any], message: Any) -> Any:
        return "answer" if message == "question" else await message.ask("question", timeout=60)

    async def busy(_actor: Actor[Any], message: Any) -> Any:
        if message == "be busy":
            await anyio.sleep(1)
        elif message != "question":
            outcomes.append(await message.ask("question", timeout=60))
        return "answer"

    async with supervise([child("a", ask_other), child("b", busy)]) as root:
        a, b = root.child("a"), root.child("b")
        b.tell_nowait("be busy")
        a.tell_nowait(b)
        await anyio.sleep(0.5)
        b.tell_nowait(a)  # handled right behind the answer to a, before a has run again
        await anyio.sleep(1)

    assert outcomes == ["answer"]


async def test_asking_back_while_another_has_the_reply_is_no_cycle() -> None:
    outcomes: list[Any] = []

    async def ask_other(actor: Actor[Any], message: Any) -> Any:
        return "answer" if message == "question" else await message.ask(actor.context.ref, timeout=60)

    async def answer(_actor: Actor[Any], reply: Reply[Any]) -> None:
        reply.send("by another")

    async def hand_over(actor: Actor[Any], asker: ActorRef[Any]) -> None:
        other.tell_nowait(actor.context.defer_reply())
        outcomes.append(await asker.ask("question", timeout=60))

    specs = [child("a", ask_other), child("b", hand_over), child("c", answer)]
    async with supervise(specs) as root:
        other = root.child("c")
        assert await root.child("a").ask(root.child("b")) == "by another"
        await anyio.sleep(1)

    assert outcomes == ["answer"]


# watch


class Watching(Actor[Any]):
    def __init__(self, probe: Probe[Any]) -> None:
        self.probe = probe

    async def receive(self, message: tuple[str, Any]) -> None:
        match message:
            case ("watch", ref):
                self.context.watch(ref)
            case ("unwatch", ref):
                self.context.unwatch(ref)
            case ("crash", _):
                raise RuntimeError
            case ("stop and crash", ref):
                ref.stop()
                await ref.wait_stopped()
                raise RuntimeError
            case ("stop and unwatch", ref):
                ref.stop()
                await ref.wait_stopped()
                self.context.unwatch(ref)  # the news lies in the queue by now

    async def on_terminated(self, terminated: Terminated) -> None:
        self.probe.record((terminated.ref.name, terminated.reason.kind))


@pytest.mark.parametrize(
    ("behaviour", "kind"), [(crash, "crashed"), (echo, "normal"), (hang, "killed")], ids=["crash", "stop", "kill"]
)
async def test_a_watcher_hears_once_of_the_end_and_its_reason(behaviour: Behaviour, kind: str) -> None:
    probe: Probe[Any] = Probe()
    async with supervise([ChildSpec("w", Watching, [probe]), child("a", behaviour)]) as root:
        ref = root.child("a")
        await root.child("w").ask(("watch", ref))
        await root.child("w").ask(("watch", ref))
        await ref.tell("x")
        await anyio.sleep(1)
        if behaviour is not crash:
            ref.stop()
        if behaviour is hang:
            await root.terminate_child("a")
        await anyio.sleep(1)

    assert probe.items == [("a", kind)]


async def test_a_watcher_hears_of_one_that_is_dead_already() -> None:
    probe: Probe[Any] = Probe()
    async with supervise([ChildSpec("w", Watching, [probe]), child("a", echo)]) as root:
        ref = root.child("a")
        ref.stop()
        await ref.wait_stopped()
        await root.child("w").ask(("watch", ref))
        await anyio.sleep(1)

    assert probe.items == [("a", "normal")]


async def test_a_restart_is_no_end() -> None:
    probe: Probe[Any] = Probe()
    async with supervise(
        [ChildSpec("w", Watching, [probe]), child("a", crash, restart="permanent", shutdown=5)]
    ) as root:
        ref = root.child("a")
        await root.child("w").ask(("watch", ref))
        await ref.tell("x")
        await anyio.sleep(1)
        while_alive = list(probe.items)
        assert ref.incarnation == 2
        await root.terminate_child("a")
        await anyio.sleep(1)

    assert (while_alive, probe.items) == ([], [("a", "shutdown")])


async def test_nothing_comes_after_unwatch() -> None:
    probe: Probe[Any] = Probe()
    async with supervise([ChildSpec("w", Watching, [probe]), child("a", echo)]) as root:
        ref = root.child("a")
        await root.child("w").ask(("watch", ref))
        await root.child("w").ask(("unwatch", ref))
        ref.stop()
        await anyio.sleep(1)

    assert probe.items == []


async def test_nothing_comes_after_unwatch_even_when_the_news_lay_in_the_queue() -> None:
    probe: Probe[Any] = Probe()
    async with supervise([ChildSpec("w", Watching, [probe]), child("a", echo)]) as root:
        ref = root.child("a")
        await root.child("w").ask(("watch", ref))
        await root.child("w").ask(("stop and unwatch", ref))
        await anyio.sleep(1)

    assert probe.items == []


async def test_unwatching_one_that_is_not_watched_does_nothing() -> None:
    async with supervise([ChildSpec("w", Watching, [Probe()]), child("a", echo)]) as root:
        await root.child("w").ask(("unwatch", root.child("a")))
        assert root.child("w").incarnation == 1


async def test_a_restarted_watcher_has_forgotten_what_it_watched() -> None:
    probe: Probe[Any] = Probe()
    async with supervise([ChildSpec("w", Watching, [probe]), child("a", echo)]) as root:
        ref = root.child("a")
        await root.child("w").ask(("watch", ref))
        await root.child("w").tell(("crash", None))
        await anyio.sleep(1)
        ref.stop()
        await anyio.sleep(1)
        assert root.child("w").incarnation == 2

    assert probe.items == []


async def test_news_for_an_incarnation_that_crashed_does_not_reach_the_next() -> None:
    probe: Probe[Any] = Probe()
    async with supervise([ChildSpec("w", Watching, [probe]), child("a", echo)]) as root:
        await root.child("w").ask(("watch", root.child("a")))
        await root.child("w").tell(("stop and crash", root.child("a")))
        await anyio.sleep(1)
        assert root.child("w").incarnation == 2

    assert probe.items == []


async def test_a_restarted_watcher_is_forgotten_by_what_it_watched() -> None:
    async with supervise([ChildSpec("w", Watching, [Probe()]), child("a", echo)]) as root:
        await root.child("w").ask(("watch", root.child("a")))
        await root.child("w").tell(("crash", None))
        await anyio.sleep(1)

        assert not root.child("a")._cell.watchers


async def test_a_watcher_that_ended_first_is_not_told() -> None:
    probe: Probe[Any] = Probe()
    specs = [child("a", echo), ChildSpec("w", Watching, [probe], restart="transient")]
    async with supervise(specs) as root:
        ref = root.child("a")
        await root.child("w").ask(("watch", ref))
        root.child("w").stop()
        await root.child("w").wait_stopped()
        ref.stop()
        await ref.wait_stopped()

    assert probe.items == []


@pytest.mark.parametrize("target_is_dead", [False, True])
async def test_an_actor_that_has_ended_watches_in_vain(target_is_dead: bool) -> None:
    contexts: list[Any] = []

    async def keep(actor: Actor[Any], _message: Any) -> None:
        contexts.append(actor.context)

    async with supervise([child("a", echo), child("w", keep)]) as root:
        a, w = root.child("a"), root.child("w")
        await w.ask("x")
        w.stop()
        await w.wait_stopped()
        if target_is_dead:
            a.stop()
            await a.wait_stopped()
        contexts[0].watch(a)
        a.stop()
        await a.wait_stopped()

        assert w.statistics().queued == 0


# stop, drain, wait_stopped


async def test_stop_ends_an_actor_before_its_next_message(observer: Letters) -> None:
    async with supervise([child("a", echo)], observer=observer) as root:
        ref = root.child("a")
        await ref.tell("x")
        ref.stop()
        reason = await ref.wait_stopped()

    assert reason.kind == "normal"
    assert observer.letters == [DeadLetter("x", "root/a", None, "stopped")]


async def test_stop_is_handled_even_when_the_mailbox_is_full() -> None:
    async with supervise([child("a", echo, capacity=1)]) as root:
        ref = root.child("a")
        ref.tell_nowait("x")
        ref.stop()

        assert (await ref.wait_stopped()).kind == "normal"
        assert ref.statistics().handled == 0


async def test_a_message_in_hand_is_finished_before_the_stop() -> None:
    async def slow(_actor: Actor[Any], message: Any) -> Any:
        await anyio.sleep(10)
        return "finished"

    async with supervise([child("a", slow)]) as root:
        ref = root.child("a")

        async def stop() -> None:
            await anyio.sleep(1)
            ref.stop()

        async with anyio.create_task_group() as group:
            group.start_soon(stop)
            assert await ref.ask("x", timeout=60) == "finished"
        await ref.wait_stopped()


async def test_a_stop_is_not_lost_in_a_crash_at_the_same_time() -> None:
    async def crash_later(_actor: Actor[Any], message: Any) -> None:
        await anyio.sleep(1)
        raise RuntimeError

    async with supervise([child("a", crash_later, restart="transient")]) as root:
        ref = root.child("a")
        await ref.tell("x")
        await anyio.sleep(0.5)
        ref.stop()

        assert (await ref.wait_stopped()).kind == "normal"


async def test_a_stop_during_back_off_ends_the_actor_once_it_is_back() -> None:
    async with supervise([child("a", crash, restart="transient", backoff=Backoff(10, 10, jitter=0))]) as root:
        ref = root.child("a")
        await ref.tell("x")
        await anyio.sleep(1)
        state = ref.state
        ref.stop()

        assert state is State.RESTARTING
        assert (await ref.wait_stopped()).kind == "normal"


async def test_orders_to_a_dead_actor_do_nothing(observer: Letters) -> None:
    async with supervise([child("a", echo)], observer=observer) as root:
        ref = root.child("a")
        ref.stop()
        await ref.wait_stopped()
        ref.stop()
        ref.drain()

    assert observer.letters == []


async def test_drain_handles_what_is_queued_and_nothing_that_comes_later(observer: Letters) -> None:
    handled: list[Any] = []

    async def record(_actor: Actor[Any], message: Any) -> None:
        await checkpoint()
        handled.append(message)

    async with supervise([child("a", record)], observer=observer) as root:
        ref = root.child("a")
        await ref.tell(1)
        await ref.tell(2)
        ref.drain()
        await ref.tell(3)
        reason = await ref.wait_stopped()

    assert (handled, reason.kind) == ([1, 2], "normal")
    assert observer.letters == [DeadLetter(3, "root/a", None, "stopped")]


async def test_drain_needs_no_room() -> None:
    async with supervise([child("a", echo, capacity=1)]) as root:
        ref = root.child("a")
        ref.tell_nowait("x")
        ref.drain()
        await ref.wait_stopped()

        assert ref.statistics().handled == 1


async def test_a_drain_survives_a_crash_on_the_way() -> None:
    handled: list[Any] = []

    async def crash_on_one(_actor: Actor[Any], message: Any) -> None:
        if message == 1:
            raise RuntimeError
        handled.append(message)

    async with supervise([child("a", crash_on_one, restart="transient")]) as root:
        ref = root.child("a")
        for number in (1, 2):
            await ref.tell(number)
        ref.drain()
        await ref.wait_stopped()

    assert handled == [2]


async def test_a_drain_is_not_dropped_with_old_messages(observer: Letters) -> None:
    handled: list[Any] = []

    async def record(_actor: Actor[Any], message: Any) -> None:
        handled.append(message)

    spec = child("a", record, capacity=2, overflow="drop_oldest")
    async with supervise([spec], observer=observer) as root:
        ref = root.child("a")
        ref.tell_nowait(1)
        ref.drain()
        for number in (2, 3, 4):
            ref.tell_nowait(number)
        reason = await ref.wait_stopped()

    assert (handled, reason.kind) == ([], "normal")
    assert {(letter.message, letter.reason) for letter in observer.letters} == {
        (1, "overflow"),
        (2, "overflow"),
        (3, "stopped"),
        (4, "stopped"),
    }


async def test_any_number_of_tasks_may_wait_for_an_end() -> None:
    reasons: list[StopReason] = []
    async with supervise([child("a", echo)]) as root:
        ref = root.child("a")

        async def wait() -> None:
            reasons.append(await ref.wait_stopped())

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(wait)
            with anyio.move_on_after(1):
                await ref.wait_stopped()
            await anyio.sleep(1)
            assert len(ref._cell.stopped._wakers or ()) == 3  # the one that gave up has left nothing behind
            ref.stop()
        await wait()

    assert [reason.kind for reason in reasons] == ["normal"] * 4


# What a ref tells of itself


async def test_a_ref_tells_name_path_state_and_incarnation() -> None:
    async with supervise([child("a", crash, restart="permanent")]) as root:
        ref = root.child("a")
        await ref.tell("x")
        await anyio.sleep(1)
        told = (ref.name, ref.path, ref.state, ref.incarnation, repr(ref))

    assert told == ("a", "root/a", State.RUNNING, 2, "<ActorRef root/a running>")
    assert ref.state is State.STOPPED


async def test_refs_of_one_actor_are_equal() -> None:
    async with supervise([child("a", echo), child("b", echo)]) as root:
        a = root.child("a")

        assert a == root.child("a")
        assert len({a, root.child("a"), root.child("b")}) == 2
        assert a != "root/a"


async def test_statistics_tell_what_was_done_and_what_waits() -> None:
    async def hang_on_none(_actor: Actor[Any], message: Any) -> None:
        if message is None:
            await anyio.sleep_forever()

    async with supervise([child("a", hang_on_none, capacity=2)]) as root:
        ref = root.child("a")
        for message in (1, None):
            await ref.tell(message)
        await anyio.sleep(1)
        ref.tell_urgent(3)
        ref.tell_nowait(4)
        statistics = ref.statistics()

    assert (statistics.handled, statistics.queued, statistics.state) == (1, 2, State.RUNNING)


# Native cancellation, which anyio's own scopes never produce


@pytest.mark.parametrize("backend", ["asyncio", "uvloop"])
def test_an_ask_cancelled_natively_is_given_up(backend: Backend) -> None:
    async def main() -> list[str]:
        observer = Letters()
        async with supervise([child("a", _slow)], observer=observer) as root:
            task = asyncio.ensure_future(root.child("a").ask("x"))
            await anyio.sleep(0.5)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            await anyio.sleep(5)
        return [letter.reason for letter in observer.letters]

    assert run(main, backend=backend, virtual_time=True) == ["late_reply"]


async def _slow(_actor: Actor[Any], message: Any) -> Any:
    await anyio.sleep(1)
    return message


async def test_an_ask_that_has_its_answer_returns_it_though_cancelled_in_that_moment() -> None:
    answers: list[Any] = []
    scope = CancelScope()
    replies: list[Reply[Any]] = []

    async def defer(actor: Actor[Any], message: Any) -> None:
        replies.append(actor.context.defer_reply())

    async with supervise([child("a", defer)]) as root:

        async def ask() -> None:
            with scope:
                answers.append(await root.child("a").ask("x"))

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await anyio.sleep(1)
            replies[0].send("answer")
            scope.cancel()

    assert answers == ["answer"]


async def test_an_ask_in_hand_fails_before_the_actor_cleans_up() -> None:
    times: dict[str, float] = {}

    class Tidy(Actor[Any]):
        async def receive(self, message: Any) -> None:
            await anyio.sleep_forever()

        async def on_stop(self, reason: StopReason) -> None:
            await anyio.sleep(2)
            times["cleaned up"] = anyio.current_time()

    async def ask(ref: ActorRef[Any]) -> None:
        with pytest.raises(ActorStopped):
            await ref.ask("x")
        times["failed"] = anyio.current_time()

    async with supervise([ChildSpec("a", Tidy, shutdown=0)]) as root, anyio.create_task_group() as group:
        group.start_soon(ask, root.child("a"))
        await anyio.sleep(1)
        await root.terminate_child("a")

    assert times["cleaned up"] - times["failed"] == 2


async def test_a_stop_asked_for_twice_ends_one_incarnation() -> None:
    async with supervise([child("a", echo, restart="permanent")]) as root:
        ref = root.child("a")
        ref.stop()
        ref.stop()
        await anyio.sleep(1)

        assert ref.incarnation == 2
