"""The smallest Vosk models that the real libvosk loads: 36 KB, written here byte by byte, without Kaldi's tools.

The acoustic model is a measure of loudness: two phones, silence and voice. Every :data:`WORD_FRAMES` frames of voice
are the next word of a sentence, whatever is said. So partials, ends of utterances, finals and word times are true ones,
and the text is known.

Two kinds of graph: ``HCLG.fst`` says the words of the sentence one after the other. ``HCLr.fst`` and ``Gr.fst`` let any
word follow any other: which one, the grammar decides.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

FEATURES = 40
LOUD = {8000: 102.0, 16000: 110.0}
"""First cepstral coefficient (of 40 mel bands, up to 3,800 Hz) between a quiet line and a voice, by sample rate."""
WORD_FRAMES = 7
FRAME_MS = 30
WORD_MS = WORD_FRAMES * FRAME_MS
"""Voice that is one word."""
UNKNOWN = "[unk]"

_SILENCE_STAY, _SILENCE_LEAVE, _VOICE_STAY, _VOICE_LEAVE = 1, 2, 3, 4
"""Transition ids: Kaldi counts the transitions of the states of the phones from 1."""
_NONE = 0
_DIP = 0.1
"""Cost of a frame of silence within a word."""
_FST_MAGIC = 2125659606


class _Arc(NamedTuple):
    heard: int
    word: int
    cost: float
    to: int


_Graph = dict[int, list[_Arc]]


def build(
    folder: Path, sentence: str, *, sample_rate_hz: int = 8000, grammars: bool = False, word_times: bool = False
) -> Path:
    """Write a model into ``folder``.

    Args:
        sentence: what it hears; each word of it is known.
        grammars: its graph is made at run time; without a grammar any word follows any other.
        word_times: it says which phones are words; libvosk drops a last word that is cut short then.
    """
    words = list(dict.fromkeys(sentence.split()))
    for name in ("am", "conf", "graph"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "am" / "final.mdl").write_text(_transitions() + _network(LOUD[sample_rate_hz]), encoding="utf-8")
    (folder / "conf" / "mfcc.conf").write_text(
        f"--use-energy=false\n--sample-frequency={sample_rate_hz}  # of the telephone\n--num-mel-bins={FEATURES}\n"
        f"--num-ceps={FEATURES}\n--low-freq=60\n--high-freq=3800\n--dither=0\n",
        encoding="utf-8",
    )
    # A wide lattice of so few sounds makes libvosk think for seconds, and so do states that are kept though nothing
    # speaks for them: with --min-active=200 silence costs a hundred times as much.
    (folder / "conf" / "model.conf").write_text(
        "--min-active=1\n--max-active=7000\n--beam=13\n--lattice-beam=0.5\n--acoustic-scale=1.0\n"
        "--frame-subsampling-factor=3\n--endpoint.silence-phones=1\n--endpoint.rule2.min-trailing-silence=0.5\n"
        "--endpoint.rule3.min-trailing-silence=0.75\n--endpoint.rule4.min-trailing-silence=1.0\n",
        encoding="utf-8",
    )
    if word_times:
        (folder / "graph" / "phones").mkdir(exist_ok=True)
        (folder / "graph" / "phones" / "word_boundary.int").write_text("1 nonword\n2 singleton\n", encoding="utf-8")
    known = [*words, UNKNOWN] if grammars else words
    symbols = "".join(f"{word} {number}\n" for number, word in enumerate(["<eps>", *known]))
    (folder / "graph" / "words.txt").write_text(symbols, encoding="utf-8")
    if grammars:
        loop = {0: [_Arc(number, number, 1.0, 0) for number in range(1, len(known) + 1)]}
        _write_graph(folder / "graph" / "HCLr.fst", _any_words(len(known)), {0: 0.0})
        _write_graph(folder / "graph" / "Gr.fst", loop, {0: 0.0})
        (folder / "graph" / "disambig_tid.int").write_text("", encoding="utf-8")
    else:
        numbers = [words.index(word) + 1 for word in sentence.split()]
        graph, ends = _one_sentence(numbers)
        _write_graph(folder / "graph" / "HCLG.fst", graph, dict.fromkeys(ends, 0.0))
    return folder


def _transitions() -> str:
    """Phones 1 (silence) and 2 (voice) of one state each, which is left as likely as it is kept."""
    half = f"{math.log(0.5):.7g}"
    return (
        "<TransitionModel> \n<Topology> \n<TopologyEntry> \n<ForPhones> \n1 2\n</ForPhones> \n"
        "<State> 0 <PdfClass> 0 <Transition> 0 0.5 <Transition> 1 0.5 </State> \n<State> 1 </State> \n"
        "</TopologyEntry> \n</Topology> \n<Triples> 2 \n1 0 0\n2 0 1\n</Triples> \n"
        f"<LogProbs> \n [ 0 {' '.join([half] * 4)} ]\n</LogProbs> \n</TransitionModel> \n"
    )


def _network(loud: float) -> str:
    """One layer over three frames: how far their mean loudness lies over or under ``loud``; then log probabilities."""
    rows = []
    for sign in (-1.0, 1.0):
        weights = [0.0] * (3 * FEATURES)
        for frame in range(3):
            weights[frame * FEATURES] = sign * 0.5 / 3
        rows.append(" ".join(f"{weight:.7g}" for weight in weights))
    return (
        f"<Nnet3> \ninput-node name=input dim={FEATURES}\n"
        "component-node name=level component=level input=Append(Offset(input, -1), input, Offset(input, 1))\n"
        "component-node name=odds component=odds input=level\n"
        "output-node name=output input=odds objective=linear\n\n<NumComponents> 2 \n"
        "<ComponentName> level <FixedAffineComponent> <LinearParams>  [\n  "
        + "\n  ".join(rows)
        + f" ]\n<BiasParams>  [ {loud / 2:.7g} {-loud / 2:.7g} ]\n</FixedAffineComponent> \n"
        "<ComponentName> odds <LogSoftmaxComponent> <Dim> 2 <ValueAvg>  [ ]\n<DerivAvg>  [ ]\n<Count> 0 "
        "</LogSoftmaxComponent> \n</Nnet3> <LeftContext> 1 <RightContext> 1 <Priors>  [ ]\n"
    )


def _one_sentence(words: Sequence[int]) -> tuple[_Graph, list[int]]:
    """The words in their order, with silence between them; it may end after each. More voice changes nothing."""
    graph: _Graph = {0: [_Arc(_SILENCE_STAY, _NONE, 0.0, 0)]}
    ends = [0]
    at = 0
    for word in words:
        for frame in range(WORD_FRAMES):
            following = at + 1
            heard, last = (_VOICE_LEAVE if frame == 0 else _VOICE_STAY), frame == WORD_FRAMES - 1
            graph.setdefault(at, []).append(_Arc(heard, word if last else _NONE, 0.0, following))
            if frame:
                graph[at].append(_Arc(_SILENCE_LEAVE, _NONE, _DIP, at))
            at = following
        graph[at] = [_Arc(_SILENCE_STAY, _NONE, 0.0, at)]
        ends.append(at)
    graph[at].append(_Arc(_VOICE_STAY, _NONE, 0.0, at))
    return graph, ends


def _any_words(count: int) -> _Graph:
    """Each word as long as every other, in any order. The word stands at its beginning, where the grammar is asked."""
    graph: _Graph = {0: [_Arc(_SILENCE_STAY, _NONE, 0.0, 0)]}
    following = 1
    for word in range(1, count + 1):
        at = 0
        for frame in range(WORD_FRAMES):
            to = 0 if frame == WORD_FRAMES - 1 else following
            first = frame == 0
            arc = _Arc(_VOICE_LEAVE if first else _VOICE_STAY, word if first else _NONE, 0.0, to)
            graph.setdefault(at, []).append(arc)
            if frame:
                graph[at].append(_Arc(_SILENCE_LEAVE, _NONE, _DIP, at))
            following += to != 0
            at = to
    return {state: sorted(arcs, key=lambda arc: arc.word) for state, arcs in graph.items()}


def _write_graph(path: Path, graph: _Graph, ends: dict[int, float]) -> None:
    """OpenFst's ``vector`` format of ``standard`` arcs: header version 2, then each state with its arcs."""
    states = 1 + max([*graph, *ends, *(arc.to for arcs in graph.values() for arc in arcs)])
    arcs = sum(len(arcs) for arcs in graph.values())
    parts = [struct.pack("<i", _FST_MAGIC), _text("vector"), _text("standard")]
    # Version, no symbols, "expanded and mutable", the first state.
    parts.append(struct.pack("<iiQqqq", 2, 0, 3, 0, states, arcs))
    for state in range(states):
        parts.append(struct.pack("<fq", ends.get(state, math.inf), len(graph.get(state, ()))))
        parts.extend(struct.pack("<iifi", *arc) for arc in graph.get(state, ()))
    path.write_bytes(b"".join(parts))


def _text(value: str) -> bytes:
    return struct.pack("<i", len(value)) + value.encode()
