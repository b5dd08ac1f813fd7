"""Plots of a report as inline SVG: text stays text, colours follow the page, and nothing has to be loaded."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

Group = Mapping[str, Any]  # "key", "mean", "low", "high", "count"; mean None where nothing is defined

WIDTH = 640
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 12, 44
_BAR = 20  # height of one line of a bar plot
_NAMES = 210  # width for their names


def lines(groups: Mapping[str, Sequence[Group]], title: str, x_label: str, y_label: str) -> str:
    """Means with intervals over a numeric key, one line for each name of `groups`; "" without any point.

    Colours are the classes c0, c1, ... of the page, in the order of `groups`.
    """
    drawn = {name: [one for one in points if one["mean"] is not None] for name, points in groups.items()}
    points = [one for some in drawn.values() for one in some]
    if not points:
        return ""
    height = 280
    keys = sorted({float(one["key"]) for one in points})
    low, high = _span([value for one in points for value in _extent(one)])
    first, last = (keys[0], keys[-1]) if len(keys) > 1 else (keys[0] - 1, keys[0] + 1)
    plot_width, plot_height = WIDTH - _LEFT - _RIGHT, height - _TOP - _BOTTOM

    def x(key: float) -> float:
        return _LEFT + 12 + (key - first) / (last - first) * (plot_width - 24)

    def y(value: float) -> float:
        return _TOP + (high - value) / (high - low) * plot_height

    parts = [_horizontal(y(tick), tick) for tick in ticks(low, high)]
    parts += [_text(x(key), height - 26, f"{key:g}", "middle") for key in keys]
    parts.append(_text(_LEFT + plot_width / 2, height - 6, x_label, "middle"))
    for number, some in enumerate(drawn.values()):
        shift = (number - (len(drawn) - 1) / 2) * 4  # intervals of several lines beside each other
        places = [(x(float(one["key"])) + shift, one) for one in some]
        parts.append(f'<g class="c{number % 8}">')
        path = " ".join(f"{place:.1f},{y(one['mean']):.1f}" for place, one in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="currentColor" stroke-width="1.5"/>')
        for place, one in places:
            bottom, top = (y(value) for value in (min(_extent(one)), max(_extent(one))))
            parts.append(_stroke(place, bottom, place, top, 1.5))
            parts.append(
                f'<circle cx="{place:.1f}" cy="{y(one["mean"]):.1f}" r="3.5" fill="currentColor">'
                f"<title>{escape(_said(one))}</title></circle>"
            )
        parts.append("</g>")
    return _svg(height, f"{title}; {y_label}", parts)


def bars(groups: Sequence[Group], title: str, unit: str, colour: int = 0) -> str:
    """Means with intervals as horizontal bars, one a line; "" without any."""
    shown = [one for one in groups if one["mean"] is not None]
    if not shown:
        return ""
    low, high = _span([0.0, *(value for one in shown for value in _extent(one))])
    height = len(shown) * _BAR + _TOP + 22

    def x(value: float) -> float:
        return _NAMES + (value - low) / (high - low) * (WIDTH - _NAMES - 48)

    parts = []
    for tick in ticks(low, high):
        parts.append(f'<g class="grid">{_stroke(x(tick), _TOP, x(tick), height - 22, 1)}</g>')
        parts.append(_text(x(tick), height - 6, f"{tick:g}", "middle"))
    for number, one in enumerate(shown):
        middle = _TOP + (number + 0.5) * _BAR
        left, right = sorted((x(0.0), x(one["mean"])))
        parts.append(_text(_NAMES - 8, middle + 4, _short(str(one["key"])), "end"))
        parts.append(
            f'<g class="c{colour % 8}"><rect x="{left:.1f}" y="{middle - 6:.1f}" width="{right - left:.1f}" '
            f'height="12" fill="currentColor" opacity="0.55"><title>{escape(_said(one))}</title></rect>'
            f"{_stroke(x(min(_extent(one))), middle, x(max(_extent(one))), middle, 2)}</g>"
        )
        parts.append(_text(WIDTH - 4, middle + 4, f"{one['mean']:.1f}", "end"))
    return _svg(height, f"{title}; {unit}", parts)


def ticks(low: float, high: float) -> list[float]:
    """Three to eight round numbers from `low` to `high`.

    >>> ticks(-1.2, 9.0)
    [0.0, 2.0, 4.0, 6.0, 8.0]
    """
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough)
    first = math.ceil(low / step - 1e-9)
    return [number * step + 0.0 for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _extent(one: Group) -> tuple[float, ...]:
    """Mean and interval, where there is one."""
    return tuple(float(one[name]) for name in ("mean", "low", "high") if one[name] is not None)


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = max(high - low, 1.0) * 0.06
    return low - room, high + room


def _said(one: Group) -> str:
    interval = "" if one["low"] is None else f", {one['low']:.2f} to {one['high']:.2f}"
    return f"{one['key']}: {one['mean']:.2f}{interval}, {one['count']} answers"


def _short(name: str) -> str:
    return name if len(name) <= 30 else name[:29] + "…"


def _horizontal(y: float, tick: float) -> str:
    return (
        f'<g class="grid">{_stroke(_LEFT, y, WIDTH - _RIGHT, y, 1)}</g>'
        f"{_text(_LEFT - 8, y + 4, f'{tick:g}', 'end')}"
    )


def _stroke(x1: float, y1: float, x2: float, y2: float, width: float) -> str:
    place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {place} stroke="currentColor" stroke-width="{width:g}"/>'


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _svg(height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title, quote=True)}">'
        f"{''.join(parts)}</svg>"
    )
