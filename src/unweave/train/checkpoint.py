"""Checkpoints: tensors in one safetensors file, numbers in its header; written whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from unweave.errors import ModelError

NAME = "checkpoint.safetensors"


def save(
    folder: Path,
    model: nn.Module,
    average: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    facts: dict[str, Any],
) -> None:
    """Replace the checkpoint of `folder`; a kill at any moment leaves the old one or the new one."""
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"average/{name}": tensor for name, tensor in average.items()}
    for number, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{number}/{key}": value for key, value in state.items()}
    part = folder / f".{NAME}.part"
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, part, {"facts": json.dumps(facts)}
    )
    with part.open("rb+") as written:
        os.fsync(written.fileno())
    part.replace(folder / NAME)


def load(
    folder: Path, model: nn.Module, average: dict[str, Tensor], optimiser: torch.optim.Optimizer
) -> dict[str, Any]:
    """Restore model, running average and optimiser in place, and give the facts saved beside them.

    Raises:
        ModelError: no checkpoint, a damaged one, or one of another network.
    """
    path = folder / NAME
    if not path.exists():
        raise ModelError(f"no checkpoint in {str(folder)!r} to resume from; leave out --resume to start anew")
    try:
        with safe_open(path, framework="pt") as opened:
            facts: dict[str, Any] = json.loads((opened.metadata() or {})["facts"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        model.load_state_dict(_under("model/", tensors), strict=True)
    except (SafetensorError, RuntimeError, KeyError) as error:
        raise ModelError(f"{path} is damaged or of another network: {error}") from error
    average.update(
        {name: tensor.to(average[name].device) for name, tensor in _under("average/", tensors).items()}
    )
    blank = optimiser.state_dict()
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _under("optimiser/", tensors).items():
        number, key = name.split("/")
        states.setdefault(int(number), {})[key] = tensor
    optimiser.load_state_dict({"state": states, "param_groups": blank["param_groups"]})
    return facts


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
