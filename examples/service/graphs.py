"""The two graphs of the shop: what happens to an order, and the takings, which are counted by the clock."""

from __future__ import annotations

import sqlite3
from typing import Annotated, Any

import anyio
from attrs import field, frozen

from engine import Batch, Graph, Reduce, Retry

from .shop import Till


class SoldOut(Exception):
    """There is none left."""


@frozen
class Order:
    """The state of one order."""

    number: str
    item: str
    quantity: int = 1
    price: int = 0
    """Of one, in cents."""
    paid: bool = False
    steps: Annotated[list[str], Reduce("extend")] = field(factory=list)


@frozen
class Takings:
    """The state of one count: of the period that ends at `until`."""

    since: float
    until: float
    orders: int = 0
    cents: int = 0


def orders(till: Till) -> Graph:
    """reserve → charge → pack and invoice side by side → ship; what is sold out is told instead."""
    graph = Graph("order", state=Order)

    @graph.node(concurrency=64)
    async def reserve(order: Order) -> dict[str, Any]:
        await anyio.sleep(0.002)  # stands for the warehouse
        if order.item == "unicorn":
            raise SoldOut(f"there is no {order.item} left")
        return {"steps": ["reserved"]}

    # One transaction for all that are there. A retry or a crash may run it again: the till knows each order's payment.
    @graph.node(batch=Batch(size=64, wait=0.005), concurrency=1, retry=Retry(attempts=3, on=sqlite3.OperationalError))
    def charge(several: list[Order]) -> list[dict[str, Any]]:
        till.take([(order.number, order.quantity * order.price) for order in several])
        return [{"paid": True, "steps": ["charged"]} for _ in several]

    @graph.node
    async def pack(order: Order) -> dict[str, Any]:
        await anyio.sleep(0.005)
        return {"steps": ["packed"]}

    @graph.node
    async def invoice(order: Order) -> dict[str, Any]:
        await anyio.sleep(0.003)
        return {"steps": ["invoiced"]}

    @graph.node
    async def ship(order: Order) -> dict[str, Any]:
        return {"steps": ["shipped"]}

    @graph.node
    async def apologise(order: Order) -> dict[str, Any]:
        return {"steps": ["sold out"]}

    graph.add_edge("reserve", "charge").add_edge("charge", ["pack", "invoice"]).add_edge(["pack", "invoice"], "ship")
    graph.add_edge("reserve", "apologise", on_error=SoldOut)
    return graph.set_entry_point("reserve")


def takings(till: Till) -> Graph:
    """Count what was taken."""
    graph = Graph("takings", state=Takings)

    @graph.node
    def count(period: Takings) -> dict[str, Any]:
        orders, cents = till.between(period.since, period.until)
        return {"orders": orders, "cents": cents}

    return graph.set_entry_point("count")
