"""What Prometheus sees of HTTP: counted in plain numbers, shown by the registry of the engine.

A route is a template, `/api/runs/{run_id}`: neither ids nor paths that strangers make up are labels. What no route took
is `(none)`, and a table that grew too large all the same, since an application names its routes badly, calls the rest
`(others)`.

Event streams and WebSockets are open for hours: they are counted when they begin, shown while they are open, and no
part of the durations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from ..counts import Histogram

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0)
MOST_ROUTES: Final = 200
NO_ROUTE: Final = "(none)"
OTHERS: Final = "(others)"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"})


class HttpNumbers:
    """What one application has answered."""

    def __init__(self) -> None:
        self.requests = Counter[tuple[str, str, str]]()
        """By route, method and status."""
        self.durations: dict[tuple[str, str], Histogram] = {}
        self.refused = Counter[str]()
        """By code."""
        self.in_flight = 0
        self.streams = Counter[str]({"sse": 0, "websocket": 0})
        self._routes: set[str] = set()

    def count(self, route: str | None, method: str, status: int, seconds: float | None) -> None:
        """One request has been answered, or one WebSocket closed, which has no seconds."""
        label = self._label(route)
        method = method if method in _METHODS else "OTHER"
        self.requests[label, method, str(status)] += 1
        if seconds is not None:
            durations = self.durations.get((label, method))
            if durations is None:
                durations = self.durations[label, method] = Histogram(SECONDS)
            durations.add(seconds)

    def _label(self, route: str | None) -> str:
        if route is None:
            return NO_ROUTE
        if route not in self._routes:
            if len(self._routes) >= MOST_ROUTES:
                return OTHERS
            self._routes.add(route)
        return route


class HttpCollector(Collector):
    """Makes the metrics at each scrape, in whatever thread that is."""

    def __init__(self, numbers: HttpNumbers) -> None:
        self.numbers = numbers

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Read everything once."""
        numbers = self.numbers
        requests = CounterMetricFamily(
            "workflow_http_requests", "Requests answered.", labels=["route", "method", "status"]
        )
        for labels, count in numbers.requests.copy().items():
            requests.add_metric(labels, count)
        yield requests
        durations = HistogramMetricFamily(
            "workflow_http_request_duration_seconds",
            "Time from the headers of a request to the end of its answer, streams apart.",
            labels=["route", "method"],
        )
        for pair, histogram in numbers.durations.copy().items():
            durations.add_metric(pair, _cumulated(histogram), histogram.seconds)
        yield durations
        refused = CounterMetricFamily(
            "workflow_http_refused", "Requests that were not let in, by why.", labels=["reason"]
        )
        for code, count in numbers.refused.copy().items():
            refused.add_metric([code], count)
        yield refused
        yield GaugeMetricFamily(
            "workflow_http_requests_in_flight", "Requests that are being answered, streams apart.", numbers.in_flight
        )
        streams = GaugeMetricFamily("workflow_http_open_streams", "Streams that are open.", labels=["kind"])
        for kind, count in numbers.streams.copy().items():
            streams.add_metric([kind], count)
        yield streams


_known: WeakKeyDictionary[CollectorRegistry, HttpNumbers] = WeakKeyDictionary()


def numbers_of(registry: CollectorRegistry) -> HttpNumbers:
    """The numbers that a registry shows: one set, however many applications are made for its engine."""
    numbers = _known.get(registry)
    if numbers is None:
        numbers = _known[registry] = HttpNumbers()
        registry.register(HttpCollector(numbers))
    return numbers


def route_of(scope: Mapping[str, Any]) -> str | None:
    """The template of the route that took a request, if one did.

    An application may say it, `scope["state"]["route"]`; otherwise it is made of the path and its parameters, from the
    right, since what names a thing stands behind what kind of thing it is.
    """
    said = scope["state"].get("route")
    if isinstance(said, str):
        return said
    if "endpoint" not in scope:
        return None
    parts = str(scope["path"]).split("/")
    for name, value in scope.get("path_params", {}).items():
        for place in range(len(parts) - 1, -1, -1):
            if parts[place] == str(value):
                parts[place] = f"{{{name}}}"
                break
    return "/".join(parts)


def _cumulated(histogram: Histogram) -> list[tuple[str, float]]:
    total, found = 0, []
    for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.buckets, strict=True):
        total += count
        found.append((bound, float(total)))
    return found
