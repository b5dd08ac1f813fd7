"""Evaluate engines on benchmarks: rows that survive a killed run, one document of results and one page.

Nothing is done twice: the next run with the same engine, benchmark and settings takes up what is there.
"""

import dataclasses
import json
import os
import platform
import re
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import unweave
from unweave import separators
from unweave.errors import UnknownNameError, UsageError
from unweave.evaluate import benchmarks, engines, report, results, workers
from unweave.evaluate.benchmarks import Benchmark, Clips
from unweave.evaluate.engines import Engine
from unweave.evaluate.metrics import cost, perceptual
from unweave.evaluate.rows import Identity, RowFile, write_atomically
from unweave.evaluate.sets import DEFINITIONS, ONCE, SETS, listener

RESULTS, PAGE, ROWS = "results.json", "index.html", "rows"


@dataclass(frozen=True)
class Step:
    """How far a run has come."""

    label: str  # "opensep-small on seen-2"
    done: int  # items of these
    items: int  # in all
    done_in_run: int  # of every engine and benchmark, without those of earlier runs
    items_in_run: int


Watch = Callable[[Step], None]


@dataclass(frozen=True)
class Plan:
    """What to evaluate, and how."""

    engines: tuple[str, ...]  # names, see `engines.find`
    benchmarks: tuple[str, ...]  # names, or files made by `benchmarks.write`
    data: Path  # folder of the clips
    out: Path  # folder of the report
    count: int | None = None  # items of each benchmark, from its first on; None: all
    metrics: tuple[str, ...] = ("signal",)  # sets
    workers: int = 1  # processes; the numbers do not depend on it
    threads: int = 1  # of each worker; the last digits may depend on it
    device: str = "cpu"  # as `separators.choose_device` takes it
    raw: bool = False  # the bare engine instead of what a user's file goes through
    seed: int = 0  # of the bootstrap intervals
    command: str = ""  # that makes this run, for the report
    cache: Path | None = None  # folder of decoded clips; None: the user's cache
    embedder: str = "own"  # what semantic metrics listen with, see `sets.listener`
    baseline: str = "half"  # measured beside whatever is; "" for none


@dataclass
class _Pair:
    """One engine on one benchmark."""

    engine: Engine
    benchmark: Benchmark
    indices: list[int]  # items whose clips are there
    file: RowFile
    failed: dict[str, str] = field(default_factory=dict)  # item -> why
    asked: float = 0.0  # seconds that the engine took in this run

    @property
    def label(self) -> str:
        return f"{self.engine.name} on {self.benchmark.name}"

    @property
    def open(self) -> list[int]:
        """Items that are neither done nor failed."""
        settled = self.file.done.keys() | self.failed.keys()
        return [index for index in self.indices if self.benchmark.items[index].id not in settled]


def evaluate(plan: Plan, watch: Watch | None = None, page: bool = True) -> dict[str, Any]:
    """Measure every engine on every benchmark of `plan`.

    Writes into `plan.out`: `rows/*.jsonl`, one line for each answer, as soon as it is known; and at the end
    `results.json` and the page `index.html`. An item that fails is named in the results and does not stop the
    others; the next run tries it again.

    Args:
        plan: what and how.
        watch: called after each item.
        page: whether to make the page, for which the best and worst items are rendered again.

    Returns:
        What `results.json` says.

    Raises:
        UsageError: an unknown engine, benchmark or set of metrics, or a clip that is not the one listed.
        ModelError, DeviceError: an engine cannot be loaded.
        OutputError: the folder has rows of another run, or cannot be written.
    """
    started = time.perf_counter()
    metrics = _checked(plan)
    asked = [*plan.engines, *([plan.baseline] if plan.baseline else [])]
    chosen = list({engine.name: engine for engine in map(engines.find, asked)}.values())
    listed = _listed(plan)
    clips = {name: Clips(one, plan.data, plan.cache) for name, one in listed.items()}
    device, _ = separators.choose_device(plan.device)
    setting = workers.Setting(listed, clips, metrics, plan.raw, device, plan.threads, plan.embedder)
    with ExitStack() as stack:
        pairs = _pairs(plan, setting, chosen, stack)
        tasks = sum(len(pair.open) for pair in pairs) or results.SHOWN  # a page has to be made in any case
        spread = stack.enter_context(workers.team(setting, min(plan.workers, tasks)))
        costs = _work(pairs, spread, watch)
        told = [_engine(plan, one, setting, costs.get(one.name, {})) for one in chosen]
        done = [_result(pair, plan.seed) for pair in pairs]
        header = _header(plan, setting) | {"engines": told}
        header["seconds"] = {
            "whole_run": round(time.perf_counter() - started, 3),  # but for the page
            "in_engines": round(sum(pair.asked for pair in pairs), 3),  # of all workers together
        }
        document = results.document(header, done)
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1)
        write_atomically(plan.out / RESULTS, text + "\n")
        if page:
            heard = report.listen(document, setting, chosen, spread)
            write_atomically(plan.out / PAGE, report.page(document, heard))
    return document


def _checked(plan: Plan) -> tuple[str, ...]:
    """The sets of metrics that `plan` asks for, once what it says makes sense."""
    for name in plan.metrics:
        if name not in (*SETS, *ONCE):
            raise UnknownNameError("set of metrics", name, (*SETS, *ONCE))
    if "semantic" in plan.metrics:
        listener(plan.embedder)  # one that is not there is told of before any work
    if "perceptual" in plan.metrics:
        perceptual.check()
    for what, value in (("workers", plan.workers), ("threads", plan.threads), ("count", plan.count)):
        if value is not None and value < 1:
            raise UsageError(f"{what} wants a number from 1 on, got {value}")
    if not plan.engines or not plan.benchmarks:
        raise UsageError(
            "an engine and a benchmark are wanted, for example --engine opensep --benchmark tiny"
        )
    return tuple(name for name in SETS if name == "signal" or name in plan.metrics)


def _listed(plan: Plan) -> dict[str, Benchmark]:
    """The benchmarks of `plan` by name, each cut to its first `count` items."""
    everything = "all" in plan.benchmarks
    found: dict[str, Benchmark] = {}
    for name in benchmarks.names() if everything else dict.fromkeys(plan.benchmarks):
        is_file = name.endswith(".jsonl") or Path(name).is_file()
        one = benchmarks.read(Path(name)) if is_file else benchmarks.load(name)
        if found.setdefault(one.name, one).sha256 != one.sha256:
            raise UsageError(
                f"two different benchmarks are called {one.name!r}; evaluate one after the other"
            )
    if everything:
        found = _with_clips(found, plan.data)
    return {name: replace(one, items=one.items[: plan.count]) for name, one in found.items()}


def _with_clips(found: dict[str, Benchmark], root: Path) -> dict[str, Benchmark]:
    """Of all benchmarks, those that have any clip below `root`; warns of the others."""
    some = {name: one for name, one in found.items() if any((root / file).is_file() for file in one.files)}
    if not some:
        raise UsageError(f"no benchmark has a clip below {root}; --data wants the folder of the clips")
    if lacking := sorted(found.keys() - some.keys()):
        warnings.warn(f"left out, as none of their clips is below {root}: {', '.join(lacking)}", stacklevel=2)
    return some


def _pairs(plan: Plan, setting: workers.Setting, chosen: Sequence[Engine], stack: ExitStack) -> list[_Pair]:
    """Every engine on every benchmark; a folder with rows of another run is refused here, before any work."""
    pairs = []
    for name, benchmark in setting.benchmarks.items():
        clips = setting.clips[name]
        ready = [index for index, item in enumerate(benchmark.items) if clips.ready(item)]
        for engine in chosen:
            identity = Identity(
                unweave=unweave.__version__,
                engine=engine.name,
                weights=engine.sha256,
                benchmark=name,
                sha256=benchmark.sha256,
                metrics=setting.metrics,
                raw=plan.raw and not engine.is_system,
                device=setting.device,
                threads=plan.threads,
                embedder=plan.embedder if "semantic" in setting.metrics else "",
                definitions=DEFINITIONS,
            )
            slug = re.sub(r"[^\w.-]+", "-", engine.name)
            file = RowFile(plan.out / ROWS / f"{name}--{slug}.jsonl", identity)
            stack.callback(file.close)
            pairs.append(_Pair(engine, benchmark, ready, file))
    return pairs


def _work(pairs: Sequence[_Pair], spread: workers.Spread, watch: Watch | None) -> dict[str, dict[str, float]]:
    """Do what is open; what each engine took to load, and the memory of the processes that ran it."""
    of_job = {(pair.engine.name, pair.benchmark.name): pair for pair in pairs}
    # Each engine is loaded once and not for every benchmark; systems come first, so that an engine is still
    # there when its best and worst answers are asked for again.
    ordered = sorted(pairs, key=lambda pair: (not pair.engine.is_system, pair.engine.name))
    jobs = [workers.Job(pair.engine, pair.benchmark.name, index) for pair in ordered for index in pair.open]
    left = Counter((job.engine.name, job.benchmark) for job in jobs)
    costs: dict[str, dict[str, float]] = {}
    for outcome in spread(workers.Worker.do, jobs):
        key = outcome.job.engine.name, outcome.job.benchmark
        pair = of_job[key]
        item = pair.benchmark.items[outcome.job.index].id
        if outcome.error:
            pair.failed[item] = outcome.error
        else:
            pair.file.append(item, outcome.rows)
            pair.asked += outcome.rows[0]["seconds"]["engine"]
        cost_of = costs.setdefault(pair.engine.name, {"loading_seconds": 0.0, "worker_megabytes": 0.0})
        cost_of["loading_seconds"] = max(cost_of["loading_seconds"], outcome.loading or 0.0)
        cost_of["worker_megabytes"] = max(cost_of["worker_megabytes"], outcome.megabytes)
        left[key] -= 1
        if watch is not None:
            items = len(pair.indices)
            watch(Step(pair.label, items - left[key], items, len(jobs) - left.total(), len(jobs)))
    return costs


def _result(pair: _Pair, seed: int) -> dict[str, Any]:
    items = [item.id for item in pair.benchmark.items]
    wanted = {items[index] for index in pair.indices}
    rows = [row for row in pair.file.finish(items) if row["item"] in wanted]
    return {
        "engine": pair.engine.name,
        "benchmark": pair.benchmark.name,
        "rows": f"{ROWS}/{pair.file.path.name}",
        "failed": [{"item": item, "why": why} for item, why in sorted(pair.failed.items())],
        "left_out": [item for item in items if item not in wanted],  # for want of a clip
        **results.result(rows, seed),
    }


def _engine(
    plan: Plan, engine: Engine, setting: workers.Setting, measured: dict[str, float]
) -> dict[str, Any]:
    """What is said of one engine: its weights and what it costs; None where nothing was done in this run."""
    told = {
        "name": engine.name,
        "system": engine.is_system,
        "weights": engine.weights,
        "sha256": engine.sha256,
        "parameters": engine.parameters,
        "loading_seconds": None if engine.is_system else measured.get("loading_seconds"),
        "worker_megabytes": None if engine.is_system else measured.get("worker_megabytes"),
        "cost": None,
    }
    if "cost" in plan.metrics and not engine.is_system:
        rate = 0 if plan.raw else next(iter(setting.benchmarks.values())).sample_rate
        told["cost"] = dataclasses.asdict(
            cost.measure(arguments=(engine.weights, 1, rate), threads=plan.threads)
        )
    return told


def _header(plan: Plan, setting: workers.Setting) -> dict[str, Any]:
    said = ("name", "about", "sha256", "seed", "command", "sample_rate", "seconds")
    return {
        "tool": {"name": "unweave", "version": unweave.__version__},
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": plan.command,
        "seed": plan.seed,
        "options": {
            "count": plan.count,
            "metrics": list(setting.metrics),
            "raw": plan.raw,
            "device": setting.device,
            "workers": plan.workers,
            "threads": plan.threads,
            "embedder": listener(plan.embedder).name if "semantic" in setting.metrics else None,
        },
        "environment": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "system": platform.platform(),
            "processor": platform.machine(),
            "processors": os.cpu_count(),
        },
        "benchmarks": [
            {key: getattr(one, key) for key in said}
            | {"items": len(one.items), "clips": len(one.files), "missing": list(setting.clips[name].missing)}
            for name, one in setting.benchmarks.items()
        ],
    }
