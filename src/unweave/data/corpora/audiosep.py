"""AudioSep's evaluation sets (Liu et al., "Separate Anything You Describe", 2308.05037): six rendered lists.

    ROOT/                                    the repository github.com/Audio-AGI/AudioSep
    └── evaluation/
        ├── metadata/esc50_eval.csv          idx,caption,src_wav,noise_wav, one line a mixture
        └── data/esc50/
            ├── segment-0.wav                what is asked for in line 0
            └── mixture-0.wav                the mixture

Licence: MIT for the lists; the sound is that of the corpora. Documented in the repository's README and code.
Noise is not published for itself: it is the mixture without the segment. AudioSet and VGGSound name their
files in the list instead. Not verified: the audio, which lies on a file hoster; its level and length.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from unweave.data.corpora.protocol import Found, Mix, Protocol, Take
from unweave.data.corpora.rows import Gather, Row, table

Pair = Callable[[Row], tuple[str, str]]  # a line -> the files of what is asked for and of the mixture


def protocol(what: str) -> Protocol:
    """The protocol of one list: its mixtures as they are."""
    return Protocol(
        origin=f"AudioSep (2308.05037, its published list): {what}, whole at 32 kHz, levels as rendered",
        count=0,
        snr_db=None,
        sample_rate=32_000,
    )


def numbered(folder: str) -> Pair:
    """Files named by the number of their line."""

    def pair(row: Row) -> tuple[str, str]:
        number = row.whole("idx")
        below = f"evaluation/data/{folder}"
        return f"{below}/segment-{number}.wav", f"{below}/mixture-{number}.wav"

    return pair


def listed(root: Path, name: str, text: str, pair: Pair, *columns: str) -> Found:
    """The mixtures of evaluation/metadata/NAME_eval.csv; `text` is the column that says what is asked for."""
    gather, mixes = Gather(root), []
    rows = table(root / "evaluation" / "metadata" / f"{name}_eval.csv", text, *columns)
    for number, row in enumerate(rows):
        asked, whole = pair(row)
        label = row[text].strip()
        take = Take(asked, "eval", label, "sound", asked, 0.0, "see the corpus")
        source = gather.add(take, row.where)
        mixture = gather.measured(replace(take, file=whole, group=whole), row.where)
        if source is not None and mixture is not None:
            mixes.append(Mix(f"{number:04d}", (source,), mixture=mixture))
    return gather.found(mixes)
