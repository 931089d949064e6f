"""The reference: one run of a graph, step by step, as SEMANTICS.md says it.

Nothing is clever here, and nothing is remembered that can be asked for. The only freedom is `choose`,
which says which of the running activations ends next. Here an activation starts, ends, is settled in
order and may fail (sections 5 and 8); how states merge is in `merging` (3), which edges are taken in
`routing` (4 and 6), when a join goes in `joining` (5), what one node does in `attempts` (7 and 8).
"""

from collections.abc import Callable, Sequence

from .attempts import work
from .joining import Activation, Joining
from .merging import States, Token
from .outcome import Failure, Outcome, freeze
from .routing import Router
from .spec import END, STOP, GraphSpec
from .topology import Channel


class RunOver(Exception):
    """The run ends here and now."""


class Interpreter(Joining):
    def __init__(self, spec: GraphSpec, choose: Callable[[int], int]) -> None:
        super().__init__(spec)
        self.choose = choose
        self.states, self.router = States(spec, self.facts), Router(self.graph, self.facts)
        self.ended: list[tuple[tuple[int, int, int], Token]] = []

    def run(self) -> Outcome:
        try:
            for edge in (edge for edge in self.graph.edges if edge.kind == "entry"):
                self.deliver(edge, Token())
            while self.start_joins() or self.running:
                unfinished = [activation for activation in self.running if not activation.over]
                self.facts["concurrency"] = max(self.facts["concurrency"], len(unfinished))
                self.finish(unfinished[self.choose(len(unfinished))])
            if not self.outcome.errors:
                final = self.states.merge([token for _, token in sorted(self.ended, key=lambda end: end[0])])
                self.outcome.state = self.states.of(final)
        except Failure as conflict:
            self.outcome.errors[END, 0, 0, str(conflict)] += 1
        except RunOver:
            pass
        stopped = self.outcome.state is not None
        self.outcome.status = "succeeded" if stopped or not self.outcome.errors else "failed"
        return self.outcome

    def start(self, name: str, tokens: Sequence[Token], fault: str | None = None) -> None:
        if self.started.total() == self.spec.max_activations:
            self.outcome.errors[name, self.started[name] + 1, 0, "ActivationLimit"] += 1
            raise RunOver
        self.started[name] += 1
        number = self.started[name]
        try:
            token = self.states.merge(tokens)
        except Failure as conflict:
            fault = fault or str(conflict)
        if fault is not None:
            return self.fail(name, number, 0, fault)
        token = Token(token.history, token.counts, token.causes | {f"{name}#{number}"})
        state, node = self.states.of(token), self.spec.node(name)
        self.running.append(Activation(name, number, token, state, *work(node, state, number)))
        self.outcome.activations[name, number, None if node.map else freeze(state)] += 1
        assert self.outcome.iterations is not None
        self.outcome.iterations[name, number, 1 + max(token.counts.values(), default=0)] += 1

    def finish(self, activation: Activation) -> None:
        activation.over = True
        if self.spec.on_failure == "cancel" and activation.error and not self.repair(activation):
            self.settle(activation)  # a failure that ends the run does so at once
        for first in [other for other in self.running if other.node == activation.node]:
            if not first.over:
                break
            self.settle(first)
            self.running.remove(first)

    def settle(self, activation: Activation) -> None:
        token, answer, error = activation.token, activation.answer, activation.error
        self.facts["retry"] += activation.attempts > 1
        if error is None and self.spec.typed and any(key not in activation.state for key in answer.changes):
            error = activation.error = "UnknownKey"
        try:
            if error is not None:
                edges = self.repair(activation)
            else:
                token = self.states.updated(token, activation.state, answer)
                edges = self.router.taken(activation.node, answer, token, self.states.of(token))
        except Failure as failure:
            edges, error = [], str(failure)
        if error is not None and not edges:
            self.fail(activation.node, activation.number, activation.attempts, error)
        elif not edges:
            self.end(activation, token, 0)
        for edge in edges:
            self.send(edge, self.router.along(edge, token), activation)

    def repair(self, activation: Activation) -> list[Channel]:
        return self.router.repair(activation.node, activation.error or "", activation.token)

    def send(self, edge: Channel, token: Token, activation: Activation) -> None:
        assert self.outcome.routes is not None
        self.outcome.routes[activation.node, activation.number, edge.target] += 1
        self.facts["error edge"] += edge.kind == "error"
        self.facts["goto"] += activation.answer.goto is not None
        if edge.target == STOP:
            self.outcome.state = self.states.of(token)
            raise RunOver
        if edge.target == END:
            self.end(activation, token, edge.index)
        else:
            self.deliver(edge, token)

    def end(self, activation: Activation, token: Token, edge: int) -> None:
        self.ended.append(((self.graph.names.index(activation.node), activation.number, edge), token))

    def fail(self, node: str, number: int, attempts: int, cause: str) -> None:
        self.outcome.errors[node, number, attempts, cause] += 1
        self.failed.append(node)
        if self.spec.on_failure == "cancel":
            raise RunOver


def interpret(spec: GraphSpec, choose: Callable[[int], int] | None = None) -> Outcome:
    """Run a spec once; `choose(n)` picks which of n running activations ends next (the oldest if None)."""
    return Interpreter(spec, choose or (lambda _: 0)).run()
