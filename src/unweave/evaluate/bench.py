"""`make bench`: quality, speed and memory in one table, every system on the same mixtures in one run.

Run it as ``python -m unweave.evaluate.bench --data ROOT`` with ROOT a folder that holds manifest.csv.
Without --data the clips in tests/data are mixed, which is a smoke test and no benchmark.
"""

import argparse
import dataclasses
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from unweave import hub, separators
from unweave.evaluate import systems
from unweave.evaluate.benchmarks import TwoSources, present, two_sources
from unweave.evaluate.run import Summary, measure, summary
from unweave.pipeline.native import Native
from unweave.types import Query

SPEEDS = ("stft", "engine", "engine-2", "native", "resunet30")
SECONDS = 10.0  # of audio, for speed


def quality(root: Path, config: TwoSources, model: str) -> dict[str, Summary]:
    """Every system on the mixtures of `config`; the engine through the same path as a user's file."""
    engine = separators.load(model, "cpu")
    native = Native(engine, config.sample_rate)
    examples = list(two_sources(root, config))
    found = {
        model: measure(systems.engine(native), examples),
        f"{model}, raw": measure(systems.engine(engine), examples),
        "ideal mask": measure(systems.ideal_ratio_mask, map(present, examples)),
        "half": measure(systems.half, examples),
        "nothing": measure(systems.nothing, examples),
    }
    return {name: summary(rows, config.seconds) for name, rows in found.items()}


def speed(what: str, model: str) -> dict[str, float]:
    """Seconds per second of mono audio at 32 kHz and peak memory in MB, in a process of its own."""
    command = [sys.executable, "-m", "unweave.evaluate.bench", "--speed", what, "--model", model]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _speed_here(what: str, model: str) -> dict[str, float]:
    torch.set_num_threads(2)
    noise = torch.randn(1, int(SECONDS * 32_000), generator=torch.Generator().manual_seed(0)) * 0.1
    work = _work(what, model, noise)
    times = []
    with torch.inference_mode():
        for _ in range(7):
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
    median = sorted(times[1:])[len(times[1:]) // 2]  # the first call also fills caches
    return {"seconds_per_second": median / SECONDS, "megabytes": _peak_megabytes()}


def _peak_megabytes() -> float:
    """Most memory this process has held at once."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says on Linux includes the parent's memory at the fork
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _work(what: str, model: str, noise: torch.Tensor) -> Callable[[], object]:
    from unweave.models.resunet import ResUNet, ResUNetConfig
    from unweave.signal.stft import istft, stft

    if what == "stft":
        return lambda: istft(stft(noise), noise.shape[-1])
    if what == "resunet30":
        network, condition = ResUNet(ResUNetConfig()).eval(), torch.randn(1, 512)
        return lambda: network(noise[None], condition)
    engine = separators.load(model, "cpu")
    queries = [Query("dog barking"), Query("rain")][: 2 if what == "engine-2" else 1]
    separator = Native(engine, 32_000) if what == "native" else engine
    return lambda: separator.separate(noise, queries)


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


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder that holds manifest.csv; default: tests/data")
    parser.add_argument("--splits", default="dev,dev_unseen", help="splits of the manifest, with commas")
    parser.add_argument("--count", type=int, default=300, help="mixtures per split")
    parser.add_argument("--low-pass", type=float, default=0.0, help="cut everything above so many Hz")
    parser.add_argument("--model", default=hub.DEFAULT)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--speed", choices=SPEEDS, help="measure one speed, print JSON, stop")
    options = parser.parse_args()
    if options.speed:
        print(json.dumps(_speed_here(options.speed, options.model)))
        return
    console = Console(stderr=options.json)
    root = options.data or Path("tests/data")
    report: dict[str, object] = {}
    for split in options.splits.split(",") if options.data else ["test"]:
        count = options.count if options.data else 40
        config = TwoSources(split=split, count=count, low_pass_hz=options.low_pass)
        found = quality(root, config, options.model)
        report[split] = {system: _plain(one) for system, one in found.items()}
        _print(
            console,
            f"{split}: {count} mixtures of two, {config.seconds:g} s, -5..5 dB, seed {config.seed}",
            found,
        )
    table = Table(title="speed on 2 threads, 10 s of mono audio, median of 6", title_justify="left")
    for column in ("what", "s per s", "peak MB"):
        table.add_column(column, justify="left" if column == "what" else "right")
    speeds = {what: speed(what, options.model) for what in SPEEDS}
    for what, one in speeds.items():
        table.add_row(what, f"{one['seconds_per_second']:.4f}", f"{one['megabytes']:.0f}")
    console.print(table)
    if options.json:
        print(json.dumps(report | {"speed": speeds}))


if __name__ == "__main__":
    main()
