"""AudioSep's 1,000 mixtures of VGGSound, asked for by class.

    ROOT/evaluation/
    ├── metadata/vggsound_eval.csv                file_id,mix_wav,s0_wav,s0_text,s1_wav,s1_text
    └── data/vggsound/
        ├── data/mix_wav/FILE_ID.wav              mix_wav
        └── data/s0_wav/FILE_ID.wav               s0_wav, the one that is asked for; s1_wav is not needed

The licence and what is not verified: see `audiosep`.
"""

from pathlib import Path

from unweave.data.corpora.audiosep import listed, protocol
from unweave.data.corpora.protocol import Found
from unweave.data.corpora.rows import Row

PROTOCOL = protocol("1,000 mixtures, the first of two sources is asked for")


def clips(root: Path) -> Found:
    """What is asked for in every line, and the list of mixtures."""
    return listed(root, "vggsound", "s0_text", _pair, "mix_wav", "s0_wav")


def _pair(row: Row) -> tuple[str, str]:
    return f"evaluation/data/vggsound/{row['s0_wav']}", f"evaluation/data/vggsound/{row['mix_wav']}"
