"""Libri2Mix: 3,000 published mixtures of two speakers of LibriSpeech test-clean (Cosentino et al., 2020).

    ROOT/                                                   Libri2Mix, as its scripts write it
    └── wav16k/min/
        ├── metadata/mixture_test_mix_clean.csv             mixture_ID,mixture_path,source_1_path,...,length
        └── test/
            ├── s1/1580-141083-0046_7127-75947-0026.wav     first source at its level in the mixture
            └── s2/1580-141083-0046_7127-75947-0026.wav     second source

Licence: CC BY 4.0, as LibriSpeech. Documented at github.com/JorisCos/LibriMix. The paths in the metadata are
those of the machine that wrote them, so only the mixtures' names are read.
"""

import re
from pathlib import Path

from unweave.data.corpora.protocol import Found, Mix, Protocol, Take
from unweave.data.corpora.rows import Gather, table
from unweave.errors import UsageError

PROTOCOL = Protocol(
    origin="UniSep (2503.23762, Table II): the test set of Libri2Mix at 16 kHz, an example of 3 s of another "
    "utterance of the speaker. Ours: without noise, cut to the shorter source, and both speakers asked for",
    count=0,
    partners="other group",
    asked=2,
    snr_db=None,
    example_seconds=3.0,
)


def clips(root: Path) -> Found:
    """Both sources of every mixture of the test set; a speaker is a group, an utterance a tag."""
    gather, mixes = Gather(root), []
    for row in table(root / "wav16k" / "min" / "metadata" / "mixture_test_mix_clean.csv", "mixture_ID"):
        name = row["mixture_ID"]
        utterances = name.split("_")
        if len(utterances) != 2 or not all(re.fullmatch(r"\d+-\d+-\d+", one) for one in utterances):
            raise UsageError(f"{row.where}: mixture_ID wants two utterances joined by '_', got {name!r}")
        sources = []
        for number, utterance in enumerate(utterances, 1):
            file, speaker = f"wav16k/min/test/s{number}/{name}.wav", utterance.split("-")[0]
            take = Take(file, "test", "speech", "speech", speaker, 0.0, "CC BY 4.0", frozenset({utterance}))
            sources.append(gather.add(take, row.where))
        known = tuple(source for source in sources if source is not None)
        if len(known) == 2:
            mixes.append(Mix(name, known))
    return gather.found(mixes)
