"""What was heard, as lines of text: a row per name with its score, where it sounds, and its times."""

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from unweave.types import Heard

LABEL = 28  # cells of the widest name shown whole
BAR = (12, 60)  # cells of the line of time, at least and at most
_SHADES = ((0.75, "█", "#"), (0.5, "▓", "="), (0.0, "▒", "-"))  # from this score on; in letters, in ASCII


def lines(heard: Sequence[Heard], seconds: float, width: int | None = None, ascii: bool = False) -> list[str]:
    """A row per name, the most certain first, and the scale; nothing where nothing was heard.

    Names are measured in the cells they take on a terminal, so that rows stay aligned in any script. The
    darker a row, the surer: in ASCII ``#`` from 0.75 on, ``=`` from 0.5 on, ``-`` below.

    Args:
        heard: any order.
        seconds: of the recording.
        width: cells of the terminal, which cut the list of times short; None shows all of it.
        ascii: no letters beyond ASCII in what is drawn.

    >>> heard = [Heard("rain", 0.9, 0, 10), Heard("dog", 0.6, 2, 4)]
    >>> print(*lines(heard, 10, width=51, ascii=True), sep="\\n")
    rain  0.90  |#################|  0:00.0-0:10.0
    dog   0.60  |   ====          |  0:02.0-0:04.0
                 0:00       0:10.0
    """
    if not heard:
        return []
    rows: dict[str, list[Heard]] = {}
    for one in sorted(heard, key=lambda one: (-one.score, one.start, one.text)):
        rows.setdefault(one.text, []).append(one)
    names = {name: _cut(name, min(LABEL, width // 3) if width else LABEL) for name in rows}
    label = max(map(cell_len, names.values()))
    times = {
        name: [f"{clock(one.start)}-{clock(one.end)}" for one in sorted(row, key=lambda one: one.start)]
        for name, row in rows.items()
    }
    left = label + 9  # what stands before the bar, its edge included
    # Beside it there is room for one pair of times, and how many more there are.
    room = width - left - 9 - 2 * len(clock(seconds)) if width else 40
    bar = min(max(room, BAR[0]), BAR[1])
    edge = "|" if ascii else "│"
    drawn = []
    for name, row in rows.items():
        start = (
            f"{set_cell_size(names[name], label)}  {row[0].score:.2f}  {edge}{_bar(row, seconds, bar, ascii)}"
        )
        spare = None if width is None else width - left - bar - 4
        drawn.append(f"{start}{edge}  {_some(times[name], spare)}".rstrip())
    end = clock(seconds)
    drawn.append(f"{'':{left}}{'0:00':<{max(bar - len(end), 5)}}{end}")
    return drawn


def clock(seconds: float) -> str:
    """Minutes and seconds, and hours where there are any.

    >>> clock(0), clock(59.96), clock(3725.04)
    ('0:00.0', '1:00.0', '1:02:05.0')
    """
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    whole = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{whole}:{rest // 10:02}.{rest % 10}"


def _bar(row: Sequence[Heard], seconds: float, width: int, ascii: bool) -> str:
    """The time of the recording in `width` cells; a cell is dark if the sound is in any part of it."""
    best = [0.0] * width
    for one in row:
        first = min(int(one.start / seconds * width), width - 1) if seconds else 0
        last = min(-int(-one.end / seconds * width // 1), width) if seconds else width
        for cell in range(first, max(last, first + 1)):
            best[cell] = max(best[cell], one.score, 1e-9)
    return "".join(_shade(score, ascii) if score else " " for score in best)


def _shade(score: float, ascii: bool) -> str:
    return next(plain if ascii else letter for least, letter, plain in _SHADES if score >= least)


def _some(times: Sequence[str], cells: int | None) -> str:
    """As many times as fit, and how many more there are."""
    whole = "  ".join(times)
    if cells is None or len(whole) <= cells:
        return whole
    for count in range(len(times) - 1, 0, -1):
        shown = f"{'  '.join(times[:count])}  +{len(times) - count}"
        if len(shown) <= cells:
            return shown
    return ""


def _cut(name: str, cells: int) -> str:
    return name if cell_len(name) <= cells else f"{set_cell_size(name, cells - 3).rstrip()}..."
