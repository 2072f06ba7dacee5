"""llama.cpp: weights, which are loaded once, and contexts, which share them. Everything here blocks.

Written against the functions of ``llama.h`` as llama-cpp-python gives them (``llama_cpp.llama_cpp``), not against its
class ``Llama``: that one loads the weights again for each context and can't be stopped while it reads a prompt.
"""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bus.logs import get_logger
from services.llm.engine import EngineError

BATCH_TOKENS = 128
"""Tokens of a prompt that are evaluated at once; between two batches an answer can be stopped."""
_ALL_LAYERS = 0x7FFFFFFF
_USER_DEFINED = 1 << 4
"""``LLAMA_TOKEN_ATTR_USER_DEFINED`` of llama.h."""

_WARNING, _ERROR = 3, 4
"""Levels of ggml's log; below them it tells each step."""

_log = get_logger(__name__)
_kept: dict[str, Any] = {}
"""What llama.cpp holds a pointer to for as long as the process lives."""
_last_error = [""]


def prepare(library: Any) -> None:
    """Once a process: start llama.cpp's backend, and have the warnings and errors of its log in ours, for debugging."""
    if _kept:
        return

    def heard(level: int, text: bytes, _: Any) -> None:
        if level not in (_WARNING, _ERROR):
            return
        line = text.decode("utf-8", errors="replace").strip()
        if level == _ERROR:
            # The first one says why, those after it only that something failed.
            _last_error[0] = _last_error[0] or line.removeprefix("llama_model_load: ")
        _log.debug("llama_cpp", message=line)

    _kept["log"] = library.llama_log_callback(heard)
    library.llama_log_set(_kept["log"], ctypes.c_void_p(0))
    library.llama_backend_init()
    # The callback that stops an evaluation is asked at each step of it, by a thread that computes. So it is no Python,
    # which would have to wait for the interpreter each time, but the C library's strlen: the length of a text in one
    # byte, which is 0 or 1.
    strlen = ctypes.CDLL(None).strlen
    _kept["stop"] = library.ggml_abort_callback(ctypes.cast(strlen, ctypes.c_void_p).value)


class Weights:
    """A model's file, loaded.

    Attributes:
        trained_tokens: longest context that it was trained for.

    Raises:
        EngineError: llama.cpp can't load it.
    """

    def __init__(self, library: Any, path: Path, *, gpu_layers: int) -> None:
        prepare(library)
        self.library = library
        parameters = library.llama_model_default_params()
        parameters.n_gpu_layers = _ALL_LAYERS if gpu_layers < 0 else gpu_layers
        _last_error[0] = ""
        self.model = library.llama_model_load_from_file(str(path).encode(), parameters)
        if not self.model:
            raise EngineError(f"llama.cpp can't load {path}: {_last_error[0] or 'it does not say why'}")
        if library.llama_model_has_encoder(self.model) or not library.llama_model_has_decoder(self.model):
            self.close()
            raise EngineError(f"{path} is no model that continues a text; [llama_cpp] model must name a chat model")
        self.vocabulary = library.llama_model_get_vocab(self.model)
        self.size = library.llama_vocab_n_tokens(self.vocabulary)
        self.trained_tokens = library.llama_model_n_ctx_train(self.model)
        self._bos = library.llama_vocab_bos(self.vocabulary)
        self._adds_bos = self._bos >= 0 and library.llama_vocab_get_add_bos(self.vocabulary)
        self._marks = self._find_marks()

    def _find_marks(self) -> re.Pattern[str] | None:
        """The texts that are more than words to this model: begin of a turn, end of a turn, and so on."""
        library, marks = self.library, []
        for token in range(self.size):
            attributes = library.llama_vocab_get_attr(self.vocabulary, token)
            text = ""
            if library.llama_vocab_is_control(self.vocabulary, token) or attributes & _USER_DEFINED:
                text = self.text_of(token)
            if re.fullmatch(r"[<\[|].*[>\]|]", text, re.DOTALL):
                marks.append(text)
        return re.compile("|".join(re.escape(each) for each in sorted(marks, key=len, reverse=True))) if marks else None

    def harmless(self, text: str) -> str:
        """A text of the conversation without what would be more than words to the model."""
        while self._marks is not None and self._marks.search(text):
            text = self._marks.sub(" ", text)
        return text

    def text_of(self, token: int) -> str:
        """A token as the vocabulary writes it; empty for -1, no token."""
        if token < 0:
            return ""
        text: bytes = self.library.llama_vocab_get_text(self.vocabulary, token) or b""
        return text.decode("utf-8", errors="replace")

    @property
    def bos(self) -> str:
        return self.text_of(self._bos)

    @property
    def eos(self) -> str:
        return self.text_of(self.library.llama_vocab_eos(self.vocabulary))

    def tokens_of(self, text: str) -> list[int]:
        """A rendered prompt as tokens. It begins with the model's begin token, where it has one, exactly once."""
        data = text.encode()
        buffer = (ctypes.c_int32 * (len(data) + 8))()
        count = self.library.llama_tokenize(self.vocabulary, data, len(data), buffer, len(buffer), False, True)
        if count < 0:
            raise EngineError("llama.cpp can't split the prompt into tokens")
        tokens = list(buffer[:count])
        return [self._bos, *tokens] if self._adds_bos and tokens[:1] != [self._bos] else tokens

    def piece_of(self, token: int) -> bytes:
        """The bytes that a token stands for; none for a control token."""
        for size in (64, 4096):
            buffer = ctypes.create_string_buffer(size)
            count: int = self.library.llama_token_to_piece(self.vocabulary, token, buffer, size, 0, False)
            if count >= 0:
                return buffer.raw[:count]
        return b""

    def ends(self, token: int) -> bool:
        """Whether a token ends an answer."""
        return bool(self.library.llama_vocab_is_eog(self.vocabulary, token))

    def grammar(self, text: str) -> Any:
        """A grammar from its start; None: llama.cpp can't read it. To be freed with :meth:`free_sampler`."""
        return self.library.llama_sampler_init_grammar(self.vocabulary, text.encode(), b"root") or None

    def free_sampler(self, sampler: Any) -> None:
        self.library.llama_sampler_free(sampler)

    def close(self) -> None:
        """Contexts must be closed before."""
        if self.model:
            self.library.llama_model_free(self.model)
            self.model = None


class Context:
    """What a model remembers of one text. One thread at a time, except for :meth:`stop`.

    Attributes:
        tokens: that are evaluated and remembered.
        evaluated: tokens that were ever evaluated.
    """

    def __init__(self, weights: Weights, *, size: int, threads: int, batch_threads: int) -> None:
        library = self._library = weights.library
        self._weights = weights
        parameters = library.llama_context_default_params()
        parameters.n_ctx = size
        parameters.n_batch = parameters.n_ubatch = BATCH_TOKENS
        parameters.n_threads, parameters.n_threads_batch = threads, batch_threads
        parameters.no_perf = True
        _last_error[0] = ""
        self._context = library.llama_init_from_model(weights.model, parameters)
        if not self._context:
            raise EngineError(
                f"llama.cpp can't make a context of {size} tokens: {_last_error[0] or 'it does not say why'}; fewer"
                " [llama_cpp] context_tokens or slots need less memory"
            )
        self._memory = library.llama_get_memory(self._context)
        self._stop = ctypes.create_string_buffer(2)
        library.llama_set_abort_callback(self._context, _kept["stop"], ctypes.addressof(self._stop))
        self._batch = library.llama_batch_init(BATCH_TOKENS, 0, 1)
        self.size = min(size, library.llama_n_ctx(self._context))
        self.tokens: list[int] = []
        self.evaluated = 0

    def stop(self) -> None:
        """Have the evaluation that is going on, and each later one, end at once. From any thread."""
        self._stop[0] = b"\x01"

    def allow(self) -> None:
        """Take :meth:`stop` back."""
        self._stop[0] = b"\x00"

    def keep(self, length: int) -> None:
        """Forget all but the first tokens; a model that can't forget a part forgets everything."""
        if length >= len(self.tokens):
            return
        if length == 0 or not self._library.llama_memory_seq_rm(self._memory, 0, length, -1):
            self._library.llama_memory_clear(self._memory, False)
            length = 0
        del self.tokens[length:]

    def read(self, prompt: Sequence[int]) -> bool:
        """Come to remember exactly this, and be ready to choose what follows. What is remembered already stays.

        Returns:
            False where it was stopped.
        """
        self.keep(min(common_length(self.tokens, prompt), len(prompt) - 1))
        while len(self.tokens) < len(prompt):
            part = prompt[len(self.tokens) : len(self.tokens) + BATCH_TOKENS]
            if not self._evaluate(part, last=len(self.tokens) + len(part) == len(prompt)):
                return False
        return True

    def add(self, token: int) -> bool:
        """The next token; False where it was stopped."""
        return self._evaluate((token,), last=True)

    def _evaluate(self, part: Sequence[int], *, last: bool) -> bool:
        if self._stop[0] != b"\x00":
            return False
        batch, place = self._batch, len(self.tokens)
        batch.n_tokens = len(part)
        for number, token in enumerate(part):
            batch.token[number] = token
            batch.pos[number] = place + number
            batch.n_seq_id[number] = 1
            batch.seq_id[number][0] = 0
            batch.logits[number] = last and number == len(part) - 1
        answer = self._library.llama_decode(self._context, batch)
        if answer == 0:
            self.tokens.extend(part)
            self.evaluated += len(part)
            return True
        # A part of the batch may be remembered.
        if not self._library.llama_memory_seq_rm(self._memory, 0, place, -1):
            self._library.llama_memory_clear(self._memory, False)
            self.tokens.clear()
        if answer == 2:
            return False
        raise EngineError(f"llama.cpp can't evaluate the prompt (llama_decode answers {answer})")

    def logits(self) -> Any:
        """Pointer to how likely each token is to follow, a float each."""
        return self._library.llama_get_logits_ith(self._context, -1)

    @property
    def pointer(self) -> Any:
        return self._context

    def close(self) -> None:
        if self._context:
            self._library.llama_batch_free(self._batch)
            self._library.llama_free(self._context)
            self._context = None


class Choice:
    """How the next token is chosen: the likeliest at temperature 0, else by chance among likely ones.

    To be closed; a new one for each answer.
    """

    def __init__(self, weights: Weights, numpy: Any, *, temperature: float, seed: int) -> None:
        library = self._library = weights.library
        self._weights, self._numpy = weights, numpy
        self._chain = library.llama_sampler_chain_init(library.llama_sampler_chain_default_params())
        if temperature <= 0:
            samplers = [library.llama_sampler_init_greedy()]
        else:
            samplers = [
                library.llama_sampler_init_top_k(40),
                library.llama_sampler_init_top_p(0.95, 1),
                library.llama_sampler_init_min_p(0.05, 1),
                library.llama_sampler_init_temp(temperature),
                library.llama_sampler_init_dist(seed),
            ]
        for sampler in samplers:
            library.llama_sampler_chain_add(self._chain, sampler)

    def next(self, context: Context) -> int:
        """The next token."""
        token: int = self._library.llama_sampler_sample(self._chain, context.pointer, -1)
        return token

    def next_within(self, context: Context, grammar: Any) -> int | None:
        """The next token that a grammar allows; None: it allows none but the end.

        Only where the model's own choice is not allowed is the whole vocabulary put to the grammar, which is slow.
        """
        library, numpy = self._library, self._numpy
        token = self.next(context)
        data = numpy.zeros(1, dtype=[("id", "i4"), ("logit", "f4"), ("p", "f4")])
        data["id"], data["logit"] = token, 1.0
        library.llama_sampler_apply(grammar, ctypes.byref(self._array(data)))
        if math.isinf(data["logit"][0]):
            data = numpy.zeros(self._weights.size, dtype=data.dtype)
            data["id"] = numpy.arange(self._weights.size)
            data["logit"] = numpy.ctypeslib.as_array(context.logits(), shape=(self._weights.size,))
            candidates = self._array(data)
            library.llama_sampler_apply(grammar, ctypes.byref(candidates))
            if not numpy.isfinite(data["logit"]).any():
                return None
            library.llama_sampler_apply(self._chain, ctypes.byref(candidates))
            token = candidates.data[candidates.selected].id
        if self._weights.ends(token):
            return None
        library.llama_sampler_accept(grammar, token)
        return token

    def _array(self, data: Any) -> Any:
        library = self._library
        pointer = data.ctypes.data_as(library.llama_token_data_p)
        return library.llama_token_data_array(data=pointer, size=len(data), selected=-1, sorted=False)

    def close(self) -> None:
        self._library.llama_sampler_free(self._chain)


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens at the start are the same."""
    shorter = min(len(first), len(second))
    if list(first[:shorter]) == list(second[:shorter]):
        return shorter
    return next(place for place in range(shorter) if first[place] != second[place])
