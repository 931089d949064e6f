"""One activation of a map: items in, results out in the order of the items.

The items of a collection under a key are read here; all others, whose source may
block or be async, are pulled through commands. At most `concurrency` items are at work, and no more
are taken from the source than there is room for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Mapping, MappingView, Sequence
from typing import TYPE_CHECKING, Any, Final

from .errors import RunFailed, StateInvalid, said_by
from .plan import MapDecl, Plan
from .tokens import CANCELLED, DONE, FAILED, RETRYING, Activation, CloseItems, Item, PullItems
from .typecheck import shown
from .values import ItemError

if TYPE_CHECKING:
    from .runs import Run

_SKIPPED: Any = object()


def _cause(error: BaseException) -> BaseException:
    """What a node in a worker graph raised, if that was one: of every other failure `RunFailed` tells as little."""
    while isinstance(error, RunFailed) and len(error.exceptions) == 1 and error.failures:
        error = error.failures[0].cause
    return error


IN_MEMORY: Final[tuple[type[Any], ...]] = (list, tuple, range, set, frozenset, deque, MappingView)
"""What can be read without waiting: of anything else nobody knows what its `next` does."""


class MapWork:
    """The items of one activation of a map that are at work, and the results so far.

    After a replay the source is read again from its beginning, and what is known of an item is its result: so a
    source must give the same items again, in the same order.
    """

    __slots__ = (
        "_more",
        "_pulled",
        "_source",
        "at_work",
        "attempts",
        "before",
        "decl",
        "errors",
        "known",
        "owner",
        "results",
        "stopping",
    )

    def __init__(self, owner: Activation, decl: MapDecl, before: int = 0) -> None:
        self.owner = owner
        self.decl = decl
        self.before = before
        """How many items the attempt before this one has taken."""
        self.results: list[Any] = []
        self.at_work: dict[int, Item] = {}
        self.errors: dict[int, BaseException] = {}
        """What failed the map, by item; -1 is the source itself."""
        self.known: dict[int, Any] = {}
        """Results of items that the source has not given again yet, by index."""
        self.attempts: dict[int, tuple[int, float]] = {}
        """Of items that have failed so far, likewise: the attempts made, and when the next one is due."""
        self.stopping = False
        self._more = True
        self._pulled = 0
        self._source: Iterator[Any] | None = None

    def begin(self, run: Run) -> None:
        owner, over = self.owner, self.decl.over
        if isinstance(over, str) and not self.stopping:
            items = owner.values.get(over, _SKIPPED)
            if fault := self._fault_of(over, items):
                self.errors[-1] = StateInvalid(f"map {owner.node.name!r}{fault}")
                self._more = False
            elif isinstance(items, IN_MEMORY):
                self._source = iter(items)
        self.fill(run)

    def _fault_of(self, key: str, items: Any) -> str:
        if items is _SKIPPED:
            return f" finds no key {key!r} in the state"
        if fault := items_fault(items):
            return f": key {key!r} holds {fault}, or over= a function of the state"
        if self.before and isinstance(items, Iterator | AsyncIterator):
            taken = f"{self.before} item{'s' * (self.before != 1)}"
            return (
                f": key {key!r} holds {shown(items)}, from which an attempt before this one took {taken}; "
                f"give a list, or over= a function of the state"
            )
        return ""

    def fill(self, run: Run) -> None:
        """Take items while there is room; settle the map if it has come to its end."""
        room = self.decl.concurrency - len(self.at_work)
        if self._source is not None:
            self._take(run, self._source)
        elif self.wants_more and room > self._pulled:
            run.tree.out.append(PullItems(self.owner, room - self._pulled))
            self._pulled = room
        if self.over:
            run.map_over(self.owner, self)

    @property
    def over(self) -> bool:
        return not self.at_work and (self.stopping or not self._more)

    def _take(self, run: Run, source: Iterator[Any]) -> None:
        while len(self.at_work) < self.decl.concurrency and self.wants_more:
            try:
                item = next(source)
            except StopIteration:
                self._more = False
            except Exception as error:
                self.source_failed(run, error)
            else:
                self._start(run, item)

    @property
    def wants_more(self) -> bool:
        return self._more and not self.stopping

    def goes_on(self, item_goes_on: Callable[[Item], bool]) -> bool:
        """Whether items are still to come from the source, or one that is at work comes on by itself."""
        return (self.wants_more and self._pulled > 0) or any(map(item_goes_on, self.at_work.values()))

    def given(self, run: Run, items: Sequence[Any], more: bool) -> None:
        """Answer to `PullItems`: these came, and there are perhaps `more`."""
        self._pulled = max(0, self._pulled - len(items))
        if not more:
            self._more = False
        if not self.stopping:
            for item in items:
                self._start(run, item)
        self.fill(run)

    def source_failed(self, run: Run, error: BaseException) -> None:
        self._more = False
        self.errors[-1] = error
        self.stop(run)

    def _start(self, run: Run, value: Any) -> None:
        index = len(self.results)
        if index in self.known:
            self.results.append(self.known.pop(index))
            return
        item = Item(self.owner, self, index, value)
        self.results.append(_SKIPPED)
        self.at_work[index] = item
        if index in self.attempts:
            item.attempt, due = self.attempts.pop(index)
            run.await_retry(item, due)
        else:
            run.start_item(item)

    def succeeded(self, run: Run, item: Item, value: Any) -> None:
        item.status = DONE
        del self.at_work[item.index]
        self.results[item.index] = value
        self.fill(run)

    def failed(self, run: Run, item: Item, error: BaseException) -> None:
        """An item failed for good."""
        item.status = FAILED
        del self.at_work[item.index]
        kept = None
        if self.decl.on_item_error == "keep":
            cause = _cause(error)
            kept = ItemError(item.index, type(cause).__name__, said_by(cause))
        run.record_failed_item(item, error, kept)
        if self.decl.on_item_error == "fail":
            self.errors[item.index] = error
            self.stop(run)
        elif kept is not None:
            self.results[item.index] = kept
        self.fill(run)

    def was_finished(self, index: int, update: Mapping[str, Any] | None, error: BaseException | None) -> None:
        """In a replay: this item is finished."""
        self.attempts.pop(index, None)
        if update is not None:
            self.known[index] = update[self.decl.into]
        elif self.decl.on_item_error == "fail" and error is not None:
            self.errors[index] = error
            self.stopping = True
        else:
            self.known[index] = _SKIPPED

    def finished(self) -> Iterator[tuple[int, Any]]:
        """The items that are, and their results, those that were left out aside."""
        yield from ((i, result) for i, result in self.known.items() if result is not _SKIPPED)
        for index, result in enumerate(self.results):
            if result is not _SKIPPED:
                yield index, result

    def left_out(self) -> Iterator[int]:
        """The items that failed, and whose results are left out."""
        yield from (i for i, result in self.known.items() if result is _SKIPPED)
        for index, result in enumerate(self.results):
            if result is _SKIPPED and index not in self.at_work and index not in self.errors:
                yield index

    def tried(self) -> Iterator[tuple[int, int, float | None]]:
        """The items that have failed so far: index, attempts made, when the next one is due."""
        for index, (attempts, due) in self.attempts.items():
            yield index, attempts, due
        for index, item in self.at_work.items():
            if item.status == RETRYING:
                yield index, item.attempt, item.due
            elif item.attempt > 1:
                yield index, item.attempt - 1, None

    def dropped(self, run: Run, item: Item) -> None:
        """A cancelled item's worker is gone."""
        item.status = CANCELLED
        del self.at_work[item.index]
        self.fill(run)

    def stop(self, run: Run) -> None:
        """No more items; cancel those at work. The map is over when they are."""
        if self.stopping:
            return
        self.stopping = True
        if self._source is None and self._more:
            run.tree.out.append(CloseItems(self.owner))
        for item in list(self.at_work.values()):
            if run.halt(item):
                del self.at_work[item.index]

    def outcome(self) -> list[Any] | BaseException:
        """The results in the order of the items, or the error of the lowest item known to have failed."""
        if self.errors:
            lowest = min(self.errors)
            error = self.errors[lowest]
            if lowest >= 0 and not getattr(error, "__notes__", None):
                error.add_note(f"item {lowest} of map {self.owner.node.name!r}")
            return error
        return [result for result in self.results if result is not _SKIPPED]


def items_fault(items: Any) -> str:
    """Why nobody can have meant to take a value for a map's items, and the cure, as the end of a sentence."""
    if isinstance(items, str | bytes | bytearray | Mapping):
        kind, parts = type(items).__name__, "keys" if isinstance(items, Mapping) else "characters"
        return f"a {kind}, whose {parts} are hardly meant as items; give a list"
    if not isinstance(items, AsyncIterable) and not hasattr(items, "__iter__"):
        return f"{shown(items)}, which has no items; give a list"
    return ""


def worker_plan(decl: MapDecl) -> Plan | None:
    return decl.worker if isinstance(decl.worker, Plan) else None
