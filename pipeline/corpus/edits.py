"""Edits of a text: which characters were replaced, and by what. All others are the same before and after."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Edit(NamedTuple):
    """The characters from `start` to `stop` are replaced by `text`. Where both are equal, text is inserted."""

    start: int
    stop: int
    text: str


class Span(NamedTuple):
    """Where an edit is in the text before (`start`, `stop`) and after (`new_start`, `new_stop`)."""

    start: int
    stop: int
    new_start: int
    new_stop: int


def check_edits(text: str, edits: Iterable[Edit]) -> None:
    """Raises ValueError unless edits lie inside the text, one behind the other."""
    position = 0
    for edit in edits:
        start, stop, _ = edit
        if not position <= start <= stop <= len(text):
            raise ValueError(
                f"the edit of characters {start} to {stop} lies outside the text, or before the end of another"
            )
        position = stop


def apply_edits(text: str, edits: Iterable[Edit]) -> str:
    """The text after the edits."""
    pieces, position = [], 0
    for start, stop, new in edits:
        pieces += [text[position:start], new]
        position = stop
    return "".join([*pieces, text[position:]])


def without_unchanged(text: str, edits: Iterable[Edit]) -> list[Edit]:
    """The edits that change something; of one that changes nothing, text and place are as before."""
    return [Edit(*edit) for edit in edits if text[edit[0] : edit[1]] != edit[2]]


def compose(first: Sequence[Edit], second: Sequence[Edit]) -> list[Edit]:
    """The edits of the original text that do what `first` does to it and then `second` to the result.

    Edits that touch or overlap become one.
    """
    composed, shift = [], 0  # `shift`: how much longer the result of `first` is than the original so far
    for start, stop, firsts, seconds in _groups(first, second):
        # What lies between the edits of `first` is not copied: an edit of `second` replaces it.
        between, position = [], start
        before = start - shift
        for edit in firsts:
            new_start = edit.start + shift
            between += [" " * (new_start - position), edit.text]
            position = new_start + len(edit.text)
            shift += len(edit.text) - (edit.stop - edit.start)
        between.append(" " * (stop - position))
        moved = [Edit(edit.start - start, edit.stop - start, edit.text) for edit in seconds]
        composed.append(Edit(before, stop - shift, apply_edits("".join(between), moved)))
    return composed


def changed_spans(edits: Iterable[Edit]) -> list[Span]:
    """Where the edits are before and after."""
    spans, shift = [], 0
    for start, stop, new in edits:
        spans.append(Span(start, stop, start + shift, start + shift + len(new)))
        shift += len(new) - (stop - start)
    return spans


def _groups(first: Sequence[Edit], second: Sequence[Edit]) -> list[tuple[int, int, list[Edit], list[Edit]]]:
    """Edits of both that touch in the text between, with the characters of it that they cover together."""
    placed = [(span.new_start, span.new_stop, 0, edit) for span, edit in zip(changed_spans(first), first, strict=True)]
    placed += [(edit.start, edit.stop, 1, edit) for edit in second]
    groups: list[tuple[int, int, list[Edit], list[Edit]]] = []
    for start, stop, which, edit in sorted(placed, key=lambda one: one[:2]):
        if not groups or groups[-1][1] < start:
            groups.append((start, stop, [], []))
        begin, end, *both = groups[-1]
        both[which].append(edit)
        groups[-1] = (begin, max(end, stop), both[0], both[1])
    return groups
