"""AudioSep's 5,270 mixtures of AudioSet, ten for each of 527 classes.

    ROOT/evaluation/
    ├── metadata/audioset_eval.csv                idx,caption,src_wav,noise_wav; paths from ROOT on
    └── data/audioset/class_id=0/
        ├── class_id=0,index=000,source.wav       src_wav
        └── class_id=0,index=000,mixture.wav      noise_wav: the mixture, in spite of the column's name

The licence and what is not verified: see `audiosep`.
"""

from pathlib import Path

from unweave.data.corpora.audiosep import listed, protocol
from unweave.data.corpora.protocol import Found

PROTOCOL = protocol("5,270 mixtures, ten a class; the paper's number is the mean of the classes' medians")


def clips(root: Path) -> Found:
    """What is asked for in every line, and the list of mixtures."""
    return listed(
        root, "audioset", "caption", lambda row: (row["src_wav"], row["noise_wav"]), "src_wav", "noise_wav"
    )
