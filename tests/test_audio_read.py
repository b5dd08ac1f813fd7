"""Every format in: right samples, right count, right rate, in blocks."""

from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch

from unweave.audio import open_reader, probe, read
from unweave.errors import AudioError, UsageError

DATA = Path(__file__).parent / "data"
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}


def noise(channels: int, frames: int, bits: int = 16) -> np.ndarray:
    """(C, T) float32 noise, another one in each channel, on the grid of `bits`."""
    values = np.random.default_rng(frames).normal(0, 0.1, (channels, frames))
    return (np.rint(values * 2 ** (bits - 1)) / 2 ** (bits - 1)).astype(np.float32)


def encode(path, samples, rate, container, codec, **wishes):
    """Write (C, T) float samples by PyAV, as other programs would; a film with `video`."""
    layout = LAYOUTS[len(samples)]
    with av.open(str(path), "w", format=container, options=wishes.get("options", {})) as film:
        sound = film.add_stream(codec, rate=rate, layout=layout)
        if "sample_format" in wishes:
            sound.codec_context.format = wishes["sample_format"]
        if wishes.get("video"):
            add_video(film)
        for start in range(0, samples.shape[1], 4096):
            part = np.ascontiguousarray(samples[:, start : start + 4096].T).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(part, format="flt", layout=layout)
            frame.sample_rate, frame.pts = rate, start
            film.mux(sound.encode(frame))
        film.mux(sound.encode(None))


def add_video(film):
    """Ten black pictures."""
    video = film.add_stream("mpeg4", rate=10)
    video.width = video.height = 64
    video.pix_fmt = "yuv420p"
    for _ in range(10):
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        film.mux(video.encode(picture))
    film.mux(video.encode(None))


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "PCM_24"),
        ("WAV", "PCM_32"),
        ("WAV", "FLOAT"),
        ("WAV", "DOUBLE"),
        ("WAVEX", "PCM_24"),
        ("RF64", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("FLAC", "PCM_24"),
        ("AIFF", "PCM_16"),
        ("AIFF", "PCM_24"),
        ("AIFF", "FLOAT"),
        ("CAF", "PCM_24"),
        ("CAF", "FLOAT"),
        ("CAF", "ALAC_16"),
    ],
)
def test_lossless_files_come_in_bit_for_bit(tmp_path, container, subtype):
    samples = noise(2, 10_007)
    path = tmp_path / "sound.bin"  # the content decides, not the name
    soundfile.write(path, samples.T, 44_100, format=container, subtype=subtype)

    audio, info = read(path), probe(path)

    assert np.array_equal(audio.samples.numpy(), samples)
    assert audio.samples.dtype == torch.float32
    assert (info.format, info.subtype, info.lossy) == (container, subtype, False)
    assert (info.sample_rate, info.channels, info.frames) == (44_100, 2, 10_007)


@pytest.mark.parametrize(
    ("container", "subtype", "rate"),
    [("MP3", "MPEG_LAYER_III", 32_000), ("OGG", "VORBIS", 32_000), ("OGG", "OPUS", 48_000)],
)
def test_lossy_files_keep_count_and_place(tmp_path, container, subtype, rate):
    """Encoder delay and padding are taken off: speech comes back at lag 0 with the same length."""
    speech, _ = soundfile.read(DATA / "speech.flac", dtype="float32")
    path = tmp_path / "speech"
    soundfile.write(path, speech, rate, format=container, subtype=subtype)

    audio = read(path)

    assert probe(path).lossy
    assert audio.samples.shape == (1, len(speech))
    assert lag(audio.samples[0].numpy(), speech) == 0
    assert np.corrcoef(audio.samples[0].numpy(), speech)[0, 1] > 0.95


def lag(one: np.ndarray, other: np.ndarray) -> int:
    """Samples by which `one` comes after `other`, by circular cross-correlation."""
    spectrum = np.fft.rfft(one) * np.fft.rfft(other).conj()
    place = int(np.argmax(np.fft.irfft(spectrum, len(one))))
    return place if place < len(one) // 2 else place - len(one)


@pytest.mark.parametrize(
    ("name", "container", "codec", "wishes", "expected"),
    [
        ("a.m4a", "ipod", "alac", {"sample_format": "s16p"}, ("M4A", "ALAC_16")),
        ("b.m4a", "ipod", "alac", {"sample_format": "s32p"}, ("M4A", "ALAC_24")),
        ("c.mov", "mov", "pcm_s16le", {"video": True}, ("MOV", "PCM_16")),
        ("d.mov", "mov", "pcm_s24le", {}, ("M4A", "PCM_24")),
        ("e.mov", "mov", "pcm_f32le", {}, ("M4A", "FLOAT")),
        ("f.mkv", "matroska", "flac", {"video": True, "sample_format": "s16"}, ("MATROSKA", "FLAC_16")),
    ],
)
def test_lossless_sound_in_containers_comes_in_bit_for_bit(
    tmp_path, name, container, codec, wishes, expected
):
    samples = noise(2, 20_011)
    encode(tmp_path / name, samples, 48_000, container, codec, **wishes)

    info = probe(tmp_path / name)

    assert np.array_equal(read(tmp_path / name).samples.numpy(), samples)
    assert (info.format, info.subtype, info.lossy) == (*expected, False)


@pytest.mark.parametrize(
    ("name", "container", "codec"),
    [
        ("a.m4a", "ipod", "aac"),
        ("b.mp4", "mp4", "aac"),
        ("c.mov", "mov", "aac"),
        ("d.mkv", "matroska", "aac"),
    ],
)
def test_the_sound_of_films_is_in_place(tmp_path, name, container, codec):
    speech, rate = soundfile.read(DATA / "speech.flac", dtype="float32")
    encode(tmp_path / name, speech[None], rate, container, codec, video=name != "a.m4a")

    sound = read(tmp_path / name).samples[0].numpy()

    assert probe(tmp_path / name).subtype == "AAC"
    assert abs(len(sound) - len(speech)) < 1024  # Matroska counts in milliseconds and keeps AAC's last block
    assert lag(sound[: len(speech)], speech[: len(sound)]) == 0


def test_aac_is_trimmed_to_the_duration_of_its_stream(tmp_path):
    path = tmp_path / "a.m4a"
    encode(path, noise(2, 50_001), 48_000, "ipod", "aac", options={"movie_timescale": "48000"})
    with av.open(str(path)) as film:
        decoded = sum(frame.samples for frame in film.decode(audio=0))
        assert film.streams.audio[0].duration == 50_001

    assert decoded == 50_176  # whole blocks of 1024
    assert read(path).samples.shape == (2, 50_001)
    assert probe(path).frames == 50_001


def test_streams_without_a_length_can_be_read(tmp_path):
    webm, flac = tmp_path / "live.webm", tmp_path / "live.flac"
    encode(webm, noise(2, 30_001), 48_000, "webm", "libopus", options={"live": "1"})
    soundfile.write(flac, noise(1, 30_001)[0], 32_000, subtype="PCM_16")
    content = bytearray(flac.read_bytes())
    content[21] &= 0xF0  # the 36 bits of STREAMINFO that count samples; 0 means unknown
    content[22:26] = bytes(4)
    flac.write_bytes(content)

    assert probe(webm).frames is None
    assert probe(webm).duration is None
    assert read(webm).samples.shape == (2, 30_001)
    assert np.array_equal(read(flac).samples.numpy(), noise(1, 30_001))


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("channels", [1, 2, 3, 5, 8])
def test_any_rate_and_channel_count(tmp_path, rate, channels):
    soundfile.write(tmp_path / "a.flac", noise(channels, 500).T, rate, subtype="PCM_16")
    audio = read(tmp_path / "a.flac")
    assert audio.sample_rate == rate
    assert np.array_equal(audio.samples.numpy(), noise(channels, 500))


@pytest.mark.parametrize(
    ("container", "codec"), [("ipod", "aac"), ("matroska", "libopus"), ("mov", "pcm_s16le")]
)
def test_eight_channels_in_a_container(tmp_path, container, codec):
    """Decoders that keep channels apart have crashed PyAV at eight of them."""
    tones = np.stack([np.sin(np.arange(48_000) * 0.02 * (i + 1)) for i in range(8)]).astype(np.float32) * 0.3
    encode(tmp_path / "a", tones, 48_000, container, codec)
    sound = read(tmp_path / "a").samples.numpy()
    assert sound.shape[0] == 8
    for channel in set(range(8)) - {3}:  # codecs low-pass the fourth, the deep-bass channel
        heard = np.abs(np.fft.rfft(sound[channel][:48_000])).argmax()
        assert heard == np.abs(np.fft.rfft(tones[channel])).argmax()


@pytest.mark.parametrize("size", [1, 997, 4096, 10_000, 10_007, 1_000_000])
@pytest.mark.parametrize("container", ["WAV", "FLAC", "ALAC"])
def test_blocks_of_any_size_are_the_file(tmp_path, size, container):
    samples = noise(2, 10_007)[:, : 10_007 if size > 1 else 300]
    path = tmp_path / "a"
    if container == "ALAC":
        encode(path, samples, 44_100, "ipod", "alac", sample_format="s16p")
    else:
        soundfile.write(path, samples.T, 44_100, format=container, subtype="PCM_16")

    with open_reader(path) as reader:
        blocks = list(reader.blocks(size))
        again = list(reader.blocks(size))

    assert all(block.shape == (2, size) for block in blocks[:-1])
    assert 1 <= blocks[-1].shape[1] <= size
    blocks[0].zero_()  # a block belongs to who got it
    assert np.array_equal(torch.cat(again, 1).numpy(), samples)
    assert reader.warnings == []


def test_memory_does_not_grow_with_the_file(tmp_path):
    import tracemalloc

    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros((2_000_000, 2), np.int16), 48_000)  # 16 MB as float32
    with open_reader(path) as reader:
        tracemalloc.start()
        total = sum(block.shape[1] for block in reader.blocks(8192))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert total == 2_000_000
    assert peak < 1_000_000


def test_a_reader_left_halfway_closes_its_file(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1, 9_000)[0], 8_000)
    with open_reader(tmp_path / "a.wav") as reader:
        blocks = reader.blocks(100)
        next(blocks)
    assert list(blocks) == []
    (tmp_path / "a.wav").unlink()


def test_blocks_want_a_size():
    with open_reader(DATA / "speech.flac") as reader, pytest.raises(UsageError, match="at least 1 sample"):
        reader.blocks(0)


@pytest.mark.parametrize("frames", [1, 2])
def test_one_sample_is_a_file(tmp_path, frames):
    soundfile.write(tmp_path / "a.wav", noise(1, frames)[0], 44_100, subtype="PCM_16")
    assert np.array_equal(read(tmp_path / "a.wav").samples.numpy(), noise(1, frames))


def test_silence_stays_silence(tmp_path):
    soundfile.write(tmp_path / "a.flac", np.zeros((4_000, 2)), 44_100)
    assert not read(tmp_path / "a.flac").samples.any()


def test_levels_beyond_full_scale_survive(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([3.5, -2.25]), 44_100, subtype="FLOAT")
    assert read(tmp_path / "a.wav").samples.tolist() == [[3.5, -2.25]]


@pytest.mark.parametrize(
    "name",
    [
        "my dog.wav",
        "-o.wav",
        "-",
        "🐕 barking.wav",
        "a" * 196 + ".wav",
        "http:x.wav",
        "take 1%d.wav",
        "a.raw",
    ],
)
def test_names_of_every_kind(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    soundfile.write(tmp_path / name, noise(1, 50)[0], 8_000, format="WAV", subtype="PCM_16")
    assert np.array_equal(read(name).samples.numpy(), noise(1, 50))
    (tmp_path / name).unlink()
    encode(tmp_path / "made", noise(1, 50), 8_000, "mov", "pcm_s16le")
    (tmp_path / "made").rename(tmp_path / name)
    assert np.array_equal(read(name).samples.numpy(), noise(1, 50))


def test_a_change_on_the_way_is_named(tmp_path):
    """Two recordings pasted together, stereo behind mono, as broadcasts do it."""
    encode(tmp_path / "one.aac", noise(1, 48_000), 48_000, "adts", "aac")
    encode(tmp_path / "two.aac", noise(2, 48_000), 48_000, "adts", "aac")
    path = tmp_path / "both.aac"
    path.write_bytes((tmp_path / "one.aac").read_bytes() + (tmp_path / "two.aac").read_bytes())
    with pytest.raises(AudioError, match=r"from 48000 Hz, 1 channels to 48000 Hz, 2 channels after 1\.0"):
        read(path)
