"""Media types and ranges of them, as RFC 2045 and RFC 6838 have them."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import BadMediaType
from engine.mediatypes import best, fits, may_fit, media_range, media_type

SOUND = [
    "text/csv",
    "TEXT/CSV",
    "text/csv; charset=utf-8",
    'text/csv;charset="utf-8"',
    "application/vnd.apache.parquet",
    "application/ld+json",
    "application/x.foo!#$&-^_.+bar",
    'multipart/mixed; boundary="a; b \\" c"',
    "text/plain; format=flowed; delsp=yes ",
]
NONSENSE = [
    "",
    "text",
    "text/",
    "/csv",
    "text/csv/x",
    "text /csv",
    "text/c sv",
    "*",
    "*/csv",
    "text/**",
    "text/c*",
    "text/*+",
    "application/+json",
    "text/csv;",
    "text/csv; charset",
    "text/csv; charset=",
    "text/csv; =utf-8",
    "text/csv; charset=utf-8; charset=ascii",
    'text/csv; x="a',
    "text/csv charset=utf-8",
    "text/csv\r\nX-Header: y",
    "text/csv; x=a\0b",
    "tëxt/csv",
    "text/" + "x" * 200,
    "text/csv; x=" + "y" * 2000,
]


@pytest.mark.parametrize("text", SOUND)
def test_what_is_written_is_read_again_as_the_same(text: str) -> None:
    found = media_type(text)

    assert media_type(str(found)) == found
    assert not found.is_range


@pytest.mark.parametrize("text", [*NONSENSE, None, 3, b"text/csv", ["text/csv"]])
def test_nonsense_is_refused_with_what_is_wrong(text: str) -> None:
    with pytest.raises(BadMediaType, match=r"is no media type: ") as caught:
        media_range(text)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("text", ["*/*", "text/*", "application/*+json"])
def test_a_range_is_no_media_type(text: str) -> None:
    assert media_range(text).is_range
    with pytest.raises(BadMediaType, match="it is a range"):
        media_type(text)


def test_names_know_no_case_and_parameters_no_order() -> None:
    assert media_type("Text/CSV; Charset=UTF-8; header=Present") == media_type(
        'text/csv;header=Present;charset="utf-8"'
    )
    assert media_type("text/csv; header=present") != media_type("text/csv; header=Present")


@pytest.mark.parametrize(
    ("media", "within", "holds"),
    [
        ("text/csv", "text/csv", True),
        ("text/csv", "text/*", True),
        ("text/csv", "*/*", True),
        ("text/csv", "application/*", False),
        ("text/csv", "text/plain", False),
        ("application/ld+json", "application/*+json", True),
        ("application/ld+json", "application/json", False),
        ("application/json", "application/*+json", False),
        ("application/json", "application/*", True),
        ("image/svg+xml", "application/*+xml", False),
        ("application/a+b+json", "application/*+json", True),
        ("text/csv; charset=utf-8", "text/csv", True),
        ("text/csv; charset=UTF-8", "text/*; charset=utf-8", True),
        ("text/csv", "text/csv; charset=utf-8", False),
        ("text/csv; charset=ascii", "text/csv; charset=utf-8", False),
        ("text/csv; header=present; charset=utf-8", "text/csv; charset=utf-8", True),
    ],
)
def test_what_fits_a_range(media: str, within: str, holds: bool) -> None:
    assert fits(media, [within]) is holds


@pytest.mark.parametrize(
    ("given", "wanted", "may"),
    [
        ("text/*", "text/csv", True),
        ("*/*", "text/csv", True),
        ("text/*", "application/*", False),
        ("application/*", "application/*+json", True),
        ("application/*+json", "application/*+xml", False),
        ("application/*+json", "application/ld+json", True),
        ("text/csv", "text/csv; charset=utf-8", False),
        ("text/*", "text/csv; charset=utf-8", True),
        ("text/csv; charset=ascii", "text/*; charset=utf-8", False),
        ("text/*; charset=utf-8", "text/csv", False),
    ],
)
def test_what_may_fit_a_range(given: str, wanted: str, may: bool) -> None:
    assert may_fit(given, [wanted]) is may
    assert may_fit(wanted, [given]) is may


def test_the_most_that_is_said_counts() -> None:
    ranges = ["*/*", "text/*", "text/csv", "text/csv; charset=utf-8", "application/*+json"]
    found = [best("text/csv; charset=utf-8", ranges[: count + 1]) for count in range(4)]

    assert found == sorted(found)
    assert len(set(found)) == 4
    assert best("image/png", ranges[1:]) is None


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_and_nothing_else(text: str) -> None:
    try:
        found = media_range(text)
    except BadMediaType:
        return
    assert media_range(str(found)) == found
    assert media_range("*/*").includes(found)
    assert found.overlaps(found)
