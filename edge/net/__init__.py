"""Sockets, the clock and chance: everything of the edge that touches the operating system."""
