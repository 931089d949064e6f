"""What an engine counts over all its graphs: told at once as a snapshot, and to Prometheus whenever it looks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from actors import ActorRef, NullObserver, Tree

from .books import Books
from .errors import EngineError
from .ports import Executor
from .registry import Registered, Registry

if TYPE_CHECKING:
    from prometheus_client.registry import CollectorRegistry

    from .durable import Durable
    from .fleet import Fleet


@attrs.frozen
class EngineStatistics:
    """What an engine has taken on."""

    running: int
    queued: int
    submitted: int
    ended: Mapping[str, int]
    refused: int


class Restarts(NullObserver):
    """Counts what supervisors start anew."""

    def __init__(self) -> None:
        self.count = 0

    def restarting(self, ref: ActorRef[Any], incarnation: int, delay: float) -> None:
        """One more."""
        self.count += 1


class Tally:
    """The numbers of one engine, and of what it has outlived."""

    def __init__(
        self,
        registry: Registry,
        books: Books,
        durable: Durable | None,
        executors: Sequence[tuple[str, Executor]],
        actors: Tree,
        restarts: Restarts,
        *,
        shows_metrics: bool,
    ) -> None:
        self.fleet: Fleet | None = None
        """Set if it shares its store."""
        self._registry = registry
        self._books = books
        self._durable = durable
        self._executors = executors
        self._actors = actors
        self._restarts = restarts
        self._past: list[EngineStatistics] = []
        self._rejected: dict[str, int] = {}
        self._shows_metrics = shows_metrics
        self._metrics: CollectorRegistry | None = None

    def reject(self, error: EngineError) -> None:
        """A run was submitted, and not accepted."""
        reason = _reason(error)
        self._rejected[reason] = self._rejected.get(reason, 0) + 1

    def keep(self, past: EngineStatistics) -> None:
        """Count what is over and gone."""
        self._past.append(past)

    def keep_ended(self, known: Registered) -> None:
        """Count the runs of a graph that is not known any more."""
        self._past.append(EngineStatistics(0, 0, 0, dict(known.counts.ended), 0))

    def statistics(self) -> EngineStatistics:
        """A snapshot."""
        ended: Counter[str] = Counter()
        for known in self._registry.ever():
            ended.update(known.counts.ended)
        books = self._books
        submitted, refused = books.submitted, books.refused
        for past in self._past:
            ended.update(past.ended)
            submitted += past.submitted
            refused += past.refused
        return EngineStatistics(books.running, len(books.queued), submitted, dict(ended), refused)

    @property
    def metrics(self) -> CollectorRegistry:
        """What Prometheus asks."""
        if self._metrics is None:
            # Not at the top: it brings an HTTP server along, 50 ms for everybody who imports the engine.
            from .metrics import EngineNumbers, FleetNumbers, GraphNumbers, JournalNumbers, registry_of

            def graphs() -> list[GraphNumbers]:
                return [
                    GraphNumbers(known.plan.name, known.counts, known.scheduler.all_crews, known.scheduler.hands.lag)
                    for known in self._registry.ever()
                ]

            durable = self._durable
            kept = None
            if durable is not None:
                recovered, available = lambda: durable.recovered, lambda: durable.available
                kept = JournalNumbers(
                    durable.commit_seconds,
                    durable.batch_records,
                    recovered,
                    available,
                    lambda: durable.audit_log.dropped,
                )
            fleet = self.fleet
            numbers = EngineNumbers(
                graphs=graphs,
                in_flight=lambda: Counter(run.graph for run in list(self._books.active.values()) if run.counted),
                queued=lambda: [(run.graph, run.submitted_at) for run in self._books.queued],
                rejected=self._rejected,
                dead_letters=self._actors.letters.counts.copy,
                restarts=lambda: self._restarts.count,
                executors=lambda: [(name, executor.health()) for name, executor in self._executors],
                journal=kept,
                fleet=None if fleet is None else FleetNumbers(fleet.standing.counts, lambda: fleet.lease.seconds_left),
            )
            self._metrics = registry_of(numbers if self._shows_metrics else None)
        return self._metrics


def _reason(error: EngineError) -> str:
    """An error's class as a label: `engine_busy`."""
    return re.sub(r"(?<=.)(?=[A-Z])", "_", type(error).__name__).lower()
