"""The fixed words of docs/subjects.md; a row of a table is one line."""

# ruff: noqa: E501

HEAD = """# Subjects

Made from the code by `callbus schema --subjects`; [docs/asyncapi.json](asyncapi.json) is the same for programs, and
[how it works](how-it-works.md) tells the way of a call through them. `<tenant>` is `default` where nobody set one, `<call>` our
id of the call (32 hexadecimal digits); neither is ever a telephone number. Read them with [`nats` or any client](inspect.md).

| subjects | what | kept |
|---|---|---|
| `call.<tenant>.<call>.<domain>.<event>` | what happened: JSON, one [event](#events) a message | in the stream `CALLS`, and longer in `HISTORY`; of what tts may know a copy in `CALLS_TTS` |
| `call.<tenant>.<call>.rec.in`, `rec.out` | the [recording](#audio), 200 ms a message, binary | in the stream `CALLS` |
| `rt.<tenant>.<call>.audio.in`, `audio.out` | live [audio](#audio), binary | no |
| `rt.<tenant>.<call>.control.<stage>.<command>`, `replay` | [commands](#commands), request and reply | no |
| `hb.<stage>.<worker>` | a heartbeat of a worker: a [WorkerRecord](#stored-values) | no |
| `hb.<stage>.<worker>.ping` | asks a worker whose heartbeat is missing whether it lives; it answers with a heartbeat | no |
| `dead_letter.<service>` | a message that a service could not read, as it came; headers `Callbus-Reason`, `Callbus-Subject` | in the stream `DEAD_LETTERS` |
| `kv.<bucket>.<key>` | a bucket's change, as its stream says it again | no |
| `trace.keep` | the id of a call whose trace every process is to keep | no |
| `sys.disconnect` | the server says that a client is gone (`$SYS.ACCOUNT.*.DISCONNECT` of the system account) | no |
| `ops.log_level.<service>`, `ops.log_level.<instance>` | people [change the log level](logs.md) of processes, request and reply | no |
| `$SRV.PING`, `$SRV.INFO`, `$SRV.STATS` | every process as a NATS micro service; `<service>.<instance>.health` is its endpoint | no |

Every event has these fields; the tables below leave them out:

| field | is | |
|---|---|---|
| `type` | text | the event and its version, for example `asr.final.v1` |
| `call_id` | text | the call |
| `at_us` | whole number, µs since 1970 | wall clock of the sender when it happened |
| `tenant` | text | who owns the call |
| `epoch` | whole number | ownership epoch of the sender's stage; 0 from the edge. An event of a lower epoch than one already seen from that stage is void |

Headers: `Nats-Msg-Id` says "the same event again" (a repetition is stored once), `traceparent` is W3C trace context.
Fields with a default may be absent in messages of an older version; a reader passes over fields that it does not know.
"""

AUDIO = """## Audio

| subject | said by | heard by | kept | what |
|---|---|---|---|---|
| `rt.<tenant>.<call>.audio.in` | edge | asr | no | the caller's frames as they came in RTP |
| `rt.<tenant>.<call>.audio.out` | tts | edge | no | the agent's frames in the codec of the leg, numbered within a sentence |
| `call.<tenant>.<call>.rec.in` | edge | | `CALLS` | 200 ms of the caller's audio as received |
| `call.<tenant>.<call>.rec.out` | edge | | `CALLS` | 200 ms of the agent's audio as sent |

A message is 16 bytes, network byte order, and then the codec's payload as it travels in RTP (G.711: 8 bytes a millisecond):

| offset | bytes | field | |
|---|---|---|---|
| 0 | 1 | version | 1 |
| 1 | 1 | codec | RTP payload type: 0 PCMU, 8 PCMA |
| 2 | 1 | flags | 1 packets before this were lost; 2 a new RTP source; 4 the utterance ends here, no payload; 8 the sentence ends here |
| 3 | 1 | frame_count | frames in this message, all of one size |
| 4 | 4 | sequence | number of the first frame. `audio.in`, `rec.*`: contiguous in the call; `audio.out`: bits 0 to 19 count within the sentence, bits 20 to 31 are the sentence's index |
| 8 | 4 | utterance | the agent's utterance; 0 for the caller |
| 12 | 4 | media_time | 1/8000 s after the answer, of the first frame; 0 in `audio.out` |
"""

COMMANDS = """## Commands

On `rt.<tenant>.<call>.control.<stage>.<command>`, to the owner of the call in that stage; ahead of all data, never kept. Each is
answered with a [control.reply](#controlreply). Every command has `type`, `call_id`, `tenant` and `reason` (a token for the
record, never what somebody said).
"""
