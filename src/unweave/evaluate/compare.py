"""Two reports, answer by answer: what one engine gains over another, and how sure that is."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unweave.errors import UsageError
from unweave.evaluate import rows, statistics
from unweave.evaluate.results import SCHEMA
from unweave.evaluate.run import RESULTS, ROWS
from unweave.evaluate.sets import METRICS

Answers = dict[tuple[str, int], rows.Row]  # by item and query


def compare(ours: Path, theirs: Path, seed: int = 0) -> list[dict[str, Any]]:
    """Paired differences, ours minus theirs, of every metric that both reports have.

    Engines of the same name are compared. Where a benchmark has no such pair, and each report has one engine
    on it, those two are.

    Args:
        ours, theirs: folders that `run.evaluate` filled.
        seed: of the intervals.

    Returns:
        For each benchmark, pair of engines and metric: both means over the answers that both have, the mean
        of the differences with its 95 % interval over mixtures, and how many pairs there are.

    Raises:
        UsageError: no report, one of another schema, other mixtures of the same name, or nothing in common.
    """
    found = []
    for benchmark, names, one, two in _pairs(ours, theirs):
        for metric, about in METRICS.items():
            keys = [
                key
                for key, row in one.items()
                if key in two
                and metric in row["metrics"].keys() & two[key]["metrics"].keys()
                and (about.of == "all" or row["present"] == (about.of == "present"))
            ]
            if not keys:
                continue
            values = [[_value(side[key], metric) for key in keys] for side in (one, two)]
            mixtures = [item for item, _ in keys]
            gain = statistics.difference(values[0], values[1], mixtures, seed)
            both = [pair for pair in zip(*values, strict=True) if all(map(math.isfinite, pair))]
            means = [sum(side) / len(both) for side in zip(*both, strict=True)] if both else [None, None]
            found.append(
                {
                    "benchmark": benchmark,
                    "engines": list(names),
                    "metric": metric,
                    "means": [None if mean is None else round(mean, 6) for mean in means],
                    "difference": _json(gain.mean),
                    "low": _json(gain.low),
                    "high": _json(gain.high),
                    "pairs": gain.count,
                    "undefined": gain.undefined,
                }
            )
    return found


def _pairs(ours: Path, theirs: Path) -> Iterator[tuple[str, tuple[str, str], Answers, Answers]]:
    one, two = _read(ours), _read(theirs)
    common = [name for name in one["hashes"] if name in two["hashes"]]
    for name in common:
        if one["hashes"][name] != two["hashes"][name]:
            raise UsageError(
                f"{ours} and {theirs} measured different lists called {name!r}: sha256 "
                f"{one['hashes'][name][:12]} and {two['hashes'][name][:12]}; evaluate both on the same one"
            )
    some = False
    for name in common:
        mine, others = one["rows"][name], two["rows"][name]
        pairs = [(engine, engine) for engine in mine if engine in others]
        if not pairs and len(mine) == len(others) == 1:
            pairs = [(*mine, *others)]
        for pair in pairs:
            some = True
            ears = one["embedders"][name, pair[0]], two["embedders"][name, pair[1]]
            if all(ears) and ears[0] != ears[1]:
                raise UsageError(
                    f"{ours} listened with {ears[0]!r}, {theirs} with {ears[1]!r}: what they heard does not "
                    f"compare; evaluate both with the same --embedder"
                )
            yield name, pair, mine[pair[0]], others[pair[1]]
    if not some:
        raise UsageError(
            f"{ours} has {_said(one)}, {theirs} has {_said(two)}; wanted is a benchmark in both, with the "
            f"same engine in both or one engine in each"
        )


def _read(folder: Path) -> dict[str, Any]:
    """Hashes of the benchmarks of a report, and by benchmark and engine its answers."""
    path = folder / RESULTS
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA:
            raise UsageError(
                f"{path} has schema {document['schema']}, wanted {SCHEMA}; run the evaluation again"
            )
        found: dict[str, dict[str, Answers]] = {}
        heard_by: dict[tuple[str, str], str] = {}
        for result in document["results"]:
            header, items = rows.read(
                folder / ROWS / Path(result["rows"]).name
            )  # never outside of the report
            counted = list(items.values())[: result["items"]]  # a run of more may have left more
            answers = {(row["item"], row["query"]): row for some in counted for row in some}
            heard_by[result["benchmark"], result["engine"]] = header["identity"]["embedder"]
            found.setdefault(result["benchmark"], {})[result["engine"]] = answers
        hashes = {one["name"]: one["sha256"] for one in document["benchmarks"]}
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise UsageError(
            f"{folder} holds no whole report ({error}); make one with: unweave evaluate -o {folder}"
        ) from None
    return {"hashes": hashes, "rows": found, "embedders": heard_by}


def _said(report: dict[str, Any]) -> str:
    return (
        "; ".join(f"{', '.join(engines)} on {name}" for name, engines in report["rows"].items()) or "nothing"
    )


def _value(row: rows.Row, metric: str) -> float:
    value = row["metrics"][metric]
    return math.nan if value is None else float(value)


def _json(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
