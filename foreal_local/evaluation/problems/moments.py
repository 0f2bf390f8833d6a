"""Times of day and dates in answers: 3:20 p.m. is 15:20, March 5th, 2024 is 2024-03-05.

Without this a date is a difference of numbers, and a time a ratio.
"""

from __future__ import annotations

import re
from datetime import date, datetime

_TIME = re.compile(r"(?P<hour>\d{1,2})(?::(?P<minute>\d\d)(?::(?P<second>\d\d))?)?(?P<half>[ap]m)?")
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_DATE = re.compile(
    rf"\d{{1,4}}[-/]\d{{1,2}}[-/]\d{{1,4}}|\d{{1,2}} \d{{1,2}} \d{{4}}|(?=.*\d)(?=.*\b(?:{_MONTHS}))[A-Za-z\d ,.]+",
    re.I,
)
_NO_PART = re.compile(r"\\(?:text\w*|mathrm|mbox)\b|[{}$\\~*,.]|(?<=\d)(?:st|nd|rd|th)\b|\bof\b")
_FORMS = ("%Y-%m-%d", "%Y/%m/%d", "%m/%d/%Y", "%B %d %Y", "%b %d %Y", "%d %B %Y", "%d %b %Y", "%d %m %Y")
_WITHOUT_YEAR = ("%B %d", "%b %d", "%d %B", "%d %b")
_LEAP_YEAR = " 2000"


def same_time(ours: str, theirs: str) -> bool | None:
    """Are two normalised answers the same time of day? None where one is no time, or both are plain numbers.

    Morning or afternoon may be left out, as the problem may have said it.
    """
    a, b = _TIME.fullmatch(ours), _TIME.fullmatch(theirs)
    if not a or not b or not any(match["minute"] or match["half"] for match in (a, b)):
        return None
    hours = [int(match["hour"]) for match in (a, b)]
    if any(match["half"] for match in (a, b)) and all(
        match["half"] or hour > 12 or hour == 0 for match, hour in zip((a, b), hours, strict=True)
    ):
        hours = [
            hour % 12 + 12 * (match["half"] == "pm") if match["half"] else hour
            for match, hour in zip((a, b), hours, strict=True)
        ]
    parts = [[int(match[part] or 0) for part in ("minute", "second")] for match in (a, b)]
    return hours[0] == hours[1] and parts[0] == parts[1]


def same_date(answer: str, right: str) -> bool | None:
    """Are both the same date, as they were written? None where neither is a date; a year may be left out."""
    ours, theirs = _date(answer), _date(right)
    if ours is None or theirs is None:
        return None if ours is theirs else False
    n_parts = min(len(ours), len(theirs))
    return ours[-n_parts:] == theirs[-n_parts:]


def _date(text: str) -> tuple[int, ...] | None:
    """Year, month and day, or month and day."""
    plain = " ".join(_NO_PART.sub(" ", text).split())
    if len(plain) > 40 or not _DATE.fullmatch(plain):
        return None
    plain = re.sub(r"(?i)\bsept\b", "Sep", plain)
    for form in _FORMS:
        try:
            found: date = datetime.strptime(plain, form)
            return (found.year, found.month, found.day)
        except ValueError:
            pass
    for form in _WITHOUT_YEAR:
        try:
            found = datetime.strptime(plain + _LEAP_YEAR, form + " %Y")
            return (found.month, found.day)
        except ValueError:
            pass
    return None
