"""Training of AudioSep's architecture on the mixtures of the OpenSep recipe, with AudioSep's own objective.

Liu et al., "Separate Anything You Describe" (2023, arXiv 2308.05037): L1 between the waveforms, AdamW, batch
norms of momentum 0.01. What is ours: the sentence vector of all-MiniLM-L6-v2 in place of CLAP's, and the
mixtures, with their many ways to ask, so that the two architectures learn from the same material.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unweave.data.mixtures import Clips, Mixer, MixingConfig, Mixtures, low_passed
from unweave.encoders.minilm import MiniLM
from unweave.evaluate.metrics.signal import si_sdr
from unweave.models import channels_last
from unweave.models.resunet import ResUNet, ResUNetConfig
from unweave.train import processes
from unweave.train.loop import Batch, Loop, LoopConfig, Part, beside, fit
from unweave.train.recipes import open_mixtures, open_run, save_run
from unweave.types import Query

CEILING_DB = 30.0  # SI-SDR is logged up to this, and down to its negative


@dataclass(frozen=True)
class AudioSepRecipe:
    """One trained run."""

    recipe: str = "audiosep"
    model: ResUNetConfig = field(default_factory=lambda: ResUNetConfig(condition_dim=MiniLM.dim))
    mixing: MixingConfig = field(default_factory=MixingConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    batch: int = 4  # mixtures of one update; each is separated once per query
    validation: int = 24  # mixtures of held-out training groups

    def __post_init__(self) -> None:
        if self.model.condition_dim != MiniLM.dim:
            raise ValueError(
                f"condition_dim must be the text encoder's, {MiniLM.dim}; got {self.model.condition_dim}"
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
    """Train as the TOML file `config` says on the manifest in `data`; as `recipes.opensep.train`.

    Returns:
        The weights, out/weights.safetensors: fp16, the statistics of batch norms in fp32.

    Raises:
        OutputError: `out` holds another run and `resume` was not asked for.
    """
    recipe = open_run(AudioSepRecipe, config, out, resume, steps)
    learned, validation, encoder = _material(recipe, data)
    torch.manual_seed(recipe.loop.seed)  # layers draw their first weights from the global generator
    model = channels_last(ResUNet(recipe.model))

    def batches(number: int, part: Part) -> Batch:
        first = number * recipe.batch
        return collate(learned, part.of(range(first, first + recipe.batch)), encoder, recipe)

    def validate(network: nn.Module) -> dict[str, float]:
        found = [step(network, beside(network, batch)) for batch in validation] or [{}]
        return {f"held_out/{name}": sum(float(one[name]) for one in found) / len(found) for name in found[0]}

    for entry in loop(model, batches, step, recipe.loop, out, validate=validate, resume=resume):
        if report is not None:
            report(entry)
    return save_run(model, out, "audiosep")


def _material(recipe: AudioSepRecipe, data: Path) -> tuple[Mixtures, list[Batch], MiniLM]:
    """What to learn from, what to validate with (none where nothing can be held out), and the encoder."""
    encoder = MiniLM()

    def mixer(clips: Clips, seed: int) -> Mixer:
        return Mixer(clips, recipe.mixing, seed)

    learned, unheard = open_mixtures(data, recipe.model.sample_rate, recipe.loop.seed, mixer)
    validation = []
    if unheard is not None and processes.first():
        validation = [
            collate(unheard, range(first, first + recipe.batch), encoder, recipe)
            for first in range(0, recipe.validation, recipe.batch)
        ]
    return learned, validation, encoder


def collate(mixer: Mixtures, numbers: range, encoder: MiniLM, recipe: AudioSepRecipe) -> Batch:
    """Draw mixtures and repeat each for its queries, B in all.

    Returns:
        "mixture", "target": (B, 1, T) linear samples, the target silent where the query is absent;
        "condition": (B, D) unit vectors.
    """
    mixtures, targets = [], []
    texts: list[str] = []
    for item in map(mixer.draw, numbers):
        sources = low_passed(item.sources, item.cutoff_hz, recipe.model.sample_rate)
        mixtures.append(sources.sum(0).expand(len(item.wanted), -1))
        targets.append(item.wanted @ sources)
        texts += item.texts
    encoder.remember(texts)
    return {
        "mixture": torch.cat(mixtures)[:, None],
        "target": torch.cat(targets)[:, None],
        "condition": encoder.encode([Query(text) for text in texts]),
    }


def step(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Losses of one batch from `collate`.

    Returns:
        "loss" to descend, the mean absolute error of the samples; "si_sdr" for the log, in dB, negative.
    """
    with torch.autocast(batch["mixture"].device.type, torch.bfloat16):
        estimate = model(batch["mixture"], batch["condition"])
    loss = (estimate - batch["target"]).abs().mean()
    scores = si_sdr(estimate.detach(), batch["target"]).clamp(-CEILING_DB, CEILING_DB)
    return {"loss": loss, "si_sdr": -scores.nanmean().nan_to_num()}  # absent queries have none
