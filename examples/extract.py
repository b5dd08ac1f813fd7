"""Keep one sound of a recording, and what is left without it.

python examples/extract.py street.wav "a dog barking"
"""

import sys
from pathlib import Path

import unweave

source, words = Path(sys.argv[1]), sys.argv[2]

recording = unweave.read(source)
kept = unweave.extract(recording, words)
rest = unweave.remove(recording, words)

# Nothing is lost: the two halves are the recording, sample by sample.
error = (kept.samples + rest.samples - recording.samples).abs().max().item()
print(f"{recording.duration:.1f} s, {recording.sample_rate} Hz; kept + rest differs by {error:.1e}")

unweave.write(f"{source.stem}-kept.wav", kept)
unweave.write(f"{source.stem}-rest.wav", rest)
