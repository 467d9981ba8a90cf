SELECT m.block_id, m.ordinal, b.revision, b.speaker,
       substring(b.content FROM m.start_at + 1 FOR m.stop_at - m.start_at) AS text
FROM memory_passages AS m
JOIN memory_blocks AS b ON b.project_id = m.project_id AND b.user_id = m.user_id AND b.id = m.block_id
WHERE m.project_id = $1 AND m.user_id = $2 AND m.ordinal >= 0
  AND m.embedding_model IS DISTINCT FROM $3 AND m.embedding_model IS DISTINCT FROM 'none:' || $3
  AND b.status <> 'pending_enrichment'
  AND NOT EXISTS (SELECT FROM memory_next_passages AS n
      WHERE n.project_id = m.project_id AND n.user_id = m.user_id AND n.block_id = m.block_id
        AND n.ordinal = m.ordinal AND n.model = $3 AND n.revision = b.revision)
ORDER BY m.block_id, m.ordinal
LIMIT $4
