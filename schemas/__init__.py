"""The contract: every message and every subject. Imports msgspec and nothing else."""
