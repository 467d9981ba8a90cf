"""What is derived from several blocks: relations and weekly summaries."""
