"""Hand in a recording, get a track for everything that is heard in it, and one with the rest."""

from pathlib import Path

import unweave
from unweave.pipeline.naming import slug

street = Path(__file__).parents[1] / "tests" / "data" / "street.flac"
out = Path("out/everything")
out.mkdir(parents=True, exist_ok=True)
for stem in unweave.separate(street):  # the most certain first, the residual last
    name = stem.query.text if stem.query else "residual"
    times = ", ".join(f"{start:.1f}-{end:.1f} s" for start, end in stem.spans) or "anywhere"
    print(f"{name:12} {stem.score:.2f}  {times}")
    unweave.write(out / f"{slug(name)}.wav", stem.audio)
