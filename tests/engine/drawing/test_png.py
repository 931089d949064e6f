"""PNG drawings: the same picture as SVG, with the font that the package ships."""

import sys
import time
from io import BytesIO
from typing import Any

import pytest
from PIL import Image, ImageFont

from engine.drawing import png
from engine.drawing.lettering import plain, width_of
from engine.graph import Graph
from engine.values import END


def step(state: Any) -> None: ...


def review() -> Graph:
    graph = Graph("review").add_node("draft", step).add_node("decide", step).add_edge("draft", "decide")
    graph.add_edge("decide", "draft", when=lambda review: review.score < 0.8, max_iterations=5)
    graph.add_edge("decide", END, on_error=ValueError).add_map("score", step, over="rows", into="x")
    return graph.add_wait("wait", signal="ok", into="ok").set_entry_point("draft")


def chain(count: int) -> Graph:
    graph = Graph("chain").set_entry_point("n0")
    for number in range(count):
        graph.add_node(f"n{number}", step)
    for number in range(count - 1):
        graph.add_edge(f"n{number}", f"n{number + 1}")
    return graph


def opened(data: bytes) -> Image.Image:
    image = Image.open(BytesIO(data))
    image.load()
    return image


def test_it_is_a_picture_of_twice_the_size_of_the_svg() -> None:
    svg = review().draw("svg")
    width, height = (float(svg.split(f' {side}="')[1].split('"')[0]) for side in ("width", "height"))

    image = opened(review().draw("png"))

    assert image.format == "PNG"
    assert image.size == (pytest.approx(2 * width, abs=1), pytest.approx(2 * height, abs=1))


def test_it_is_on_white_and_has_the_colours_of_what_leads_back_and_of_errors() -> None:
    image = opened(review().draw("png")).convert("RGB")
    colours = {colour for count, colour in image.getcolors(1 << 24) or () if count > 30}

    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert {(0x6B, 0x3F, 0xA0), (0xB3, 0x26, 0x1E)} <= colours


def test_the_same_graph_gives_the_same_bytes() -> None:
    assert review().draw("png") == review().draw("png")


def test_without_pillow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)

    with pytest.raises(ImportError, match=r"pip install 'workflow-engine\[draw\]'"):
        review().draw("png")


def test_what_is_very_large_gets_fewer_pixels() -> None:
    image = opened(chain(400).draw("png"))

    assert image.height <= png.LONGEST
    assert image.width * image.height <= png.MOST_PIXELS


def test_what_is_larger_than_any_picture_is_refused() -> None:
    with pytest.raises(ValueError, match=r"graph 'chain' is too large for a PNG: .*; draw it as 'svg'"):
        chain(3_000).draw("png")


@pytest.mark.parametrize("name", ["\ud800", "</svg>", "名前", "\x00", "x" * 3_000, "é ж λ → ≥"])
def test_any_name_can_be_painted(name: str) -> None:
    assert opened(Graph(name).add_node(name, step).set_entry_point(name).draw("png")).width > 100


@pytest.mark.parametrize("letter", "Aéßñçřłžжλ→≥…“€✓")
def test_the_shipped_font_has_the_letters_of_europe(letter: str) -> None:
    font = png._font(20.0)

    assert bytes(font.getmask(letter)) != bytes(font.getmask("\U0010fffd"))


def test_text_is_as_wide_as_was_reckoned() -> None:
    font = png._font(100.0)
    assert isinstance(font, ImageFont.FreeTypeFont)

    for text in ("draft", "detect_duplicates", "review.score < 0.8, at most 5 times", "WWW iii"):
        assert font.getlength(plain(text)) == pytest.approx(width_of(text, 100.0), rel=0.02)


def test_fifty_nodes_are_painted_in_two_seconds() -> None:
    graph = chain(25)
    for number in range(25):
        graph.add_node(f"m{number}", step).add_edge(f"n{number}", f"m{number}", when=lambda state: state.x > 3)

    began = time.process_time()
    graph.draw("png")

    assert time.process_time() - began < 8  # the machine may be several times as slow as ours, or busy
