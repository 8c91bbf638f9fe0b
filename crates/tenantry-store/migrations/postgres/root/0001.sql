-- What the root has beyond a place: the installation's one row, and the wall between tenants.

CREATE TABLE {schema}.installation (
    one boolean PRIMARY KEY CHECK (one),
    version integer NOT NULL,
    epoch bigint NOT NULL DEFAULT 1
);
GRANT SELECT, UPDATE (epoch) ON {schema}.installation TO {role};

-- Forced, so that it binds the owner too. Without the setting a statement fails: a transaction
-- that was lost must not read as one without rows.
ALTER TABLE {schema}.catalog ENABLE ROW LEVEL SECURITY;
ALTER TABLE {schema}.catalog FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON {schema}.catalog FOR ALL TO PUBLIC
    USING (tenant = current_setting('tenantry.tenant')::bigint)
    WITH CHECK (tenant = current_setting('tenantry.tenant')::bigint);
ALTER TABLE {schema}.records ENABLE ROW LEVEL SECURITY;
ALTER TABLE {schema}.records FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON {schema}.records FOR ALL TO PUBLIC
    USING (tenant = current_setting('tenantry.tenant')::bigint)
    WITH CHECK (tenant = current_setting('tenantry.tenant')::bigint);
ALTER TABLE {schema}.vectors ENABLE ROW LEVEL SECURITY;
ALTER TABLE {schema}.vectors FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON {schema}.vectors FOR ALL TO PUBLIC
    USING (tenant = current_setting('tenantry.tenant')::bigint)
    WITH CHECK (tenant = current_setting('tenantry.tenant')::bigint);

-- The planner uses statistics of all rows for leakproof comparisons, and its estimates would
-- tell a tenant about the ids of others.
ALTER TABLE {schema}.catalog ALTER COLUMN key SET STATISTICS 0;
ALTER TABLE {schema}.records
    ALTER COLUMN key SET STATISTICS 0,
    ALTER COLUMN id SET STATISTICS 0,
    ALTER COLUMN fields SET STATISTICS 0;
