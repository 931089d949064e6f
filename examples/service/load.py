"""Drive load through the shop and tell what it took: `python -m examples.service.load [asyncio|trio]`.

So many customers at once, each of whom orders, waits for the parcel, and orders again. Without --url it starts a shop
of its own, in a folder that is gone afterwards.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from time import perf_counter, process_time
from uuid import uuid4

import anyio

from .wire import Connection

SECOND_TRIES = 0.05
"""This share of orders is sent twice, as clients do whose answer was lost."""
SOLD_OUT = 0.02


class Figures:
    """What was measured."""

    def __init__(self, customers: int) -> None:
        self.customers = customers
        self.accepted: list[float] = []
        self.ended: list[float] = []
        self.outcomes: Counter[str] = Counter()

    def line(self, second: int, before: tuple[int, int]) -> str:
        """What a second brought."""
        accepted, ended = len(self.accepted) - before[0], len(self.ended) - before[1]
        return f"{second:3d} s  {accepted:6,} orders/s  {ended:6,} parcels/s  {quantiles(self.ended[before[1] :])}"


def quantiles(seconds: Sequence[float]) -> str:
    """In milliseconds: half, 95 and 99 of 100 took at most this."""
    if not seconds:
        return "-"
    ordered = sorted(seconds)
    found = [ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 for share in (0.5, 0.95, 0.99)]
    return "p50 {:.1f}  p95 {:.1f}  p99 {:.1f} ms".format(*found)


async def customer(url: str, name: str, figures: Figures) -> None:
    """Order, wait for the parcel, order again."""
    async with Connection.to(url) as shop:
        for number in count(1):
            item = "unicorn" if number % round(1 / SOLD_OUT) == 0 else "cup"
            order = {"number": f"{name}-{number}", "item": item, "quantity": 1 + number % 3, "price": 250}
            began = perf_counter()
            while (answer := await shop.ask("POST", "/orders", order)).status == 429:
                figures.outcomes["refused for a while (429)"] += 1
                await anyio.sleep(float(answer.headers["retry-after"]))
            answer.json()
            figures.accepted.append(perf_counter() - began)
            if number % round(1 / SECOND_TRIES) == 0:
                (await shop.ask("POST", "/orders", order)).json()
                figures.outcomes["sent twice"] += 1
            said = (await shop.ask("GET", f"/orders/{order['number']}?wait=30")).json()
            figures.ended.append(perf_counter() - began)
            figures.outcomes[said["steps"][-1] if said["status"] == "succeeded" else said["status"]] += 1


async def drive(url: str, customers: int, seconds: int) -> bool:
    """Do it, and tell; whether the shop's books agree with ours."""
    figures, run = Figures(customers), uuid4().hex[:6]
    async with Connection.to(url) as shop:
        before = await numbers(shop)
    began, worked = perf_counter(), process_time()
    async with anyio.create_task_group() as group:
        for each in range(customers):
            group.start_soon(customer, url, f"{run}-{each}", figures)
        for second in range(1, seconds + 1):
            counts = len(figures.accepted), len(figures.ended)
            await anyio.sleep(began + second - perf_counter())
            print(figures.line(second, counts), flush=True)
        group.cancel_scope.cancel()
    took, worked = perf_counter() - began, process_time() - worked
    print(f"\n{customers} customers, {took:.1f} s: {len(figures.ended) / took:,.0f} orders/s from end to end")
    print(f"  accepted, on disk:  {quantiles(figures.accepted)}")
    print(f"  until the parcel:   {quantiles(figures.ended)}")
    print(f"  {', '.join(f'{times:,} {what}' for what, times in sorted(figures.outcomes.items()))}")
    print(f"this driver was busy for {worked / took:.0%} of the time; near 100 % it measures itself")
    async with Connection.to(url) as shop:  # a connection that says nothing is closed
        return await _books_agree(shop, figures, before)


async def _books_agree(shop: Connection, figures: Figures, before: Counter[str]) -> bool:
    """Whether the shop counted what we did, each order once. What was on its way when we left may come on top."""
    now = await numbers(shop)
    while now["workflow_runs_in_flight"]:  # what was on its way comes to its end
        await anyio.sleep(0.05)
        now = await numbers(shop)
    since = Counter({name: value - before[name] for name, value in now.items()})
    begun, over = int(since["workflow_runs_submitted_total"]), int(since["workflow_runs_total"])
    commits, of_them = int(since["workflow_journal_commit_seconds_count"]), since["workflow_journal_commit_seconds_sum"]
    print(
        f"the shop says: {begun:,} orders begun, {over:,} ended, {commits:,} commits of "
        f"{of_them / max(commits, 1) * 1000:.1f} ms, {since['process_cpu_seconds_total'] / max(over, 1) * 1000:.2f} ms "
        f"of processor for each order"
    )
    agree = len(figures.accepted) <= begun == over <= len(figures.accepted) + figures.customers
    print("each order was run once" if agree else f"that does NOT agree with {len(figures.accepted):,} accepted")
    return agree


async def numbers(shop: Connection) -> Counter[str]:
    """What /metrics says, but of the takings; labels added up."""
    found: Counter[str] = Counter()
    answer = await shop.ask("GET", "/metrics")
    for line in answer.body.decode().splitlines():
        if not line.startswith("#") and 'graph="takings"' not in line:
            name, _, value = line.rpartition(" ")
            found[name.partition("{")[0]] += float(value)  # type: ignore[assignment]  # they are seconds, too  # type: ignore[assignment]  # they are seconds, too
    return found


@contextmanager
def a_shop(backend: str) -> Iterator[str]:
    """A service of its own; its address."""
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, "-m", "examples.service", backend, "--port", "0", "--folder", folder, "--every", "1"]
        with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                found = re.search(r"serving (http://[\d.:]+)", process.stdout.readline())
                if found is None:
                    sys.exit("error: the shop did not start")
                yield found[1]
            finally:
                process.terminate()
                process.communicate()


def main() -> int:
    """The exit code: 0 if the books agree."""
    parser = argparse.ArgumentParser(prog="python -m examples.service.load")
    parser.add_argument("backend", nargs="?", choices=("asyncio", "trio"), default="asyncio")
    parser.add_argument("--url", help="a shop that is there; else one is started")
    parser.add_argument("--customers", type=int, default=32)
    parser.add_argument("--seconds", type=int, default=10)
    options = parser.parse_args()
    if options.url is not None:
        return not anyio.run(drive, options.url, options.customers, options.seconds, backend=options.backend)
    with a_shop(options.backend) as url:
        return not anyio.run(drive, url, options.customers, options.seconds, backend=options.backend)


if __name__ == "__main__":
    code = 130
    try:
        code = main()
    except* KeyboardInterrupt:  # on trio it comes in a group
        print("interrupted", file=sys.stderr)
    sys.exit(code)
