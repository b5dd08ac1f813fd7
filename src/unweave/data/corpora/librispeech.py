"""LibriSpeech: read English books, 16 kHz (Panayotov et al., ICASSP 2015); its set test-clean, 40 speakers.

    ROOT/                                          LibriSpeech, as the archive unpacks
    └── test-clean/
        └── 1089/                                  speaker
            └── 134686/                            chapter
                ├── 1089-134686-0000.flac
                └── 1089-134686.trans.txt          a line each: "1089-134686-0000 HE HOPED ..."

Licence: CC BY 4.0. Documented at openslr.org/12 and in the archive's README.TXT.
"""

from pathlib import Path

from unweave.data.corpora.protocol import Found, Protocol, Take
from unweave.data.corpora.rows import Gather
from unweave.errors import UsageError

PROTOCOL = Protocol(
    origin="UniSep (2503.23762, section III-A): two speakers, 3 to 10 s at 16 kHz, -5 to 10 dB, an example "
    "of 3 s of another utterance of the first speaker. Ours: 500 mixtures; the paper tests on Libri2Mix",
    count=500,
    partners="other group",
    snr_db=(-5.0, 10.0),
    seconds=(3.0, 10.0),
    example_seconds=3.0,
)


def clips(root: Path) -> Found:
    """Every utterance that a transcript of test-clean names; a speaker is a group."""
    transcripts = sorted((root / "test-clean").glob("*/*/*.trans.txt"))
    if not transcripts:
        raise UsageError(f"no SPEAKER/CHAPTER/*.trans.txt below {root / 'test-clean'}; wanted: LibriSpeech")
    gather = Gather(root)
    for path in transcripts:
        folder = path.parent.relative_to(root).as_posix()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            name, where = line.split(" ")[0], f"{path}, line {number}"
            if name.split("-")[:2] != list(path.parts[-3:-1]):
                raise UsageError(f"{where} wants SPEAKER-CHAPTER-NUMBER of its folder, got {name!r}")
            file, tags = f"{folder}/{name}.flac", frozenset({name})
            take = Take(file, "test-clean", "speech", "speech", path.parts[-3], 0.0, "CC BY 4.0", tags)
            gather.add(take, where)
    return gather.found()
