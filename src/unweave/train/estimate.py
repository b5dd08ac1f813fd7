"""What a training run costs: measured here on a few updates, and on paper what it would cost elsewhere."""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from unweave.train import processes, recipes
from unweave.train.loop import Batch, Learner, LoopConfig, Part, Step


@dataclass(frozen=True)
class TrainingCost:
    """Of one mixture, in training."""

    parameters: int  # of the network
    batch: int  # mixtures of one update
    seconds: float  # of sound in a mixture
    drawing: float  # core-seconds to draw it and encode its queries
    learning: float  # seconds to learn from it: core-seconds on a processor, of the clock on a GPU
    flops: float  # operations, forward and backward, as torch counts: a multiply-add is two

    @property
    def updates_per_second(self) -> float:
        """With one core, or a core and a GPU that wait for each other."""
        return 1 / (self.batch * (self.drawing + self.learning))


@dataclass(frozen=True)
class Machine:
    """What a paper estimate assumes."""

    gpus: int = 8
    peak: float = 312e12  # FLOP/s of a GPU: dense bf16 on an A100, says its data sheet
    utilisation: float = 0.15  # share of the peak that is reached
    cores: int = 12  # that draw mixtures, for each GPU
    core_speed: float = 1.0  # of one, against the core that was measured


def measure(config: Path, data: Path, updates: int = 4) -> TrainingCost:
    """Train as `config` says for a few updates, in a folder that is thrown away.

    Processor time is counted, not the clock, so that other work on the machine does not matter much; where
    threads wait for each other that counts too. On a GPU it is the clock.

    Args:
        updates: timed, after one that is not.
    """
    found: dict[str, Any] = {}

    def loop(
        model: nn.Module,
        batches: Callable[[int, Part], Batch],
        step: Step,
        config: LoopConfig,
        out: Path,
        **_: object,
    ) -> Iterator[dict[str, Any]]:
        found.update(_measured(Learner(model, step, config), batches, updates))
        return iter(())

    with tempfile.TemporaryDirectory() as folder:
        recipes.train(config, data, Path(folder), loop=loop)
        recipe = json.loads((Path(folder) / "recipe.json").read_text(encoding="utf-8"))
    batch = int(recipe["batch"])
    return TrainingCost(
        parameters=found["parameters"],
        batch=batch,
        seconds=float(recipe["mixing"]["seconds"]),
        drawing=found["drawing"] / batch,
        learning=found["learning"] / batch,
        flops=found["flops"] / batch,
    )


def hours_on(cost: TrainingCost, mixtures: float, machine: Machine) -> tuple[float, float]:
    """Hours that so many mixtures take on a machine: to learn from them, and to draw them.

    The two go on at the same time only where cores draw ahead of the GPU; else they add up.

    >>> hours_on(TrainingCost(1, 1, 3.0, 0.01, 0.1, 1e12), 3.6e6, Machine(2, 1e14, 0.1, 5))
    (50.0, 1.0)
    """
    learning = mixtures * cost.flops / (machine.gpus * machine.peak * machine.utilisation)
    drawing = mixtures * cost.drawing / (machine.gpus * machine.cores * machine.core_speed)
    return learning / 3600, drawing / 3600


def told(cost: TrainingCost, machine: Machine) -> list[tuple[str, str]]:
    """The measurement and what it would be on a machine, for people."""
    learning, drawing = hours_on(cost, 3600, machine)  # seconds for one mixture
    here = cost.updates_per_second
    return [
        ("parameters", f"{cost.parameters / 1e6:.2f} M"),
        ("mixtures of an update", f"{cost.batch} of {cost.seconds:.3f} s"),
        ("to draw a mixture", f"{cost.drawing * 1e3:.1f} ms of a core"),
        ("to learn from it", f"{cost.learning * 1e3:.1f} ms"),
        ("FLOPs of a mixture", f"{cost.flops / 1e9:.1f} G"),
        ("FLOP/s reached", f"{cost.flops / cost.learning / 1e9:.1f} G"),
        ("here", f"{here:.3f} updates/s, {here * cost.batch:.2f} mixtures/s"),
        (
            f"on {machine.gpus} GPUs",
            f"{1 / learning:.0f} mixtures/s learned, {1 / drawing:.0f} drawn, if each GPU does "
            f"{machine.peak * machine.utilisation / 1e12:.0f} TFLOP/s beside {machine.cores} cores",
        ),
    ]


def _measured(learner: Learner, batches: Callable[[int, Part], Batch], updates: int) -> dict[str, Any]:
    """Seconds and operations of one whole batch."""

    def drawn(number: int) -> list[Batch]:
        return [batches(number, part) for part in learner.parts]

    # Fused attention is a kernel that the counter does not know on processors.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        first = drawn(0)
        before = counter.get_total_flops()
        learner.update(0, first)
        flops = counter.get_total_flops() - before
    drawing = learning = 0.0
    for number in range(1, updates + 1):
        began = time.process_time()
        batch = drawn(number)
        drawing += time.process_time() - began
        clock = time.perf_counter if processes.device().type == "cuda" else time.process_time
        began = clock()
        learner.update(number, batch)
        if processes.device().type == "cuda":
            torch.cuda.synchronize()
        learning += clock() - began
    parameters = sum(parameter.numel() for parameter in learner.model.parameters())
    return {
        "parameters": parameters,
        "drawing": drawing / updates,
        "learning": learning / updates,
        "flops": flops,
    }
