"""Measures every engine on every workload, in turn: a round is one figure of each, so a slow spell hits all of them.

An engine that is not right, cannot do a workload, or takes too long for it, says so in the table instead of a figure.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any, Literal

import attrs
from attrs import define, field, frozen

from ..harness import Result, Row
from .installed import FLOOR, ONLY_DURABLE, OURS
from .workloads import Workload

Why = Literal["cannot", "wrong", "failed", "slow", "missing"]
SLOW_SECONDS, SLOW_ROUNDS = 0.9, 3  # one figure that takes longer is taken in the first rounds only


@frozen
class Measured:
    """What became of one engine on one workload: figures of the rounds, or why there are none."""

    figures: list[float] = field(factory=list)
    why: Why | None = None
    reason: str = ""

    @property
    def figure(self) -> float:
        return median(self.figures)

    @property
    def spread(self) -> tuple[float, float]:
        return min(self.figures), max(self.figures)


@frozen
class Line:
    """What was measured of one workload."""

    workload: Workload
    peers: dict[str, Measured]

    def ratio(self, peer: str, to: str) -> float | None:
        """How many times as much a peer takes as another: the median over the rounds that both were measured in.

        Of the ratios the other way round, as the harness has it: of an even number the two medians differ.
        """
        upper, lower = self.peers.get(peer), self.peers.get(to)
        if upper is None or lower is None or not upper.figures or not lower.figures:
            return None
        return 1 / median(other / one for one, other in zip(upper.figures, lower.figures, strict=False))

    def verdicts(self) -> list[str]:
        """What we promised of this workload, as the harness puts it; what could not be compared is left out."""
        others = {name: measured for name, measured in self.peers.items() if measured.figures and name != OURS}
        if not self.peers[OURS].figures:
            return [f"{OURS} has no figure: {self.peers[OURS].reason} MISSED"]
        row = Row(
            self.workload.name,
            self.workload.unit,
            _measured_elsewhere,
            dict.fromkeys(others, _measured_elsewhere),
            at_least={name: times for name, times in self.workload.at_least.items() if name in others},
            limit=self.workload.limit,
        )
        figures = {name: measured.figures for name, measured in others.items()}
        return list(Result(row, "asyncio", {"ours": self.peers[OURS].figures, **figures}).verdicts())


async def _measured_elsewhere() -> float:
    raise NotImplementedError("peers are measured in their own processes")


class TookTooLong(Exception):
    """A worker gave no answer in time, and was ended."""


class Died(Exception):
    """A worker ended without an answer."""


@define
class Process:
    """An engine's process, seen from here."""

    name: str
    where: str | None = None
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _unread: bytes = field(default=b"", init=False)
    hello: dict[str, Any] = field(factory=dict, init=False)

    def start(self) -> None:
        """Start it if it does not run; what it is and has is in `hello`, or why it is not there."""
        if self._process is not None:
            return
        # Not -m: libraries that start processes of their own run the main file again, and it has no relatives then.
        code = f"from {__package__}.worker import main; main()"
        command = [sys.executable, "-c", code, self.name, *([self.where] if self.where else [])]
        environment = {**os.environ, "LANGSMITH_TRACING": "false", "HAYSTACK_TELEMETRY_ENABLED": "False"}
        self._unread = b""
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )
        os.set_blocking(self._process.stderr.fileno(), False)  # type: ignore[union-attr]
        self.hello = self.answer(60)

    def ask(self, seconds: float, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer; past the time the process is ended, and `TookTooLong`."""
        self.tell(**request)
        return self.answer(seconds)

    def tell(self, **request: Any) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()

    def answer(self, seconds: float) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        assert process.stderr is not None
        said = b""
        while b"\n" not in self._unread:
            readable, _, _ = select.select([process.stdout, process.stderr], [], [], seconds)
            if not readable:
                self.stop()
                raise TookTooLong(f"no answer within {seconds:g} s")
            if process.stderr in readable:
                said = (said + os.read(process.stderr.fileno(), 65_536))[-65_536:]
            if process.stdout in readable:
                read = os.read(process.stdout.fileno(), 65_536)
                if not read:
                    self.stop()
                    raise Died((said.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1])
                self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)

    def stop(self) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()  # type: ignore[union-attr]


@contextmanager
def processes(names: Sequence[str], where: str | None = None) -> Iterator[dict[str, Process]]:
    """A process for each engine, started; all of them are ended when this is left."""
    made = {name: Process(name, where) for name in names}
    try:
        for process in made.values():
            process.start()
        yield made
    finally:
        for process in made.values():
            process.stop()


@frozen
class Method:
    """How long and how often."""

    rounds: int
    budget: float  # seconds of runs for one figure
    patience: float  # seconds for a first run, and for a figure
    quick: bool


def compare(
    peers: dict[str, Process], workload: Workload, method: Method, tell: Callable[[str], None] = lambda line: None
) -> Line:
    """Measure all of them on one workload."""
    found: dict[str, Measured] = {}
    open_ones: list[str] = []
    for name, process in peers.items():
        if name in ONLY_DURABLE and "durable" not in workload.name:
            continue
        measured = _open(process, workload, method)
        found[name] = measured
        if measured.why is None:
            open_ones.append(name)
    for turn in range(method.rounds if workload.kind != "memory" else 1):
        for name in open_ones.copy():
            if turn >= SLOW_ROUNDS and found[name].figures and _slow(found[name], workload):
                continue
            tell(f"{workload.name}: round {turn + 1}, {name}")
            found[name] = _figure(peers[name], workload, method, found[name])
            if found[name].why is not None:
                open_ones.remove(name)
    for name in open_ones:
        peers[name].ask(30, close=True)
    return Line(workload, found)


def patience(workload: Workload, method: Method) -> float:
    """Memory is counted by the interpreter, which makes everything several times slower."""
    return method.patience * (4 if workload.kind == "memory" else 1)


def _slow(measured: Measured, workload: Workload) -> bool:
    return measured.figures[0] / workload.factor * workload.parts > SLOW_SECONDS


def _open(process: Process, workload: Workload, method: Method) -> Measured:
    try:
        process.start()
        if "missing" in process.hello:
            return Measured(why="missing", reason=process.hello["missing"])
        return _why(process.ask(patience(workload, method), open=workload.name, quick=method.quick))
    except TookTooLong:
        return Measured(why="slow", reason=f"a first run took more than {patience(workload, method):g} s")
    except Died as error:
        return Measured(why="failed", reason=str(error))


def _figure(process: Process, workload: Workload, method: Method, so_far: Measured) -> Measured:
    try:
        answer = process.ask(method.budget + patience(workload, method), budget=method.budget)
    except TookTooLong:
        return Measured(why="slow", reason=f"took more than {patience(workload, method):g} s")
    except Died as error:
        return Measured(why="failed", reason=str(error))
    if "figure" in answer:
        return attrs.evolve(so_far, figures=[*so_far.figures, answer["figure"]])
    return _why(answer)  # also where earlier rounds were right: an engine that is wrong now and then is wrong


def _why(answer: dict[str, Any]) -> Measured:
    for why in ("cannot", "wrong", "failed"):
        if why in answer:
            return Measured(why=why, reason=answer[why])
    return Measured()


def ratios_to_floor(lines: Iterable[Line]) -> dict[str, float]:
    """Ours to the floor, for each workload where there are both."""
    found = {line.workload.name: line.ratio(OURS, FLOOR) for line in lines}
    return {name: ratio for name, ratio in found.items() if ratio is not None}
