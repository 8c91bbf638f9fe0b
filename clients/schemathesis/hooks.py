"""What schemathesis cannot know: how an archive is sent, which key the run itself uses, and which
rules JSON Schema has no words for."""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis.openapi.checks import RejectedPositiveData

OWN_ID = os.environ["TENANTRY_KEY"].split("_")[1]
ACTS_IN = os.environ["TENANTRY_ACTS_IN"]
ARCHIVE = Path(os.environ["TENANTRY_ARCHIVE"]).read_bytes()

# A whole archive, one that ends early, one with a wrong bit, what is no tar, what is no gzip.
PLACES = st.integers(0, len(ARCHIVE) - 1)
ARCHIVES = st.one_of(
    st.just(ARCHIVE),
    PLACES.map(lambda end: ARCHIVE[:end]),
    PLACES.map(lambda at: ARCHIVE[:at] + bytes([ARCHIVE[at] ^ 1]) + ARCHIVE[at + 1 :]),
    st.binary(max_size=1024).map(gzip.compress),
    st.binary(max_size=1024),
)
schemathesis.openapi.media_type("application/gzip", ARCHIVES)

# Why a request is refused that the document allows: what several members mean together, what bytes
# of a text are, and what only the server knows. Everything else that it refuses is a fault, of the
# document or of the server.
UNTOLD = re.compile(
    "|".join(
        [
            # Members together.
            "not both",
            "grants: give the name of a `collection`",
            "give isolation, location, or both",
            "delete needs ids or a filter",
            'by "key" needs a key',
            'only with by "key"',
            "occurs twice in this batch",
            "at most .* in all are allowed",
            "it narrows nothing",
            "for rules that are given with it",
            r"rules, \d+: ",
            "has the isolation database",
            "only rates|a burst without a rate",
            r"amount: \d+ of money_micros is not between",
            r"^(databases|collections|keys|users|records_per_collection|vector_dimensions"
            r"|requests_per_\w+|weight|concurrent_requests)\b.* is not between",
            # Grammars within texts, and bytes instead of characters.
            "regular expression",
            r"floating point `-?\d+(\.0|e\d+)`",
            "archive[:,] ",
            "the database's URL",
            "integers must fit in 64 signed bits",
            "does not fit in 64 signed bits",
            "X-Tenant-ID",
            "bytes are allowed",
            "is no meter",
            # The clock, the collection's vectors, the installation.
            "expire before it is made|must be in the future",
            "too far in the future",
            "dimension of|Inconsistent dimensions",
            "has no vectors named",
            "there is no location|is kept by|no placement policy is followed here",
            "no issuer of tokens is called",
            "the tenant lives in .* there already",
            "needs its URL|carries no database URL",
        ]
    )
)


@schemathesis.deserializer("application/gzip")
def read_archive(_: Any, response: Any) -> str:
    """A body that is whole; its bytes are described as a text."""
    return gzip.decompress(response.content).decode("latin-1")


@schemathesis.hook
def before_call(_: Any, case: schemathesis.Case, __: dict[str, Any]) -> None:
    """Keeps the run from revoking its own key, whose id it reads in the list of keys, and an
    operator from naming no tenant, which it must."""
    if (case.path_parameters or {}).get("key") == OWN_ID:
        case.path_parameters["key"] = "none"
    in_tenant = not case.path.startswith("/v1/admin/") and case.path.startswith("/v1/")
    if ACTS_IN and in_tenant and "X-Tenant-ID" not in case.headers:
        case.headers["X-Tenant-ID"] = ACTS_IN


@schemathesis.hook
def filter_failure(_: Any, failure: Any, case: schemathesis.Case, response: Any) -> bool:
    """Leaves out refusals by rules that the document has no words for."""
    if not isinstance(failure, RejectedPositiveData):
        return True
    return UNTOLD.search(response.json()["error"]["message"]) is None
