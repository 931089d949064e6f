"""What conditions are called: as they were written, where that is at hand."""

import operator
from functools import partial
from typing import Any

import attrs
import pytest

from engine.drawing.wording import called


def good_enough(state: Any) -> bool:
    return True


LIMIT = 3
LAMBDAS = {
    "s.score < 0.8": lambda s: s.score < 0.8,
    "(s.a or s.b) and not s.c": lambda s: (s.a or s.b) and not s.c,
    "s.a and (s.b or s.c)": lambda s: s.a and (s.b or s.c),
    's["é"] > len(s.rows)': lambda s: s["é"] > len(s.rows),
    "s.x > LIMIT": lambda s: s.x > LIMIT,
    "s.x > 3 and s.y": lambda s: (
        s.x > 3
        and s.y
    ),
    "{k for k in s.names if k > 'a'}": lambda s: {k for k in s.names if k > 'a'},
}  # fmt: skip


@pytest.mark.parametrize("source", LAMBDAS)
def test_a_lambda_is_called_by_its_source(source: str) -> None:
    assert called(LAMBDAS[source], "when") == source


def test_of_several_lambdas_in_a_line_each_is_its_own() -> None:
    one, other = (lambda s: s.a > 1), (lambda s: s.b > 2)

    assert [called(one, "when"), called(other, "when")] == ["s.a > 1", "s.b > 2"]


def test_a_lambda_without_a_source_is_called_what_the_caller_says() -> None:
    assert called(eval("lambda s: s.a"), "when …") == "when …"


def test_a_lambda_whose_file_was_changed_is_not_called_by_what_stands_there_now(tmp_path: Any) -> None:
    file = tmp_path / "conditions.py"
    names: dict[str, Any] = {}
    exec(compile("f = lambda s: s.before", str(file), "exec"), names)

    file.write_text("f = lambda s: s.after_ ")

    assert called(names["f"], "when") == "when"


@attrs.frozen
class Condition:
    text: str

    def __call__(self, state: Any) -> bool:
        return True


@pytest.mark.parametrize(
    ("condition", "name"),
    [
        (good_enough, "good_enough"),
        (Condition("state.quality < 0.95"), "state.quality < 0.95"),
        (Condition(""), "when"),
        ("state.quality < 0.95", "state.quality < 0.95"),
        (partial(good_enough), "good_enough"),
        (operator.attrgetter("ok"), "attrgetter('ok')"),
        (len, "len"),
        (None, "when"),
        (object(), "when"),
    ],
)
def test_anything_else_is_called_by_its_text_or_name(condition: Any, name: str) -> None:
    assert called(condition, "when") == name
