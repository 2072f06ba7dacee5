"""The conversation: ``turn.ended`` in, ``llm.sentence``, ``llm.done`` and tool events out."""
