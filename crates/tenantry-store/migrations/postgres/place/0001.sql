-- What a place has: the same three tables for all tenants together and for each that is apart.
-- Every key begins with the tenant, also where there is only one, so that no statement differs.

-- Rows of the catalog, counters, changes and audit log: family and key as on disk, rows sealed
-- unless their family says otherwise. The head is updated with each commit, hence the room.
CREATE TABLE {schema}.catalog (
    tenant bigint NOT NULL,
    family smallint NOT NULL,
    key bytea NOT NULL,
    row bytea NOT NULL,
    PRIMARY KEY (tenant, family, key)
) WITH (fillfactor = 80);

-- Records. Ids may be longer than an index takes and may hold any byte: what is unique is their
-- keyed hash. Metadata is clear, because the server searches it; the body is sealed.
CREATE TABLE {schema}.records (
    tenant bigint NOT NULL,
    collection integer NOT NULL,
    ordinal bigint NOT NULL,
    key bytea NOT NULL CHECK (length(key) = 16),
    id bytea NOT NULL,
    fields jsonb NOT NULL DEFAULT '{}',
    body bytea NOT NULL,
    PRIMARY KEY (tenant, collection, ordinal),
    CONSTRAINT records_key UNIQUE (tenant, collection, key)
);

-- Vectors, narrow rows of their own: a search reads no bodies. Up to about 2,000 dimensions stay
-- in the row.
CREATE TABLE {schema}.vectors (
    tenant bigint NOT NULL,
    collection integer NOT NULL,
    field smallint NOT NULL,
    ordinal bigint NOT NULL,
    v {vector}.vector NOT NULL,
    PRIMARY KEY (tenant, collection, field, ordinal)
) WITH (toast_tuple_target = 8160);

-- Sealed bytes do not compress, and statistics of them say nothing.
ALTER TABLE {schema}.catalog
    ALTER COLUMN row SET STORAGE EXTERNAL,
    ALTER COLUMN row SET STATISTICS 0;
ALTER TABLE {schema}.records
    ALTER COLUMN body SET STORAGE EXTERNAL,
    ALTER COLUMN body SET STATISTICS 0;
ALTER TABLE {schema}.vectors
    ALTER COLUMN v SET STORAGE EXTERNAL,
    ALTER COLUMN v SET STATISTICS 0;

GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.catalog, {schema}.records, {schema}.vectors TO {role};
