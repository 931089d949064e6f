"""A claim for expenses: small ones are paid, others wait for a person, and who is not answered is told so."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from attrs import field, frozen

from engine import END, Context, Graph, NodeTimeout, Reduce

SMALL = 50_00
PATIENCE_SECONDS = 3 * 86_400.0


@frozen
class Claim:
    """The state of one run."""

    who: str
    cents: int
    decision: dict[str, Any] = field(factory=dict)
    """What the person says: `{"approved": true, "by": "ada"}`."""
    story: Annotated[list[str], Reduce("extend")] = field(factory=list)


def expenses(paid: Path, name: str = "expenses", patience: float = PATIENCE_SECONDS) -> Graph:
    """The graph; payments are lines of a file, each with the token of its activation."""
    graph = Graph(name, state=Claim)

    @graph.node
    async def check(claim: Claim) -> dict[str, Any]:
        return {"story": [f"{claim.who} claims {claim.cents / 100:.2f}"]}

    # No task, no thread, no memory but a line in the books: it waits on disk, for as long as it takes.
    graph.add_wait("approval", signal="decision", into="decision", timeout=patience)

    @graph.node(effect=True)  # written down with a flush: what was paid is not paid again after a power cut
    def pay(claim: Claim, ctx: Context) -> dict[str, Any]:
        # A crash between the payment and its record runs this again, with the same token: so look first.
        if not (paid.exists() and ctx.token in paid.read_text()):
            with paid.open("a") as file:
                file.write(f"{ctx.token} {claim.who} {claim.cents}\n")
        return {"story": [f"paid, approved by {claim.decision.get('by', 'rule')}"]}

    @graph.node
    async def refuse(claim: Claim) -> dict[str, Any]:
        return {"story": [f"refused by {claim.decision.get('by')}: {claim.decision.get('why', 'no reason given')}"]}

    @graph.node
    async def nobody_came(claim: Claim) -> dict[str, Any]:
        return {"story": ["nobody decided in time; sent back"]}

    graph.add_edge("check", "pay", when=lambda claim: claim.cents < SMALL)
    graph.add_edge("check", "approval", otherwise=True)
    graph.add_edge("approval", "pay", when=lambda claim: claim.decision.get("approved") is True)
    graph.add_edge("approval", "refuse", otherwise=True)
    graph.add_edge("approval", "nobody_came", on_error=NodeTimeout)
    graph.add_edge(["pay", "refuse", "nobody_came"], END)
    return graph.set_entry_point("check")
