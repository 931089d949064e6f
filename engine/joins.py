"""Joins: tokens that wait for others, and what each join still waits for.

A join asks one question again and again: can a live token still come by this
edge? It is answered by `&` of two integers, the ranks where tokens are and the
edge's reach. So as not to ask it at every step, a join remembers one place that
it waits for (its witness) and asks again only when nothing is there any more:
a join of n branches costs n questions in all, not n each step.

Within one wait the answer "no longer" is final, since tokens only come from
tokens. So the search for a witness goes on where it ended and never back.

Most graphs have no choices before their joins: there one token comes by each
way, unless something fails (`Plan.sure`). Such joins ask nothing and are told
nothing of who leaves; they count. At the first failure they begin to ask.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .errors import JoinStarved
from .plan import JOIN_ALL, Plan, PlanEdge, PlanNode
from .tokens import DONE, Token

if TYPE_CHECKING:
    from .runs import Run


# What a run that never forks does without.
_NOT_YET: Any = None
_NO_JOINS: Any = MappingProxyType({})
# What a join has behind the first token of each edge, mostly.
_NO_TOKENS: Any = MappingProxyType({})


class Wave:
    """One wave of a `first` or `k` join: at most one arrival per edge, fired at the k-th."""

    __slots__ = ("activation", "arrived", "delivered")

    def __init__(self) -> None:
        self.arrived: dict[int, Token] = {}
        self.delivered: set[int] = set()
        self.activation = 0
        """The number of its activation, once it has fired."""


class Waiting:
    """What one join holds: tokens per incoming edge (`all`) or waves (`first`, `k`)."""

    __slots__ = ("behind", "count", "first", "node", "pointer", "since", "successors", "waves", "witness")

    def __init__(self, node: PlanNode) -> None:
        self.node = node
        self.count = 0
        """Tokens that wait here."""
        self.since = 0.0
        """When the first of them came, or the last activation started if that was later."""
        self.first: dict[int, Token] = {}
        """By slot, the token that came first."""
        self.behind: dict[int, list[Token]] = _NO_TOKENS
        """By slot, those that came after it, if there are any."""
        self.waves: list[Wave] = []
        self.pointer = 0
        self.witness = -1
        self.successors = 0
        if node.cyclic:
            for edge in node.outs:
                if edge.target is not None:
                    self.successors |= 1 << edge.target.rank

    def tokens(self) -> Iterator[Token]:
        for slot in sorted(self.first):
            yield from self.queue(slot)
        for wave in self.waves:
            if not wave.activation:
                yield from (wave.arrived[slot] for slot in sorted(wave.arrived))

    def queue(self, slot: int) -> list[Token]:
        """The tokens of an edge that has some, in the order of their arrival."""
        return [self.first[slot], *self.behind.get(slot, ())]

    def missing(self) -> list[PlanEdge]:
        """The edges that an activation would still lack."""
        if self.node.join == JOIN_ALL:
            return [edge for edge in self.node.ins if edge.slot not in self.first]
        wave = self.open_wave()
        return [e for e in self.node.ins if wave is not None and e.slot not in wave.delivered]

    def open_wave(self) -> Wave | None:
        """The first wave that has arrivals and has not fired."""
        return next((wave for wave in self.waves if not wave.activation), None)


class Joins:
    """All joins of one run. The run tells it of arrivals and of places that become empty."""

    __slots__ = ("_run", "_watched", "at", "count", "knots", "live", "plan", "to_check", "trusting")

    def __init__(self, run: Run) -> None:
        self._run = run
        self.plan: Plan = run.plan
        self.at: dict[int, Waiting] = _NO_JOINS
        self.count = 0
        """Tokens that wait at joins."""
        self.live = 0
        """The ranks where a token is live, waiting ones among them. Kept only while `count` is not 0."""
        self.to_check: dict[int, None] = _NOT_YET
        """Joins that may have nothing left to wait for."""
        self._watched: dict[int, dict[int, None]] = _NOT_YET
        self.knots: dict[int, set[int]] = _NOT_YET
        """Components on a cycle -> the joins in them that wait."""
        self.trusting = run.plan.sure and not run.journals and not run.tree.replaying
        """Joins count what comes, and ask nothing. Not where records are written or followed: they may be of another
        graph, which took other ways, and begin after something has failed."""

    # --- what happens -------------------------------------------------------------------------------

    def arrive(self, token: Token) -> bool:
        """A token came to a join. False if it is absorbed."""
        edge = token.edge
        node, slot = edge.target, edge.slot
        assert node is not None
        waiting = self.at.get(node.index)
        if waiting is None:
            waiting = self.open(node)
        if self.trusting:
            waiting.first[slot] = token
            waiting.count = count = waiting.count + 1
            self.count += 1
            if count == 1:
                waiting.since = self._run.tree.now
            elif count == node.needed:
                self.to_check[node.index] = None
            return True
        if node.join == JOIN_ALL:
            self._queue(waiting, slot, token)
            if waiting.count:
                waiting.count += 1
                self.count += 1
            else:
                self._hold(waiting, 1)
            if len(waiting.first) == node.needed:
                # Those that have all go in the order in which they got it, as where joins trust.
                self.to_check.pop(node.index, None)
            elif slot != waiting.pointer and waiting.witness >= 0 and (self.live >> waiting.witness) & 1:
                return True  # It still waits for what it waited for.
        elif not self._join_wave(waiting, token):
            return False
        self.to_check[node.index] = None
        return True

    def _queue(self, waiting: Waiting, slot: int, token: Token) -> None:
        if slot not in waiting.first:
            waiting.first[slot] = token
            return
        if waiting.behind is _NO_TOKENS:
            waiting.behind = {}
        waiting.behind.setdefault(slot, []).append(token)

    def distrust(self) -> None:
        """Something failed or is told by records, and what joins wait for may not come: from here on they ask."""
        if not self.trusting:
            return
        self.trusting = False
        if self.count:
            self._look_around()
            for index in sorted(self.at):
                self.live |= 1 << self.at[index].node.rank
                self.to_check[index] = None

    def open(self, node: PlanNode) -> Waiting:
        """The place where tokens for this node wait."""
        waiting = self.at.get(node.index)
        if waiting is None:
            if self.at is _NO_JOINS:
                self.at = {}
            if self.to_check is _NOT_YET:
                self.to_check, self._watched, self.knots = {}, {}, {}
            waiting = self.at[node.index] = Waiting(node)
        return waiting

    def put_back(self, node: PlanNode, tokens: Iterable[Token], waves: list[Wave]) -> Waiting:
        """After a snapshot: what waits at this node. The run's activations are live already."""
        waiting = self.open(node)
        for token in tokens:
            self._queue(waiting, token.edge.slot, token)
        waiting.waves = waves
        count = sum(1 for _ in waiting.tokens())
        if count:
            self._hold(waiting, count)
        return waiting

    @property
    def questions(self) -> tuple[list[int], list[tuple[int, list[int]]]]:
        """Joins to look at again, and by place those that wait for it: the order in which joins will go."""
        if self.to_check is _NOT_YET:
            return [], []
        return list(self.to_check), [(rank, list(those)) for rank, those in self._watched.items()]

    def ask_again(self, check: Iterable[int], watched: Iterable[tuple[int, Iterable[int]]]) -> None:
        """After a snapshot: `questions`. What was asked for a join that holds nothing now keeps its place."""
        if self.to_check is not _NOT_YET:
            self.to_check = dict.fromkeys(check)
            self._watched = {rank: dict.fromkeys(those) for rank, those in watched}
            for index in (*self.to_check, *(index for those in self._watched.values() for index in those)):
                self.open(self.plan.nodes[index])

    def _join_wave(self, waiting: Waiting, token: Token) -> bool:
        node, slot = waiting.node, token.edge.slot
        descent = token.descent.get(node.index, frozenset()) if token.descent else frozenset()
        for wave in waiting.waves:
            if slot not in wave.delivered and wave.activation not in descent:
                break
        else:
            wave = Wave()
            waiting.waves.append(wave)
            if len(waiting.waves) > 8:
                self._forget_waves(waiting)
        wave.delivered.add(slot)
        if wave.activation:
            if len(wave.delivered) == len(node.ins):
                waiting.waves.remove(wave)
            return False
        wave.arrived[slot] = token
        self._hold(waiting, 1)
        return True

    def _forget_waves(self, waiting: Waiting) -> None:
        """Drop fired waves that nothing can come to any more, so that loops do not pile them up."""
        waiting.waves = [w for w in waiting.waves if not w.activation or self._still_open(waiting.node, w)]

    def _still_open(self, node: PlanNode, wave: Wave) -> bool:
        places = 0
        for rank, descent in self._run.places():
            if wave.activation not in (descent or {}).get(node.index, ()):
                places |= 1 << rank
        own = any(
            a.number != wave.activation and wave.activation not in (a.descent or {}).get(node.index, ())
            for a in self._run.activations_at(node)
        )
        places &= ~(1 << node.rank)
        if own:
            for edge in node.outs:
                if edge.target is not None:
                    places |= 1 << edge.target.rank
        return any(
            edge.slot not in wave.delivered
            and (self.plan.reach(edge).among(places) >= 0 or (own and edge.source is node))
            for edge in node.ins
        )

    def _hold(self, waiting: Waiting, change: int) -> None:
        node = waiting.node
        if self.count == 0:
            self._look_around()
        before = waiting.count
        waiting.count = before + change
        self.count += change
        if not before and change > 0:
            waiting.since = self._run.tree.now
            self.live |= 1 << node.rank
            if node.cyclic:
                self.knots.setdefault(node.component, set()).add(node.index)
        elif not waiting.count:
            if node.cyclic:
                self.knots[node.component].discard(node.index)
            waiting.witness = -1
            if node.join == JOIN_ALL:
                waiting.pointer = 0
        if self.count == 0:
            self._watched.clear()
            self.knots.clear()

    def _look_around(self) -> None:
        """Begin to keep `live`: nothing did while no token waited."""
        self.live = 0
        for activation in self._run.active:
            self.live |= 1 << activation.node.rank

    def started(self, node: PlanNode) -> None:
        """An activation of this node is live now. Call only while tokens wait."""
        if self.trusting:
            return
        self.live |= 1 << node.rank

    def left(self, node: PlanNode) -> None:
        """No activation of this node is live any more. Call only while tokens wait."""
        if self.trusting:
            return
        waiting = self.at.get(node.index)
        if waiting is not None and waiting.count:
            # It stays a place where tokens are; but it no longer counts as being at its own successors.
            self.to_check[node.index] = None
            self._recheck(node.rank)
            return
        self.live &= ~(1 << node.rank)
        if node.rank in self._watched:
            self._recheck(node.rank)

    def _recheck(self, rank: int) -> None:
        for index in sorted(self._watched.pop(rank, ())):
            waiting = self.at[index]
            if waiting.witness == rank:
                waiting.witness = -1
                self.to_check[index] = None

    # --- what follows -------------------------------------------------------------------------------

    def go(self) -> None:
        """Start every join that has nothing left to wait for; of those that wait for each other, the first."""
        run = self._run
        if not self.to_check and not self.knots:
            assert run.active or not self.trusting, f"joins of {self.plan!r} wait for what cannot come"
            return
        while self.trusting and self.to_check and not run.ending:
            self._start_next()
        while self.count and not run.ending:
            while self.to_check:
                index = next(iter(self.to_check))
                del self.to_check[index]
                waiting = self.at[index]
                if waiting.count:
                    self._try(waiting)
                    if run.ending:
                        return
            if not self.knots or not self._untie_knot():
                return

    def _start_next(self) -> None:
        """All that will ever come to a join has come."""
        index = next(iter(self.to_check))
        del self.to_check[index]
        waiting = self.at.pop(index)
        first = waiting.first
        tokens = [first[slot] for slot in range(waiting.node.needed)]
        self.count -= len(tokens)
        self._start(waiting, tokens)

    def _start(self, waiting: Waiting, tokens: list[Token], fault: Exception | None = None) -> int:
        run, now = self._run, self._run.tree.now
        if run.tree.counts is not None and not run.tree.replaying:
            run.tree.counts.joined(run.label(waiting.node), now - waiting.since)
        waiting.since = now
        return run.start_join(waiting.node, tokens, fault)

    def _try(self, waiting: Waiting) -> None:
        node = waiting.node
        if node.join == JOIN_ALL:
            if len(waiting.first) == node.needed or not self._waits(waiting):
                self._take(waiting)
            return
        wave = waiting.open_wave()
        if wave is None:
            return
        if len(wave.arrived) >= node.needed:
            self._fire(waiting, wave)
        elif not self._waits(waiting):
            self._starve(waiting, wave)

    def _waits(self, waiting: Waiting) -> bool:
        """Is there a live token that can still come by a missing edge? Remembers where it is."""
        node, run = waiting.node, self._run
        if waiting.witness >= 0 and (self.live >> waiting.witness) & 1 and self._same_edge(waiting):
            return True
        running_here = run.is_active(node)
        places = self.live & ~(1 << node.rank)
        if running_here:
            places |= waiting.successors
        ways = len(node.ins)
        for step in range(ways):
            # From the last way on: of branches that set out together it mostly comes last, and one question does.
            slot = (waiting.pointer - step) % ways
            if not self._lacks(waiting, slot):
                continue
            found = self._source_of(node.ins[slot], places, running_here)
            if found >= 0:
                waiting.pointer = slot
                if running_here and not (self.live >> found) & 1:
                    found = node.rank  # Only its own running activation stands for this place.
                waiting.witness = found
                self._watched.setdefault(found, {})[node.index] = None
                return True
        return False

    def _source_of(self, edge: PlanEdge, places: int, running_here: bool) -> int:
        """The rank of a place from which a token can still come by this edge, or -1."""
        source = edge.source
        if source is None:
            return -1
        rank = source.rank
        if source is edge.target:
            return rank if running_here else -1
        if (places >> rank) & 1:
            return rank  # It is right there: no need to know what reaches it.
        return self.plan.reach(edge).among(places)

    def _lacks(self, waiting: Waiting, slot: int) -> bool:
        if waiting.node.join == JOIN_ALL:
            return slot not in waiting.first
        wave = waiting.open_wave()
        return wave is not None and slot not in wave.delivered

    def _same_edge(self, waiting: Waiting) -> bool:
        return self._lacks(waiting, waiting.pointer)

    def _take(self, waiting: Waiting) -> None:
        """An `all` join runs with the first token of each edge that has one."""
        first = waiting.first
        tokens = [first[slot] for slot in sorted(first)]
        if waiting.behind:
            self._move_up(waiting)
        else:
            first.clear()
        self._hold(waiting, -len(tokens))
        waiting.pointer = 0
        waiting.witness = -1
        if waiting.count:
            self.to_check[waiting.node.index] = None
        self._start(waiting, tokens)

    def _move_up(self, waiting: Waiting) -> None:
        """The first token of each edge has been taken."""
        first, behind = waiting.first, waiting.behind
        for slot in list(first):
            queue = behind.get(slot)
            if queue is None:
                del first[slot]
                continue
            first[slot] = queue.pop(0)
            if not queue:
                del behind[slot]

    def _fire(self, waiting: Waiting, wave: Wave) -> None:
        node = waiting.node
        tokens = [wave.arrived[slot] for slot in sorted(wave.arrived)]
        self._hold(waiting, -len(tokens))
        waiting.pointer = 0
        waiting.witness = -1
        wave.arrived = {}
        if len(wave.delivered) == len(node.ins):
            waiting.waves.remove(wave)
        if waiting.count:
            self.to_check[node.index] = None
        wave.activation = self._start(waiting, tokens)
        if node.rest_cancel and len(wave.delivered) < len(node.ins):
            self._cancel_rest(waiting, wave)

    def _starve(self, waiting: Waiting, wave: Wave) -> None:
        node = waiting.node
        tokens = [wave.arrived[slot] for slot in sorted(wave.arrived)]
        self._hold(waiting, -len(tokens))
        waiting.pointer = 0
        waiting.waves.remove(wave)
        if waiting.count:
            self.to_check[node.index] = None
        missing = [edge.source_name for edge in node.ins if edge.slot not in wave.delivered]
        arrived = [token.edge.source_name for token in tokens]
        self._start(waiting, tokens, JoinStarved(node.name, node.needed, arrived, missing))

    # --- knots --------------------------------------------------------------------------------------

    def _untie_knot(self) -> bool:
        """Where joins wait only for one another, let the first go. False if there is no such place."""
        for component in sorted(self.knots):
            waiting = self.knots[component]
            if not waiting:
                continue
            inside = 0
            for index in waiting:
                if not self._run.is_active(self.plan.nodes[index]):
                    inside |= 1 << self.plan.nodes[index].rank
            if self.plan.reach_component(component).among(self.live & ~inside) >= 0:
                continue
            # "First" and k joins go after the others; among equals the order of declaration decides.
            first = min(waiting, key=lambda index: (self.plan.nodes[index].join != JOIN_ALL, index))
            found = self.at[first]
            if found.node.join == JOIN_ALL:
                self._take(found)
            else:
                wave = found.open_wave()
                assert wave is not None
                self._starve(found, wave)
            return True
        return False

    # --- rest="cancel" ------------------------------------------------------------------------------

    def _cancel_rest(self, waiting: Waiting, wave: Wave) -> None:
        """Cancel what can do nothing but arrive here too late, as many per edge as the wave still misses."""
        node = waiting.node
        bound = self.plan.bound_for(node)
        missing = {edge.slot for edge in node.ins if edge.slot not in wave.delivered}
        for activation in list(self._run.active):
            slots = bound.get(activation.node.index)
            if slots is None or not slots <= missing or activation.status == DONE:
                continue
            if wave.activation in (activation.descent or {}).get(node.index, ()):
                continue
            missing -= slots
            wave.delivered |= slots
            self._run.cancel_late(activation)
        if len(wave.delivered) == len(node.ins) and wave in waiting.waves:
            waiting.waves.remove(wave)

    # --- for people ---------------------------------------------------------------------------------

    def waits_for(self, node: PlanNode) -> list[tuple[PlanEdge, list[str]]]:
        """Each missing edge with the nodes from which a token can still come by it."""
        waiting = self.at.get(node.index)
        if waiting is None or not waiting.count:
            return []
        found = []
        for edge in waiting.missing():
            reach = self.plan.reach(edge)
            names = {
                self.plan.nodes[self.plan.order.node_of_rank[rank]].name
                for rank, _ in self._run.places()
                if rank != node.rank and reach.has(rank)
            }
            if self._run.is_active(node) and (edge.source is node or reach.among(waiting.successors) >= 0):
                names.add(node.name)
            found.append((edge, sorted(names)))
        return found
