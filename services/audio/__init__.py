"""Sound as numbers, shared by the services and by tools: G.711, resampling, WAV files, levels. Pure."""
