"""Say with a clip what to listen for: one bark takes the barks out of a street."""

from pathlib import Path

import unweave
from unweave import Query

sounds = Path(__file__).parents[1] / "tests" / "data"
bark = unweave.read(sounds / "dog-barking.flac")
dog, rest = unweave.separate(sounds / "street.flac", [Query(example=bark)])
if dog.query is not None:
    print(f"heard as {dog.query.text!r}, in the street with a chance of {dog.score:.2f}")
out = Path("out/by_example")
out.mkdir(parents=True, exist_ok=True)
unweave.write(out / "dog.wav", dog.audio)
unweave.write(out / "rest.wav", rest.audio)
