"""DCASE 2024 task 9, validation: 3,000 published mixtures of 1,000 captioned Freesound clips.

    ROOT/
    ├── lass_validation/AUDIO.wav                10 s, 16 kHz mono
    └── lass_synthetic_validation.csv            a header, then source, noise, snr, caption; no ".wav"

Licence: Creative Commons, every clip its own. Documented at zenodo.org/records/10886481. The columns are
taken by their place, as the challenge's own evaluation does (Audio-AGI/dcase2024_task9_baseline on GitHub).
Not verified: the names in the header, and the clips' licences.
"""

from pathlib import Path

from unweave.data.corpora.protocol import Found, Mix, Protocol, Take
from unweave.data.corpora.rows import Gather, Row, table

PROTOCOL = Protocol(
    origin="the challenge: 3,000 mixtures at 16 kHz with the SNR that the list states, both quieter by one "
    "factor where the sum would clip. Ours: clips lose their mean first",
    count=0,
    snr_db=(-15.0, 15.0),
)


def clips(root: Path) -> Found:
    """The clips that are asked for, one take for each caption, and the list of mixtures."""
    gather, mixes = Gather(root), []
    rows = table(root / "lass_synthetic_validation.csv", "source", "noise", "snr", "caption", header=False)
    next(rows, None)  # the header
    for number, row in enumerate(rows):
        source = gather.add(_take(row, "source"), row.where)
        noise = gather.measured(_take(row, "noise"), row.where)
        snr_db = row.number("snr")
        if source is not None and noise is not None:
            mixes.append(Mix(f"{number:04d}", (source, noise), snr_db))
    return gather.found(mixes)


def _take(row: Row, column: str) -> Take:
    name = row[column].strip()
    file = f"lass_validation/{name}.wav"
    return Take(file, "validation", row["caption"].strip(), "sound", name, 0.0, "Creative Commons")
