"""The `eval` command: asks a data set's questions and measures retrieval."""
