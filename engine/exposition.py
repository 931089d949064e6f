"""Metrics as text, quickly: families that keep rows of numbers, and what writes them as Prometheus reads them.

The library makes an object with a dict of labels for each line and looks at each label again when it writes it: 6 us a
line, and a hundred graphs of twenty nodes have 32,000. A family here writes its lines itself, the labels of a row once.
Asked for its `samples`, it makes the same of them as the library's own; so `generate_latest` gives the same text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

END: Final = b"# EOF\n"
_PLAIN: Final = 1_000_000
"""From here on Go, whose way to write numbers this is, writes integers with an exponent."""

Encode = Callable[[Any], bytes]
"""The library's writer for one of the formats."""


class Family(Metric):
    """Metrics of one name, as rows: the values of their labels, and their numbers."""

    def __init__(self, name: str, documentation: str, kind: str, labels: Sequence[str]) -> None:
        self.rows: list[tuple[Sequence[str], Any]] = []
        self._labelnames = tuple(labels)  # as the library's families have them
        super().__init__(name, documentation, kind)

    @property
    def samples(self) -> list[Sample]:
        """As the library has them."""
        return [
            Sample(name, dict(zip((*self._labelnames, *more), (*values, *said), strict=True)), number)
            for values, numbers in self.rows
            for name, more, said, number in self._told(numbers)
        ]

    @samples.setter
    def samples(self, samples: object) -> None:
        """There are none to begin with."""

    def add(self, values: Sequence[str], numbers: Any) -> None:
        """One more row."""
        self.rows.append((values, numbers))

    def lines(self) -> Iterator[str]:
        """Its lines, in both formats the same, without the end of the last of them."""
        raise NotImplementedError

    def _told(self, numbers: Any) -> Iterable[tuple[str, tuple[str, ...], tuple[str, ...], float]]:
        raise NotImplementedError

    def _said(self, values: Sequence[str]) -> list[str]:
        """Each label as it is written, in the order of their names."""
        return sorted(f'{name}="{_escaped(value)}"' for name, value in zip(self._labelnames, values, strict=True))


class Numbers(Family):
    """Counters or gauges."""

    def lines(self) -> Iterator[str]:
        """One for each row."""
        name = self._name
        for values, number in self.rows:
            said = self._said(values)
            yield f"{name}{{{','.join(said)}}} {_number(number)}" if said else f"{name} {_number(number)}"

    @property
    def _name(self) -> str:
        return f"{self.name}_total" if self.type == "counter" else self.name

    def _told(self, numbers: Any) -> Iterable[tuple[str, tuple[str, ...], tuple[str, ...], float]]:
        return [(self._name, (), (), numbers)]


class Summaries(Family):
    """How often, and how much in all."""

    def lines(self) -> Iterator[str]:
        """Two for each row."""
        for values, (count, total) in self.rows:
            said = self._said(values)
            labels = f"{{{','.join(said)}}}" if said else ""
            yield f"{self.name}_count{labels} {_number(count)}"
            yield f"{self.name}_sum{labels} {_number(total)}"

    def _told(self, numbers: Any) -> Iterable[tuple[str, tuple[str, ...], tuple[str, ...], float]]:
        count, total = numbers
        return [(f"{self.name}_count", (), (), count), (f"{self.name}_sum", (), (), total)]


class Histograms(Family):
    """How many up to each bound, and how much in all."""

    def lines(self) -> Iterator[str]:
        """One for each bound of a row, and two more."""
        name = self.name
        for values, (bounds, buckets, total) in self.rows:
            said = self._said(values)
            before = "".join([f"{label}," for label in said if label < "le="])
            after = "".join([f",{label}" for label in said if label > "le="])
            head, tail, count = f'{name}_bucket{{{before}le="', f'"{after}}} ', 0
            for bound, more in zip(_named(bounds), buckets, strict=True):
                count += more
                yield f"{head}{bound}{tail}{count}.0" if count < _PLAIN else f"{head}{bound}{tail}{_number(count)}"
            labels = f"{{{','.join(said)}}}" if said else ""
            yield f"{name}_count{labels} {_number(count)}"
            yield f"{name}_sum{labels} {_number(total)}"

    def _told(self, numbers: Any) -> Iterable[tuple[str, tuple[str, ...], tuple[str, ...], float]]:
        bounds, buckets, total = numbers
        count = 0
        for bound, more in zip(_named(bounds), buckets, strict=True):
            count += more
            yield f"{self.name}_bucket", ("le",), (bound,), float(count)
        yield f"{self.name}_count", (), (), float(count)
        yield f"{self.name}_sum", (), (), total


def exposed(registry: CollectorRegistry, encode: Encode, *, open_metrics: bool) -> bytes:
    """All metrics of a registry, in the format of `encode`, which writes those that are not of here."""
    parts: list[bytes] = []
    for metric in registry.collect():
        if isinstance(metric, Family):
            lines = [_head(metric, open_metrics), *metric.lines(), ""]
            parts.append("\n".join(lines).encode())
        else:
            parts.append(encode(_Only(metric)).removesuffix(END))
    if open_metrics:
        parts.append(END)
    return b"".join(parts)


def _head(metric: Family, open_metrics: bool) -> str:
    name = f"{metric.name}_total" if metric.type == "counter" and not open_metrics else metric.name
    return f"# HELP {name} {metric.documentation}\n# TYPE {name} {metric.type}"


class _Only(Collector):
    """A collector of one metric, or a registry with it alone."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        """That one."""
        yield self._metric


_texts: Final[dict[Sequence[float], list[str]]] = {}


def _named(bounds: Sequence[float]) -> list[str]:
    """Bounds as labels."""
    known = _texts.get(bounds)
    if known is None:
        known = _texts[bounds] = [*map(str, bounds), "+Inf"]
    return known


def _number(number: float) -> str:
    if type(number) is int and 0 <= number < _PLAIN:
        return f"{number}.0"
    text: str = floatToGoString(number)  # type: ignore[no-untyped-call]
    return text


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
