"""Sounds that are asked for together, examples, and where stems wait: on tones, whose answers are known."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from tones import TRUSTING, Deluded, ToneEars, ToneSplit, fitted, ratio_db, sound
from unweave.audio import read
from unweave.errors import AudioError, OutputError, QueryError
from unweave.pipeline.edit import separate
from unweave.pipeline.files import OutputOptions, separate_file
from unweave.pipeline.rig import Rig
from unweave.pipeline.shelf import Shelf
from unweave.types import Audio, Heard, Query
from unweave.work import Voice, by_example

RATE = 8000
QUIET = Voice(json=False, quiet=True)
HUM = ("low hum", 1.0, 4.0, 0.3)


class Leaky(ToneSplit):
    """Gives a twentieth of everything besides what was asked for."""

    def separate(self, mixture: Tensor, queries: Sequence[Query]) -> Tensor:
        return super().separate(mixture, queries) + 0.05 * mixture


def test_a_quiet_sound_is_not_silenced_for_a_loud_leak_elsewhere() -> None:
    """The beep is 7 dB below what leaks of the hum into its stem 20 seconds earlier."""
    beep = ("beep", 30.0, 34.0, 0.02)
    recording = Audio(sound(40, ("low hum", 0.0, 10.0, 0.9), beep), RATE)
    found, cow, _ = separate(recording, ["beep", "cow"], model=Rig(Leaky(), "", ToneEars(), "", fitted()))
    assert found.score > 0.5
    late = slice(30 * RATE, 34 * RATE)
    assert ratio_db(sound(40, beep)[:, late], found.audio.samples[:, late]) > 15
    assert not cow.audio.samples.any()


def test_what_a_sound_took_that_is_not_there_goes_to_the_others() -> None:
    """The engine gives half of the hum to the mirage; the listener hears no mirage."""
    recording, engine = Audio(sound(5, HUM), RATE), ToneSplit()
    model = Rig(engine, "", ToneEars(), "", TRUSTING)
    for queries in (
        ["low hum", "mirage"],
        ["low hum", Query("mirage", spans=((1.0, 4.0),))],
    ):
        hum, mirage, rest = separate(recording, queries, model=model)
        assert ratio_db(sound(5, HUM), hum.audio.samples) > 25, "6 if it had to share"
        assert not mirage.audio.samples.any()
        assert rest.audio.samples.abs().max() < 0.02
    assert engine.asked.count(["low hum"]) == 2, "asked again, alone"
    hum, removed, _ = separate(recording, ["low hum", Query("mirage", keep=False)], model=model)
    assert ratio_db(sound(5, HUM), hum.audio.samples) > 25
    assert torch.equal(removed.audio.samples, recording.samples), "nothing is removed"


def test_only_what_was_shared_is_asked_for_again() -> None:
    recording = Audio(sound(80, HUM, ("whistle", 62.0, 64.0, 0.3)), RATE)
    engine, ears = ToneSplit(), Deluded(Heard("mirage", 1.0, 1.0, 4.0))
    stems = separate(recording, model=Rig(engine, "", ears, "", TRUSTING))
    names = {stem.query.text: stem for stem in stems if stem.query}
    assert set(names) == {"low hum", "whistle"}
    assert ratio_db(sound(80, HUM), names["low hum"].audio.samples) > 25
    windows = {
        name: sum(name in asked for asked in engine.asked) for name in ("whistle", "low hum", "mirage")
    }
    assert windows["mirage"] > 0
    assert windows["low hum"] == 2 * windows["mirage"]
    assert windows["whistle"] == 2, "it sounds in two windows"
    total = torch.stack([stem.audio.samples for stem in stems]).sum(0)
    assert (total - recording.samples).abs().max() < 1e-6


def clip(path: Path, name: str = "whistle", seconds: float = 2.0) -> Path:
    soundfile.write(path, sound(seconds, (name, 0, seconds, 0.3)).T.numpy(), RATE, "FLOAT")
    return path


def test_an_example_of_what_is_asked_already_is_refused(tmp_path: Path) -> None:
    one, other = str(clip(tmp_path / "one.wav")), str(clip(tmp_path / "other.wav", seconds=1.0))
    rig = Rig(ToneSplit(), "", ToneEars(), "", fitted())
    (query,) = by_example([one], [Query("beep")], rig, QUIET)
    assert query.text == "whistle"
    with pytest.raises(QueryError, match=r"one\.wav: .*heard as 'whistle', which is asked already"):
        by_example([one], [Query(" Whistle")], rig, QUIET)
    with pytest.raises(QueryError, match=r"other\.wav: .*asked already"):
        by_example([one, other], [], rig, QUIET)


def test_only_the_stretch_of_an_example_is_read(tmp_path: Path) -> None:
    """Half a minute later the file is damaged, which whoever reads on is told."""
    path = tmp_path / "long.wav"
    samples = np.concatenate([sound(30, ("whistle", 0, 30, 0.3)).T.numpy(), np.full((9, 2), np.nan)])
    soundfile.write(path, samples, RATE, "FLOAT")
    rig = Rig(ToneSplit(), "", ToneEars(), "", fitted())
    for start, end in ((0.5, 1.5), (7.0, 9.0), (8.5, 9.0)):
        (query,) = by_example([f"{path}@{start}-{end}"], [], rig, QUIET)
        assert query.example is not None
        here = samples[round(start * RATE) : round(end * RATE)].T
        assert np.array_equal(query.example.samples.numpy(), here.astype(np.float32))
    with pytest.raises(AudioError):
        read(path)
    with pytest.raises(AudioError):
        by_example([str(path)], [], rig, QUIET)
    with pytest.raises(QueryError, match=r"has 2\.0 s"):
        by_example([f"{clip(tmp_path / 'short.wav')}@5-6"], [], rig, QUIET)


def test_work_asked_for_by_example_is_skipped_when_it_is_done(tmp_path: Path) -> None:
    class Hears(ToneSplit):
        takes_examples = True

    source, example = clip(tmp_path / "a.wav"), read(clip(tmp_path / "b.wav"))
    skip = OutputOptions(skip_existing=True)

    def run(query: Query, engine: ToneSplit) -> bool:
        rig = Rig(engine, "", ToneEars(), "", fitted())
        return separate_file(source, [query], tmp_path / "out", rig, skip) is not None

    assert run(Query(example=example), ToneSplit())
    assert not run(Query(example=example), ToneSplit())
    assert not run(Query("whistle", example=example), ToneSplit())
    with pytest.raises(OutputError, match="exists already"):
        run(Query("whistle", example=example), Hears())


def test_a_disk_that_is_full_is_said_whenever_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits in a buffer meets the full disk when it is read back, and once more when it is closed."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    opened = [Path("/dev/full").open("r+b") for _ in range(3)]  # noqa: SIM115
    waiting = iter(opened)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir: next(waiting))
    with Shelf(1, tmp_path) as shelf:
        slots = shelf.make_room(3)
        shelf.write(slots, torch.ones(3, 1, 10))
        with pytest.raises(OutputError, match="make room"):
            shelf.rewind(slots)
    assert [file.closed for file in opened] == [True] * 3
