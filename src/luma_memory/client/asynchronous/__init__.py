"""The asyncio client, from which tools/synchronous_client.py generates `synchronous`."""
