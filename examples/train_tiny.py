"""Train a tiny separator on five shipped clips, start to finish, and use it. Minutes on two cores.

python examples/train_tiny.py [FOLDER]

It shows the way, not what the method can do: five recordings teach it those five recordings.
"""

import sys
import tempfile
from pathlib import Path

import unweave
from unweave.evaluate.metrics.signal import si_sdr_improvement
from unweave.signal.mixing import mix_at_snr
from unweave.train.recipes.opensep import train

ROOT = Path(__file__).parent.parent
out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "tiny"

weights = train(
    ROOT / "configs" / "opensep-tiny.toml",
    data=ROOT / "tests" / "data",
    out=out,
    report=lambda entry: print({name: round(value, 2) for name, value in entry.items()}),
)

dog = unweave.read(ROOT / "tests/data/dog-barking.flac").samples[:, :80_000]
rain = unweave.read(ROOT / "tests/data/rain.flac").samples[:, :80_000]
mixture, _ = mix_at_snr(dog, rain, snr_db=0)
found = unweave.extract(unweave.Audio(mixture, 32_000), "dog barking", model=str(weights))
gain = si_sdr_improvement(found.samples, dog, mixture).item()
print(f"{weights}: 'dog barking' out of rain, SI-SDR {gain:+.1f} dB over the mixture")
