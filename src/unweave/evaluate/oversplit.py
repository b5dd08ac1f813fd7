"""How an unconditional engine splits, apart from how it picks: too finely, not finely enough, and how well.

``python -m unweave.evaluate.oversplit --data ROOT --weights FILE [--benchmarks NAMES] [--count N] [--json]``

The engine is asked for all its outputs, and for its answers to the queries of the list. "Best" is the SI-SDR
improvement when somebody who knows the sources picks one output for each (MSi of Wisdom et al., NeurIPS
2020), "picked" that of the engine's own answers to the same sources: the difference is what picking costs,
or gains where it adds outputs up. One source alone (1S) has nothing to improve on; there both are SI-SDR.
"""

import argparse
import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from torch import Tensor

from unweave import separators
from unweave.errors import UsageError
from unweave.evaluate import benchmarks, systems
from unweave.evaluate.headline import WORST_DB
from unweave.evaluate.metrics.openworld import surplus_outputs
from unweave.evaluate.metrics.signal import si_sdr
from unweave.evaluate.statistics import Estimate, estimate
from unweave.signal.matching import match
from unweave.types import Example

BEST_DB = 100.0  # a score counts no more: all outputs together are the mixture, to rounding


@dataclass(frozen=True)
class Row:
    """What came of one mixture."""

    mixture: str
    under: float  # 1 where fewer outputs sound than sources, else 0
    equal: float
    over: float
    best: float  # dB, mean over the sources, each between `WORST_DB` and `BEST_DB`
    picked: float


def measure(
    engine: Any, data: Path, name: str, count: int | None = None, *, alone: bool = False
) -> list[Row]:
    """Rows of the first mixtures of a benchmark; all of the list where `count` is None.

    Args:
        engine: a separator that splits: it has `split`, (C, T) -> (M, C, T).
        alone: the first source of each mixture is heard alone.

    Raises:
        UsageError: the engine does not split, or a mixture has more sources than the engine outputs.
    """
    if not hasattr(engine, "split"):
        raise UsageError(
            f"a {type(engine).__name__} does not split without being asked; measure it with "
            f"`unweave evaluate`, or give weights of the engine 'mixit'"
        )
    answered = systems.engine(engine)
    rows = []
    for example, wanted in islice(_examples(data, name, alone), count):
        outputs, sources = engine.split(example.mixture), example.sources[wanted]
        best = outputs[list(match(outputs, sources, si_sdr))]
        surplus = float(surplus_outputs(outputs, sources).mean())
        rows.append(
            Row(
                mixture=example.id,
                under=float(surplus < 0),
                equal=float(surplus == 0),
                over=float(surplus > 0),
                best=_score(best, sources, None if alone else example.mixture),
                picked=_score(answered(example)[wanted], sources, None if alone else example.mixture),
            )
        )
    return rows


def _examples(data: Path, name: str, alone: bool) -> Iterator[tuple[Example, list[int]]]:
    """Mixtures, each with the numbers of queries that ask for one source of it, every source once."""
    for item, example in benchmarks.examples(benchmarks.load(name), data):
        asking: dict[int, int] = {}
        for index, ask in enumerate(item.queries):
            if len(ask.sources) == 1:
                asking.setdefault(ask.sources[0], index)
        wanted = list(asking.values())
        if alone:
            first = wanted[0]
            one = example.sources[first : first + 1]
            yield (
                dataclasses.replace(example, mixture=one[0], sources=one, queries=(example.queries[first],)),
                [0],
            )
        else:
            yield example, wanted


def _score(answers: Tensor, sources: Tensor, mixture: Tensor | None) -> float:
    values = si_sdr(answers, sources)
    if mixture is not None:
        values = values - si_sdr(mixture.expand_as(sources), sources)
    return float(values.clamp(WORST_DB, BEST_DB).mean())


def _estimates(rows: list[Row]) -> dict[str, Estimate]:
    mixtures = [row.mixture for row in rows]
    names = [field.name for field in dataclasses.fields(Row) if field.name != "mixture"]
    return {name: estimate([getattr(row, name) for row in rows], mixtures) for name in names}


def _table(found: dict[str, dict[str, Estimate]]) -> Table:
    table = Table(title="outputs and sources", title_justify="left")
    for column in ("mixtures of", "under %", "equal %", "over %", "best dB", "picked dB"):
        table.add_column(column)
    for name, estimates in found.items():
        rates = [f"{100 * estimates[rate].mean:.1f}" for rate in ("under", "equal", "over")]
        levels = [
            f"{one.mean:.2f} [{one.low:.2f}, {one.high:.2f}]"
            for one in (estimates["best"], estimates["picked"])
        ]
        table.add_row(name, *rates, *levels)
    return table


def _plain(one: Estimate) -> dict[str, float | None]:
    values = dataclasses.asdict(one)
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def main(words: Sequence[str] | None = None) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the benchmarks' clips")
    parser.add_argument("--weights", required=True, help="of the engine 'mixit': a file, or a published name")
    parser.add_argument("--benchmarks", default="seen-2,unseen-2,seen-3", help="lists, with commas")
    parser.add_argument("--count", type=int, help="mixtures of each; default: all")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(words)
    engine = separators.load(options.weights, "cpu")
    names = options.benchmarks.split(",")
    found = {
        f"{names[0]}, one alone": _estimates(
            measure(engine, options.data, names[0], options.count, alone=True)
        )
    }
    for name in names:
        found[name] = _estimates(measure(engine, options.data, name, options.count))
    Console(stderr=options.json).print(_table(found))
    if options.json:
        print(
            json.dumps(
                {name: {key: _plain(one) for key, one in each.items()} for name, each in found.items()}
            )
        )


if __name__ == "__main__":
    main()
