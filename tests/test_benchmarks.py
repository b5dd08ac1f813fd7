"""Frozen lists: what they promise, what they sound like, and what no list may say."""

import json
import math
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from unweave import hub
from unweave.errors import OutputError, UnknownNameError, UsageError
from unweave.evaluate import benchmarks, systems
from unweave.evaluate.benchmarks import (
    Ask,
    Benchmark,
    Clips,
    Item,
    Piece,
    examples,
    load,
    present,
    read,
    render,
    write,
)
from unweave.evaluate.frozen import encode, sealed
from unweave.evaluate.metrics.signal import attenuation_db, sdr_improvement, si_sdr_improvement
from unweave.evaluate.pool import alike
from unweave.train.publish import publish
from unweave.types import Example

DATA = Path(__file__).parent / "data"
NAMES = benchmarks.names()
SOUNDS = ("dog-barking.flac", "rain.flac", "speech.flac")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def lists() -> dict[str, Benchmark]:
    return {name: load(name) for name in NAMES}


@pytest.fixture(scope="module")
def tiny(cache: Path) -> list[tuple[Item, Example]]:
    return list(examples(load("tiny"), DATA, cache))


def listed(*items: Item, rate: int = 32_000, files: tuple[str, ...] = SOUNDS, root: Path = DATA) -> Benchmark:
    hashes = {file: hub.file_sha256(root / file) for file in files}
    return sealed(Benchmark("mine", rate, 1.0, 0, "by hand", hashes, "", items, "for a test"))


def samples(file: str) -> np.ndarray:
    """(T,) as the file has them, without their mean."""
    found = soundfile.read(DATA / file, dtype="float64")[0]
    return found - found.mean()


# What comes along ---------------------------------------------------------------------------------


def test_all_that_were_promised_are_there_and_small(lists: dict[str, Benchmark]) -> None:
    wanted = "seen-2 seen-3 seen-4 seen-5 seen-6 unseen-2 unseen-3 absent paraphrase low-passed"
    assert {*wanted.split(), "speech-2", "songs", "long", "tiny"} == lists.keys()
    assert sum(path.stat().st_size for path in benchmarks.FOLDER.iterdir()) < 3_000_000
    for name, one in lists.items():
        assert one.name == name
        assert one.command == f"unweave benchmarks build {name} --data ROOT"
        content = (benchmarks.FOLDER / f"{name}.jsonl").read_bytes()
        assert encode(one) == content
        assert read(benchmarks.FOLDER / f"{name}.jsonl") == one
    with pytest.raises(UnknownNameError, match="Did you mean 'seen-2'"):
        load("sen-2")


def test_a_list_that_was_touched_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("index.json", "tiny.jsonl"):
        (tmp_path / name).write_bytes((benchmarks.FOLDER / name).read_bytes())
    monkeypatch.setattr(benchmarks, "FOLDER", tmp_path)
    assert load("tiny").items
    content = (tmp_path / "tiny.jsonl").read_text()
    (tmp_path / "tiny.jsonl").write_text(content.replace('"rain"', '"hail"', 1))
    with pytest.raises(UsageError, match="not the published list"):
        load("tiny")
    with pytest.raises(UsageError, match="not the published list"):
        load("seen-2")  # gone


# Speakers and stems are told apart by other things than their labels.
@pytest.mark.parametrize("name", sorted({*NAMES} - {"speech-2", "songs"}))
def test_queries_ask_for_what_can_be_told_apart(name: str, lists: dict[str, Benchmark]) -> None:
    for item in lists[name].items:
        labels = [ask.label for ask in item.queries]
        for index, label in enumerate(labels):
            assert not any(alike(label, other) for other in labels[:index]), (item.id, labels)
        asked = [ask.sources for ask in item.queries if ask.sources]
        assert sorted(asked) == [(source,) for source in sorted(set(item.of))], (
            "every source is asked for once"
        )


def test_numbers_of_sources_queries_and_levels(lists: dict[str, Benchmark]) -> None:
    items = {**dict.fromkeys(("seen-2", "unseen-2"), 500), **dict.fromkeys(("paraphrase", "low-passed"), 200)}
    for name, one in lists.items():
        count = re.fullmatch(r"(un)?seen-(\d)", name)
        sources = int(count[2]) if count else 2
        if count or name in items:
            assert len(one.items) == items.get(name, 200)
            for item in one.items:
                assert len(set(item.of)) == sources
                assert [bool(ask.sources) for ask in item.queries] == [True] * sources + [False]
                assert item.length == 160_000
    for name in ("seen-2", "unseen-2", "paraphrase"):
        snr = torch.tensor([item.snr_db for item in lists[name].items])
        assert snr.abs().max() <= 5.01
        assert snr.std() > 2.5  # 2.9 for a uniform one
    absent = [bool(ask.sources) for item in lists["absent"].items for ask in item.queries]
    assert len(absent) == 1200
    assert sum(absent) == 600


def test_only_clips_that_nothing_was_trained_on(lists: dict[str, Benchmark]) -> None:
    for name, one in lists.items():
        if name != "tiny":
            split = "dev_unseen" if name.startswith("unseen") else "songs" if name == "songs" else "dev"
            assert {file.split("/")[0] for file in one.files} == {split}
    rows = (DATA / "manifest.csv").read_text()
    assert all(f"{file},test," in rows for file in lists["tiny"].files)


def test_paraphrase_and_low_passed_are_the_first_of_seen_2(lists: dict[str, Benchmark]) -> None:
    for reworded, cut, item in zip(
        lists["paraphrase"].items, lists["low-passed"].items, lists["seen-2"].items[:200], strict=True
    ):
        assert reworded.pieces == cut.pieces == item.pieces
        assert cut.queries == item.queries
        assert cut.low_pass_hz == 7500
        assert [ask.label for ask in reworded.queries] == [ask.label for ask in item.queries]
        assert all(ask.text != ask.label for ask in reworded.queries)


def test_an_example_is_another_clip_of_the_same_speaker(lists: dict[str, Benchmark]) -> None:
    for item in lists["speech-2"].items:
        speakers = [piece.file.split("__")[0] for piece in item.pieces]
        assert speakers[0] != speakers[1]
        assert item.queries
        for ask in item.queries:
            assert ask.example is not None
            assert ask.text == "speech"
            assert ask.example.file.split("__")[0] == speakers[ask.sources[0]]
            assert ask.example.file not in [piece.file for piece in item.pieces]
            assert ask.example.length <= 96_000


def test_songs_and_scenes(lists: dict[str, Benchmark]) -> None:
    for item in lists["songs"].items:
        assert item.length == 320_000
        assert {(piece.gain, piece.at) for piece in item.pieces} == {(1.0, 0)}
        assert len({piece.start for piece in item.pieces}) == 1
    for item in lists["long"].items:
        assert item.length == 600 * 32_000
        assert len(item.queries) <= 12
        assert len(item.pieces) == 70
        sounding = torch.zeros(item.length // 100, dtype=torch.bool)
        for piece in item.pieces:
            sounding[piece.at // 100 : (piece.at + piece.length) // 100 + 1] = True
        edges = torch.nn.functional.pad(sounding.int(), (1, 1), value=1).diff()
        pauses = (edges == 1).nonzero()[:, 0] - (edges == -1).nonzero()[:, 0]
        assert pauses.max() >= 29.9 * 320
        assert 0.2 < sounding.float().mean() < 0.7


# What they sound like -----------------------------------------------------------------------------


def test_an_item_is_what_its_pieces_say(cache: Path) -> None:
    """Against the files themselves: crops, places, gains, sums, silence, and an example."""
    pieces = (
        Piece("dog-barking.flac", 6000, 10_000, 2000, 0.5),
        Piece("rain.flac", 100, 20_000, 0, 2.0),
        Piece("speech.flac", 8000, 4000, 15_000, 1.0),
        Piece("dog-barking.flac", 60_000, 5000, 15_000, 1.5),
    )
    asks = (
        Ask("dog barking", (0,), "dog barking", Piece("rain.flac", 5, 300, 0, 3.0)),
        Ask("weather and talk", (2, 1), "rain"),
        Ask("piano", (), "piano"),
    )
    one = listed(Item("a/0", 20_000, pieces, (0, 1, 2, 0), asks, None))
    dog, rain, speech = map(samples, SOUNDS)
    parts = np.zeros((3, 20_000))
    parts[0, 2000:12_000] = 0.5 * dog[6000:16_000]
    parts[0, 15_000:] = 1.5 * dog[60_000:65_000]
    parts[1] = 2 * rain[100:20_100]
    parts[2, 15_000:19_000] = speech[8000:12_000]

    found = render(one, 0, Clips(one, DATA, cache))

    assert found.mixture.shape == (1, 20_000)
    assert found.mixture.dtype == found.sources.dtype == torch.float32
    expected = np.stack([parts[0], parts[1] + parts[2], np.zeros(20_000)])
    assert np.abs(found.sources[:, 0].numpy() - expected).max() < 4e-5  # 16 bits, at gains up to 2
    assert np.abs(found.mixture[0].numpy() - parts.sum(0)).max() < 8e-5
    assert not found.sources[2].any()
    assert [query.text for query in found.queries] == ["dog barking", "weather and talk", "piano"]
    example = found.queries[0].example
    assert example is not None
    assert found.queries[1].example is None
    assert np.abs(example.samples[0].numpy() - 3 * rain[5:305]).max() < 6e-5
    assert example.sample_rate == found.sample_rate == 32_000
    assert found.id == "a/0"


def test_channels_are_kept_repeated_or_averaged(tmp_path: Path) -> None:
    left, right = (0.3 * np.sin(np.arange(9000) * step) for step in (0.05, 0.11))
    soundfile.write(tmp_path / "two.wav", np.stack([left, right], 1), 32_000, subtype="PCM_16")
    soundfile.write(tmp_path / "one.wav", left, 32_000, subtype="PCM_16")
    pieces = (Piece("two.wav", 0, 9000, 0, 1.0), Piece("one.wav", 0, 9000, 0, 1.0))
    item = Item(
        "a", 9000, pieces, (0, 1), (Ask("two", (0,), "two"), Ask("one", (1,), "one")), None, channels=2
    )
    one = listed(item, replace(item, id="b", channels=1), files=("one.wav", "two.wav"), root=tmp_path)
    clips = Clips(one, tmp_path, tmp_path / "cache")
    stereo, mono = render(one, 0, clips), render(one, 1, clips)
    assert stereo.sources.shape == (2, 2, 9000)
    expected = np.stack([np.stack([left, right]), np.stack([left, left])])
    expected -= expected.mean(-1, keepdims=True)
    assert np.abs(stereo.sources.numpy() - expected).max() < 4e-5
    assert np.abs(mono.sources[:, 0].numpy() - expected.mean(1)).max() < 4e-5
    six = replace(one, items=(replace(item, channels=6),))
    with pytest.raises(UsageError, match=r"two\.wav has 2 channels, its item 6"):
        render(six, 0, clips)


@pytest.mark.parametrize("length", [30_000, 30_001])
def test_low_pass_keeps_what_is_below_and_nothing_above(length: int, cache: Path) -> None:
    pieces = (Piece("rain.flac", 0, length, 0, 1.0), Piece("speech.flac", 0, length, 0, 1.0))
    item = Item("a", length, pieces, (0, 1), (Ask("rain", (0,), "rain"),), None)
    one = listed(item, replace(item, id="b", low_pass_hz=4000.0))
    clips = Clips(one, DATA, cache)
    whole, cut = render(one, 0, clips), render(one, 1, clips)
    hertz = np.fft.rfftfreq(length, 1 / 32_000)
    for before, after in ((whole.mixture[0], cut.mixture[0]), (whole.sources[0, 0], cut.sources[0, 0])):
        wanted, found = (np.fft.rfft(one.double().numpy()) for one in (before, after))
        assert np.abs(found[hertz >= 4000]).max() < 1e-4 * np.abs(wanted).max()
        assert np.abs(wanted[hertz >= 4000]).max() > 1e-2 * np.abs(wanted).max()
        assert np.abs((found - wanted)[hertz < 4000]).max() < 1e-4 * np.abs(wanted).max()


def test_tiny_is_what_its_list_says(tiny: list[tuple[Item, Example]]) -> None:
    assert len(tiny) == 24
    for item, example in tiny:
        assert example.mixture.shape == (1, 96_000)
        assert (example.sources.sum(0) - example.mixture).abs().max() < 1e-6
        assert example.mixture.abs().max() <= 0.901
        assert [bool(source.any()) for source in example.sources] == [
            bool(ask.sources) for ask in item.queries
        ]
        first, rest = example.sources[0], example.mixture - example.sources[0]
        snr_db = 10 * (first.square().sum() / rest.square().sum()).log10().item()
        assert item.snr_db == pytest.approx(snr_db, abs=0.006)


def test_known_systems_score_what_they_must(tiny: list[tuple[Item, Example]]) -> None:
    gains: dict[str, list[float]] = {"nothing": [], "half": [], "ideal": []}
    free = []
    for _, whole in tiny:
        example = present(whole)
        assert len(example.queries) == len(example.sources) == len(whole.queries) - 1
        mixture = example.mixture.expand_as(example.sources)
        for name, system in zip(
            gains, (systems.nothing, systems.half, systems.ideal_ratio_mask), strict=True
        ):
            gains[name] += si_sdr_improvement(system(example), example.sources, mixture).flatten().tolist()
        free += sdr_improvement(systems.half(example), example.sources, mixture).flatten().tolist()
        down = attenuation_db(systems.half(whole)[-1], whole.mixture)
        assert down.item() == pytest.approx(6.02, abs=0.01)
    assert max(map(abs, gains["nothing"] + gains["half"])) < 1e-4
    assert 2 < sum(free) / len(free) < 4  # what SDR improvement gives away for nothing
    assert sum(gains["ideal"]) / len(gains["ideal"]) > 8


# Clips that are not there -------------------------------------------------------------------------


def pairs(folder: Path) -> Benchmark:
    """Three items of two clips each, of three clips in `folder`."""
    folder.mkdir()
    for file in SOUNDS:
        (folder / file).write_bytes((DATA / file).read_bytes())
    items = []
    for number, (one, two) in enumerate(((0, 1), (1, 2), (0, 2))):
        pieces = (Piece(SOUNDS[one], 0, 500, 0, 1.0), Piece(SOUNDS[two], 0, 500, 0, 1.0))
        items.append(Item(f"p/{number}", 500, pieces, (0, 1), (Ask("it", (0,), "it"),), None))
    query = Ask("by example", (0,), "it", Piece("speech.flac", 0, 500, 0, 1.0))
    items.append(replace(items[0], id="p/3", queries=(query,)))
    return listed(*items, root=folder)


def test_items_without_their_clips_are_left_out_and_named(tmp_path: Path) -> None:
    one = pairs(tmp_path / "data")
    (tmp_path / "data" / "speech.flac").unlink()
    clips = Clips(one, tmp_path / "data", tmp_path / "cache")
    assert clips.missing == ("speech.flac",)
    assert [clips.ready(item) for item in one.items] == [True, False, False, False]
    with pytest.raises(UsageError, match=r"speech\.flac is missing"):
        render(one, 1, clips)
    with pytest.warns(UserWarning, match=r"3 of 4 items are left out, 1 files are missing: speech\.flac"):
        found = list(examples(one, tmp_path / "data", tmp_path / "cache"))
    assert [item.id for item, _ in found] == ["p/0"]
    with pytest.raises(UsageError, match="none of the 3 files"):
        Clips(one, tmp_path, tmp_path / "cache")


def test_another_clip_of_the_same_name_is_refused(tmp_path: Path) -> None:
    one = pairs(tmp_path / "data")
    Clips(one, tmp_path / "data", tmp_path / "cache")  # a cache of the right ones must not hide it
    (tmp_path / "data" / "rain.flac").write_bytes((DATA / "speech.flac").read_bytes())
    with pytest.raises(UsageError, match=r"1 of the 3 files .* not the ones it was made with: rain\.flac"):
        Clips(one, tmp_path / "data", tmp_path / "cache")


def test_a_piece_longer_than_its_clip_is_refused(cache: Path) -> None:
    long = Item(
        "a", 300_000, (Piece("rain.flac", 0, 300_000, 0, 1.0),), (0,), (Ask("rain", (0,), "rain"),), None
    )
    one = listed(long)
    with pytest.raises(UsageError, match=r"samples 0 to 300000 of rain\.flac, which has 192000"):
        render(one, 0, Clips(one, DATA, cache))


def test_clips_are_decoded_once_and_travel_to_other_processes(tmp_path: Path) -> None:
    one = pairs(tmp_path / "data")
    told: list[tuple[int, int]] = []
    clips = Clips(one, tmp_path / "data", tmp_path / "cache", lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert len(kept) == 3
    Clips(one, tmp_path / "data", tmp_path / "cache")
    assert kept == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    other = pickle.loads(pickle.dumps(clips))
    assert torch.equal(render(one, 0, other).mixture, render(one, 0, clips).mixture)
    slower = replace(one, sample_rate=16_000)
    assert Clips(slower, tmp_path / "data", tmp_path / "cache").sound(one.items[0].pieces[0]).shape == (
        1,
        500,
    )
    assert len(list((tmp_path / "cache").iterdir())) == 6


# What no list may say -----------------------------------------------------------------------------

GOOD = Item(
    "a/0",
    1000,
    (Piece("rain.flac", 0, 500, 0, 1.0), Piece("speech.flac", 0, 500, 500, 0.5)),
    (0, 1),
    (Ask("rain", (0,), "rain"), Ask("talk", (1,), "speech", Piece("speech.flac", 9, 300, 0, 1.0))),
    2.5,
)
Change = Callable[[dict[str, Any], dict[str, Any]], Any]  # header and item, changed in place

BAD: dict[str, tuple[Change, str]] = {
    "unknown header key": (lambda head, item: head.update(weight=1), "unknown key 'weight'"),
    "unknown item key": (lambda head, item: item.update(weight=1), "line 2 has the unknown key 'weight'"),
    "unknown query key": (lambda head, item: item["queries"][0].update(x=1), "unknown key 'x'"),
    "no seed": (lambda head, item: head.pop("seed"), "seed wants a whole number .* got nothing"),
    "other version": (lambda head, item: head.update(version=2), "version wants the whole number 1, got 2"),
    "name": (lambda head, item: head.update(name="../x"), "name wants lower-case letters"),
    "rate": (lambda head, item: head.update(sample_rate=0), "sample_rate wants"),
    "rate as a float": (lambda head, item: head.update(sample_rate=32000.0), "sample_rate wants"),
    "true is no number": (lambda head, item: head.update(seed=True), "seed wants"),
    "items": (lambda head, item: head.update(items=2), "items wants the whole number 1, got 2"),
    "seconds": (lambda head, item: head.update(seconds=math.nan), "NaN is not a number of JSON"),
    "control characters": (lambda head, item: head.update(about="a\x1b[2J"), "printable"),
    "no files": (lambda head, item: head.update(files={}), "files wants"),
    "a path out": (lambda head, item: head["files"].update({"../a.wav": "0" * 64}), "below the data folder"),
    "a path up and down": (
        lambda head, item: head["files"].update({"a/../../b": "0" * 64}),
        "below the data",
    ),
    "an absolute path": (
        lambda head, item: head["files"].update({"/etc/passwd": "0" * 64}),
        "below the data",
    ),
    "a drive": (lambda head, item: head["files"].update({"C:a.wav": "0" * 64}), "below the data folder"),
    "backslashes": (
        lambda head, item: head["files"].update({"..\\a.wav": "0" * 64}),
        "below the data folder",
    ),
    "a hash": (lambda head, item: head["files"].update({"a.wav": "abc"}), "sha256 of 64"),
    "id": (lambda head, item: item.update(id="a/../b"), "id wants letters"),
    "length": (lambda head, item: item.update(length=0), "length wants"),
    "length of days": (lambda head, item: item.update(length=10**12), "length wants"),
    "a huge item": (lambda head, item: item.update(length=10**8, channels=8), "at most 1073741824 samples"),
    "channels": (lambda head, item: item.update(channels=9), "channels wants"),
    "low pass": (lambda head, item: item.update(low_pass_hz=20_000), "low_pass_hz wants"),
    "snr": (lambda head, item: item.update(snr_db="loud"), "snr_db wants"),
    "no pieces": (lambda head, item: item.update(pieces=[], of=[]), "of wants"),
    "a gap in sources": (lambda head, item: item.update(of=[1, 1]), "of wants"),
    "sources of three": (lambda head, item: item.update(of=[0, 1, 1]), "of wants"),
    "no queries": (lambda head, item: item.update(queries=[]), "queries wants 1 to 64"),
    "a query of nothing": (lambda head, item: item["queries"][0].update(text=" "), "text wants"),
    "another source": (lambda head, item: item["queries"][0].update(sources=[2]), "sources wants"),
    "a source twice": (lambda head, item: item["queries"][0].update(sources=[1, 1]), "each source once"),
    "an example later": (
        lambda head, item: item["queries"][1]["example"].__setitem__(3, 4),
        "example wants 0",
    ),
    "an unlisted file": (
        lambda head, item: item["pieces"][0].__setitem__(0, "b.wav"),
        "a file that the header",
    ),
    "a negative start": (lambda head, item: item["pieces"][0].__setitem__(1, -1), "start wants"),
    "a piece sticks out": (
        lambda head, item: item["pieces"][1].__setitem__(3, 501),
        "length wants .* 1..499",
    ),
    "a silent piece": (lambda head, item: item["pieces"][0].__setitem__(4, 0), "gain wants"),
    "a deafening piece": (lambda head, item: item["pieces"][0].__setitem__(4, 1e9), "gain wants"),
    "a short piece": (lambda head, item: item["pieces"][0].pop(), r"a piece wants \[file"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_list_that_says_too_much_or_too_little_is_refused(what: str, tmp_path: Path) -> None:
    change, message = BAD[what]
    path = tmp_path / "list.jsonl"
    path.write_bytes(encode(listed(GOOD)))
    assert read(path).items == (GOOD,)
    header, item = map(json.loads, path.read_text().splitlines())
    change(header, item)
    path.write_text(json.dumps(header) + "\n" + json.dumps(item) + "\n")
    with pytest.raises(UsageError, match=message):
        read(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"gain', '"gain', "line 2 is not JSON"),
        ('"length":1000', '"length":1000,"length":999', "a key stands twice"),
        ("0.5]", "1e999]", "gain wants"),
        ("0.5]", "Infinity]", "is not a number of JSON"),
        ('{"id"', "[" * 100_000 + '{"id"', "is not JSON"),
        ('{"id"', '7\n{"id"', "items wants the whole number 2"),
        ("rain", "ra\x00in", "is not JSON|printable"),
    ],
)
def test_a_file_that_is_not_quite_json_is_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl"
    text = encode(listed(GOOD)).decode()
    path.write_text(text[:-3] if old == new else text.replace(old, new))
    with pytest.raises(UsageError, match=message):
        read(path)


def test_two_items_of_one_name_are_refused_and_files_kept(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two items called 'a/0'"):
        listed(GOOD, GOOD)
    with pytest.raises(UsageError, match="cannot read the benchmark"):
        read(tmp_path / "none.jsonl")
    one = listed(GOOD)
    write(one, tmp_path / "a.jsonl")
    assert read(tmp_path / "a.jsonl") == one
    with pytest.raises(OutputError, match="exists"):
        write(one, tmp_path / "a.jsonl")
    write(replace(one, seed=7), tmp_path / "a.jsonl", overwrite=True)
    assert read(tmp_path / "a.jsonl").seed == 7
    with pytest.raises(OutputError, match="cannot write"):
        write(one, tmp_path / "no" / "a.jsonl")


# Publishing ---------------------------------------------------------------------------------------


def test_publishing_a_run_fills_index_and_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, run = tmp_path / "weights", tmp_path / "run"
    folder.mkdir()
    run.mkdir()
    (folder / "index.json").write_text("{}")
    monkeypatch.setattr(hub, "FOLDER", folder)
    shipped = hub.WEIGHTS[hub.DEFAULT]
    (run / "weights.safetensors").write_bytes(
        (Path(hub.__file__).parent / "weights" / shipped.file).read_bytes()
    )
    (run / "log.jsonl").write_text('{"step": 1, "si_sdr": -1.0}\n{"step": 2, "si_sdr": -2.0}\n')
    one = {"si_sdr_improvement": 1.0, "si_sdr_interval": 0.1, "sdr_improvement": 2.0, "wrong": 0.5}
    report = {
        "dev": {"engine": one | {"absent_db": None, "absent_interval": None}},
        "speed": {"native": {"seconds_per_second": 0.01, "megabytes": 100}},
    }
    report |= {"dev": {"engine": one | {"absent_db": 20.0, "absent_interval": 1.0}}}
    (tmp_path / "notes.md").write_text("# A model\n\nnotes\n")

    card = publish(run, "a", DATA, report, tmp_path / "notes.md")

    entry = json.loads((folder / "index.json").read_text())["a"]
    assert entry["sha256"] == hub.file_sha256(folder / "a.safetensors")
    assert entry["parameters"] == shipped.parameters
    assert entry["scores"]["dev SI-SDRi dB"] == 1.0
    text = card.read_text()
    assert "| dev | a | 1.00 ± 0.10 | 2.00 | 50.0 % | 20.0 ± 1.0 |" in text
    assert "| 2 | -2.00 |" in text
