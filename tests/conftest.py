"""What several test files need: a tiny real engine, and the command line run in this process."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def documents(self) -> list[dict[str, Any]]:
        """The JSON lines on stdout, strictly read."""

        def refuse(constant: str) -> None:
            raise ValueError(f"{constant} is not JSON")

        return [json.loads(line, parse_constant=refuse) for line in self.out.splitlines()]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a network that has learned nothing, in the real format."""
    import torch

    from unweave import hub
    from unweave.models.opensep import OpenSep, OpenSepConfig

    config = OpenSepConfig(fft_size=512, hop=256, bands=32, widths=(8, 16), heads=2, layers=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # constructors of torch draw from the global generator
        network = OpenSep(config)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    hub.save(network, path, "opensep")
    return path


@pytest.fixture(scope="session")
def ears(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a listener that has learned nothing, in the real format."""
    import torch

    from unweave import hub
    from unweave.models.listener import ListenerConfig, ListenerNetwork
    from unweave.models.opensep import OpenSepConfig

    config = ListenerConfig(OpenSepConfig(bands=64, widths=(8, 8, 8), heads=2, layers=1), dim=16)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ListenerNetwork(config)
    path = tmp_path_factory.mktemp("weights") / "ears.safetensors"
    hub.save(network, path, "listener")
    return path


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """``unweave WORDS...`` in this process."""
    from unweave.cli import main

    def run(*words: object) -> Ran:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return Ran(left.value.code, out, err)

    return run


@pytest.fixture
def sound(tmp_path: Path) -> Callable[..., Path]:
    """Write half a second of two tones to a file in `tmp_path`."""

    def write(name: str, seconds: float = 0.5, rate: int = 16_000, channels: int = 2) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        time = np.arange(int(seconds * rate)) / rate
        tones = [0.2 * np.sin(2 * np.pi * 440 * (i + 1) * time) for i in range(channels)]
        soundfile.write(path, np.stack(tones, axis=1), rate)
        return path

    return write
