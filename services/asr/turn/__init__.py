"""Turn taking as a value: inputs and ``now_ms`` in, commands out. Pure: no clock, no bus, no coroutine."""
