"""Batching, time limits, rate limits and retries: general tools, standard library only."""
