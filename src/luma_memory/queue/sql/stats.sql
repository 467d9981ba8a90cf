SELECT pending, processing, completed, failed, deferred, oldest_pending_seconds
FROM get_memory_job_stats()
