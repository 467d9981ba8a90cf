"""The job queue on memory_jobs: one file a duty; statements stand in sql/ and in the schema."""
