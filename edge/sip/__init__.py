"""A SIP user agent as a value: bytes and `now` in, events and bytes out. No socket, no clock, no chance inside.

parser, message, headers, grammar      bytes <-> messages (RFC 3261 sections 7, 20, 25)
transaction_table, transaction         who retransmits what, and until when (section 17, RFC 6026)
dialog, routing                        where a message goes (sections 12, 16.12, 18.2; RFC 3581)
sdp, negotiation                       sessions (RFC 8866, RFC 3264)
endpoint                               `UserAgent`, which holds all of the above for both roles
"""
