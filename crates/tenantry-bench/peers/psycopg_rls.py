"""Drives psycopg 3 as an application would use it: a JSON object a line on standard input says
what to do, one on standard output says what came of it.

One table, rows of tenants separated by row-level security, the tenant set inside each transaction.
Plain is what the manuals of psycopg and pgvector show: arrays of NumPy, psycopg's own choice of
forms, statements prepared when it finds them worth it. Tuned has vectors encoded beforehand, all in
binary form, and all statements prepared at once; pipelined is tuned, with a search in one round
trip. Workers are processes or threads with a connection each that is kept; they make their requests
ready before they start together."""

import base64
import json
import multiprocessing
import multiprocessing.dummy
import struct
import sys
import threading
import time
from contextlib import nullcontext
from itertools import cycle, islice

import numpy
import psycopg
from pgvector.psycopg import register_vector
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types import TypeInfo
from psycopg.types.numeric import Int8

KINDS = {"processes": multiprocessing.get_context("spawn"), "threads": multiprocessing.dummy}
SET_TENANT = "SELECT set_config('bench.tenant', %s, true)"
SEARCH = """SELECT id, document, section, embedding <-> %s AS distance
FROM records ORDER BY distance LIMIT %s"""
INSERT = """INSERT INTO records (tenant, id, document, section, embedding)
VALUES (%s, %s, %s, %s, %s)"""
# A worker that waits longer for the others than this has lost one.
START_SECONDS = 120

# What a worker has: one in each process or thread.
own = threading.local()


class Vector:
    """A vector in pgvector's binary form: the number of components and an unused field as 16
    bits, then the components as 32-bit floats, all big-endian."""

    def __init__(self, floats):
        self.data = struct.pack(f">HH{len(floats)}f", len(floats), 0, *floats)


def vector_dumper(connection):
    class VectorDumper(Dumper):
        format = Format.BINARY
        oid = TypeInfo.fetch(connection, "vector").oid

        def dump(self, vector):
            return vector.data

    return VectorDumper


def prepare_worker(where, barrier):
    own.where, own.barrier, own.connection = where, barrier, None


def connect():
    """Not while a pool starts its workers: it would replace one that fails again and again."""
    if own.connection is not None:
        return
    uri, role, style = own.where
    own.is_plain = style == "plain"
    if own.is_plain:
        connection = psycopg.connect(uri, user=role)
        register_vector(connection)
    else:
        connection = psycopg.connect(uri, user=role, prepare_threshold=0)
        connection.adapters.register_dumper(Vector, vector_dumper(connection))
    connection.commit()
    own.connection = connection
    own.pipeline = connection.pipeline if style == "pipelined" else nullcontext
    own.cursor = connection.cursor(binary=not own.is_plain)


def read_vector(encoded):
    floats = numpy.frombuffer(base64.b64decode(encoded), dtype="<f4")
    return floats if own.is_plain else Vector(floats.tolist())


def search(query):
    tenant, vector, k = query
    with own.pipeline():
        own.connection.execute(SET_TENANT, (tenant,), binary=not own.is_plain)
        own.cursor.execute(SEARCH, (vector, k), binary=not own.is_plain)
        # Sends what was not sent, so a pipeline makes one round trip.
        own.connection.commit()
        return own.cursor.fetchall()


def insert(batch):
    tenant, rows = batch
    own.connection.execute(SET_TENANT, (tenant,), binary=not own.is_plain)
    own.cursor.executemany(INSERT, rows)
    own.connection.commit()


def read_lines(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def read_queries(path, k):
    lines = read_lines(path)
    return [(str(line["tenant"]), read_vector(line["vector"]), k) for line in lines]


def read_batch(line):
    tenant = line["tenant"] if own.is_plain else Int8(line["tenant"])
    columns = line["id"], line["document"], line["section"], map(read_vector, line["vectors"])
    return str(line["tenant"]), [(tenant, *row) for row in zip(*columns)]


def work_insert(task):
    """This worker's share of the batches; when it started and ended."""
    path, worker, workers = task
    connect()
    batches = [read_batch(line) for line in read_lines(path)[worker::workers]]
    own.barrier.wait(START_SECONDS)
    started = time.perf_counter()
    for batch in batches:
        insert(batch)
    return started, time.perf_counter()


def work_search(task):
    """Queries in turn for some seconds, each worker from another one on."""
    path, k, seconds, worker, workers = task
    connect()
    queries = read_queries(path, k)
    first = len(queries) * worker // workers
    queries = islice(cycle(queries), first, None)
    # The first few make statements known to the server.
    for query in islice(queries, 5):
        search(query)
    nanoseconds = []
    own.barrier.wait(START_SECONDS)
    started = time.perf_counter()
    while time.perf_counter() < started + seconds:
        asked = time.perf_counter_ns()
        search(next(queries))
        nanoseconds.append(time.perf_counter_ns() - asked)
    return started, time.perf_counter(), nanoseconds


def work_ask(task):
    path, k = task
    connect()
    ids, nanoseconds = [], []
    for query in read_queries(path, k):
        asked = time.perf_counter_ns()
        found = search(query)
        nanoseconds.append(time.perf_counter_ns() - asked)
        ids.append([row[0] for row in found])
    return {"ids": ids, "nanoseconds": nanoseconds}


class Driver:
    def __init__(self):
        self.where = self.kind = None
        self.pools = {}

    def open(self, uri, role, style, kind):
        self.where, self.kind = (uri, role, style), KINDS[kind]
        return {"name": f"psycopg {psycopg.__version__}"}

    def on_workers(self, work, tasks):
        """A worker for each task; they are kept for the next time."""
        count = len(tasks)
        if count not in self.pools:
            barrier = self.kind.Barrier(count)
            self.pools[count] = self.kind.Pool(count, prepare_worker, (self.where, barrier))
        return self.pools[count].map(work, tasks, chunksize=1)

    def insert(self, file, tasks):
        """The seconds from the first start to the last end."""
        times = self.on_workers(work_insert, [(file, worker, tasks) for worker in range(tasks)])
        return {"seconds": max(end for _, end in times) - min(start for start, _ in times)}

    def ask(self, file, k):
        return self.on_workers(work_ask, [(file, k)])[0]

    def load(self, file, k, tasks, seconds):
        workers = [(file, k, seconds, worker, tasks) for worker in range(tasks)]
        done = self.on_workers(work_search, workers)
        passed = max(end for _, end, _ in done) - min(start for start, _, _ in done)
        return {"seconds": passed, "nanoseconds": [one for *_, all in done for one in all]}


def main():
    driver = Driver()
    while line := sys.stdin.readline():
        request = json.loads(line)
        try:
            answer = getattr(driver, request.pop("do"))(**request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
