"""Numbers with units as people read them, in plain ASCII."""

from __future__ import annotations

import math

_PREFIXES = {-12: "p", -9: "n", -6: "u", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}
_TAKE_PREFIXES = ("J", "s", "W", "Hz", "bit", "cycle")


def quantity(value: float | None, unit: str, digits: int = 4) -> str:
    """The value with an engineering prefix: ``quantity(2.1e9, "Hz")`` is "2.100 GHz".

    Seconds take prefixes below one only (900 s, not 0.9 ks); a missing or infinite value is "-".
    """
    if value is None or not math.isfinite(value):
        return "-"
    exponent = _exponent(value, digits, largest=0 if unit == "s" else 12)
    return f"{number(value / 10.0**exponent, digits)} {_PREFIXES[exponent]}{unit}"


def prefixed(largest: float, unit: str) -> tuple[float, str]:
    """Factor and symbol of an axis up to ``largest``: ``prefixed(2e9, "Hz")`` is (1e-9, "GHz").

    Units that take no prefix are left as they are.
    """
    if unit not in _TAKE_PREFIXES or not math.isfinite(largest):
        return 1.0, unit
    exponent = _exponent(largest, 4, largest=0 if unit == "s" else 12)
    return 10.0**-exponent, f"{_PREFIXES[exponent]}{unit}"


def number(value: float | None, digits: int = 4) -> str:
    """The value to so many significant digits, zeros kept: "2.100", "1,000.00", "1.230e-4"."""
    if value is None or not math.isfinite(value):
        return "-"
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    if -3 <= exponent < max(digits, 9):
        return f"{value:,.{max(digits - 1 - exponent, 0)}f}"
    mantissa = value / 10.0**exponent
    return f"{mantissa:.{digits - 1}f}e{exponent}"


def count(value: float) -> str:
    """A number of rounds or samples: "1,200", or "3.14159" where it is not whole."""
    if not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if value == round(value) or value >= 1e6 else f"{value:,.6g}"


def percent(share: float | None, digits: int = 3) -> str:
    """A share of one in percent, "12.3 %"; tiny ones keep their digits: "0.0012 %"."""
    if share is None or not math.isfinite(share):
        return "-"
    return f"{number(100.0 * share, digits)} %"


def dbm(power: float) -> str:
    """A power in W as dBm, "23.0 dBm"; "-" where there is none."""
    if not power > 0 or not math.isfinite(power):
        return "-"
    return f"{10.0 * math.log10(1e3 * power):.1f} dBm"


def _exponent(value: float, digits: int, largest: int) -> int:
    """The power of a thousand that leaves 1 <= value < 1000 after rounding, within the prefixes."""
    rounded = abs(float(f"{value:.{digits}g}"))
    if rounded == 0:
        return 0
    return min(max(3 * math.floor(math.log10(rounded) / 3), -12), largest)
