"""RTP as values: no socket, no clock, no chance. ``now`` and random numbers are arguments.

Rooms, in the order in which a caller's packet passes them: ``rtp`` (bytes to header), ``latch`` (may this address
speak?), ``receiver`` (order, gaps, media time), ``dtmf`` (keys), ``ring`` and ``recording`` (kept for others); then
back: ``utterance`` (the agent's frames, cut to packets), ``playout`` (whose frames leave, and the ledger of what the
caller heard), ``sender`` (RTP packets) and ``wheel`` (when each call's turn to send comes). ``reports`` speaks RTCP
about both directions.

Units: ``now`` and durations ``*_s`` are float seconds of one monotonic clock; ``media_time`` and ``*_ticks`` are clock
ticks, 8,000 a second. The payload is G.711 throughout, whose one byte lasts one tick, and is never decoded.
"""
