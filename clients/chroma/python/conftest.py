"""One program for all tests, with authentication on; every test has tenants of its own."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import chromadb
import pytest
from chromadb.api import AdminAPI, AsyncClientAPI, ClientAPI
from chromadb.api.async_fastapi import AsyncFastAPI
from chromadb.config import Settings
from server import Server, Tenant, running

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("tenantry")) as started:
        yield started


@pytest.fixture
def tenant(server: Server) -> Tenant:
    """A new tenant with its `default_database`."""
    return server.make_tenant(f"tenant-{next(NUMBERS)}")


@pytest.fixture
def neighbour(server: Server) -> Tenant:
    """Another new tenant."""
    return server.make_tenant(f"neighbour-{next(NUMBERS)}")


@pytest.fixture
def connect(server: Server) -> Callable[..., ClientAPI]:
    """Makes a client with a key; tenant and database default to what the client itself sends."""

    def make(key: str, **names: str) -> ClientAPI:
        address = server.chroma
        settings = Settings(
            chroma_client_auth_provider="chromadb.auth.token_authn.TokenAuthClientProvider",
            chroma_client_auth_credentials=key,
            anonymized_telemetry=False,
        )
        return chromadb.HttpClient(address.host, address.port, settings=settings, **names)

    return make


@pytest.fixture
async def connect_async(server: Server) -> AsyncIterator[Callable[..., Awaitable[AsyncClientAPI]]]:
    """As `connect`; the asynchronous client takes credentials only as headers.

    All asynchronous clients of one event loop share one pool with the headers of the first, so a
    test that needs the headers of another must call `forget_headers` before.
    """
    await forget_headers()

    async def make(key: str, **names: str) -> AsyncClientAPI:
        address = server.chroma
        headers = {"Authorization": f"Bearer {key}"}
        settings = Settings(anonymized_telemetry=False)
        return await chromadb.AsyncHttpClient(
            address.host, address.port, headers=headers, settings=settings, **names
        )

    yield make
    await forget_headers()


async def forget_headers() -> None:
    """Closes the pools of all asynchronous clients; the next client's headers count again."""
    while AsyncFastAPI._clients:
        _, pool = AsyncFastAPI._clients.popitem()
        await pool.aclose()


@pytest.fixture
def administer(server: Server) -> Callable[[str], AdminAPI]:
    """Makes Chroma's client for tenants and databases."""

    def make(key: str) -> AdminAPI:
        return chromadb.AdminClient(
            Settings(
                chroma_api_impl="chromadb.api.fastapi.FastAPI",
                chroma_server_host=server.chroma.host,
                chroma_server_http_port=server.chroma.port,
                chroma_server_headers={"Authorization": f"Bearer {key}"},
                anonymized_telemetry=False,
            )
        )

    return make
