"""The four multi-tenancy strategies that Chroma's community describes, with the real client, and
for each the drawback that its description admits: here the server does not have it."""

from __future__ import annotations

import time

import chromadb
import pytest
from chromadb.errors import ChromaAuthError, ChromaError, NotFoundError
from embedding import WordHash

QUERY = {"query_texts": ["This is a query document"]}


def ids(collection, **options):
    """The ids of a query, nearest first."""
    return collection.query(**QUERY, **options)["ids"][0]


# User per document: every record names its user; queries filter on it.


@pytest.fixture
def shared(tenant, connect):
    """One collection with documents of two users."""
    collection = connect(tenant.key).create_collection("my-collection", embedding_function=WordHash())
    collection.add(
        documents=["This is document1", "This is document2"],
        metadatas=[{"user_id": "user1"}, {"user_id": "user2"}],
        ids=["doc1", "doc2"],
    )
    return collection


def open_shared(client):
    return client.get_collection("my-collection", embedding_function=WordHash())


def test_user_per_document_filters_by_metadata(shared):
    assert ids(shared, where={"user_id": "user1"}) == ["doc1"]
    assert ids(shared, where={"user_id": "user2"}) == ["doc2"]
    assert sorted(ids(shared)) == ["doc1", "doc2"]


def test_a_forgotten_filter_leaks_nothing_with_a_bound_key(shared, tenant, connect):
    key = tenant.make_key("write", filter={"user_id": "user1"})
    mine = open_shared(connect(key))
    assert ids(mine) == ["doc1"]
    assert mine.get()["ids"] == ["doc1"]
    assert mine.count() == 1
    assert mine.peek()["ids"] == ["doc1"]


def test_a_bound_key_cannot_ask_for_others(shared, tenant, connect):
    key = tenant.make_key("write", filter={"user_id": "user1"})
    mine = open_shared(connect(key))
    assert ids(mine, where={"user_id": "user2"}) == []
    assert ids(mine, where={"$or": [{"user_id": "user1"}, {"user_id": "user2"}]}) == ["doc1"]
    assert ids(mine, where={"user_id": {"$ne": "user1"}}) == []
    assert ids(mine, where_document={"$contains": "document2"}) == []
    assert mine.get(ids=["doc2"])["ids"] == []


def test_a_bound_key_cannot_touch_others(shared, tenant, connect):
    key = tenant.make_key("write", filter={"user_id": "user1"})
    mine = open_shared(connect(key))
    before = shared.get(ids=["doc2"], include=["documents", "metadatas", "embeddings"])
    mine.delete(where={"user_id": "user2"})
    mine.delete(ids=["doc2"])
    mine.update(ids=["doc2"], documents=["stolen"])
    with pytest.raises(ChromaError):
        mine.upsert(ids=["doc2"], documents=["stolen"], metadatas=[{"user_id": "user1"}])
    after = shared.get(ids=["doc2"], include=["documents", "metadatas", "embeddings"])
    assert after["documents"] == before["documents"] == ["This is document2"]
    assert after["metadatas"] == before["metadatas"]
    assert (after["embeddings"] == before["embeddings"]).all()


def test_a_bound_key_cannot_write_what_it_could_not_read(shared, tenant, connect):
    key = tenant.make_key("write", filter={"user_id": "user1"})
    mine = open_shared(connect(key))
    for metadata in [{"user_id": "user2"}, {"other": 1}]:
        with pytest.raises(ChromaError):
            mine.add(ids=["new"], documents=["new"], metadatas=[metadata])
    with pytest.raises(ChromaError):
        mine.update(ids=["doc1"], metadatas=[{"user_id": "user2"}])
    assert sorted(shared.get()["ids"]) == ["doc1", "doc2"]
    assert shared.get(ids=["doc1"])["metadatas"] == [{"user_id": "user1"}]
    mine.add(ids=["new"], documents=["new"], metadatas=[{"user_id": "user1"}])
    assert sorted(mine.get()["ids"]) == ["doc1", "new"]


# User per collection: every user has a collection; the name names the user.


@pytest.fixture
def collections(tenant, connect):
    """Collections of two users, and one for all."""
    client = connect(tenant.key)
    made = {}
    for owner in ["user1", "user2", "everyone"]:
        name = f"user-collection:{owner}"
        made[owner] = client.get_or_create_collection(name, embedding_function=WordHash())
        made[owner].add(documents=["This is document1"], ids=[f"doc-{owner}"])
    return made


def names(owner):
    return {"database": chromadb.DEFAULT_DATABASE, "collection": f"user-collection:{owner}"}


def test_user_per_collection_keeps_users_apart(collections, tenant, connect):
    client = connect(tenant.key)
    for owner in collections:
        found = client.get_collection(f"user-collection:{owner}", embedding_function=WordHash())
        assert ids(found) == [f"doc-{owner}"]


def test_a_wrong_collection_name_leaks_nothing_with_a_limited_key(collections, tenant, connect):
    client = connect(tenant.make_key("write", collections=[names("user1")]))
    own = client.get_collection("user-collection:user1", embedding_function=WordHash())
    own.add(documents=["This is document2"], ids=["more"])
    assert sorted(ids(own)) == ["doc-user1", "more"]
    with pytest.raises(NotFoundError):
        client.get_collection("user-collection:user2")
    with pytest.raises(NotFoundError):
        client.delete_collection("user-collection:user2")
    assert [one.name for one in client.list_collections()] == ["user-collection:user1"]
    assert client.count_collections() == 1
    assert collections["user2"].count() == 1


def test_a_limited_key_cannot_use_the_id_of_another_collection(collections, tenant, connect):
    client = connect(tenant.make_key("write", collections=[names("user1")]))
    own = client.get_collection("user-collection:user1", embedding_function=WordHash())
    own._model.id = collections["user2"].id
    with pytest.raises(NotFoundError):
        own.count()
    with pytest.raises(NotFoundError):
        own.add(documents=["intruder"], ids=["intruder"])
    assert collections["user2"].get()["ids"] == ["doc-user2"]


def test_shared_documents_need_no_second_credential(collections, tenant, connect):
    client = connect(tenant.make_key("read", collections=[names("user1"), names("everyone")]))
    found = [one.name for one in client.list_collections()]
    assert sorted(found) == ["user-collection:everyone", "user-collection:user1"]
    for owner in ["user1", "everyone"]:
        one = client.get_collection(f"user-collection:{owner}", embedding_function=WordHash())
        assert ids(one) == [f"doc-{owner}"]
        with pytest.raises(ChromaAuthError):
            one.add(documents=["x"], ids=["x"])
    with pytest.raises(NotFoundError):
        client.get_collection("user-collection:user2")


# User per database: every user has a database in one tenant.


def get_or_create_db_for_user(admin, user_id):
    """As the strategy's description has it."""
    database = f"db:{user_id}"
    try:
        admin.get_database(database)
    except Exception:
        admin.create_database(database, chromadb.DEFAULT_TENANT)
    return chromadb.DEFAULT_TENANT, database


def test_user_per_database_keeps_users_apart(tenant, connect, administer):
    admin = administer(tenant.key)
    for user in ["user_John", "user_Jane", "user_John"]:
        owner, database = get_or_create_db_for_user(admin, user)
        client = connect(tenant.key, tenant=owner, database=database)
        collection = client.get_or_create_collection("user_collection", embedding_function=WordHash())
        collection.upsert(documents=["This is document1"], ids=[f"doc-{user}"])
        assert ids(collection) == [f"doc-{user}"]
    listed = [one["name"] for one in admin.list_databases()]
    assert listed == ["db:user_Jane", "db:user_John", "default_database"]


def test_a_wrong_database_leaks_nothing_with_a_limited_key(tenant, connect, administer):
    admin = administer(tenant.key)
    for user in ["user_John", "user_Jane"]:
        get_or_create_db_for_user(admin, user)
    key = tenant.make_key("write", databases=["db:user_John"])
    client = connect(key, database="db:user_John")
    client.create_collection("user_collection", embedding_function=None)
    for database in ["db:user_Jane", "default_database", "db:nobody"]:
        with pytest.raises(NotFoundError):
            connect(key, database=database)
    assert [one["name"] for one in administer(key).list_databases()] == ["db:user_John"]


def test_a_deleted_database_takes_its_collections_along(tenant, connect, administer):
    admin = administer(tenant.key)
    get_or_create_db_for_user(admin, "user1")
    client = connect(tenant.key, database="db:user1")
    collection = client.create_collection("user_collection", embedding_function=None)
    collection.add(ids=["a"], embeddings=[[1.0, 2.0]])
    admin.delete_database("db:user1")
    with pytest.raises(NotFoundError):
        collection.count()
    get_or_create_db_for_user(admin, "user1")
    assert client.list_collections() == []


# User per tenant: every user has a tenant.


def get_or_create_tenant_for_user(admin, user_id):
    """As the strategy's description has it."""
    tenant_id = f"tenant_user:{user_id}"
    try:
        admin.get_tenant(tenant_id)
    except Exception:
        admin.create_tenant(tenant_id)
        admin.create_database(chromadb.DEFAULT_DATABASE, tenant_id)
    return tenant_id, chromadb.DEFAULT_DATABASE


def test_user_per_tenant_works_as_described_with_the_operators_key(server, connect, administer):
    admin = administer(server.operator_key)
    for user in ["first", "second", "first"]:
        owner, database = get_or_create_tenant_for_user(admin, user)
        client = connect(server.operator_key, tenant=owner, database=database)
        collection = client.get_or_create_collection("user_collection", embedding_function=WordHash())
        collection.upsert(documents=["This is document1"], ids=[f"doc-{user}"])
        assert ids(collection) == [f"doc-{user}"]


def test_a_tenant_need_not_be_managed_by_the_application(tenant, neighbour, connect):
    """The drawback is consistent use of tenant names: a key makes naming the tenant needless."""
    for owner in [tenant, neighbour]:
        client = connect(owner.key)
        collection = client.create_collection("user_collection", embedding_function=WordHash())
        collection.add(documents=["This is document1"], ids=[f"doc-{owner.name}"])
        assert ids(collection) == [f"doc-{owner.name}"]


def test_a_wrong_tenant_leaks_nothing(tenant, neighbour, connect, administer):
    for name in [neighbour.name, "no-such-tenant"]:
        with pytest.raises(NotFoundError, match=rf"^Tenant \[{name}\] not found$"):
            connect(tenant.key, tenant=name)
        with pytest.raises(NotFoundError):
            administer(tenant.key).get_tenant(name)
        with pytest.raises(NotFoundError):
            administer(tenant.key).create_database("intruder", name)
    with pytest.raises(ChromaAuthError):
        administer(tenant.key).create_tenant("made-by-a-tenant")


def test_an_attempt_at_another_tenant_is_in_the_audit_log(tenant, neighbour, connect):
    with pytest.raises(NotFoundError):
        connect(tenant.key, tenant=neighbour.name)
    attempts = wait_for(lambda: [e for e in tenant.audit() if e["action"] == "cross_tenant_attempt"])
    assert attempts[0]["target"] == neighbour.name


def wait_for(find, seconds=10):
    """What `find` finds as soon as it finds something: refusals are logged within a second."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := find():
            return found
        time.sleep(0.05)
    raise AssertionError(f"nothing was found within {seconds} s")
