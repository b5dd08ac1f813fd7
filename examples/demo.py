"""Take the shipped street recording apart, and compare with the two sounds it was mixed from.

python examples/demo.py [WEIGHTS]
"""

import runpy
import sys
import time
from pathlib import Path

import unweave
from unweave import hub
from unweave.evaluate.metrics.signal import si_sdr_improvement
from unweave.pipeline import rig
from unweave.pipeline.files import OutputOptions, separate_file

DATA = Path(__file__).parent.parent / "tests" / "data"
OUT = Path("out") / "street"

model = sys.argv[1] if len(sys.argv) > 1 else hub.DEFAULT
truth = runpy.run_path(str(DATA / "make_mixture.py"))["parts"]()  # name -> (channels, time)
mixture = unweave.read(DATA / "street.flac")

engine = rig.load(model)
queries = [unweave.Query(name) for name in truth]
started = time.perf_counter()
options = OutputOptions(format="wav", subtype="FLOAT", overwrite=True)
result = separate_file(DATA / "street.flac", queries, OUT, engine, options)
seconds = time.perf_counter() - started
assert result is not None  # only skip_existing gives None

stems = [unweave.read(OUT / track.file).samples for track in result.stems]
for track, stem in zip(result.stems, stems, strict=True):
    found = ""
    if track.label in truth:
        gain = si_sdr_improvement(stem, truth[track.label], mixture.samples).mean().item()
        found = f"SI-SDR {gain:+.1f} dB over the recording"
    print(f"{OUT / track.file!s:34} {found}")

error = (sum(stems) - mixture.samples).abs().max().item()
print(f"the tracks add up to the recording, largest difference {error:.0e}")
print(f"{seconds / mixture.duration:.2f} seconds per second of sound with {model} on {result.model.device}")
for warning in result.warnings:
    print(f"warning: {warning}")
