"""MUSDB18-HQ: 150 songs as four stems (Rafii et al., 2017, 2019); its 50 test songs.

    ROOT/
    └── test/
        └── Al James - Schoolboy Facination/
            ├── vocals.wav · drums.wav · bass.wav · other.wav        44.1 kHz stereo
            └── mixture.wav                                          their sum, not needed

Licence: for education only; every song its own, most CC BY-NC-SA 3.0, in the documentation.
Documented at sigsep.github.io/datasets/musdb.html and zenodo.org/records/3338373. MUSDB18 itself, five tracks
in one .stem.mp4, has to be unpacked into this tree first (musdbconvert of the package musdb does).
"""

from pathlib import Path

from unweave.data.corpora.protocol import Found, Protocol, Take
from unweave.data.corpora.rows import Gather
from unweave.errors import UsageError

PROTOCOL = Protocol(
    origin="UniSep (2503.23762, section III-A): 5 to 8 s of one stem with one or two others of its song at "
    "16 kHz, an example of 3 s of the same stem. Ours: 500 mixtures, where the paper has 1.44 h, the stems' "
    "own levels, the example is what comes directly before, and the stem's name beside it as words",
    count=500,
    partners="same recording",
    sources=(2, 3),
    snr_db=None,
    seconds=(5.0, 8.0),
    example_seconds=3.0,
)
_STEMS = {"vocals": "singing voice", "drums": "drums", "bass": "bass guitar", "other": "other instruments"}


def clips(root: Path) -> Found:
    """The four stems of every test song."""
    folder = root / "test"
    songs = sorted(path.name for path in folder.glob("*") if path.is_dir())
    if not songs:
        packed = " .stem.mp4 files have to be unpacked to folders first" if list(folder.glob("*.mp4")) else ""
        raise UsageError(f"no song below {folder}; wanted: test/SONG/vocals.wav and so on.{packed}")
    gather = Gather(root)
    for song in songs:
        for stem, label in _STEMS.items():
            take = Take(f"test/{song}/{stem}.wav", "test", label, "music", song, 0.0, "education only")
            gather.add(take, str(folder))
    return gather.found()
