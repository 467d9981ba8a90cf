-- Between which ids all jobs are, whoever's.
SELECT coalesce(min(id), 0) AS first, coalesce(max(id), 0) AS last FROM memory_jobs
