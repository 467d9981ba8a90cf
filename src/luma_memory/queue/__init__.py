"""The job queue on memory_jobs: one file per task, with SQL in .sql files and in the schema."""
