"""An agent that a language model plays: the engine that every :class:`ChatModel` becomes.

An engine of a model brings only its ``ChatModel``::

    def create(section: LlmSection, settings: Settings) -> ChatEngine:
        return ChatEngine(MyModel(settings.mine), section)
"""

from __future__ import annotations

from collections.abc import Sequence

from bus.clock import Clock, SystemClock
from config.settings import LlmSection, Settings
from services.llm.agent_file import AgentFileError, find_agent, read_document
from services.llm.chat.agent import build_chat_agent
from services.llm.chat.calls import END_CALL, TRANSFER_CALL, offered
from services.llm.chat.model import ChatModel, ChatRequest
from services.llm.chat.prompt import RULES, messages
from services.llm.chat.run import ChatRun
from services.llm.chat.safety import Confidential
from services.llm.engine import Capabilities, EngineError, Request
from services.llm.tools import ToolError, ToolSpec, load_tools


class ChatEngine:
    """The agent of ``[llm] agent``, played by a model.

    Args:
        section: ``[llm]``.
        settings: all of them; not read yet.
        clock: what the time to the first token is measured with.

    Raises:
        EngineError: the agent file or its tools can't be used; the text says where and why.
    """

    def __init__(
        self, model: ChatModel, section: LlmSection, settings: Settings | None = None, *, clock: Clock | None = None
    ) -> None:
        self.model = model
        self.name = model.name
        self._clock: Clock = clock or SystemClock()
        can = model.capabilities
        try:
            document = read_document(find_agent(section.agent))
            self.agent = build_chat_agent(document, model.name)
            with_tools = can.tools and self.agent.model.tools
            tools = load_tools(document.head.tools, section) if with_tools else []
        except (AgentFileError, ToolError) as error:
            raise EngineError(str(error)) from error
        for spec in tools:
            if spec.name in (END_CALL, TRANSFER_CALL):
                raise EngineError(f"{document.path}: [agent] tools: the name {spec.name!r} is taken; choose another")
        self.manners = self.agent.manners
        self.tools: Sequence[ToolSpec] = tuple(tools)
        self.capabilities = Capabilities(streaming=can.streaming, tools=bool(tools), languages=can.languages)
        self._offered = offered(tools, self.agent.model) if with_tools else ()
        told = self.agent.model
        self._confidential = Confidential(
            f"{told.instructions}\n{RULES}",
            (
                told.facts,
                *(" ".join(texts) for texts in (told.greeting, told.farewell, told.transfer_text, told.refusal)),
            ),
            [tool.name for tool in self._offered],
        )

    async def warm(self) -> None:
        """Have the model answer once, and read what every prompt begins with where it can remember that."""
        prepare = getattr(self.model, "prepare", None)
        if prepare is None:
            await self.model.warm()
            return
        caller = Request(call_id="", tenant="", turn=1, text="Hello")
        await prepare(ChatRequest(messages(self.agent.model, caller), self._offered))

    def open(self, request: Request) -> ChatRun:
        return ChatRun(self.model, self.agent, self.tools, self._offered, self._confidential, request, self._clock)

    async def close(self) -> None:
        """Let go of the model."""
        await self.model.close()
