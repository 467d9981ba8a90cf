-- One page of a user's rows of a table, as they can be stored again; $4 is the last key of the page before.
-- The marks become names out of the catalogue.
SELECT (to_jsonb(t) - 'project_id' - 'user_id')::text AS data, jsonb_build_object(/*key*/) AS key
FROM /*table*/ AS t
WHERE t.project_id = $1 AND t.user_id = $2 /*after*/
/*order*/
LIMIT $3
