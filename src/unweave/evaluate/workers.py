"""Items measured one after another, here or in processes of their own; the same numbers either way.

Every worker computes with the same number of threads, however many workers there are: another number of
threads adds in another order, and the last digits of an engine's answer would depend on it.
"""

import contextlib
import functools
import itertools
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Protocol, TypeVar

import torch

from unweave.errors import UnweaveError
from unweave.evaluate import engines, rows, sets
from unweave.evaluate.benchmarks import Ask, Benchmark, Clips, Item, render, unasked
from unweave.evaluate.engines import Engine
from unweave.evaluate.metrics.cost import peak_megabytes
from unweave.evaluate.report_media import Heard, Shown, encoded, excerpt
from unweave.evaluate.rows import Row
from unweave.evaluate.systems import System
from unweave.types import Example


@dataclass(frozen=True)
class Setting:
    """What all items of a run share."""

    benchmarks: Mapping[str, Benchmark]  # by name
    clips: Mapping[str, Clips]  # of each benchmark
    metrics: tuple[str, ...]  # sets
    raw: bool  # the bare engine
    device: str
    threads: int  # of each worker
    embedder: str = "own"  # what semantic metrics listen with


@dataclass(frozen=True)
class Job:
    """One item to ask one engine about."""

    engine: Engine
    benchmark: str  # name
    index: int  # of the item


@dataclass(frozen=True)
class Outcome:
    """What came of a job."""

    job: Job
    rows: list[Row] = field(default_factory=list)
    error: str = ""  # why there are none
    loading: float | None = None  # seconds to load the engine, where this job was the first to need it
    megabytes: float = 0.0  # most memory the process has held so far


@dataclass(frozen=True)
class Hearing:
    """One answer of a job, to be heard and seen."""

    job: Job
    query: int


Task = TypeVar("Task")
Answer = TypeVar("Answer")


class Spread(Protocol):
    """Whoever works: calls a method of `Worker` for every task; answers come as they are ready."""

    def __call__(
        self, method: Callable[["Worker", Task], Answer], tasks: Iterable[Task]
    ) -> Iterator[Answer]: ...


class Worker:
    """Renders items, asks engines and measures; what was loaded stays for the next job."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._engine = functools.lru_cache(maxsize=1)(self._load)
        self._loaded: dict[Engine, float] = {}  # seconds it took, until told

    def do(self, job: Job) -> Outcome:
        """Measure one item; whatever goes wrong with it is its own outcome.

        Raises:
            ModelError, DeviceError: the engine cannot be loaded.
        """
        system = self._engine(job.engine, self.setting.benchmarks[job.benchmark].sample_rate)
        try:
            measured = self._measure(job, system)
        except Exception as error:  # an engine is anybody's code, and one item must not stop the others
            why = str(error) if isinstance(error, UnweaveError) else f"{type(error).__name__}: {error}"
            return Outcome(job, error=why or type(error).__name__, megabytes=peak_megabytes())
        return Outcome(job, measured, "", self._loaded.pop(job.engine, None), peak_megabytes())

    def hear(self, hearing: Hearing) -> tuple[Hearing, Heard, Shown]:
        """Ask again, and encode what is worth hearing.

        Raises:
            UnweaveError: whatever kept it from being done.
        """
        job, query = hearing.job, hearing.query
        benchmark = self.setting.benchmarks[job.benchmark]
        system = self._engine(job.engine, benchmark.sample_rate)
        example = render(benchmark, job.index, self.setting.clips[job.benchmark])
        with torch.inference_mode():
            estimate = system(example)[query]
        heard = excerpt(example.mixture, example.sources[query], estimate, example.sample_rate)
        return hearing, heard, encoded(heard, "FLAC")

    def _load(self, engine: Engine, sample_rate: int) -> System:
        started = time.perf_counter()
        system = engines.load(engine, sample_rate, self.setting.device, self.setting.raw)
        self._loaded[engine] = time.perf_counter() - started
        return system

    def _measure(self, job: Job, system: System) -> list[Row]:
        benchmark, clips = self.setting.benchmarks[job.benchmark], self.setting.clips[job.benchmark]
        item = benchmark.items[job.index]
        with torch.inference_mode():
            started = time.perf_counter()
            example = render(benchmark, job.index, clips)
            rest = unasked(benchmark, job.index, clips)
            rendered = time.perf_counter()
            estimates = system(example)
            answered = time.perf_counter()
            values, vectors = _values(self.setting, item, example, estimates, rest)
            ended = time.perf_counter()
        seconds = {
            "engine": round(answered - rendered, 6),
            "render": round(rendered - started, 6),
            "metrics": round(ended - answered, 6),
        }
        return [
            rows.row(_facts(item, query, example, value.pop("snr_db")) | {"seconds": seconds} | vector, value)
            for query, (value, vector) in enumerate(zip(values, vectors, strict=True))
        ]


def _values(
    setting: Setting, item: Item, example: Example, estimates: torch.Tensor, rest: torch.Tensor | None
) -> tuple[list[dict[str, float]], list[dict[str, str]]]:
    """Metrics of every answer, of those to absent queries only what needs no source; and its embeddings."""
    answers = sets.Answers(
        estimates,
        example.sources,
        example.mixture,
        rivals(item.queries),
        tuple(query.text for query in example.queries),
        example.sample_rate,
        rest,
        setting.embedder,
    )
    found: list[dict[str, float]] = [{"snr_db": math.nan} for _ in item.queries]
    vectors: list[dict[str, str]] = [{} for _ in item.queries]
    columns = [pair for name in setting.metrics for pair in sets.SETS[name](answers).items()]
    for query, ask in enumerate(item.queries):
        for metric, column in columns:
            if column.ndim == 2 and ask.sources and bool(column[query].isfinite().all()):
                vectors[query][metric] = rows.packed(column[query])
            elif column.ndim == 1 and query < len(column) and (ask.sources or _needs_no_source(metric)):
                found[query][metric] = float(column[query])
    return found, vectors


def _needs_no_source(metric: str) -> bool:
    return metric in sets.METRICS and sets.METRICS[metric].of != "present"


def rivals(queries: Sequence[Ask]) -> torch.Tensor:
    """(Q, Q) bool: whether two queries ask for sources of which none is the same, and both are there."""
    wanted = [set(query.sources) for query in queries]
    return torch.tensor([[bool(one and two and not one & two) for two in wanted] for one in wanted])


def _facts(item: Item, query: int, example: Example, snr_db: float) -> Row:
    ask = item.queries[query]
    return {
        "item": item.id,
        "query": query,
        "queries": len(item.queries),
        "text": ask.text,
        "label": ask.label,
        "present": bool(ask.sources),
        "sources": len(set(item.of)),
        "snr_db": round(snr_db, rows.DIGITS) + 0.0 if math.isfinite(snr_db) else None,
        "duration": example.mixture.shape[-1] / example.sample_rate,
    }


@contextlib.contextmanager
def team(setting: Setting, workers: int) -> Iterator[Spread]:
    """Whoever works, for the length of a block: this process, or `workers` processes of their own.

    Leaving the block by an error, Ctrl-C among them, ends the processes at once.
    """
    if workers == 1:
        before = torch.get_num_threads()
        torch.set_num_threads(setting.threads)
        worker = Worker(setting)
        try:
            yield lambda method, tasks: (method(worker, task) for task in tasks)
        finally:
            torch.set_num_threads(before)
        return
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(setting, theirs))
    try:
        with _deaf():  # what is started now ignores Ctrl-C from its first moment
            pool.submit(os.getpid)
        yield lambda method, tasks: _spread(pool, method, tasks, 2 * workers)
    except BaseException:
        ours.close()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        ours.close()


def _spread(
    pool: ProcessPoolExecutor,
    method: Callable[[Worker, Task], Answer],
    tasks: Iterable[Task],
    ahead: int,
) -> Iterator[Answer]:
    """Answers as they are ready; no more than `ahead` tasks wait or are worked at."""
    waiting: set[Future[Answer]] = set()
    coming = iter(tasks)
    try:
        while True:
            waiting |= {
                pool.submit(_call, method, task) for task in itertools.islice(coming, ahead - len(waiting))
            }
            if not waiting:
                return
            ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (one.result() for one in ready)
    except BrokenProcessPool:
        raise UnweaveError(
            "a worker ended unexpectedly, most likely for lack of memory; what was finished is kept: "
            "run the same command again with --workers 1"
        ) from None


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Ctrl-C is ignored for a moment, and by processes started in it; only the main thread can say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_here: Worker | None = None  # of this process, where it is one of several


def _start(setting: Setting, line: Connection) -> None:
    """Make this process a worker, for as long as the other end of `line` is held."""
    global _here
    threading.Thread(target=_end_with, args=(line,), daemon=True).start()
    torch.set_num_threads(setting.threads)
    _here = Worker(setting)


def _end_with(line: Connection) -> None:
    """End this process with its parent, even one that was killed and could tell nobody."""
    with contextlib.suppress(EOFError, OSError):
        line.recv_bytes()
    os._exit(1)


def _call(method: Callable[[Worker, Task], Answer], task: Task) -> Answer:
    assert _here is not None
    return method(_here, task)
