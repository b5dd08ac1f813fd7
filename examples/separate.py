"""Several sounds at once, with the sound in memory: no file is written.

python examples/separate.py street.wav "dog barking" "rain" "a man speaking"
"""

import sys

import unweave

source, *words = sys.argv[1:]

engine = unweave.load()  # once, for any number of recordings
stems = unweave.separate(unweave.read(source), words, model=engine)

for stem in stems:
    name = stem.query.text if stem.query else "the rest"
    level = stem.audio.samples.square().mean().sqrt().item()
    print(f"{name:30} certainty {stem.score:4.0%}  level {level:.4f}")
