"""Recipes: one file per network, each with one `train`; a config names its recipe."""

import importlib
import json
import pkgutil
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from unweave import hub
from unweave.config import read_toml
from unweave.data.manifest import Clip, DecodedClips, cache_folder, read_manifest
from unweave.data.mixtures import MakeMixer, Mixtures
from unweave.data.shards import ShardMixer, is_sharded, read_index
from unweave.errors import OutputError, UnknownNameError, UsageError
from unweave.train import processes

if TYPE_CHECKING:
    from torch import nn

Recipe = TypeVar("Recipe")
FIRST = "opensep"  # the recipe of a config that names none


def train(config: Path, data: Path, out: Path, **options: Any) -> Path:
    """Train as the TOML file `config` says, with the recipe that it names; see `recipes.opensep.train`.

    Raises:
        UnknownNameError: no such recipe.
    """
    try:
        name = tomllib.loads(config.read_text(encoding="utf-8")).get("recipe", FIRST)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        name = FIRST  # whose strict reader says what is wrong
    known = [module.name for module in pkgutil.iter_modules(__path__)]
    if name not in known:
        raise UnknownNameError("recipe", str(name), known)
    weights: Path = importlib.import_module(f"unweave.train.recipes.{name}").train(
        config, data, out, **options
    )
    return weights


def open_run(kind: type[Recipe], config: Path, out: Path, resume: bool, steps: int | None) -> Recipe:
    """The recipe in `config`, written down in the folder `out`.

    Args:
        steps: overrides the config's, to lengthen or shorten a run that has begun.

    Raises:
        OutputError: `out` holds another run and `resume` was not asked for.
    """
    recipe: Any = read_toml(kind, config)
    if steps is not None:
        recipe = replace(recipe, loop=replace(recipe.loop, steps=steps))
    if processes.first():
        if not resume and (out / "log.jsonl").exists():
            raise OutputError(f"{out} holds a run already; resume it with --resume or choose another --out")
        out.mkdir(parents=True, exist_ok=True)
        (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1), encoding="utf-8")
    opened: Recipe = recipe
    return opened


def save_run(model: "nn.Module", out: Path, engine: str) -> Path:
    """The fp16 weights out/weights.safetensors, written by the first process; all return when it has."""
    weights = out / "weights.safetensors"
    if processes.first():
        hub.save(model, weights, engine)
    processes.wait()
    return weights


def open_mixtures(
    data: Path, sample_rate: int, seed: int, make: MakeMixer, without: Sequence[str] = ()
) -> tuple[Mixtures, Mixtures | None]:
    """Mixtures to learn from and, of other groups, to validate with, of split "train".

    Args:
        data: folder of a manifest, or of shards. Of shards each process reads its own; the last one is held
            out where there are five or more.
        seed: of the mixtures to learn from; the next one is that of the others.
        make: makes a mixer of clips.
        without: labels to leave out.

    Raises:
        UsageError: no label is left, or some are to be left out of shards, which are read as they are.
    """
    if is_sharded(data):
        if without:
            raise UsageError(
                f"{data} holds shards, which are read as they are; to leave {len(without)} labels out, give "
                f"the folder of their manifest"
            )
        shards = read_index(data)
        kept, last = (shards[:-1], shards[-1:]) if len(shards) >= 5 else (shards, [])
        place = (processes.place(), processes.count())
        learned = ShardMixer(data, kept, sample_rate, seed, make, place)
        return learned, ShardMixer(data, last, sample_rate, seed + 1, make) if last else None

    def decoded(clips: list[Clip]) -> DecodedClips:
        return DecodedClips(data, clips, sample_rate, cache_folder())

    clips = [clip for clip in read_manifest(data, "train") if clip.label not in without]
    if not clips:
        raise UsageError(f"every label of {data} is left out of training; shorten `without`")
    kept_clips, held_out = split_groups(clips)
    return make(decoded(kept_clips), seed), make(decoded(held_out), seed + 1) if held_out else None


def split_groups(clips: list[Clip]) -> tuple[list[Clip], list[Clip]]:
    """Clips to learn from, and clips to validate with: one group of every label that has five or more."""
    groups: dict[str, list[str]] = {}
    for clip in clips:
        seen = groups.setdefault(clip.label, [])
        if clip.group not in seen:
            seen.append(clip.group)
    # A group that is held out for one label is held out for all.
    out = {sorted(found)[0] for found in groups.values() if len(found) >= 5}
    return [clip for clip in clips if clip.group not in out], [clip for clip in clips if clip.group in out]
