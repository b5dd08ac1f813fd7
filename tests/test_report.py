"""The page: valid, safe whatever a label says, complete without a network; true pictures and players."""

import base64
import io
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
import torch

from unweave.evaluate import benchmarks, report, report_media, report_plots, run
from unweave.evaluate.report_media import (
    HEIGHT,
    RANGE_DB,
    Heard,
    Shown,
    audio_uri,
    bands,
    encoded,
    excerpt,
    fitting,
    png,
    spectrograms,
)

DATA = Path(__file__).parent / "data"
EVIL = """<img src=x onerror="alert('1')">&amp;</td>"""
VOID = {"meta", "img", "br"}


class Checked(HTMLParser):
    """Every tag closed in turn, and what the page asks a browser to load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """A report on a list in which a label is an attack; its document and page."""
    folder = tmp_path_factory.mktemp("report")
    tiny = benchmarks.load("tiny")
    first = tiny.items[0]
    evil = replace(first, queries=(replace(first.queries[0], text=EVIL, label=EVIL), *first.queries[1:]))
    benchmarks.write(replace(tiny, name="evil", items=(evil, *tiny.items[1:3])), folder / "evil.jsonl")
    plan = run.Plan(
        ("ideal-mask", "half"),
        (str(folder / "evil.jsonl"),),
        DATA,
        folder / "out",
        cache=folder / "cache",
        command=EVIL,
    )
    document = run.evaluate(plan)
    return document, (folder / "out" / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def parsed(made: tuple[dict[str, Any], str]) -> Checked:
    checked = Checked()
    checked.feed(made[1])
    checked.close()
    assert checked.open == []
    return checked


def test_the_page_is_whole_and_loads_nothing(parsed: Checked, made: tuple[dict[str, Any], str]) -> None:
    tags = [tag for tag, _ in parsed.seen]
    assert tags.count("html") == tags.count("head") == tags.count("h1") == tags.count("main") == 1
    assert not {"script", "link", "iframe", "object"} & set(tags)
    for tag, attributes in parsed.seen:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href"):
                assert (value or "").startswith("data:"), (tag, name)
    assert not re.search(r"url\(|@import", made[1])
    assert len(made[1]) < 15_000_000


def test_the_page_can_be_read_by_ear(parsed: Checked) -> None:
    for tag, attributes in parsed.seen:
        if tag == "th":
            assert attributes["scope"] in ("row", "col")
        if tag == "img":
            assert attributes["alt"]
        if tag in ("audio", "svg"):
            assert attributes["aria-label"]
    tags = [tag for tag, _ in parsed.seen]
    assert tags.count("caption") == tags.count("table") > 5


def test_what_a_label_says_stays_text(parsed: Checked, made: tuple[dict[str, Any], str]) -> None:
    assert "onerror" in "".join(parsed.text)  # shown, as it is written
    assert EVIL not in made[1]
    assert made[1].count("<img src=x") == 0


def test_the_page_holds_the_numbers(parsed: Checked, made: tuple[dict[str, Any], str]) -> None:
    said = "".join(parsed.text)
    for one in made[0]["results"]:
        metric = one["metrics"]["sdri"]
        assert f"{metric['mean']:.2f} [{metric['low']:.2f}, {metric['high']:.2f}]" in said
    for one in made[0]["benchmarks"]:
        assert one["sha256"] in said


def test_every_best_and_worst_answer_can_be_heard_and_seen(
    parsed: Checked, made: tuple[dict[str, Any], str]
) -> None:
    items = sum(len(one[end]) for one in made[0]["results"] for end in ("best", "worst"))
    players = [attributes["src"] or "" for tag, attributes in parsed.seen if tag == "audio"]
    pictures = [attributes["src"] or "" for tag, attributes in parsed.seen if tag == "img"]
    assert len(players) == len(pictures) == 3 * items
    mixture, reference, estimate = (decoded(uri)[0] for uri in players[:3])
    assert players[0].startswith("data:audio/flac")
    assert len(mixture) == 96_000
    worst = made[0]["results"][0]["worst"][0]  # of the ideal mask, the first in the page
    error = 10 * np.log10((reference**2).sum() / ((estimate - reference) ** 2).sum())
    assert error == pytest.approx(worst["metrics"]["sdr"], abs=0.05)  # 16 bits, one gain for all three
    snr = 10 * np.log10((reference**2).sum() / ((mixture - reference) ** 2).sum())
    assert snr == pytest.approx(worst["snr_db"], abs=0.05)


def decoded(uri: str) -> tuple[np.ndarray, int]:
    kind, content = uri.split(";base64,")
    assert kind in ("data:audio/flac", "data:audio/mpeg")
    return soundfile.read(io.BytesIO(base64.b64decode(content)))


def pixels(uri: str) -> np.ndarray:
    """A picture read by the standard, chunk by chunk."""
    content = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    place, chunks = 8, {}
    while place < len(content):
        (size,) = struct.unpack(">I", content[place : place + 4])
        kind, data = content[place + 4 : place + 8], content[place + 8 : place + 8 + size]
        assert struct.unpack(">I", content[place + 8 + size : place + 12 + size])[0] == zlib.crc32(
            kind + data
        )
        chunks[kind] = data
        place += 12 + size
    columns, rows, depth, colour, *_ = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, colour, len(chunks[b"PLTE"])) == (8, 3, 768)
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(rows, columns + 1)
    assert not lines[:, 0].any()
    return lines[:, 1:]


def test_png_gives_back_what_went_in() -> None:
    shades = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    uri = "data:image/png;base64," + base64.b64encode(png(shades)).decode()
    assert np.array_equal(pixels(uri), shades)


def test_spectrograms_show_the_tone_and_share_one_scale() -> None:
    time = torch.arange(64_000) / 32_000
    tone = 0.5 * (2 * torch.pi * 1000 * time).sin()
    mixture, reference, estimate = (
        pixels(uri) for uri in spectrograms(Heard((tone, tone, tone / 10), 32_000))
    )
    assert mixture.shape[0] == HEIGHT
    place = np.log(1000 / 40) / np.log(16_000 / 40) * HEIGHT  # rows from the bottom
    middle = mixture.shape[1] // 2
    assert abs(HEIGHT - 1 - int(mixture[:, middle].argmax()) - place) <= 1.5
    assert int(mixture.max()) == 255
    assert np.array_equal(mixture, reference)
    assert 255 - int(estimate.max()) == pytest.approx(20 / RANGE_DB * 255, abs=1)


def test_bands_keep_the_power_of_noise() -> None:
    """White noise is as strong in every band: their means, not their sums."""
    noise = torch.randn(320_000, generator=torch.Generator().manual_seed(0))
    level = 10 * bands(noise, 32_000).mean(1).log10()
    assert level[40:].max() - level[40:].min() < 2
    assert bands(noise, 32_000).shape == (HEIGHT, 320)


def test_excerpts_are_where_the_reference_is_loud() -> None:
    rate = 1000
    mixture = torch.full((2, 60 * rate), 0.1)
    reference = torch.zeros(2, 60 * rate)
    reference[:, 31_000:33_000] = 0.3
    cut = excerpt(mixture, reference, 4 * reference, rate)
    assert all(len(sound) == 10 * rate for sound in cut.sounds)
    assert cut.sounds[1].count_nonzero() == 2000
    peaks = [float(sound.abs().max()) for sound in cut.sounds]
    assert peaks == pytest.approx([0.075, 0.225, 0.9])  # one gain for all, none clips


def items(count: int) -> list[tuple[Heard, Shown]]:
    draw = torch.Generator().manual_seed(1)
    sounds = [0.1 * torch.randn(32_000, generator=draw) for _ in range(3)]
    heard = Heard((sounds[0], sounds[1], sounds[2]), 32_000)
    return [(heard, encoded(heard, "FLAC"))] * count


def test_players_keep_within_the_limit() -> None:
    lists = [items(3), items(2)]
    whole = fitting(lists)
    assert [len(some) for some in whole] == [3, 2]
    samples, rate = decoded(whole[0][0].audio[0])
    assert rate == 32_000
    assert np.abs(samples - lists[0][0][0].sounds[0].numpy()).max() <= 1 / 32_767
    size = sum(one.size for some in whole for one in some)
    smaller = fitting(lists, limit=size // 2)
    assert smaller[0][0].audio[0].startswith("data:audio/mpeg")
    assert [len(some) for some in smaller] == [3, 2]
    fewer = fitting(lists, limit=2 * smaller[0][0].size)
    assert [len(some) for some in fewer] == [1, 1]
    assert sum(one.size for some in fewer for one in some) <= 2 * smaller[0][0].size
    assert fitting(lists, limit=10) == [[], []]
    heard, rate = decoded(audio_uri(lists[0][0][0].sounds[0], 32_000, "MP3"))
    assert rate == 32_000
    assert np.sqrt((heard**2).mean()) == pytest.approx(0.1, rel=0.2)


def group(key: float | str, mean: float | None, half: float = 1.0) -> dict[str, Any]:
    low, high = (None, None) if mean is None else (mean - half, mean + half)
    return {"key": key, "mean": mean, "low": low, "high": high, "count": 3}


def circles(drawn: str) -> list[tuple[float, float]]:
    root = ElementTree.fromstring(drawn)
    return [(float(one.attrib["cx"]), float(one.attrib["cy"])) for one in root.iter("circle")]


def test_lines_put_points_where_their_values_are() -> None:
    drawn = report_plots.lines({"a": [group(-4, 0.0), group(0, 5.0), group(4, 10.0)]}, "t", "x", "y")
    (x1, y1), (x2, y2), (x3, y3) = circles(drawn)
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2)
    assert x1 < x2 < x3
    assert y1 - y2 == pytest.approx(y2 - y3, abs=0.2)
    assert y1 > y2 > y3  # a screen counts downwards
    root = ElementTree.fromstring(drawn)
    grid = {
        float(one.attrib["y1"]) for g in root.iter("g") if g.get("class") == "grid" for one in g.iter("line")
    }
    labels = {
        one.text: float(one.attrib["y"]) for one in root.iter("text") if one.get("text-anchor") == "end"
    }
    assert y1 == pytest.approx(labels["0"] - 4, abs=0.2)
    assert y3 == pytest.approx(labels["10"] - 4, abs=0.2)
    assert any(abs(y1 - y) < 0.2 for y in grid)
    upright = [one for one in root.iter("line") if one.attrib["x1"] == one.attrib["x2"]]
    length = abs(float(upright[0].attrib["y1"]) - float(upright[0].attrib["y2"]))
    assert length == pytest.approx((y1 - y2) / 5 * 2, abs=0.3)  # an interval of 2 dB


def test_plots_leave_out_what_is_undefined_and_escape_names() -> None:
    assert report_plots.lines({"a": [group(1, None)]}, "t", "x", "y") == ""
    assert report_plots.bars([], "t", "dB") == ""
    one = report_plots.lines({"a": [group(2, 3.0)], "b": []}, "t", "x", "y")
    assert len(circles(one)) == 1
    drawn = report_plots.bars([group(EVIL, 3.0), group("b", -2.0), group("c", None)], EVIL, "dB")
    root = ElementTree.fromstring(drawn)
    rectangles = [one.attrib for one in root.iter("rect")]
    assert len(rectangles) == 2
    widths = [float(one["width"]) for one in rectangles]
    assert widths[0] / widths[1] == pytest.approx(1.5, abs=0.02)
    right, left = float(rectangles[0]["x"]), float(rectangles[1]["x"]) + widths[1]
    assert right == pytest.approx(left, abs=0.2)  # both start at zero, one to each side


@pytest.mark.parametrize(("low", "high"), [(-1.2, 9.0), (0.0, 0.01), (-60.0, -20.0), (3.0, 1000.0)])
def test_ticks_are_few_and_round(low: float, high: float) -> None:
    found: Sequence[float] = report_plots.ticks(low, high)
    assert 3 <= len(found) <= 8
    assert all(low <= tick <= high for tick in found)
    steps = np.diff(found)
    assert np.allclose(steps, steps[0])
    assert f"{steps[0]:e}"[0] in "125"


def test_tables_say_what_is_not_known() -> None:
    assert report.with_interval(None, "sdri") == "–"
    assert report.with_interval({"mean": None}, "sdri") == "–"
    assert report.with_interval({"mean": 1.0, "low": None, "high": None}, "sdri") == "1.00"
    table = report.table("<b>", ("<b>",), [("<b>", "<b>")])
    assert table.count("&lt;b&gt;") == 5  # label and caption, head, name of the row, cell
    assert "<b>" not in table
    assert report_media.LIMIT < 25_000_000
