"""How tokens arrive at nodes and activations begin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .branches import Branches
from .errors import ActivationLimit, JoinStarved
from .plan import JOIN_ALL, JOIN_COUNT, PlanEdge, PlanNode
from .routes import largest
from .state import Values
from .tokens import DONE, HELD, RUNNING, Activation, Counts, Descent, ErrorInfo, Outcome, Record, Token
from .writes import PARTING, Log

_NO_VALUES: Values = {}


class Starting(Branches):
    """The layer that starts activations."""

    __slots__ = ()

    def _enter(self, values: Values) -> None:
        self._state = "running"
        if self.plan.absorbs:
            self._initial = values
        elif self._initial:
            self._initial = _NO_VALUES  # it was queued: its branches have them now
        entries = self.plan.entries
        log: Log | None = PARTING if len(entries) > 1 or self.tracked else None
        for edge in entries:
            self._deliver(edge, 0, values, log, None, None, None, None)
        self._join()

    def _deliver(
        self,
        edge: PlanEdge,
        came_from: int,
        values: Values,
        log: Any,
        counts: Counts | None,
        descent: Descent | None,
        error: ErrorInfo | None,
        record: Record | None,
    ) -> None:
        """A token takes an edge into a node: it starts it, or joins those that wait there."""
        node = edge.target
        assert node is not None
        self.next_token += 1
        if node.join or self.pool is not None:
            token = Token(self.next_token, edge, came_from, values, log, counts, descent, error)
            if self.pool is not None:
                self.pool[token.id] = token
                return
            if not self.joins.arrive(token):
                if record is not None:
                    record.absorbed.append(token.id)
                data = {"edge": edge.name}
                self.history.event("token_absorbed", self.tree.now, self.prefix + node.name, None, data)
            return
        activation = Activation(
            self.run,
            node,
            self._number(node),
            values,
            log,
            counts,
            descent,
            (self.next_token,),
            edge,
            came_from,
        )
        activation.error = error
        self._begin(activation, None)

    def start_join(self, node: PlanNode, tokens: list[Token], fault: Exception | None = None) -> int:
        """Run a join with these tokens, given in the order of their edges; gives the activation's number."""
        number = self._number(node)
        failed_ways = self._failed_ways(node, tokens)
        if fault is None and failed_ways and node.needed == len(node.ins):
            fault = self._lacking(node, tokens, failed_ways)
        activation, conflict = self.gather(node, tokens, number)
        if failed_ways:
            activation.failed_ways = failed_ways
        self._begin(activation, fault or conflict)
        return number

    def gather(self, node: PlanNode, tokens: Sequence[Token], number: int) -> tuple[Activation, Exception | None]:
        """An activation with all that these tokens carry, and what is wrong with merging them."""
        conflict: Exception | None = None
        try:
            alone = not self.active and self._no_other_branches()
            values, log = self._merged(node.name, tokens, alone=alone)
        except Exception as error:
            conflict = error
            values, log = self._taken_as_last(node.name, tokens)
        info: ErrorInfo | None = None
        plain = node.join == JOIN_ALL
        for token in tokens:
            if info is None:
                info = token.error
            if token.counts or token.descent is not None:
                plain = False
        counts = None if plain else largest([token.counts for token in tokens])
        descent = None if plain else self._descent(node, tokens, number)
        ids, first = tuple([token.id for token in tokens]), tokens[0]
        activation = Activation(self.run, node, number, values, log, counts, descent, ids, first.edge, first.number)
        activation.error = info
        activation.arrived = tuple(tokens)
        return activation, conflict

    def _descent(self, node: PlanNode, tokens: Sequence[Token], number: int) -> Descent | None:
        """The `first` and k joins that the activation's tokens descend from and can come back to."""
        merged: Descent = {}
        for token in tokens:
            if token.descent is not None:
                for join, numbers in token.descent.items():
                    merged[join] = merged.get(join, frozenset()) | numbers
        if node.cyclic and node.join == JOIN_COUNT:
            waiting = self.joins.at.get(node.index)
            open_waves = {wave.activation for wave in waiting.waves} if waiting is not None else set()
            merged[node.index] = (merged.get(node.index, frozenset()) & open_waves) | {number}
        return merged or None

    def _kept_descent(self, descent: Descent, target: PlanNode) -> Descent | None:
        nodes = self.plan.nodes
        kept = {join: n for join, n in descent.items() if nodes[join].component == target.component}
        return kept or None

    def _failed_ways(self, node: PlanNode, tokens: Sequence[Token]) -> frozenset[int]:
        """The incoming edges that brought nothing and that a failed activation could have reached."""
        if not self.failed_ones:
            return frozenset()
        came = {token.edge.slot for token in tokens}
        ranks = 0
        here = False
        for activation in self.failed_ones:
            here = here or activation.node is node
            ranks |= 1 << activation.node.rank
        if here:
            for edge in node.outs:
                if edge.target is not None:
                    ranks |= 1 << edge.target.rank
        return frozenset(
            edge.slot
            for edge in node.ins
            if edge.slot not in came and ((here and edge.source is node) or self.plan.reach(edge).among(ranks) >= 0)
        )

    def _lacking(self, node: PlanNode, tokens: Sequence[Token], failed_ways: frozenset[int]) -> JoinStarved:
        came = {token.edge.slot for token in tokens}
        arrived = [edge.source_name for edge in node.ins if edge.slot in came]
        missing = [edge.source_name for edge in node.ins if edge.slot in failed_ways]
        fault = JoinStarved(node.name, len(arrived) + len(missing), arrived, missing)
        fault.__cause__ = self.failures[0]
        return fault

    def _begin(self, activation: Activation, fault: Exception | None) -> None:
        """A new activation is live; start it, unless something forbids that from the outset."""
        self._link(activation)
        if self.started >= self._limit:
            fault = ActivationLimit(self._limit, activation.node.name)
        if fault is not None:
            activation.stage = "start"
            activation.status = DONE
            activation.outcome = Outcome(error=fault)
            index = activation.node.index
            self.unstarted = {**self.unstarted, index: self.unstarted.get(index, 0) + 1}
            self._defer(lambda: self._fail_start(activation))
            return
        self.started += 1
        tree, node = self.tree, activation.node
        if node.kind != "function" or tree.paused:
            self._run_node(activation)
            return
        name = self.prefix + node.name
        tree.history.started(tree.now, name, activation.number, 1)
        try:
            activation.state = node.input.give(activation.values)
        except Exception as error:
            self._cannot_begin(activation, error)
            return
        tree.executing += 1
        tree.out.append(activation)

    def _run_node(self, activation: Activation) -> None:
        tree = self.tree
        if tree.paused:
            activation.status = HELD
            tree.hold(activation)
        else:
            self._order(activation)

    def _order(self, activation: Activation) -> None:
        """Start a live activation's work, by what its node is."""
        node, tree = activation.node, self.tree
        name = self.prefix + node.name
        tree.history.started(tree.now, name, activation.number, activation.attempt)
        self._order_attempt(activation)

    def _order_attempt(self, activation: Activation) -> None:
        node = activation.node
        if activation.index >= 0:
            self._order_item(activation)
        elif node.kind == "function":
            try:
                activation.state = node.input.give(activation.values)
            except Exception as error:
                self._cannot_begin(activation, error)
                return
            activation.status = RUNNING
            self.tree.executing += 1
            self.tree.out.append(activation)
        elif node.kind == "wait":
            self._park(activation)
        elif node.kind == "map":
            self._begin_map(activation)
        else:
            self._begin_inside(activation)
