"""The automatic mode on tones, whose listener and engine are exact, and with the weights that come along."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import unweave
from tones import COMB, TRUSTING, Deluded, ToneEars, ToneSplit, fitted, ratio_db, sound
from unweave import hub
from unweave.errors import OutputError, QueryError, UsageError
from unweave.language.chat import Chat
from unweave.listen.captioners import Captions
from unweave.pipeline import auto, sidecar
from unweave.pipeline.apart import widened
from unweave.pipeline.edit import extract, remove, separate
from unweave.pipeline.examples import heard_as, in_words
from unweave.pipeline.files import OutputOptions, separate_file
from unweave.pipeline.presence import Presence
from unweave.pipeline.rig import Rig, loaded
from unweave.types import Audio, Heard, Query

RATE = 8000
DATA = Path(__file__).parent / "data"
Tone = tuple[str, float, float, float]  # name, start, end (seconds), amplitude


def rig() -> Rig:
    return Rig(ToneSplit(), "tones", ToneEars(), "tone ears", fitted())


def write(path: Path, samples: torch.Tensor, subtype: str = "PCM_16") -> Path:
    soundfile.write(path, samples.T.numpy(), RATE, subtype)
    return path


def integers(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="int32", always_2d=True)[0].astype(np.int64)


HUM: Tone = ("low hum", 1.0, 4.0, 0.3)
WHISTLE: Tone = ("whistle", 6.0, 9.0, 0.2)


def test_every_tone_gets_its_name_and_time() -> None:
    recording = Audio(sound(10, HUM, WHISTLE), RATE)
    hum, whistle, rest = sorted(
        separate(recording, model=rig()), key=lambda stem: stem.query.text if stem.query else "~"
    )
    assert [stem.query.text if stem.query else "" for stem in (hum, whistle, rest)] == [
        "low hum",
        "whistle",
        "",
    ]
    ((start, end),) = hum.spans
    assert (start, end) == (pytest.approx(1.0, abs=0.11), pytest.approx(4.0, abs=0.11))
    ((start, end),) = whistle.spans
    assert (start, end) == (pytest.approx(6.0, abs=0.11), pytest.approx(9.0, abs=0.11))
    assert ratio_db(sound(10, HUM), hum.audio.samples) > 25
    assert ratio_db(sound(10, WHISTLE), whistle.audio.samples) > 25
    assert min(hum.score, whistle.score) > 0.9
    total = hum.audio.samples + whistle.audio.samples + rest.audio.samples
    assert (total - recording.samples).abs().max() < 1e-6


def test_a_quiet_tone_is_heard_once_the_loud_one_is_gone() -> None:
    quiet: Tone = ("beep", 2.0, 3.0, 0.008)  # 31 dB below the hum
    recording = Audio(sound(6, HUM, quiet), RATE)
    one = separate(recording, model=rig(), limits=auto.Limits(rounds=1))
    two = separate(recording, model=rig())
    assert [stem.query.text for stem in one[:-1] if stem.query] == ["low hum"]
    assert [stem.query.text for stem in two[:-1] if stem.query] == ["low hum", "beep"]
    assert ratio_db(sound(6, quiet), two[1].audio.samples) > 10
    assert (sum(stem.audio.samples for stem in two) - recording.samples).abs().max() < 1e-6


@pytest.mark.parametrize(("below", "tried"), [(50.0, False), (80.0, True)])
def test_remnants_are_not_taken_for_sounds(
    monkeypatch: pytest.MonkeyPatch, below: float, tried: bool
) -> None:
    """What is left once the hum is gone is 58 dB below it."""
    monkeypatch.setattr(auto, "FAINT_DB", below)
    engine = ToneSplit()
    recording = Audio(sound(6, ("low hum", 0.5, 5.5, 0.9), ("beep", 2, 4, 0.9 * 10 ** (-58 / 20))), RATE)
    stems = separate(recording, model=Rig(engine, "", ToneEars(faint=1e-8), "", fitted()))
    assert stems[0].query is not None
    assert stems[0].query.text == "low hum"
    assert any("beep" in asked for asked in engine.asked) == tried


def things(count: int) -> Deluded:
    return Deluded(*(Heard(f"thing {number}", 1.0, 1.0, 4.0) for number in range(count)))


def test_names_that_are_not_there_make_room_for_others() -> None:
    recording, limits = Audio(sound(5, HUM), RATE), auto.Limits(tracks=2)
    stems = separate(recording, model=Rig(ToneSplit(), "", things(5), "", TRUSTING), limits=limits)
    assert [stem.query.text for stem in stems if stem.query] == ["low hum"]
    assert ratio_db(sound(5, HUM), stems[0].audio.samples) > 25
    with pytest.warns(UserWarning, match="sound") as said:
        separate(recording, model=Rig(ToneSplit(), "", things(40), "", TRUSTING), limits=limits)
    assert [str(one.message)[:30] for one in said] == [
        "29 more sounds were heard and ",  # 40 and the hum, less two times three times two
        "no sound was recognised; the r",
    ]
    assert "turned out not to be there" in str(said[0].message)


class Describes:
    """A captioner of one fixed opinion, so that it is known what it names."""

    name, sample_rate = "says so", RATE

    def __init__(self, sentence: str) -> None:
        self._sentence = sentence

    def sentence(self, window: torch.Tensor) -> str:
        assert window.ndim == 1
        return self._sentence


STEM_ONLY = Presence((2.0, 2.0, 0.0, 0.0, 0.0, 0.0), 4.0, 0.05, 0.9, "believes the stem, and nothing else")
CAPTIONED: Tone = ("beep", 1.2, 3.8, 0.1)


GLOOP = {
    "is_sound": True,
    "range_hz": [100, 400],
    "fundamental_hz": [],
    "tone": "noisy",
    "timbre": "wet",
    "envelope": "slow swell",
    "rhythm": "irregular",
    "seconds": [1, 5],
    "level": "moderate",
    "look_alikes": [],
}


def captioned_rig(sentence: str, chat: Chat | None = None, presence: Presence = STEM_ONLY) -> Rig:
    ears = ToneEars(("low hum",))  # knows of no beep
    captions = Captions(Describes(sentence))
    return Rig(ToneSplit(), "tones", ears, "tone ears", presence, captions, chat)


def test_what_only_a_caption_names_is_found() -> None:
    recording = Audio(sound(6, HUM, CAPTIONED), RATE)
    deaf = separate(recording, model=replace(captioned_rig(""), captions=None))
    assert [stem.query.text for stem in deaf if stem.query] == ["low hum"]
    stems = {
        stem.query.text: stem for stem in separate(recording, model=captioned_rig("A beep.")) if stem.query
    }
    assert stems.keys() == {"low hum", "beep"}
    assert stems["beep"].spans == ((0.0, 6.0),), "all that a caption says of time is its window"
    assert ratio_db(sound(6, CAPTIONED), stems["beep"].audio.samples) > 20


def test_who_named_sounds_is_written_down_and_asked_for_again(tmp_path: Path) -> None:
    path = write(tmp_path / "r.wav", sound(6, HUM, CAPTIONED))
    options = OutputOptions(skip_existing=True)
    one, two = (replace(captioned_rig("A beep."), beside=(name,)) for name in ("whisper:one", "whisper:two"))
    done = separate_file(path, None, tmp_path / "out", one, options)
    assert done is not None
    assert done.beside == sidecar.read(tmp_path / "out" / sidecar.NAME).beside == ("whisper:one",)
    assert separate_file(path, None, tmp_path / "out", one, options) is None
    with pytest.raises(OutputError, match="other"):
        separate_file(path, None, tmp_path / "out", two, options)


def test_a_caption_is_believed_as_a_person_is_and_no_more() -> None:
    """The beep has a tenth of the energy: too much to be silenced, too little for what is heard."""
    recording = Audio(sound(6, HUM, CAPTIONED), RATE)
    strict = replace(STEM_ONLY, silence=0.8)
    names = {
        stem.query.text
        for stem in separate(recording, model=captioned_rig("A beep.", None, strict))
        if stem.query
    }
    assert names == {"low hum"}


def test_captions_without_a_sound_are_left_out_and_said() -> None:
    recording = Audio(sound(6, HUM), RATE)
    with pytest.warns(UserWarning, match="the caption '12 34' was left out"):
        stems = separate(recording, model=captioned_rig("12 34"))
    assert [stem.query.text for stem in stems if stem.query] == ["low hum"]


def test_a_chat_reads_the_captions_and_tells_what_no_table_knows() -> None:
    """The rules read "gloop" as no sound; the chat does, and it is asked how it sounds."""
    asked: list[str] = []

    def chat(prompt: str) -> str:
        asked.append(prompt)
        if "gloop" not in prompt:
            raise AssertionError("asked about a sound that the table knows")
        return json.dumps({"sources": ["zorping gloop"]} if "zorping gloop." in prompt else GLOOP)

    class Remembers(ToneSplit):
        def separate(self, mixture, queries):  # type: ignore[no-untyped-def]
            told.update({query.text: query.sounds_like for query in queries})
            return super().separate(mixture, queries)

    told: dict[str, str] = {}
    model = replace(captioned_rig("A zorping gloop.", chat), separator=Remembers())
    separate(Audio(sound(6, HUM), RATE), model=model)
    assert len(asked) == 2
    assert told["zorping gloop"].startswith("wet low")
    assert told["low hum"] == "", "the engine has its own words for what the table knows"


def test_without_room_nobody_listens() -> None:
    class Counts(ToneEars):
        def follow(self, blocks, sample_rate):  # type: ignore[no-untyped-def]
            impression = super().follow(blocks, sample_rate)
            seconds.append(impression.duration)
            return impression

    seconds: list[float] = []
    model = Rig(ToneSplit(), "", Counts(), "", fitted())
    separate(Audio(sound(6, HUM), RATE), model=model, limits=auto.Limits(tracks=1, rounds=5))
    assert seconds.count(6.0) == 1, "the excerpts that are judged are shorter"


def test_fifty_sounds_at_once() -> None:
    tones = [(name, 0.2, 3.8, 0.05) for name in COMB]
    recording = Audio(sound(4, *tones), RATE)
    model = Rig(ToneSplit(), "", ToneEars(tuple(COMB)), "", TRUSTING)
    with pytest.warns(UserWarning, match="42 more sounds were heard"):
        stems = separate(recording, model=model)
    names = {stem.query.text for stem in stems if stem.query}
    assert (len(stems), len(names)) == (9, 8)
    assert names < set(COMB)
    assert (sum(stem.audio.samples for stem in stems) - recording.samples).abs().max() < 1e-5
    for stem in stems[:-1]:
        assert stem.query is not None
        assert ratio_db(sound(4, (stem.query.text, 0.2, 3.8, 0.05)), stem.audio.samples) > 10


def test_a_chord_and_a_second() -> None:
    chord = [(name, 0.0, 4.0, 0.2) for name in ("low hum", "beep", "whistle")]
    stems = separate(Audio(sound(4, *chord), RATE), model=rig())
    assert {stem.query.text for stem in stems if stem.query} == {"low hum", "beep", "whistle"}
    short = ("beep", 0.2, 0.8, 0.3)
    beep, _ = separate(Audio(sound(1, short), RATE), model=rig())
    assert beep.query is not None
    assert beep.query.text == "beep"
    assert ratio_db(sound(1, short), beep.audio.samples) > 20


def test_names_of_one_sound_are_one_track() -> None:
    stems = separate(Audio(sound(5, HUM), RATE), model=rig())
    assert [stem.query.text for stem in stems if stem.query] == ["low hum"], '"hum" is the same'


def test_what_the_stem_does_not_confirm_stays_in_the_rest() -> None:
    ghost: Tone = ("ghost", 0.5, 4.5, 0.2)
    recording = Audio(sound(5, HUM, ghost), RATE)
    engine = rig()
    stems = separate(recording, model=engine)
    assert any("ghost" in asked for asked in engine.separator.asked), "it was heard and tried"  # type: ignore[attr-defined]
    assert [stem.query.text for stem in stems if stem.query] == ["low hum"]
    assert ratio_db(sound(5, ghost), stems[-1].audio.samples) > 20


def test_more_sounds_than_tracks_are_said(tmp_path: Path) -> None:
    source = write(tmp_path / "a.wav", sound(5, HUM, ("beep", 1, 4, 0.2), ("whistle", 1, 4, 0.1)))
    done = separate_file(source, None, tmp_path / "out", rig(), OutputOptions(), limits=auto.Limits(tracks=1))
    assert done is not None
    assert [track.label for track in done.stems] == ["low hum", "residual"]
    (warning,) = done.warnings
    assert "2 more sounds" in warning
    assert "beep" in warning
    assert "whistle" in warning
    assert "limit is 1 tracks" in warning
    with pytest.raises(UsageError, match="one track"):
        auto.Limits(tracks=0)


@pytest.mark.parametrize("seconds", [0.0, 1.0, 12.0])
@pytest.mark.parametrize("noise", [0.0, 0.002])
def test_silence_and_noise_have_no_names(tmp_path: Path, seconds: float, noise: float) -> None:
    samples = noise * torch.randn(2, round(seconds * RATE), generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="no sound was recognised"):
        stems = separate(Audio(samples, RATE), model=rig())
    assert [stem.query for stem in stems] == [None]
    assert torch.equal(stems[0].audio.samples, samples)
    if seconds:
        source = write(tmp_path / "noise.wav", samples)
        done = separate_file(source, None, tmp_path / "out", rig(), OutputOptions())
        assert done is not None
        assert "no sound was recognised" in done.warnings[0]
        assert np.array_equal(integers(tmp_path / "out" / "residual.wav"), integers(source))
        assert (tmp_path / "out" / "labels.txt").read_text() == ""


def test_files_say_what_sounds_when(tmp_path: Path) -> None:
    source, out = write(tmp_path / "street.wav", sound(10, HUM, WHISTLE)), tmp_path / "out"
    done = separate_file(source, None, out, rig(), OutputOptions())
    assert done is not None
    files = {track.label: track.file for track in done.stems}
    assert files["low hum"] in ("01-low-hum.wav", "02-low-hum.wav")
    notes = {"events.csv", "labels.txt", "separation.json"}
    assert {path.name for path in out.iterdir()} == {*files.values(), *notes}
    assert np.array_equal(sum(integers(out / track.file) for track in done.stems), integers(source))
    assert done.sum_error_db is None
    labels = [line.split("\t") for line in (out / "labels.txt").read_text().splitlines()]
    assert [label for _, _, label in labels] == ["low hum", "whistle"]
    assert float(labels[0][0]) == pytest.approx(1.0, abs=0.11)
    with (out / "events.csv").open(newline="") as table:
        events = list(csv.DictReader(table))
    assert [event["file"] for event in events] == [files["low hum"], files["whistle"]]
    assert all(float(event["score"]) > 0.9 for event in events)
    said = json.loads((out / "separation.json").read_text())
    assert sidecar.from_json(json.dumps(said)) == done
    assert said["automatic"]
    assert said["listener"]["name"] == "tone ears"
    assert [track["found"] for track in said["stems"]] == [True] * 3
    again = separate_file(source, None, out, rig(), OutputOptions(skip_existing=True))
    assert again is None
    with pytest.raises(OutputError, match="exists already"):
        separate_file(source, [Query("low hum")], out, rig(), OutputOptions(skip_existing=True))
    (out / "mine.txt").write_text("mine")
    separate_file(source, [Query("beep")], out, rig(), OutputOptions(overwrite=True))
    left = {"01-beep.wav", "residual.wav", "separation.json", "mine.txt"}
    assert {path.name for path in out.iterdir()} == left, "what the first run left is gone"


def test_a_sound_is_looked_for_only_where_it_is_heard(tmp_path: Path) -> None:
    engine = rig()
    source = write(tmp_path / "long.wav", sound(120, ("beep", 61.0, 63.0, 0.3), ("low hum", 2, 118, 0.01)))
    done = separate_file(source, None, tmp_path / "out", engine, OutputOptions())
    assert done is not None
    assert sorted(track.label for track in done.stems) == ["beep", "low hum", "residual"]
    windows = sum("beep" in asked for asked in engine.separator.asked)  # type: ignore[attr-defined]
    assert windows <= 2, "of 16"


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    class Breaks(ToneSplit):
        """Gives up at the second window."""

        def separate(self, mixture: torch.Tensor, queries: list[Query]) -> torch.Tensor:  # type: ignore[override]
            if self.asked:
                raise KeyboardInterrupt
            return super().separate(mixture, queries)

    source = write(tmp_path / "a.wav", sound(30, ("low hum", 0, 30, 0.3)))
    with pytest.raises(KeyboardInterrupt):
        separate_file(
            source, None, tmp_path / "out", Rig(Breaks(), "", ToneEars(), "", fitted()), OutputOptions()
        )
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_without_a_listener_sounds_have_to_be_named() -> None:
    with pytest.raises(UsageError, match="name the sounds"):
        separate(Audio(sound(1, HUM), RATE), model=ToneSplit())


def test_what_was_asked_for_and_is_not_there_is_silence(tmp_path: Path) -> None:
    """The engine gives a twentieth of everything for a cow; the listener hears no cow in it."""
    source, out = write(tmp_path / "a.wav", sound(5, HUM)), tmp_path / "out"
    done = separate_file(source, [Query("cow"), Query("low hum")], out, rig(), OutputOptions())
    assert done is not None
    cow, hum, _ = done.stems
    assert (cow.found, cow.level_dbfs, cow.score < 0.1) == (False, None, True)
    assert (hum.found, hum.score > 0.9) == (True, True)
    assert "'cow' is there with a chance of" in done.warnings[0]
    assert not integers(out / cow.file).any()
    assert np.array_equal(sum(integers(out / track.file) for track in done.stems), integers(source))
    recording = Audio(sound(5, HUM), RATE)
    assert not extract(recording, "cow", model=rig()).samples.any()
    assert torch.equal(remove(recording, "cow", model=rig()).samples, recording.samples)
    kept, removed = extract(recording, "low hum", model=rig()), remove(recording, "low hum", model=rig())
    assert kept.samples.abs().max() > 0.2
    assert (kept.samples + removed.samples - recording.samples).abs().max() < 1e-6
    heard_by_nobody = extract(recording, "cow", model=ToneSplit())
    assert heard_by_nobody.samples.abs().max() > 0.01, "without ears nothing is silenced"


def test_an_example_becomes_words() -> None:
    clip = Audio(sound(2, ("whistle", 0, 2, 0.3)), RATE)
    (query,) = in_words([Query(example=clip)], rig())
    assert (query.text, query.example) == ("whistle", clip)
    heard = heard_as(clip, ToneEars())
    assert (heard.text, heard.score > 0.9) == ("whistle", True)
    stems = separate(Audio(sound(10, HUM, WHISTLE), RATE), [Query(example=clip)], model=rig())
    assert ratio_db(sound(10, WHISTLE), stems[0].audio.samples) > 20
    with pytest.raises(QueryError, match="in words what it is"):
        in_words([Query(example=Audio(torch.zeros(1, RATE), RATE))], rig())
    with pytest.raises(QueryError, match="asked already"):
        in_words([Query("Whistle"), Query(example=clip)], rig())
    assert in_words([Query(example=clip)], Rig(ToneSplit())) == (Query(example=clip),)

    class Examples(ToneSplit):
        takes_examples = True

    assert in_words([Query(example=clip)], Rig(Examples(), ears=ToneEars()))[0].text == ""


def test_guesses_are_merged_over_time_and_by_meaning() -> None:
    heard = [
        Heard("hum", 0.6, 8.0, 9.0),
        Heard("low hum", 0.9, 1.0, 2.0),
        Heard("beep", 0.8, 0.0, 1.0),
        Heard("Beep", 0.7, 3.0, 4.0),
        Heard("whistle", 0.7, 3.0, 4.0),
    ]
    found = auto.guesses(heard, ["whistle"], ToneEars().alike)
    assert [(guess.name, guess.spans) for guess in found] == [
        ("low hum", ((1.0, 2.0), (8.0, 9.0))),
        ("beep", ((0.0, 1.0), (3.0, 4.0))),
    ]
    assert found[0].query.spans == ((0.0, 3.0), (7.0, 10.0))
    assert widened((), 1, 1) == ()


def test_names_are_compared_once_however_often_they_are_heard() -> None:
    compared: list[tuple[str, str]] = []

    def alike(one: str, other: str) -> float:
        compared.append((one, other))
        return ToneEars().alike(one, other)

    heard = [
        Heard(name, 0.5, float(at), at + 0.5) for at in range(500) for name in ("hum", "beep", "low hum")
    ]
    found = auto.guesses(heard, ["whistle"], alike)
    assert [(guess.name, len(guess.spans)) for guess in found] == [("hum", 500), ("beep", 500)]
    assert len(compared) < 10


@pytest.mark.filterwarnings("ignore::UserWarning")  # whatever is said of them
@pytest.mark.parametrize("what", ["street", "music", "second", "noise", "silence"])
def test_with_the_weights_that_come_along(what: str) -> None:
    draw = torch.Generator().manual_seed(0)
    recordings = {
        "street": lambda: unweave.read(DATA / "street.flac"),
        "music": lambda: unweave.read(DATA / "alto-saxophone.flac"),
        "second": lambda: Audio(unweave.read(DATA / "dog-barking.flac").samples[:, :44_100], 44_100),
        "noise": lambda: Audio(0.1 * torch.randn(2, 3 * 44_100, generator=draw), 44_100),
        "silence": lambda: Audio(torch.zeros(2, 3 * 44_100), 44_100),
    }
    recording = recordings[what]()
    stems = unweave.separate(recording)
    names = [stem.query.text for stem in stems[:-1] if stem.query]
    assert len(set(names)) == len(stems) - 1 <= 8
    assert stems[-1].query is None
    assert (sum(stem.audio.samples for stem in stems) - recording.samples).abs().max() < 1e-5
    if what == "silence":
        assert names == []
    if what == "street":
        ears = loaded(hub.DEFAULT, "auto").ears
        assert ears is not None
        assert max(ears.alike(name, true) for name in names for true in ("dog", "dog barking", "rain")) >= 0.6
