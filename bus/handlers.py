"""What may be a handler: a plain function that returns at once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def plain(handler: Function) -> Function:
    """Return ``handler`` if it can be called out of a read loop.

    Raises:
        TypeError: a coroutine function: whatever it awaits would hold up every message behind it, and called without
            await it would never run at all.
    """
    if inspect.iscoroutinefunction(handler):
        name = getattr(handler, "__qualname__", repr(handler))
        raise TypeError(f"{name} is a coroutine function; a handler is a plain function that queues slow work")
    return handler
