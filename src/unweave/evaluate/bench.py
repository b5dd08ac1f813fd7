"""`make bench`: quality, speed and memory in one table, every system on the same mixtures in one run.

Run it as ``python -m unweave.evaluate.bench --data ROOT`` with ROOT the folder of the benchmarks' clips.
Without --data the clips in tests/data are mixed, which is a smoke test and no benchmark. The numbers are
those of ``unweave evaluate``, which says more.
"""

import argparse
import dataclasses
import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from unweave import hub
from unweave.evaluate.metrics import cost
from unweave.evaluate.metrics.cost import Cost
from unweave.evaluate.run import Plan, evaluate

SPEEDS = ("stft", "engine", "engine-2", "native", "resunet30")


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


def quality(root: Path, benchmark: str, count: int, model: str) -> dict[str, Summary]:
    """Every system on the first mixtures of a benchmark; the engine as a user's file goes through it."""
    found: dict[str, Summary] = {}
    plans = (("", (model,), False), (", raw", (model,), True), ("", ("ideal-mask", "half", "nothing"), False))
    for suffix, names, raw in plans:
        with tempfile.TemporaryDirectory() as out:
            plan = Plan(names, (benchmark,), root, Path(out), count, threads=2, raw=raw, baseline="")
            for one in evaluate(plan)["results"]:
                found[one["engine"] + suffix] = _summary(one)
    return found


def _summary(result: dict[str, Any]) -> Summary:
    def mean(metric: str, key: str = "mean") -> float:
        value = result["metrics"].get(metric, {}).get(key)
        return math.nan if value is None else float(value)

    def half_width(metric: str) -> float:
        return (mean(metric, "high") - mean(metric, "low")) / 2

    seconds = result["seconds_per_second"]
    return Summary(
        queries=result["queries"]["present"],
        si_sdr_improvement=mean("si_sdri"),
        si_sdr_interval=half_width("si_sdri"),
        sdr_improvement=mean("sdri"),
        wrong=mean("wrong_target"),
        absent_db=mean("attenuation_db"),
        absent_interval=half_width("attenuation_db"),
        seconds_per_second=math.nan if seconds is None else float(seconds),
    )


def speed(what: str, model: str) -> Cost:
    """What 10 s of mono audio cost on 2 threads, in a process of its own."""
    if what in ("stft", "resunet30"):
        return cost.measure(f"{cost.__name__}:{'stft_round_trip' if what == 'stft' else what}")
    queries, native_rate = 2 if what == "engine-2" else 1, 32_000 if what == "native" else 0
    return cost.measure(arguments=[model, queries, native_rate])


def _plain(one: Summary) -> dict[str, float | None]:
    """Numbers as JSON has them: there is no NaN."""
    values: dict[str, float] = dataclasses.asdict(one)
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _print(console: Console, name: str, found: dict[str, Summary]) -> None:
    table = Table(title=name, title_justify="left")
    for column in ("system", "SI-SDRi dB", "SDRi dB", "wrong target", "absent, dB down", "s per s, query"):
        table.add_column(column, justify="left" if column == "system" else "right")
    for system, one in found.items():
        absent = "-" if math.isnan(one.absent_db) else f"{one.absent_db:.1f} ± {one.absent_interval:.1f}"
        table.add_row(
            system,
            f"{one.si_sdr_improvement:.2f} ± {one.si_sdr_interval:.2f}",
            f"{one.sdr_improvement:.2f}",
            f"{100 * one.wrong:.1f} %",
            absent,
            f"{one.seconds_per_second:.4f}",
        )
    console.print(table)


def _print_costs(console: Console, speeds: dict[str, Cost]) -> None:
    table = Table(title="cost on 2 threads, 10 s of mono audio, median of 6", title_justify="left")
    for column in ("what", "s per s", "peak MB", "start-up s", "parameters", "multiply-adds per s"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for what, one in speeds.items():
        table.add_row(
            what,
            f"{one.seconds_per_second:.4f}",
            f"{one.megabytes:.0f}",
            f"{one.start_up:.1f}",
            f"{one.parameters / 1e6:.2f} M",
            f"{one.multiply_adds / 1e9:.2f} G",
        )
    console.print(table)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of the clips; default: tests/data")
    parser.add_argument("--benchmarks", default="seen-2,unseen-2", help="names or files, with commas")
    parser.add_argument("--count", type=int, default=300, help="mixtures of each, from its first on")
    parser.add_argument("--model", default=hub.DEFAULT)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    console = Console(stderr=options.json)
    root = options.data or Path("tests/data")
    report: dict[str, object] = {}
    for name in options.benchmarks.split(",") if options.data else ["tiny"]:
        found = quality(root, name, options.count, options.model)
        report[name] = {system: _plain(one) for system, one in found.items()}
        _print(console, f"{name}: the first {options.count} mixtures, or all", found)
    speeds = {what: speed(what, options.model) for what in SPEEDS}
    _print_costs(console, speeds)
    if options.json:
        print(json.dumps(report | {"speed": {what: dataclasses.asdict(one) for what, one in speeds.items()}}))


if __name__ == "__main__":
    main()
