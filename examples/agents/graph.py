"""A planner, workers side by side, a critic, in a loop; and what becomes of a model that fails."""

from __future__ import annotations

import json
from typing import Annotated, Any, NotRequired, TypedDict

from engine import END, Context, Graph, ItemError, Reduce, Retry, ToolRegistry

from .model import FACTS, Model, Overloaded, Refused

ROUNDS = 3
AT_ONCE = 2


class Research(TypedDict):
    """The state of one run."""

    about: list[str]
    tasks: NotRequired[list[str]]
    answers: NotRequired[list[Any]]
    known: Annotated[dict[str, int], Reduce("merge")]
    said: Annotated[list[str], Reduce("extend")]
    text: NotRequired[str]


class Task(TypedDict):
    """The state of one worker."""

    question: str
    search: NotRequired[str]
    found: NotRequired[dict[str, int]]


def tools() -> ToolRegistry:
    """What the workers can do beside talking to the model."""
    registry = ToolRegistry()

    @registry.tool
    def search(query: str) -> dict[str, int]:
        """Facts whose names contain all words of the query."""
        words = query.lower().replace("the ", "").split()
        return {name: value for name, value in FACTS.items() if all(word in name.lower() for word in words)}

    return registry


def research(model: Model) -> Graph:
    """The graph, for one model; its limits hold for all runs of it together."""
    graph = Graph("research", state=Research, max_activations=100, deadline=60)
    moody = Retry(attempts=4, delay=0.005, factor=2, on=Overloaded)
    # Who gets prose where JSON was wanted asks once more; that helps with real models.
    garbled = Retry(attempts=2, delay=0, on=json.JSONDecodeError)

    @graph.node(retry=moody)
    async def plan(state: Research, ctx: Context) -> dict[str, Any]:
        given = {"about": state["about"], "known": sorted(state["known"]), "round": ctx.iteration}
        tasks = json.loads(await model.complete(f"plan: {json.dumps(given)}", ctx.run_id))
        return {"tasks": tasks, "said": [f"planner, round {ctx.iteration}: {', '.join(tasks)}"]}

    worker = Graph("worker", state=Task)

    @worker.node(retry=[moody, garbled], timeout=5, concurrency=AT_ONCE)  # of all workers of all runs together
    async def ask(task: Task, ctx: Context) -> dict[str, Any]:
        return {"search": json.loads(await model.complete(f"ask: {task['question']}", ctx.run_id))["search"]}

    @worker.node
    async def look_up(task: Task, ctx: Context) -> dict[str, Any]:
        found: dict[str, int] = await ctx.tools.call("search", query=task["search"])
        if len(found) != 1:
            raise LookupError(f"{len(found)} facts match {task['search']!r}")
        return {"found": found}

    worker.add_edge("ask", "look_up").set_entry_point("ask")
    # A worker that fails takes nobody along: its error stands in its place.
    graph.add_map("work", worker, over="tasks", item="question", into="answers", on_item_error="keep")

    @graph.node
    def collect(state: Research) -> dict[str, Any]:
        known: dict[str, int] = {}
        said = []
        for task, answer in zip(state["tasks"], state["answers"], strict=True):
            if isinstance(answer, ItemError):
                said.append(f"  worker on {task!r}: {answer.message}")
            else:
                known |= answer["found"]
                said += [f"  worker on {task!r}: {name} is {value} m" for name, value in answer["found"].items()]
        missing = [fact for fact in state["about"] if fact not in state["known"] | known]
        said.append(f"critic: {len(missing)} of {len(state['about'])} are open")
        return {"known": known, "said": said}

    @graph.node(retry=moody)
    async def write(state: Research, ctx: Context) -> dict[str, Any]:
        total = sum(state["known"].values())
        names = " and ".join(fact.split(" of ")[-1] for fact in state["known"])
        return {"text": await model.complete(f"write: {names}: {total} m", ctx.run_id)}

    @graph.node
    def write_plainly(state: Research, ctx: Context) -> dict[str, Any]:
        facts = "; ".join(f"{name}: {value} m" for name, value in sorted(state["known"].items()))
        return {"text": facts, "said": [f"writer: {ctx.error.message}; so here is a plain list"]}

    graph.add_edge("plan", "work").add_edge("work", "collect")
    more = "len(state.known) < len(state.about)"
    graph.add_edge("collect", "plan", when=more, max_iterations=ROUNDS - 1)
    graph.add_edge("collect", "write", otherwise=True)
    graph.add_edge("write", "write_plainly", on_error=Refused)
    graph.add_edge(["write", "write_plainly"], END)
    return graph.set_entry_point("plan")
