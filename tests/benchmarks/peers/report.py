"""What was measured, as a table, as JSON and as a picture."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
from attrs import frozen

from .comparison import Line, Measured, Method
from .installed import FLOOR, OURS
from .plot import plot

BEGIN: Final = "<!-- peers: python -m tests.benchmarks.peers --readme writes what follows -->"
END: Final = "<!-- end of peers -->"
SAYS: Final = {
    "cannot": "cannot",
    "wrong": "wrong result",
    "failed": "failed",
    "slow": "too slow",
    "missing": "not installed",
}


@frozen
class Report:
    """All of a comparison."""

    engines: dict[str, dict[str, Any]]
    lines: Sequence[Line]
    method: Method
    machine: Sequence[dict[str, Any]]  # before and after
    seconds: float

    def put_into(self, document: Path) -> None:
        """Replace what a document has between its marks with the table."""
        before, found, rest = document.read_text().partition(BEGIN)
        _, ended, after = rest.partition(END)
        if not found or not ended:
            raise ValueError(f"{document.name} has no lines {BEGIN!r} and {END!r} to put the table between")
        document.write_text(f"{before}{BEGIN}\n{self.table()}{END}{after}")

    def write(self, folder: Path) -> list[Path]:
        """`peers.md`, `peers.json` and `peers.svg` in the folder, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        files = {"peers.md": self.table(), "peers.json": self.json(), "peers.svg": plot(self.lines)}
        for name, text in files.items():
            (folder / name).write_text(text)
        return [folder / name for name in files]

    def table(self) -> str:
        """Markdown: a row per workload, a column per engine; why a cell is empty stands below."""
        names = [name for name in self.engines if name != OURS]
        reasons: dict[str, int] = {}
        rows = [self._row(line, names, reasons) for line in self.lines]
        head = ["work", OURS, *names, "promise"]
        return "\n".join(
            [
                *self._preface(),
                "",
                _cells(head),
                _cells(["---"] * len(head)),
                *map(_cells, rows),
                "",
                *(f"{number}. {reason}" for reason, number in reasons.items()),
                "",
                "In floors, that is as a multiple of asyncio by hand:",
                "",
                _cells(["work", OURS, *names]),
                _cells(["---"] * (1 + len(self.engines))),
                *(_cells(self._floors(line, names)) for line in self.lines),
                "",
                *self._configurations(),
                "",
            ]
        )

    def _preface(self) -> Iterable[str]:
        first, last = self.machine
        yield (
            f"{first['python']}, {first['processors']} processors, load {first['load']:.1f} before and "
            f"{last['load']:.1f} after; medians (least to most) of {self.method.rounds} rounds in turn, "
            f"{self.seconds:.0f} s in all"
        )

    def _row(self, line: Line, names: Sequence[str], reasons: dict[str, int]) -> list[str]:
        ours = line.peers[OURS]
        cells = [line.workload.name, _figure(ours, line.workload.unit) if ours.figures else _why(ours, OURS, reasons)]
        for name in names:
            measured = line.peers.get(name)
            if measured is None:
                cells.append("")
            elif measured.figures:
                times = line.ratio(name, OURS)
                cells.append(_figure(measured, "") + (f" **{_short(times)}x**" if times is not None else ""))
            else:
                cells.append(_why(measured, name, reasons))
        return [*cells, "; ".join(line.verdicts())]

    def _floors(self, line: Line, names: Sequence[str]) -> list[str]:
        ratios = [line.ratio(name, FLOOR) for name in (OURS, *names)]
        return [line.workload.name, *("" if ratio is None else _short(ratio) for ratio in ratios)]

    def _configurations(self) -> Iterable[str]:
        for name, hello in self.engines.items():
            if "missing" in hello:
                yield f"- **{name}**: {hello['missing']}"
            else:
                versions = ", ".join(f"{package} {version}" for package, version in hello["versions"].items())
                yield f"- **{name}** ({versions or 'standard library'}): {hello['configuration']}"

    def json(self) -> str:
        """The same and every single figure, for programs."""
        data = {
            "machine": list(self.machine),
            "method": attrs.asdict(self.method),
            "seconds": self.seconds,
            "engines": self.engines,
            "workloads": [
                {
                    "name": line.workload.name,
                    "unit": line.workload.unit,
                    "promises": line.verdicts(),
                    "engines": {name: _as_data(line, name, measured) for name, measured in line.peers.items()},
                }
                for line in self.lines
            ],
        }
        return json.dumps(data, indent=1) + "\n"


def describe_machine() -> dict[str, Any]:
    """What the figures depend on, and whether something else was going on."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.system(),
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0],
    }


def _as_data(line: Line, name: str, measured: Measured) -> dict[str, Any]:
    if not measured.figures:
        return {"why": measured.why, "reason": measured.reason}
    return {
        "median": measured.figure,
        "figures": measured.figures,
        "times_ours": line.ratio(name, OURS),
        "times_floor": line.ratio(name, FLOOR),
    }


def _figure(measured: Measured, unit: str) -> str:
    least, most = measured.spread
    return f"{_short(measured.figure)}{' ' + unit if unit else ''} ({_short(least)} to {_short(most)})"


def _why(measured: Measured, name: str, reasons: dict[str, int]) -> str:
    number = reasons.setdefault(f"{name}: {measured.reason}", len(reasons) + 1)
    return f"{SAYS[measured.why or 'failed']} [{number}]"


def _short(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


def _cells(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
