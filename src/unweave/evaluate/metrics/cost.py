"""What an engine costs: time, memory, start-up, size and arithmetic, measured in a process of its own.

A fresh process is the only honest place: start-up is paid there in full, and nothing that was loaded or
allocated for another purpose counts.
"""

import dataclasses
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unweave.errors import ModelError, UsageError

_CHILD = "from unweave.evaluate.metrics import cost; cost._answer()"


@dataclass(frozen=True)
class Cost:
    """What it takes to separate mono noise, with one query where nothing else is said; lower is better."""

    seconds_per_second: float  # of work for a second of audio, median
    start_up: float  # seconds from starting Python until the first sound could be taken: imports, loading
    megabytes: float  # most memory the process has held, Python and torch included
    parameters: int  # of the networks, without those of a text encoder
    multiply_adds: float  # for a second of audio, of what `multiply_adds` counts


@dataclass(frozen=True, eq=False)
class Subject:
    """What is measured, ready to work."""

    work: Callable[[Tensor], object]  # takes a (1, T) recording
    sample_rate: int  # Hz of it
    networks: tuple[nn.Module, ...] = ()


def measure(
    subject: str = "unweave.evaluate.metrics.cost:engine",
    arguments: Sequence[str | int | float] = (),
    seconds: float = 10.0,
    threads: int = 2,
    repeats: int = 6,
) -> Cost:
    """Measure a `Subject` in a process of its own; time it when nothing else runs.

    The first call fills caches and is not timed.

    Args:
        subject: "module:function" of a function that returns the `Subject`; where nothing is said, `engine`
            with the default weights.
        arguments: of that function.
        seconds: of audio.
        threads: of torch.
        repeats: calls of which the median is taken.

    Raises:
        UsageError: a number out of range, or `subject` is not "module:function".
        ModelError: the process failed; the last line it wrote is part of the message.
    """
    if subject.count(":") != 1 or seconds <= 0 or threads < 1 or repeats < 1:
        raise UsageError(
            f"cost wants a subject 'module:function', and seconds, threads and repeats above 0; got "
            f"{subject!r}, {seconds}, {threads}, {repeats}"
        )
    order = {
        "subject": subject,
        "arguments": list(arguments),
        "seconds": seconds,
        "threads": threads,
        "repeats": repeats,
        "started": time.monotonic(),  # one clock for all processes
    }
    # The child finds what this process finds, and nothing that merely lies in the working directory.
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-P", "-c", _CHILD],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode} and said nothing"]
        raise ModelError(
            f"the process that measures {subject}{tuple(arguments)} failed: {said[-1]}; call the function "
            f"yourself to see why"
        )
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def parameters(module: nn.Module) -> int:
    """Numbers that training can change; one that is used twice counts once.

    >>> parameters(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in module.parameters())


def multiply_adds(work: Callable[..., object], *inputs: object) -> int:
    """Multiplications with an addition behind them in ``work(*inputs)``, as torch's FlopCounterMode counts.

    Counted are matrix products, convolutions and scaled dot-product attention, which are nearly all of a
    network. Not counted are Fourier transforms, normalisation, activations, sums and products of single
    elements, recurrent layers where torch has a kernel for a whole one, and whatever is done outside torch.

    Args:
        work: a module, or any callable; it is called once.
        inputs: what it is called with.

    >>> multiply_adds(nn.Linear(3, 2), torch.zeros(5, 3))
    30
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # Fused transformer layers, and fused attention on CPUs, are kernels that the counter does not know.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            work(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return int(counter.get_total_flops()) // 2  # it counts the two operations apart


def seconds_taken(work: Callable[[], object], repeats: int = 6) -> float:
    """Median seconds of `repeats` calls, after one that is not timed because it fills caches."""
    work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def peak_megabytes() -> float:
    """Most memory this process has held at once, in MB of 2**20 bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says on Linux includes the parent's memory at the fork
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 2**10
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def engine(weights: str = "", queries: int = 1, native_rate: int = 0) -> Subject:
    """An engine on the CPU, asked for one or two sounds at once.

    Args:
        weights: as `separators.load` takes it; "" for the default.
        queries: 1 or 2.
        native_rate: Hz of a recording that the engine is asked about as a user's file would be, by way of
            `pipeline.native`; 0 for the bare engine at its own rate.
    """
    from unweave import hub, separators
    from unweave.types import Query, Separator

    if queries not in (1, 2):
        raise UsageError(f"the cost of an engine is measured with 1 or 2 queries, got {queries}")
    bare = separators.load(weights or hub.DEFAULT, "cpu")
    networks = tuple(one for one in vars(bare).values() if isinstance(one, nn.Module))
    separator: Separator = bare
    if native_rate:
        from unweave.pipeline.native import Native

        separator = Native(bare, native_rate)
    asked = [Query("dog barking"), Query("rain")][:queries]
    return Subject(lambda mixture: separator.separate(mixture, asked), separator.sample_rate, networks)


def resunet30() -> Subject:
    """AudioSep's network with untrained weights, at 32 kHz: what the baseline of the field costs."""
    from unweave.models.resunet import ResUNet, ResUNetConfig

    network, condition = ResUNet(ResUNetConfig()).eval(), torch.zeros(1, 512)
    return Subject(lambda mixture: network(mixture[None], condition), 32_000, (network,))


def stft_round_trip() -> Subject:
    """The short-time Fourier transform and back, at 32 kHz: what no engine on spectra can do without."""
    from unweave.signal.stft import istft, stft

    return Subject(lambda mixture: istft(stft(mixture), mixture.shape[-1]), 32_000)


def _answer() -> None:
    """What the other process does: an order on stdin, a `Cost` as the last line of stdout."""
    order = json.load(sys.stdin)
    print(json.dumps(dataclasses.asdict(_measured(order))), flush=True)


def _measured(order: dict[str, Any]) -> Cost:
    torch.set_num_threads(order["threads"])
    module, function = order["subject"].split(":")
    subject: Subject = getattr(importlib.import_module(module), function)(*order["arguments"])
    start_up = time.monotonic() - order["started"]
    length = int(order["seconds"] * subject.sample_rate)
    noise = torch.randn(1, length, generator=torch.Generator().manual_seed(0)) * 0.1
    with torch.inference_mode():
        seconds = seconds_taken(lambda: subject.work(noise), order["repeats"])
        megabytes = peak_megabytes()  # before counting, which needs memory of its own
        count = multiply_adds(subject.work, noise)
    return Cost(
        seconds_per_second=seconds / order["seconds"],
        start_up=start_up,
        megabytes=megabytes,
        parameters=sum(parameters(network) for network in subject.networks),
        multiply_adds=count / order["seconds"],
    )
