"""Where the command begins and ends: what is missing is told, and every error becomes one message and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Final

NEEDED: Final = ("click", "rich")
"""What the extra `cli` brings."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and give its exit code: 0 success, 1 the run failed, 2 refused, 3 left waiting, 130 Ctrl-C."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        told = f"workflow-engine: the command line needs {' and '.join(missing)}: pip install 'workflow-engine[cli]'"
        print(told, file=sys.stderr)
        return 2
    import click

    from .commands import NAME, cli

    shared: dict[str, Any] = {}
    try:
        code = cli.main(arguments, NAME, standalone_mode=False, obj=shared)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return _nobody_reads()
    except Exception as error:
        return _tell(error, debug=bool(shared.get("debug")))


def _tell(error: Exception, *, debug: bool) -> int:
    if debug:
        raise error
    from .faults import told
    from .safe import safe_text

    found = told(error)
    print(safe_text(f"workflow-engine: {found.message}"), file=sys.stderr)
    for line in (*found.details, *found.advice):
        print(safe_text(f"  {line}"), file=sys.stderr)
    return found.code


def _nobody_reads() -> int:
    """Whoever read what is printed has gone, as `head` does: no fault, but nothing more to do either."""
    import os

    # Or the interpreter would complain when it flushes what is left.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
