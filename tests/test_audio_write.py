"""Files out: exact, whole or not at all, and never beside what was asked."""

import resource
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from test_audio_damage import without_privileges
from test_audio_read import lag, noise
from unweave.audio import FileFormat, Writer, formats, output_format, probe, read, write
from unweave.errors import AudioError, OutputError, UnknownNameError, UsageError
from unweave.types import Audio

DATA = Path(__file__).parent / "data"
WAV16 = FileFormat(".wav", "WAV", "PCM_16")
FLOAT = FileFormat(".wav", "WAV", "FLOAT")


def sound(channels: int, frames: int, rate: int = 44_100, bits: int = 16) -> Audio:
    return Audio(torch.from_numpy(noise(channels, frames, bits)), rate)


@contextmanager
def disk_of(size: int):
    """Writing beyond `size` bytes of a file fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kind", ["wav", "rf64", "flac", "aiff", "caf"])
@pytest.mark.parametrize("bits", [16, 24])
def test_every_integer_survives(tmp_path, kind, bits):
    """Samples k / 2^(bits-1), the extremes among them, come back bit for bit."""
    full = 2 ** (bits - 1)
    whole = torch.cat([torch.arange(-full, full, full // 2**15), torch.tensor([-full, full - 1, 1, -1, 0])])
    samples = (whole.double() / full).float()[None].repeat(2, 1)
    wanted = output_format(None, kind, f"PCM_{bits}")

    write(tmp_path / "a", Audio(samples, 48_000), wanted)

    assert torch.equal(read(tmp_path / "a").samples, samples)
    stored, _ = soundfile.read(tmp_path / "a", dtype="int32")
    assert np.array_equal(stored[:, 0] >> (32 - bits), whole.numpy())
    assert probe(tmp_path / "a").subtype == f"PCM_{bits}"


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [(kind, f"PCM_{bits}") for kind in ("wav", "aiff", "caf") for bits in (16, 24, 32)]
    + [("flac", "PCM_16"), ("flac", "PCM_24"), ("wav", "PCM_U8"), ("aiff", "PCM_S8")],
)
def test_clipping_never_wraps(tmp_path, kind, subtype):
    loud = torch.tensor([[1.0, 1.5, 1e30, -1.0, -1.5, -1e30]])
    with Writer(tmp_path / "a", 8_000, 1, output_format(None, kind, subtype)) as writer:
        writer.write(loud)
    stored = read(tmp_path / "a").samples[0]
    assert (stored[:3] > (0.99 if "8" in subtype else 0.9999)).all()
    assert (stored[3:] == -1).all()
    assert writer.clipped == 4


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_floats_are_stored_as_they_are(tmp_path, subtype):
    samples = torch.tensor([[1.5, -3.0, 1e-30, 0.1]])
    write(tmp_path / "a.wav", Audio(samples, 44_100), FileFormat(".wav", "WAV", subtype))
    assert torch.equal(read(tmp_path / "a.wav").samples, samples)


def test_thirty_two_bits_keep_what_float32_holds(tmp_path):
    write(tmp_path / "a.wav", sound(1, 1_000, bits=24), FileFormat(".wav", "WAV", "PCM_32"))
    assert torch.equal(read(tmp_path / "a.wav").samples, sound(1, 1_000, bits=24).samples)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize(
    ("kind", "rate"), [("wav", 192_000), ("flac", 192_000), ("caf", 8_000), ("aiff", 96_000)]
)
def test_lossless_formats_hold_every_rate_and_channel(tmp_path, channels, kind, rate):
    write(tmp_path / "a", sound(channels, 777, rate), output_format(None, kind, "PCM_24"))
    audio = read(tmp_path / "a")
    assert audio.sample_rate == rate
    assert torch.equal(audio.samples, sound(channels, 777).samples)


@pytest.mark.parametrize(
    ("kind", "rate", "channels"),
    [
        ("mp3", 32_000, 1),
        ("mp3", 44_100, 2),
        ("ogg", 96_000, 8),
        ("opus", 48_000, 8),
        ("opus", 16_000, 1),
        ("m4a", 44_100, 1),
        ("m4a", 48_000, 2),
        ("m4a", 48_000, 6),
        ("m4a", 48_000, 8),
        ("m4a", 8_000, 1),
    ],
)
@pytest.mark.parametrize("frames", [1, 1_023, 50_001])
def test_lossy_formats_keep_count_rate_and_place(tmp_path, kind, rate, channels, frames):
    speech, _ = soundfile.read(DATA / "speech.flac", dtype="float32")
    samples = torch.from_numpy(speech[20_000 : 20_000 + frames]).repeat(channels, 1)

    write(tmp_path / f"a.{kind}", Audio(samples, rate))

    audio = read(tmp_path / f"a.{kind}")
    assert audio.samples.shape == samples.shape
    if frames > 2_000:
        assert lag(audio.samples[0].numpy(), samples[0].numpy()) == 0
        assert np.corrcoef(audio.samples[0].numpy(), samples[0].numpy())[0, 1] > 0.9


@pytest.mark.parametrize(
    ("kind", "rate", "channels", "message"),
    [
        (
            "opus",
            44_100,
            2,
            r"opus holds 8000, 12000, 16000, 24000, 48000 Hz, this is 44100 Hz; write flac or wav",
        ),
        ("mp3", 44_100, 3, "mp3 holds at most 2 channels, this has 3; write wav"),
        ("mp3", 96_000, 2, "this is 96000 Hz; write flac or wav"),
        ("m4a", 192_000, 2, "this is 192000 Hz; write flac or wav"),
        ("m4a", 48_000, 9, "at most 8 channels"),
        ("flac", 48_000, 9, "flac holds at most 8 channels, this has 9; write wav"),
        ("flac", 768_000, 2, "flac holds 1 to 655350 Hz, this is 768000 Hz; write wav"),
        ("wav", 0, 2, "above 0"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_at_the_door(tmp_path, kind, rate, channels, message):
    with pytest.raises(UsageError, match=message):
        Writer(tmp_path / "a", rate, channels, output_format(None, kind))
    assert list(tmp_path.iterdir()) == []


def test_blocks_add_up(tmp_path):
    samples = sound(2, 10_000).samples
    with Writer(tmp_path / "a.wav", 44_100, 2, WAV16) as writer:
        for block in samples.split([1, 999, 9_000], dim=1):
            writer.write(block)
    assert torch.equal(read(tmp_path / "a.wav").samples, samples)
    assert writer.frames == 10_000


def test_nothing_shows_before_it_is_whole(tmp_path):
    with Writer(tmp_path / "a.wav", 44_100, 2, WAV16) as writer:
        writer.write(sound(2, 100_000).samples)
        assert not (tmp_path / "a.wav").exists()
        assert [path.name[0] for path in tmp_path.iterdir()] == ["."]
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "m4a"])
def test_an_exception_leaves_nothing_behind(tmp_path, error, kind):
    (tmp_path / "a").write_text("what was there")

    def be_interrupted():
        with Writer(tmp_path / "a", 44_100, 2, output_format(None, kind), overwrite=True) as writer:
            writer.write(sound(2, 50_000).samples)
            raise error

    with pytest.raises(error):
        be_interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "what was there"


def test_several_files_appear_together(tmp_path):
    writers = [Writer(tmp_path / name, 44_100, 1, WAV16) for name in ("dog.wav", "rest.wav")]
    for writer in writers:
        writer.write(sound(1, 1_000).samples)
        writer.finish()
    assert not (tmp_path / "dog.wav").exists()
    for writer in writers:
        writer.commit()
        writer.discard()  # nothing left to remove
        writer.commit()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dog.wav", "rest.wav"]


def test_several_files_can_be_given_up_together(tmp_path):
    writers = [Writer(tmp_path / name, 44_100, 1, WAV16) for name in ("dog.wav", "rest.wav")]
    for writer in writers:
        writer.write(sound(1, 1_000).samples)
        writer.finish()
    for writer in writers:
        writer.discard()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError, match="was given up"):
        writers[0].commit()


def test_a_finished_file_takes_no_more(tmp_path):
    writer = Writer(tmp_path / "a.wav", 44_100, 1, WAV16)
    writer.finish()
    with pytest.raises(UsageError, match="is finished"):
        writer.write(torch.zeros(1, 5))
    writer.discard()


def test_existing_files_are_kept_unless_told(tmp_path):
    (tmp_path / "a.wav").write_text("mine")
    with pytest.raises(OutputError, match="exists already; choose another name or allow overwriting"):
        write(tmp_path / "a.wav", sound(1, 10))
    assert (tmp_path / "a.wav").read_text() == "mine"
    write(tmp_path / "a.wav", sound(1, 10), overwrite=True)
    assert torch.equal(read(tmp_path / "a.wav").samples, sound(1, 10).samples)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_that_came_meanwhile_is_kept(tmp_path):
    with pytest.raises(OutputError, match="exists already"), Writer(tmp_path / "a", 8_000, 1, WAV16):
        (tmp_path / "a").write_text("mine")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "mine"


def test_folder_as_target(tmp_path):
    with pytest.raises(OutputError, match="is a folder"):
        write(tmp_path, sound(1, 10), FLOAT, overwrite=True)


def test_folders_on_the_way_are_made(tmp_path):
    write(tmp_path / "new" / "deep" / "a.wav", sound(1, 10))
    assert probe(tmp_path / "new" / "deep" / "a.wav").frames == 10


def test_a_file_on_the_way_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write(tmp_path / "file" / "a.wav", sound(1, 10))


def test_read_only_folder():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        with (
            without_privileges(),
            pytest.raises(OutputError, match=r"may not be written to .*choose another one"),
        ):
            write(Path(folder) / "a.wav", sound(1, 10))
        assert list(Path(folder).iterdir()) == []


@pytest.mark.parametrize("kind", ["wav", "flac", "aiff", "caf", "mp3", "ogg", "opus", "m4a"])
def test_full_disk_leaves_nothing_half_written(tmp_path, kind, capfd):
    with (
        disk_of(20_000),
        pytest.raises(OutputError, match=r"no space is left .*free some or choose another folder"),
    ):
        write(tmp_path / "a", sound(2, 200_000, 48_000), output_format(None, kind))
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "m4a"])
def test_a_disk_that_is_full_from_the_start(tmp_path, kind):
    with disk_of(0), pytest.raises(OutputError, match="no space is left"):
        write(tmp_path / "a", sound(2, 100, 48_000), output_format(None, kind))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["my dog.wav", "-o.wav", "🐕.wav", "a" * 196 + ".wav", "http:x.wav", "ünïcode.m4a"]
)
def test_names_of_every_kind(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write(name, sound(2, 5_000))
    assert read(name).samples.shape == (2, 5_000)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_name_beyond_the_file_system(tmp_path):
    with pytest.raises(OutputError, match=r"name is too long for the file system \(804 bytes\)"):
        write(tmp_path / ("🐕" * 200 + ".wav"), sound(1, 10))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_a_wav_that_outgrows_its_size_field_goes_on_as_rf64(tmp_path, monkeypatch, subtype):
    """4 GB in small: only the limit is changed."""
    monkeypatch.setattr(formats, "RIFF_LIMIT", 100_000)
    samples = sound(2, 60_000).samples
    with Writer(tmp_path / "a.wav", 44_100, 2, FileFormat(".wav", "WAV", subtype)) as writer:
        for start in range(0, 60_000, 7_000):
            writer.write(samples[:, start : start + 7_000])
    assert (tmp_path / "a.wav").read_bytes()[:4] == b"RF64"
    assert probe(tmp_path / "a.wav").subtype == subtype
    assert torch.equal(read(tmp_path / "a.wav").samples, samples)
    assert len(list(tmp_path.iterdir())) == 1


def test_an_aiff_that_outgrows_its_size_field_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "RIFF_LIMIT", 100_000)
    with pytest.raises(OutputError, match="AIFF cannot hold; write caf or wav"):
        write(tmp_path / "a.aiff", sound(2, 60_000))
    assert list(tmp_path.iterdir()) == []


def test_small_wavs_are_plain(tmp_path):
    write(tmp_path / "a.wav", sound(1, 10), WAV16)
    assert (tmp_path / "a.wav").read_bytes()[:4] == b"RIFF"
    assert (tmp_path / "a.wav").stat().st_size == 44 + 20


def test_same_sound_means_same_bytes(tmp_path):
    import time

    kinds = ["wav", "aiff", "caf", "flac"]
    for kind in kinds:
        write(tmp_path / f"a.{kind}", sound(2, 1_000))
    time.sleep(1.1)  # headers with a clock in them count seconds
    for kind in kinds:
        write(tmp_path / f"b.{kind}", sound(2, 1_000))
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_new_files_have_the_usual_permissions(tmp_path):
    (tmp_path / "plain").touch()
    write(tmp_path / "a.wav", sound(1, 10))
    assert (tmp_path / "a.wav").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(tmp_path, bad):
    samples = torch.zeros(2, 16_000)
    samples[1, 8_100] = bad

    def write_in_two():
        with Writer(tmp_path / "a.wav", 8_000, 2, WAV16) as writer:
            writer.write(samples[:, :8_000])
            writer.write(samples[:, 8_000:])

    with pytest.raises(AudioError, match=r"channel 1, sample 8100 \(1\.012 s\)"):
        write_in_two()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("block", [torch.zeros(3, 5), torch.zeros(5), torch.zeros(2, 5, dtype=torch.int16)])
def test_blocks_of_another_shape_are_refused(tmp_path, block):
    with (
        pytest.raises(AudioError, match=r"wants float blocks of shape \(2, time\)"),
        Writer(tmp_path / "a.wav", 8_000, 2, WAV16) as writer,
    ):
        writer.write(block)


def test_the_extension_chooses_where_nothing_else_does(tmp_path):
    write(tmp_path / "a.flac", sound(1, 10))
    assert probe(tmp_path / "a.flac").format == "FLAC"
    with pytest.raises(UnknownNameError, match=r"no output format named '\.xyz'"):
        write(tmp_path / "a.xyz", sound(1, 10))
    with pytest.raises(UsageError, match="has no extension"):
        write(tmp_path / "a", sound(1, 10))


@pytest.mark.parametrize("name", ["speech.flac", "street.flac"])
def test_a_real_recording_goes_through_unchanged(tmp_path, name):
    wanted = output_format(probe(DATA / name))
    write(tmp_path / "a.flac", read(DATA / name), wanted)
    assert torch.equal(read(tmp_path / "a.flac").samples, read(DATA / name).samples)
    assert probe(tmp_path / "a.flac").subtype == "PCM_16"
