"""The pinned model, from its weights to its vectors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.references.numpy_bert import sentence_vector
from tokenizers import Tokenizer

from luma_memory.domain.enrichment import Embedding, EmbeddingModel
from luma_memory.providers.embedding.bert_graph import read_weights
from luma_memory.providers.embedding.encoder import load_encoder
from luma_memory.providers.embedding.local import LocalEmbedder
from luma_memory.providers.embedding.weights import find_model

SENTENCES = """\
I moved to Lisbon last spring and still can't get used to the hills.
My sister's wedding is on the 14th of June, don't let me forget the rings!
ok
Thanks :)
We decided to postpone the release because the payment tests kept failing on Friday.
Is there any gluten in your sourdough?
I adopted a greyhound called Biscuit.
He is allergic to penicillin and to bees.
The kitchen floods whenever it rains from the west.
My passport number starts with X48 and it expires in 2031.
Let's meet at 7:30 p.m. behind the old observatory, bring a torch and something warm.
def area(r): return 3.14159 * r ** 2
SELECT count(*) FROM orders WHERE shipped_at IS NULL;
Je préfère le thé vert le matin, sans sucre.
Meine Oma hat mir beigebracht, wie man Knödel macht.
明日の朝、駅前で会いましょう。
Вчера я дочитал книгу про полярников.
😀😀😀
Honestly, the best part of the trip was the night train through the mountains with no phone signal.
I used to play the cello but switched to the drums when I was twelve.
The invoice of 1,249.50 euros was paid twice, so the client wants the difference back by Tuesday.
She said that he said that they would not come.
No. Never. Not even for a thousand dollars.
Our third-floor tenants complain about the noise of the heat pump between two and four at night.
Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.
My favourite colour is the green of a beer bottle held against the sun.
Remember: the alarm code changes on the first of every month; this month it ends in nine.
After the operation I could not drive for six weeks, so Tom took me to the office every day.
The dentist found two cavities.
I'm learning Welsh on my commute, twenty minutes a day; my goal is to read a novel by winter.
https://example.org/recipes/plum-cake?portions=12
What did we agree on about the garden fence?
We planted an apple tree where the swing used to be, and the children water it each evening.
Mum's new number has the old area code.
The museum is closed on Mondays and free on the first Sunday of the month.
It's complicated.
""".splitlines()


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
async def embedder(cache_dir: Path) -> AsyncIterator[LocalEmbedder]:
    embedder = await LocalEmbedder.open(cache_dir=cache_dir)
    yield embedder
    await embedder.close()


def matrix(embeddings: Sequence[Embedding]) -> npt.NDArray[Any]:
    return np.array([np.frombuffer(embedding.vector, np.float32) for embedding in embeddings])


def int8_files(folder: Path) -> set[Path]:
    return set(folder.glob("*-int8-*.graph"))


async def test_it_names_its_model(embedder: LocalEmbedder) -> None:
    assert embedder.model == EmbeddingModel(
        "local/all-MiniLM-L6-v2-int8-named",
        384,
        256,
        frozenset({"LATIN"}),
        names_speakers=True,
        replaces="local/all-MiniLM-L6-v2-int8",
    )
    assert embedder.tokens("I adopted a cat.") == 5


async def test_float32_is_bert_and_int8_is_close_to_it(
    embedder: LocalEmbedder, cache_dir: Path
) -> None:
    exact = load_encoder(precision="float32", cache_dir=cache_dir)
    files = find_model()
    weights, tokenizer = read_weights(files.weights), Tokenizer.from_file(str(files.tokenizer))
    tokenizer.no_padding()
    found = matrix(exact.encode(SENTENCES))
    for number in range(0, len(SENTENCES), 5):  # the definition takes half a second a sentence
        ids = tokenizer.encode(SENTENCES[number]).ids
        expected = sentence_vector(weights, ids, layers=6, heads=12)
        assert found[number] @ expected > 0.9999
    rounded = matrix(await embedder.embed_documents(SENTENCES))
    assert (rounded * found).sum(axis=1).mean() >= 0.99


@pytest.mark.parametrize(
    ("question", "response"),
    [
        ("Which pet does the user have?", "I adopted a greyhound called Biscuit."),
        ("What medicine must he not be given?", "He is allergic to penicillin and to bees."),
        ("Which instrument did I learn as a child?", "I used to play the cello but"),
        ("When is the museum free?", "The museum is closed on Mondays"),
    ],
)
async def test_meaning_is_near(embedder: LocalEmbedder, question: str, response: str) -> None:
    documents = matrix(await embedder.embed_documents(SENTENCES))
    query = matrix([await embedder.embed_query(question)])[0]
    assert SENTENCES[int((documents @ query).argmax())].startswith(response)


async def test_a_vector_does_not_depend_on_its_batch(embedder: LocalEmbedder) -> None:
    together = await embedder.embed_documents(SENTENCES)
    alone = [await embedder.embed_query(sentence) for sentence in SENTENCES]
    assert list(together) == alone


async def test_any_text_has_a_vector(embedder: LocalEmbedder) -> None:
    texts = ["", " ", "\x00", "\ud800", "😀" * 300, "記" * 100_000, "word " * 20_000, "x" * 100_000]
    found = await embedder.embed_documents(texts)
    np.testing.assert_allclose(np.linalg.norm(matrix(found), axis=1), 1, atol=1e-5)
    assert [embedding.truncated for embedding in found] == [False] * 5 + [True] * 3
    assert [found[number].token_count for number in (0, 5, 6)] == [2, 256, 256]


async def test_the_event_loop_stays_free(embedder: LocalEmbedder) -> None:
    work = asyncio.create_task(embedder.embed_documents(SENTENCES * 4))
    turns = 0
    while not work.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert len(await work) == len(SENTENCES) * 4
    assert turns > 10


async def test_a_folder_of_ones_own_is_another_model(
    embedder: LocalEmbedder, cache_dir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "my model"
    folder.symlink_to(find_model().folder, target_is_directory=True)
    entries = int8_files(cache_dir)
    own = await LocalEmbedder.open(str(folder), cache_dir=cache_dir)
    assert own.model.id == "local/model-53aa5117-int8"
    assert int8_files(cache_dir) > entries
    assert await own.embed_query("hello") == await embedder.embed_query("hello")
    await own.close()
