"""Listings: pages of the smallest index that holds all that match, of which some may not."""

from __future__ import annotations

from collections.abc import Sequence

from ...stored import Query, RunRow
from .answers import row_of
from .client import Client
from .words import tag_index

MOST_ON_A_PAGE = 500
"""A script that collects more keeps others waiting."""


class Listing:
    """The runs that match a query."""

    def __init__(self, client: Client, query: Query) -> None:
        self._client = client
        self._query = query
        self._seen: RunRow | None = None

    def go_on_after(self, row: RunRow) -> None:
        """Begin with what follows it."""
        self._seen = row

    async def rows(self) -> Sequence[RunRow]:
        """As many as were asked for, or all."""
        found: list[RunRow] = []
        while len(found) < self._query.limit:
            size = min(MOST_ON_A_PAGE, max(self._query.limit, 20))
            page = await self._page(size)
            found += filter(self._matches, page)
            if len(page) < size or self._is_beyond(page[-1]):
                break
            self._seen = page[-1]
        return found[: self._query.limit]

    async def _page(self, size: int) -> Sequence[RunRow]:
        query, seen = self._query, self._seen
        answer = await self._client.run(
            "page",
            int(query.newest_first),
            _bound(query.since),
            "" if query.until is None else f"({query.until!r}",
            "" if seen is None else repr(seen.submitted_at),
            "" if seen is None else f"{seen.number:016d}:{seen.run_id}",
            size,
            *self._indexes(),
        )
        return [row_of(*row) for row in answer]

    def _indexes(self) -> Sequence[str]:
        query = self._query
        indexes = [f"tag:{tag_index(*tag)}" for tag in query.tags.items()]
        if query.graph is not None:
            indexes.append(f"graph:{query.graph}")
        if len(query.status) == 1:
            indexes.append(f"status:{query.status[0]}")
        return indexes

    def _matches(self, row: RunRow) -> bool:
        query = self._query
        return (
            (not query.status or row.status in query.status)
            and (query.graph is None or row.graph == query.graph)
            and query.tags.items() <= row.tags.items()
            and (query.since is None or row.submitted_at >= query.since)
            and (query.until is None or row.submitted_at < query.until)
        )

    def _is_beyond(self, row: RunRow) -> bool:
        """Whether nothing that follows it can match."""
        if self._query.newest_first:
            return self._query.since is not None and row.submitted_at < self._query.since
        return self._query.until is not None and row.submitted_at >= self._query.until


def _bound(time: float | None) -> str:
    return "" if time is None else repr(float(time))
