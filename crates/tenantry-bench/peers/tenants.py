"""Drives one database with many tenants: a JSON object a line on standard input says what to do,
one on standard output says what came of it. Requests are made ready before the clock starts, and
one event loop sends them: what it takes itself is measured and told."""

import asyncio
import base64
import importlib.metadata
import itertools
import json
import sys
import time

import numpy

# Calls that are timed to learn what asking costs by itself.
EMPTY_CALLS = 200
ANSWER = ["id", "document", "section"]


def read_lines(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def floats(encoded):
    return numpy.frombuffer(base64.b64decode(encoded), dtype="<f4")


class LanceDB:
    """A table for each tenant, searched exactly: no vector index is made."""

    def __init__(self, folder, dimension):
        import pyarrow

        self.arrow, self.folder, self.tables = pyarrow, folder, []
        self.vectors = pyarrow.list_(pyarrow.float32(), dimension)
        columns = [(name, pyarrow.string()) for name in ANSWER] + [("vector", self.vectors)]
        self.schema = pyarrow.schema(columns)

    async def open(self, tenants):
        import lancedb

        database = await lancedb.connect_async(self.folder)
        for tenant in range(tenants):
            table = await database.create_table(f"tenant-{tenant}", schema=self.schema)
            self.tables.append(table)
        return f"lancedb {importlib.metadata.version('lancedb')}"

    def batch(self, insert):
        vectors = numpy.concatenate([floats(vector) for vector in insert["vectors"]])
        columns = [self.arrow.array(insert[name]) for name in ANSWER]
        columns.append(self.arrow.FixedSizeListArray.from_arrays(vectors, type=self.vectors))
        return insert["tenant"], self.arrow.Table.from_arrays(columns, schema=self.schema)

    async def insert(self, batch):
        tenant, rows = batch
        await self.tables[tenant].add(rows)

    async def settle(self):
        """Compacts; the same table objects stay open, as the documentation asks for."""
        for table in self.tables:
            await table.optimize()

    async def counts(self):
        return [await table.count_rows() for table in self.tables]

    def query(self, query, k):
        return query["tenant"], floats(query["vector"]), k

    async def search(self, query):
        tenant, vector, k = query
        search = self.tables[tenant].query().nearest_to(vector).distance_type("l2")
        return await search.select([*ANSWER, "_distance"]).limit(k).to_arrow()

    def ids(self, found):
        return found["id"].to_pylist()

    async def empty(self):
        await self.tables[0].count_rows()


class MilvusLite:
    """A collection for each tenant with an index of kind FLAT, which is exact, on a server of its
    own. Requests are encoded beforehand, so that asking costs little."""

    SERVICE = "/milvus.proto.milvus.MilvusService/"
    # Milvus itself allows 65,535, which is less than the longest description.
    TEXT_BYTES = 1 << 20
    LARGEST_MESSAGE = 1 << 28

    def __init__(self, address, dimension):
        from pymilvus.client.prepare import Prepare
        from pymilvus.grpc_gen import milvus_pb2

        self.address, self.dimension = address, dimension
        self.prepare, self.wire = Prepare, milvus_pb2
        self.client = self.fields = None
        self.tenants = 0

    @staticmethod
    def collection(tenant):
        return f"tenant_{tenant}"

    async def open(self, tenants):
        import grpc
        from pymilvus import DataType, MilvusClient

        self.client, self.tenants = MilvusClient(uri=f"http://{self.address}"), tenants
        schema = MilvusClient.create_schema(auto_id=False)
        schema.add_field("id", DataType.VARCHAR, max_length=512, is_primary=True)
        schema.add_field("document", DataType.VARCHAR, max_length=self.TEXT_BYTES)
        schema.add_field("section", DataType.VARCHAR, max_length=512)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self.dimension)
        index = self.client.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type="L2")
        for name in map(self.collection, range(tenants)):
            self.client.create_collection(name, schema=schema)
            # Waiting for an empty collection's index would take half a second each.
            self.client.create_index(name, index, sync=False)
            self.client.load_collection(name)
        self.fields = self.client.describe_collection(self.collection(0))["fields"]
        largest = [("grpc.max_receive_message_length", self.LARGEST_MESSAGE)]
        channel = grpc.aio.insecure_channel(self.address, options=largest)
        calls = ("Insert", "Search", "GetVersion")
        self.calls = {name: channel.unary_unary(self.SERVICE + name) for name in calls}
        return f"milvus-lite {importlib.metadata.version('milvus-lite')}"

    def batch(self, insert):
        columns = [insert["id"], insert["document"], insert["section"]]
        rows = [
            {"id": key, "document": document, "section": section, "vector": floats(vector)}
            for key, document, section, vector in zip(*columns, insert["vectors"])
        ]
        name = self.collection(insert["tenant"])
        return self.prepare.row_insert_param(name, rows, "", self.fields).SerializeToString()

    async def insert(self, batch):
        answer = self.wire.MutationResult.FromString(await self.calls["Insert"](batch))
        self.check(answer.status)

    async def settle(self):
        """Writes to segments: a search among what is not yet written takes many times longer."""
        for tenant in range(self.tenants):
            self.client.flush(self.collection(tenant))

    async def counts(self):
        counts = []
        for name in map(self.collection, range(self.tenants)):
            found = self.client.query(name, filter="", output_fields=["count(*)"])
            counts.append(found[0]["count(*)"])
        return counts

    def query(self, query, k):
        return self.prepare.search_requests_with_expr(
            collection_name=self.collection(query["tenant"]),
            anns_field="vector",
            param={"metric_type": "L2", "params": {}},
            limit=k,
            data=[floats(query["vector"])],
            output_fields=ANSWER,
        ).SerializeToString()

    async def search(self, query):
        answer = self.wire.SearchResults.FromString(await self.calls["Search"](query))
        self.check(answer.status)
        return answer

    def ids(self, found):
        return list(found.results.ids.str_id.data)

    async def empty(self):
        await self.calls["GetVersion"](b"")

    @staticmethod
    def check(status):
        if status.code:
            raise RuntimeError(status.reason)


class Driver:
    def __init__(self):
        self.system = None

    async def open(self, system, place, tenants, dimension):
        systems = {"lancedb": LanceDB, "milvus-lite": MilvusLite}
        self.system = systems[system](place, dimension)
        return {"name": await self.system.open(tenants)}

    async def insert(self, file, tasks):
        """The seconds that inserts take. A tenant's batches go one after another: milvus-lite
        does not stand several writers to a collection, and LanceDB would try again."""
        inserts = itertools.groupby(read_lines(file), key=lambda insert: insert["tenant"])
        groups = [[self.system.batch(insert) for insert in group] for _, group in inserts]
        waiting = iter(groups)

        async def work():
            for group in waiting:
                for batch in group:
                    await self.system.insert(batch)

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(tasks)))
        return {"seconds": time.perf_counter() - started}

    async def settle(self):
        await self.system.settle()
        clock = time.perf_counter
        started = clock()
        for _ in range(EMPTY_CALLS):
            await self.system.empty()
        empty = (clock() - started) / EMPTY_CALLS
        return {"counts": await self.system.counts(), "empty_nanoseconds": empty * 1e9}

    async def ask(self, file, k):
        """One query after another."""
        queries = [self.system.query(query, k) for query in read_lines(file)]
        nanoseconds, found = [], []
        for query in queries:
            started = time.perf_counter_ns()
            found.append(await self.system.search(query))
            nanoseconds.append(time.perf_counter_ns() - started)
        return {"ids": [self.system.ids(one) for one in found], "nanoseconds": nanoseconds}

    async def load(self, file, k, tasks, seconds):
        """Queries in turn for some seconds; one that fails ends it."""
        queries = [self.system.query(query, k) for query in read_lines(file)]
        waiting = itertools.cycle(queries)
        nanoseconds = []
        started = time.perf_counter()
        processor = time.thread_time()
        end = started + seconds

        async def work():
            while time.perf_counter() < end:
                asked = time.perf_counter_ns()
                await self.system.search(next(waiting))
                nanoseconds.append(time.perf_counter_ns() - asked)

        await asyncio.gather(*(work() for _ in range(tasks)))
        passed = time.perf_counter() - started
        busy = (time.thread_time() - processor) / passed
        return {"seconds": passed, "nanoseconds": nanoseconds, "generator_busy": busy}


async def main():
    driver = Driver()
    while line := await asyncio.to_thread(sys.stdin.readline):
        request = json.loads(line)
        try:
            answer = await getattr(driver, request.pop("do"))(**request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


asyncio.run(main())
