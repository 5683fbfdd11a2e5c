"""Which pictures are for training and which for the test: by a hash of their content, or of the group they belong to.

A picture's part follows from the picture alone. Adding, removing or renaming pictures and classes, or moving a picture
to another class, therefore moves no other picture, and no test picture into training under a new name.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from kdarts.genotypes.errors import KdartsError, listed

ROLES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What a folder or a cell of this name, in lower case, is for."""

SHARE = 5
"""One picture in so many is for the test."""

BLOCK = 16 * 2**10
"""Bytes in the middle of a file that, with its size, stand for its content."""

ODD = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What a name of one line in UTF-8 does not have."""

_THREADS = 4
_CHUNK = 256


class Picture(NamedTuple):
    """A labelled picture: its path below the root (absolute if elsewhere), its class, and its part ("" if open)."""

    name: str
    label: str
    part: str


def no_split(given: str, name: str, others: Sequence[str]) -> KdartsError:
    """The error for a validation split that a data set does not have; `others` are those that it has."""
    allowed = ", ".join([*map(repr, others), "a part of train (hold_back=0.1)"])
    return KdartsError(f"valid_split {given!r}: no such split beside train and test in {name!r}; allowed: {allowed}")


def compiled(group: str | None) -> re.Pattern | None:
    """The pattern of a group; raises `KdartsError` unless it is a regular expression with one group."""
    if group is None:
        return None
    shown = listed([group])
    allowed = r"allowed: a regular expression with one group in parentheses, such as '(.*)_\d+'"
    try:
        pattern = re.compile(group)
    except (re.error, OverflowError, RecursionError) as error:
        raise KdartsError(f"group {shown}: {error}; {allowed}") from None
    if pattern.groups != 1:
        raise KdartsError(f"group {shown}: {pattern.groups} groups; {allowed}")
    return pattern


def group_of(picture: Picture, pattern: re.Pattern) -> str | None:
    """What `pattern` finds in a picture's name below its class, None if it finds nothing."""
    parts = picture.name.split("/")
    if len(parts) > 1 and parts[0].lower() in ROLES:
        parts = parts[1:]
    if len(parts) > 1 and parts[0] == picture.label:
        parts = parts[1:]
    found = pattern.search("/".join(parts))
    return (found[1] or None) if found else None


def is_test(digest: bytes) -> bool:
    """Whether a hash falls to the test."""
    return int.from_bytes(digest[:8], "big") % SHARE == 0


def fingerprints(root: str, names: Sequence[str], update=lambda done: None) -> list[bytes]:
    """A hash of every file's size and of `BLOCK` bytes in its middle: of all of a small file.

    Args:
        root: the folder.
        names: files below it.
        update: called with the number of files done.

    Raises:
        KdartsError: files that cannot be read, named.
    """
    chunks = [names[i : i + _CHUNK] for i in range(0, len(names), _CHUNK)]
    found, failed = [], []
    pool = ThreadPoolExecutor(_THREADS)
    try:
        for part in pool.map(lambda chunk: [_fingerprint(os.path.join(root, name)) for name in chunk], chunks):
            failed += [(name, one) for name, one in zip(names[len(found) :], part, strict=False) if type(one) is str]
            found += part
            update(len(found))
    finally:
        pool.shutdown(cancel_futures=True)
    if failed:
        raise KdartsError(
            f"{root}: cannot read {listed([name for name, _ in failed])} ({failed[0][1]}); allowed: readable files"
        )
    return found


def _fingerprint(file: str) -> bytes | str:
    """The hash of a file, or why it cannot be read."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            block = os.pread(descriptor, BLOCK, max(0, (size - BLOCK) // 2))
        finally:
            os.close(descriptor)
    except OSError as error:
        return error.strerror or str(error)
    return hashlib.blake2b(size.to_bytes(8, "big") + block, digest_size=16).digest()


def divided(pictures: list[Picture], digests: list[bytes], group: re.Pattern | None) -> tuple[list[Picture], list[str]]:
    """Gives every picture its part.

    Args:
        pictures: with or without a part; the one they have is replaced.
        digests: of their content.
        group: pattern of the groups, whose pictures share a part, whatever their class; None for no groups.

    Returns:
        The pictures, each in "train" or "test"; what there is to tell, one line each.

    Raises:
        KdartsError: a pattern that finds a group in no name.
    """
    notes = []
    if group is not None:
        shown = listed([group.pattern])
        names = [group_of(picture, group) for picture in pictures]
        alone = [picture.name for picture, name in zip(pictures, names, strict=True) if name is None]
        if len(alone) == len(pictures):
            raise KdartsError(f"group {shown} finds nothing in {listed(alone, 3)}; allowed: one that does")
        if alone:
            notes.append(
                f"group {shown} finds nothing in {len(alone)} of {len(pictures)} names, each a group of its "
                f"own: {listed(alone, 1)}"
            )
        digests = [
            digest if name is None else hashlib.blake2b(b"group " + name.encode(), digest_size=16).digest()
            for name, digest in zip(names, digests, strict=True)
        ]
    parts = ["test" if is_test(digest) else "train" for digest in digests]
    pictures = [Picture(picture.name, picture.label, part) for picture, part in zip(pictures, parts, strict=True)]
    held = {part: {picture.label for picture in pictures if picture.part == part} for part in ("train", "test")}
    for part, other in (("test", "train"), ("train", "test")):
        if held[part] and (without := sorted(held[other] - held[part])):
            count = Counter(picture.label for picture in pictures)
            few = [f"{label} (of {count[label]})" for label in without]
            notes.append(f"classes without a {part} picture, as 1 in {SHARE} is drawn by a hash: {listed(few)}")
    return pictures, notes


def shared_groups(pictures: list[Picture], group: re.Pattern) -> list[str]:
    """The groups that have pictures in both parts."""
    parts = {}
    for picture in pictures:
        if name := group_of(picture, group):
            parts.setdefault(name, set()).add(picture.part)
    return sorted(name for name, held in parts.items() if len(held) > 1)


def duplicates(
    root: str, pictures: list[Picture], digests: list[bytes] | None, update=lambda done: None
) -> list[tuple[str, str]]:
    """Test pictures with the content of a training picture.

    Args:
        root: the folder.
        pictures: each with its part.
        digests: of their content, or None: found here, of the files of equal size.
        update: called with the number of files done.

    Returns:
        The names of both, for each such test picture.
    """
    if digests is None:
        sizes = {"train": {}, "test": {}}
        for picture in pictures:
            sizes[picture.part].setdefault(_size(os.path.join(root, picture.name)), []).append(picture)
        both = sizes["train"].keys() & sizes["test"].keys()
        pictures = [picture for size in sorted(both) for part in sizes.values() for picture in part[size]]
        digests = fingerprints(root, [picture.name for picture in pictures], update)
    pairs = list(zip(pictures, digests, strict=True))
    first = {digest: picture.name for picture, digest in reversed(pairs) if picture.part == "train"}
    found = [(picture.name, first[digest]) for picture, digest in pairs if picture.part == "test" and digest in first]
    return [pair for pair in found if _same(*(os.path.join(root, name) for name in pair))]


def _size(file: str) -> int:
    try:
        return os.stat(file).st_size
    except OSError:
        return -1  # it is named where it is read


def _same(file: str, other: str) -> bool:
    """Whether two files of one size have the same bytes; those of `BLOCK` or less are known to."""
    if _size(file) <= BLOCK:
        return True
    with open(file, "rb") as one, open(other, "rb") as two:
        return hashlib.file_digest(one, "sha256").digest() == hashlib.file_digest(two, "sha256").digest()
