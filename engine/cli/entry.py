"""Where the command begins and ends: what is missing is told, and every error becomes one message and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Final

from .streams import UNREAD, OutputLost, guarded, require_stdout

NEEDED: Final = ("click", "rich")
"""What the extra `cli` brings."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and give its exit code: 0 success, 1 the run failed, 2 refused, 3 left waiting, and others."""
    with guarded():
        try:
            require_stdout()
            return _run(arguments)
        except OutputLost as error:
            return _unwritten(error)
        except KeyboardInterrupt:  # while what the command needs is imported
            print("interrupted", file=sys.stderr)
            return 130


def _run(arguments: Sequence[str] | None) -> int:
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
    except OutputLost:
        raise
    except Exception as error:
        return _tell(error, debug=bool(shared.get("debug")))


def _tell(error: Exception, *, debug: bool) -> int:
    from .faults import only_leaf, told

    if isinstance(leaf := only_leaf(error), OutputLost):
        return _unwritten(leaf)
    if debug:
        raise error
    found = told(error)
    _print_error(found.message, *found.details, *found.advice)
    return found.code


def _unwritten(error: OutputLost) -> int:
    """Whoever has stopped reading, as `head` does, knows; else it is told what has become of what was asked for."""
    if error.code != UNREAD:
        _print_error(str(error), *error.advice)
    return error.code


def _print_error(message: str, *lines: str) -> None:
    from .safe import safe_text

    print(safe_text(f"workflow-engine: {message}"), file=sys.stderr)
    for line in lines:
        print(safe_text(f"  {line}"), file=sys.stderr)
