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
from unweave.data.mixtures import KINDS, PHRASES, Labels, Mixer, MixingConfig, low_passed
from unweave.encoders.minilm import MiniLM
from unweave.errors import ModelError
from unweave.language.knowledge import VECTORS, plainly, table
from unweave.models import channels_last
from unweave.models.listener import ListenerConfig, ListenerNetwork, pooled
from unweave.signal.stft import stft
from unweave.train import processes
from unweave.train.loop import Batch, Loop, LoopConfig, Part, beside, fit
from unweave.train.losses import mean_of
from unweave.train.recipes import open_run, save_run, split_groups
from unweave.types import Query

SCENES = MixingConfig(
    seconds=2.544,
    sources=(0.5, 0.3, 0.15, 0.05),
    alone=0.4,
    queries=1,
    evenness=0.3,
    familiar=0.3,
    low_pass=0.25,
    speed=0.15,
)  # 160 frames of 512 samples at 32 kHz, less one


@dataclass(frozen=True)
class ListenerRecipe:
    """One trained run."""

    recipe: str = "listener"
    model: ListenerConfig = field(default_factory=ListenerConfig)
    mixing: MixingConfig = field(default_factory=lambda: SCENES)
    start: str = ""  # weights to learn on from: a listener's, or a separator's, which give the way down
    loop: LoopConfig = field(default_factory=LoopConfig)
    batch: int = 32  # mixtures of one update
    strangers: int = 192  # names of sounds that no clip has, asked for in every update
    text_noise: float = 0.02  # added to each of the 384 entries of a text's unit vector, about 0.05 each
    rank: float = 1.0  # weight of telling what is there from all that is not, against the cross-entropies
    kinds: float = 0.3  # weight of a kind of sound, "a bird", against a label; tags are not complete
    silenced: int = 24  # bands, at most, that are taken from a mixture next to each other, half of the time
    validation: int = 256  # mixtures of held-out training groups


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
    recipe = open_run(ListenerRecipe, config, out, resume, steps)
    kept, held_out = split_groups(read_manifest(data, "train"))
    words = Words(kept)
    torch.manual_seed(recipe.loop.seed)  # layers draw their first weights from the global generator
    model = channels_last(ListenerNetwork(recipe.model))
    mixer = mixer_of(data, kept, recipe, 0)
    whole = bool(recipe.start) and _start(model, Path(recipe.start))
    if not whole:
        model.mean, model.spread = usual(model, mixer, recipe)
    validation = []
    if held_out and processes.first():
        unheard = mixer_of(data, held_out, recipe, 1)
        validation = [
            collate(model, unheard, range(first, first + recipe.batch), words, recipe, None)
            for first in range(0, recipe.validation, recipe.batch)
        ]

    def batches(number: int, part: Part) -> Batch:
        numbers = range(number * recipe.batch, (number + 1) * recipe.batch)
        return collate(model, mixer, numbers, words, recipe, part)

    def validate(network: nn.Module) -> dict[str, float]:
        found = [step(network, beside(network, batch)) for batch in validation] or [{}]
        return {f"held_out/{name}": sum(float(one[name]) for one in found) / len(found) for name in found[0]}

    for entry in loop(model, batches, step, recipe.loop, out, validate=validate, resume=resume):
        if report is not None:
            report(entry)
    return save_run(model, out, "listener")


@torch.no_grad()
def usual(network: ListenerNetwork, mixer: Mixer, recipe: ListenerRecipe) -> tuple[Tensor, Tensor]:
    """(D,) mean and standard deviation of every feature of the way down, over 1,000 mixtures."""
    network.eval()
    found = []
    for first in range(0, 1000, recipe.batch):
        power, magnitude, _, _ = heard(network, mixer, range(first, first + recipe.batch))
        with torch.autocast("cpu", torch.bfloat16):
            levels = network.collect(network.encoder.features(power, magnitude))
        found.append(network.joined(levels).flatten(0, 1))
    network.train()
    features = torch.cat(found)
    return features.mean(0), features.std(0).clamp(min=1e-3)


@torch.no_grad()
def heard(
    network: ListenerNetwork, mixer: Mixer, numbers: range
) -> tuple[Tensor, Tensor, list[tuple[int, ...]], list[Tensor]]:
    """Mixtures as bands of power and of magnitude, (B, bands, N) each; the labels of each and, (K, frames),
    when each of them sounds."""
    config, bands = network.config, network.encoder.bands.cpu()  # clips are mixed beside a GPU
    size, stride = bands.sum(1)[:, None], config.encoder.stride
    power, magnitude, labels, when = [], [], [], []
    for item in map(mixer.draw, numbers):
        sources = low_passed(item.sources, item.cutoff_hz, config.encoder.sample_rate)
        spectrum = stft(sources.sum(0), config.encoder.fft_size, config.encoder.hop).abs()
        spectrum = spectrum[:, : spectrum.shape[1] // stride * stride]
        power.append(bands @ spectrum.square() / size)
        magnitude.append(bands @ spectrum / size)
        labels.append(item.labels)
        when.append(active(sources, config))
    return torch.stack(power), torch.stack(magnitude), labels, when


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
        # A name that is near to a label is no stranger to it: it may well be heard there. Nor is a name of a
        # label that overlaps it, or of its kind.
        self.near = torch.stack([(one @ self.stranger.T).amax(0) for one in self.of_label]) > 0.42
        row = {name: number for number, name in enumerate(names)}
        for number in range(len(self.labels.names)):
            kin = self.labels.overlap[number].nonzero()[:, 0].tolist()
            known = [name for one in kin for name in (self.labels.names[one], *self.labels.other_names[one])]
            found = [
                row[plain] for plain in map(plainly, [*known, *self.labels.kinds[number]]) if plain in row
            ]
            self.near[number, found] = True

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


def collate(
    network: ListenerNetwork,
    mixer: Mixer,
    numbers: range,
    words: Words,
    recipe: ListenerRecipe,
    part: Part | None,
) -> Batch:
    """A part of the mixtures `numbers`, and of every text whether it fits them; all parts ask for the same.

    Args:
        part: of the batch, to learn from, so texts are blurred and bands silenced; None: all of it, as it is.

    Returns:
        "power", "magnitude": (B, bands, N), see `heard`; "texts": (Q, 384); "fits": (B, Q, frames) 1, 0, or
        NaN where it is open; "weight": (Q,), below 1 for kinds; "rank": (), as in the recipe; "counts": (1,),
        how many labels sound, summed over mixtures.
    """
    draw = torch.Generator().manual_seed(mixer.seed * 7_919 + numbers[0])
    texts, chosen = words.choose(draw, recipe.strangers, recipe.text_noise if part else 0.0)
    silenced = _stripes(network.config.encoder.bands, len(numbers), recipe.silenced if part else 0, draw)
    mine = (part or Part()).of(numbers)
    power, magnitude, labels, when = heard(network, mixer, mine)
    for index, number in enumerate(mine):
        power[index, silenced[numbers.index(number)]] = 0
        magnitude[index, silenced[numbers.index(number)]] = 0
    fits = [
        _fits(
            torch.tensor([words.labels.number[mixer.labels.names[label]] for label in sounding]),
            active,
            words,
            chosen,
        )
        for sounding, active in zip(labels, when, strict=True)
    ]
    weight = torch.ones(len(texts))
    weight[len(words.of_label) :][: len(words.kinds)] = recipe.kinds
    fitting = torch.stack(fits)
    return {
        "power": power,
        "magnitude": magnitude,
        "texts": texts,
        "fits": fitting,
        "weight": weight,
        "rank": torch.tensor(recipe.rank),
        "counts": (fitting == 1).any(-1)[:, weight == 1].sum().float()[None],
    }


def _stripes(bands: int, count: int, widest: int, draw: torch.Generator) -> list[slice]:
    """For each of `count` mixtures up to `widest` bands next to each other, for half of them none."""
    found = []
    for _ in range(count if widest else 0):
        width = int(torch.randint(widest + 1, (), generator=draw))
        low = int(torch.randint(bands - width + 1, (), generator=draw))
        found.append(slice(low, low + width if float(torch.rand((), generator=draw)) < 0.5 else low))
    return found or [slice(0, 0)] * count


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


def step(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Losses of one batch from `collate`.

    Returns:
        "loss" to descend; "frames" and "whole", cross-entropies summed over texts; "rank", that of every
        present label against all that are absent; "first", the share of present labels that no absent one
        is ranked above.
    """
    network: Any = model
    with torch.autocast(batch["texts"].device.type, torch.bfloat16):
        features = network.encoder.features(batch["power"], batch["magnitude"])
        vectors = network.judge(network.collect(features))
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
    rank, first = _rank(total[:, names], heard[:, names], silent[:, names], batch["counts"][0])
    loss = frames + 0.5 * whole + batch["rank"] * rank
    return {"loss": loss, "frames": frames, "whole": whole, "rank": rank, "first": first}


def _cross_entropy(logits: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """Of presence; 0 where `wanted` is NaN."""
    known = ~wanted.isnan()
    each = binary_cross_entropy_with_logits(logits, wanted.nan_to_num(), reduction="none")
    return each * known * weight


def _rank(logits: Tensor, heard: Tensor, silent: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """(B, Q) logits; what sounds, what does not, and how many sound -> cross-entropy of every present name
    against all absent ones, and the share that comes before all of them."""
    absent = logits.masked_fill(~silent, -torch.inf)
    others = absent.logsumexp(-1, keepdim=True)
    each = torch.nn.functional.softplus(others - logits)[heard]
    first = (logits > absent.amax(-1, keepdim=True))[heard]
    return mean_of(each, count), mean_of(first.float(), count)


def mixer_of(data: Path, clips: list[Clip], recipe: ListenerRecipe, seed: int) -> Mixer:
    """Mixtures of `clips`; the seed is added to the run's."""
    decoded = DecodedClips(data, clips, recipe.model.encoder.sample_rate, cache_folder())
    return Mixer(decoded, recipe.mixing, recipe.loop.seed + seed)


def _start(model: ListenerNetwork, weights: Path) -> bool:
    """Take what there is: all of a listener, or the way down of a separator. Whether it was all.

    Raises:
        ModelError: the file is missing or damaged, or its tensors have other shapes.
    """
    whole = hub.engine_of(weights) == "listener"  # says what is wrong with a file that is missing or damaged
    stored = load_file(weights)
    part: nn.Module = model if whole else model.encoder
    own = part.state_dict()
    unfit = [name for name in own if name not in stored or stored[name].shape != own[name].shape]
    if unfit:
        raise ModelError(f"{weights} cannot start this listener: it has no {unfit[0]} of that shape")
    part.load_state_dict({name: stored[name].float() for name in own})
    return whole


def _one_row(rows: Tensor, draw: torch.Generator) -> Tensor:
    """The first of them in half of all draws, else any."""
    if float(torch.rand((), generator=draw)) < 0.5:
        return rows[0]
    return rows[int(torch.randint(len(rows), (), generator=draw))]
