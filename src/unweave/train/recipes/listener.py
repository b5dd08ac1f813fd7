"""Training of the listener: soundscapes of labelled clips, and whether any words fit them, frame by frame."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from unweave import hub
from unweave.data.manifest import Clip, DecodedClips, cache_folder, read_manifest
from unweave.data.mixtures import KINDS, PHRASES, Labels, Mixer, MixingConfig, Mixture
from unweave.encoders.minilm import MiniLM
from unweave.errors import ModelError
from unweave.language.knowledge import VECTORS, table
from unweave.models import channels_last
from unweave.models.listener import ListenerConfig, ListenerNetwork, pooled
from unweave.signal.bands import band_matrix
from unweave.signal.stft import stft
from unweave.train.loop import Batch, LoopConfig, fit
from unweave.train.recipes import open_run, split_groups
from unweave.types import Query

SCENES = MixingConfig(
    seconds=4.08, sources=(0.5, 0.3, 0.15, 0.05), alone=0.4, queries=1, low_pass=0.25, speed=0.15
)  # 256 frames of 512 samples at 32 kHz


@dataclass(frozen=True)
class ListenerRecipe:
    """One trained run."""

    recipe: str = "listener"
    model: ListenerConfig = field(default_factory=ListenerConfig)
    mixing: MixingConfig = field(default_factory=lambda: SCENES)
    start: str = ""  # weights of a separator, whose way down listens
    frozen: bool = True  # the way down stays as it is
    loop: LoopConfig = field(default_factory=LoopConfig)
    batch: int = 32  # mixtures of one update
    strangers: int = 192  # names of sounds that no clip has, asked for in every update
    text_noise: float = 0.02  # added to each of the 384 entries of a text's unit vector, about 0.05 each
    rank: float = 1.0  # weight of telling what is there from all that is not, against the cross-entropies
    kinds: float = 0.3  # weight of a kind of sound, "a bird", against a label; tags are not complete
    validation: int = 256  # mixtures of held-out training groups


def train(
    config: Path,
    data: Path,
    out: Path,
    *,
    resume: bool = False,
    steps: int | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Train as the TOML file `config` says; arguments and errors as `recipes.opensep.train`.

    Returns:
        The fp16 weights, out/weights.safetensors.
    """
    recipe = open_run(ListenerRecipe, config, out, resume, steps)
    kept, held_out = split_groups(read_manifest(data, "train"))
    learned, words = mixer_of(data, kept, recipe, 0), Words(kept)
    validation = []
    if held_out:
        unheard = mixer_of(data, held_out, recipe, 1)
        validation = [
            collate(unheard, range(first, first + recipe.batch), words, recipe, noise=0.0)
            for first in range(0, recipe.validation, recipe.batch)
        ]
    torch.manual_seed(recipe.loop.seed)  # layers draw their first weights from the global generator
    model = channels_last(ListenerNetwork(recipe.model))
    if recipe.start and not resume:  # the checkpoint holds all that came of it
        _start(model, Path(recipe.start))
    if recipe.frozen:
        model.encoder.requires_grad_(False)

    def batches(number: int) -> Batch:
        first = number * recipe.batch
        return collate(learned, range(first, first + recipe.batch), words, recipe, noise=recipe.text_noise)

    def validate(network: nn.Module) -> dict[str, float]:
        found = [step(network, batch, recipe) for batch in validation] or [{}]
        return {f"held_out/{name}": sum(float(one[name]) for one in found) / len(found) for name in found[0]}

    def learn(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return step(network, batch, recipe)

    for entry in fit(model, batches, learn, recipe.loop, out, validate=validate, resume=resume):
        if report is not None:
            report(entry)
    weights = out / "weights.safetensors"
    hub.save(model, weights, "listener")
    return weights


class Words:
    """The texts that are asked for: the wordings of every label, kinds of sounds, and names of strangers."""

    def __init__(self, clips: list[Clip]) -> None:
        encoder = MiniLM()
        self.labels = Labels([clip.label for clip in clips])
        self.kinds = sorted(frozenset[str]().union(*self.labels.kinds))
        texts = [wordings(self.labels, number) for number in range(len(self.labels.names))]
        encoder.remember([text for one in texts for text in one])
        self.of_label = [encoder.encode([Query(text) for text in one]) for one in texts]
        self.of_kind = [
            encoder.encode([Query(phrase.format(kind)) for phrase in KINDS]) for kind in self.kinds
        ]
        self.belongs = torch.tensor(
            [[kind in kinds for kind in self.kinds] for kinds in self.labels.kinds]
        ).view(len(self.labels.names), len(self.kinds))
        names = list(table())
        self.stranger = load_file(VECTORS)["names"].float()
        if len(self.stranger) != len(names):
            raise ValueError(f"{VECTORS} is not of this table; run: python -m unweave.language.knowledge")
        # A name that is near to a label is no stranger to it: it may well be heard there.
        self.near = torch.stack([(one @ self.stranger.T).amax(0) for one in self.of_label]) > 0.42

    def choose(self, draw: torch.Generator, strangers: int, noise: float) -> tuple[Tensor, Tensor]:
        """(labels + kinds + strangers, 384) texts of one update, and which strangers."""
        texts = [_one_row(one, draw) for one in (*self.of_label, *self.of_kind)]
        chosen = torch.randint(len(self.stranger), (strangers,), generator=draw)
        vectors = torch.cat([torch.stack(texts), self.stranger[chosen]])
        if noise:
            vectors = vectors + noise * torch.randn(vectors.shape, generator=draw)
        return torch.nn.functional.normalize(vectors, dim=-1), chosen


def wordings(labels: Labels, number: int) -> list[str]:
    """All ways to ask for a label: its name first, for which half of all draws go."""
    names = [labels.names[number], *labels.other_names[number]]
    told = [f"{name}: {sound}" for name in names[:2] for sound in labels.sounds_like[number][:2]]
    phrases = [phrase.format(names[0]) for phrase in PHRASES[:5]]
    return [*names, *told, *labels.sounds_like[number], *phrases]


def collate(mixer: Mixer, numbers: range, words: Words, recipe: ListenerRecipe, noise: float) -> Batch:
    """Draw mixtures and say of every text where it fits.

    Returns:
        "power", "magnitude": (B, bands, N), what `Encoder.features` takes; "texts": (Q, 384); "fits": (B, Q,
        frames) 1, 0, or NaN where it is open; "weight": (Q,), below 1 for kinds.
    """
    config = recipe.model
    draw = torch.Generator().manual_seed(mixer.seed * 7_919 + numbers.start)
    texts, chosen = words.choose(draw, recipe.strangers if noise else 0, noise)
    power, magnitude, rows = [], [], []
    bands = band_matrix(config.encoder.fft_size // 2 + 1, config.encoder.bands)
    size = bands.sum(1)[:, None]
    for item in map(mixer.draw, numbers):
        heard = heard_of(item, config)
        power.append(bands @ heard.square() / size)
        magnitude.append(bands @ heard / size)
        labels = torch.tensor([words.labels.number[mixer.labels.names[label]] for label in item.labels])
        rows.append(_fits(labels, active(item.sources, config), words, chosen))
    weight = torch.ones(len(texts))
    weight[len(words.of_label) :][: len(words.kinds)] = recipe.kinds
    return {
        "power": torch.stack(power),
        "magnitude": torch.stack(magnitude),
        "texts": texts,
        "fits": torch.stack(rows),
        "weight": weight,
    }


def heard_of(item: Mixture, config: ListenerConfig) -> Tensor:
    """(F, N) magnitudes of a mixture, N a multiple of the encoder's stride."""
    encoder = config.encoder
    spectrum = stft(item.sources.sum(0), encoder.fft_size, encoder.hop).abs()
    if item.cutoff_hz:
        above = torch.arange(len(spectrum)) * encoder.sample_rate / encoder.fft_size - item.cutoff_hz
        spectrum = spectrum * torch.sigmoid(-above / 100)[:, None]
    return spectrum[:, : spectrum.shape[1] // encoder.stride * encoder.stride]


def active(sources: Tensor, config: ListenerConfig) -> Tensor:
    """When each source is heard: within 30 dB of its own loudest frame and 15 dB of the mixture.

    Args:
        sources: (K, T).

    Returns:
        (K, frames) 1, 0, or NaN for 10 dB below that, where it is open.
    """
    span = config.stride * config.encoder.hop
    spectra = 1 + sources.shape[1] // config.encoder.hop
    frames = spectra // config.encoder.stride * config.encoder.stride // config.stride
    padded = torch.nn.functional.pad(sources, (0, max(0, frames * span - sources.shape[1])))
    power = padded[:, : frames * span].unflatten(1, (frames, span)).square().mean(2)  # (K, frames)
    own = 10 * (power / power.amax(1, keepdim=True).clamp(min=1e-12)).clamp(min=1e-9).log10()
    share = 10 * (power / power.sum(0).clamp(min=1e-12)).clamp(min=1e-9).log10()
    found = torch.full_like(own, torch.nan)
    found[(own > -30) & (share > -15)] = 1.0
    found[(own < -40) | (share < -25)] = 0.0
    return found


def _fits(labels: Tensor, active: Tensor, words: Words, chosen: Tensor) -> Tensor:
    """(K,) labels that sound, (K, frames) when -> (Q, frames) of one soundscape."""
    fits = torch.zeros(len(words.of_label) + len(words.kinds) + len(chosen), active.shape[1])
    unsure = torch.cat(
        [
            words.labels.overlap[labels].any(0),
            torch.zeros(len(words.kinds), dtype=torch.bool),
            words.near[labels][:, chosen].any(0),
        ]
    )
    fits[unsure] = torch.nan
    fits[labels] = active
    for kind in words.belongs[labels].any(0).nonzero()[:, 0].tolist():
        mine = active[words.belongs[labels, kind]]
        open_here = mine.isnan().any(0) & ~(mine == 1).any(0)
        fits[len(words.of_label) + kind] = (mine == 1).any(0).float().masked_fill(open_here, torch.nan)
    return fits


def step(model: nn.Module, batch: Batch, recipe: ListenerRecipe) -> dict[str, Tensor]:
    """Losses of one batch from `collate`.

    Returns:
        "loss" to descend; "frames" and "whole", cross-entropies summed over texts; "rank", that of every
        present label against all that are absent; "first", the share of present labels that no absent one
        is ranked above.
    """
    network: Any = model
    with torch.autocast("cpu", torch.bfloat16):
        features = network.encoder.features(batch["power"], batch["magnitude"])
        if recipe.frozen:
            network.encoder.eval()
            with torch.no_grad():
                collected = network.collect(features)
        else:
            collected = network.collect(features)
        vectors = network.judge(collected)
        words = network.read(batch["texts"])
    logits = network.score(vectors.float(), (words[0].float(), words[1].float()))
    fits, weight = batch["fits"], batch["weight"]
    heard, silent = (fits == 1).any(-1), (fits == 0).all(-1)
    frames = _cross_entropy(logits, fits, weight[:, None]).mean(-1).sum(1).mean()
    total = pooled(logits)
    open_ = fits.new_full(heard.shape, torch.nan)
    there = torch.where(heard, 1.0, torch.where(silent, 0.0, open_))
    whole = _cross_entropy(total, there, weight).sum(1).mean()
    names = weight == 1
    rank, first = _rank(total[:, names], heard[:, names], silent[:, names])
    loss = frames + 0.5 * whole + recipe.rank * rank
    return {"loss": loss, "frames": frames, "whole": whole, "rank": rank, "first": first}


def _cross_entropy(logits: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """Of presence; 0 where `wanted` is NaN."""
    known = ~wanted.isnan()
    each = binary_cross_entropy_with_logits(logits, wanted.nan_to_num(), reduction="none")
    return each * known * weight


def _rank(logits: Tensor, heard: Tensor, silent: Tensor) -> tuple[Tensor, Tensor]:
    """(B, Q) logits; what sounds and what does not -> cross-entropy of every present name against all absent
    ones, and the share that comes before all of them."""
    absent = logits.masked_fill(~silent, -torch.inf)
    others = absent.logsumexp(-1, keepdim=True)
    each = torch.nn.functional.softplus(others - logits)[heard]
    first = (logits > absent.amax(-1, keepdim=True))[heard]
    return each.mean(), first.float().mean()


def mixer_of(data: Path, clips: list[Clip], recipe: ListenerRecipe, seed: int) -> Mixer:
    """Mixtures of `clips`; the seed is added to the run's."""
    decoded = DecodedClips(data, clips, recipe.model.encoder.sample_rate, cache_folder())
    return Mixer(decoded, recipe.mixing, recipe.loop.seed + seed)


def _start(model: ListenerNetwork, weights: Path) -> None:
    """Take the way down from a separator.

    Raises:
        ModelError: the file is missing or damaged, or its way down has another shape.
    """
    hub.engine_of(weights)  # says what is wrong with a file that is missing or damaged
    stored = load_file(weights)
    own = model.encoder.state_dict()
    unfit = [name for name in own if name not in stored or stored[name].shape != own[name].shape]
    if unfit:
        raise ModelError(f"{weights} cannot start this listener: it has no {unfit[0]} of that shape")
    model.encoder.load_state_dict({name: stored[name].float() for name in own})


def _one_row(rows: Tensor, draw: torch.Generator) -> Tensor:
    """The first of them in half of all draws, else any."""
    if float(torch.rand((), generator=draw)) < 0.5:
        return rows[0]
    return rows[int(torch.randint(len(rows), (), generator=draw))]
