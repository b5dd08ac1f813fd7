"""AudioCaps: captions of AudioSet clips (Kim et al., NAACL 2019); its test set, five captions a clip.

    ROOT/
    ├── dataset/test.csv               audiocap_id,youtube_id,start_time,caption
    └── anything/Y7fmOlUlwoNg.wav      10 s from start_time on; also 7fmOlUlwoNg.m4a, 7fmOlUlwoNg_20.flac

Licence: of the captions, see the repository; the sound belongs to those who uploaded the films.
Only the captions are published (github.com/cdjkim/audiocaps), so the sound is found by its name wherever it
lies below ROOT. The "Y" before a name is how AudioSep and others keep AudioSet. Not verified: the licence.
"""

from pathlib import Path

from unweave.data.corpora.protocol import Found, Protocol, Take
from unweave.data.corpora.rows import Gather, recordings, table, words

PROTOCOL = Protocol(
    origin="HSM-TSS (2505.21025, Table I): 500 pairs of 10 s at 16 kHz, -15 to 15 dB. Ours: captions that "
    "share a word of four letters are kept apart, where the paper compares tags that GPT-4 drew from them",
    count=500,
)


def clips(root: Path) -> Found:
    """One take for each caption of the test set."""
    gather, there = Gather(root), recordings(root)
    for row in table(root / "dataset" / "test.csv", "youtube_id", "start_time", "caption"):
        film, caption = row["youtube_id"], row["caption"].strip()
        names = (f"Y{film}", film, f"{film}_{row.whole('start_time')}")
        file = next((there[name] for name in names if name in there), None)
        if file is None:
            gather.lacks(f"Y{film}")
        else:
            take = Take(file, "test", caption, "sound", film, 0.0, "see the film", words(caption))
            gather.add(take, row.where)
    return gather.found()
