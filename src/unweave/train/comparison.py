"""What the runs of an ablation say together: means, gains, and intervals over seeds."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unweave.evaluate.statistics import Estimate, difference, estimate
from unweave.language.prompts import KINDS

MEASURED = ("si_sdri", "sdri", "wrong_target", "attenuation_db")

Row = dict[str, Any]  # one answer: item, query, and what of MEASURED has a value


@dataclass(frozen=True)
class Run:
    """One network: which variant, trained on which labels, from which seed."""

    variant: str
    labels: str  # "all" or "half"
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.variant}-{self.labels}-{self.seed}"


Found = dict[tuple[Run, str, str], list[Row]]  # answers by run, benchmark and kind of prompt


def lines(found: Found, variants: Mapping[str, str]) -> list[dict[str, Any]]:
    """Means with intervals, and what each variant gains on the one before it, or other prompts on its own.

    An interval is over seeds, all answers of a network drawn together: networks of one recipe differ from
    seed to seed, which an interval over mixtures knows nothing of. That is given as well.

    Args:
        found: all answers.
        variants: the kind of prompt that each is trained with, each building on the one before it.

    Returns:
        One dict, fit for JSON, for each row of the table.
    """
    made = []
    for labels, benchmark in dict.fromkeys((one.labels, name) for one, name, _ in found):
        before: dict[Any, Row] = {}
        for variant, own in variants.items():
            mine = _answers(found, labels, benchmark, variant, own)
            for kind in (own, *(kind for kind in KINDS if kind != own)):
                rows = _answers(found, labels, benchmark, variant, kind)
                if not rows:
                    continue
                made.append(
                    {
                        "labels": labels,
                        "benchmark": benchmark,
                        "variant": variant,
                        "prompts": kind,
                        "metrics": {metric: _mean(rows, metric) for metric in MEASURED},
                        "gain": _gain(rows, before if kind == own else mine),
                    }
                )
            before = mine
    return made


def _answers(found: Found, labels: str, benchmark: str, variant: str, kind: str) -> dict[Any, Row]:
    """Of all seeds, by seed, item and query."""
    return {
        (one.seed, row["item"], row["query"]): row
        for (one, name, asked_in), rows in found.items()
        if (one.labels, name, one.variant, asked_in) == (labels, benchmark, variant, kind)
        for row in rows
    }


def _mean(rows: Mapping[Any, Row], metric: str) -> dict[str, Any]:
    values = [row.get(metric, math.nan) for row in rows.values()]
    over_mixtures = estimate(values, [item for _, item, _ in rows])
    return _plain(estimate(values, [seed for seed, _, _ in rows]), over_mixtures)


def _gain(rows: Mapping[Any, Row], before: Mapping[Any, Row]) -> dict[str, Any] | None:
    """Of SI-SDR improvement, answer by answer."""
    keys = [key for key in rows if key in before]
    if not keys:
        return None
    ours, theirs = ([one[key].get("si_sdri", math.nan) for key in keys] for one in (rows, before))
    over_mixtures = difference(ours, theirs, [item for _, item, _ in keys])
    return _plain(difference(ours, theirs, [seed for seed, _, _ in keys]), over_mixtures)


def _plain(seeds: Estimate, mixtures: Estimate) -> dict[str, Any]:
    """As JSON has it: there is no NaN."""
    numbers = {"mean": seeds.mean, "low": seeds.low, "high": seeds.high}
    numbers |= {"low_over_mixtures": mixtures.low, "high_over_mixtures": mixtures.high}
    plain = {name: round(value, 4) if math.isfinite(value) else None for name, value in numbers.items()}
    return plain | {"answers": seeds.count}


def table(document: Mapping[str, Any]) -> str:
    """The document of an ablation as markdown."""
    asked = ("trained on", "measured on", "variant", "asked by")
    measured = ("SI-SDRi, dB", "gain, dB", "SDRi, dB", "wrong, %", "absent, dB")
    titles = [*asked, *measured]
    rows = [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
    for line in document["lines"]:
        found = line["metrics"]
        cells = [
            f"{line['labels']} labels",
            line["benchmark"],
            line["variant"],
            line["prompts"],
            _cell(found["si_sdri"]),
            _cell(line["gain"]),
            _cell(found["sdri"]),
            _cell(found["wrong_target"], 100, 1),
            _cell(found["attenuation_db"], 1, 1),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    seeds, count = len(document["seeds"]), document["count"] or "all"
    rows.append(f"\nMeans over {seeds} seeds, {count} mixtures each; in brackets 95 % intervals over seeds.")
    return "\n".join(rows) + "\n"


def _cell(found: Mapping[str, Any] | None, scale: float = 1, digits: int = 2) -> str:
    if found is None or found["mean"] is None:
        return ""
    mean, *interval = (
        None if found[key] is None else f"{scale * found[key]:.{digits}f}" for key in ("mean", "low", "high")
    )
    return f"{mean} [{interval[0]}, {interval[1]}]" if None not in interval else str(mean)
