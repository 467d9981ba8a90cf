"""The cache: Redis, or this process's own memory, behind one port.

It only makes reads faster. Nothing is stored here alone, and whatever happens to it, requests are
answered: a cache that is away, slow or full is a cache without the entry.
"""
