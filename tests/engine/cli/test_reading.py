"""What people write on a command line, and what they are told when it is wrong."""

import io
from pathlib import Path

import pytest

from engine.cli.faults import Refusal
from engine.cli.reading import json_of, object_of, shown_time, signals_of, since_of, tags_of


def test_json_is_given_as_it_is_or_in_a_file_or_on_stdin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "state.json").write_text('{"a": 2}', encoding="utf-8-sig")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"[3]")))

    assert json_of('{"a": 1}', "--state") == {"a": 1}
    assert json_of("@state.json", "--state") == {"a": 2}
    assert json_of("-", "--state") == [3]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1,}', "line 1, column 9"),
        ('{\n  "a": nope\n}', "line 2, column 8"),
        ("", "line 1, column 1"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ('{"a": 1, "a": 2}', "the key 'a' twice"),
        ("[" * 100_000, "nested too deep"),
        ('{"n": 1e400}', "the number 1e400 is too large"),
        ('{"n": ' + "9" * 5000 + "}", "a number has 5,000 digits, and at most 1,000 are read"),
    ],
)
def test_wrong_json_is_told_with_its_place(text: str, said: str) -> None:
    with pytest.raises(Refusal, match=said) as refused:
        json_of(text, "--state")
    assert str(refused.value).startswith("--state is")


def test_the_line_is_shown_with_a_caret_under_the_place() -> None:
    with pytest.raises(Refusal) as refused:
        json_of('{"text": "x", "number": 1o}', "--state")

    near, caret = refused.value.advice
    assert near[caret.index("^")] == "o"


@pytest.mark.parametrize("given", ["@none.json", "@."])
def test_a_file_that_cannot_be_read_is_told(given: str) -> None:
    with pytest.raises(Refusal, match="cannot be read"):
        json_of(given, "--state")


def test_an_update_must_be_an_object() -> None:
    assert object_of(None, "--update") is None
    assert object_of("{}", "--update") == {}
    with pytest.raises(Refusal, match=r"--update must be a JSON object, found \[1\]"):
        object_of("[1]", "--update")


def test_tags_and_signals_are_pairs() -> None:
    assert tags_of(["a=1", "b=x=y"]) == {"a": "1", "b": "x=y"}
    assert signals_of(["go", 'ok={"by": 1}']) == [("go", None), ("ok", {"by": 1})]
    for wrong in (lambda: tags_of(["a"]), lambda: tags_of(["=1"]), lambda: signals_of(["=1"])):
        with pytest.raises(Refusal):
            wrong()


def test_a_time_is_so_long_ago_or_a_date() -> None:
    assert since_of(None, lambda: 0) is None
    assert since_of("90m", lambda: 10_000.0) == 10_000 - 5_400
    assert since_of("2024-05-01T12:00+00:00", lambda: 0) == 1714564800
    assert shown_time(1714564800) == "2024-05-01T12:00:00.000+00:00"
    with pytest.raises(Refusal, match="write 30m"):
        since_of("yesterday", lambda: 0)
