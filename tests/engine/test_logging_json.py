"""Log lines for programs: always one line of JSON, about the right things, without secrets."""

import io
import json
import logging
import sys
import time
from typing import Any

import pytest

from engine.logging_json import LONGEST, JsonFormatter, TextFormatter, logging_to
from engine.logs import about, asker
from engine.redaction import Secret, hide, redacted
from engine.web.keys import new_key
from tests.slowness import slowness


def record(message: str = "said", *args: Any, level: int = logging.INFO, **extra: Any) -> logging.LogRecord:
    return logging.getLogger("engine.test").makeRecord(
        "engine.test", level, __file__, 1, message, args, None, extra=extra
    )


def line(*args: Any, **extra: Any) -> dict[str, Any]:
    said = JsonFormatter().format(record(*args, **extra))
    assert "\n" not in said
    found: dict[str, Any] = json.loads(said)
    return found


def test_a_line_says_when_what_and_about_what() -> None:
    found = line("run %s ended", "r1", **about("r1", "g", "n", status="failed", seconds=1.5, tags=["a"]))

    assert found["time"].endswith("Z")
    assert {**found, "time": ""} == {
        "time": "",
        "level": "info",
        "logger": "engine.test",
        "message": "run r1 ended",
        "graph": "g",
        "node": "n",
        "run": "r1",
        "status": "failed",
        "seconds": 1.5,
        "tags": ["a"],
    }


def test_what_is_not_known_is_left_out() -> None:
    assert set(line(**about())) == {"time", "level", "logger", "message"}


def test_request_and_principal_are_those_of_what_runs_unless_the_line_says_others() -> None:
    token = asker.set(("q1", "ann"))
    try:
        assert (line()["request"], line()["principal"]) == ("q1", "ann")
        assert line(principal="bob")["principal"] == "bob"
        assert "[principal=ann request=q1]" in TextFormatter().format(record())
    finally:
        asker.reset(token)


class Odd:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    "value", [{1: {2}}, object(), float("nan"), 1 << 100, b"\xff", "\ud800", Odd(), {"a": Odd()}, "x" * 100_000]
)
def test_whatever_is_logged_is_one_line(value: Any) -> None:
    assert "value" in line(value=value)
    assert line("%s and %r", "a\nb", "c")["message"] == "a\nb and 'c'"
    assert "do not fit" in line("%d", "text")["message"]


def test_an_error_is_told_with_its_traceback_and_long_texts_are_cut() -> None:
    try:
        raise ValueError("x" * 100_000)
    except ValueError:
        made = record()
        made.exc_info = sys.exc_info()
    found = json.loads(JsonFormatter().format(made))

    assert found["error"].startswith("ValueError: xxx")
    assert len(found["error"]) <= LONGEST + 1
    assert "traceback" in found


KEY = new_key("x", ["read"]).text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://user:hunter2@host/db", "postgresql://user:***@host/db"),
        ("redis://:hunter2@host:6379/0 and more", "redis://:***@host:6379/0 and more"),
        ("postgresql://user:p@ss:hunter2@host/db", "postgresql://user:***@host/db"),
        ("?password=hunter2&x=1", "?password=***&x=1"),
        ("host=h sslpassword='hunter2 x' user=u", "host=h sslpassword=*** user=u"),
        ('{"api_key": "hunter2", "b": 1}', '{"api_key": ***, "b": 1}'),
        ("Authorization: Bearer hunter2", "Authorization: ***"),
        pytest.param(f"key {KEY} is wrong", f"key {KEY[:12]}_*** is wrong", id="a key of ours"),
        ("nothing to hide: http://host/path?x=1", "nothing to hide: http://host/path?x=1"),
        ("the token of an activation: 17", "the token of an activation: 17"),
    ],
)
def test_secrets_are_hidden_wherever_they_stand(text: str, shown: str) -> None:
    assert redacted(text) == shown
    found = JsonFormatter().format(record("%s", text, value=text, inner={"deep": [text]}))
    assert "hunter2" not in found + TextFormatter().format(record(text.replace("%", "")))
    assert KEY not in found


def test_what_was_told_to_be_a_secret_is_hidden_as_it_is() -> None:
    secret = Secret("correct horse battery")
    hide("abc")  # too short: it would be found in words

    assert (repr(secret), str(secret), f"{secret}") == ("***", "***", "***")
    assert secret.reveal() == "correct horse battery"
    assert redacted("a correct horse battery of abc") == "a *** of abc"
    assert secret == Secret("correct horse battery")


@pytest.mark.parametrize("text", ["a-" * 50_000, "a" * 100_000, "a://" * 25_000, "password" * 12_000, "://:" * 25_000])
def test_no_text_takes_long_to_look_through(text: str) -> None:
    began = time.process_time()
    JsonFormatter().format(record("%s", text))

    assert time.process_time() - began < 2 * slowness()


def test_a_program_logs_to_a_stream() -> None:
    stream, root = io.StringIO(), logging.getLogger()
    before = root.level, root.handlers[:]
    with logging_to(stream, "warning", "json"):
        logging.getLogger("anything").warning("heard")
        logging.getLogger("anything").info("not heard")
    logging.getLogger("anything").warning("not heard any more")

    assert (root.level, root.handlers) == before
    assert [json.loads(said)["message"] for said in stream.getvalue().splitlines()] == ["heard"]
