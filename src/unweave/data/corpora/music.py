"""MUSIC: films of people who play one of eleven instruments (Zhao et al., "The Sound of Pixels", ECCV 2018).

    ROOT/
    ├── MUSIC_solo_videos.json                          {"videos": {"flute": ["jW_AuF6dQYY", ...], ...}}
    └── anything/acoustic_guitar/M3dekVSwNjY.mp3        FILM; also .wav, .m4a, .mp4 ...

Licence: not stated with the list; the films belong to those who uploaded them.
Only the list is published (github.com/roudimit/MUSIC_dataset; 536 solos), so the sound is found by its name
wherever it lies below ROOT. The papers' test films are not in it: keep only those to test on them alone, the
others are counted as missing.
"""

from pathlib import Path

from unweave.data.corpora.protocol import Found, Protocol, Take
from unweave.data.corpora.rows import Gather, document, plain, recordings
from unweave.errors import UsageError

PROTOCOL = Protocol(
    origin="HSM-TSS (2505.21025, section IV-B): 500 pairs of different instruments, 10 s at 16 kHz, "
    "-5 to 5 dB. Ours: all films that are there, where the paper has 46 of a test split it does not list",
    count=500,
    snr_db=(-5.0, 5.0),
)


def clips(root: Path) -> Found:
    """Every solo, labelled by its instrument."""
    path = root / "MUSIC_solo_videos.json"
    gather, there = Gather(root), recordings(root)
    videos = document(path).get("videos")
    if not isinstance(videos, dict) or not all(isinstance(films, list) for films in videos.values()):
        raise UsageError(f"{path} wants lists of films by instrument under 'videos'; get it again")
    for instrument, films in videos.items():
        for film in map(str, films):
            if film not in there:
                gather.lacks(film)
                continue
            label = plain(instrument)
            gather.add(Take(there[film], "solo", label, "music", film, 0.0, "see the film"), str(path))
    return gather.found()
