"""What is not sound, or not all there, is named; what can be recovered is."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from test_audio_read import add_video, encode, noise
from unweave.audio import open_reader, read
from unweave.errors import AudioError


@contextmanager
def without_privileges():
    """As an ordinary user, also where the tests run as root, whom no permission stops."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65_534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def refusal(path) -> str:
    with pytest.raises(AudioError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def cut(path: Path, share: float) -> Path:
    """The file without its end, as a broken copy leaves it."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def test_missing_file(tmp_path):
    assert "there is no file" in refusal(tmp_path / "no.wav")


def test_folder(tmp_path):
    assert "is a folder" in refusal(tmp_path)


def test_device():
    assert "is a device or pipe" in refusal(Path("/dev/null"))


def test_empty_file(tmp_path):
    (tmp_path / "a.wav").touch()
    assert "is empty (0 bytes)" in refusal(tmp_path / "a.wav")


def test_file_that_may_not_be_read():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.wav"
        path.write_bytes(b"RIFF")
        path.chmod(0)
        Path(folder).chmod(0o755)
        with without_privileges():
            assert "cannot be opened: Permission denied" in refusal(path)


@pytest.mark.parametrize("name", ["notes.mp3", "notes.wav", "notes.m4a"])
def test_text_under_another_name(tmp_path, name, capfd):
    (tmp_path / name).write_text("Not a sound, but a shopping list.\n" * 300)
    assert "holds text" in refusal(tmp_path / name)
    assert capfd.readouterr().err == ""  # libraries that complain for themselves were not asked


def test_playlists_open_nothing_else(tmp_path):
    soundfile.write(tmp_path / "secret.wav", noise(1, 500)[0], 8_000)
    (tmp_path / "a.mp3").write_text(f"ffconcat version 1.0\nfile '{tmp_path / 'secret.wav'}'\n")
    assert "holds text" in refusal(tmp_path / "a.mp3")
    (tmp_path / "b.mp3").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nsecret.wav\n#EXT-X-ENDLIST\n"
    )
    assert "holds text" in refusal(tmp_path / "b.mp3")


@pytest.mark.parametrize("name", ["a.mp3", "a.mp4", "a"])
def test_random_bytes(tmp_path, name):
    (tmp_path / name).write_bytes(bytes([0]) + np.random.default_rng(0).bytes(50_000))
    assert "not in a format that can be read" in refusal(tmp_path / name)


def test_film_without_sound(tmp_path):
    with av.open(str(tmp_path / "mute.mp4"), "w", format="mp4") as film:
        add_video(film)
    assert "has no sound: only 1 video stream" in refusal(tmp_path / "mute.mp4")


def test_header_without_samples(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((0, 1)), 44_100)
    assert "without a single sample" in refusal(tmp_path / "a.wav")


@pytest.mark.parametrize("share", [0.0005, 0.001])
def test_cut_within_the_header(tmp_path, share):
    soundfile.write(tmp_path / "a.wav", noise(1, 22_050)[0], 44_100, subtype="PCM_16")
    refusal(cut(tmp_path / "a.wav", share))


@pytest.mark.parametrize(("bad", "word"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_numbers_that_are_none_are_named_with_their_place(tmp_path, bad, word):
    samples = noise(2, 44_100)
    samples[1, 33_075] = bad
    samples[0, 40_000] = bad
    soundfile.write(tmp_path / "a.wav", samples.T, 44_100, subtype="FLOAT")
    assert f"{word} sample in channel 1, sample 33075 (0.750 s)" in refusal(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("container", "subtype", "exact"),
    [
        ("WAV", "PCM_16", True),
        ("WAV", "FLOAT", True),
        ("WAVEX", "PCM_24", True),
        ("RF64", "PCM_16", True),
        ("AIFF", "PCM_24", True),
        ("CAF", "PCM_16", True),
        ("FLAC", "PCM_16", True),
        ("MP3", "MPEG_LAYER_III", False),
    ],
)
def test_a_file_cut_short_gives_what_is_there(tmp_path, container, subtype, exact):
    samples = noise(2, 132_300)  # 3 s
    path = tmp_path / "a"
    soundfile.write(path, samples.T, 44_100, format=container, subtype=subtype)
    cut(path, 0.5)

    with pytest.warns(UserWarning, match=r"cut short or damaged: 1\.\d\d s of the 3\.00 s") as told:
        audio = read(path)

    assert 1.2 < audio.duration < 1.7
    assert f"{audio.duration:.2f} s of the" in str(told[0].message)
    if exact:
        assert np.array_equal(audio.samples.numpy(), samples[:, : audio.samples.shape[1]])


def test_ogg_cut_short_says_so(tmp_path):
    """Ogg announces no length, but its last page is marked."""
    soundfile.write(tmp_path / "a.ogg", noise(2, 132_300).T, 44_100)
    read(tmp_path / "a.ogg")  # no warning
    with pytest.warns(UserWarning, match=r"without an end mark; 1\.\d\d s could be recovered"):
        read(cut(tmp_path / "a.ogg", 0.5))


def test_m4a_with_its_index_first_gives_what_is_there(tmp_path):
    path = tmp_path / "a.m4a"
    encode(path, noise(2, 144_000), 48_000, "ipod", "aac", options={"movflags": "+faststart"})
    with pytest.warns(UserWarning, match=r"1\.\d\d s of the 3\.00 s"):
        audio = read(cut(path, 0.5))
    assert 1.2 < audio.duration < 1.7


def test_m4a_with_its_index_last_says_that_nothing_is_left(tmp_path):
    encode(tmp_path / "a.m4a", noise(2, 144_000), 48_000, "ipod", "aac")
    assert "nothing can be recovered" in refusal(cut(tmp_path / "a.m4a", 0.5))


def test_mkv_cut_short_gives_what_is_there(tmp_path):
    encode(tmp_path / "a.mkv", noise(2, 144_000), 48_000, "matroska", "aac")
    with pytest.warns(UserWarning, match=r"1\.\d\d s of the 3\.0\d s"):
        assert 1.2 < read(cut(tmp_path / "a.mkv", 0.5)).duration < 1.7


def test_a_header_written_to_a_pipe_promises_nothing(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1, 4_000)[0], 8_000, subtype="PCM_16")
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"  # what FFmpeg leaves when it cannot seek
    (tmp_path / "a.wav").write_bytes(content)
    assert np.array_equal(read(tmp_path / "a.wav").samples.numpy(), noise(1, 4_000))


def test_warnings_are_kept_once(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1, 8_000)[0], 8_000, subtype="PCM_16")
    with open_reader(cut(tmp_path / "a.wav", 0.5)) as reader:
        assert reader.warnings == []
        for _ in range(2):
            list(reader.blocks(1_000))
        assert len(reader.warnings) == 1
