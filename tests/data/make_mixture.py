"""Rebuild street.flac, the demo recording: a dog on the left, rain more to the right.

The two parts are rounded to 16 bits before they are added, so ``street == dog + rain`` exactly and a demo can
compare what it separated with what went in. Run ``python tests/data/make_mixture.py`` to write the file anew.
"""

from pathlib import Path

import torch
from torch import Tensor

from unweave.audio import FileFormat, read, resample, write
from unweave.types import Audio

HERE = Path(__file__).parent
SAMPLE_RATE = 44_100  # Hz
SECONDS = 6.0

# Name -> (file, second at which it starts, gain to the left, gain to the right).
PARTS = {
    "dog barking": ("dog-barking.flac", 1.2, 0.70, 0.30),
    "rain": ("rain.flac", 0.0, 0.20, 0.55),
}


def parts() -> dict[str, Tensor]:
    """What street.flac is the sum of: name -> (2, T) float32 at `SAMPLE_RATE`, on the 16-bit grid."""
    length = round(SECONDS * SAMPLE_RATE)
    made = {}
    for name, (file, start, left, right) in PARTS.items():
        clip = read(HERE / file)
        mono = resample(clip.samples, clip.sample_rate, SAMPLE_RATE)[0]
        first = round(start * SAMPLE_RATE)
        mono = mono[: length - first]
        placed = torch.zeros(2, length)
        placed[:, first : first + len(mono)] = torch.tensor([[left], [right]]) * mono
        made[name] = (placed * 2**15).round() / 2**15
    return made


def mixture() -> Audio:
    """The demo recording itself: stereo, 44.1 kHz, 6 s."""
    return Audio(torch.stack(list(parts().values())).sum(0), SAMPLE_RATE)


if __name__ == "__main__":
    write(HERE / "street.flac", mixture(), FileFormat(".flac", "FLAC", "PCM_16"), overwrite=True)
