"""FSD50K: 51,197 Freesound clips in 200 classes (Fonseca et al., TASLP 2022); its evaluation set.

    ROOT/
    ├── FSD50K.eval_audio/37199.wav                           10,231 clips of 0.3 to 30 s, 44.1 kHz mono
    ├── FSD50K.ground_truth/eval.csv                          fname,labels,mids; labels joined by commas
    └── FSD50K.metadata/eval_clips_info_FSD50K.json           optional: licence and uploader of every clip

Licence: CC BY 4.0 as a whole, every clip its own (CC0, CC BY, CC BY-NC, CC Sampling+).
Documented at zenodo.org/records/4060432. A clip has its classes and all classes above them; it is asked for
by the one that fewest clips have, which is never above another one.
"""

from pathlib import Path

from unweave.data.corpora.protocol import Found, Protocol, Take
from unweave.data.corpora.rows import Gather, document, plain, rarest, table
from unweave.errors import UsageError

PROTOCOL = Protocol(
    origin="HSM-TSS (2505.21025, Table I): 500 pairs of 10 s at 16 kHz without a class in common, "
    "-15 to 15 dB; shorter clips are padded. Ours: where a clip is cut",
    count=500,
)
_INFO = "FSD50K.metadata/eval_clips_info_FSD50K.json"


def clips(root: Path) -> Found:
    """The evaluation set; the clips of one uploader are one group where the metadata tell who he is."""
    gather = Gather(root)
    info = document(root / _INFO, optional=True)
    rows = list(table(root / "FSD50K.ground_truth" / "eval.csv", "fname", "labels"))
    classes = [[plain(name) for name in row["labels"].split(",")] for row in rows]
    for row, names, label in zip(rows, classes, rarest(classes), strict=True):
        known = info.get(row["fname"], {})
        if not isinstance(known, dict):
            raise UsageError(f"{root / _INFO}: {row['fname']} wants an object, got {known!r}; get it again")
        group = str(known.get("uploader", row["fname"]))
        terms = str(known.get("license", "CC, see FSD50K.metadata"))
        file = f"FSD50K.eval_audio/{row['fname']}.wav"
        gather.add(Take(file, "eval", label, "sound", group, 0.0, terms, frozenset(names)), row.where)
    return gather.found()
