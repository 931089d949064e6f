"""Text that fits."""

import pytest

from engine.drawing.lettering import cut, in_two, plain, shortened, width_of


def test_wider_letters_are_wider() -> None:
    assert width_of("iii", 10) < width_of("aaa", 10) < width_of("WWW", 10)
    assert width_of("名", 10) == 10
    assert width_of("e\u0301", 10) == width_of("e", 10)


@pytest.mark.parametrize("make", [cut, shortened])
def test_what_fits_is_left_alone_and_what_does_not_is_made_to(make: object) -> None:
    assert callable(make)
    assert make("short", 10.0, 100.0) == "short"
    for text in ("a" * 100, "W" * 100, "some words and some more words", "名前" * 40):
        assert width_of(make(text, 10.0, 60.0), 10.0) <= 60
        assert "…" in make(text, 10.0, 60.0)


def test_a_shortened_name_keeps_its_beginning_and_end() -> None:
    assert shortened("detect_missing_values_in_column_17", 13, 150).startswith("detect")
    assert shortened("detect_missing_values_in_column_17", 13, 150).endswith("17")


def test_a_long_label_is_broken_where_its_halves_are_alike() -> None:
    assert in_two("otherwise", 11, 120, 190) == ("otherwise",)
    assert in_two("review.score < 0.8, at most 5 times", 11, 120, 190) == ("review.score < 0.8,", "at most 5 times")
    assert len(in_two("x" * 200, 11, 120, 190)) == 1
    assert all(width_of(line, 11) <= 190 for line in in_two("many words " * 30, 11, 120, 190))


def test_what_cannot_be_shown_is_left_out() -> None:
    assert plain("a\x00b\nc\t d\ud800e") == "a b c d e"
    assert len(plain("x" * 1_000_000)) < 10_000
