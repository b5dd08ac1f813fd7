"""Recipes: one file per network, each with one `train`; a config names its recipe."""

import importlib
import json
import pkgutil
import tomllib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from unweave.config import read_toml
from unweave.data.manifest import Clip
from unweave.errors import OutputError, UnknownNameError

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
    if not resume and (out / "log.jsonl").exists():
        raise OutputError(f"{out} holds a run already; resume it with --resume or choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1), encoding="utf-8")
    opened: Recipe = recipe
    return opened


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
