"""Capabilities the pipeline needs, one file a subject; `bootstrap` chooses who provides them.

Adapters translate foreign errors into `domain.errors` and keep the cause.
"""
