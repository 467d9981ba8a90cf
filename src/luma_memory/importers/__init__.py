"""Other systems' exports into blocks, one file a format.

Each format is a generator from documents to `Item`s: it reads a stream, holds one conversation at a
time at most, and yields what it cannot import as `SkippedItem` with a reason. Nothing here knows
the service: the command line and the HTTP route send what comes out.
"""
