"""Section 3: what a token knows, what that is worth, and how tokens become one.

A token carries everything that ever happened to it, as an ordered tuple of writes, and each write
everything that had happened before it. The state is worked out from that history whenever it is
asked for: there is nothing else that could be out of date.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from attrs import field, frozen

from .outcome import Failure
from .spec import REDUCERS, Answer, GraphSpec, Replaced, start_state

MISSING = object()


@frozen(eq=False)  # two writes are never the same write, whatever they say
class Write:
    key: str
    value: Any
    sets: bool  # sets the key (an update without a reducer, a Replace), else it is a contribution
    seen: frozenset["Write"]  # everything that had happened before it by way of tokens


@frozen
class Token:
    history: tuple[Write, ...] = ()
    counts: dict[int, int] = field(factory=dict)  # times each limited edge was taken since its loop was entered
    causes: frozenset[str] = frozenset()  # the activations it descends from


class States:
    def __init__(self, spec: GraphSpec, facts: Counter[str]) -> None:
        self.spec, self.facts = spec, facts
        self.initial, self.reducers = start_state(spec), dict(spec.reducers)

    def of(self, token: Token) -> dict[str, Any]:
        keys = dict.fromkeys([*self.initial, *(write.key for write in token.history)])
        return {key: self.value(key, token.history) for key in keys}

    def value(self, key: str, history: Sequence[Write], winner: Write | None = None) -> Any:
        """The live setting, and on it, in order, every contribution that no setting had seen."""
        live = self.live(key, history)
        setting = winner or (live[0] if live else None)
        value = setting.value if setting else self.initial.get(key, MISSING)
        for write in history:
            if write.key == key and not write.sets and not any(write in other.seen for other in live):
                value = write.value if value is MISSING else REDUCERS[self.reducers[key]](value, write.value)
        return value

    def live(self, key: str, history: Sequence[Write]) -> list[Write]:
        """The writes that set a key and that no later one had seen; several if they are parallel."""
        settings = [write for write in history if write.key == key and write.sets]
        return [write for write in settings if not any(write in other.seen for other in settings)]

    def merge(self, tokens: Sequence[Token]) -> Token:
        """One token of several, which come in the order of their edges."""
        history = tuple(dict.fromkeys(write for token in tokens for write in token.history))
        for key in dict.fromkeys(write.key for write in history):
            live = self.live(key, history)
            self.facts["parallel writes"] += len(live) > 1
            if all(equal(write.value, live[0].value) for write in live):
                continue
            self.facts["conflict"] += 1
            if self.spec.conflicts == "error":
                raise Failure("MergeConflict")
            last = next(write for token in reversed(tokens) for write in token.history if write in live)
            history += (Write(key, self.value(key, history, last), True, frozenset(history)),)
        counts = {loop: max(t.counts.get(loop, 0) for t in tokens) for t in tokens for loop in t.counts}
        return Token(history, counts, frozenset().union(*(token.causes for token in tokens)))

    def updated(self, token: Token, state: dict[str, Any], answer: Answer) -> Token:
        return Token(token.history + tuple(self.writes(token, state, answer)), token.counts, token.causes)

    def writes(self, token: Token, state: dict[str, Any], answer: Answer) -> Iterator[Write]:
        """What an answer changes of the state that the node was given."""
        for key, value in ({**state, **answer.changes} if answer.form == "whole" else answer.changes).items():
            sets = key not in self.reducers or (answer.form == "whole" and self.spec.typed)
            if isinstance(value, Replaced):
                sets, value = True, value.value
            unchanged = equal(value, state[key]) if sets and key in state else value is state.get(key)
            if not unchanged or (not sets and isinstance(value, int)):  # numbers always contribute
                self.facts["set" if key not in self.reducers else "replace" if sets else "contribution"] += 1
                yield Write(key, value, sets, frozenset(token.history))


def equal(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and one == other)
