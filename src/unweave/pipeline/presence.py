"""From what was seen and heard of a stem to the chance that its sound is there."""

import functools
import json
from dataclasses import dataclass

import torch
from torch import Tensor

from unweave import hub
from unweave.config import from_dict
from unweave.errors import ModelError, UsageError

SIGNS = ("peak share", "share", "in the stem", "in the rest", "in the mixture", "stability")


@dataclass(frozen=True)
class Presence:
    """A logistic regression over `SIGNS`, and what follows from its chance."""

    weights: tuple[float, ...]  # of the signs, in their order
    bias: float
    silence: float  # chance below which a sound that was asked for is silenced
    drop: float  # chance below which a sound that the listener suggested is dropped
    fitted: str  # with what, on what, how well

    def __post_init__(self) -> None:
        if len(self.weights) != len(SIGNS):
            raise UsageError(f"presence weighs {len(SIGNS)} signs, got {len(self.weights)} weights")

    def chance(self, signs: Tensor) -> Tensor:
        """(..., signs) -> (...) in 0..1."""
        weights = torch.tensor(self.weights, dtype=torch.float64)
        return (signs.double() @ weights + self.bias).sigmoid()


@functools.cache
def shipped() -> Presence:
    """The regression that comes along.

    Raises:
        ModelError: it is missing or damaged.
    """
    path = hub.FOLDER / "presence.json"
    try:
        return from_dict(Presence, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is missing or damaged: {error}; reinstall unweave") from error
