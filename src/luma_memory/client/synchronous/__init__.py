"""The client without asyncio. Generated from `asynchronous`: `make format`."""
