"""How good a call sounds, estimated from loss and delay: the E-model of ITU-T G.107 (06/2015), G.711 on both sides.

The model adds up impairments to a rating R (0 to 100), and R becomes a mean opinion score. All parameters that no
packet tells (loudness, noise, echo of the telephone) have the default values of G.107 table 2; with them alone R is
93.2 and the MOS 4.41, the best that telephone sound can have. Equipment impairment of G.711 is that of G.113 appendix I
(2007): Ie 0; Bpl 4.3 where lost packets are left silent, 25.1 where they are concealed.
"""

from __future__ import annotations

import math
from typing import NamedTuple

FRAME_MS = 20.0
NETWORK_MS = 20.0
"""One-way delay of a network whose round trip nobody measured: within a country."""
TELEPHONE_BUFFER_MS = 40.0
"""What a caller's telephone keeps back against jitter: two packets, as most do."""
BPL_SILENT = 4.3
"""G.711 without concealment: callbus gives the recogniser what came, and leaves holes as they are."""
BPL_CONCEALED = 25.1
"""G.711 appendix I, what telephones do."""
IE_G711 = 0.0

# G.107 table 2, default values: loudness and sidetone (dB), room noise (dB(A)), circuit noise (dBm0p), echo (dB).
_SLR, _RLR, _STMR, _LSTR = 8.0, 2.0, 15.0, 18.0
_DS = 3.0
_PS, _PR = 35.0, 35.0
_NC, _NFOR = -70.0, -64.0
_TELR, _WEPL = 65.0, 110.0
_QDU = 1.0
_MT_MS = 100.0
"""Minimum perceivable delay; the sensitivity sT is 1."""


class Loss(NamedTuple):
    """``share``: of the packets, 0.0 to 1.0, lost or too late. ``bursts``: BurstR of G.107, 1.0 for random loss."""

    share: float
    bursts: float = 1.0


def mos(loss: Loss, one_way_ms: float, bpl: float) -> float:
    """Mean opinion score, 1.0 to 4.5, of a G.711 connection."""
    return mos_of(rating(loss, one_way_ms, bpl))


def rating(loss: Loss, one_way_ms: float, bpl: float) -> float:
    """R = Ro - Is - Id - Ie,eff (G.107 equation 7-1; advantage factor A = 0).

    Args:
        one_way_ms: from mouth to ear; there and back is taken for twice that.
        bpl: :data:`BPL_SILENT` or :data:`BPL_CONCEALED`.
    """
    return _RO - _simultaneous(one_way_ms) - _delay(one_way_ms) - equipment_impairment(loss, bpl)


def equipment_impairment(loss: Loss, bpl: float, ie: float = IE_G711) -> float:
    """Ie,eff (equation 7-29)."""
    percent = 100 * min(1.0, max(0.0, loss.share))
    return ie + (95 - ie) * percent / (percent / loss.bursts + bpl)


def mos_of(r: float) -> float:
    """The score of a rating (annex B)."""
    if r <= 0:
        return 1.0
    if r >= 100:
        return 4.5
    # Below R = 6.5 the formula dips under 1, the lowest score there is.
    return max(1.0, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6)


def burst_ratio(share: float, lost: int, holes: int) -> float:
    """BurstR: mean length of the holes over the length that random loss of this share would have (1 / (1 - share)).

    Held within 1 and 2, where G.107 says the formula holds; 1 where there are no holes.
    """
    if not holes or lost <= 0:
        return 1.0
    return min(2.0, max(1.0, lost / holes * (1 - min(1.0, share))))


def incoming_mos(loss: Loss, round_trip_ms: float | None) -> float:
    """Of the caller's voice as the recogniser gets it. One way: the network and one packet; nothing waits here."""
    return mos(loss, _network_ms(round_trip_ms) + FRAME_MS, BPL_SILENT)


def outgoing_mos(loss: Loss, round_trip_ms: float | None) -> float:
    """Of the agent's voice as the caller gets it: the network, one packet, and the telephone's jitter buffer."""
    return mos(loss, _network_ms(round_trip_ms) + FRAME_MS + TELEPHONE_BUFFER_MS, BPL_CONCEALED)


def _network_ms(round_trip_ms: float | None) -> float:
    return NETWORK_MS if round_trip_ms is None else round_trip_ms / 2


# -- G.107 section 7.2: signal to noise ------------------------------------------------------------------------------


def _power_sum(*decibels: float) -> float:
    return 10 * math.log10(sum(10 ** (each / 10) for each in decibels))


_OLR = _SLR + _RLR
_NOS = _PS - _SLR - _DS - 100 + 0.004 * (_PS - _OLR - _DS - 14) ** 2
_PRE = _PR + 10 * math.log10(1 + 10 ** ((10 - _LSTR) / 10))
_NOR = _RLR - 121 + _PRE + 0.008 * (_PRE - 35) ** 2
_NO = _power_sum(_NC, _NOS, _NOR, _NFOR + _RLR)
_RO = 15 - 1.5 * (_SLR + _NO)


# -- section 7.3: impairments that come with the voice ----------------------------------------------------------------


def _simultaneous(one_way_ms: float) -> float:
    """Is = Iolr + Ist + Iq: loudness, sidetone, quantizing."""
    xolr = _OLR + 0.2 * (64 + _NO - _RLR)
    loudness = 20 * ((1 + (xolr / 8) ** 8) ** (1 / 8) - xolr / 8)
    g = 1.07 + 0.258 * _Q + 0.0602 * _Q**2
    y, z = (_RO - 100) / 15 + 46 / 8.4 - g / 9, 46 / 30 - g / 40
    quantizing = 15 * math.log10(1 + 10**y + 10**z)
    return float(loudness + _sidetone(one_way_ms) + quantizing)


_Q = 37 - 15 * math.log10(_QDU)


def _sidetone(one_way_ms: float) -> float:
    stmro = -10 * math.log10(10 ** (-_STMR / 10) + math.exp(-one_way_ms / 4) * 10 ** (-_TELR / 10))
    return float(
        12 * (1 + ((stmro - 13) / 6) ** 8) ** (1 / 8)
        - 28 * (1 + ((stmro + 1) / 19.4) ** 35) ** (1 / 35)
        - 13 * (1 + ((stmro - 3) / 33) ** 13) ** (1 / 13)
        + 29
    )


# -- section 7.4: delay -----------------------------------------------------------------------------------------------


def _delay(one_way_ms: float) -> float:
    """Id = Idte + Idle + Idd: echo of the talker, echo of the listener, and delay itself."""
    return _talker_echo(one_way_ms) + _listener_echo(2 * one_way_ms) + _absolute_delay(one_way_ms)


def _talker_echo(one_way_ms: float) -> float:
    terv = _TELR - 40 * math.log10((1 + one_way_ms / 10) / (1 + one_way_ms / 150)) + 6 * math.exp(-0.3 * one_way_ms**2)
    re, roe = 80 + 2.5 * (terv - 14), -1.5 * (_NO - _RLR)
    return ((roe - re) / 2 + math.sqrt((roe - re) ** 2 / 4 + 100) - 1) * (1 - math.exp(-one_way_ms))


def _listener_echo(round_trip_ms: float) -> float:
    rle = 10.5 * (_WEPL + 7) * (round_trip_ms + 1) ** -0.25
    return float((_RO - rle) / 2 + math.sqrt((_RO - rle) ** 2 / 4 + 169))


def _absolute_delay(one_way_ms: float) -> float:
    if one_way_ms <= _MT_MS:
        return 0.0
    x = math.log2(one_way_ms / _MT_MS)
    return float(25 * ((1 + x**6) ** (1 / 6) - 3 * (1 + (x / 3) ** 6) ** (1 / 6) + 2))
