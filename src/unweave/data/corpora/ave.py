"""AVE: 4,143 films of 10 s with one audible and visible event each, 28 classes (Tian et al., ECCV 2018).

    ROOT/                                  AVE_Dataset, as the archive unpacks
    ├── AVE/RUhOCu3LNXM.mp4
    ├── Annotations.txt                    Category&VideoID&Quality&StartTime&EndTime, with a header
    └── testSet.txt                        the test films alone, without a header

Licence: not stated with the archive; the films belong to those who uploaded them.
Documented in the archive's ReadMe.txt and at github.com/YapengTian/AVE-ECCV18. Films are mixed whole: when
the event sounds is read, but not used. Not verified: that testSet.txt never has a header; one is passed over.
"""

from pathlib import Path

from unweave.data.corpora.protocol import Found, Protocol, Take
from unweave.data.corpora.rows import Gather, plain, table

PROTOCOL = Protocol(
    origin="ZeroSep (2505.23625): two films of different classes, 16 kHz, about 10 s. Ours: 500 mixtures and "
    "-5 to 5 dB; the paper's lists are not published",
    count=500,
    snr_db=(-5.0, 5.0),
)
_COLUMNS = ("Category", "VideoID", "Quality", "StartTime", "EndTime")


def clips(root: Path) -> Found:
    """The test films; one with several events is one take for each, and no partner of any of its classes."""
    gather = Gather(root)
    rows = list(table(root / "testSet.txt", *_COLUMNS, header=False, delimiter="&"))
    rows = [row for row in rows if tuple(row.values.values()) != _COLUMNS]
    events: dict[str, set[str]] = {}
    for row in rows:
        row.number("StartTime")
        row.number("EndTime")
        events.setdefault(row["VideoID"], set()).add(plain(row["Category"]))
    for row in rows:
        film, label = row["VideoID"], plain(row["Category"])
        file, tags = f"AVE/{film}.mp4", frozenset(events[film])
        take = Take(file, "test", label, "sound", film, 0.0, "see the film", tags)
        gather.add(take, row.where)
    return gather.found()
