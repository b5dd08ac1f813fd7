"""Measure any system on any examples: one row per query, then one line per system."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from unweave.evaluate.metrics.signal import (
    attenuation_db,
    sdr_improvement,
    si_sdr,
    si_sdr_improvement,
)
from unweave.evaluate.systems import System
from unweave.types import Example

WORST_DB = -20.0  # SI-SDR improvement of one answer counts no less: silence would count -infinity


@dataclass(frozen=True)
class Row:
    """One answer of one system."""

    example: str
    query: str
    present: bool  # False: the sound asked for is not in the mixture
    si_sdr_improvement: float  # dB, WORST_DB at worst; NaN for an absent query
    sdr_improvement: float  # dB; NaN for an absent query
    wrong: bool  # the answer is nearer, in SI-SDR, to another source than to the one asked for
    attenuation_db: float  # energy of the answer below the mixture's
    seconds: float  # of work for all queries of the example


@dataclass(frozen=True)
class Summary:
    """Means over the answers of one system, with half-widths of 95 % intervals over mixtures."""

    queries: int  # present ones
    si_sdr_improvement: float
    si_sdr_interval: float
    sdr_improvement: float
    wrong: float  # share of present queries
    absent_db: float  # mean attenuation of absent queries, NaN where there are none
    absent_interval: float
    seconds_per_second: float  # of work per second of audio and query


def measure(system: System, examples: Iterable[Example]) -> list[Row]:
    """Ask `system` everything that `examples` ask; sources that are silent stand for absent sounds."""
    rows = []
    for example in examples:
        started = time.perf_counter()
        estimates = system(example)
        seconds = time.perf_counter() - started
        rows += [_row(example, index, estimates[index], seconds) for index in range(len(example.queries))]
    return rows


def _row(example: Example, index: int, estimate: Tensor, seconds: float) -> Row:
    source, mixture = example.sources[index], example.mixture
    there = bool(source.any())
    others = [other for i, other in enumerate(example.sources) if i != index and bool(other.any())]
    improvement = sdr = math.nan
    wrong = False
    if there:
        improvement = max(WORST_DB, float(si_sdr_improvement(estimate, source, mixture).mean()))
        sdr = float(sdr_improvement(estimate, source, mixture).mean())
        mine = float(si_sdr(estimate, source).mean())
        wrong = any(float(si_sdr(estimate, other).mean()) > mine for other in others)
    quieter = float(attenuation_db(estimate, mixture).mean())
    return Row(
        example.id, example.queries[index].text, there, improvement, sdr, wrong, min(quieter, 100.0), seconds
    )


def summary(rows: list[Row], seconds_each: float) -> Summary:
    """Means of `rows`, whose examples last `seconds_each`."""
    there = [row for row in rows if row.present]
    absent = [row for row in rows if not row.present]
    queries = len(rows) / max(1, len({row.example for row in rows}))
    return Summary(
        queries=len(there),
        si_sdr_improvement=_mean([row.si_sdr_improvement for row in there]),
        si_sdr_interval=_interval(there, "si_sdr_improvement"),
        sdr_improvement=_mean([row.sdr_improvement for row in there]),
        wrong=_mean([float(row.wrong) for row in there]),
        absent_db=_mean([row.attenuation_db for row in absent]),
        absent_interval=_interval(absent, "attenuation_db"),
        seconds_per_second=_mean([row.seconds for row in rows]) / seconds_each / queries,
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _interval(rows: list[Row], field: str) -> float:
    """Half the width of the 95 % interval of a mean; answers about one mixture are not independent."""
    of_example: dict[str, list[float]] = {}
    for row in rows:
        of_example.setdefault(row.example, []).append(getattr(row, field))
    means = torch.tensor([_mean(values) for values in of_example.values()])
    return float(1.96 * means.std() / len(means) ** 0.5) if len(means) > 1 else math.nan
