"""How lists are drawn: the same bytes twice, crops that sound, and no question with two answers."""

import json
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from random import Random

import numpy as np
import pyloudnorm
import pytest
import soundfile
import torch

from unweave.data import mixtures as training
from unweave.errors import UnknownNameError, UsageError
from unweave.evaluate import build as building
from unweave.evaluate.benchmarks import Clips, load, render
from unweave.evaluate.build import Plan, build
from unweave.evaluate.frozen import Benchmark, Item, encode, sealed
from unweave.evaluate.pool import Pool, _overlaps, alike, wordings

DATA = Path(__file__).parent / "data"
RATE = 32_000

# label -> (domain, frequency in Hz, seconds of each clip)
SOUNDS = {
    "rain": ("sound", 300, (6.0, 8.0)),
    "wind": ("sound", 500, (7.0,)),
    "violin": ("music", 700, (1.5, 2.0)),
    "chainsaw": ("sound", 900, (9.0,)),
    "cow mooing": ("sound", 1100, (3.0, 4.0)),
    "gunshot": ("sound", 1300, (20.0,)),  # one bang near the end, and nothing else
    "siren": ("sound", 1500, (5.5,)),
    "piano": ("music", 1700, (4.0,)),
    "dog barking": ("sound", 1900, (3.0,)),
    "trumpet": ("music", 2100, (2.0, 3.0)),
    "clock ticking": ("sound", 2300, (2.5,)),
    "cat meowing": ("sound", 2500, (1.0,)),
    "castanets": ("music", 2700, (1.5,)),
    "speech": ("speech", 200, (7.0, 6.0, 4.0, 2.0, 1.5)),
}
SPEAKERS = ("ann", "ann", "bob", "gc:art4apps", "ann")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small corpus of tones, each label at its own frequency, and two songs."""
    root = tmp_path_factory.mktemp("corpus")
    rows = ["file,split,label,domain,group,seconds,license"]
    for label, (domain, hertz, clips) in SOUNDS.items():
        for number, seconds in enumerate(clips):
            time = np.arange(int(seconds * RATE)) / RATE
            tone = 0.1 * np.sin(2 * np.pi * (hertz + 5 * number) * time) * (1 + np.sin(9 * time))
            if label == "clock ticking":  # as loud where a low pass removes it
                tone += 0.1 * np.sin(2 * np.pi * 9000 * time) * (1 + np.sin(9 * time))
            if label == "gunshot":
                tone[(time < 17.2) | (time > 17.5)] = 0
            group = SPEAKERS[number] if domain == "speech" else f"{label}{number}"
            file = f"{label.replace(' ', '-')}-{number}.wav"
            soundfile.write(root / file, tone, RATE, subtype="PCM_16")
            rows.append(f"{file},dev,{label},{domain},{group},{seconds},CC0")
    soundfile.write(root / "silent.wav", np.zeros(RATE), RATE)
    rows.append("silent.wav,dev,violin,music,other,1,CC0")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    _songs(root)
    return root


def _songs(root: Path) -> None:
    time = np.arange(25 * RATE) / RATE
    for song, names in {"one": ("vocals", "drums", "bass", "other"), "two": ("vocals", "other")}.items():
        (root / "songs" / song).mkdir(parents=True)
        for number, stem in enumerate([*names, "mixture"]):
            tone = 0.2 * np.sin(2 * np.pi * 100 * (number + 2) * time)
            if stem == "vocals":
                tone[:: 10 * RATE] = 0
                tone[10 * RATE :] *= 0.002  # the singer pauses, the microphone does not
            both = np.stack([tone, tone / 2], 1) if song == "one" else tone[:, None]
            soundfile.write(root / "songs" / song / f"{stem}.flac", both, RATE)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def pool(root: Path, cache: Path) -> Pool:
    return Pool(root, "dev", RATE, cache)


@pytest.fixture(scope="module")
def drawn(pool: Pool) -> list[Item]:
    return building.mixtures(pool, "seen-2", 1, Plan(60))


def rendered(pool: Pool, cache: Path, items: list[Item]) -> Callable[[int], torch.Tensor]:
    """Number of an item -> its sources, (Q, C, T)."""
    one = sealed(Benchmark("mine", RATE, 1.0, 0, "by hand", pool.hashes, "", tuple(items), "for a test"))
    clips = Clips(one, pool.root, cache)
    return lambda number: render(one, number, clips).sources


def power(samples: torch.Tensor) -> float:
    return samples.double().square().sum().item()


def test_tiny_is_built_to_the_byte(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    first = build("tiny", DATA, lambda done, of: told.append((done, of)), cache=tmp_path)
    assert told == [(n, 5) for n in range(1, 6)]
    assert encode(first) == encode(build("tiny", DATA, cache=tmp_path))
    assert first == load("tiny")
    other = build("tiny", DATA, seed=1, cache=tmp_path)
    assert other.seed == 1
    assert other.command == "unweave benchmarks build tiny --data ROOT --seed 1"
    assert other.items != first.items
    with pytest.raises(UnknownNameError, match="Did you mean 'tiny'"):
        build("tinny", DATA)


@pytest.mark.parametrize("name", ["unseen-2", "unseen-3"])
def test_a_split_without_clips_is_named(name: str, root: Path, cache: Path) -> None:
    with pytest.raises(UsageError, match="no clip of split 'dev_unseen'"):
        build(name, root, cache=cache)


def test_a_small_corpus_gives_the_same_bytes_again(root: Path, tmp_path: Path) -> None:
    def all_of_it(where: Path) -> bytes:
        pool = Pool(root, "dev", RATE, where)
        items = [
            *building.mixtures(pool, "mixed", 3, Plan(6, (2, 3, 4), absent=-1, seconds=1.0)),
            *building.speakers(pool, "spoken", 3, 4),
            *building.low_pass(pool, "cut", 3, 2, "mixed", Plan(6)),
            *building.paraphrased(pool, "said", 3, 2, "mixed", Plan(6)),
            *building.songs(pool, "sung", 3),
            *building.scenes(pool, "heard", 3, 1, seconds=40.0),
        ]
        return encode(Benchmark("mine", RATE, 1.0, 3, "x", pool.hashes, "", tuple(items), "x"))

    assert all_of_it(tmp_path / "one") == all_of_it(tmp_path / "two")


def test_an_item_does_not_depend_on_how_many_follow(pool: Pool, drawn: list[Item]) -> None:
    assert building.mixtures(pool, "seen-2", 1, Plan(5)) == drawn[:5]
    assert building.mixtures(pool, "other", 1, Plan(5)) != drawn[:5]


def test_mixtures_have_the_levels_they_say(pool: Pool, cache: Path, drawn: list[Item]) -> None:
    sources = rendered(pool, cache, drawn)
    levels = []
    for number, item in enumerate(drawn):
        first, second, absent = sources(number)
        snr_db = 10 * np.log10(power(first) / power(second))
        assert item.snr_db == pytest.approx(snr_db, abs=0.006)
        assert not absent.any()
        assert (first + second).abs().max() <= 0.901
        levels.append(snr_db)
    assert max(map(abs, levels)) <= 5.01
    assert np.std(levels) > 2
    assert {len(set(item.of)) for item in building.mixtures(pool, "n", 1, Plan(4, (3, 4)))} == {3, 4}


def test_a_crop_is_where_the_sound_is(pool: Pool, cache: Path) -> None:
    """The clip is twenty seconds long, and silent but for 0.3 s."""
    found = [pool.piece("gunshot-0.wav", 2 * RATE, Random(n)) for n in range(50)]
    for piece in found:
        assert piece.length == 2 * RATE
        assert piece.start / RATE < 17.5
        assert piece.start / RATE + 2 > 17.2
        assert pool.energy(piece) > 0
    assert len({piece.start for piece in found}) > 20
    short = [pool.piece("violin-0.wav", 2 * RATE, Random(n)) for n in range(50)]
    assert {(piece.start, piece.length) for piece in short} == {(0, int(1.5 * RATE))}
    assert min(piece.at for piece in short) < 0.1 * RATE
    assert max(piece.at for piece in short) in range(int(0.4 * RATE), int(0.5 * RATE) + 1)


def test_what_is_mixed_can_be_told_apart(pool: Pool, drawn: list[Item]) -> None:
    chosen = set()
    for item in drawn:
        labels = [ask.label for ask in item.queries]
        chosen |= set(labels)
        assert {"rain", "wind"} - set(labels), "a table says that these overlap"
        assert "silent.wav" not in {piece.file for piece in item.pieces}
    assert chosen == SOUNDS.keys()
    with pytest.raises(UsageError, match="14 labels that a listener can tell apart"):
        pool.labels_apart(14, Random(0))
    assert len(set(pool.labels_apart(13, Random(0)))) == 13


def test_two_sounds_of_one_recording_are_never_mixed(root: Path, cache: Path, tmp_path: Path) -> None:
    lines = (root / "manifest.csv").read_text().splitlines()
    for name in {line.split(",")[0] for line in lines[1:]}:
        (tmp_path / name).symlink_to(root / name)
    same = [line.replace("violin0", "take").replace("siren0", "take") for line in lines]
    (tmp_path / "manifest.csv").write_text("\n".join(same) + "\n")
    for item in building.mixtures(Pool(tmp_path, "dev", RATE, cache), "x", 0, Plan(200, (4,), seconds=0.25)):
        assert not {"violin-0.wav", "siren-0.wav"} <= {piece.file for piece in item.pieces}


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        ("rain", "rain", True),
        ("dog barking", "dog snoring", True),  # a word
        ("birds chirping", "crow cawing", True),  # the labels' own table, one way
        ("crow cawing", "birds chirping", True),  # and the other
        ("cutlery clinking", "plates clattering", True),  # the benchmarks' table
        ("frying food in a pan", "gas stove burner", True),
        ("eating and chewing", "opening and closing a drawer", False),  # "and" is no sound
        ("clarinet", "vacuum cleaner", False),
        ("extractor fan", "gas stove burner", True),
        ("red frog", "tree frog", True),
        ("Frog", "tree frog", True),
        ("rain", "dog barking", False),
        ("train", "rain", False),
    ],
)
def test_labels_that_are_alike(one: str, two: str, expected: bool) -> None:
    assert alike(one, two) is expected


def test_to_be_alike_is_mutual() -> None:
    labels = sorted({*_overlaps(), *(other for found in _overlaps().values() for other in found)})
    assert len(labels) > 400
    assert all(one in _overlaps()[two] for one in labels for two in _overlaps()[one])


def test_paraphrases_are_words_that_no_training_query_uses() -> None:
    known = json.loads(resources.files("unweave.data").joinpath("labels.json").read_text())
    named = {
        name for label, facts in known.items() for name in [label, *facts["names"], *facts.get("kinds", ())]
    }
    phrases = {"{}", *training.PHRASES, *getattr(training, "KINDS", ())}
    trained = {phrase.format(name).lower() for name in named for phrase in phrases}
    trained |= {sound.lower() for facts in known.values() for sound in facts["sounds_like"]}
    assert "the sound of sax" in trained
    for label, texts in wordings().items():
        assert not {text.lower() for text in texts} & trained, label
        assert len(set(texts)) == len(texts) >= 2
    asked = {ask.text for item in load("paraphrase").items for ask in item.queries}
    assert asked <= {text for texts in wordings().values() for text in texts}
    assert len(asked) > 120


def test_speakers_are_asked_for_by_another_clip_of_theirs(pool: Pool, cache: Path) -> None:
    """Ann has three clips, one too short for an example, Bob one; the third group is several people."""
    items = building.speakers(pool, "speech-2", 5, 12)
    sources = rendered(pool, cache, items)
    meter = pyloudnorm.Meter(RATE)
    for number, item in enumerate(items):
        files = [piece.file for piece in item.pieces]
        (ask,) = item.queries
        assert files[1] == "speech-2.wav"
        assert ask.sources == (0,)
        assert ask.example is not None
        assert files[0] in ("speech-0.wav", "speech-1.wav", "speech-4.wav")
        assert ask.example.file in {"speech-0.wav", "speech-1.wav"} - {files[0]}
        assert ask.example.length == 3 * RATE
        piece = item.pieces[0]
        said = sources(number)[0, 0, piece.at : piece.at + piece.length]
        assert -33.2 < meter.integrated_loudness(said.double().numpy()) < -24.8
    with pytest.raises(UsageError, match="wants two speakers"):
        building.speakers(Pool(DATA, "test", RATE, cache), "speech-2", 0, 1)


def test_songs_are_cut_as_they_are(pool: Pool, cache: Path, root: Path) -> None:
    items = building.songs(pool, "songs", 0)
    assert [item.id for item in items] == ["songs/one-0", "songs/one-1", "songs/two-0", "songs/two-1"]
    assert [[ask.label for ask in item.queries] for item in items] == [
        ["vocals", "drums", "bass", "other"],
        ["drums", "bass", "other"],  # the singer pauses
        ["vocals", "other"],
        ["other"],
    ]
    assert [item.channels for item in items] == [2, 2, 1, 1]
    drums = rendered(pool, cache, items)(1)[0]
    file = soundfile.read(root / "songs" / "one" / "drums.flac", dtype="float32")[0].T
    assert np.abs(drums.numpy() - file[:, 10 * RATE : 20 * RATE]).max() < 4e-5
    assert items[0].snr_db == pytest.approx(10 * np.log10(1 / 3), abs=0.02)
    with pytest.raises(UsageError, match="no song below"):
        building.songs(Pool(DATA, "test", RATE, cache), "songs", 0)


def test_scenes_hold_every_label_and_a_long_silence(pool: Pool, cache: Path, root: Path) -> None:
    (item,) = building.scenes(pool, "long", 2, 1, seconds=120.0)
    sources = rendered(pool, cache, [item])(0)[:, 0]
    assert len(item.queries) == len(set(item.of)) + 1 >= 7
    assert [bool(source.any()) for source in sources] == [True] * (len(sources) - 1) + [False]
    heard = sources.sum(0).abs().view(-1, 320).amax(1) > 0
    longest = max(map(len, "".join("x" if one else "." for one in heard.tolist()).split("x")))
    assert longest >= 5.98 * 100  # a twentieth
    assert 0.3 < heard.float().mean() < 0.95
    assert sources.sum(0).abs().max() <= 0.901


def test_low_passed_are_the_same_mixtures_without_their_treble(pool: Pool, cache: Path) -> None:
    before = building.mixtures(pool, "seen-2", 1, Plan(40))
    cut = building.low_pass(pool, "low-passed", 1, 40, "seen-2", Plan(500))
    sources = rendered(pool, cache, cut)
    changes = []
    for number, (one, other) in enumerate(zip(before, cut, strict=True)):
        assert one.pieces == other.pieces
        assert other.low_pass_hz == 7500
        first, second, _ = sources(number)
        assert other.snr_db == pytest.approx(10 * np.log10(power(first) / power(second)), abs=0.006)
        ticks = [ask.label for ask in other.queries[:2]].count("clock ticking")
        changes.append((ticks, abs(other.snr_db - one.snr_db)))
    assert max(change for ticks, change in changes if not ticks) < 0.05
    lost = torch.tensor([change for ticks, change in changes if ticks])
    assert len(lost)
    assert (lost - 3.01).abs().max() < 0.05


def test_paraphrased_are_the_same_mixtures_in_other_words(pool: Pool) -> None:
    before = building.mixtures(pool, "seen-2", 1, Plan(20))
    said = building.paraphrased(pool, "paraphrase", 1, 20, "seen-2", Plan(500))
    for one, other in zip(before, said, strict=True):
        assert one.pieces == other.pieces
        for ask, asked in zip(one.queries, other.queries, strict=True):
            assert (asked.label, asked.sources) == (ask.label, ask.sources)
            assert asked.text in wordings()[ask.label]


def test_a_clip_that_is_gone_is_named(root: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text((root / "manifest.csv").read_text())
    with pytest.raises(UsageError, match=r"rain-0\.wav is missing"):
        build("seen-2", tmp_path, cache=cache)


def test_a_label_without_another_wording_is_named(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {label: texts for label, texts in wordings().items() if label != "rain"}
    monkeypatch.setattr(building, "wordings", lambda: known)
    with pytest.raises(UsageError, match="no other wording is written down for 'rain'"):
        building.paraphrased(pool, "paraphrase", 1, 30, "seen-2", Plan(30))


def test_too_loud_a_mixture_is_turned_down_as_a_whole(pool: Pool, drawn: list[Item]) -> None:
    loud = replace(drawn[0], pieces=tuple(replace(piece, gain=50 * piece.gain) for piece in drawn[0].pieces))
    turned = building._finished(pool, loud)
    factors = {round(new.gain / old.gain, 5) for new, old in zip(turned.pieces, loud.pieces, strict=True)}
    assert len(factors) == 1
    assert factors.pop() < 0.9
    assert turned.snr_db == pytest.approx(drawn[0].snr_db, abs=0.01)
