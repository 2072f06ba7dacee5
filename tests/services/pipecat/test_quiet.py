"""Whoever does not use pipecat pays nothing for it, and who does hears nothing of what it quotes."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.unit

pytest.importorskip("pipecat", reason="pipecat is not installed: pip install 'callbus[pipecat]'")

IMPORTS = """
import sys
import services.asr.engines.pipecat, services.llm.engines.pipecat, services.tts.engines.pipecat
import services.pipecat.catalogue, services.pipecat.hosting, services.pipecat.quiet
print(sorted({name.partition(".")[0] for name in sys.modules} & {"pipecat", "loguru", "numpy", "openai"}))
"""
LOGS = """
import logging, threading
from services.pipecat.quiet import keep_quiet
keep_quiet()
keep_quiet()
import pipecat
from loguru import logger

def speak():
    logger.error("about the xylophone")
    logger.debug("about the xylophone")
    logging.getLogger("library").error("about %s", "the xylophone")
    logging.getLogger("services.mine").error("ours")

logging.basicConfig(level=logging.DEBUG, format="%(name)s %(message)s")
thread = threading.Thread(target=speak, name="pipecat-test")
thread.start()
thread.join()
logging.getLogger("library").error("elsewhere")
"""


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout + done.stderr


def test_an_engine_that_is_not_chosen_imports_nothing():
    assert run(IMPORTS).strip() == "[]"


def test_what_a_library_quotes_is_withheld_and_the_rest_is_not():
    told = run(LOGS)
    assert "xylophone" not in told
    assert "Pipecat" not in told, "its greeting"
    assert "ERROR at __main__:10" in told
    assert "library a line of a library is withheld" in told
    assert "services.mine ours" in told
    assert "library elsewhere" in told
