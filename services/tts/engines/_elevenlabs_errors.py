"""What ElevenLabs answers when it does not speak, in words that mend it: never the text, never the key."""

from __future__ import annotations

import json
import re
from typing import Any

from services.tts.engine import EngineChoiceError, EngineError

KEY = "[elevenlabs] api_key, api_key_file or ELEVENLABS_API_KEY"
_MENDS = {
    400: "the request is refused: [elevenlabs] voice, model and sample_rate_hz must be the account's to use",
    401: f"the key is refused: {KEY}",
    402: "the account must be paid for",
    403: f"the key may not do this: {KEY}",
    404: "no such voice or model: [elevenlabs] voice (python -m services.tts --voices lists them) and model",
    408: "it gave up on the request",
    422: "the request is refused: [elevenlabs] model and sample_rate_hz must fit each other",
    429: "too many requests at once for the account: fewer [tts] slots, or another plan",
}
_MENDS_OF_CODE = {
    "quota_exceeded": "the account's characters are used up",
    "voice_not_found": _MENDS[404],
    "model_not_found": _MENDS[404],
    "missing_permissions": f"the key lacks a permission: {KEY}",
    "detected_unusual_activity": "the account is blocked for unusual activity",
}
_CODE = re.compile(r"[a-z][a-z_]{1,48}")
CHOICES = (401, 403, 404)
"""Statuses that the settings can mend and nothing else."""


class ElevenlabsError(EngineError):
    """ElevenLabs answered with a status that is no success. ``code``: its own word for it, where it told one."""

    def __init__(self, status: int, code: str = "") -> None:
        self.status = status
        self.code = code
        mend = _MENDS_OF_CODE.get(code) or _MENDS.get(status) or ("it failed" if status >= 500 else "it refused")
        super().__init__(f"ElevenLabs answered {status}{f' ({code})' if code else ''}: {mend}")


def error_of(status: int, body: bytes) -> ElevenlabsError:
    """The error of an answer. Of the body only a code is taken: its messages may repeat the text."""
    return ElevenlabsError(status, _code_of(body))


def as_choice(error: ElevenlabsError) -> EngineError | EngineChoiceError:
    """The error as one of the settings, where it is one."""
    if error.status in CHOICES or error.code in ("voice_not_found", "model_not_found"):
        return EngineChoiceError(str(error))
    return error


def _code_of(body: bytes) -> str:
    try:
        detail: Any = json.loads(body)["detail"]
        code = detail.get("code") or detail["status"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    # Where it told the code in "code", "status" names the same for older clients.
    candidates = [each for each in (code, detail.get("status")) if isinstance(each, str) and _CODE.fullmatch(each)]
    return next((each for each in candidates if each in _MENDS_OF_CODE), candidates[0] if candidates else "")
