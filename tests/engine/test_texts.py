"""JSON and YAML as data: what they mean, and what is refused, with line and column."""

from __future__ import annotations

import time
from typing import Any

import pytest

from engine.texts import NotData, check_data, read_json, read_yaml
from tests.slowness import slowness


def short(value: Any) -> str:
    """A name for a case."""
    text = str(value)
    return f"{text[:20].encode('unicode_escape').decode()}{len(text)}"


def refusal(read: Any, text: Any) -> NotData:
    began = time.process_time()  # others may use this machine
    with pytest.raises(NotData) as raised:
        read(text)
    assert time.process_time() - began < 2 * slowness()
    assert len(str(raised.value)) < 500
    return raised.value


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ('{"a": 1,\n "b": }', "line 2, column 7", "not JSON"),
        ("", "line 1, column 1", "not JSON"),
        ('{"a": 1, "a": 2}', "/", "the key 'a' twice"),
        ("[NaN]", "/", "NaN is no JSON number"),
        ("[Infinity]", "/", "no JSON number"),
        ("1" * 5000, "/", "5,000 digits"),
        ("[" * 10_000 + "]" * 10_000, "/", "nested more than 100 deep"),
        ("[" * 1_000_000, "/", "nested more than 100 deep"),
        (" " * 50_000_000, "/", "at most 5,000,000"),
        (b"\xff{}", "byte 0", "not UTF-8"),
    ],
    ids=short,
)
def test_what_is_no_json_is_refused(text: str | bytes, where: str, said: str) -> None:
    error = refusal(read_json, text)
    assert error.where == where
    assert said in error.message


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": {"b": 1, "c": {"b": 2}}, "d": [{"b": 3}, {"b": 4}]}',
        b'{"a:a": "b:b", "at": "12:30:00"}',
        b"[123456789012345678901234567890, -9223372036854775809, 18446744073709551616, 12345678901234567]",
        b"[1.0, 1E5, -0.0, -0, 0.1, 3.141592653589793238462643383279, 5e-324, 1e-400]",
        b'["", "\\u00e9\\ud83d\\ude00\\n", true, false, null, [], {}, [[]]]',
        b" 7 ",
        "\ufeff{}".encode(),
    ],
    ids=short,
)
def test_the_quick_reader_reads_what_the_exact_one_does(text: bytes) -> None:
    assert repr(read_json(text)) == repr(read_json(text.decode()))


@pytest.mark.parametrize("text", [b'{"a": 1, "a": 2}', b'[{"b": {"a": 1, "a": ":"}}]', b'{"a": "b:c", "a": "b:c"}'])
def test_bytes_say_no_key_twice_either(text: bytes) -> None:
    assert "the key 'a' twice" in str(refusal(read_json, text))


def test_a_byte_order_mark_is_no_fault() -> None:
    assert read_json(b"\xef\xbb\xbf[1]") == read_json("\ufeff[1]") == [1]


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("no", "no"),
        ("on: off", {"on": "off"}),
        ("12:30", "12:30"),
        ("2024-05-01", "2024-05-01"),
        ("[1, -2, 1.5, 1e3, .5, 0o7, 0x1F, 1_000]", [1, -2, 1.5, 1000.0, 0.5, "0o7", "0x1F", "1_000"]),
        ("[true, False, null, ~, '', 'true', \"1\"]", [True, False, None, None, "", "true", "1"]),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        ("a: |\n  1\n  2\n", {"a": "1\n2\n"}),
        ("", None),
        ("! 5", "5"),
        ("!!str 5", "5"),
    ],
)
def test_yaml_means_what_it_looks_like(text: str, meaning: Any) -> None:
    assert read_yaml(text) == meaning


LAUGHS = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ("a: [1,\nb: }", "line 2, column 4", "not YAML"),
        ("a: 1\na: 2", "line 2, column 1", "'a' is here twice"),
        ("1: 2", "line 1, column 1", "not text"),
        ("[a]: 2", "line 1, column 1", "not text"),
        ("&a [*a]", "line 1, column 5", "contains itself"),
        ("*a", "line 1, column 1", "nothing before this is called 'a'"),
        (LAUGHS, "line 6, column 34", "more than 500,000 values"),
        ("a: !!python/object/apply:os.system [ls]", "line 1, column 4", "the tag"),
        ("!!binary aGk=", "line 1, column 1", "the tag"),
        ("a\n---\nb", "line 2, column 1", "second document"),
        ("[" * 10_000, "line 1, column 102", "nested more than 100 deep"),
        ("- " * 10_000, "line 1, column 203", "nested more than 100 deep"),
        ("x" * 2_000_000, "/", "at most 1,000,000"),
        ("a: " + "1" * 5000, "line 1, column 4", "5,000 digits"),
        ("a: \x00", "/", "not YAML"),
        ("%YAML 9.9\n---\na", "line 1, column 1", "not YAML"),
    ],
    ids=short,
)
def test_what_is_no_plain_yaml_is_refused(text: str, where: str, said: str) -> None:
    error = refusal(read_yaml, text)
    assert error.where == where
    assert said in error.message


def test_data_that_is_no_json_is_refused_with_its_place() -> None:
    endless: list[Any] = []
    endless.append(endless)
    wide: Any = [1] * 10
    for _ in range(20):
        wide = [wide] * 10
    for data, where, said in (
        ({"a": [1, {2}]}, "/a/1", "is not JSON"),
        ({"a/b": {1: 2}}, "/a~1b", "the key 1 (int) is not text"),
        ([float("inf")], "/0", "no JSON number"),
        (endless, "/0" * 100, "nested more than 100 deep"),
        (wide, "/", "more than 500,000 values"),
    ):
        error = refusal(check_data, data)
        assert error.where == where
        assert said in error.message
