"""The training loop: it alone knows optimisers, schedules, clipping, averages, logs and checkpoints."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unweave.train import checkpoint

Batch = dict[str, Tensor]
Step = Callable[[nn.Module, Batch], dict[str, Tensor]]  # losses by name; "loss" is descended


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast a network learns."""

    steps: int = 10_000  # updates in all
    learning_rate: float = 1e-3  # of AdamW at its highest
    weight_decay: float = 0.02
    warmup: int = 300  # updates over which the rate rises from 0
    decay: float = 0.3  # share of the updates, the last ones, over which it falls to 0
    clip: float = 5.0  # largest norm of the gradient
    average: float = 0.999  # of the running average of the weights, which is what is kept
    every: int = 250  # updates between checkpoints, and between validations
    seed: int = 0  # of the weights' first values and of every mixture

    def __post_init__(self) -> None:
        if self.steps < 1 or self.every < 1 or not 0 <= self.decay <= 1:
            raise ValueError("steps and every must be 1 or more, decay between 0 and 1")


def rate(config: LoopConfig, step: int) -> float:
    """Learning rate of update `step`, counted from 0: rise, hold, fall linearly.

    The hold lets a run be lengthened or shortened after it has started: only the fall knows the end.
    """
    rising = min(1.0, (step + 1) / max(1, config.warmup))
    falling = min(1.0, (config.steps - step) / max(1.0, config.decay * config.steps))
    return config.learning_rate * rising * falling


def fit(
    model: nn.Module,
    batches: Callable[[int], Batch],
    step: Step,
    config: LoopConfig,
    out: Path,
    *,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    resume: bool = False,
) -> Iterator[dict[str, Any]]:
    """Train `model` in place; at the end it holds the running average of its weights.

    Args:
        batches: update number -> its batch. It must depend on nothing else, so that a resumed run sees
            the data that an unbroken one would have seen.
        validate: called with the averaged weights after every `config.every` updates.
        out: folder for checkpoint, log.jsonl and TensorBoard events.
        resume: go on from the checkpoint in `out`; at most `config.every` updates are lost by a kill.

    Yields:
        A log entry after every `config.every` updates: step, losses, rate, seconds, validation.
    """
    out.mkdir(parents=True, exist_ok=True)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    average = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    facts = checkpoint.load(out, model, average, optimiser) if resume else {"step": 0, "seconds": 0.0}
    started, before, first = time.monotonic(), float(facts["seconds"]), int(facts["step"])
    sums: dict[str, float] = {}
    with closing(_Log(out, first)) as log:
        for number in range(first, config.steps):
            for group in optimiser.param_groups:
                group["lr"] = rate(config, number)
            losses = _update(model, step(model, batches(number)), optimiser, config.clip)
            _follow(average, model, min(config.average, (number + 1) / (number + 10)))
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value
            done = number + 1
            if done % config.every and done != config.steps:
                continue
            share = (number % config.every) + 1
            seconds = before + time.monotonic() - started
            entry = {name: value / share for name, value in sums.items()}
            entry |= {"step": done, "rate": rate(config, number), "seconds": seconds}
            if validate is not None:
                entry |= _with(average, model, validate)
            sums = {}
            checkpoint.save(out, model, average, optimiser, {"step": done, "seconds": seconds})
            log.write(entry)
            yield entry
    model.load_state_dict(average)


def _update(
    model: nn.Module, losses: dict[str, Tensor], optimiser: torch.optim.Optimizer, clip: float
) -> dict[str, float]:
    optimiser.zero_grad(set_to_none=True)
    losses["loss"].backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
    values = {name: float(loss.detach()) for name, loss in losses.items()} | {"gradient": float(norm)}
    # One bad batch must not end hours of work, but it must be seen.
    values["skipped"] = 0.0 if math.isfinite(values["gradient"]) else 1.0
    if values["skipped"]:
        return {"skipped": 1.0}
    optimiser.step()
    return values


@torch.no_grad()
def _follow(average: dict[str, Tensor], model: nn.Module, keep: float) -> None:
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            average[name].lerp_(tensor, 1 - keep)
        else:  # a counter of batch norms
            average[name].copy_(tensor)


def _with(
    average: dict[str, Tensor], model: nn.Module, validate: Callable[[nn.Module], dict[str, float]]
) -> dict[str, float]:
    """Scores of the averaged weights; the model gets its own back."""
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(average)
    model.eval()
    try:
        with torch.no_grad():
            return validate(model)
    finally:
        model.train()
        model.load_state_dict(own)


class _Log:
    """log.jsonl, without what a resumed run does again, and TensorBoard where that is installed."""

    def __init__(self, out: Path, first: int) -> None:
        path = out / "log.jsonl"
        kept = (
            [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= first]
            if (first and path.exists())
            else []
        )
        path.write_text("".join(f"{line}\n" for line in kept))
        self._file = path.open("a")
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError:
            self._board = None
        else:
            self._board = SummaryWriter(str(out), purge_step=first)

    def write(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps({key: round(value, 5) for key, value in entry.items()}) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in entry.items():
                self._board.add_scalar(name, value, entry["step"])

    def close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()
