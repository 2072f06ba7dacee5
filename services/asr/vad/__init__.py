"""Voice activity detectors: how likely a short window of audio is speech."""
