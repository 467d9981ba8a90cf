"""Exports of other systems as blocks, one file per format.

Each format is a generator from documents to `Item`s: it reads a stream, buffers at most one
conversation at a time, and yields what it cannot import as `SkippedItem` with a reason. Nothing
here depends on the service: the command line and the HTTP route send the blocks.
"""
