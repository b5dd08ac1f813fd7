"""Bytes to samples and back: sound files in and out, and sample rates."""

from unweave.audio.formats import AudioInfo, FileFormat, output_format
from unweave.audio.io import read, write
from unweave.audio.reader import Reader, open_reader, probe
from unweave.audio.resample import resample, resample_stream
from unweave.audio.writer import Writer

__all__ = [
    "AudioInfo",
    "FileFormat",
    "Reader",
    "Writer",
    "open_reader",
    "output_format",
    "probe",
    "read",
    "resample",
    "resample_stream",
    "write",
]
