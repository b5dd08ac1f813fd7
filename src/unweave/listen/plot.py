"""A picture of what was heard: the spectrogram, and below it a lane of time for every name. Extra `plot`."""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unweave.errors import OutputError, UsageError
from unweave.listen.spectrogram import RANGE, Spectrogram
from unweave.listen.timeline import clock
from unweave.types import Heard

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".svg", ".pdf")
LANES = 16  # names drawn, the most certain ones
LABEL = 30  # letters of the longest name shown whole
# Paul Tol's "bright" and "muted" colours, told apart by the colour-blind.
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#882255", "#44aa99")
_PITCHES = (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)  # Hz


def verify(path: Path, overwrite: bool) -> None:
    """See, before any work, that a picture can be drawn to `path`.

    Raises:
        UsageError: the extension is none that can be drawn, or matplotlib is not installed.
        OutputError: the file exists and is not to be replaced, or its folder does not exist.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"a picture is written as {', '.join(FORMATS)}, got {str(path)!r}; rename it")
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError(
            "a picture wants matplotlib, which is not installed; run: pip install 'unweave[plot]'"
        )
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists; choose another name, or replace it with --overwrite")
    if not path.parent.is_dir():
        raise OutputError(f"there is no folder {path.parent} to write {path.name} to; make it first")


def draw(
    path: Path, spectrogram: Spectrogram, heard: Sequence[Heard], title: str = "", overwrite: bool = False
) -> None:
    """Write the picture, whole or not at all.

    Args:
        path: its extension chooses the format, see `FORMATS`.
        spectrogram: of the whole recording.
        heard: any order; the `LANES` most certain names get a lane each, in the order in which they begin.
        title: above the picture.
        overwrite: replace an existing file.

    Raises:
        UsageError, OutputError: as `verify`, or the file cannot be written.
    """
    verify(path, overwrite)
    # Without pyplot: no window system is asked for, and nothing is left in matplotlib's global state.
    from matplotlib.figure import Figure

    lanes, others = _lanes(heard)
    tall = 0.34 * max(len(lanes), 1) + 0.25
    figure = Figure(figsize=(11, 3.9 + tall), dpi=130, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.0, tall])
    figure.suptitle(_cut(title, 100), fontsize=11, parse_math=False)
    seconds = max(spectrogram.seconds, 1e-3)
    _draw_spectrogram(above, spectrogram, seconds, figure)
    _draw_lanes(below, lanes, others)
    below.set_xlim(0, seconds)
    _mark_time(below, seconds)
    part = path.with_name(f".{path.name}.part")
    try:
        with warnings.catch_warnings():
            # A script that the font lacks is drawn as boxes, which is no reason to fail.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            warnings.filterwarnings("ignore", "Matplotlib currently does not support")
            figure.savefig(part, format=path.suffix[1:].lower())
        part.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{path} cannot be written: {reason}; choose another place") from error
    finally:
        part.unlink(missing_ok=True)


def _lanes(heard: Sequence[Heard]) -> tuple[list[tuple[str, list[Heard]]], int]:
    """Names with their spans, in the order in which they begin, and how many names there is no room for."""
    names: dict[str, list[Heard]] = {}
    for one in sorted(heard, key=lambda one: (-one.score, one.start, one.text)):
        names.setdefault(one.text, []).append(one)
    shown = list(names.items())[:LANES]
    shown.sort(key=lambda lane: (min(one.start for one in lane[1]), -lane[1][0].score))
    return shown, len(names) - len(shown)


def _draw_spectrogram(axes: Axes, spectrogram: Spectrogram, seconds: float, figure: Any) -> None:
    import torch

    picture = spectrogram.picture()
    times = torch.linspace(0, seconds, picture.shape[1] + 1)
    drawn = axes.pcolormesh(
        times.numpy(),
        spectrogram.edges.numpy(),
        picture.numpy(),
        cmap="magma",
        vmin=-RANGE,
        vmax=0,
        rasterized=True,
    )
    axes.set_yscale("log")
    low, high = float(spectrogram.edges[0]), float(spectrogram.edges[-1])
    ticks = [pitch for pitch in _PITCHES if low <= pitch <= high]
    axes.set_yticks(ticks, [f"{pitch // 1000} k" if pitch >= 1000 else str(pitch) for pitch in ticks])
    axes.set_yticks([], minor=True)
    axes.set_ylim(low, high)
    axes.set_ylabel("frequency (Hz)")
    axes.tick_params(labelbottom=False)
    figure.colorbar(drawn, ax=axes, label="level (dB, loudest = 0)", pad=0.01, aspect=25)


def _draw_lanes(axes: Axes, lanes: Sequence[tuple[str, list[Heard]]], others: int) -> None:
    for row, (_, spans) in enumerate(lanes):
        colour = _COLOURS[row % len(_COLOURS)]
        for one in spans:
            # The surer, the darker.
            axes.broken_barh(
                [(one.start, one.end - one.start)],
                (row - 0.36, 0.72),
                color=colour,
                alpha=0.3 + 0.7 * one.score,
            )
        axes.annotate(
            f"{max(one.score for one in spans):.2f}",
            (1, row),
            (6, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color="#444444",
        )
    axes.set_yticks(range(len(lanes)), [_cut(name, LABEL) for name, _ in lanes], fontsize=9, parse_math=False)
    axes.set_ylim(max(len(lanes), 1) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    if not lanes:
        axes.text(0.5, 0.5, "nothing was heard", transform=axes.transAxes, ha="center", va="center")
    if others:
        axes.set_title(
            f"{len(lanes)} of {len(lanes) + others} names", fontsize=9, loc="right", color="#444444"
        )


def _mark_time(axes: Axes, seconds: float) -> None:
    if seconds < 90:
        axes.set_xlabel("time (s)")
        return
    # Ticks at round minutes, and not at hundreds of seconds.
    hours = 3600 * math.ceil(seconds / 36_000)
    step = next((step for step in (15, 30, 60, 120, 300, 600, 900, 1800) if seconds / step <= 10), hours)
    ticks = list(range(0, int(seconds) + 1, step))
    axes.set_xticks(ticks, [clock(tick).removesuffix(".0") for tick in ticks])
    axes.set_xlabel("time (h:min:s)" if seconds >= 3600 else "time (min:s)")


def _cut(name: str, letters: int) -> str:
    return name if len(name) <= letters else f"{name[: letters - 1].rstrip()}…"
