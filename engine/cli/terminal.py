"""Where it is shown: results on stdout, as JSON and nothing else; all that is for people on stderr.

What nodes print goes to stderr as well, by whatever way: a program that reads stdout finds the result only. rich is
imported where something is drawn on a terminal, and nowhere else.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import localtime, strftime, time
from typing import TYPE_CHECKING, Any, Final

from ..readable import readable
from .progress import Progress, Row, fitting
from .safe import safe_line, safe_text
from .streams import OutputLost, sharing_stderr, to_nowhere

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.text import Text

_STYLES: Final = {
    "succeeded": "green",
    "failed": "bold red",
    "running": "bold cyan",
    "waiting": "yellow",
    "paused": "yellow",
    "retrying": "magenta",
    "cancelled": "dim",
    "unfinished": "yellow",
}
_MARKS: Final = {"succeeded": "✓", "failed": "✗", "running": "●", "waiting": "◌", "retrying": "↻", "cancelled": "-"}
_PLAIN_MARKS: Final = {
    "succeeded": "+",
    "failed": "!",
    "running": "*",
    "waiting": "~",
    "retrying": "~",
    "cancelled": "-",
}


class Terminal:
    """Both streams of a command."""

    def __init__(self) -> None:
        self._out = sys.stdout
        self._console: Console | None = None

    @property
    def is_drawn_on(self) -> bool:
        """Whether stderr is a terminal on which what stands there can be drawn over."""
        return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    @property
    def is_read_by_people(self) -> bool:
        """Whether stdout is a terminal."""
        return self._out.isatty()

    @contextmanager
    def stdout_kept_clean(self) -> Iterator[None]:
        """Whatever is printed meanwhile, by this process or those that it starts, goes to stderr."""
        try:
            number, errors = sys.stdout.fileno(), sys.stderr.fileno()
        except (OSError, ValueError, io.UnsupportedOperation):
            with contextlib.redirect_stdout(sys.stderr):
                yield
            return
        sys.stdout.flush()
        kept = os.dup(number)
        os.dup2(errors, number)
        self._out = open(kept, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115  # closed below
        try:
            with contextlib.redirect_stdout(sys.stderr), sharing_stderr(number):
                yield
        finally:
            _flush_to(number)
            out, self._out = self._out, sys.stdout
            try:
                os.dup2(kept, number)
            finally:
                out.close()  # all in it has been flushed, or there is nowhere to flush it to

    # -- results

    def result(self, value: Any, *, lines: bool = False) -> None:
        """A result as JSON: laid out for people on a terminal, on one line for programs."""
        laid_out = 2 if self.is_read_by_people and not lines else None
        self.text(safe_text(json.dumps(readable(value), indent=laid_out, ensure_ascii=False)) + "\n")

    def text(self, text: str) -> None:
        """Text on stdout; as it is, unless that is a terminal, which may be told nothing but what to show."""
        if self.is_read_by_people:
            text = safe_text(text)
        with self._writing():
            try:
                self._out.write(text)
            except UnicodeEncodeError:
                self._out.write(text.encode("ascii", "backslashreplace").decode())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
            self._out.flush()
        except OSError as error:
            with contextlib.suppress(OSError, ValueError):
                to_nowhere(self._out.fileno())
            raise OutputLost.of(error) from error

    def data(self, data: bytes) -> None:
        """Bytes on stdout; on a terminal the text that they are."""
        if self.is_read_by_people:
            self.text(data.decode("utf-8", "replace"))
            return
        with self._writing():
            self._out.buffer.write(data)

    def table(self, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table on stdout, for people."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for index, title in enumerate(titles):
            table.add_column(title, overflow="fold" if index == 0 else "ellipsis", no_wrap=index == 0)
        for row in rows:
            table.add_row(*(Text(safe_line(cell), style=_STYLES.get(cell, "")) for cell in row))
        with self._writing():
            Console(file=self._out, highlight=False).print(table)

    # -- for people

    def say(self, *lines: str) -> None:
        """Lines on stderr; above what is drawn there."""
        for line in map(safe_text, lines):
            if self._console is not None:
                self._console.print(line, markup=False, highlight=False, soft_wrap=True)
            else:
                print(line, file=sys.stderr, flush=True)

    def ready_to_draw(self) -> None:
        """Load what draws: a tenth of a second, better before a run begins than while it goes."""
        import rich.live
        import rich.progress_bar
        import rich.table  # noqa: F401  # all three are wanted for later

    @contextmanager
    def drawing(self) -> Iterator[Drawing]:
        """Have a run's progress drawn at the bottom of the terminal, and the last of it left there."""
        from rich.console import Console
        from rich.live import Live

        self._console = Console(stderr=True)
        live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")
        try:
            with live:
                yield Drawing(live)
        finally:
            self._console = None


def _flush_to(number: int) -> None:
    """Have what a node has written behind our back go where all else went, or nowhere if nobody reads that."""
    if sys.__stdout__ is not None:
        try:
            sys.__stdout__.flush()
        except OSError:
            to_nowhere(number)
            sys.__stdout__.flush()


class Drawing:
    """A run's progress, drawn again and again in one place."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, progress: Progress, title: str) -> None:
        """How it stands now."""
        console = self._live.console
        plain = not (console.encoding or "").lower().startswith("utf")
        # One line for the title, one that stays free for the cursor.
        self._live.update(drawn(progress, title, time(), max(1, console.height - 2), plain=plain), refresh=True)


def drawn(progress: Progress, title: str, now: float, room: int, *, plain: bool = False) -> RenderableType:
    """The picture of a run: a title, and a line per node with state, time, count, and what it says of itself."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    head = Text.assemble((safe_line(title), "bold"), "  ", (progress.status, _STYLES.get(progress.status, "")), "  ")
    head.append(clock(progress.elapsed(now)), "dim")
    table = Table.grid(padding=(0, 2))
    for _ in range(4):
        table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    rows, rest = fitting(list(progress.rows.values()), room)
    for row in rows:
        style = _STYLES.get(row.state, "dim")
        mark = (_PLAIN_MARKS if plain else _MARKS).get(row.state, " ")
        seconds = row.time(now)
        table.add_row(
            Text(f"{'  ' * row.depth}{mark} {safe_line(row.label)}", style=style),
            Text(row.state, style=style),
            Text("" if seconds is None else clock(seconds), style="dim"),
            Text(f"x{row.runs}" if row.runs > 1 else "", style="dim"),
            _note(row),
        )
    parts: list[RenderableType] = [head, table]
    if rest:
        parts.append(Text(rest, style="dim"))
    return Group(*parts)


def _note(row: Row) -> RenderableType:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    if row.done is not None:
        of = "" if row.total is None else f"/{row.total}"
        counted = Text(f"{row.done}{of}")
        if row.total is None:
            return counted
        return _beside(Table, ProgressBar(total=max(row.total, 1), completed=row.done or 0, width=24), counted)
    if row.fraction is not None:
        return _beside(Table, ProgressBar(total=1, completed=row.fraction, width=24), Text(safe_line(row.note)))
    return Text(safe_line(row.note), style=_STYLES.get(row.state, ""))


def _beside(table: Any, bar: RenderableType, text: Text) -> RenderableType:
    grid = table.grid(padding=(0, 1))
    grid.add_column(width=24)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_row(bar, text)
    found: RenderableType = grid
    return found


def local_time(at: float) -> str:
    """A time as people here have it."""
    return strftime("%Y-%m-%d %H:%M:%S", localtime(at))


def clock(seconds: float) -> str:
    """A duration as one reads it: 0.013 s, 12.3 s, 4:05, 1:02:03."""
    seconds = max(0.0, seconds)
    if seconds < 60:
        return f"{seconds:.3f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
