"""Turn models: how likely it is that a caller is done."""
