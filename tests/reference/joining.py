"""Section 5: who waits at a join, for what, and when it goes.

Tokens wait per incoming edge, in order. Whether something can still come is asked of the drawn graph
each time, from every place where a live token is.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from attrs import Factory, define

from .merging import Token
from .outcome import Outcome
from .spec import Answer, GraphSpec
from .topology import Channel, topology


@define(eq=False)
class Activation:
    node: str
    number: int
    token: Token  # what it was given
    state: dict[str, Any]
    attempts: int
    error: str | None
    answer: Answer
    over: bool = False


@define(eq=False)
class Wave:
    arrived: dict[int, Token] = Factory(dict)
    activation: str | None = None


class Joining:
    """The half of a run that decides about joins; the other half says how to `start` an activation."""

    def __init__(self, spec: GraphSpec) -> None:
        self.spec, self.graph, self.outcome = spec, topology(spec), Outcome()
        self.facts = self.outcome.facts
        self.waiting: dict[int, list[Token]] = defaultdict(list)  # at `all` joins, by edge, in order
        self.waves: dict[str, list[Wave]] = defaultdict(list)  # at `first` and k joins
        self.started: Counter[str] = Counter()
        self.running: list[Activation] = []  # running or not yet settled, oldest first
        self.failed: list[str] = []  # the nodes of activations that failed

    def start(self, name: str, tokens: Sequence[Token], fault: str | None = None) -> None:
        raise NotImplementedError

    def deliver(self, edge: Channel, token: Token) -> None:
        join = self.spec.node(edge.target).join
        if len(self.graph.into[edge.target]) == 1 or join == "any":
            self.start(edge.target, [token])
        elif join == "all":
            self.waiting[edge.index].append(token)
        else:
            self.arrive_in_wave(edge, token, 1 if join == "first" else int(join))

    def arrive_in_wave(self, edge: Channel, token: Token, k: int) -> None:
        waves = self.waves[edge.target]
        if not any(edge.index not in w.arrived and w.activation not in token.causes for w in waves):
            waves.append(Wave())
        wave = next(w for w in waves if edge.index not in w.arrived and w.activation not in token.causes)
        wave.arrived[edge.index] = token
        if wave.activation is None and len(wave.arrived) == k:
            wave.activation = f"{edge.target}#{self.started[edge.target] + 1}"
            self.start(edge.target, [wave.arrived[index] for index in sorted(wave.arrived)])

    def start_joins(self) -> bool:
        """Start every join that waits for nothing more; where joins wait for each other, the first."""
        tied = True
        while tied:
            for name in self.graph.names:
                while self.is_complete(name):
                    self.start_join(name)
                self.close_waves(name)
            tied = self.untie_knot()
        return bool(self.running)

    def is_complete(self, join: str) -> bool:
        missing = [edge for edge in self.graph.into[join] if not self.waiting[edge.index]]
        if len(missing) == len(self.graph.into[join]):
            return False
        nodes = [node for node, _ in self.live(join)]
        return not any(self.may_come(edge, nodes) for edge in missing)

    def live(self, join: str) -> Iterator[tuple[str, frozenset[str]]]:
        """Where the tokens are that a join may have to wait for, and what they descend from."""
        yield from ((activation.node, activation.token.causes) for activation in self.running)
        for name in self.graph.names:
            yield from ((name, token.causes) for token in self.held(name) if name != join)

    def held(self, join: str) -> list[Token]:
        in_waves = [token for w in self.waves[join] if w.activation is None for token in w.arrived.values()]
        return in_waves + [token for edge in self.graph.into[join] for token in self.waiting[edge.index]]

    def may_come(self, edge: Channel, nodes: Sequence[str]) -> bool:
        """Whether something at one of these nodes may still come by this edge without passing its join."""
        join, source = edge.target, edge.source
        if source is None or source == join:  # an entry delivers once; an edge to itself: its own activations
            return source is not None and join in nodes
        places = [place for node in nodes for place in (self.graph.successors(join) if node == join else [node])]
        return any(self.graph.reaches(place, source, join) for place in places)

    def start_join(self, join: str) -> None:
        incoming = self.graph.into[join]
        lacking = any(not self.waiting[e.index] and self.may_come(e, self.failed) for e in incoming)
        tokens = [self.waiting[edge.index].pop(0) for edge in incoming if self.waiting[edge.index]]
        self.facts["join of several"] += len(tokens) > 1
        self.facts["join again"] += len(tokens) > 1 and self.started[join] > 0
        self.start(join, tokens, "JoinLacksFailed" if lacking else None)

    def close_waves(self, join: str, starve: bool = False) -> None:
        for wave in list(self.waves[join]):
            nodes = [node for node, causes in self.live(join) if wave.activation not in causes]
            missing = [edge for edge in self.graph.into[join] if edge.index not in wave.arrived]
            if (starve and wave.activation is None) or not any(self.may_come(edge, nodes) for edge in missing):
                self.waves[join].remove(wave)
                if wave.activation is None:
                    self.start(join, list(wave.arrived.values()), "JoinStarved")

    def untie_knot(self) -> bool:
        tied = [name for name in self.graph.names if self.held(name)]
        tied.sort(key=lambda name: (self.graph.components[name], self.spec.node(name).join != "all"))
        for join in tied:  # the order of declaration is kept among equals
            if not any(self.graph.reaches(activation.node, join) for activation in self.running):
                self.facts["knot"] += 1
                self.start_join(join) if self.spec.node(join).join == "all" else self.close_waves(join, starve=True)
                return True
        return False
