"""A channel's credits, types and numbers; with a destination faked in ten lines, and with a real actor."""

from typing import Any

import anyio
import attrs
import pytest

from actors import Actor, Channel, ChannelStatistics, ChildSpec, MailboxClosed, NoCredit, WrongMessage, supervise
from actors.testing import Probe


@attrs.define
class FakeDestination:
    alive: bool = True
    items: list[Any] = attrs.field(factory=list)
    dead_letters: list[tuple[object, object]] = attrs.field(factory=list)

    def admit(self, item: tuple[object, object]) -> None:
        if not self.alive:
            raise MailboxClosed("the mailbox is closed")
        self.items.append(item)

    def dead_letter(self, message: object, sender: object) -> None:
        self.dead_letters.append((message, sender))


def channel_to(target: FakeDestination, *, capacity: int = 2, type: Any = None) -> Channel[Any]:
    return Channel("root/a", "root/b", target, capacity=capacity, type=type)


# Credits


def test_there_are_as_many_credits_as_capacity() -> None:
    channel = channel_to(FakeDestination(), capacity=3)

    assert channel.credits == 3
    assert [channel.reserve() for _ in range(3)] == [True] * 3
    assert channel.credits == 0


async def test_without_a_credit_nothing_can_be_reserved() -> None:
    channel = channel_to(FakeDestination(), capacity=1)
    channel.reserve()

    assert channel.reserve() is False


def test_sending_without_a_reservation_is_refused_and_says_what_to_do() -> None:
    target = FakeDestination()

    with pytest.raises(NoCredit, match="channel 'root/a' -> 'root/b': reserve a credit before you send"):
        channel_to(target).send_nowait("x")

    assert target.items == []


def test_an_item_arrives_tagged_with_its_channel() -> None:
    target = FakeDestination()
    channel = channel_to(target)
    channel.reserve()
    channel.send_nowait("x")

    assert target.items == [("x", channel)]


def test_an_item_on_its_way_holds_its_credit_until_it_is_taken() -> None:
    channel = channel_to(FakeDestination())
    channel.reserve()
    channel.send_nowait("x")
    credits_on_its_way = channel.credits
    channel.taken()

    assert (credits_on_its_way, channel.credits) == (1, 2)


def test_a_reservation_that_is_not_needed_is_given_back() -> None:
    channel = channel_to(FakeDestination())
    channel.reserve()
    channel.cancel_reservation()

    assert channel.credits == 2


def test_giving_back_what_was_not_reserved_is_refused() -> None:
    with pytest.raises(NoCredit, match="channel 'root/a' -> 'root/b': nothing is reserved"):
        channel_to(FakeDestination()).cancel_reservation()


@pytest.mark.parametrize("way", ["taken", "dropped", "not needed"])
async def test_on_credit_is_called_once_a_credit_is_back_that_was_asked_for(way: str) -> None:
    called: list[int] = []
    channel = channel_to(FakeDestination(), capacity=1)
    channel.on_credit = lambda: called.append(channel.credits)
    channel.reserve()
    if way != "not needed":
        channel.send_nowait("x")
    channel.reserve()
    {"taken": channel.taken, "dropped": channel.drop, "not needed": channel.cancel_reservation}[way]()

    assert called == [1]


def test_on_credit_is_not_called_when_nobody_asked_in_vain() -> None:
    called: list[int] = []
    channel = channel_to(FakeDestination())
    channel.on_credit = lambda: called.append(1)
    channel.reserve()
    channel.send_nowait("x")
    channel.taken()

    assert called == []


async def test_a_credit_that_was_asked_for_in_vain_comes_back_with_nobody_to_hear_of_it() -> None:
    channel = channel_to(FakeDestination(), capacity=1)
    channel.reserve()
    channel.reserve()
    channel.cancel_reservation()

    assert channel.credits == 1


def test_an_item_that_comes_back_to_be_tried_again_holds_its_credit_again() -> None:
    channel = channel_to(FakeDestination())
    channel.reserve()
    channel.send_nowait("x")
    channel.taken()
    channel.returned()

    assert (channel.credits, channel.depth) == (1, 1)


def test_credits_are_never_less_than_none() -> None:
    channel = channel_to(FakeDestination(), capacity=1)
    channel.reserve()
    channel.send_nowait("x")
    channel.taken()
    channel.reserve()
    channel.returned()  # while its credit was given to another

    assert channel.credits == 0


# Types


@pytest.mark.parametrize(
    ("type", "wanted"), [(int, "int"), (int | bytes, r"int \| bytes"), ((int, bytes), r"\(int, bytes\)")]
)
def test_a_message_of_another_type_is_refused_and_keeps_the_credit(type: Any, wanted: str) -> None:
    target = FakeDestination()
    channel = channel_to(target, type=type)
    channel.reserve()

    with pytest.raises(WrongMessage, match=f"channel 'root/a' -> 'root/b' takes {wanted}, got str: 'x'"):
        channel.send_nowait("x")

    assert target.items == []
    channel.send_nowait(1)
    assert target.items == [(1, channel)]


@pytest.mark.parametrize("type", ["int", list[int], 3, (int, "str")])
def test_a_type_that_nothing_can_be_checked_against_is_refused_at_once(type: Any) -> None:
    with pytest.raises(TypeError, match="channel 'root/a' -> 'root/b': messages cannot be checked against "):
        channel_to(FakeDestination(), type=type)


@pytest.mark.parametrize("capacity", [0, -5])
def test_a_capacity_below_one_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match=f"a capacity is at least 1, got {capacity}"):
        channel_to(FakeDestination(), capacity=capacity)


# A dead destination


def test_what_is_sent_to_a_dead_destination_is_a_dead_letter_and_gives_its_credit_back() -> None:
    target = FakeDestination(alive=False)
    channel = channel_to(target)
    channel.reserve()
    channel.send_nowait("x")

    assert target.dead_letters == [("x", channel)]
    assert (channel.credits, channel.dropped, channel.depth) == (2, 1, 0)


# Statistics


async def test_statistics_tell_what_it_holds_and_has_seen() -> None:
    channel = channel_to(FakeDestination(), capacity=3)
    for _ in range(3):
        channel.reserve()
        channel.send_nowait("x")
    channel.reserve()
    await anyio.sleep(2)
    channel.taken()
    channel.drop()
    channel.reserve()

    assert channel.statistics() == ChannelStatistics(
        depth=1, high_water=3, sent=3, received=1, dropped=1, credits=1, seconds_waited_for_credit=pytest.approx(2)
    )


def test_the_high_water_mark_stays_when_the_water_falls() -> None:
    channel = channel_to(FakeDestination())
    for taken in (0, 0, 2, 0):
        for _ in range(taken):
            channel.taken()
        channel.reserve()
        channel.send_nowait("x")

    assert (channel.statistics().depth, channel.statistics().high_water) == (2, 2)


async def test_the_wait_for_credit_counts_from_the_first_reserve_in_vain() -> None:
    channel = channel_to(FakeDestination(), capacity=1)
    channel.reserve()
    for _ in range(3):
        channel.reserve()
        await anyio.sleep(1)
    channel.cancel_reservation()
    await anyio.sleep(5)

    assert channel.statistics().seconds_waited_for_credit == pytest.approx(3)


def test_it_shows_itself_with_both_ends_and_how_full_it_is() -> None:
    channel = channel_to(FakeDestination())
    channel.reserve()
    channel.send_nowait("x")

    assert repr(channel) == "<Channel 'root/a' -> 'root/b' 1/2>"


# To a real actor


class Receiver(Actor[Any]):
    def __init__(self, probe: Probe[Any]) -> None:
        self.probe = probe

    async def receive(self, message: Any) -> None:
        if message == "crash":
            raise RuntimeError(message)
        await anyio.sleep(0.1)
        self.probe.record((message, self.context.origin))


async def test_an_actor_gets_the_items_of_all_its_channels_in_one_queue_each_with_its_origin() -> None:
    probe: Probe[Any] = Probe()
    async with supervise([ChildSpec("b", Receiver, [probe])]) as root:
        first, second = root.child("b").channel("root/a"), root.child("b").channel("root/c")
        for channel, message in [(first, 1), (second, 2), (first, 3)]:
            assert channel.reserve()
            channel.send_nowait(message)
        await probe.wait_for(3)

    assert probe.items == [(1, first), (2, second), (3, first)]
    assert (first.destination, first.source) == ("root/b", "root/a")


async def test_a_full_mailbox_does_not_refuse_what_has_a_credit() -> None:
    probe: Probe[Any] = Probe()
    async with supervise([ChildSpec("b", Receiver, [probe], capacity=1, overflow="fail")]) as root:
        channel = root.child("b").channel("root/a", capacity=5)
        for number in range(5):
            assert channel.reserve()
            channel.send_nowait(number)
        waiting = root.child("b").statistics().queued
        await probe.wait_for(5)

    assert waiting == 5
    assert [item for item, _ in probe.items] == [0, 1, 2, 3, 4]


async def test_what_an_actor_leaves_in_its_queue_gives_its_credits_back() -> None:
    probe: Probe[Any] = Probe()
    async with supervise([ChildSpec("b", Receiver, [probe], restart="temporary")]) as root:
        ref = root.child("b")
        channel = ref.channel("root/a")
        for message in ("crash", 1, 2):
            channel.reserve()
            channel.send_nowait(message)
        await ref.wait_stopped()

    assert (channel.credits, channel.depth, channel.dropped) == (64, 0, 2)


async def test_what_a_policy_drops_gives_its_credit_back() -> None:
    probe: Probe[Any] = Probe()
    async with supervise([ChildSpec("b", Receiver, [probe], capacity=1, overflow="drop_oldest")]) as root:
        channel = root.child("b").channel("root/a")
        channel.reserve()
        channel.send_nowait(1)
        await root.child("b").tell(2)
        statistics = channel.statistics()
        await probe.wait_for(1)

    assert (statistics.dropped, statistics.depth) == (1, 0)
    assert [item for item, _ in probe.items] == [2]


@pytest.mark.parametrize("redeliver", [0, 1, 2])
async def test_an_item_whose_handling_crashes_counts_as_received_once(redeliver: int) -> None:
    spec = ChildSpec("b", Receiver, [Probe()], redeliver=redeliver)
    async with supervise([spec]) as root:
        channel = root.child("b").channel("root/a", capacity=2)
        channel.reserve()
        channel.send_nowait("crash")
        await anyio.sleep(1)
        statistics = channel.statistics()

    assert (statistics.received, statistics.depth, statistics.credits) == (1, 0, 2)


async def test_an_item_that_is_to_be_tried_again_by_an_actor_that_does_not_come_back_is_dropped_once() -> None:
    spec = ChildSpec("b", Receiver, [Probe()], restart="temporary", redeliver=1)
    async with supervise([spec]) as root:
        channel = root.child("b").channel("root/a", capacity=2)
        channel.reserve()
        channel.send_nowait("crash")
        await root.child("b").wait_stopped()
        statistics = channel.statistics()

    assert (statistics.received, statistics.dropped, statistics.depth) == (0, 1, 0)
