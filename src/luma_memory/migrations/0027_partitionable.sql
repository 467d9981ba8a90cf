-- Policies compare with the function itself: a distributed table refuses a subquery in one. It is stable, so an
-- index scan still calls it once. Policies that an operator wrote in their place stay.
DECLARE
    v_table text;
BEGIN
FOR v_table IN
    SELECT tablename FROM pg_policies
    WHERE schemaname = current_schema() AND policyname = 'own_rows'
      AND qual ~ 'SELECT (\w+\.)?memory_token_subject\(\)'
LOOP
    EXECUTE format('ALTER POLICY own_rows ON %I
        USING (project_id = ''default'' AND user_id = memory_token_subject())', v_table);
END LOOP;
END;
