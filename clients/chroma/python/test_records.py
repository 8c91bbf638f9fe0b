"""Records through the real client: inputs, answers, errors."""

from __future__ import annotations

import numpy as np
import pytest
from chromadb.errors import ChromaError, InvalidArgumentError, NotFoundError


@pytest.fixture
def collection(tenant, connect):
    return connect(tenant.key).create_collection("records", embedding_function=None)


NUMPY = {
    "a matrix": np.array([[1, 2], [3, 4]], dtype=np.float32),
    "a matrix of doubles": np.array([[1, 2], [3, 4]], dtype=np.float64),
    "a matrix of integers": np.array([[1, 2], [3, 4]], dtype=np.int32),
    "a list of arrays": [np.array([1, 2], dtype=np.float32), np.array([3, 4], dtype=np.float32)],
    "a list of lists": [[1.0, 2.0], [3.0, 4.0]],
    "integers": [[1, 2], [3, 4]],
}


@pytest.mark.parametrize("embeddings", NUMPY.values(), ids=NUMPY.keys())
def test_vectors_come_back_as_they_were_given(collection, embeddings):
    collection.add(ids=["a", "b"], embeddings=embeddings)
    got = collection.get(include=["embeddings"])
    assert got["ids"] == ["a", "b"]
    assert np.array_equal(got["embeddings"], [[1, 2], [3, 4]])


def test_a_numpy_query_finds_the_nearest(collection):
    generator = np.random.default_rng(1)
    vectors = generator.standard_normal((200, 16), dtype=np.float32)
    collection.add(ids=[str(number) for number in range(200)], embeddings=vectors)
    query = generator.standard_normal(16, dtype=np.float32)
    found = collection.query(query_embeddings=query, n_results=10)
    distances = ((vectors - query) ** 2).sum(axis=1)
    assert found["ids"][0] == [str(number) for number in np.argsort(distances)[:10]]
    assert np.allclose(found["distances"][0], np.sort(distances)[:10], rtol=1e-4)


@pytest.mark.parametrize(
    ("space", "expected"),
    [("l2", [0.0, 5.0, 20.0]), ("cosine", [0.0, 0.4, 1.0]), ("ip", [-2.0, 0.0, 1.0])],
)
def test_distances_follow_the_collections_space(tenant, connect, space, expected):
    configuration = {"hnsw": {"space": space}}
    collection = connect(tenant.key).create_collection(
        "spaces", embedding_function=None, configuration=configuration
    )
    collection.add(ids=["x", "y", "z"], embeddings=[[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]])
    found = collection.query(query_embeddings=[[1.0, 0.0]], n_results=3)
    assert np.allclose(found["distances"][0], expected, atol=1e-5)


def test_names_and_values_are_data_and_never_code(tenant, connect):
    """Text that would be an injection elsewhere comes back as it went in."""
    client = connect(tenant.key)
    strange = [
        "'; DROP TABLE tenants; --",
        "../../../etc/passwd",
        "{{7*7}} ${7*7} %s %n",
        "<script>alert(1)</script>",
        "a/b?c=d#e&f",
        "zero\u0000byte",
        "right\u202eleft \U0001f600 ä",
        "x" * 5_000,
        '"\\\n\r\t',
        " ",
    ]
    collection = client.create_collection("strange", metadata={strange[0]: strange[1]}, embedding_function=None)
    collection.add(
        ids=strange,
        embeddings=[[float(number)] for number in range(len(strange))],
        documents=strange,
        metadatas=[{"key " + text[:100]: text} for text in strange],
        uris=strange,
    )
    got = collection.get(include=["documents", "metadatas", "uris"])
    assert got["ids"] == got["documents"] == got["uris"] == strange
    assert got["metadatas"] == [{"key " + text[:100]: text} for text in strange]
    assert collection.get(ids=[strange[0]])["documents"] == [strange[0]]
    assert client.get_collection("strange", embedding_function=None).metadata == {strange[0]: strange[1]}
    for text in strange:
        assert collection.get(where={"key " + text[:100]: text})["ids"] == [text]
        assert text in collection.get(where_document={"$contains": text})["ids"]


def test_a_tenant_may_have_any_name(server, connect, administer):
    for name in ["a/b", "tenant with blanks", "täñt", "%2e%2e", "..%2f..", "name?x=1#y", "a" * 200]:
        made = server.make_tenant(f"{name}-{id(server)}")
        client = connect(made.key)
        client.create_collection("first", embedding_function=None)
        assert client.get_user_identity().tenant == made.name


def test_metadata_keeps_its_types(collection):
    metadata = {"text": "1", "int": 1, "float": 1.0, "true": True, "big": 2**53 + 1, "low": -1}
    collection.add(ids=["a"], embeddings=[[1.0]], metadatas=[metadata])
    got = collection.get()["metadatas"][0]
    assert got == metadata
    assert {key: type(value) for key, value in got.items()} == {
        key: type(value) for key, value in metadata.items()
    }


def test_add_keeps_upsert_replaces_update_merges(collection):
    collection.add(ids=["a"], embeddings=[[1.0]], documents=["one"], metadatas=[{"k": 1, "l": 2}])
    collection.add(ids=["a"], embeddings=[[9.0]], documents=["ignored"])
    assert collection.get()["documents"] == ["one"]
    collection.upsert(ids=["a"], embeddings=[[2.0]], documents=["two"])
    collection.update(ids=["a", "unknown"], metadatas=[{"k": None, "m": 3}, {"k": 1}])
    got = collection.get(include=["documents", "metadatas", "embeddings"])
    assert (got["ids"], got["documents"], got["metadatas"]) == (["a"], ["two"], [{"l": 2, "m": 3}])
    assert got["embeddings"].tolist() == [[2.0]]


def test_deleting_follows_ids_and_filters(collection):
    collection.add(
        ids=[str(number) for number in range(6)],
        embeddings=[[float(number)] for number in range(6)],
        metadatas=[{"even": number % 2 == 0} for number in range(6)],
        documents=[f"document {number}" for number in range(6)],
    )
    collection.delete(ids=["0"], where={"even": False})
    assert collection.count() == 6
    collection.delete(where={"even": True})
    assert collection.get()["ids"] == ["1", "3", "5"]
    collection.delete(where_document={"$contains": "document 3"})
    collection.delete(ids=["5"])
    assert collection.get()["ids"] == ["1"]


def test_pages_follow_the_order_of_insertion(collection):
    ids = [f"{number * 7919 % 100:02}" for number in range(100)]
    collection.add(ids=ids, embeddings=[[float(number)] for number in range(100)])
    pages = [collection.get(limit=30, offset=offset)["ids"] for offset in range(0, 120, 30)]
    assert sum(pages, []) == ids


def test_a_filter_never_finds_less_than_there_is(collection):
    """Few matches among many near records: an index that filters afterwards returns too few."""
    count = 3_000
    vectors = np.random.default_rng(2).standard_normal((count, 8), dtype=np.float32)
    rare = [{"rare": number % 500 == 0} for number in range(count)]
    collection.add(ids=[str(n) for n in range(count)], embeddings=vectors, metadatas=rare)
    found = collection.query(query_embeddings=vectors[:1], n_results=10, where={"rare": True})
    assert len(found["ids"][0]) == 6


ERRORS = {
    "a missing collection": (NotFoundError, lambda c, _: c.get_collection("missing")),
    "a missing collection deleted": (NotFoundError, lambda c, _: c.delete_collection("missing")),
    "a name taken": (ChromaError, lambda c, _: c.create_collection("records")),
    "a name too short": (InvalidArgumentError, lambda c, _: c.create_collection("ab")),
    "a wrong dimension": (
        InvalidArgumentError,
        lambda _, r: r.add(ids=["b"], embeddings=[[1.0, 2.0, 3.0]]),
    ),
    "a query of a wrong dimension": (
        InvalidArgumentError,
        lambda _, r: r.query(query_embeddings=[[1.0]]),
    ),
    "a wrong regular expression": (
        InvalidArgumentError,
        lambda _, r: r.get(where_document={"$regex": "("}),
    ),
    "a wrong space": (
        ChromaError,
        lambda c, _: c.create_collection("spaces", metadata={"hnsw:space": "none"}),
    ),
}


@pytest.mark.parametrize(("kind", "attempt"), ERRORS.values(), ids=ERRORS.keys())
def test_mistakes_raise_the_clients_own_exceptions(tenant, connect, collection, kind, attempt):
    collection.add(ids=["a"], embeddings=[[1.0, 2.0]])
    with pytest.raises(kind) as raised:
        attempt(connect(tenant.key), collection)
    assert raised.value.trace_id
    assert collection.count() == 1
