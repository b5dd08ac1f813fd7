"""From rows to one document: means with intervals, also by label, SNR and number of sources; best and worst.

The document is plain JSON, `results.json`; `report.page` draws it. The number of its schema changes with it.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from unweave.evaluate import statistics
from unweave.evaluate.rows import Row, unpacked
from unweave.evaluate.sets import METRICS

SCHEMA = 1
HEADLINE = "si_sdri"  # what groups, plots and ranks are made of
SHOWN = 10  # best and worst answers each, at most

Json = dict[str, Any]


def result(rows: Sequence[Row], seed: int) -> Json:
    """All that is said of one engine on one benchmark.

    Args:
        rows: of whole items, in the order of the benchmark.
        seed: of the intervals.
    """
    there = [row for row in rows if row["present"]]
    ranked = sorted(
        (row for row in there if row["metrics"].get(HEADLINE) is not None),
        key=lambda row: (-row["metrics"][HEADLINE], row["item"], row["query"]),
    )
    shown = min(SHOWN, max(1, len(ranked) // 2))  # of a few, none is both
    first = [row for row in rows if row["query"] == 0]
    engine = sum(row["seconds"]["engine"] for row in first)
    spent = sum(sum(row["seconds"].values()) for row in first)
    return {
        "items": len(first),
        "queries": {"present": len(there), "absent": len(rows) - len(there)},
        "metrics": {name: summary(rows, name, seed) for name in METRICS if _measured(rows, name)},
        "frechet_audio_distance": _number(_distance(there)),
        "presence_auroc": _number(_auroc(rows)),
        "seconds_per_second": _number(_seconds_per_second(first)),
        "engine_share": _number(engine / spent if spent else math.nan),
        "by_label": _groups(there, lambda row: row["label"], seed),
        "by_snr": _groups(there, _snr_bin(there), seed),
        "by_sources": _groups(there, lambda row: row["sources"], seed),
        "best": [_ranked(row) for row in ranked[:shown]],
        "worst": [_ranked(row) for row in ranked[: -shown - 1 : -1]],
    }


def summary(rows: Sequence[Row], metric: str, seed: int) -> Json:
    """Mean, interval, median and counts of one metric over the answers it is about."""
    about = METRICS[metric].of
    rows = [row for row in rows if metric in row["metrics"]]
    rows = [row for row in rows if about == "all" or row["present"] == (about == "present")]
    values = [math.nan if row["metrics"][metric] is None else row["metrics"][metric] for row in rows]
    found = statistics.estimate(values, [row["item"] for row in rows], seed)
    reasons = Counter(row["undefined"][metric] for row in rows if row["metrics"][metric] is None)
    return _plain(found) | {"undefined": dict(sorted(reasons.items()))}


def document(header: Json, results: Sequence[Json]) -> Json:
    """The whole of `results.json`."""
    return {"schema": SCHEMA, **header, "level": statistics.LEVEL, "resamples": statistics.RESAMPLES} | {
        "results": list(results)
    }


def _measured(rows: Sequence[Row], metric: str) -> bool:
    about = METRICS[metric].of
    return any(
        metric in row["metrics"] and (about == "all" or row["present"] == (about == "present"))
        for row in rows
    )


def _groups(rows: Sequence[Row], key: Callable[[Row], Any], seed: int) -> list[Json]:
    """The headline metric over the rows of each key, sorted by key."""
    of_key: dict[Any, list[Row]] = {}
    for row in rows:
        if (name := key(row)) is not None:
            of_key.setdefault(name, []).append(row)
    return [{"key": name, **summary(of_key[name], HEADLINE, seed)} for name in sorted(of_key)]


def _snr_bin(rows: Sequence[Row]) -> Callable[[Row], float | None]:
    """Which bin of input SNR a row is in, named by its middle; bins are as wide as makes a dozen at most."""
    levels = [row["snr_db"] for row in rows if row["snr_db"] is not None]
    spread = max(levels) - min(levels) if levels else 0.0
    width = next((width for width in (2.0, 5.0, 10.0) if spread <= 12 * width), 20.0)

    def middle(row: Row) -> float | None:
        return None if row["snr_db"] is None else (math.floor(row["snr_db"] / width) + 0.5) * width

    return middle


def _auroc(rows: Sequence[Row]) -> float:
    """How well the level of an answer tells whether the sound is there; 0.5 is chance, NaN without both."""
    known = [row for row in rows if row["metrics"].get("attenuation_db") is not None]
    here = [-row["metrics"]["attenuation_db"] for row in known if row["present"]]
    gone = [-row["metrics"]["attenuation_db"] for row in known if not row["present"]]
    if not here or not gone:
        return math.nan
    import torch

    from unweave.evaluate.metrics.openworld import presence_auroc

    present = torch.tensor([True] * len(here) + [False] * len(gone))
    return float(presence_auroc(torch.tensor(here + gone), present))


def _distance(rows: Sequence[Row]) -> float:
    """Fréchet distance between all answers and all references, NaN where nothing was embedded."""
    embedded = [row for row in rows if "heard" in row and "true" in row]
    if len(embedded) < 2:
        return math.nan
    import torch

    from unweave.evaluate.metrics.semantic import frechet_audio_distance

    heard, true = (torch.stack([unpacked(row[name]) for row in embedded]) for name in ("heard", "true"))
    return float(frechet_audio_distance(heard, true))


def _seconds_per_second(first: Sequence[Row]) -> float:
    """Seconds of work per second of sound and query."""
    asked = sum(row["duration"] * row["queries"] for row in first)
    return sum(row["seconds"]["engine"] for row in first) / asked if asked else math.nan


def _ranked(row: Row) -> Json:
    return {name: row[name] for name in ("item", "query", "text", "label", "sources", "snr_db", "metrics")}


def _plain(found: statistics.Estimate) -> Json:
    numbers: Mapping[str, float] = {name: getattr(found, name) for name in ("mean", "low", "high", "median")}
    return {name: _number(value) for name, value in numbers.items()} | {"count": found.count}


def _number(value: float) -> float | None:
    """As JSON has it: there is no NaN."""
    return round(value, 6) if math.isfinite(value) else None
