"""AudioSet: 10 s of films in 527 classes (Gemmeke et al., ICASSP 2017); its evaluation set, 20,383 clips.

    ROOT/
    ├── eval_segments.csv                  three "#" lines, then YTID, start_seconds, end_seconds, "mid,mid"
    ├── class_labels_indices.csv           index,mid,display_name
    └── anything/Y-0RWZT-miFs.flac         also -0RWZT-miFs.wav, -0RWZT-miFs_420.m4a ...

Licence: CC BY 4.0 for the lists; the films belong to those who uploaded them.
Only the lists are published (research.google.com/audioset/download.html), so the sound is found by its name
wherever it lies below ROOT. A clip has several classes; it is asked for by the one that fewest clips have.
"""

from pathlib import Path

from unweave.data.corpora.protocol import Found, Protocol, Take
from unweave.data.corpora.rows import Gather, rarest, recordings, table
from unweave.errors import UsageError

PROTOCOL = Protocol(
    origin="UniSep (2503.23762, section III-A): two clips with different events at 16 kHz, -5 to 10 dB. "
    "Ours: 500 mixtures of whole clips of 10 s, where the paper cuts 2 s with a sound event detector",
    count=500,
    snr_db=(-5.0, 10.0),
)


def clips(root: Path) -> Found:
    """The evaluation set."""
    path = root / "eval_segments.csv"
    gather, there = Gather(root), recordings(root)
    labels = table(root / "class_labels_indices.csv", "mid", "display_name")
    named = {row["mid"]: row["display_name"] for row in labels}
    rows = list(table(path, "film", "start", "end", "mids", header=False, comments=True))
    classes = []
    for row in rows:
        mids = [mid.strip() for mid in row["mids"].split(",")]
        unknown = [mid for mid in mids if mid not in named]
        if unknown:
            raise UsageError(
                f"{row.where}: {unknown[0]!r} is no class of class_labels_indices.csv; get both again"
            )
        classes.append([named[mid] for mid in mids])
    for row, names, label in zip(rows, classes, rarest(classes), strict=True):
        film = row["film"]
        stems = (f"Y{film}", film, f"{film}_{row.number('start'):g}")
        file = next((there[stem] for stem in stems if stem in there), None)
        if file is None:
            gather.lacks(f"Y{film}")
        else:
            tags = frozenset(names)
            gather.add(Take(file, "eval", label, "sound", film, 0.0, "see the film", tags), row.where)
    return gather.found()
