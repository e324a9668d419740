"""Reads JSON that others wrote: whatever is wrong with it, it is one kind of error. Pure."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn


def read(text: str | bytes) -> Any:
    """The document; bytes have to be UTF-8. Raises ValueError, also for what Python lets through or fails on otherwise.

    That is: NaN and numbers without end, documents nested too deeply, and text with half a UTF-16 pair, which cannot be
    written.
    """
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        document = json.loads(text, parse_constant=_refuse, parse_float=_number)
        if "\\u" in text:
            json.dumps(document, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return document


def _number(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse(digits)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
