"""Write a mask in place of addresses and phone numbers."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.corpus.steps.base_step import Step
from pipeline.features import UNICODE

_URL = re.compile(r"""\b(?:(?:https?|ftp)://|www\.(?=[a-z0-9]))[^\s<>"]*[^\s<>"'`.,;:!?()\[\]{}*_-]""", re.IGNORECASE)
_EMAIL = re.compile(
    r"(?<![\w.+%-])[A-Za-z0-9][\w.+%-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,9}[A-Za-z]{2,24}\b",
    re.ASCII,
)
_IP = re.compile(
    r"(?<![\w.:])(?:(?:\d{1,3}\.){3}\d{1,3}(?!\.?\w)"
    r"|(?=[\da-f:.]*\d)[\da-f]{0,4}(?::[\da-f]{0,4}){2,8}(?:(?:\.\d{1,3}){3})?(?![\w:]|\.\w))",
    re.IGNORECASE | re.ASCII,
)
_PHONE = re.compile(
    r"(?<![\w+./-])(?:\+\d{1,3}(?:[ .-]?\(\d{1,4}\)|[ .-]?\d{1,4})(?:[ .-]?\d{2,4}){1,4}"
    r"|(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4})(?![\w-]|\.\d)",
    re.ASCII,
)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_phone_number(text: str) -> bool:
    return 7 <= sum(char.isdigit() for char in text) <= 15  # E.164 allows fifteen


# In this order: the host of a URL may be an IP address, its end a phone number.
_KINDS: dict[str, tuple[re.Pattern[str], Callable[[str], bool]]] = {
    "url": (_URL, bool),
    "email": (_EMAIL, bool),
    "ip": (_IP, _is_address),
    "phone": (_PHONE, _is_phone_number),
}

_ENDS = re.compile(r"[<>\[\]{}|].*[<>\[\]{}|]", re.DOTALL)


class Mask(Step, type="mask"):
    """Write a mask in place of URLs, e-mail addresses, IP addresses and phone numbers.

    Phone numbers are those with a plus, and ten digits in groups as in North America: `(555) 010-9999`. URLs begin with
    `http`, `https`, `ftp` or `www`; the punctuation behind them stays.
    """

    what: list[Literal["url", "email", "ip", "phone"]] = Field(default=["url", "email", "ip", "phone"], min_length=1)
    """What is masked."""

    by: str = "<{what}>"
    """What stands in its place, with `{what}` for its kind. It begins and ends with a bracket."""

    @model_validator(mode="after")
    def _is_not_found_again(self) -> Self:
        if not _ENDS.fullmatch(self.by):
            raise ValueError(f"by {self.by!r} could grow together with what is beside it; put it in <>, [] or {{}}")
        for what in _KINDS:
            if self._masked_once(self._mask(what)) != self._mask(what):
                raise ValueError(f"by {self.by!r} would be found and masked again; use other words")
        return self

    def _mask(self, what: str) -> str:
        return self.by.replace("{what}", what)

    def facts_of_key(self) -> Mapping[str, Any]:
        return UNICODE

    def apply(self, text: str) -> str:
        """The text with masks."""
        masked = self._masked_once(text)
        while masked != text:  # a mask may uncover what was not apart from what it took away
            text, masked = masked, self._masked_once(masked)
        return text

    def _masked_once(self, text: str) -> str:
        for what in (kind for kind in _KINDS if kind in self.what):
            text = _masked(text, *_KINDS[what], self._mask(what))
        return text


def _masked(text: str, pattern: re.Pattern[str], is_meant: Callable[[str], bool], mask: str) -> str:
    return pattern.sub(lambda found: mask if is_meant(found[0]) else found[0], text)
