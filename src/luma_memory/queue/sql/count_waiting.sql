-- The blocks that enqueue_waiting_memory_blocks would find.
SELECT count(*) AS blocks FROM memory_blocks AS b
WHERE b.status = 'pending_enrichment'
  AND ($1::text IS NULL OR b.project_id = $1)
  AND ($2::text IS NULL OR b.user_id = $2)
  AND NOT EXISTS (SELECT FROM memory_jobs AS j
      WHERE j.block_id = b.id AND j.status IN ('pending', 'processing')
        AND j.job_type = 'enrich_and_embed'
        AND j.project_id = b.project_id AND j.user_id = b.user_id)
