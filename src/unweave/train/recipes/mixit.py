"""Training of unconditional separation, without and with knowing the sources: MixIT and PIT.

Both hear the same sums of two mixtures. Mixture invariant training is told the two mixtures and nothing of
their sources; permutation invariant training is told every source.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unweave.data.mixtures import Clips, Mixer, MixingConfig, Mixtures, low_passed
from unweave.models.tdcn import TDCN, TDCNConfig
from unweave.train import processes
from unweave.train.loop import Batch, Loop, LoopConfig, Part, beside, fit
from unweave.train.losses import mixture_invariant_loss, permutation_loss
from unweave.train.recipes import open_mixtures, open_run, save_run

PARTS = MixingConfig(sources=(1.0,), alone=0.5, queries=1)  # one or two sources; two such are added


@dataclass(frozen=True)
class MixItRecipe:
    """One trained run."""

    recipe: str = "mixit"
    invariant: bool = True  # told two mixtures (MixIT); false: told all their sources (PIT)
    model: TDCNConfig = field(default_factory=TDCNConfig)
    mixing: MixingConfig = field(default_factory=lambda: PARTS)  # of each of the two mixtures
    loop: LoopConfig = field(default_factory=LoopConfig)
    batch: int = 8  # sums of two mixtures in one update
    validation: int = 64  # of held-out training groups

    def __post_init__(self) -> None:
        most = 2 * (1 + len(self.mixing.sources))
        if self.model.outputs < most:
            raise ValueError(
                f"two mixtures of up to {most // 2} sources want {most} outputs, got {self.model.outputs}; "
                f"raise model.outputs or shorten mixing.sources"
            )


def train(
    config: Path,
    data: Path,
    out: Path,
    *,
    resume: bool = False,
    steps: int | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
    loop: Loop = fit,
) -> Path:
    """Train as the TOML file `config` says; arguments and errors as `recipes.opensep.train`.

    Returns:
        The fp16 weights, out/weights.safetensors.
    """
    recipe = open_run(MixItRecipe, config, out, resume, steps)

    def mixer(clips: Clips, seed: int) -> Mixer:
        return Mixer(clips, recipe.mixing, seed)

    learned, unheard = open_mixtures(data, recipe.model.sample_rate, recipe.loop.seed, mixer)
    validation = []
    if unheard is not None and processes.first():
        validation = [
            collate(unheard, range(first, min(first + recipe.batch, recipe.validation)), recipe)
            for first in range(0, recipe.validation, recipe.batch)
        ]
    torch.manual_seed(recipe.loop.seed)  # layers draw their first weights from the global generator
    model = TDCN(recipe.model)

    def batches(number: int, part: Part) -> Batch:
        first = number * recipe.batch
        return collate(learned, part.of(range(first, first + recipe.batch)), recipe)

    def learn(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return step(network, batch, recipe)

    def validate(network: nn.Module) -> dict[str, float]:
        found = [step(network, beside(network, batch), recipe) for batch in validation] or [{}]
        return {f"held_out/{name}": sum(float(one[name]) for one in found) / len(found) for name in found[0]}

    for entry in loop(model, batches, learn, recipe.loop, out, validate=validate, resume=resume):
        if report is not None:
            report(entry)
    return save_run(model, out, "mixit")


def collate(mixer: Mixtures, numbers: range, recipe: MixItRecipe) -> Batch:
    """Draw pairs of mixtures.

    Returns:
        "references": (B, K, T), which sum to what is heard: the two mixtures, or, where they are told, all
        their sources, with silence in the place of those that are missing.
    """
    references = []
    for number in numbers:
        pair = [mixer.draw(2 * number), mixer.draw(2 * number + 1)]
        if recipe.invariant:
            told = torch.stack([part.sources.sum(0) for part in pair])
        else:
            told = torch.cat([part.sources for part in pair])
            told = nn.functional.pad(told, (0, 0, 0, recipe.model.outputs - len(told)))
        # One cut for both, or where the sound ends would tell which mixture it is of.
        references.append(low_passed(told, pair[0].cutoff_hz, recipe.model.sample_rate))
    return {"references": torch.stack(references)}


def step(model: nn.Module, batch: Batch, recipe: MixItRecipe) -> dict[str, Tensor]:
    """Losses of one batch from `collate`.

    Returns:
        "loss" to descend; "snr" of the references that sound and "idle" of those that do not, in dB,
        negative.
    """
    references = batch["references"]
    with torch.autocast(references.device.type, torch.bfloat16):
        outputs = model(references.sum(1))
    compare = mixture_invariant_loss if recipe.invariant else permutation_loss
    losses = compare(outputs.float(), references)
    there = references.any(-1)
    idle = losses[~there].mean() if (~there).any() else losses.new_zeros(())
    return {"loss": losses.mean(), "snr": losses[there].mean(), "idle": idle}
