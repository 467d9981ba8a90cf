SELECT count(*) AS jobs FROM memory_jobs AS j
WHERE /*conditions*/
