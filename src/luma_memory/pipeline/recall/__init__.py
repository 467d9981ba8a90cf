"""Answer a query with a scope's blocks: scan, score, fuse, rerank."""
