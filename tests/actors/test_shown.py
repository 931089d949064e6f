"""Values in messages are short and never fail."""

from actors.shown import shown


def test_a_short_value_is_shown_as_its_repr() -> None:
    assert shown("x") == "'x'"


def test_a_long_value_is_cut_short() -> None:
    assert shown("x" * 1_000_000) == "'" + 196 * "x" + "..."


def test_a_value_whose_repr_raises_is_named_by_its_type() -> None:
    class Bad:
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    assert shown(Bad()) == "<Bad, whose repr raised RuntimeError>"
