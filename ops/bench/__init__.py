"""Measurements against stated limits, in one run on this machine: ``make bench``, ``callbus bench``."""
