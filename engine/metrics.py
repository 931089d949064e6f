"""What Prometheus sees of an engine, read off plain numbers whenever it scrapes.

Nothing here runs while nobody looks. A scrape only reads, and may do so from a thread of its own: where an engine is
busy, `generate_latest(engine.metrics)` belongs in one. A graph of 1,000 nodes makes 15,000 lines: in the loop 0.1 s in
which nothing else happens, in a thread at most 0.04 s at a time.

Labels are names of graphs and nodes, never ids of runs. Versions of a graph count together. Of each graph the first
`MOST_NODES` nodes that ran are told apart, the rest is one node called `OTHERS`; a node that never ran is not told of.

An engine without a store has no `journal_commit_seconds`, `journal_batch_records`, `recovered_runs_total`,
`audit_lines_dropped_total` and `store_available`. Only one that shares its store has `lease_seconds`,
`lease_renewals_failed_total`, `leases_lost_total`, `runs_claimed_total`, `runs_taken_over_total` and
`runs_poisoned_total`.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from time import time
from typing import Any, Final, Protocol, TypeVar, get_args

import attrs
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from .breaking import Circuit
from .breaking import State as CircuitState
from .counts import FleetCounts, Histogram, RunCounts, Waits
from .exposition import Histograms, Numbers, Summaries
from .limits import Limits
from .reusing import Results

K = TypeVar("K")
# From the values of the labels, in their order, to the number. (The key of a mapping is invariant, hence `Any`.)
ByLabels = Mapping[Any, float]

MOST_NODES: Final = 1_000
OTHERS: Final = "(others)"

DEAD_LETTER_REASONS: Final = ("stopped", "overflow", "late_reply", "poison", "cancelled")


class ExecutorHealth(Protocol):
    """How an executor is."""

    @property
    def trouble(self) -> str: ...
    @property
    def running(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def started(self) -> int: ...
    @property
    def killed(self) -> int: ...
    @property
    def abandoned(self) -> int: ...
    @property
    def restarts(self) -> int: ...


class NodeCounts(Protocol):
    """What is counted for one node."""

    @property
    def name(self) -> str: ...
    @property
    def is_map(self) -> bool: ...
    @property
    def done(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def cancelled(self) -> int: ...
    @property
    def retries(self) -> int: ...
    @property
    def durations(self) -> Histogram: ...
    @property
    def mailbox_waits(self) -> Waits: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def queued(self) -> int: ...
    @property
    def unlimited(self) -> bool: ...
    @property
    def tries_again(self) -> bool: ...
    @property
    def tokens_waiting(self) -> int | None: ...
    @property
    def limits(self) -> Limits: ...
    @property
    def batches(self) -> int: ...
    @property
    def circuit(self) -> Circuit | None: ...
    @property
    def results(self) -> Results[Any] | None: ...


@attrs.frozen
class GraphNumbers:
    """Where one version of a graph keeps its numbers."""

    name: str
    runs: RunCounts
    nodes: Callable[[], Iterable[NodeCounts]]
    lag: Waits


@attrs.frozen
class JournalNumbers:
    """Where the journal of an engine with a store keeps its numbers."""

    commit_seconds: Histogram
    batch_records: Histogram
    recovered: Callable[[], int]
    available: Callable[[], bool]
    """Whether the store that was asked for takes writes."""
    audit_dropped: Callable[[], int]
    """Lines of the audit log that are not in the store."""


@attrs.frozen
class FleetNumbers:
    """Where an engine that shares its store keeps its numbers."""

    counts: FleetCounts
    lease_seconds: Callable[[], float]
    """What is left of its lease."""


@attrs.frozen
class EngineNumbers:
    """Where an engine keeps its numbers; the calls must be safe from another thread."""

    graphs: Callable[[], Iterable[GraphNumbers]]
    in_flight: Callable[[], Mapping[str, int]]
    """Runs that have started and not ended, by graph."""
    queued: Callable[[], Sequence[tuple[str, float]]]
    """Graph and time of submission of each run in the queue."""
    rejected: Mapping[str, int]
    dead_letters: Callable[[], Mapping[Any, int]]
    restarts: Callable[[], int]
    executors: Callable[[], Iterable[tuple[str, ExecutorHealth]]]
    journal: JournalNumbers | None = None
    fleet: FleetNumbers | None = None


def registry_of(numbers: EngineNumbers | None) -> CollectorRegistry:
    """A registry of an engine's own; an empty one if there are no numbers to show."""
    registry = CollectorRegistry()
    if numbers is not None:
        registry.register(EngineCollector(numbers))
    return registry


class EngineCollector(Collector):
    """Makes the metrics of one engine at each scrape."""

    def __init__(self, numbers: EngineNumbers) -> None:
        self._numbers = numbers

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance: registering must not read numbers yet."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Read everything once."""
        graphs = list(self._numbers.graphs())
        yield from self._runs(graphs)
        yield from self._queue()
        yield from _nodes(graphs)
        yield from self._engine(graphs)
        if self._numbers.journal is not None:
            yield from _journal(self._numbers.journal)
        if self._numbers.fleet is not None:
            yield from _fleet(self._numbers.fleet)

    def _runs(self, graphs: Sequence[GraphNumbers]) -> Iterator[Metric]:
        submitted, ended = Counter[str](), Counter[tuple[str, str]]()
        durations: dict[str, Histogram] = {}
        for graph in graphs:
            submitted[graph.name] += graph.runs.submitted
            ended.update({(graph.name, status): number for status, number in graph.runs.ended.copy().items()})
            _add_up(durations, graph.name, graph.runs.durations)
        yield _counter("runs_submitted", "Runs accepted.", ["graph"], {(name,): n for name, n in submitted.items()})
        yield _counter("runs", "Runs that have ended, by how.", ["graph", "status"], ended)
        in_flight = {(name,): number for name, number in self._numbers.in_flight().items()}
        yield _gauge("runs_in_flight", "Runs that have started and not ended.", ["graph"], in_flight)
        help = "Time from the start of a run to its end."
        yield _histogram("run_duration_seconds", help, ["graph"], {(name,): one for name, one in durations.items()})

    def _queue(self) -> Iterator[Metric]:
        queued = self._numbers.queued()
        counts = Counter((name,) for name, _ in queued)
        yield _gauge("runs_queued", "Runs that wait for a place.", ["graph"], counts)
        oldest = max((time() - since for _, since in queued), default=0.0)
        yield _gauge("oldest_queued_seconds", "How long the oldest of them has waited.", [], {(): max(0.0, oldest)})
        rejected = {(reason,): number for reason, number in dict(self._numbers.rejected).items()}
        yield _counter("admission_rejected", "Submissions refused, by why.", ["reason"], rejected)

    def _engine(self, graphs: Sequence[GraphNumbers]) -> Iterator[Metric]:
        restarts = {(): self._numbers.restarts()}
        yield _counter("actor_restarts", "Restarts of actors by their supervisors.", [], restarts)
        found = self._numbers.dead_letters()
        letters = {(reason,): found.get(reason, 0) for reason in DEAD_LETTER_REASONS}
        yield _counter("dead_letters", "Messages that could not be delivered, by why.", ["reason"], letters)
        yield from _executors(list(self._numbers.executors()))
        lags: dict[tuple[str, ...], Waits] = {}
        for graph in graphs:
            _sum_waits(lags, (graph.name,), graph.lag)
        help = "Time from calling an idle worker to its turn: what the event loop lags behind."
        yield _summary("scheduler_lag_seconds", help, ["graph"], lags)
        built = {(_version(), platform.python_version(), platform.python_implementation()): 1}
        yield _gauge("build_info", "What is running.", ["version", "python", "implementation"], built)


def _journal(journal: JournalNumbers) -> Iterator[Metric]:
    for name, help, histogram in (
        ("journal_commit_seconds", "Time of a commit of the journal.", journal.commit_seconds),
        ("journal_batch_records", "Writes in one commit.", journal.batch_records),
    ):
        yield _histogram(name, help, [], {(): histogram})
    yield _counter("recovered_runs", "Runs that went on from the store.", [], {(): journal.recovered()})
    dropped = {(): journal.audit_dropped()}
    yield _counter("audit_lines_dropped", "Lines of the audit log that the store has missed.", [], dropped)
    help = "Whether the store takes writes: 0 while it does not, and for an engine that fell back to memory."
    yield _gauge("store_available", help, [], {(): int(journal.available())})


def _fleet(fleet: FleetNumbers) -> Iterator[Metric]:
    help = "What is left of the engine's lease of the store that it shares: 0 while it has none, and does nothing."
    yield _gauge("lease_seconds", help, [], {(): fleet.lease_seconds()})
    counts = fleet.counts
    for name, help, number in (
        ("lease_renewals_failed", "Attempts to renew the lease that failed.", counts.renewals_failed),
        ("leases_lost", "Leases that were over before they were renewed: all runs here stopped.", counts.leases_lost),
        ("runs_claimed", "Runs that waited for an engine and came to this one.", counts.claimed),
        ("runs_taken_over", "Runs that this engine took from others that were gone.", counts.taken_over),
        ("runs_poisoned", "Runs that were failed since too many engines were lost with them.", counts.poisoned),
    ):
        yield _counter(name, help, [], {(): number})


def _executors(known: Sequence[tuple[str, ExecutorHealth]]) -> Iterator[Metric]:
    help = "Threads, and other calls of executors, given up after a time-out that have not ended."
    yield _gauge("abandoned_threads", help, [], {(): sum(health.abandoned for _, health in known)})

    def by_name(number: Callable[[ExecutorHealth], float]) -> dict[tuple[str], float]:
        return {(name,): number(health) for name, health in known}

    labels = ["executor"]
    yield _gauge(
        "executor_up", "Whether it can run anything: 0 while it cannot.", labels, by_name(lambda h: not h.trouble)
    )
    yield _gauge("executor_running", "Calls under way.", labels, by_name(lambda h: h.running))
    yield _counter("executor_calls", "Calls begun.", labels, by_name(lambda h: h.started))
    help = "Workers killed since their call was cancelled."
    yield _counter("executor_killed_workers", help, labels, by_name(lambda h: h.killed))
    help = "Workers started in the place of one that was killed or had died."
    yield _counter("executor_worker_restarts", help, labels, by_name(lambda h: h.restarts))


class _Labels:
    """Names of nodes as labels, at most so many for each graph."""

    def __init__(self) -> None:
        self._known: dict[str, set[str]] = {}

    def of(self, graph: str, node: str) -> tuple[str, str]:
        known = self._known.setdefault(graph, set())
        if node not in known:
            if len(known) >= MOST_NODES:
                return graph, OTHERS
            known.add(node)
        return graph, node


class _NodeSums:
    """The numbers of all nodes, added up by label."""

    def __init__(self) -> None:
        self.outcomes = Counter[tuple[str, ...]]()
        self.retries = Counter[tuple[str, ...]]()
        self.in_flight = Counter[tuple[str, ...]]()
        self.depth = Counter[tuple[str, ...]]()
        self.channels = Counter[tuple[str, ...]]()
        self.loop_limits = Counter[tuple[str, ...]]()
        self.limits: dict[tuple[str, ...], float] = {}
        self.batches = Counter[tuple[str, ...]]()
        self.circuits = Counter[tuple[str, ...]]()
        self.opened = Counter[tuple[str, ...]]()
        self.refused = Counter[tuple[str, ...]]()
        self.cached = Counter[tuple[str, ...]]()
        self.entries = Counter[tuple[str, ...]]()
        self.durations: dict[tuple[str, ...], Histogram] = {}
        self.mailbox_waits: dict[tuple[str, ...], Waits] = {}
        self.join_waits: dict[tuple[str, ...], Waits] = {}
        self._labels = _Labels()

    def add_graph(self, graph: GraphNumbers) -> None:
        for node in graph.nodes():
            self._add_node(self._labels.of(graph.name, node.name), node)
        runs = graph.runs
        for (name, outcome), number in runs.inside.copy().items():
            self.outcomes[(*self._labels.of(graph.name, name), outcome)] += number
        for name, number in runs.retries.copy().items():
            self.retries[self._labels.of(graph.name, name)] += number
        for name, number in runs.loop_limits.copy().items():
            self.loop_limits[self._labels.of(graph.name, name)] += number
        for name, waits in runs.join_waits.copy().items():
            _sum_waits(self.join_waits, self._labels.of(graph.name, name), waits)

    def _add_node(self, label: tuple[str, str], node: NodeCounts) -> None:
        if not node.is_map:  # its items are none
            self.outcomes[(*label, "succeeded")] += node.done
            self.outcomes[(*label, "failed")] += node.failed - node.retries
            self.outcomes[(*label, "cancelled")] += node.cancelled
        # Half of what a scrape costs is the number of its lines: none for what cannot be anything but 0.
        if node.tries_again:
            self.retries[label] += node.retries
        if not node.unlimited:
            self.depth[label] += node.queued
        self.in_flight[label] += node.in_flight
        if node.tokens_waiting is not None:
            self.channels[label] += node.tokens_waiting
        self._add_policies(label, node)
        _add_up(self.durations, label, node.durations)
        if node.mailbox_waits.count:
            _sum_waits(self.mailbox_waits, label, node.mailbox_waits)

    def _add_policies(self, label: tuple[str, str], node: NodeCounts) -> None:
        limits, circuit, results = node.limits, node.circuit, node.results
        if limits.concurrency is not None:
            self.limits[(*label, "concurrency")] = limits.concurrency
        if limits.rate is not None:
            self.limits[(*label, "rate")] = limits.rate.count / limits.rate.seconds
        if limits.batch is not None:
            self.limits[(*label, "batch")] = limits.batch.size
            self.batches[label] += node.batches
        if circuit is not None:
            for state in get_args(CircuitState):
                self.circuits[(*label, state)] += circuit.state == state
            self.opened[label] += circuit.opened
            self.refused[label] += circuit.refused
        if results is not None:
            for how, number in (("hit", results.hits), ("shared", results.shared), ("miss", results.misses)):
                self.cached[(*label, how)] += number
            self.entries[label] += len(results)


def _nodes(graphs: Iterable[GraphNumbers]) -> Iterator[Metric]:
    sums = _NodeSums()
    for graph in graphs:
        sums.add_graph(graph)
    labels = ["graph", "node"]
    yield _counter("activations", "Activations that are over, by how.", [*labels, "outcome"], +sums.outcomes)
    help = "Time of an attempt in its function; of a map, for each item."
    yield _histogram("node_duration_seconds", help, labels, sums.durations)
    yield _counter("node_retries", "Attempts that were followed by another.", labels, sums.retries)
    yield _gauge("node_in_flight", "Attempts that are under way.", labels, sums.in_flight)
    yield _gauge("mailbox_depth", "Attempts that wait for the node's limits to allow them.", labels, sums.depth)
    yield _summary("mailbox_wait_seconds", "How long such attempts waited.", labels, sums.mailbox_waits)
    help = "Tokens that wait, ready to run, on the node's incoming edges with a capacity."
    yield _gauge("channel_depth", help, labels, sums.channels)
    yield _counter("loop_limit_hits", "Edges not taken since their loop was at its limit.", labels, sums.loop_limits)
    help = "What a node is limited to: attempts at once, starts a second, states in a batch."
    yield _gauge("node_limit", help, [*labels, "limit"], sums.limits)
    yield _counter("node_batches", "Calls with a batch of states.", labels, sums.batches)
    help = (
        "Circuit breakers, by state: 1 is the one it is in. Half open is one that tries whether the node works again."
    )
    yield _gauge("breaker_state", help, [*labels, "state"], sums.circuits)
    yield _counter("breaker_opened", "How often the node was found to fail too often.", labels, sums.opened)
    yield _counter("breaker_refused", "Attempts failed with NodeUnavailable.", labels, sums.refused)
    help = "Attempts of nodes with a cache: found there (hit), waited for another (shared), or computed (miss)."
    yield _counter("cache_requests", help, [*labels, "result"], sums.cached)
    yield _gauge("cache_entries", "Results kept.", labels, sums.entries)
    yield _summary("join_wait_seconds", "From a join's first token to its start.", labels, sums.join_waits)


def _counter(name: str, help: str, labels: Sequence[str], values: ByLabels) -> Metric:
    family = Numbers(f"workflow_{name}", help, "counter", labels)
    family.rows += values.items()
    return family


def _gauge(name: str, help: str, labels: Sequence[str], values: ByLabels) -> Metric:
    family = Numbers(f"workflow_{name}", help, "gauge", labels)
    family.rows += values.items()
    return family


def _summary(name: str, help: str, labels: Sequence[str], values: Mapping[tuple[str, ...], Waits]) -> Metric:
    family = Summaries(f"workflow_{name}", help, "summary", labels)
    for label, waits in values.items():
        family.add(label, (waits.count, waits.seconds))
    return family


def _histogram(name: str, help: str, labels: Sequence[str], values: Mapping[tuple[str, ...], Histogram]) -> Metric:
    family = Histograms(f"workflow_{name}", help, "histogram", labels)
    for label, histogram in values.items():
        # As it is now: it may be counted on while this is written.
        family.add(label, (histogram.bounds, histogram.buckets.copy(), histogram.seconds))
    return family


def _add_up(sums: dict[K, Histogram], key: K, more: Histogram) -> None:
    known = sums.get(key)
    if known is None:
        known = sums[key] = Histogram(more.bounds)
    known.include(more)


def _sum_waits(sums: dict[K, Waits], key: K, more: Waits) -> None:
    known = sums.get(key)
    if known is None:
        known = sums[key] = Waits()
    known.count += more.count
    known.seconds += more.seconds


def _version() -> str:
    try:
        return version("workflow-engine")
    except PackageNotFoundError:
        return "unknown"
