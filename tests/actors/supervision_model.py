"""A world for one `Supervision`: it plays the runner, keeps a record of its own and checks every command against it.

Tests speak to it in events and read the commands as short texts: `"start a1"` is the first incarnation of `a`.
"""

from __future__ import annotations

from math import inf
from typing import Any

from actors import TooManyRestarts
from actors.lifecycle import NORMAL, SHUTDOWN, StopReason, crashed
from actors.spec import ChildSpec, Strategy
from actors.supervision import (
    Answer,
    Command,
    FinishChild,
    ForgetChild,
    Over,
    Phase,
    Ready,
    ReportCrash,
    ReportRestart,
    StartChild,
    StopChild,
    Supervision,
    Wake,
)

CRASH = crashed(ValueError("boom"))
PHASES = {"starting": Phase.STARTING, "up": Phase.UP, "stopping": Phase.STOPPING}


def spec(name: str, **options: Any) -> ChildSpec:
    """A child of which only the name and the policies matter."""
    return ChildSpec(name, object, **options)


class SupervisionModel:
    """One `Supervision`, the children it believes to run, and the invariants of both."""

    def __init__(self, strategy: Strategy, *specs: ChildSpec | str, **options: Any) -> None:
        children = [spec(child) if isinstance(child, str) else child for child in specs]
        self.decisions = Supervision("top", strategy, children, **options)
        self.now = 0.0
        self.running: dict[str, str] = {}  # name -> starting | up | stopping
        self.incarnations: dict[str, int] = {}
        self.timers: dict[int, float] = {}
        self.pending: set[Any] = set()
        self.finished: set[str] = set()
        self.charged: list[str] = []
        self.charges: dict[str, list[float]] = {}
        self.all_charges: list[float] = []
        self.specs = {child.name: child for child in children}
        self.shared = (options.get("max_restarts", inf), options.get("period", 5.0))
        self.ready = 0
        self.over: StopReason | None = None
        self.gave_up: TooManyRestarts | None = None

    # -- events

    def begin(self) -> list[str]:
        return self._see(self.decisions.begin())

    def begin_and_come_up(self) -> SupervisionModel:
        """Begin, with every child coming up at once."""
        self.begin()
        self.come_up()
        assert self.decisions.children.keys() == self.running.keys()
        return self

    def come_up(self) -> None:
        """Let whatever starts come up, and what follows from that."""
        while starting := [name for name, where in self.running.items() if where == "starting"]:
            self.up(starting[0])

    def up(self, name: str) -> list[str]:
        if self.running[name] == "starting":
            self.running[name] = "up"
        return self._see(self.decisions.started(name))

    def end(self, name: str, reason: StopReason | None = None) -> list[str]:
        """The child ends; by default as one does that was told to."""
        was_up = self.running.pop(name) != "starting"
        return self._see(self.decisions.exited(name, reason or SHUTDOWN, self.now, was_up=was_up))

    def crash(self, name: str) -> list[str]:
        return self.end(name, CRASH)

    def finish(self, name: str) -> list[str]:
        return self.end(name, NORMAL)

    def fire(self) -> list[str]:
        """Time goes on to the next timer."""
        token = min(self.timers, key=lambda token: (self.timers[token], token))
        self.now = max(self.now, self.timers.pop(token))
        return self._see(self.decisions.timer_fired(token))

    def shut_down(self, reason: StopReason = SHUTDOWN) -> list[str]:
        return self._see(self.decisions.shut_down(reason))

    # -- requests; each is named by what it asks

    def add(self, child: ChildSpec | str, request: Any = "add") -> list[str]:
        self.pending.add(request)
        child = spec(child) if isinstance(child, str) else child
        if child.name not in self.decisions.children:
            self.specs[child.name] = child
        return self._see(self.decisions.add(child, request))

    def restart(self, name: str, request: Any = "restart") -> list[str]:
        self.pending.add(request)
        commands = self.decisions.restart(name, request)
        if request not in [command.request for command in commands if isinstance(command, Answer)]:
            self.charges.pop(name, None)  # accepted
        return self._see(commands)

    def terminate(self, name: str, request: Any = "terminate") -> list[str]:
        self.pending.add(request)
        return self._see(self.decisions.terminate(name, request))

    def delete(self, name: str, request: Any = "delete") -> list[str]:
        self.pending.add(request)
        return self._see(self.decisions.delete(name, request))

    # -- the record

    def _see(self, commands: list[Command]) -> list[str]:
        cause = self.decisions.ending and self.decisions.ending.cause
        if isinstance(cause, TooManyRestarts) and cause is not self.gave_up:
            self.gave_up = cause
            self._charge(cause.child)
            assert cause.crashes in self._overdrawn(cause.child), f"{cause}: it had some left"
        texts = [self._seen(command) for command in commands]
        self._check()
        return texts

    def _seen(self, command: Command) -> str:
        assert self.over is None or isinstance(command, Answer), f"{command} after the end"
        match command:
            case StartChild(name, incarnation):
                assert name not in self.running, f"{name!r} would run twice"
                assert self.decisions.ending is None, f"{name!r} would start while all is stopping"
                assert incarnation == self.incarnations.get(name, 0) + 1
                self.running[name] = "starting"
                self.incarnations[name] = incarnation
                self.finished.discard(name)
                return f"start {name}{incarnation}"
            case StopChild(name):
                assert self.running[name] != "stopping", f"{name!r} would be stopped twice"
                if self.decisions.ending is not None and self.decisions.strategy != "dynamic":
                    later = list(self.decisions.children)[list(self.decisions.children).index(name) + 1 :]
                    assert not self.running.keys() & set(later), f"{name!r} stops before {later}"
                self.running[name] = "stopping"
                return f"stop {name}"
            case FinishChild(name, reason):
                assert name not in self.running, f"{name!r} is settled while it runs"
                assert name not in self.finished, f"{name!r} is settled twice"
                self.finished.add(name)
                return f"finish {name} {reason.kind}"
            case ForgetChild(name):
                assert name not in self.running, f"{name!r} is forgotten while it runs"
                assert name not in self.decisions.children
                assert name in self.finished, f"{name!r} is forgotten before it is settled"
                self.finished.remove(name)
                self.incarnations.pop(name, None)
                self.charges.pop(name, None)
                return f"forget {name}"
            case Wake(delay, token):
                assert delay > 0
                self.timers[token] = self.now + delay
                return f"wake in {delay:g}"
            case ReportRestart(name, incarnation, delay, _):
                self.charged.append(name)
                self._charge(name)
                assert not self._overdrawn(name), f"{name!r} is over its budget"
                return f"restarting {name}{incarnation} in {delay:g}"
            case ReportCrash(name, incarnation, reason):
                assert incarnation == self.incarnations[name]
                assert reason.kind == "crashed"
                return f"crashed {name}{incarnation}"
            case Answer(request, result):
                self.pending.remove(request)
                return f"answer {request}: {result if isinstance(result, str) else type(result).__name__}"
            case Ready():
                self.ready += 1
                return "ready"
            case Over(reason):
                assert not self.running, f"over while {list(self.running)} run"
                assert self.finished >= self.decisions.children.keys(), "somebody is never settled"
                self.over = reason
                return f"over {reason.kind}"

    def _charge(self, name: str) -> None:
        self.charges.setdefault(name, []).append(self.now)
        self.all_charges.append(self.now)

    def _overdrawn(self, name: str) -> list[int]:
        """The crashes within the period of each budget that is spent: the child's own, the shared one."""
        own, shared = self.specs[name], self.shared
        counts = [(self.charges[name], own.max_restarts, own.period), (self.all_charges, *shared)]
        within = [(sum(self.now - time <= period for time in times), most) for times, most, period in counts]
        return [crashes for crashes, most in within if crashes > most]

    def _check(self) -> None:
        for name, child in self.decisions.children.items():
            if name in self.running:
                assert child.phase is PHASES[self.running[name]]
            else:
                assert child.phase in (Phase.DOWN, Phase.WAITING)
                comes_up = child.wanted and self.decisions._is_coming_up(child)
                assert child.starter is None or comes_up, f"whoever waits for {name!r} to start would wait for ever"
            assert not child.stoppers or child.phase is Phase.STOPPING
        assert self.running.keys() <= self.decisions.children.keys()
        assert self.ready <= 1
        if self.over is not None:
            assert not self.pending
        elif not self.timers and not {"starting", "stopping"} & set(self.running.values()):
            self._check_quiet()

    def _check_quiet(self) -> None:
        # Nothing is on its way, so nothing may be missing.
        assert self.decisions.ending is None, "all is down and it is not over"
        lost = [name for name, child in self.decisions.children.items() if child.wanted and child.phase is Phase.DOWN]
        assert not lost, f"{lost} are wanted, and nothing will start them"
        assert not self.pending, f"{self.pending} are never answered"
        assert self.ready, "nobody was told that the supervisor is up"
