"""VGGSound: 10 s of films in 309 classes of sounds (Chen et al., ICASSP 2020); its test set.

    ROOT/
    ├── vggsound.csv                           no header: film, first second, label, "train" or "test"
    └── anything/---g-f_I2yQ_000001.mp4        FILM_SECOND; also .wav, .flac, .m4a ...

Licence: CC BY 4.0 for the list; the films belong to those who uploaded them.
Only the list is published (robots.ox.ac.uk/~vgg/data/vggsound), so the sound is found by its name wherever
it lies below ROOT; the name with six digits is the authors' own and the one in AudioSep's list.
"""

from pathlib import Path

from unweave.data.corpora.protocol import Found, Protocol, Take
from unweave.data.corpora.rows import Gather, recordings, table

PROTOCOL = Protocol(
    origin="BiModal (ICLR 2024, whose test OpenSep's is taken to be): two clips of different classes, "
    "131,070 samples at 16 kHz. Ours: the official test set, 1,000 mixtures (AudioSep's number) and -5 to "
    "5 dB, where BiModal splits at random and multiplies each clip by 0.5 to 1.5",
    count=1000,
    snr_db=(-5.0, 5.0),
    seconds=(8.191875, 8.191875),
)


def clips(root: Path) -> Found:
    """The official test set."""
    gather, there = Gather(root), recordings(root)
    for row in table(root / "vggsound.csv", "film", "second", "label", "split", header=False):
        name = f"{row['film']}_{row.whole('second'):06d}"
        if row["split"].strip() != "test":
            continue
        if name not in there:
            gather.lacks(name)
            continue
        take = Take(there[name], "test", row["label"].strip(), "sound", row["film"], 0.0, "see the film")
        gather.add(take, row.where)
    return gather.found()
