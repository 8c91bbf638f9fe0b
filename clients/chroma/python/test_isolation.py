"""chroma#7462: Chroma's server looked up a collection by its id alone, so that a foreign id worked
under any tenant's path. Every operation on every wrong path must find nothing."""

from __future__ import annotations

import uuid

import httpx
import pytest
from chromadb.errors import ChromaAuthError, NotFoundError

DATABASE = "default_database"
RECORDS = {"ids": ["intruder"], "embeddings": [[1.0, 2.0]], "documents": ["intruder"]}
OPERATIONS = {
    "count": ("GET", "/count", None),
    "get": ("POST", "/get", {}),
    "get by ids": ("POST", "/get", {"ids": ["secret"]}),
    "query": ("POST", "/query", {"query_embeddings": [[1.0, 2.0]], "n_results": 10}),
    "add": ("POST", "/add", RECORDS),
    "update": ("POST", "/update", {"ids": ["secret"], "documents": ["stolen"]}),
    "upsert": ("POST", "/upsert", RECORDS | {"ids": ["secret"]}),
    "delete": ("POST", "/delete", {"ids": ["secret"]}),
    "modify": ("PUT", "", {"new_name": "stolen"}),
    "modify metadata": ("PUT", "", {"new_metadata": {"stolen": True}}),
}


@pytest.fixture
def secret(neighbour, connect):
    """The neighbour's collection, as its owner sees it."""
    collection = connect(neighbour.key).create_collection("secrets", embedding_function=None)
    collection.add(ids=["secret"], embeddings=[[1.0, 2.0]], documents=["a secret"])
    return collection


def call(server, key, tenant, database, collection, operation):
    method, path, body = OPERATIONS[operation]
    base = f"/api/v2/tenants/{tenant}/databases/{database}/collections/{collection}"
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return httpx.request(method, server.chroma.url + base + path, json=body, headers=headers)


def unharmed(secret):
    found = secret.get()
    assert (found["ids"], found["documents"]) == (["secret"], ["a secret"])
    assert secret.count() == 1


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_foreign_collection_id_is_not_found(server, tenant, neighbour, connect, secret, operation):
    connect(tenant.key).create_collection("secrets", embedding_function=None)
    made_up = uuid.uuid4()
    for owner in [tenant.name, "default_tenant", neighbour.name, "no-such-tenant"]:
        foreign = call(server, tenant.key, owner, DATABASE, secret.id, operation)
        missing = call(server, tenant.key, owner, DATABASE, made_up, operation)
        assert foreign.status_code == missing.status_code == 404, foreign.text
        assert foreign.json()["error"] == "NotFoundError"
        # The answer must not tell a foreign id from one that nobody has.
        assert foreign.text.replace(str(secret.id), str(made_up)) == missing.text
    unharmed(secret)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_id_under_the_wrong_database_is_not_found(
    server, neighbour, administer, secret, operation
):
    administer(neighbour.key).create_database("elsewhere")
    for database in ["elsewhere", "no-such-database"]:
        answer = call(server, neighbour.key, neighbour.name, database, secret.id, operation)
        assert (answer.status_code, answer.json()["error"]) == (404, "NotFoundError")
    unharmed(secret)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_without_a_valid_key_nothing_is_reached(server, neighbour, secret, operation):
    for key in [None, "wrong", "tnt_aaaaaaaaaaaaaaaa_" + "a" * 52]:
        answer = call(server, key, neighbour.name, DATABASE, secret.id, operation)
        assert (answer.status_code, answer.json()["error"]) == (401, "AuthError")
    unharmed(secret)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_owner_reaches_it_on_its_own_path(server, neighbour, secret, operation):
    """Without this, the tests above could pass because the requests are wrong."""
    answer = call(server, neighbour.key, neighbour.name, DATABASE, secret.id, operation)
    assert answer.is_success, answer.text


def test_the_real_client_gets_not_found_for_a_foreign_id(tenant, connect, secret):
    own = connect(tenant.key).create_collection("mine", embedding_function=None)
    own._model.id = secret.id
    attempts = [
        own.count,
        own.get,
        own.peek,
        lambda: own.query(query_embeddings=[[1.0, 2.0]]),
        lambda: own.add(ids=["intruder"], embeddings=[[1.0, 2.0]]),
        lambda: own.update(ids=["secret"], documents=["stolen"], embeddings=[[1.0, 2.0]]),
        lambda: own.upsert(ids=["secret"], embeddings=[[1.0, 2.0]]),
        lambda: own.delete(ids=["secret"]),
        lambda: own.modify(name="stolen"),
    ]
    for attempt in attempts:
        with pytest.raises(NotFoundError, match="Collection .* does not exist"):
            attempt()
    unharmed(secret)


def test_names_of_another_tenant_are_free(tenant, neighbour, connect):
    """The same names in two tenants are two things, and neither shows in the other's counts."""
    for owner in [tenant, neighbour]:
        collection = connect(owner.key).create_collection("same", embedding_function=None)
        collection.add(ids=["same"], embeddings=[[1.0, 2.0]], documents=[owner.name])
    for owner in [tenant, neighbour]:
        client = connect(owner.key)
        assert client.count_collections() == 1
        assert client.get_collection("same", embedding_function=None).get()["documents"] == [owner.name]


def test_a_suspended_tenant_is_refused_and_resumed(server, tenant, connect):
    collection = connect(tenant.key).create_collection("kept", embedding_function=None)
    collection.add(ids=["a"], embeddings=[[1.0]])
    server.rest("POST", f"/v1/admin/tenants/{tenant.name}/suspend", server.operator_key)
    with pytest.raises(ChromaAuthError):
        collection.count()
    server.rest("POST", f"/v1/admin/tenants/{tenant.name}/resume", server.operator_key)
    assert collection.count() == 1
