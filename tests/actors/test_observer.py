"""An observer sees each change in the life of the actors of its tree, and can harm nothing."""

import logging
from typing import Any

import anyio
import pytest

from actors import Actor, ActorRef, ChildSpec, DeadLetter, NullObserver, Observer, StopReason, Tree, supervise
from actors.testing import BACKENDS, Backend, run


class Recording(NullObserver):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def started(self, ref: ActorRef[Any], incarnation: int) -> None:
        self.seen.append(f"{ref.name} started {incarnation}")

    def crashed(self, ref: ActorRef[Any], incarnation: int, cause: BaseException) -> None:
        self.seen.append(f"{ref.name} crashed {incarnation} {cause!r}")

    def restarting(self, ref: ActorRef[Any], incarnation: int, delay: float) -> None:
        self.seen.append(f"{ref.name} restarting {incarnation} in {delay:g}")

    def stopped(self, ref: ActorRef[Any], reason: StopReason) -> None:
        self.seen.append(f"{ref.name} stopped {reason.kind}")

    def unkillable(self, ref: ActorRef[Any]) -> None:
        self.seen.append(f"{ref.name} unkillable")

    def dead_letter(self, letter: DeadLetter) -> None:
        self.seen.append(f"dead letter {letter.message}")


class Raising(NullObserver):
    def started(self, ref: ActorRef[Any], incarnation: int) -> None:
        raise RuntimeError("started")

    def crashed(self, ref: ActorRef[Any], incarnation: int, cause: BaseException) -> None:
        raise RuntimeError("crashed")

    def restarting(self, ref: ActorRef[Any], incarnation: int, delay: float) -> None:
        raise RuntimeError("restarting")

    def stopped(self, ref: ActorRef[Any], reason: StopReason) -> None:
        raise RuntimeError("stopped")

    def unkillable(self, ref: ActorRef[Any]) -> None:
        raise RuntimeError("unkillable")

    def dead_letter(self, letter: DeadLetter) -> None:
        raise RuntimeError("dead_letter")


class Hardy(Actor[str]):
    """Crashes, or holds out against its cancellation for a while."""

    async def receive(self, message: str) -> str:
        if message == "crash":
            raise ValueError(message)
        if message == "hold out":
            with anyio.CancelScope(shield=True):
                await anyio.sleep(60)
        return message


async def live_through_everything(observer: Observer) -> str:
    spec = ChildSpec("a", Hardy, shutdown=1, grace=1)
    async with supervise([spec], observer=observer) as root:
        ref = root.child("a")
        ref.tell_nowait("crash")
        answer: str = await ref.ask("answer")
        ref.tell_nowait("hold out")
        ref.tell_nowait("left")
        await anyio.sleep(1)
    ref.tell_nowait("late")
    return answer


async def test_an_observer_sees_each_change() -> None:
    observer = Recording()
    await live_through_everything(observer)

    assert observer.seen == [
        "a started 1",
        "a crashed 1 ValueError('crash')",
        "a restarting 2 in 0",
        "a started 2",
        "a unkillable",
        "dead letter left",
        "a stopped killed",
        "root stopped shutdown",
        "dead letter late",
    ]


async def test_an_observer_that_raises_harms_nothing_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    answer = await live_through_everything(Raising())

    assert answer == "answer"
    raised_in = {line.rpartition(" ")[2] for line in caplog.messages if line.startswith("the observer raised in")}
    assert raised_in == {"started", "crashed", "restarting", "stopped", "unkillable", "dead_letter"}
    assert any(record.exc_info for record in caplog.records if record.levelno == logging.ERROR)


async def test_an_observer_that_lacks_a_method_is_refused_at_once() -> None:
    class Partial:
        def started(self, ref: ActorRef[Any], incarnation: int) -> None: ...

        def crashed(self, ref: ActorRef[Any], incarnation: int, cause: BaseException) -> None: ...

    with pytest.raises(
        TypeError,
        match=r"observer .*Partial.* has no restarting, stopped, unkillable, dead_letter: derive it from Null",
    ):
        supervise([], observer=Partial())  # type: ignore[arg-type]


async def test_the_null_observer_sees_everything_and_says_nothing() -> None:
    assert await live_through_everything(NullObserver()) == "answer"


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_interrupt_in_an_observer_is_not_held_back(backend: Backend) -> None:
    class Interrupting(NullObserver):
        def started(self, ref: ActorRef[Any], incarnation: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(BaseException) as caught:  # noqa: PT011 # trio wraps it in groups, asyncio does not
        run(live_through_everything, Interrupting(), backend=backend, virtual_time=True)

    assert caught.type is KeyboardInterrupt or caught.group_contains(KeyboardInterrupt)


async def test_an_observer_that_tells_the_dead_of_a_dead_letter_is_not_shown_the_next_one() -> None:
    class Answering(Recording):
        def dead_letter(self, letter: DeadLetter) -> None:
            super().dead_letter(letter)
            ref.tell_nowait("again")

    observer = Answering()
    tree = Tree(observer)
    async with supervise([ChildSpec("a", Hardy)], tree=tree) as root:
        ref = root.child("a")
        await root.terminate_child("a")
        await ref.tell("first")
        await ref.tell("second")

    assert [line for line in observer.seen if "again" in line] == []
    assert tree.letters.counts == {"stopped": 4}


def test_an_observer_with_async_methods_is_refused_before_anything_runs() -> None:
    class Waiting(NullObserver):
        async def started(self, ref: Any, incarnation: int) -> None:  # type: ignore[override]
            pass

    with pytest.raises(TypeError, match=r"observer .*Waiting.*: started must not be async"):
        supervise(observer=Waiting())


def test_an_observer_beside_a_tree_is_refused() -> None:
    with pytest.raises(TypeError, match=r"takes an observer or a tree, which has one: supervise\(tree=Tree\(observer"):
        supervise(observer=NullObserver(), tree=Tree())
