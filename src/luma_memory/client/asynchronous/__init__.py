"""The client for asyncio. `synchronous` is made from this folder by tools/synchronous_client.py."""
