"""Whole files in and out, for sounds that fit in memory."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from unweave.audio.formats import FileFormat, output_format
from unweave.audio.reader import open_reader
from unweave.audio.writer import Writer
from unweave.errors import UsageError
from unweave.types import Audio

_BLOCK = 2**18  # samples per read or write


def read(path: str | Path) -> Audio:
    """A whole file, at its own rate, channels and level.

    Warns (UserWarning) when the file is cut short, with the seconds recovered.

    Raises:
        AudioError: as `open_reader` and `Reader.blocks`.
    """
    with open_reader(path) as reader:
        samples = torch.cat(list(reader.blocks(_BLOCK)), dim=1)
    for warning in reader.warnings:
        warnings.warn(warning, UserWarning, stacklevel=2)
    return Audio(samples, reader.info.sample_rate)


def write(
    path: str | Path, audio: Audio, file_format: FileFormat | None = None, overwrite: bool = False
) -> None:
    """Write a whole file, or none.

    Args:
        path: wanted file.
        audio: what to write.
        file_format: from `output_format`; None chooses by the extension of `path`, ".wav" being 32-bit float.
        overwrite: replace an existing file.

    Raises:
        UsageError: the extension names no format, or the format cannot hold the rate or channels.
        OutputError: the file exists, or cannot be written.
    """
    if file_format is None:
        suffix = Path(path).suffix
        if not suffix:
            raise UsageError(f"{path} has no extension to choose a format by; add one such as .wav or .flac")
        file_format = output_format(None, suffix)
    channels = audio.samples.shape[0]
    with Writer(path, audio.sample_rate, channels, file_format, overwrite) as writer:
        for start in range(0, audio.samples.shape[1], _BLOCK):
            writer.write(audio.samples[:, start : start + _BLOCK])
