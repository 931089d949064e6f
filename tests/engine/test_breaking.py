"""A circuit breaker's decisions, with the time given."""

from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from hypothesis.strategies import booleans, data, floats, sampled_from

from engine import Breaker
from engine.breaking import Circuit


def opened(now: float = 0.0, **options: float) -> Circuit:
    circuit = Circuit(Breaker(failures=2, within=10, cooldown=60))
    circuit.failed("a", now)
    circuit.failed("b", now)
    return circuit


def test_it_opens_after_so_many_failures() -> None:
    circuit = Circuit(Breaker(failures=3, within=10, cooldown=60))

    assert [circuit.failed("x", now) for now in (0, 1, 2)] == [False, False, True]
    assert (circuit.state, circuit.opened) == ("open", 1)


def test_failures_that_are_too_far_apart_do_not_count_together() -> None:
    circuit = Circuit(Breaker(failures=3, within=10, cooldown=60))

    assert [circuit.failed("x", now) for now in (0, 6, 12, 18, 22)] == [False, False, False, False, True]


def test_successes_between_them_do_not_undo_failures() -> None:
    circuit = Circuit(Breaker(failures=2, within=10, cooldown=60))
    circuit.failed("x", 0)
    circuit.succeeded("y")

    assert circuit.failed("x", 1)


def test_an_open_one_says_how_long_it_will_be() -> None:
    circuit = opened(now=5)

    assert circuit.admits("x", 15) == 50
    assert circuit.refused == 1


def test_after_the_cool_down_one_is_the_trial_and_the_others_wait_for_what_it_finds() -> None:
    circuit = opened()

    assert [circuit.admits(who, 60) for who in "abc"] == [None, 0, 0]
    assert circuit.state == "half_open"


def test_a_trial_that_succeeds_closes_it_with_nothing_held_against_it() -> None:
    circuit = opened()
    circuit.admits("trial", 60)

    circuit.succeeded("trial")

    assert circuit.admits("x", 61) is None
    assert not circuit.failed("x", 61)


def test_a_trial_that_fails_opens_it_for_another_cool_down() -> None:
    circuit = opened()
    circuit.admits("trial", 60)

    assert circuit.failed("trial", 70)
    assert (circuit.admits("x", 100), circuit.opened) == (30, 2)


def test_a_trial_that_is_cancelled_leaves_its_place_to_the_next() -> None:
    circuit = opened()
    circuit.admits("trial", 60)

    circuit.dropped("trial")

    assert circuit.admits("next", 61) is None
    assert circuit.admits("other", 61) == 0


def test_what_began_before_it_opened_decides_nothing() -> None:
    circuit = opened()
    circuit.admits("trial", 60)

    circuit.succeeded("old")
    assert circuit.state == "half_open"
    assert not circuit.failed("old", 61)
    assert circuit.state == "half_open"


def test_another_policy_goes_on_from_what_has_happened() -> None:
    circuit = Circuit(Breaker(failures=5, within=10, cooldown=60))
    circuit.failed("x", 0)
    circuit.failed("x", 1)

    circuit.change(Breaker(failures=3, within=10, cooldown=5))

    assert circuit.failed("x", 2)
    assert circuit.admits("x", 3) == 4


class Machine(RuleBasedStateMachine):
    """Any order of events."""

    def __init__(self) -> None:
        super().__init__()
        self.circuit = Circuit(Breaker(failures=3, within=5, cooldown=10))
        self.now = 0.0
        self.number = 0
        self.under_way: list[int] = []
        self.admitted_half_open = 0
        self.opened_at = -100.0

    @rule(seconds=floats(0.1, 8))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def somebody_asks(self) -> None:
        self.number += 1
        before = self.circuit.state
        wait = self.circuit.admits(self.number, self.now)
        if wait is None:
            self.under_way.append(self.number)
            assert before == "closed" or self.now >= self.opened_at + 10
        else:
            assert before != "closed"
            assert wait == 0 or abs(self.opened_at + 10 - self.now - wait) < 1e-6

    @rule(choice=data(), succeeds=sampled_from(["succeeds", "fails", "is dropped"]))
    def somebody_ends(self, choice: object, succeeds: str) -> None:
        if not self.under_way:
            return
        who = choice.draw(sampled_from(self.under_way))  # type: ignore[attr-defined]
        self.under_way.remove(who)
        if succeeds == "succeeds":
            self.circuit.succeeded(who)
        elif succeeds == "fails":
            if self.circuit.failed(who, self.now):
                self.opened_at = self.now
        else:
            self.circuit.dropped(who)

    @invariant()
    def a_trial_is_under_way_or_there_is_none(self) -> None:
        trial = self.circuit._trial
        assert trial is None or trial in self.under_way
        assert trial is None or self.circuit.state == "half_open"


TestAnyOrder = Machine.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(booleans())
def test_a_closed_one_lets_everybody_through(fails_once: bool) -> None:
    circuit = Circuit(Breaker(failures=2))
    if fails_once:
        circuit.failed("x", 0)

    assert all(circuit.admits(who, 0) is None for who in range(100))
