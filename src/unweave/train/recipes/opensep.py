"""Training of the OpenSep separator: mixtures of labelled clips, asked about in words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from unweave import encoders, hub
from unweave.data.mixtures import Clips, Mixer, MixingConfig, Mixture, Mixtures
from unweave.encoders import TextEncoder
from unweave.encoders.minilm import MiniLM
from unweave.errors import ModelError
from unweave.language.prompts import PromptConfig, Prompts
from unweave.models import channels_last
from unweave.models.opensep import OpenSep, OpenSepConfig
from unweave.signal.bands import band_matrix
from unweave.signal.stft import stft
from unweave.train import processes
from unweave.train.loop import Batch, Loop, LoopConfig, Part, beside, fit
from unweave.train.losses import leak_loss, mean_of, si_sdr_loss, snr_loss
from unweave.train.recipes import open_mixtures, open_run, save_run


@dataclass(frozen=True)
class OpenSepRecipe:
    """One trained run."""

    recipe: str = "opensep"
    model: OpenSepConfig = field(default_factory=OpenSepConfig)
    mixing: MixingConfig = field(default_factory=MixingConfig)
    prompts: PromptConfig = field(default_factory=PromptConfig)
    without: tuple[str, ...] = ()  # labels left out, to be tested on as sounds never met
    loop: LoopConfig = field(default_factory=LoopConfig)
    start: str = ""  # weights to start from; tensors they lack begin at random
    batch: int = 12  # mixtures of one update
    text_noise: float = 0.3  # standard deviation added to text tokens, relative to theirs
    scale: float = 0.3  # share of the SNR in the loss of present queries; the rest does not depend on scale
    gate: float = 3.0  # weight of the cross-entropy of presence
    level_weights: tuple[float, ...] = (1.0, 1.0)  # of a query for one source, and for two or more
    leak: float = 0.1  # weight of the level of absent queries, against dB of signal-to-noise ratio
    validation: int = 128  # mixtures of held-out training groups

    def __post_init__(self) -> None:
        if not self.level_weights or min(self.level_weights) < 0 or not any(self.level_weights):
            raise ValueError(
                f"level_weights wants numbers from 0 on, one of them above; got {self.level_weights}"
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
    """Train as the TOML file `config` says on `data`, a manifest or shards; `out` gets checkpoints and logs.

    Args:
        steps: overrides the config's, to lengthen or shorten a run that has begun.
        report: called with every log entry.
        loop: what trains; another one may measure instead.

    Returns:
        The fp16 weights, out/weights.safetensors.

    Raises:
        OutputError: `out` holds another run and `resume` was not asked for.
    """
    recipe = open_run(OpenSepRecipe, config, out, resume, steps)
    return run(recipe, data, out, resume=resume, report=report, loop=loop)


def run(
    recipe: OpenSepRecipe,
    data: Path,
    out: Path,
    *,
    resume: bool = False,
    report: Callable[[dict[str, Any]], None] | None = None,
    loop: Loop = fit,
) -> Path:
    """Train as `recipe` says, in a folder of its own; else as `train`.

    Raises:
        ModelError: there is nothing in `out` to resume, or the text encoder is of another size than the
            network.
    """
    learned, validation, encoder = _material(recipe, data)
    torch.manual_seed(recipe.loop.seed)  # layers draw their first weights from the global generator
    model = channels_last(OpenSep(recipe.model))
    if recipe.start and not resume:  # the checkpoint holds all that came of it
        _start(model, Path(recipe.start))

    def batches(number: int, part: Part) -> Batch:
        first = number * recipe.batch
        numbers = part.of(range(first, first + recipe.batch))
        return collate(learned, numbers, encoder, recipe, noise=recipe.text_noise)

    def learn(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return step(network, batch, recipe)

    def validate(network: nn.Module) -> dict[str, float]:
        found = [step(network, beside(network, batch), recipe) for batch in validation] or [{}]
        return {f"held_out/{name}": sum(float(one[name]) for one in found) / len(found) for name in found[0]}

    for entry in loop(model, batches, learn, recipe.loop, out, validate=validate, resume=resume):
        if report is not None:
            report(entry)
    return save_run(model, out, "opensep")


def _material(recipe: OpenSepRecipe, data: Path) -> tuple[Mixtures, list[Batch], TextEncoder]:
    """What to learn from, what to validate with (none where nothing can be held out), and the encoder."""
    encoder = encoders.load(recipe.model.text)
    if encoder.dim != recipe.model.text_dim:
        raise ModelError(
            f"the text encoder {recipe.model.text!r} writes tokens of {encoder.dim} features, the network "
            f"reads {recipe.model.text_dim}; set text_dim to the former"
        )
    names = encoder if isinstance(encoder, MiniLM) else MiniLM()
    prompts = None if recipe.prompts.kind == "mixed" else Prompts(recipe.prompts, names).ways

    def mixer(clips: Clips, seed: int) -> Mixer:
        return Mixer(clips, recipe.mixing, seed, prompts)

    rate, seed = recipe.model.sample_rate, recipe.loop.seed
    learned, unheard = open_mixtures(data, rate, seed, mixer, recipe.without)
    validation = []
    if unheard is not None and processes.first():
        validation = [
            collate(unheard, range(first, first + recipe.batch), encoder, recipe, noise=0.0)
            for first in range(0, recipe.validation, recipe.batch)
        ]
    return learned, validation, encoder


def collate(
    mixer: Mixtures, numbers: range, encoder: TextEncoder, recipe: OpenSepRecipe, noise: float
) -> Batch:
    """Draw mixtures and reduce them to what `step` needs.

    Returns:
        "power", "magnitude": (B, bands, N) means over the bins of a band; "mixed": (B, bands, N) energies;
        "shared": (B, Q, bands, N) and "wanted": (B, Q), see `losses`; "text": (B, Q, L, D) and "known":
        (B, Q, L); "weight": (B, Q) of each query in the loss; "counts": (2,), the weight of all queries that
        are present, and how many are absent. A query with "wanted" 0 is absent.
    """
    items = [mixer.draw(number) for number in numbers]
    config = recipe.model
    bands = band_matrix(config.fft_size // 2 + 1, config.bands)
    size = bands.sum(1)[:, None]
    power, magnitude, mixed, shared, wanted = [], [], [], [], []
    for item in items:
        spectra = _cut(stft(item.sources, config.fft_size, config.hop), item, config)  # (K, F, N)
        total = spectra.sum(0)
        energy = total.real.square() + total.imag.square()
        targets = torch.view_as_complex(
            torch.einsum("qk,kfnc->qfnc", item.wanted, torch.view_as_real(spectra))
        )
        mixed.append(bands @ energy)
        power.append(mixed[-1] / size)
        magnitude.append(bands @ energy.sqrt() / size)
        shared.append(bands @ (total.real * targets.real + total.imag * targets.imag))
        wanted.append(torch.view_as_real(targets).square().sum((1, 2, 3)))
    texts = [words for item in items for words in item.texts]
    encoder.remember(texts)
    text, known = encoder.tokens(texts)
    text, known = text.unflatten(0, (len(items), -1)), known.unflatten(0, (len(items), -1))
    if noise:
        text = _blurred(text, known, noise, [mixer.seed * 7_919 + number for number in numbers])
    there = torch.stack(wanted) > 0
    sources = torch.stack([item.wanted.sum(1) for item in items]).long()  # (B, Q), 0 of what is absent
    weight = torch.tensor(recipe.level_weights)[sources.clamp(1, len(recipe.level_weights)) - 1]
    return {
        "weight": weight,
        "power": torch.stack(power),
        "magnitude": torch.stack(magnitude),
        "mixed": torch.stack(mixed),
        "shared": torch.stack(shared),
        "wanted": torch.stack(wanted),
        "text": text,
        "known": known,
        "counts": torch.stack([weight[there].sum(), (~there).sum().float()]),
    }


def _blurred(text: Tensor, known: Tensor, noise: float, seeds: Sequence[int]) -> Tensor:
    """Tokens with noise, `noise` times as strong as they vary; each mixture's depends on its seed alone."""
    blurred = text.clone()
    for mixture, mask, seed in zip(blurred, known, seeds, strict=True):
        draw = torch.Generator().manual_seed(seed)
        for tokens, real in zip(mixture, mask, strict=True):
            own = tokens[real]  # (L', D), without the padding, whose length other texts decide
            drawn = torch.randn(1 + len(own), own.shape[1], generator=draw)
            # Part of the noise is common to a text's tokens, or the mean over them would be spared it.
            tokens[real] = own + noise * own.std() * 0.5**0.5 * (drawn[:1] + drawn[1:])
    return blurred


def step(model: nn.Module, batch: Batch, recipe: OpenSepRecipe) -> dict[str, Tensor]:
    """Losses of one batch from `collate`.

    Returns:
        "loss" to descend; "si_sdr" and "snr" of present queries before the gate, in dB, negative, weighted as
        the recipe says; "leak" of absent queries after it, in dB; "gate", the cross-entropy of presence;
        "told", the share of queries whose gate is right.
    """
    network: Any = model
    with torch.autocast(batch["power"].device.type, torch.bfloat16):
        features = network.features(batch["power"], batch["magnitude"])
        logits, gate = model(features, batch["text"], batch["known"])
    mask, gate = logits.float().sigmoid(), gate.float()
    mixed = batch["mixed"][:, None].expand_as(mask)
    there = batch["wanted"] > 0
    asked = mask[there], mixed[there], batch["shared"][there], batch["wanted"][there]
    present, absent = batch["counts"]
    weight = batch["weight"][there]
    snr, si_sdr = (mean_of(weight * loss(*asked), present) for loss in (snr_loss, si_sdr_loss))
    gated = mask[~there] * gate[~there].sigmoid()[:, None, None]
    leak = mean_of(leak_loss(gated, mixed[~there]), absent)
    presence = nn.functional.binary_cross_entropy_with_logits(gate, there.float())
    told = ((gate > 0) == there).float().mean()
    loss = (1 - recipe.scale) * si_sdr + recipe.scale * snr + recipe.leak * leak + recipe.gate * presence
    return {"loss": loss, "si_sdr": si_sdr, "snr": snr, "leak": leak, "gate": presence, "told": told}


def _start(model: OpenSep, weights: Path) -> None:
    """Copy weights into a network that may have grown since; what they hold must fit it to a tensor."""
    hub.engine_of(weights)  # says what is wrong with a file that is missing or damaged
    stored = load_file(weights)
    own = model.state_dict()
    unfit = [name for name, tensor in stored.items() if name not in own or own[name].shape != tensor.shape]
    if unfit:
        raise ModelError(f"{weights} cannot start this network: it has no {unfit[0]} of that shape")
    model.load_state_dict(own | {name: tensor.float() for name, tensor in stored.items()})


def _cut(spectra: Tensor, item: Mixture, config: OpenSepConfig) -> Tensor:
    """Nothing above the cutoff: much speech was recorded at 16 kHz, which must not give it away."""
    if not item.cutoff_hz:
        return spectra
    above = torch.arange(spectra.shape[-2]) * config.sample_rate / config.fft_size - item.cutoff_hz
    return spectra * torch.sigmoid(-above / 100)[:, None]
