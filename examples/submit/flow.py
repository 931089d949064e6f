"""What is submitted: a parcel is weighed, and its postage looked up. Some take longer, and a few have no address."""

from __future__ import annotations

from typing import Any, TypedDict

import anyio

from engine import Graph


class Parcel(TypedDict, total=False):
    """The state of one run."""

    number: int
    slow: float
    grams: int
    postage: int


graph = Graph("parcel", state=Parcel)


@graph.node
async def weigh(parcel: Parcel) -> dict[str, Any]:
    """Takes its time if it is told to."""
    await anyio.sleep(parcel.get("slow", 0.001))
    return {"grams": 100 + parcel["number"] * 37 % 1900}


@graph.node
async def price(parcel: Parcel) -> dict[str, Any]:
    """In cents."""
    if parcel["number"] % 100 == 99:
        raise LookupError(f"parcel {parcel['number']} has no address")
    return {"postage": 95 if parcel["grams"] <= 500 else 160 if parcel["grams"] <= 1000 else 270}


graph.add_edge("weigh", "price").set_entry_point("weigh")
