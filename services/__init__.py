"""One process per folder: asr, llm, tts. They know each other by subject only; ``audio`` is what they share."""
