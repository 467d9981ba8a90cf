"""Accept, read, edit, erase and archive blocks."""
