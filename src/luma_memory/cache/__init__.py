"""The cache: Redis, or this process's own memory, behind one port.

It only makes reads faster. Nothing is stored here alone, and requests are served in any case: a
cache that is unavailable, slow or full counts as one without the entry.
"""
