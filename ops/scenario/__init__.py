"""Scenarios: conversations as files, run in virtual time against the turn machine and in real time over SIP."""
