"""One file per engine; an engine's package is imported there and nowhere else."""
