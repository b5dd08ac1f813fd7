"""What the table says of a sound's frequencies, checked against recordings of it.

Run it as ``python -m unweave.evaluate.acoustics --data ROOT`` with ROOT the folder of the training sounds.
For every label with enough clips it compares the stated range with the measured one, and it leaves with exit
code 1 where the two disagree and the table does not say why.
"""

import argparse
import dataclasses
import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from unweave.data.manifest import DecodedClips, cache_folder, read_manifest
from unweave.language.acoustics import facts

SAMPLE_RATE = 32_000
LOWEST = 20.0  # Hz; what lies below is not heard, and is no part of a statement either
TAIL = 0.05  # share of the energy below the range, and the same above it
LEAST = 0.5  # overlap; below, statement and recordings disagree
WINDOW = 8192  # samples; bins of 4 Hz, so that a kick drum has a few


@dataclass(frozen=True)
class Row:
    """One label: what is stated and what its clips show."""

    label: str
    clips: int
    stated: tuple[float, float]  # Hz
    measured: tuple[float, float]  # Hz, medians over the clips
    overlap: float  # 0..1
    why: str  # what the table says of recordings that are special, "" for nothing

    @property
    def verdict(self) -> str:
        """One of agrees, explained, disagrees."""
        return "agrees" if self.overlap >= LEAST else "explained" if self.why else "disagrees"


def band(samples: Tensor, sample_rate: int) -> tuple[float, float] | None:
    """The frequencies in Hz that hold the middle 90 % of a clip's energy above `LOWEST`.

    Args:
        samples: (T,), of any length; a short one is padded.

    Returns:
        Where 5 % and where 95 % of the energy lie below, to a bin; None for silence.

    >>> clock = torch.arange(32_000) / 32_000
    >>> low, high = band((2 * torch.pi * 1000 * clock).sin(), 32_000)
    >>> round(low / 10), round(high / 10)
    (100, 100)
    """
    short = WINDOW - len(samples)
    if short > 0:
        samples = torch.nn.functional.pad(samples, (0, short))
    frames = samples.unfold(0, WINDOW, WINDOW // 2) * torch.hann_window(WINDOW)
    power = torch.fft.rfft(frames).abs().square().mean(0).double()
    hertz = torch.arange(len(power), dtype=torch.float64) * sample_rate / WINDOW
    rising = power.masked_fill(hertz < LOWEST, 0).cumsum(0)
    if not rising[-1] > 0:
        return None
    low, high = torch.searchsorted(rising, rising[-1] * torch.tensor([TAIL, 1 - TAIL]).double()).tolist()
    return float(hertz[low]), float(hertz[high])


def overlap(one: tuple[float, float], other: tuple[float, float]) -> float:
    """The share of two ranges that both have, in octaves: 0 where they are apart, 1 where they are the same.

    Each range counts a third of an octave more on either side: clips of one sound differ by as much, and a
    whistle of one pitch would otherwise never fit.

    >>> round(overlap((100, 1600), (200, 1600)), 2)
    0.79
    >>> overlap((100, 200), (1000, 2000))
    0.0
    """
    margin = 1 / 3
    (low, high), (least, most) = ((math.log2(a) - margin, math.log2(b) + margin) for a, b in (one, other))
    shared = min(high, most) - max(low, least)
    return max(0.0, shared) / (max(high, most) - min(low, least))


def check(root: Path, fewest: int = 5, cache: Path | None = None) -> list[Row]:
    """Every training label with at least `fewest` clips that sound, the worst first.

    Raises:
        UsageError: `root` has no manifest, or one that lists what is not there.
    """
    clips = read_manifest(root, "train")
    decoded = DecodedClips(root, clips, SAMPLE_RATE, cache or cache_folder())
    bands: dict[str, list[tuple[float, float]]] = {}
    for index, clip in enumerate(clips):
        found = band(decoded[index], SAMPLE_RATE)
        if found is not None:
            bands.setdefault(clip.label, []).append(found)
    rows = []
    for label, found_bands in bands.items():
        known = facts().get(label)
        if known is None or len(found_bands) < fewest:
            continue
        lows, highs = zip(*found_bands, strict=True)
        stated, measured = tuple(known["hz"]), (statistics.median(lows), statistics.median(highs))
        share = overlap(stated, measured)
        rows.append(Row(label, len(found_bands), stated, measured, share, known.get("why", "")))
    return sorted(rows, key=lambda row: row.overlap)


def summary(rows: Iterable[Row]) -> dict[str, int]:
    """How many labels agree, disagree with a reason given, and disagree."""
    verdicts = [row.verdict for row in rows]
    return {verdict: verdicts.count(verdict) for verdict in ("agrees", "explained", "disagrees")}


def _print(console: Console, rows: list[Row]) -> None:
    table = Table(title="stated range and measured 5-95 % of the energy, Hz", title_justify="left")
    for column in ("label", "clips", "stated", "measured", "overlap", "verdict", "why"):
        table.add_column(column, justify="right" if column in ("clips", "overlap") else "left")
    for row in rows:
        stated, measured = (f"{low:.0f} - {high:.0f}" for low, high in (row.stated, row.measured))
        table.add_row(row.label, str(row.clips), stated, measured, f"{row.overlap:.2f}", row.verdict, row.why)
    console.print(table)
    counts = summary(rows)
    console.print(f"{len(rows)} labels: " + ", ".join(f"{counts[verdict]} {verdict}" for verdict in counts))


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv and the clips")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    rows = check(options.data)
    if options.json:
        told = [dataclasses.asdict(row) | {"verdict": row.verdict} for row in rows]
        print(json.dumps({"labels": told, "summary": summary(rows)}, indent=1))
    else:
        _print(Console(), rows)
    raise SystemExit(1 if summary(rows)["disagrees"] else 0)


if __name__ == "__main__":
    main()
