"""Agents that a language model plays: what every such engine shares, so that an engine only brings its model."""
