"""Text to speech: llm.sentence in, audio.out and tts.* out. See README.md."""
