"""The program under test as a child process, and its operator's REST."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

START_SECONDS_MAX = 30
KEY = re.compile(r"tnt_[a-z2-7]+_[a-z2-7]+")
NUMBERS = itertools.count()
LISTENING = re.compile(r"^listening on http://([\d.]+):(\d+) \((\w+)\)$", re.MULTILINE)


@dataclass(frozen=True)
class Address:
    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


@dataclass(frozen=True)
class Server:
    """A running Tenantry with authentication on."""

    native: Address
    chroma: Address
    operator_key: str

    def rest(self, method: str, path: str, key: str, tenant: str | None = None, **options: Any) -> Any:
        """Calls the native REST and returns the JSON of its answer; a refusal is an exception."""
        headers = {"Authorization": f"Bearer {key}"}
        if tenant is not None:
            headers["X-Tenant-ID"] = quote(tenant, safe="")
        answer = httpx.request(method, self.native.url + path, headers=headers, **options)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def make_tenant(self, name: str, **spec: Any) -> Tenant:
        """Makes a tenant with a key for its administrator."""
        body = {"name": name, **spec, **own_database()}
        there = self.rest("POST", "/v1/admin/tenants", self.operator_key, json=body)
        # The same tests run wherever tenants live, and must not run in one place every time.
        assert there["isolation"] == os.environ.get("TENANTRY_DEFAULT_ISOLATION", "shared")
        location = os.environ.get("TENANTRY_DEFAULT_LOCATION", "home")
        assert there["location"] == ("own" if "own_database" in body else location)
        made = self.rest("POST", "/v1/keys", self.operator_key, tenant=name, json={"role": "admin"})
        return Tenant(self, name, made["key"])


@dataclass(frozen=True)
class Tenant:
    """A tenant with the key of its administrator."""

    server: Server
    name: str
    key: str

    def make_key(self, role: str, **limits: Any) -> str:
        """Makes a further key with the tenant's own key, not with the operator's."""
        body = {"role": role, **limits}
        return self.server.rest("POST", "/v1/keys", self.key, json=body)["key"]

    def audit(self) -> list[dict[str, Any]]:
        """What the tenant's audit log holds by now."""
        return self.server.rest("GET", "/v1/audit", self.key)["entries"]


def own_database() -> dict[str, Any]:
    """A new database for a tenant to carry, where tenants shall do so."""
    prefix = os.environ.get("TENANTRY_TEST_OWN_DATABASES")
    if prefix is None:
        return {}
    command = [os.environ["TENANTRY_PROGRAM"], "postgres", "setup", "--json"]
    command += ["--name", f"{prefix}_{next(NUMBERS)}"]
    variables = {**os.environ, "TENANTRY_SUPERUSER_URL": os.environ["TENANTRY_TEST_POSTGRES"]}
    made = subprocess.run(command, env=variables, check=True, capture_output=True, timeout=60)
    told = json.loads(made.stdout)
    own = {"url": told["database_url"], "admin_url": told["database_admin_url"]}
    return {"own_database": own}


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Server]:
    """Starts the program that `cargo xtask test` has built, and ends it."""
    program = os.environ.get("TENANTRY_PROGRAM")
    assert program, "run these tests by `cargo xtask test`, or set TENANTRY_PROGRAM"
    loopback = "127.0.0.1:0"
    command = [program, "serve", "--data-dir", str(folder / "data")]
    command += ["--listen", loopback, "--chroma-listen", loopback]
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield wait_ready(process, log)
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0, log.read_text(encoding="utf-8")


def wait_ready(process: subprocess.Popen[bytes], log: Path) -> Server:
    """Reads key and addresses from what the program prints."""
    end = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < end:
        printed = log.read_text(encoding="utf-8")
        found = {name: Address(host, int(port)) for host, port, name in LISTENING.findall(printed)}
        key = KEY.search(printed)
        if key and {"native", "chroma"} <= found.keys():
            return Server(found["native"], found["chroma"], key.group())
        assert process.poll() is None, f"the program ended while starting:\n{printed}"
        time.sleep(0.01)
    raise AssertionError(f"not ready after {START_SECONDS_MAX} s:\n{log.read_text(encoding='utf-8')}")
