-- name: distribute
-- Citus places the schema on a node. Its tables must not be written meanwhile.
SELECT citus_schema_distribute($1::text::regnamespace)

-- name: unlogged_tables
-- Of the schema: a move copies what the log has.
SELECT format('%I.%I', n.nspname, c.relname) AS name
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.oid = $1::text::regnamespace AND c.relkind = 'r' AND c.relpersistence = 'u' ORDER BY c.relname

-- name: is_distributed
-- Whether Citus has placed the partition.
SELECT memory_is_distributed() AS found

-- name: settle_functions
-- The partition's functions run on its node.
SELECT settle_memory_functions()

-- name: node_of
-- The node that has the schema, given as its quoted name; from the coordinator's catalog, as the node may be away.
SELECT DISTINCT n.nodename AS host, n.nodeport AS port
FROM pg_class AS c JOIN pg_dist_shard AS s ON s.logicalrelid = c.oid
JOIN pg_dist_placement AS p USING (shardid) JOIN pg_dist_node AS n USING (groupid)
WHERE c.relnamespace = $1::text::regnamespace AND c.relname = 'memory_users' AND n.noderole = 'primary'

-- name: bytes_of
-- Of the schema, with indexes; asks its node.
SELECT coalesce(sum(shard_size), 0)::bigint AS bytes FROM citus_shards
WHERE table_name IN (SELECT oid::regclass FROM pg_class WHERE relnamespace = $1::text::regnamespace)

-- name: nodes
-- Those that may have schemas.
SELECT nodename AS host, nodeport AS port FROM pg_dist_node
WHERE noderole = 'primary' AND isactive AND shouldhaveshards ORDER BY nodename, nodeport

-- name: rows_of
-- Rows of the schema as of the last analysis on its node. $1: one of its tables. $2: run there.
SELECT coalesce(sum(result::bigint), 0)::bigint AS rows FROM run_command_on_shards($1::text::regclass, $2)
WHERE success

-- name: progress
-- Of a move of the schema that runs, also of a command that was ended: bytes at both nodes.
SELECT coalesce(sum(p.source_shard_size), 0)::bigint AS bytes,
       coalesce(sum(p.target_shard_size), 0)::bigint AS copied, count(*) AS tables, min(p.status) AS status
FROM get_rebalance_progress() AS p JOIN pg_class AS c ON c.oid = p.table_name
WHERE c.relnamespace = $1::text::regnamespace
