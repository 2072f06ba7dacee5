"""The log level of a process, changed over the bus while it runs, and back again by itself."""

from __future__ import annotations

import asyncio

from bus import codec, logs
from bus.errors import DecodeError
from bus.interface import Connection, Message, Subscription
from bus.logs import get_logger
from schemas import subjects
from schemas.log_level import CONFIGURED, LogLevelOrder, LogLevelReply

log = get_logger(__name__)


class LevelControl:
    """Obeys ``ops.log_level.<service>`` and ``ops.log_level.<instance>``; each order is answered and logged."""

    def __init__(self, connection: Connection, service: str, instance: str, configured: str) -> None:
        self._connection = connection
        self._service = service
        self._instance = instance
        self._configured = configured
        self._back: asyncio.TimerHandle | None = None
        self._subscriptions: list[Subscription] = []

    async def start(self) -> None:
        """Obey from now on. Raises ``BusError`` where subscribing fails."""
        for target in (self._service, self._instance):
            subject = subjects.log_level(target.replace(".", "-"))
            self._subscriptions.append(await self._connection.subscribe(subject, self._obey))

    async def stop(self) -> None:
        """Obey no more."""
        if self._back is not None:
            self._back.cancel()
        subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            await subscription.close()

    def _obey(self, message: Message) -> None:
        before = logs.level()
        for_s, error = 0.0, ""
        try:
            order = codec.decode(message.data, LogLevelOrder)
        except DecodeError as refused:
            error = f"the order can't be read: {refused}"
            log.warning("log_level_refused", message=error)
        else:
            for_s = order.for_s
            self._change(order, before)
        if message.reply:
            reply = LogLevelReply(
                service=self._service,
                instance=self._instance,
                before=before,
                level=logs.level(),
                configured=self._configured,
                for_s=for_s,
                error=error,
            )
            self._connection.publish(message.reply, codec.encode(reply))

    def _change(self, order: LogLevelOrder, before: str) -> None:
        if self._back is not None:
            self._back.cancel()
            self._back = None
        level = self._configured if order.level == CONFIGURED else order.level
        until = f" for {order.for_s:.0f} s" if order.for_s else ""
        self._tell(f"{order.by or 'somebody'} changes the log level from {before} to {level}{until}", level, order.by)
        if order.for_s and level != self._configured:
            self._back = asyncio.get_running_loop().call_later(order.for_s, self._return)

    def _return(self) -> None:
        self._back = None
        self._tell(f"the log level is {self._configured} again, as configured", self._configured, "")

    def _tell(self, text: str, level: str, by: str) -> None:
        """Said whatever the level was or will be: who reads the log must see why it changes."""
        before = logs.level()
        logs.set_level("info")
        log.info("log_level_changed", message=text, by=by, before=before, now=level)
        logs.set_level(level)
