"""fetch → parse → enrich → write, for documents one by one, many at once, and never more than there is room for.

Nothing here knows which library runs it. The stages are closures over what the program has anyway: a site to read from
and an archive to write to. The limits are the graph's: so many documents at once, so many look-ups a second, so many
rows in one transaction. The source is asked for the next document only when one is through, so a slow stage slows down
the reading, and nothing piles up.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from html.parser import HTMLParser
from typing import Any, Final, TypedDict

import anyio
from attrs import frozen

from engine import Batch, Graph, ItemError, Retry

AT_ONCE: Final = 64
LOOKUPS: Final = "100/0.1s"
"""A thousand a second, and no more than a hundred in any tenth of it."""
ROWS_AT_ONCE: Final = 32


@frozen
class Document:
    """The state of one document on its way."""

    number: int
    page: str = ""
    title: str = ""
    words: int = 0
    language: str = ""


class Import(TypedDict, total=False):
    """The state of the whole: what has become of each document, in their order."""

    documents: list[Any]


class Site:
    """Stands for a web site: it takes its time, cuts every tenth connection once, and has lost every hundredth page."""

    def __init__(self) -> None:
        self.requests = 0
        self._cut: set[int] = set()

    async def get(self, number: int) -> str:
        """The page of this number."""
        self.requests += 1
        await anyio.sleep(0.001 * (1 + number % 7))
        if number % 100 == 99:
            raise LookupError(f"page {number} is gone")
        if number % 10 == 3 and number not in self._cut:
            self._cut.add(number)
            raise ConnectionError(f"page {number} was cut")
        words = "lorem ipsum dolor sit amet " if number % 3 else "der die das und ist "
        return f"<title>Page {number}</title><p>{words * (number % 50 + 1)}</p>"


class Archive:
    """A table that rows are written to, many in one transaction."""

    def __init__(self) -> None:
        self._rows = sqlite3.connect(":memory:", check_same_thread=False)
        self._rows.execute(
            "CREATE TABLE documents (number INTEGER PRIMARY KEY, title TEXT, words INTEGER, language TEXT)"
        )
        self.written = 0
        self.transactions = 0
        self.largest = 0

    def write(self, documents: list[Document]) -> None:
        """Write them all, or none."""
        with self._rows:
            rows = [(each.number, each.title, each.words, each.language) for each in documents]
            self._rows.executemany("INSERT INTO documents VALUES (?, ?, ?, ?)", rows)
        self.written += len(rows)
        self.transactions += 1
        self.largest = max(self.largest, len(rows))

    def languages(self) -> dict[str, int]:
        """How many documents there are of each."""
        query = "SELECT language, count(*) FROM documents GROUP BY language ORDER BY language"
        return dict(self._rows.execute(query).fetchall())


class Gauge:
    """What is on its way, and how much that was at most."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0
        self.most = 0

    def begin(self) -> None:
        """One more."""
        self.begun += 1
        self.most = max(self.most, self.begun - self.ended)


def pipeline(count: int, site: Site, archive: Archive, gauge: Gauge, stopping: Callable[[], bool]) -> Graph:
    """The graph. When `stopping()` is true no document is begun any more, and those on their way are finished."""

    async def numbers() -> AsyncIterator[Document]:
        for number in range(count):
            if stopping():
                return
            gauge.begin()
            yield Document(number)

    return (
        Graph("import", state=Import)
        .add_map(
            "documents",
            _one_document(site, archive, gauge),
            over=lambda state: numbers(),
            into="documents",
            concurrency=AT_ONCE,
            on_item_error="keep",  # a page that is lost stops nobody
        )
        .set_entry_point("documents")
    )


def _one_document(site: Site, archive: Archive, gauge: Gauge) -> Graph:
    graph = Graph("document", state=Document)

    @graph.node(retry=Retry(attempts=3, delay=0.005, on=ConnectionError))
    async def fetch(document: Document) -> dict[str, Any]:
        try:
            return {"page": await site.get(document.number)}
        except LookupError:
            gauge.ended += 1
            raise

    @graph.node  # a plain function: it runs in a thread, and the loop stays free
    def parse(document: Document) -> dict[str, Any]:
        page = Page()
        page.feed(document.page)
        return {"title": page.title, "words": page.words, "page": ""}  # the text is not needed any more

    @graph.node(rate=LOOKUPS)  # of all documents together, whoever submits them
    async def enrich(document: Document) -> dict[str, Any]:
        return {"language": "de" if document.number % 3 == 0 else "la"}

    @graph.node(batch=Batch(size=ROWS_AT_ONCE, wait=0.02), concurrency=1)
    def write(documents: list[Document]) -> list[None]:
        archive.write(documents)
        gauge.ended += len(documents)
        return [None] * len(documents)

    graph.add_edge("fetch", "parse").add_edge("parse", "enrich").add_edge("enrich", "write")
    return graph.set_entry_point("fetch")


class Page(HTMLParser):
    """Title and words of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self.words = 0
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        """Only the title is told apart."""
        self._in_title = tag == "title"

    def handle_data(self, data: str) -> None:
        """Text of the title, or words of the page."""
        if self._in_title:
            self.title = data
        else:
            self.words += len(data.split())


def summary(documents: list[Any], site: Site, archive: Archive, gauge: Gauge, beats: int) -> str:
    """What came of it, for people."""
    lost = [each.index for each in documents if isinstance(each, ItemError)]
    return (
        f"{gauge.begun} documents begun, {archive.written} written, {len(lost)} lost: {lost}\n"
        f"{site.requests} requests, {site.requests - gauge.begun} of them a second try\n"
        f"{archive.transactions} transactions of at most {archive.largest} rows\n"
        f"at most {gauge.most} documents on their way, {AT_ONCE} allowed; {beats} heartbeats meanwhile\n"
        f"languages: {archive.languages()}"
    )
