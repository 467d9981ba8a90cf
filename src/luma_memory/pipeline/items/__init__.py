"""Items: blocks that are written and read by a name."""
