"""Coalescing, deadlines, token buckets and retries: general tools that know nothing of memory."""
