"""The pipeline in an asyncio program and in a trio program: nothing lost unseen, nothing piled up, a clean stop."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

from tests.examples.processes import HELD, ROOT

LIBRARIES = pytest.mark.parametrize("library", ["asyncio", "trio"], ids="on-{}".format)


def begin(library: str, *arguments: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-u", "-W", "error", "-m", "examples.embedded_pipeline", library, *arguments]
    return subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(program: subprocess.Popen[str]) -> str:
    said, errors = program.communicate(timeout=120)
    assert program.returncode == 0, errors
    assert HELD.sub("", errors) == ""
    return said


@LIBRARIES
def test_every_document_is_written_or_known_to_be_lost(library: str) -> None:
    said = ended(begin(library, "--documents", "300"))

    assert "300 documents begun, 297 written, 3 lost: [99, 199, 299]" in said
    assert "330 requests, 30 of them a second try" in said
    assert "languages: {'de': 99, 'la': 198}" in said


@LIBRARIES
def test_no_more_are_on_their_way_than_allowed_and_rows_are_written_many_at_once(library: str) -> None:
    said = ended(begin(library, "--documents", "400"))

    most, transactions = re.search(r"at most (\d+) documents", said), re.search(r"(\d+) transactions", said)
    assert most is not None
    assert transactions is not None
    assert 1 < int(most[1]) <= 64
    assert int(transactions[1]) < 200


@LIBRARIES
def test_a_stop_finishes_what_is_on_its_way(library: str) -> None:
    said = ended(begin(library, "--stop-after", "150"))

    assert "150 documents begun, 149 written, 1 lost: [99]" in said


@LIBRARIES
def test_ctrl_c_is_such_a_stop(library: str) -> None:
    program = begin(library, "--documents", "100000")
    assert program.stdout is not None
    program.stdout.readline()  # the first that it says
    program.send_signal(signal.SIGINT)

    found = re.search(r"(\d+) documents begun, (\d+) written, (\d+) lost", ended(program))

    assert found is not None
    begun, written, lost = map(int, found.groups())
    assert begun == written + lost < 100_000
