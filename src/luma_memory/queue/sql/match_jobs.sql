-- The conditions of a domain.job.JobFilter, put in place of the mark "match" of other statements.
-- $1 project, $2 user, $3 ids, $4 type, $5 error class, $6 and $7 created, $8 and $9 ended,
-- $10 and $11 a range of ids without its ends.
    ($1::text IS NULL OR j.project_id = $1)
AND ($2::text IS NULL OR j.user_id = $2)
AND ($3::bigint[] IS NULL OR j.id = ANY ($3))
AND ($4::text IS NULL OR j.job_type = $4)
AND ($5::text IS NULL OR j.error_class = $5)
AND ($6::timestamptz IS NULL OR j.created_at >= $6)
AND ($7::timestamptz IS NULL OR j.created_at < $7)
AND ($8::timestamptz IS NULL OR j.finished_at >= $8)
AND ($9::timestamptz IS NULL OR j.finished_at < $9)
AND j.id > $10 AND j.id < $11
