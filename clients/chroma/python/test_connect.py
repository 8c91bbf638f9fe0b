"""Connecting: default names, every header that a client can send, refusals as the client's own
exceptions."""

from __future__ import annotations

import asyncio
import base64
from concurrent.futures import ThreadPoolExecutor

import chromadb
import pytest
from chromadb.config import Settings
from chromadb.errors import ChromaAuthError, NotFoundError


def test_a_plain_client_with_a_tenants_key_means_that_tenant(tenant, connect):
    client = connect(tenant.key)
    assert client.tenant == chromadb.DEFAULT_TENANT
    client.create_collection("first", embedding_function=None)
    same = connect(tenant.key, tenant=tenant.name, database=chromadb.DEFAULT_DATABASE)
    assert [one.name for one in same.list_collections()] == ["first"]


def test_the_identity_is_the_callers(tenant, connect):
    identity = connect(tenant.key).get_user_identity()
    assert identity.tenant == tenant.name
    assert identity.databases == ["default_database"] or identity.databases == ["*"]


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def chroma_token(key):
    return {"X-Chroma-Token": key}


def basic_as_password(key):
    return {"Authorization": "Basic " + base64.b64encode(f"user:{key}".encode()).decode()}


@pytest.mark.parametrize("style", [bearer, chroma_token, basic_as_password])
def test_a_key_is_taken_from_any_header_of_the_client(server, tenant, style):
    address = server.chroma
    settings = Settings(anonymized_telemetry=False)
    client = chromadb.HttpClient(
        address.host, address.port, headers=style(tenant.key), settings=settings
    )
    client.create_collection("first", embedding_function=None)
    assert client.count_collections() == 1
    with pytest.raises(ChromaAuthError):
        chromadb.HttpClient(
            address.host, address.port, headers=style("tnt_wrong"), settings=settings
        )


@pytest.mark.parametrize(
    ("provider", "extra", "credentials"),
    [
        ("chromadb.auth.token_authn.TokenAuthClientProvider", {}, "{}"),
        (
            "chromadb.auth.token_authn.TokenAuthClientProvider",
            {"chroma_auth_token_transport_header": "X-Chroma-Token"},
            "{}",
        ),
        ("chromadb.auth.basic_authn.BasicAuthClientProvider", {}, "anyone:{}"),
    ],
)
def test_every_credential_provider_of_the_client_works(server, tenant, provider, extra, credentials):
    settings = Settings(
        chroma_client_auth_provider=provider,
        chroma_client_auth_credentials=credentials.format(tenant.key),
        anonymized_telemetry=False,
        **extra,
    )
    client = chromadb.HttpClient(server.chroma.host, server.chroma.port, settings=settings)
    assert client.list_collections() == []


def test_without_a_key_only_liveness_is_told(server):
    settings = Settings(anonymized_telemetry=False)
    with pytest.raises(ChromaAuthError):
        chromadb.HttpClient(server.chroma.host, server.chroma.port, settings=settings)


def test_a_revoked_key_is_refused_at_once(server, tenant, connect):
    key = tenant.make_key("read")
    client = connect(key)
    assert client.list_collections() == []
    server.rest("DELETE", f"/v1/keys/{key.split('_')[1]}", tenant.key)
    with pytest.raises(ChromaAuthError):
        client.list_collections()


def test_a_reading_key_cannot_write(tenant, connect):
    connect(tenant.key).create_collection("first", embedding_function=None)
    client = connect(tenant.make_key("read"))
    collection = client.get_collection("first", embedding_function=None)
    for attempt in [
        lambda: client.create_collection("second", embedding_function=None),
        lambda: client.delete_collection("first"),
        lambda: collection.add(ids=["a"], embeddings=[[1.0]]),
        lambda: collection.upsert(ids=["a"], embeddings=[[1.0]]),
        lambda: collection.update(ids=["a"], embeddings=[[1.0]]),
        lambda: collection.delete(ids=["a"]),
        lambda: collection.modify(name="stolen"),
    ]:
        with pytest.raises(ChromaAuthError):
            attempt()
    assert collection.count() == 0


def test_a_writing_key_cannot_administer(tenant, administer):
    with pytest.raises(ChromaAuthError):
        administer(tenant.make_key("write")).create_database("second")
    with pytest.raises(ChromaAuthError):
        administer(tenant.make_key("write")).delete_database("default_database")


def test_the_same_protocol_is_on_the_main_listener(server, tenant):
    """Below `/chroma`, for those who open one port only."""
    client = chromadb.HttpClient(
        f"{server.native.url}/chroma/api/v2",
        headers=bearer(tenant.key),
        settings=Settings(anonymized_telemetry=False),
    )
    assert client.list_collections() == []


async def test_the_asynchronous_client_works_the_same(tenant, neighbour, connect_async):
    client = await connect_async(tenant.key)
    assert await client.heartbeat() > 0
    collection = await client.create_collection("first", embedding_function=None)
    await collection.add(ids=["a", "b"], embeddings=[[1.0, 0.0], [0.0, 1.0]], documents=["x", "y"])
    found = await collection.query(query_embeddings=[[0.0, 0.9]], n_results=1)
    assert (found["ids"], found["documents"]) == ([["b"]], [["y"]])
    with pytest.raises(NotFoundError):
        await connect_async(tenant.key, tenant=neighbour.name)


async def test_the_asynchronous_client_is_refused_with_a_wrong_key(connect_async):
    with pytest.raises(ChromaAuthError):
        await connect_async("tnt_wrong")


async def test_asynchronous_clients_that_name_their_tenant_cannot_be_mixed_up(
    tenant, neighbour, connect_async
):
    """The client keeps one pool for each event loop, with the first client's headers: the second
    client's requests carry the first one's key. Naming the tenant makes that an error, not a leak.
    """
    first = await connect_async(tenant.key, tenant=tenant.name)
    with pytest.raises(NotFoundError):
        await connect_async(neighbour.key, tenant=neighbour.name)
    assert await first.count_collections() == 0


def test_asynchronous_clients_in_loops_of_their_own_do_not_mix(tenant, neighbour, connect_in_loop):
    async def fill(client):
        collection = await client.get_or_create_collection("same", embedding_function=None)
        for number in range(20):
            await collection.add(ids=[f"{client.tenant}-{number}"], embeddings=[[float(number)]])
        return (await collection.get())["ids"]

    with ThreadPoolExecutor() as pool:
        futures = [pool.submit(connect_in_loop, one, fill) for one in [tenant, neighbour]]
        filled = [future.result() for future in futures]
    for owner, ids in zip([tenant, neighbour], filled, strict=True):
        assert ids == [f"{owner.name}-{number}" for number in range(20)]


@pytest.fixture
def connect_in_loop(server):
    def run(owner, work):
        async def main():
            client = await chromadb.AsyncHttpClient(
                server.chroma.host,
                server.chroma.port,
                headers=bearer(owner.key),
                settings=Settings(anonymized_telemetry=False),
                tenant=owner.name,
            )
            return await work(client)

        return asyncio.run(main())

    return run
