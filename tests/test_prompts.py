"""Prompts: four kinds of them, whom they ask, and that an answer is asked for once."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from test_chat import Reply, Server, said
from unweave.config import from_dict
from unweave.data.mixtures import Labels, descriptions
from unweave.encoders.minilm import MiniLM
from unweave.errors import ChatError, UnknownNameError, UsageError
from unweave.language.knowledge import table
from unweave.language.prompts import PromptConfig, Prompts
from unweave.types import Query

FACTS = {
    "is_sound": True,
    "range_hz": [500, 4000],
    "fundamental_hz": [],
    "tone": "noisy",
    "timbre": "dry, papery",
    "envelope": "sudden onset",
    "rhythm": "single",
    "seconds": [0.1, 1],
    "level": "quiet",
    "look_alikes": [],
}
SENTENCE = "dry papery midrange noise with sudden onset, single"


@pytest.fixture(scope="module")
def encoder() -> MiniLM:
    return MiniLM()


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Reply], Server]]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    servers: list[Server] = []

    def start(reply: Reply) -> Server:
        servers.append(Server(reply))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def test_a_name_goes_alone(encoder: MiniLM) -> None:
    prompts = Prompts(PromptConfig("name"), encoder)
    assert prompts.ways("dog barking") == ("dog barking",)
    assert prompts.of(Query(" clarinet ")) == "clarinet"


def test_the_table_tells_how_a_name_sounds_whether_or_not_it_was_trained_on(encoder: MiniLM) -> None:
    prompts = Prompts(PromptConfig("table"), encoder)
    assert prompts.ways("dog barking") == tuple(f"dog barking: {one}" for one in descriptions("dog barking"))
    assert prompts.of(Query("dog barking")) == prompts.ways("dog barking")[0]
    assert prompts.ways("clarinet") == (f"clarinet: {table()['clarinet']}",)
    assert prompts.of(Query("rain and clarinet")) == (
        f"rain: {table()['rain']} and clarinet: {table()['clarinet']}"
    )
    assert prompts.ways("qwertzuiop") == ("qwertzuiop",), "nothing is known of it"


def test_the_mixed_kind_is_what_the_shipped_weights_are_asked_in(encoder: MiniLM) -> None:
    prompts = Prompts(PromptConfig(), encoder)
    assert prompts.of(Query("dog barking")) == "dog barking"
    assert prompts.of(Query("clarinet")) == f"clarinet: {table()['clarinet']}"


@pytest.mark.parametrize("kind", ["mixed", "name", "table"])
def test_what_a_query_says_of_its_sound_goes_first(encoder: MiniLM, kind: str) -> None:
    query = Query("clarinet", sounds_like="a long low tone")
    assert Prompts(PromptConfig(kind), encoder).of(query) == "clarinet: a long low tone"


@pytest.mark.parametrize(("kind", "examples"), [("zero-shot", 0), ("five-shot", 5)])
def test_a_chat_is_asked_once_with_or_without_examples(
    serve: Any, encoder: MiniLM, kind: str, examples: int
) -> None:
    server = serve(lambda *_: said(json.dumps(FACTS)))
    config = PromptConfig(kind, f"openai:tiny@{server.address}")
    prompts = Prompts(config, encoder)
    assert prompts.of(Query("paper tearing")) == f"paper tearing: {SENTENCE}"
    assert prompts.ways("paper tearing") == (f"paper tearing: {SENTENCE}",)
    assert Prompts(config, encoder).of(Query("paper tearing")) == f"paper tearing: {SENTENCE}", "not on disk"
    assert len(server.requests) == 1
    asked = server.requests[0]["messages"][0]["content"]
    assert asked.count('{"is_sound":') == examples
    assert '"paper tearing"' in asked


def test_the_two_kinds_of_chat_are_kept_apart(serve: Any, encoder: MiniLM) -> None:
    server = serve(lambda *_: said(json.dumps(FACTS)))
    for kind in ("zero-shot", "five-shot"):
        Prompts(PromptConfig(kind, f"openai:tiny@{server.address}"), encoder).ways("paper tearing")
    assert len(server.requests) == 2


def test_a_name_that_a_chat_does_not_know_goes_alone_and_is_named(encoder: MiniLM) -> None:
    """Neither a chat that is down nor one that answers nonsense may pass for knowledge."""

    def down(_: str) -> str:
        raise ChatError("it is down")

    for chat in (down, lambda _: json.dumps(FACTS | {"is_sound": False}), lambda _: "no idea"):
        prompts = Prompts(PromptConfig("five-shot", "own"), encoder, chat)
        with pytest.warns(UserWarning, match="'Thursday' is asked for by name alone"):
            assert prompts.of(Query("Thursday")) == "Thursday"
        assert prompts.ways("Thursday") == ("Thursday",), "it warned again"


def test_a_config_says_whom_to_ask() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'five-shot'"):
        from_dict(PromptConfig, {"kind": "fiveshot"})
    with pytest.raises(UsageError, match="want a chat"):
        PromptConfig("zero-shot")
    with pytest.raises(UsageError, match="others none"):
        PromptConfig("table", "local:somewhere")


def test_labels_are_asked_for_in_their_prompts_and_no_other_way() -> None:
    import torch

    labels = Labels(["rain", "dog barking"], lambda label: (label, f"{label}: loud"))
    draw = torch.Generator().manual_seed(0)
    texts = [labels.wording(labels.number["rain"], draw) for _ in range(40)]
    assert set(texts) == {"rain", "rain: loud"}
