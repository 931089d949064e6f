"""Keys are made well, kept as hashes, compared in constant time, and shown nowhere."""

import ast
import hmac
import inspect
from pathlib import Path
from time import time

import pytest

from engine.web import keys as module
from engine.web.keys import Keys, KeysInvalid, new_key


def test_a_key_that_was_made_is_good_for_its_scopes() -> None:
    made = new_key("ci", ["submit", "read"])
    found = Keys.parse(made.entry()).principal(made.text)

    assert found is not None
    assert (found.name, found.shown_scopes()) == ("ci", ["read", "submit"])


def test_no_two_keys_are_the_same_and_each_has_256_bits_of_chance() -> None:
    made = {new_key("ci", ["read"]).text for _ in range(100)}

    assert len(made) == 100
    assert all(len(text) == len("wfe_12345678_") + 43 for text in made)


@pytest.mark.parametrize("text", ["", "wfe_", "nonsense", "wfe_00000000_" + "a" * 43, "\0", "k" * 100_000])
def test_what_is_no_key_of_these_is_nobodys(text: str) -> None:
    assert Keys([new_key("ci", ["read"]).key]).principal(text) is None


def test_a_key_with_the_right_id_and_another_secret_is_nobodys() -> None:
    made = new_key("ci", ["read"])
    other = made.text[:-1] + ("a" if made.text[-1] != "a" else "b")

    assert Keys([made.key]).principal(other) is None


def test_an_expired_key_is_nobodys() -> None:
    past, future = new_key("past", ["read"], expires=time() - 10), new_key("future", ["read"], expires=time() + 100)
    keys = Keys.parse(past.entry() + future.entry())

    assert keys.principal(past.text) is None
    assert keys.principal(future.text) is not None


def test_every_key_that_looks_like_one_costs_one_comparison_of_all_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    made, stranger = new_key("ci", ["read"]), new_key("stranger", ["read"])
    keys = Keys([made.key])
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(module, "compare_digest", compare)
    for text in (made.text, made.text[:-1] + "_", stranger.text):
        keys.principal(text)

    assert compared == [(32, 32)] * 3


def test_no_digest_is_compared_in_any_other_way() -> None:
    tree = ast.parse(inspect.getsource(module))
    compared = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Compare)]

    assert compared, "the test looks at nothing"
    assert not [text for text in compared if "digest" in text or "secret" in text or "_NOBODY" in text]


def test_neither_keys_nor_hashes_are_shown() -> None:
    made = new_key("ci", ["read"])
    shown = f"{made!r} {made.key!r} {Keys([made.key])!r} {made.entry()}"

    assert made.text not in shown
    assert made.text[13:] not in shown
    assert made.key.digest.hex() not in f"{made!r} {made.key!r} {Keys([made.key])!r}"


def test_one_key_of_an_environment_variable_may_do_everything() -> None:
    made = new_key("x", ["read"])
    found = Keys.of_text(f" {made.text}\n").principal(made.text)

    assert found is not None
    assert found.may("admin")
    assert found.may("submit")
    with pytest.raises(KeysInvalid, match="that is no key") as raised:
        Keys.of_text("my password")
    assert "password" not in str(raised.value).replace("my password", "")


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "a" * 65, '"'])
def test_a_name_that_would_break_a_line_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be called"):
        new_key(name, ["read"])


def test_unknown_scopes_and_none_are_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown scopes 'write': there are read, submit, admin"):
        new_key("ci", ["read", "write"])
    with pytest.raises(ValueError, match="without scopes"):
        new_key("ci", [])


GOOD = new_key("good", ["read"]).entry()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "must hold entries"),
        ("keys = 1", "must hold entries"),
        ("[[keys]", "is no TOML"),
        (GOOD + "[other]\n", "and nothing else"),
        (GOOD + GOOD, "entry 2: id '[0-9a-f]{8}' is taken"),
        (GOOD.replace("name", "nam"), "entry 1: unknown 'nam'"),
        (GOOD.replace('"read"', '"write"'), "entry 1: unknown scopes 'write'"),
        (GOOD.replace("sha256 = ", "sha256 = 'x'#"), "sha256 must be 64 hex digits"),
        (GOOD + "expires = 2027-01-01T00:00:00", "must be a time with its zone"),
        ("keys = [1]", "entry 1: must be a table"),
    ],
)
def test_a_wrong_file_is_told_with_its_place(text: str, fault: str, tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(text)
    with pytest.raises(KeysInvalid, match=fault) as raised:
        Keys.read(file)

    assert str(file) in str(raised.value)


def test_all_faults_of_a_file_are_told_at_once() -> None:
    with pytest.raises(KeysInvalid, match=r"entry 1: .*; entry 3: "):
        Keys.parse(GOOD.replace("read", "x") + new_key("b", ["read"]).entry() + GOOD.replace("good", "a b"))
