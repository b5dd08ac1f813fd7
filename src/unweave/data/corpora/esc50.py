"""ESC-50: 2,000 recordings of 5 s in 50 classes (Piczak, 2015).

    ROOT/                              ESC-50-master, as the repository unpacks
    ├── audio/1-100032-A-0.wav         FOLD-SOURCE-TAKE-CLASS.wav, 44.1 kHz mono
    └── meta/esc50.csv                 filename,fold,target,category,esc10,src_file,take

Licence: CC BY-NC 3.0, the subset ESC-10 CC BY 3.0; every recording's own is in the repository's LICENSE file.
Documented in the README of github.com/karolpiczak/ESC-50.
"""

from pathlib import Path

from unweave.data.corpora.protocol import Found, Protocol, Take
from unweave.data.corpora.rows import Gather, plain, table

PROTOCOL = Protocol(
    origin="AudioSep (2308.05037): every recording once among those of another class, whole, at 32 kHz. "
    "Ours: 0 dB, which neither its code nor its list states. Its own mixtures are audiosep-esc50",
    count=2000,
    snr_db=(0.0, 0.0),
    seconds=(5.0, 5.0),
    sample_rate=32_000,
)


def clips(root: Path) -> Found:
    """Every recording, labelled by its class; takes of one source recording are one group."""
    gather = Gather(root)
    for row in table(root / "meta" / "esc50.csv", "filename", "fold", "category", "esc10", "src_file"):
        terms = "CC BY 3.0" if row["esc10"] == "True" else "CC BY-NC 3.0"
        file, fold = f"audio/{row['filename']}", f"fold{row.whole('fold')}"
        take = Take(file, fold, plain(row["category"]), "sound", row["src_file"], 0.0, terms)
        gather.add(take, row.where)
    return gather.found()
