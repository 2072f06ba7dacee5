"""``python -m services.asr``: the asr process."""

from __future__ import annotations

from bus.service import run_service
from services.asr.worker import main

if __name__ == "__main__":
    run_service("asr", main)
