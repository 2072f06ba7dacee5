"""Engines of the llm stage, one file each; an engine's own packages are imported there and nowhere else."""
