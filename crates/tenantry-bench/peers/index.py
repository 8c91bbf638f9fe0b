"""Drives one vector index of a Python package: a JSON object a line on standard input says what to
do, one on standard output says what came of it. One thread; only the search itself is timed."""

import ctypes
import gc
import importlib.metadata
import json
import math
import sys
import time

import numpy

# Queries that a batch re-ranks at once: their candidates' originals should stay in the cache.
RERANK_BATCH = 32
# Queries that do not count: they fetch what the turn before has displaced from the caches.
WARM_UP = 20


# Vectors added at once, between which a long build can say how far it is.
ADD_BATCH = 20_000
TELL_EVERY_SECONDS = 10


def add_all(base, add):
    """Adds every row with its number as key."""
    keys = numpy.arange(len(base), dtype=numpy.uint64)
    told, told_rows = time.perf_counter(), 0
    for start in range(0, len(base), ADD_BATCH):
        end = min(start + ADD_BATCH, len(base))
        add(keys[start:end], base[start:end])
        waited = time.perf_counter() - told
        if waited >= TELL_EVERY_SECONDS:
            rate = (end - told_rows) / waited
            left = (len(base) - end) / rate / 60
            progress = f"  {end} of {len(base)}, {rate:.0f}/s, {left:.1f} min left"
            print(progress, file=sys.stderr, flush=True)
            told, told_rows = time.perf_counter(), end


def anonymous_bytes():
    """Resident memory without mapped files: the shared file of vectors does not count."""
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


def normalised(base):
    """True if the inner product of these rows is their cosine, which is cheaper to compute."""
    lengths = numpy.linalg.norm(base[:1000], axis=1)
    return bool(numpy.all(numpy.abs(lengths - 1) < 1e-2))


class Predicate:
    """usearch's search with a predicate, from the library compiled of `usearch_filtered.cpp`."""

    def __init__(self, library, index, file):
        index.save(file)
        library = ctypes.CDLL(library)
        library.usearch_load.restype = ctypes.c_void_p
        library.usearch_load.argtypes = [ctypes.c_char_p]
        self.search = library.usearch_filtered
        self.search.restype = ctypes.c_size_t
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self.search.argtypes = [pointer, pointer, size, size, pointer, pointer]
        self.loaded = library.usearch_load(file.encode())
        if not self.loaded:
            raise RuntimeError(f"{file} was not loaded")

    def filtered(self, query, k, beam, mask):
        keys = numpy.empty(k, dtype=numpy.uint64)
        place = [array.ctypes.data for array in (query, mask, keys)]
        found = self.search(self.loaded, place[0], k, beam, place[1], place[2])
        return keys[:found]


class Usearch:
    """usearch over 32-bit floats or, with re-rank, over int8."""

    def __init__(self, base, dtype, connectivity, build_beam):
        from usearch.index import Index

        metric = "ip" if dtype == "f32" and normalised(base) else "cos"
        self.index = Index(
            ndim=base.shape[1],
            metric=metric,
            dtype=dtype,
            connectivity=connectivity,
            expansion_add=build_beam,
        )
        self.predicate = None
        self.name = f"usearch {importlib.metadata.version('usearch')} {dtype} {metric}"

    def build(self, base, threads):
        add_all(base, lambda keys, rows: self.index.add(keys, rows, threads=threads))

    def set_beam(self, beam):
        self.index.expansion_search = beam

    def one(self, query, k):
        return self.index.search(query, k, threads=1).keys

    def many(self, queries, k):
        return self.index.search(queries, k, threads=1).keys

    def filtered(self, query, k, mask, wanted):
        if self.predicate:
            return self.predicate.filtered(query, k, self.index.expansion_search, mask)
        # The Python package takes no predicate: ask for more, and drop what does not pass.
        keys = self.index.search(query, wanted, threads=1).keys
        return keys[mask[keys]][:k]


class UsearchRerank:
    """usearch over int8; the candidates are compared again with the 32-bit originals."""

    def __init__(self, base, connectivity, build_beam, candidates):
        self.inner = Usearch(base, "i8", connectivity, build_beam)
        self.base = base
        self.candidates = candidates
        self.name = f"{self.inner.name} + re-rank of {candidates}"

    def build(self, base, threads):
        self.inner.build(base, threads)

    def set_beam(self, beam):
        self.inner.set_beam(beam)

    def one(self, query, k):
        keys = self.inner.one(query, max(k, self.candidates))
        scores = self.base[keys] @ query
        return keys[numpy.argsort(-scores)[:k]]

    def many(self, queries, k):
        found = self.inner.many(queries, max(k, self.candidates))
        best = numpy.empty((len(queries), k), dtype=found.dtype)
        for start in range(0, len(queries), RERANK_BATCH):
            keys = found[start : start + RERANK_BATCH]
            part = queries[start : start + RERANK_BATCH]
            scores = numpy.matmul(self.base[keys], part[:, :, None])[:, :, 0]
            order = numpy.argsort(-scores, axis=1)[:, :k]
            best[start : start + RERANK_BATCH] = numpy.take_along_axis(keys, order, axis=1)
        return best

    def filtered(self, query, k, mask, wanted):
        keys = self.inner.one(query, wanted)
        keys = keys[mask[keys]][: self.candidates]
        scores = self.base[keys] @ query
        return keys[numpy.argsort(-scores)[:k]]


class Hnswlib:
    def __init__(self, base, connectivity, build_beam):
        import hnswlib

        space = "ip" if normalised(base) else "cosine"
        self.index = hnswlib.Index(space=space, dim=base.shape[1])
        self.index.init_index(len(base), M=connectivity, ef_construction=build_beam)
        self.index.set_num_threads(1)
        self.name = f"hnswlib {importlib.metadata.version('hnswlib')} f32 {space}"

    def build(self, base, threads):
        add_all(base, lambda keys, rows: self.index.add_items(rows, keys, num_threads=threads))

    def set_beam(self, beam):
        self.index.set_ef(beam)

    def one(self, query, k):
        return self.index.knn_query(query, k, num_threads=1)[0][0]

    def many(self, queries, k):
        return self.index.knn_query(queries, k, num_threads=1)[0]

    def filtered(self, query, k, mask, wanted):
        try:
            return self.index.knn_query(query, k, num_threads=1, filter=mask.item)[0][0]
        except RuntimeError:
            # hnswlib's word for "found fewer than k".
            return numpy.empty(0, dtype=numpy.uint64)


class Driver:
    def __init__(self):
        self.base = self.queries = self.system = None

    def load(self, base, queries, dimension):
        mapped = numpy.memmap(base, dtype="<f4", mode="r").reshape(-1, dimension)
        self.base = mapped.view(numpy.ndarray)
        self.queries = numpy.fromfile(queries, dtype="<f4").reshape(-1, dimension)
        return {"count": len(self.base)}

    def build(self, system, connectivity, build_beam, candidates, threads):
        makers = {
            "usearch": lambda: Usearch(self.base, "f32", connectivity, build_beam),
            "usearch-i8": lambda: UsearchRerank(self.base, connectivity, build_beam, candidates),
            "hnswlib": lambda: Hnswlib(self.base, connectivity, build_beam),
        }
        gc.collect()
        before = anonymous_bytes()
        self.system = makers[system]()
        started = time.perf_counter()
        self.system.build(self.base, threads)
        seconds = time.perf_counter() - started
        grown = anonymous_bytes() - before
        name = self.system.name + (f", built by {threads} threads" if threads > 1 else "")
        return {"name": name, "seconds": seconds, "bytes": grown}

    def predicate(self, library, file):
        """From now on filtered searches of usearch take a predicate."""
        self.system.predicate = Predicate(library, self.system.index, file)
        return {}

    def search(self, beam, k):
        """Every query by itself, then all of them in one call, which leaves Python's part out."""
        self.system.set_beam(beam)
        clock, one = time.perf_counter_ns, self.system.one
        nanoseconds, ids = [], []
        gc.disable()
        for query in self.queries[:WARM_UP]:
            one(query, k)
        for query in self.queries:
            started = clock()
            found = one(query, k)
            nanoseconds.append(clock() - started)
            ids.append(found.tolist())
        started = clock()
        self.system.many(self.queries, k)
        batch = clock() - started
        gc.enable()
        return {"ids": ids, "nanoseconds": nanoseconds, "batch_nanoseconds": batch}

    def filtered(self, beam, k, mask, limit):
        """The first `limit` queries among the rows whose byte in the file `mask` is not 0."""
        self.system.set_beam(beam)
        allowed = numpy.fromfile(mask, dtype=numpy.bool_)
        share = max(float(allowed.mean()), 1e-9)
        wanted = min(len(self.base), max(k, math.ceil(2 * k / share)))
        clock, filtered = time.perf_counter_ns, self.system.filtered
        nanoseconds, ids = [], []
        gc.disable()
        for query in self.queries[:limit]:
            started = clock()
            found = filtered(query, k, allowed, wanted)
            nanoseconds.append(clock() - started)
            ids.append(found.tolist())
        gc.enable()
        return {"ids": ids, "nanoseconds": nanoseconds}


def main():
    driver = Driver()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(driver, request.pop("do"))(**request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


main()
