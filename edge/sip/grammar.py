"""The pieces of RFC 3261 section 25.1 that we read, each beside the ABNF that it comes from.

Folded lines are unfolded before these patterns meet a value. Every pattern runs in linear time on any input: no two
neighbouring repetitions can match the same character.
https://www.rfc-editor.org/rfc/rfc3261#section-25.1
"""

from __future__ import annotations

import re

# token = 1*(alphanum / "-" / "." / "!" / "%" / "*" / "_" / "+" / "`" / "'" / "~")
TOKEN = r"[A-Za-z0-9\-.!%*_+`'~]+"

# quoted-string = SWS DQUOTE *(qdtext / quoted-pair) DQUOTE
# qdtext        = LWS / %x21 / %x23-5B / %x5D-7E / UTF8-NONASCII
# quoted-pair   = "\" (%x00-09 / %x0B-0C / %x0E-7F)
# Bytes that are not UTF-8 stand here as surrogates: tolerated, since they are only ever copied.
QUOTED_STRING = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\x00-\x09\x0b\x0c\x0e-\x7f])*"'

# host = hostname / IPv4address / IPv6reference
# Underscores are not in the ABNF, and are in many a hostname; an IPv6reference carries its brackets.
HOST = r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?|\[[0-9A-Fa-f:.]+\])"

# unreserved = alphanum / mark;  mark = "-" / "_" / "." / "!" / "~" / "*" / "'" / "(" / ")"
_UNRESERVED = r"A-Za-z0-9\-_.!~*'()"
# escaped = "%" HEXDIG HEXDIG
_ESCAPED = r"%[0-9A-Fa-f]{2}"

# user     = 1*( unreserved / escaped / user-unreserved )
# user-unreserved = "&" / "=" / "+" / "$" / "," / ";" / "?" / "/"
# password = *(unreserved / escaped / "&" / "=" / "+" / "$" / ",")
# "#" is not in the ABNF; telephones that dial it as a user part leave it unescaped.
_USER = rf"(?:[{_UNRESERVED}&=+$,;?/#]|{_ESCAPED})+"
_PASSWORD = rf"(?:[{_UNRESERVED}&=+$,]|{_ESCAPED})*"
# paramchar = param-unreserved / unreserved / escaped;  param-unreserved = "[" / "]" / "/" / ":" / "&" / "+" / "$"
_PARAMCHARS = rf"(?:[{_UNRESERVED}\[\]/:&+$]|{_ESCAPED})+"
# header = hname "=" hvalue;  hnv-unreserved = "[" / "]" / "/" / "?" / ":" / "+" / "$"
_HNV = rf"(?:[{_UNRESERVED}\[\]/?:+$]|{_ESCAPED})"

# SIP-URI  = "sip:" [ userinfo ] hostport uri-parameters [ headers ]
SIP_URI = re.compile(
    rf"^(?P<scheme>sips?):(?:(?P<user>{_USER})(?::(?P<password>{_PASSWORD}))?@)?"
    rf"(?P<host>{HOST})(?::(?P<port>[0-9]{{1,5}}))?"
    rf"(?P<parameters>(?:;{_PARAMCHARS}(?:={_PARAMCHARS})?)*)"
    rf"(?:\?(?P<headers>{_HNV}+={_HNV}*(?:&{_HNV}+={_HNV}*)*))?\Z",
    re.IGNORECASE,
)

# absoluteURI = scheme ":" (hier-part / opaque-part);  scheme = ALPHA *(ALPHA / DIGIT / "+" / "-" / ".")
ABSOLUTE_URI = re.compile(rf"^(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*):(?:[{_UNRESERVED};/?:@&=+$,\[\]#]|{_ESCAPED})+\Z")

# Request-Line = Method SP Request-URI SP SIP-Version CRLF
# Exactly one blank each (RFC 4475 sections 3.1.2.8 to 3.1.2.10).
REQUEST_LINE = re.compile(rf"^(?P<method>{TOKEN}) (?P<uri>[^ \t<>]+) SIP/(?P<version>[0-9]+\.[0-9]+)\Z", re.IGNORECASE)
SIP_VERSION = re.compile(r"^SIP/[0-9]+\.[0-9]+\Z", re.IGNORECASE)

# Status-Line = SIP-Version SP Status-Code SP Reason-Phrase CRLF. The blank before an empty phrase is often left out.
STATUS_LINE = re.compile(r"^SIP/(?P<version>[0-9]+\.[0-9]+) (?P<status>[0-9]+)(?: (?P<reason>.*))?\Z", re.IGNORECASE)

# message-header = field-name HCOLON value;  HCOLON = *( SP / HTAB ) ":" SWS
FIELD_NAME = re.compile(rf"^{TOKEN}\Z")
# LWS = [*WSP CRLF] 1*WSP: a line that begins with a blank goes on with the one before (section 7.3.1).
FOLD = re.compile(r"\r\n[ \t]+")

# generic-param = token [ EQUAL gen-value ];  gen-value = token / host / quoted-string;  EQUAL = SWS "=" SWS
# An IPv6 `received` comes with and without brackets (RFC 5118 section 4.5).
_IPV6 = r"\[?[0-9A-Fa-f]*:[0-9A-Fa-f:.]*\]?"
PARAMETER = re.compile(rf"[ \t]*;[ \t]*(?P<name>{TOKEN})(?:[ \t]*=[ \t]*(?P<value>{_IPV6}|{TOKEN}|{QUOTED_STRING}))?")

# name-addr    = [ display-name ] LAQUOT addr-spec RAQUOT
# display-name = *(token LWS) / quoted-string
NAME_ADDRESS = re.compile(
    rf"^(?:(?P<quoted>{QUOTED_STRING})|(?P<tokens>{TOKEN}(?:[ \t]+{TOKEN})*))?[ \t]*<(?P<uri>[^<>]*)>"
)
# addr-spec outside <>: its first ";" begins the header's parameters, "?" and "," may not stand in it (section 20).
BARE_ADDRESS = re.compile(r'^(?P<uri>[^ \t<>;,?"]+)')

# via-parm = sent-protocol LWS sent-by *( SEMI via-params )
# sent-protocol = "SIP" SLASH "2.0" SLASH transport;  sent-by = host [ COLON port ]
VIA = re.compile(
    rf"^SIP[ \t]*/[ \t]*2\.0[ \t]*/[ \t]*(?P<transport>{TOKEN})[ \t]+(?P<host>{HOST})"
    r"(?:[ \t]*:[ \t]*(?P<port>[0-9]{1,5}))?",
    re.IGNORECASE,
)

# CSeq = "CSeq" HCOLON 1*DIGIT LWS Method
CSEQ = re.compile(rf"^(?P<number>[0-9]+)[ \t]+(?P<method>{TOKEN})\Z")

# callid = word [ "@" word ]
# Only blanks and controls are kept out: telephones are creative here, and it is only ever compared.
CALL_ID = re.compile(r"^[^\x00-\x20\x7f]+\Z")

# SIP-date = rfc1123-date = wkday "," SP date1 SP time SP "GMT"
SIP_DATE = re.compile(
    r"^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} "
    r"[0-9]{2}:[0-9]{2}:[0-9]{2} GMT\Z"
)

# media-type = m-type SLASH m-subtype *( SEMI m-parameter )
MEDIA_TYPE = re.compile(rf"^({TOKEN})[ \t]*/[ \t]*({TOKEN})")

LIST_MARK = re.compile(r'[",<>\\]')
"""What matters when a comma-separated list is cut: commas in quotes and in <> do not separate."""

COMPACT_FORMS = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
}
"""RFC 3261 section 7.3.3 and the extensions registered since."""

MAGIC_COOKIE = "z9hG4bK"
"""RFC 3261 section 8.1.1.7: a branch that begins so is unique in space and time."""
