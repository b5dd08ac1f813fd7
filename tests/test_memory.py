"""Memory does not grow with the recording: measured in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MOST = 200  # MB that hours of sound may take above three minutes

# Makes a 44.1 kHz stereo file with five seconds of sound in every minute, separates it with a band mask, or
# splits it into the tones that are heard in it, and prints the peak of its own memory in MB.
PROGRAM = """
import sys
from pathlib import Path

import numpy as np
import soundfile
import torch

from unweave.pipeline.files import OutputOptions, separate_file
from unweave.pipeline.rig import Rig
from unweave.types import Query

RATE = 44_100
folder, minutes, automatic = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "automatic"


class Low:
    sample_rate = 16_000

    def separate(self, mixture, queries):
        spectrum = torch.fft.rfft(mixture)
        spectrum[:, spectrum.shape[1] // 8 :] = 0
        return torch.fft.irfft(spectrum, n=mixture.shape[-1])[None].repeat(len(queries), 1, 1)


def peak_mb():
    # ru_maxrss starts at what the parent had when it forked; the kernel's high-water mark does not.
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) // 1024
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit


sound = (np.random.default_rng(0).standard_normal((5 * RATE, 2)) * 3000).astype(np.int16)
if automatic:
    time = np.arange(5 * RATE) / RATE
    tone = 6000 * np.sin(2 * np.pi * 220 * time) + 3000 * np.sin(2 * np.pi * 2500 * time)
    sound = np.stack([tone, tone], axis=1).astype(np.int16)
silence = np.zeros((55 * RATE, 2), np.int16)
with soundfile.SoundFile(folder / "long.wav", "w", RATE, 2, "PCM_16") as file:
    for _ in range(minutes):
        file.write(sound)
        file.write(silence)

rig, queries = Rig(Low()), [Query("low")]
if automatic:
    from tones import ToneEars, ToneSplit, fitted

    rig, queries = Rig(ToneSplit(), "", ToneEars(), "", fitted()), None
done = separate_file(folder / "long.wav", queries, folder / "out", rig, OutputOptions())
assert len(done.stems) == (3 if automatic else 2), done.stems
assert done.source.frames == minutes * 60 * RATE, done.source
assert done.sum_error_db is None, done.sum_error_db
assert done.gain_db == 0.0
for track in done.stems:
    assert soundfile.info(folder / "out" / track.file).frames == minutes * 60 * RATE
    assert track.level_dbfs is not None
print(peak_mb())
"""


def peak_mb(folder: Path, minutes: int, mode: str = "named") -> int:
    folder.mkdir()
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), str(minutes), mode],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert run.returncode == 0, run.stderr
    for file in sorted(folder.rglob("*"), reverse=True):  # gigabytes that pytest would keep
        file.rmdir() if file.is_dir() else file.unlink()
    return int(run.stdout)


@pytest.mark.parametrize(("mode", "minutes"), [("named", 15), ("automatic", 8)])
def test_many_minutes_take_the_memory_of_one(tmp_path, mode, minutes):
    short, long = peak_mb(tmp_path / "short", 1, mode), peak_mb(tmp_path / "long", minutes, mode)
    print(f"1 minute {short} MB, {minutes} minutes {long} MB")
    # 15 minutes of one track, or 8 of two, are 635 MB of float32 with the mixture; a sixth would be seen.
    assert long - short < 100


@pytest.mark.slow
def test_three_hours_take_the_memory_of_three_minutes(tmp_path):
    """Needs 12 GB of free disk space."""
    short, long = peak_mb(tmp_path / "short", 3), peak_mb(tmp_path / "long", 180)
    print(f"3 minutes {short} MB, 3 hours {long} MB")
    assert long - short < MOST
