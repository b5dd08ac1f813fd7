"""What comes out for what went in."""

from pathlib import Path

import pytest

from unweave.audio import AudioInfo, FileFormat, output_format
from unweave.errors import UnknownNameError, UsageError


def info(container: str, subtype: str, lossy: bool = False, frames: int | None = 1_000) -> AudioInfo:
    return AudioInfo(Path("a"), 44_100, 2, frames, container, subtype, lossy)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (info("WAV", "PCM_16"), (".wav", "WAV", "PCM_16")),
        (info("WAV", "PCM_U8"), (".wav", "WAV", "PCM_U8")),
        (info("WAVEX", "PCM_24"), (".wav", "WAV", "PCM_24")),
        (info("WAV", "DOUBLE"), (".wav", "WAV", "DOUBLE")),
        (info("RF64", "FLOAT"), (".wav", "WAV", "FLOAT")),
        (info("WAV", "PCM_24", frames=2**31), (".wav", "RF64", "PCM_24")),
        (info("FLAC", "PCM_16"), (".flac", "FLAC", "PCM_16")),
        (info("AIFF", "PCM_24"), (".aiff", "AIFF", "PCM_24")),
        (info("CAF", "FLOAT"), (".caf", "CAF", "FLOAT")),
        (info("CAF", "ALAC_16"), (".caf", "CAF", "PCM_16")),
        (info("M4A", "ALAC_16", frames=None), (".wav", "WAV", "PCM_16")),
        (info("M4A", "ALAC_20"), (".wav", "WAV", "PCM_24")),
        (info("MATROSKA", "FLAC_24"), (".wav", "WAV", "PCM_24")),
        (info("AU", "PCM_S8"), (".wav", "WAV", "PCM_U8")),
        (info("MP3", "MPEG_LAYER_III", lossy=True), (".wav", "WAV", "FLOAT")),
        (info("WAV", "ULAW", lossy=True), (".wav", "WAV", "FLOAT")),
        (info("M4A", "AAC", lossy=True), (".wav", "WAV", "FLOAT")),
        (None, (".wav", "WAV", "FLOAT")),
    ],
)
def test_own_format_is_the_default(given, expected):
    assert output_format(given) == FileFormat(*expected)


@pytest.mark.parametrize(
    ("given", "format", "subtype", "expected"),
    [
        (info("WAV", "PCM_16"), "flac", None, (".flac", "FLAC", "PCM_16")),
        (info("WAV", "FLOAT"), "flac", None, (".flac", "FLAC", "PCM_24")),
        (info("WAV", "PCM_32"), "flac", None, (".flac", "FLAC", "PCM_24")),
        (info("FLAC", "PCM_24"), "wav", None, (".wav", "WAV", "PCM_24")),
        (info("FLAC", "PCM_24"), None, "PCM_16", (".flac", "FLAC", "PCM_16")),
        (info("MP3", "MPEG_LAYER_III", lossy=True), "flac", None, (".flac", "FLAC", "PCM_24")),
        (info("MP3", "MPEG_LAYER_III", lossy=True), None, "pcm_24", (".wav", "WAV", "PCM_24")),
        (info("WAV", "PCM_16"), "mp3", None, (".mp3", "MP3", "MPEG_LAYER_III")),
        (info("WAV", "PCM_16"), "opus", None, (".opus", "OGG", "OPUS")),
        (info("WAV", "PCM_16"), "ogg", None, (".ogg", "OGG", "VORBIS")),
        (info("WAV", "PCM_16"), "m4a", None, (".m4a", "M4A", "AAC")),
        (None, ".AIF", None, (".aiff", "AIFF", "FLOAT")),
        (None, "rf64", "PCM_16", (".wav", "RF64", "PCM_16")),
    ],
)
def test_wishes_are_met(given, format, subtype, expected):
    assert output_format(given, format, subtype) == FileFormat(*expected)


def test_unknown_names_are_answered_with_known_ones():
    with pytest.raises(UnknownNameError, match="Did you mean 'flac'"):
        output_format(None, "flax")
    with pytest.raises(UnknownNameError, match="Did you mean 'PCM_24'"):
        output_format(None, "wav", "PCM24")


def test_impossible_pairs_say_what_works():
    with pytest.raises(
        UsageError, match=r"flac cannot hold FLOAT: it holds PCM_24, PCM_16.*wav, rf64, aiff, caf"
    ):
        output_format(None, "flac", "FLOAT")
    with pytest.raises(UsageError, match="mp3 cannot hold PCM_16"):
        output_format(None, "mp3", "PCM_16")


def test_bits_are_those_of_integers():
    assert output_format(None, "wav", "PCM_24").bits == 24
    assert output_format(None, "wav", "FLOAT").bits is None
    assert output_format(None, "mp3").bits is None
