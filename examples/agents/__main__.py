"""`python -m examples.agents [asyncio|trio]`: three questions at once for one model, which cannot take much."""

from __future__ import annotations

import argparse

import anyio

from engine import Engine, Run

from .graph import research, tools
from .model import Model

QUESTIONS = {
    "towers": ["height of the Eiffel Tower", "height of the Tokyo Tower"],
    "stones": ["height of the Ulm Minster", "height of the Great Pyramid", "height of the Cologne Cathedral"],
    "clouds": ["height of the Eiffel Tower", "height of the Tower of Babel"],
}


async def main() -> None:
    """Ask all of them at once, and tell how each went."""
    model = Model()
    graph = research(model)
    async with Engine(tools=tools()) as engine:
        runs = {
            name: await engine.submit(graph, {"about": about, "known": {}, "said": []}, tags={"question": name})
            for name, about in QUESTIONS.items()
        }
        for name, run in runs.items():
            await run.result()
            print(f"\n== {name}", *told(run), sep="\n")
    print(f"\n{model.calls} calls of the model; at most {model.most['ask']} questions at once, in {len(runs)} runs")


def told(run: Run) -> list[str]:
    """What was said in a run, and what its limits and retries did."""
    counters = run.counters
    return [
        *run.state["said"],
        f"result: {run.state['text']}",
        f"(retries: {counters['retries']}, loops ended by their limit: {counters['loop_limits']})",
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m examples.agents")
    parser.add_argument("library", nargs="?", choices=("asyncio", "trio"), default="asyncio")
    library = parser.parse_args().library
    if library not in anyio.get_available_backends():
        parser.exit(1, f"error: this example needs {library}: pip install -e '.[{library}]'\n")
    anyio.run(main, backend=library)
