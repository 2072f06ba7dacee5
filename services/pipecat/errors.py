"""What can be wrong with a service."""

from __future__ import annotations

from config.load import ConfigError


class ServiceChoiceError(ConfigError):
    """The service that [pipecat] names can't be used; the text says what to mend, and never a variable's value."""


class ServiceError(RuntimeError):
    """A service failed; the text names the kind of failure and never what was said or was to be said.

    ``lasting``: it will fail again until the settings change: a wrong key, an unknown model or voice.
    """

    def __init__(self, text: str, *, lasting: bool = False) -> None:
        super().__init__(text)
        self.lasting = lasting
