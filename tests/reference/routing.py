"""Section 4, which edges are taken, and section 6, how often."""

from collections import Counter
from typing import Any

from .merging import Token
from .outcome import Failure
from .spec import ERRORS, Answer
from .topology import Channel, Topology


class Router:
    def __init__(self, graph: Topology, facts: Counter[str]) -> None:
        self.graph, self.facts = graph, facts

    def taken(self, node: str, answer: Answer, token: Token, state: dict[str, Any]) -> list[Channel]:
        """The edges that a settled activation sends tokens along: none where its branch ends."""
        if answer.goto is not None:
            return [self.jump(node, target, token) for target in answer.goto]
        drawn = [edge for edge in self.graph.out[node] if edge.kind not in ("error", "goto")]
        wanted = [edge for edge in drawn if holds(edge, state) and self.allowed(edge, token)]
        if all(edge.kind == "plain" for edge in wanted):
            wanted += [edge for edge in drawn if edge.kind == "otherwise" and self.allowed(edge, token)]
        if drawn and not wanted:
            raise Failure("NoRoute")
        return sorted(wanted, key=lambda edge: edge.index)

    def jump(self, node: str, target: str, token: Token) -> Channel:
        """A `Goto` along an edge is that edge: the unconditional one, else the first declared."""
        along = [edge for edge in self.graph.out[node] if edge.target == target]
        edge = next((edge for edge in along if edge.kind == "plain"), along[0])
        if self.at_limit(edge, token):
            raise Failure("LoopLimit")
        return edge

    def repair(self, node: str, error: str, token: Token) -> list[Channel]:
        """The first error edge that matches; at its limit one is as if it were not there."""
        raised = {**ERRORS, "UnknownKey": ValueError}.get(error, Exception)
        edges = [e for e in self.graph.out[node] if e.kind == "error" and issubclass(raised, ERRORS[e.on_error])]
        return [edge for edge in edges if not self.at_limit(edge, token)][:1]

    def allowed(self, edge: Channel, token: Token) -> bool:
        at_limit = self.at_limit(edge, token)
        if at_limit and self.graph.limits[edge.index][1] == "fail":
            raise Failure("LoopLimit")
        return not at_limit

    def at_limit(self, edge: Channel, token: Token) -> bool:
        limit, _ = self.graph.limits.get(edge.index, (None, ""))
        reached = limit is not None and token.counts.get(edge.index, 0) >= limit
        self.facts["limit hit"] += reached
        return reached

    def along(self, edge: Channel, token: Token) -> Token:
        """The token on the far side of an edge: counts of loops it is inside of, anew where it entered."""
        counts = {}
        for limited, loop in self.graph.loops.items():
            if edge.target in loop:
                before = token.counts.get(limited, 0) if edge.source in loop else 0
                counts[limited] = before + (limited == edge.index)
        return Token(token.history, counts, token.causes)


def holds(edge: Channel, state: dict[str, Any]) -> bool:
    if edge.choice is not None:
        answer = edge.choice(state)
        names = () if answer is None else (answer,) if isinstance(answer, str) else answer
        if any(name not in edge.choice.targets for name in names):
            raise Failure("UnknownRoute")
        return edge.target in names
    try:
        return edge.kind == "plain" or (edge.when is not None and edge.when(state))
    except ZeroDivisionError:
        raise Failure("ZeroDivisionError") from None
