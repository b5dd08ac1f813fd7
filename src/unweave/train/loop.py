"""The training loop: it alone knows optimisers, schedules, clipping, averages, logs and checkpoints.

A batch is learned in equal parts, so many at once as there are processes and so many after another as
`LoopConfig.accumulate` says. The gradient is that of the whole batch. See docs/training.md.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from unweave.errors import UsageError
from unweave.train import checkpoint, processes

Batch = dict[str, Tensor]
Step = Callable[[nn.Module, Batch], dict[str, Tensor]]  # losses by name; "loss" is descended
Items = TypeVar("Items", range, list[int])
COUNTS = "counts"  # of a batch: (K,) numbers of what the losses are means over; see `Learner.update`
Loop = Callable[..., Iterator[dict[str, Any]]]  # takes and yields what `fit` does


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast a network learns."""

    steps: int = 10_000  # updates in all
    learning_rate: float = 1e-3  # of AdamW at its highest
    weight_decay: float = 0.02
    warmup: int = 300  # updates over which the rate rises from 0
    decay: float = 0.3  # share of the updates, the last ones, over which it falls to 0
    clip: float = 5.0  # largest norm of the gradient
    accumulate: int = 1  # parts, one after another, in which a process learns its share of a batch
    average: float = 0.999  # of the running average of the weights, which is what is kept
    every: int = 250  # updates between checkpoints, and between validations
    seed: int = 0  # of the weights' first values and of every mixture

    def __post_init__(self) -> None:
        if min(self.steps, self.every, self.accumulate) < 1 or not 0 <= self.decay <= 1:
            raise ValueError("steps, every and accumulate must be 1 or more, decay between 0 and 1")


@dataclass(frozen=True)
class Part:
    """One of the equal parts in which a batch is learned."""

    index: int = 0
    count: int = 1

    def of(self, items: Items) -> Items:
        """What of a batch belongs to this part.

        Raises:
            UsageError: it cannot be parted equally.

        >>> Part(1, 3).of(range(12))
        range(4, 8)
        """
        size, left = divmod(len(items), self.count)
        if left or not size:
            raise UsageError(
                f"a batch of {len(items)} cannot be learned in {self.count} equal parts (processes times "
                f"accumulate); make the config's batch a multiple of {self.count}"
            )
        return items[self.index * size : (self.index + 1) * size]


def rate(config: LoopConfig, step: int) -> float:
    """Learning rate of update `step`, counted from 0: rise, hold, fall linearly.

    The hold lets a run be lengthened or shortened after it has started: only the fall knows the end.
    """
    rising = min(1.0, (step + 1) / max(1, config.warmup))
    falling = min(1.0, (config.steps - step) / max(1.0, config.decay * config.steps))
    return config.learning_rate * rising * falling


class Learner:
    """A network with what changes its weights; it moves to the device of this process."""

    def __init__(self, model: nn.Module, step: Step, config: LoopConfig) -> None:
        self.model, self.step, self.config = model.to(processes.device()), step, config
        processes.agree(model)
        self.optimiser = torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.average = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        parts = processes.count() * config.accumulate
        first = processes.place() * config.accumulate
        self.parts = [Part(first + more, parts) for more in range(config.accumulate)]

    def update(self, number: int, batches: list[Batch]) -> dict[str, float]:
        """Change the weights once.

        The gradient is the mean over those of all parts in all processes. That is the whole batch's where
        losses are means over mixtures, as all parts hold as many. Where they are means over something else,
        say over the queries that are present, a part with few of them would count as much as one with many.
        So the recipe puts the numbers of these things into the batch, as "counts", and takes sums divided
        by them; here the mean over all parts takes their place.

        Args:
            number: of the update, from 0.
            batches: one for each of `self.parts`.

        Returns:
            This process's share of the losses by name, the norm of the gradient as "gradient", and "skipped",
            1 where it was not finite and nothing was changed.
        """
        batches = [beside(self.model, batch) for batch in batches]
        if COUNTS in batches[0]:
            total = torch.stack([batch[COUNTS] for batch in batches]).sum(0)
            processes.add([total])
            batches = [batch | {COUNTS: total / self.parts[0].count} for batch in batches]
        self.optimiser.zero_grad(set_to_none=True)
        found: dict[str, Tensor] = {}
        for part, batch in zip(self.parts, batches, strict=True):
            # Dropout knows the global generator only; seeded, a resumed run drops what an unbroken one would.
            torch.manual_seed((self.config.seed * 1_000_003 + number) * part.count + part.index)
            losses = self.step(self.model, batch)
            (losses["loss"] / part.count).backward()
            for name, loss in losses.items():
                found[name] = found.get(name, 0.0) + loss.detach() / len(self.parts)
        norm = self._gradient()
        # One bad batch must not end hours of work, but it must be seen.
        if not math.isfinite(norm):
            return {"skipped": 1.0}
        for group in self.optimiser.param_groups:
            group["lr"] = rate(self.config, number)
        self.optimiser.step()
        self._follow(min(self.config.average, (number + 1) / (number + 10)))
        return {name: float(loss) for name, loss in found.items()} | {"gradient": norm, "skipped": 0.0}

    def _gradient(self) -> float:
        """Add up the gradients of all processes and clip them; their norm before that."""
        learned = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        for parameter in learned:
            if parameter.grad is None:  # what one part does not touch another may
                parameter.grad = torch.zeros_like(parameter)
        processes.add([parameter.grad for parameter in learned if parameter.grad is not None])
        return float(nn.utils.clip_grad_norm_(learned, self.config.clip))

    @torch.no_grad()
    def _follow(self, keep: float) -> None:
        for name, tensor in self.model.state_dict().items():
            if tensor.is_floating_point():
                self.average[name].lerp_(tensor, 1 - keep)
            else:  # a count, as batch norms keep
                self.average[name].copy_(tensor)


def beside(model: nn.Module, batch: Batch) -> Batch:
    """The batch on the device of the network."""
    device = next(model.parameters()).device
    return {name: tensor.to(device) for name, tensor in batch.items()}


def fit(
    model: nn.Module,
    batches: Callable[[int, Part], Batch],
    step: Step,
    config: LoopConfig,
    out: Path,
    *,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    resume: bool = False,
) -> Iterator[dict[str, Any]]:
    """Train `model` in place; at the end it holds the running average of its weights.

    Args:
        batches: update number, part -> that part of its batch. It must depend on nothing else, so that a
            resumed run sees the data that an unbroken one would have seen.
        step: see `Learner.update` for losses that are means over something else than mixtures.
        validate: called with the averaged weights after every `config.every` updates, in the first process.
        out: folder for checkpoint, log.jsonl and TensorBoard events, written by the first process.
        resume: go on from the checkpoint in `out`, with any number of processes; at most `config.every`
            updates are lost by a kill.

    Yields:
        In the first process, a log entry after every `config.every` updates: step, losses, "drawing" (seconds
        per update spent on making its batch), rate, seconds, validation.
    """
    out.mkdir(parents=True, exist_ok=True)
    learner = Learner(model, step, config)
    average = learner.average
    facts: dict[str, Any] = {"step": 0, "seconds": 0.0}
    if resume:
        facts = checkpoint.load(out, model, average, learner.optimiser)
    started, before, first = time.monotonic(), float(facts["seconds"]), int(facts["step"])
    sums: dict[str, float] = {}
    with ExitStack() as stack:
        log = stack.enter_context(closing(_Log(out, first))) if processes.first() else None
        for number in range(first, config.steps):
            began = time.monotonic()
            drawn = [batches(number, part) for part in learner.parts]
            sums["drawing"] = sums.get("drawing", 0.0) + time.monotonic() - began
            for name, value in learner.update(number, drawn).items():
                sums[name] = sums.get(name, 0.0) + value
            done = number + 1
            if done % config.every and done != config.steps:
                continue
            entry = _means(sums, (number % config.every) + 1)
            sums = {}
            if log is None:
                continue
            seconds = before + time.monotonic() - started
            entry |= {"step": done, "rate": rate(config, number), "seconds": seconds}
            if validate is not None:
                entry |= _with(average, model, validate)
            checkpoint.save(out, model, average, learner.optimiser, {"step": done, "seconds": seconds})
            log.write(entry)
            yield entry
    model.load_state_dict(average)


def _means(sums: Mapping[str, float], updates: int) -> dict[str, Any]:
    """Per update, over all processes."""
    total = torch.tensor(list(sums.values()), dtype=torch.float64, device=processes.device())
    processes.add([total])
    means = total / updates / processes.count()
    return dict(zip(sums, means.tolist(), strict=True))


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
