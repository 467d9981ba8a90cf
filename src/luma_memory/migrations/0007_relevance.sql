-- What a model's cosines of unrelated texts are like: measured once, so that "relevant" means the same
-- whatever the model.
ALTER TABLE memory_embedding_models
    ADD COLUMN background_mean double precision,
    ADD COLUMN background_deviation double precision CHECK (background_deviation > 0);
