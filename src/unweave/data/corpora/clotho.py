"""Clotho 2.1: Freesound clips of 15 to 30 s with five captions each (Drossos et al., ICASSP 2020).

    ROOT/
    ├── evaluation/Santa Motor.wav           1,045 clips, 44.1 kHz
    ├── clotho_captions_evaluation.csv       file_name,caption_1,caption_2,caption_3,caption_4,caption_5
    └── clotho_metadata_evaluation.csv       file_name,keywords,...,license; Latin-1, keywords joined by ";"

Licence: captions under Tampere University's own non-commercial terms; every clip its own, in the metadata.
Documented at zenodo.org/records/4783391. Not verified: that the metadata are Latin-1 in every release.
"""

from pathlib import Path

from unweave.data.corpora.protocol import Found, Protocol, Take
from unweave.data.corpora.rows import Gather, table

PROTOCOL = Protocol(
    origin="HSM-TSS (2505.21025, Table I): 500 pairs of 10 s at 16 kHz, -15 to 15 dB. Ours: clips that share "
    "a Freesound keyword are kept apart, where the paper compares tags that GPT-4 drew from the captions",
    count=500,
)
_CAPTIONS = tuple(f"caption_{number}" for number in range(1, 6))


def clips(root: Path) -> Found:
    """One take for each caption of the evaluation set."""
    gather = Gather(root)
    facts = {
        row["file_name"]: row
        for row in table(
            root / "clotho_metadata_evaluation.csv", "file_name", "keywords", "license", encoding="latin-1"
        )
    }
    for row in table(root / "clotho_captions_evaluation.csv", "file_name", *_CAPTIONS):
        name = row["file_name"]
        known = facts.get(name)
        terms = known["license"] if known else "see clotho_metadata_evaluation.csv"
        keywords = known["keywords"].lower().split(";") if known else []
        tags = frozenset(word.strip() for word in keywords if word.strip())
        for column in _CAPTIONS:
            caption = row[column].strip()
            take = Take(f"evaluation/{name}", "evaluation", caption, "sound", name, 0.0, terms, tags)
            gather.add(take, row.where)
    return gather.found()
