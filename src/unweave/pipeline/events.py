"""What was heard when, as files: labels for Audacity, and a table."""

import csv
import io
from pathlib import Path

from unweave.pipeline.sidecar import Separation, Track

LABELS = "labels.txt"
EVENTS = "events.csv"


def write(folder: Path, separation: Separation) -> None:
    """Put both files into `folder`."""
    (folder / LABELS).write_text(labels(separation), encoding="utf-8")
    (folder / EVENTS).write_text(events(separation), encoding="utf-8", newline="")


def labels(separation: Separation) -> str:
    """A label track as Audacity imports it: start, end and name, separated by tabs, in the order of time."""
    return "".join(f"{start:.6f}\t{end:.6f}\t{track.label}\n" for start, end, track in _in_time(separation))


def events(separation: Separation) -> str:
    """A CSV table with the columns start, end (seconds), label, score and file, in the order of time."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("start", "end", "label", "score", "file"))
    for start, end, track in _in_time(separation):
        table.writerow((f"{start:.3f}", f"{end:.3f}", track.label, f"{track.score:.3f}", track.file))
    return text.getvalue()


def _in_time(separation: Separation) -> list[tuple[float, float, Track]]:
    found = [(start, end, track) for track in separation.stems for start, end in track.spans]
    return sorted(found, key=lambda one: (one[0], one[1], one[2].label))
