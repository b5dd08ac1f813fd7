"""What can be measured, by name: published or own weights, a kind of engine, an oracle or a baseline."""

import math
from dataclasses import dataclass
from pathlib import Path

from unweave import hub, separators
from unweave.errors import UnknownNameError, UsageError
from unweave.evaluate import systems
from unweave.evaluate.systems import System
from unweave.pipeline.longform import Chunked
from unweave.pipeline.native import Native

SYSTEMS: dict[str, System] = {
    "ideal-mask": systems.ideal_ratio_mask,
    "nothing": systems.nothing,
    "half": systems.half,
}


@dataclass(frozen=True)
class Engine:
    """Something that answers queries, not loaded yet."""

    name: str  # in tables and file names
    weights: str = ""  # what `separators.load` is given; "" for a system that needs none
    sha256: str = ""  # of the weights
    parameters: int = 0  # 0: a system

    @property
    def is_system(self) -> bool:
        """Whether this is an oracle or a baseline."""
        return not self.weights


def find(name: str) -> Engine:
    """The engine that `name` stands for.

    Args:
        name: published weights ("opensep-small"), a .safetensors file, a checkpoint of `hub.FOREIGN`, a kind
            of engine ("opensep": its default weights), or a system ("ideal-mask", "nothing", "half").

    Raises:
        UnknownNameError: none of these; the nearest name is suggested.
        ModelError: the weights are missing or damaged.
    """
    if name in SYSTEMS:
        return Engine(name)
    if name in separators.available():
        published = [one for one in hub.WEIGHTS.values() if one.engine == name]
        if not published:
            raise UsageError(
                f"no weights of the engine {name!r} come along; name a .safetensors file of yours"
            )
        name = min(published, key=lambda one: one.name != hub.DEFAULT).name
    if name in hub.WEIGHTS:
        weights = hub.WEIGHTS[name]
        hub.path_of(weights)  # verifies the file
        return Engine(name, name, weights.sha256, weights.parameters)
    if name.endswith(".safetensors") or Path(name).is_file():
        hub.engine_of(Path(name))  # refuses what is no weight file
        digest = hub.file_sha256(Path(name))
        return Engine(f"{Path(name).stem}-{digest[:8]}", name, digest, _parameters(Path(name)))
    raise UnknownNameError("engine", name, [*hub.WEIGHTS, *separators.available(), *SYSTEMS])


def load(engine: Engine, sample_rate: int, device: str, raw: bool) -> System:
    """`engine`, ready to answer examples at `sample_rate` Hz.

    It is asked as a user's file would be, in windows and at the recording's own rate; `raw` asks the bare
    engine.

    Raises:
        ModelError: the weights are missing or damaged.
        DeviceError: the device is not there.
    """
    if engine.is_system:
        return SYSTEMS[engine.name]
    separator = separators.load(engine.weights, device)
    return systems.engine(separator) if raw else _as_a_file(Native(separator, sample_rate))


def _as_a_file(native: Native) -> System:
    chunked = Chunked(native)
    return lambda example: chunked.separate(example.mixture, example.queries)


def _parameters(path: Path) -> int:
    """Numbers in a weight file."""
    from safetensors import safe_open

    if path.suffix in hub.FOREIGN:
        return sum(tensor.numel() for tensor in hub.read_checkpoint(path).values())
    with safe_open(path, framework="pt") as opened:
        return sum(math.prod(opened.get_slice(name).get_shape()) for name in list(opened.keys()))
