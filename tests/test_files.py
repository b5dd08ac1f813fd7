"""From a file to its tracks: they add up, appear together or not at all, and say how they were made."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from unweave.audio import FileFormat
from unweave.errors import AudioError, DeviceError, OutputError, QueryError, UnknownNameError, UsageError
from unweave.pipeline import naming, sidecar, tracks
from unweave.pipeline.files import OutputOptions, edit_file, separate_file
from unweave.pipeline.rig import Rig
from unweave.types import Query

RATE = 8000
LOW, HIGH = Query("low hum"), Query("high whistle")
TRACKS = ["01-low-hum.wav", "02-high-whistle.wav", "residual.wav", "separation.json"]


class Split:
    """ "low" is what lies below 1 kHz, "high" what lies above, anything else is nowhere."""

    sample_rate = RATE

    def __init__(self) -> None:
        self.calls = 0

    def separate(self, mixture: Tensor, queries: Sequence[Query]) -> Tensor:
        self.calls += 1
        spectrum = torch.fft.rfft(mixture)
        frequency = torch.fft.rfftfreq(mixture.shape[-1], 1 / self.sample_rate)
        masks = {"low": frequency < 1000, "high": frequency >= 1000}
        stems = [spectrum * masks.get(query.text.split()[0], torch.zeros(1)) for query in queries]
        return torch.fft.irfft(torch.stack(stems), n=mixture.shape[-1])


class Breaks(Split):
    """Gives up at the second window."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def separate(self, mixture: Tensor, queries: Sequence[Query]) -> Tensor:
        if self.calls == 1:
            raise self.error
        return super().separate(mixture, queries)


def street(path: Path, subtype: str = "PCM_16", seconds: float = 9.3, level: float = 0.3) -> Path:
    """A hum on the left, a whistle on the right, noise on both."""
    time = np.arange(round(seconds * RATE)) / RATE
    sound = 1e-3 * np.random.default_rng(0).standard_normal((len(time), 2))
    sound[:, 0] += level * np.sin(2 * np.pi * 220 * time)
    sound[:, 1] += level / 2 * np.sin(2 * np.pi * 2500 * time)
    soundfile.write(path, sound, RATE, subtype)
    return path


def separate(
    source: Path, out: Path, queries: Sequence[Query] = (LOW, HIGH), **options: object
) -> sidecar.Separation:
    separation = separate_file(source, queries, out, Rig(Split(), "split"), OutputOptions(**options))
    assert separation is not None
    return separation


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def integers(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="int32", always_2d=True)[0].astype(np.int64)


@pytest.mark.parametrize("extension", ["wav", "flac"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_integer_files_add_up_to_the_last_bit(tmp_path, extension, subtype):
    source = street(tmp_path / f"street.{extension}", subtype)
    separation = separate(source, tmp_path / "out")
    files = [tmp_path / "out" / track.file for track in separation.stems]
    assert [file.name for file in files] == [name.replace("wav", extension) for name in TRACKS[:3]]
    for file in files:
        info, wanted = soundfile.info(file), soundfile.info(source)
        assert (info.samplerate, info.channels, info.frames) == (RATE, 2, wanted.frames)
        assert (info.format, info.subtype) == (wanted.format, subtype)
    assert np.array_equal(sum(integers(file) for file in files), integers(source))
    assert separation.sum_error_db is None
    assert separation.gain_db == 0.0
    assert abs(separation.stems[0].level_dbfs - 20 * math.log10(0.3 / 2)) < 0.2, (
        "a sine in one of two channels"
    )
    assert abs(separation.stems[0].peak_dbfs - 20 * math.log10(0.3)) < 0.2


def test_float_files_add_up_to_rounding_and_keep_every_level(tmp_path):
    source = street(tmp_path / "street.wav", "FLOAT", level=40.0)
    separation = separate(source, tmp_path / "out")
    files = [tmp_path / "out" / track.file for track in separation.stems]
    assert {soundfile.info(file).subtype for file in files} == {"FLOAT"}
    total = sum(soundfile.read(file)[0] for file in files)
    error = np.abs(total - soundfile.read(source)[0]).max()
    assert error < 40 * 2**-23
    assert separation.gain_db == 0.0
    assert separation.stems[0].peak_dbfs == pytest.approx(20 * math.log10(40), abs=0.1)
    measured = -math.inf if separation.sum_error_db is None else separation.sum_error_db
    assert measured == pytest.approx(20 * math.log10(error) if error else -math.inf, abs=0.01)


def test_a_float_recording_on_an_integer_grid(tmp_path):
    source = street(tmp_path / "street.wav", "FLOAT")
    separation = separate(source, tmp_path / "out", subtype="PCM_16")
    assert soundfile.info(tmp_path / "out" / TRACKS[0]).subtype == "PCM_16"
    # Only the residual's own rounding is left, half a step.
    assert -105 < separation.sum_error_db <= 20 * math.log10(2**-16) + 0.01


def test_what_would_clip_is_lowered_together(tmp_path):
    """The fundamental of a square wave is higher than the wave."""
    wave = 0.98 * np.sign(np.sin(2 * np.pi * 405.3 * np.arange(9 * RATE) / RATE))
    source = tmp_path / "square.wav"
    soundfile.write(source, wave, RATE, "PCM_16")
    separation = separate(source, tmp_path / "out")
    gain = 10 ** (separation.gain_db / 20)
    assert 0.7 < gain < 0.85
    files = [tmp_path / "out" / track.file for track in separation.stems]
    samples = [soundfile.read(file)[0] for file in files]
    assert max(np.abs(stem).max() for stem in samples) == pytest.approx(1, abs=1e-4)
    assert separation.stems[0].peak_dbfs == pytest.approx(0, abs=0.01)
    error = np.abs(sum(samples) / gain - soundfile.read(source)[0]).max()
    assert error <= 3 * 0.5 * 2**-15 / gain
    assert separation.sum_error_db == pytest.approx(20 * math.log10(error), abs=0.01)
    assert any("lowered by" in warning and "FLOAT" in warning for warning in separation.warnings)
    assert separate(source, tmp_path / "float", subtype="FLOAT").gain_db == 0.0


def test_full_scale_on_the_negative_side_is_not_clipping():
    sixteen = FileFormat(".wav", "WAV", "PCM_16")
    assert tracks.fitting_gain(sixteen, -1.0, 32767 / 32768) == 1.0
    assert tracks.fitting_gain(sixteen, -0.5, 1.0) == 32767 / 32768
    assert tracks.fitting_gain(FileFormat(".wav", "WAV", "FLOAT"), -9.0, 9.0) == 1.0


def test_a_lossy_format_says_how_far_off_it_is(tmp_path):
    source = street(tmp_path / "street.wav", seconds=3)
    separation = separate(source, tmp_path / "out", format="ogg")
    files = [tmp_path / "out" / track.file for track in separation.stems]
    assert {soundfile.info(file).subtype for file in files} == {"VORBIS"}
    error = np.abs(sum(soundfile.read(file)[0] for file in files) - soundfile.read(source)[0]).max()
    assert 0.001 < error < 0.1
    assert separation.sum_error_db == pytest.approx(20 * math.log10(error), abs=0.01)


def test_the_sidecar_says_what_was_done(tmp_path):
    source = street(tmp_path / "street.wav")
    queries = [
        Query("low hum", not_text="wind", sounds_like="deep"),
        Query("high whistle", spans=((1, 2.5),), keep=False),
    ]
    separation = separate(source, tmp_path / "out", queries)
    text = (tmp_path / "out" / "separation.json").read_text(encoding="utf-8")
    assert sidecar.from_json(text) == separation
    said = json.loads(text)
    assert said["schema"] == 2
    assert said["tool"]["name"] == "unweave"
    assert said["model"] == {"name": "split", "weights_sha256": None, "device": None, "sample_rate": RATE}
    assert said["source"]["path"] == str(source)
    assert said["source"]["frames"] == round(9.3 * RATE)
    assert said["stems"][0]["query"]["not_text"] == "wind"
    assert said["stems"][0]["query"]["sounds_like"] == "deep"
    assert said["stems"][1]["file"] == "02-no-high-whistle.wav"
    assert said["stems"][1]["spans"] == [[1.0, 2.5]]
    assert [stem["keep"] for stem in said["stems"]] == [True, False, True]
    assert [stem["kind"] for stem in said["stems"]] == ["text", "text", "residual"]
    assert all(0 <= stem["score"] <= 1 for stem in said["stems"])
    assert said["work"]["seconds"] > 0
    assert said["work"]["chunking"] == {"window": 10.0, "context": 1.0, "fade": 0.5}
    assert said["warnings"] == []


@pytest.mark.parametrize(
    ("find", "put", "message"),
    [
        ('"schema": 2', '"schema": 1', "schema 1"),
        ('"gain_db"', '"gian_db"', "Did you mean 'gain_db'"),
        ('"frames": 8000', '"frames": "many"', "frames wants int"),
        ('"gain_db": 0.0', '"gain_db": NaN', "NaN"),
        ('"kind": "residual"', '"kind": "rest"', "kind 'rest'"),
        ('"gain_db": 0.0,', "", "gain_db"),
        ('"listener": null', '"listener": "me"', "listener wants Model"),
        ("{", "", "not a separation.json"),
    ],
)
def test_a_damaged_sidecar_is_refused(tmp_path, find, put, message):
    separate(street(tmp_path / "a.wav", seconds=1), tmp_path / "out")
    text = (tmp_path / "out" / "separation.json").read_text(encoding="utf-8")
    assert find in text
    with pytest.raises(UsageError, match=message):
        sidecar.from_json(text.replace(find, put, 1))


def test_a_sound_that_is_not_there_is_said(tmp_path):
    source = street(tmp_path / "street.wav", seconds=1)
    separation = separate(source, tmp_path / "out", [LOW, Query("cow")])
    (warning,) = separation.warnings
    assert "query not found: 'cow'" in warning
    cow = separation.stems[1]
    assert (cow.level_dbfs, cow.peak_dbfs, cow.score) == (None, None, 0.0)


def test_silence_in_silence_out(tmp_path):
    source = tmp_path / "silence.wav"
    soundfile.write(source, np.zeros(12 * RATE), RATE, "PCM_16")
    separation = separate(source, tmp_path / "out")
    assert separation.sum_error_db is None
    assert [track.level_dbfs for track in separation.stems] == [None] * 3
    assert all(not integers(tmp_path / "out" / track.file).any() for track in separation.stems)
    assert len(integers(tmp_path / "out" / TRACKS[2])) == 12 * RATE


NAMES = ["a b", "-rf", "...hidden", "🎧 mix", "x" * 200, "é" * 100, "犬.take 2", "con", "a%d{b}"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_recording_works(tmp_path, name):
    source = street(tmp_path / f"{name}.wav", seconds=0.5)
    folder = naming.track_name(source)
    assert not folder.startswith((".", "-"))
    query = Query("low 🎺 " + "ブ" * 300)
    separate(source, tmp_path / "out" / folder, [query], filename="{track}-{stem}.{ext}")
    assert len(listing(tmp_path / "out")) == 4


def test_two_long_names_do_not_share_a_folder():
    assert naming.track_name(Path("a" * 200 + "1.wav")) != naming.track_name(Path("a" * 200 + "2.wav"))


def test_words_in_any_script_name_their_file():
    texts = ["犬の鳴き声", "Ein Hund bellt!", "e\u0301cho", "../../etc", "❤️", "كلب"]
    names = ["犬の鳴き声", "ein-hund-bellt", "écho", "etc", "sound", "كلب"]
    assert [naming.slug(text) for text in texts] == names
    assert len(naming.slug("犬" * 900).encode()) <= 80


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{stem.__class__}.{ext}", "no field"),
        ("{stem[0]}.{ext}", "no field"),
        ("{}.{ext}", "no field"),
        ("{name}.{ext}", r"the fields are \{track\}"),
        ("{index!r}.{ext}", "plain fields"),
        ("{index:{index}}.{ext}", "plain fields"),
        ("{stem:02d}.{ext}", "cannot be filled in"),
        ("{stem.{ext}", "not valid|no field"),
        ("../{stem}.{ext}", "inside the output folder"),
        ("/tmp/{stem}.{ext}", "inside the output folder"),
        (".{stem}.{ext}", "not starting with a dot"),
        ("track.{ext}", "twice"),
        ("{model}.{ext}", "twice"),
        ("{stem:>250}.{ext}", "bytes|not starting"),
    ],
)
def test_a_template_that_cannot_work_is_refused_before_any_work(tmp_path, template, message):
    source = street(tmp_path / "street.wav", seconds=0.5)
    split = Split()
    with pytest.raises(UsageError, match=message):
        separate_file(source, [LOW, HIGH], tmp_path / "out", Rig(split), OutputOptions(filename=template))
    assert split.calls == 0
    assert listing(tmp_path) == ["street.wav"]


def test_names_that_meet_are_refused(tmp_path):
    source = street(tmp_path / "street.wav", seconds=0.5)
    for queries in ([Query("low"), Query("low!")], [Query("residual")]):
        with pytest.raises(UsageError, match=r"twice; put \{index\}"):
            separate(source, tmp_path / "out", queries, filename="{stem}.{ext}")


def test_what_exists_is_safe(tmp_path):
    source, out = street(tmp_path / "street.wav", seconds=1), tmp_path / "out"
    out.mkdir()
    (out / "residual.wav").write_text("mine")
    split = Split()
    with pytest.raises(OutputError, match=r"residual\.wav exists already"):
        separate_file(source, [LOW, HIGH], out, Rig(split), OutputOptions())
    assert split.calls == 0, "checked before any work"
    assert listing(out) == ["residual.wav"]
    assert (out / "residual.wav").read_text() == "mine"
    separate(source, out, overwrite=True)
    assert listing(out) == TRACKS
    separate(source, out, overwrite=True)
    assert listing(out) == TRACKS


def test_what_is_replaced_leaves_no_tracks_of_its_own(tmp_path):
    source, out = street(tmp_path / "street.wav", seconds=1), tmp_path / "out"
    separate(source, out)
    (out / "labels.txt").write_text("mine, for that run wrote none")
    separate(source, out, [HIGH], overwrite=True)
    assert listing(out) == ["01-high-whistle.wav", "labels.txt", "residual.wav", "separation.json"]
    note = out / "separation.json"
    for other in (source, tmp_path / "precious.wav"):
        other.write_bytes(source.read_bytes())
        note.write_text(note.read_text().replace("01-high-whistle.wav", f"../{other.name}"))
        separate(source, out, [HIGH], overwrite=True)
        assert other.exists(), "names with a folder in them are not ours"
    note.write_text("damaged")
    separate(source, out, [LOW], overwrite=True)
    assert "01-high-whistle.wav" in listing(out), "nobody knows whose it is"


def test_tracks_that_cannot_be_put_in_place_give_the_outdated_ones_back(tmp_path):
    (tmp_path / "old.wav").write_text("old")
    kind = FileFormat(".wav", "WAV", "FLOAT")
    with tracks.Tracks([tmp_path / "new.wav"], RATE, 1, kind, True) as written:
        written.write(torch.zeros(1, 1, 8))
        written.finish(0, 0)
        with pytest.raises(OutputError):
            written.commit("missing.txt", outdated=["old.wav"])
    assert listing(tmp_path) == ["old.wav"]
    assert (tmp_path / "old.wav").read_text() == "old"


def test_work_done_before_is_skipped(tmp_path):
    source, out = street(tmp_path / "street.wav", seconds=1), tmp_path / "out"
    skip = OutputOptions(skip_existing=True)
    split = Split()

    def again(queries: Sequence[Query] = (LOW, HIGH), model: str = "split") -> sidecar.Separation | None:
        return separate_file(source, queries, out, Rig(split, model), skip)

    assert again() is not None
    before = split.calls
    assert again() is None
    assert split.calls == before
    for other in (lambda: again([LOW]), lambda: again(model="other")):
        with pytest.raises(OutputError, match="exists already"):
            other()
    (out / TRACKS[1]).unlink()
    assert again() is not None, "a track was missing"
    street(source, seconds=2)
    with pytest.raises(OutputError, match="exists already"):
        again()


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (RuntimeError("bang"), RuntimeError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (torch.OutOfMemoryError("bang"), DeviceError),
    ],
)
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_a_failure_leaves_nothing_behind(tmp_path, error, raised, subtype):
    source = street(tmp_path / "street.wav", subtype, seconds=21)
    with pytest.raises(raised):
        separate_file(source, [LOW, HIGH], tmp_path / "a" / "b" / "out", Rig(Breaks(error)), OutputOptions())
    assert listing(tmp_path) == ["street.wav"]
    separate(source, tmp_path / "out")
    kept = {name: (tmp_path / "out" / name).read_bytes() for name in TRACKS}
    with pytest.raises(raised):
        separate_file(
            source, [LOW, HIGH], tmp_path / "out", Rig(Breaks(error)), OutputOptions(overwrite=True)
        )
    assert {name: (tmp_path / "out" / name).read_bytes() for name in listing(tmp_path / "out")} == kept


def test_a_name_that_cannot_be_had_takes_all_tracks_back(tmp_path):
    source, out = street(tmp_path / "street.wav", seconds=1), tmp_path / "out"

    class Blocks(Split):
        """Somebody else makes a folder where the residual should go."""

        def separate(self, mixture: Tensor, queries: Sequence[Query]) -> Tensor:
            (out / "residual.wav").mkdir(exist_ok=True)
            return super().separate(mixture, queries)

    with pytest.raises(OutputError):
        separate_file(source, [LOW, HIGH], out, Rig(Blocks()), OutputOptions())
    assert listing(out) == ["residual.wav"]


def test_the_recording_itself_is_never_replaced(tmp_path):
    source = street(tmp_path / "residual.wav", seconds=1)
    before = source.read_bytes()
    with pytest.raises(OutputError, match="is the recording itself"):
        separate(source, tmp_path, overwrite=True)
    link = tmp_path / "link.wav"
    link.symlink_to(source)
    for target in (source, link):
        with pytest.raises(OutputError, match="is the recording itself"):
            edit_file(source, LOW, target, Rig(Split()), OutputOptions(overwrite=True))
    assert source.read_bytes() == before


def test_extract_and_remove_to_one_file_each(tmp_path):
    source = street(tmp_path / "street.wav")
    kept, removed = tmp_path / "new" / "kept.flac", tmp_path / "new" / "removed.wav"
    extracted = edit_file(source, LOW, kept, Rig(Split()), OutputOptions())
    edit_file(source, Query("low hum", keep=False), removed, Rig(Split()), OutputOptions())
    assert listing(tmp_path / "new") == ["kept.flac", "removed.wav"]
    assert (soundfile.info(kept).format, soundfile.info(kept).subtype) == ("FLAC", "PCM_16")
    assert np.abs(integers(kept) + integers(removed) - integers(source)).max() <= 1 << 16, (
        "one step of 16 bits"
    )
    assert [track.file for track in extracted.stems] == ["kept.flac"]
    assert extracted.sum_error_db is None
    with pytest.raises(OutputError, match="exists already"):
        edit_file(source, LOW, kept, Rig(Split()), OutputOptions())
    with pytest.raises(UnknownNameError, match="xyz"):
        edit_file(source, LOW, tmp_path / "a.xyz", Rig(Split()), OutputOptions())


def test_progress_is_in_seconds_and_ends_at_the_end(tmp_path):
    source = street(tmp_path / "street.wav", seconds=21)
    seen: list[tuple[float, float | None]] = []
    separate_file(
        source, [LOW], tmp_path / "out", Rig(Split()), OutputOptions(), progress=lambda *at: seen.append(at)
    )
    assert len(seen) > 1
    assert seen == sorted(seen)
    assert seen[-1] == (21.0, 21.0)


def test_a_place_that_cannot_be_written_to(tmp_path):
    source = street(tmp_path / "street.wav", seconds=0.5)
    with pytest.raises(OutputError, match="choose another output folder"):
        separate(source, source / "out")


def test_bad_questions_and_bad_files_are_refused_at_the_door(tmp_path):
    source = street(tmp_path / "street.wav", seconds=0.5)
    with pytest.raises(QueryError, match="twice"):
        separate(source, tmp_path / "out", [LOW, LOW])
    (tmp_path / "text.wav").write_text("not sound")
    for bad in ("text.wav", "missing.wav"):
        with pytest.raises(AudioError):
            separate(tmp_path / bad, tmp_path / "out")
    assert listing(tmp_path) == ["street.wav", "text.wav"]


def test_the_disk_is_full(tmp_path):
    """Linux has a device on which every write fails that way."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(OutputError, match="make room"), tracks.writing(tmp_path):
        Path("/dev/full").write_bytes(b"0" * 100_000)
