"""The same for an event loop: pools, leases and sandboxes whose calls are awaited, on asyncio, uvloop and trio."""
