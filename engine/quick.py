"""The short way: what settling does, in one go, where nothing out of the ordinary is about.

Nearly every activation of a run that has forked succeeds, has nobody of its node before or behind it, and takes
edges that depend on nothing, to functions or to `all` joins. What `settling.py` does for it in fifteen steps is done
here in three, with the same results in the same order: a branch costs half as much.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .going_on import GoingOn
from .history import RawLog, Way
from .plan import PlanEdge, PlanNode
from .routes import travel
from .state import Values
from .tokens import SETTLED, Activation, Counts, Token
from .writes import PARTING, Log


class Quick(GoingOn):
    """The layer of the short way."""

    __slots__ = ()

    def _move_on(
        self, activation: Activation, update: Mapping[str, Any] | None, changed: Mapping[str, Any], raw: RawLog
    ) -> bool:
        """Settle an activation that succeeded; false if it is not as simple as that, and nothing has happened.

        For runs that are neither paused, nor replayed, nor recorded.
        """
        node, edges = activation.node, activation.node.moves
        if (
            edges is None
            or activation.ahead is not None
            or activation.behind is not None
            or activation.descent is not None
            or self.started + len(edges) > self._limit
            or (len(self.active) == 1 and activation.log is not None)  # there may be something to forget
        ):
            return False
        if update:
            self._write(activation, update, changed)
        tree, joins = self.tree, self.joins
        activation.status = SETTLED
        del self.active[activation]
        self.last[node.index] = None
        tree.executing -= 1
        if joins.count:
            joins.left(node)
        log = activation.log
        if len(edges) > 1:
            self._fork(activation, edges, PARTING if log is None else log, raw)
        else:
            edge = edges[0]
            target: PlanNode = edge.target  # type: ignore[assignment]  # a move leads to a node
            counts = activation.counts
            if counts is not None:
                counts = travel(self.plan, counts, edge)
            if target.join:
                tree.history.arrived(raw, target.name)
                self._arrive(edge, activation, log, counts)
            else:
                following = self._follow(edge, target, activation.values, log, counts, activation.number)
                tree.history.step(raw, target.name, self.prefix + target.name, following.number)
        if not self.active or joins.to_check or joins.knots:
            self._join()
        return True

    def _fork(self, activation: Activation, edges: tuple[PlanEdge, ...], log: Log, raw: RawLog) -> None:
        prefix, counts = self.prefix, activation.counts
        ways: list[Way] = []
        started: list[str] = []
        for edge in edges:
            target: PlanNode = edge.target  # type: ignore[assignment]
            carried = counts if counts is None else travel(self.plan, counts, edge)
            if target.join:
                ways.append(target.name)
                self._arrive(edge, activation, log, carried)
            else:
                following = self._follow(edge, target, activation.values, log, carried, activation.number)
                name = prefix + target.name
                ways.append((target.name, name, following.number))
                started.append(name)
        self.tree.history.forked(raw, tuple(ways), started)

    def _arrive(self, edge: PlanEdge, activation: Activation, log: Log | None, counts: Counts | None) -> None:
        self.next_token += 1
        self.joins.arrive(Token(self.next_token, edge, activation.number, activation.values, log, counts, None, None))

    def start_join(self, node: PlanNode, tokens: list[Token], fault: Exception | None = None) -> int:
        """As always; in one go where nothing failed and whatever can come has come."""
        tree = self.tree
        if not self.joins.trusting or node.kind != "function" or tree.careful or self.started >= self._limit:
            return super().start_join(node, tokens, fault)
        alone = not self.active and self._no_other_branches()
        try:
            values, log = self._merged(node.name, tokens, alone=alone)
        except Exception:
            return super().start_join(node, tokens, fault)  # which says what is wrong with it
        first = tokens[0]
        ids = tuple([token.id for token in tokens])
        # No counts: what comes to such a join has taken no edge that closes a loop.
        following = self._live(first.edge, node, values, log, None, ids, first.number)
        following.arrived = tuple(tokens)
        tree.history.started(tree.now, self.prefix + node.name, following.number, 1)
        return following.number

    def _follow(
        self, edge: PlanEdge, target: PlanNode, values: Values, log: Log | None, counts: Counts | None, came_from: int
    ) -> Activation:
        """The next activation, by a token of its own."""
        self.next_token = token = self.next_token + 1
        return self._live(edge, target, values, log, counts, (token,), came_from)

    def _live(
        self,
        edge: PlanEdge,
        target: PlanNode,
        values: Values,
        log: Log | None,
        counts: Counts | None,
        tokens: tuple[int, ...],
        came_from: int,
    ) -> Activation:
        """An activation, live and ordered."""
        tree, index = self.tree, target.index
        if self.reserved:
            number = self._number(target)
        else:
            self.numbers[index] = number = self.numbers[index] + 1
        following = Activation(self.run, target, number, values, log, counts, None, tokens, edge, came_from)
        if self.last[index] is None:
            self.last[index] = following
            self.active[following] = None
            if self.joins.count:
                self.joins.started(target)
        else:
            self._link(following)
        self.started += 1
        try:
            following.state = target.input.give(values)
        except Exception as error:
            self._cannot_begin(following, error)
        else:
            tree.executing += 1
            tree.out.append(following)
        return following
