#!/usr/bin/env python3
"""Cuts the shipped sample from a folder with the whole data set.

    python3 cut.py SOURCE [TARGET]

SOURCE holds `packages.jsonl.gz` and `vectors.f16.npy`, row i of one being line i of the other.
TARGET (this script's folder by default) gets `texts.jsonl` and `vectors.f16.npy`.
Needs nothing but Python; the same source gives the same bytes.
"""

import gzip
import json
import pathlib
import struct
import sys

DIMENSION = 384
ROW_BYTES = 2 * DIMENSION
RECORDS_PER_TENANT = 250
NEAREST_PER_QUESTION = 25

TENANTS = {
    "perl-group": "Debian Perl Group <",
    "python-team": "Debian Python Team <",
}

# Held-out packages of other maintainers. Their descriptions are the questions of the quickstart,
# so that it needs no embedding model.
QUESTIONS = ["jq", "curl", "ncal", "feedgnuplot", "ruby-mail"]


def rows_of(npy: bytes) -> int:
    """Where the rows of a version 1 NumPy file begin."""
    assert npy[:8] == b"\x93NUMPY\x01\x00", "not a version 1 NumPy file"
    return 10 + struct.unpack("<H", npy[8:10])[0]


def header(rows: int) -> bytes:
    """The first bytes of a NumPy file with so many rows."""
    text = f"{{'descr': '<f2', 'fortran_order': False, 'shape': ({rows}, {DIMENSION}), }}"
    padded = text.ljust(-(10 + len(text) + 1) % 64 + len(text)) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded.encode()


def main(source: pathlib.Path, target: pathlib.Path) -> None:
    with gzip.open(source / "packages.jsonl.gz", "rt", encoding="utf-8") as lines:
        packages = [json.loads(line) for line in lines]
    npy = (source / "vectors.f16.npy").read_bytes()
    start = rows_of(npy)

    def raw(i: int) -> bytes:
        return npy[start + i * ROW_BYTES : start + (i + 1) * ROW_BYTES]

    def vector(i: int) -> tuple[float, ...]:
        return struct.unpack(f"<{DIMENSION}e", raw(i))

    by_name: dict[str, int] = {}
    for i, package in enumerate(packages):
        by_name.setdefault(package["package"], i)
    questions = [by_name[name] for name in QUESTIONS]

    chosen: list[tuple[str | None, int]] = []
    for tenant, maintainer in TENANTS.items():
        own = [i for i, p in enumerate(packages) if p["maintainer"].startswith(maintainer)]
        vectors = {i: vector(i) for i in own}
        picked: set[int] = set()
        for question in questions:
            q = vector(question)
            near = sorted(own, key=lambda i: -sum(a * b for a, b in zip(q, vectors[i])))
            picked.update(near[:NEAREST_PER_QUESTION])
        rest = [i for i in own if i not in picked]
        missing = RECORDS_PER_TENANT - len(picked)
        picked.update(rest[k * len(rest) // missing] for k in range(missing))
        chosen += [(tenant, i) for i in sorted(picked)]
    chosen += [(None, i) for i in questions]

    with open(target / "texts.jsonl", "w", encoding="utf-8", newline="\n") as out:
        for tenant, i in chosen:
            p = packages[i]
            line = {
                "tenant": tenant,
                "id": p["package"],
                "document": p["description"],
                "metadata": {
                    "section": p["section"],
                    "version": p["version"],
                    "installed_kib": p["installed_size"],
                },
            }
            if p["homepage"]:
                line["uri"] = p["homepage"]
            out.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
    vectors = b"".join(raw(i) for _, i in chosen)
    (target / "vectors.f16.npy").write_bytes(header(len(chosen)) + vectors)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    here = pathlib.Path(__file__).resolve().parent
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else here)
