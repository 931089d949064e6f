"""The commands put together: `workflow-engine` and what it knows."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final

import click
from click.shell_completion import get_completion_class

from . import acting as acting  # the other half of `runs`
from .auditing import audit
from .checking import check, draw
from .running import run
from .runs import runs
from .service import keys, serve
from .serving import metrics
from .setup import NAME, Verbs
from .storing import store
from .tooling import tools

_SHELLS: Final = ("bash", "zsh", "fish")
_VARIABLE: Final = f"_{NAME.replace('-', '_').upper()}_COMPLETE"


def _version() -> str:
    try:
        return version(NAME)
    except PackageNotFoundError:
        return "unknown: it is not installed"  # run from a folder of its source


@click.group(name=NAME, cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(_version(), prog_name=NAME)
def cli() -> None:
    """Run, watch and look after graphs of functions.

    \b
    Run a graph, and see it go:
        workflow-engine run review.json --tools my_tools --state '{"text": "a fine day"}'
        workflow-engine run flows.py:review --state @state.json > result.json
    \b
    Interrupted (Ctrl-C, kill -9, a power cut)? It goes on where it was:
        workflow-engine runs ls --status unfinished
        workflow-engine runs resume 7f3a… --graphs flows.py:review
    \b
    Before that, see what is wrong with it, and what it looks like:
        workflow-engine check review.json
        workflow-engine draw review.json -o review.svg

    Results go to stdout, as JSON; all else goes to stderr. Exit codes: 0 success, 1 the run failed, 2 usage or
    invalid input, 3 the run waits in the store, 74 what was asked for could not be written, 130 interrupted, 141
    nobody reads it any more.

    What is an option is also a variable (--store is WORKFLOW_STORE) and a key of workflow.toml (store = "…");
    options come first, then variables, then the file.
    """


@cli.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> int:
    """Print a script that completes commands and options in a shell.

    \b
    For this session, and for all that come:
        eval "$(workflow-engine completion bash)"
        workflow-engine completion bash >> ~/.bashrc
        workflow-engine completion fish > ~/.config/fish/completions/workflow-engine.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(cli, {}, NAME, _VARIABLE).source())
    return 0


for command in (run, check, draw, runs, tools, serve, keys, metrics, audit, store):
    cli.add_command(command)

__all__ = ["NAME", "cli"]
