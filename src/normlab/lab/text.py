"""The text that models learn: characters of real English, split into training and validation."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import log
from pathlib import Path

import torch
from torch import Tensor

DEFAULT = "pydoc_data.topics"
LEAST_CHARACTERS = 20_000
CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text as character ids.

    Attributes:
        source: "pydoc_data.topics", or the file's name.
        digest: first 16 hex digits of the SHA-256 of the text in UTF-8.
        vocab: its characters, sorted; a character's id is its place here.
        train, validation: ids, int64. Of every ten chunks of 1024 characters the last is for validation, so
            that both come from all parts of the text.
        unigram: validation loss, in nats per character, of guessing by the training text's character
            frequencies: what a model reaches that has learned nothing but these.
        bigram: the same, given the previous character.
    """

    source: str
    digest: str
    vocab: tuple[str, ...]
    train: Tensor
    validation: Tensor
    unigram: float
    bigram: float

    @property
    def uniform(self) -> float:
        """ln V: the loss of guessing all characters alike."""
        return log(len(self.vocab))


def _default_text() -> str:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise ValueError(
            "the default text, pydoc_data.topics, is missing from this Python: give a text with --data FILE"
        ) from None
    return "\n\n".join(topics[name] for name in sorted(topics))


def _read(path: Path) -> str:
    try:
        if not path.exists():
            raise ValueError(f"--data must name a text file, got {str(path)!r}, which does not exist")
        if not path.is_file():
            raise ValueError(f"--data must name a text file, got {str(path)!r}, which is not a file")
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(f"--data must name a readable file, got {str(path)!r}: {error.strerror}") from None
    if not raw:
        raise ValueError(f"--data must name a text of at least {LEAST_CHARACTERS} characters, got an empty file")
    try:
        # Not "utf-8-sig": its errors count bytes from after the mark.
        text = raw.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"--data must name a UTF-8 text, got {str(path)!r}, which is not UTF-8 at byte {error.start}"
        ) from None
    if "\0" in text:
        raise ValueError(f"--data must name a text, got {str(path)!r}, which is binary (it holds NUL bytes)")
    return text


def _bigram_loss(train: list[int], validation: list[int], size: int) -> float:
    pairs = Counter(pairwise(train))
    firsts = Counter(train[:-1])
    # Add-one smoothing, over the vocabulary: a pair not seen in training is possible.
    losses = [-log((pairs[a, b] + 1) / (firsts[a] + size)) for a, b in pairwise(validation)]
    return sum(losses) / len(losses)


def load_corpus(path: str | None = None) -> Corpus:
    """The corpus of a UTF-8 text file, or the default one.

    Raises:
        ValueError: for a missing, empty, binary or too short file, in one sentence.
    """
    text = _default_text() if path is None else _read(Path(path))
    return _split(DEFAULT if path is None else Path(path).name, text.replace("\r\n", "\n"))


# Kept by the text and not by the path, whose file may change.
@lru_cache(maxsize=4)
def _split(source: str, text: str) -> Corpus:
    vocab = tuple(sorted(set(text)))
    if len(text) < LEAST_CHARACTERS or len(vocab) < 2:
        raise ValueError(
            f"--data must name a text of at least {LEAST_CHARACTERS} characters, at least 2 of them different, "
            f"got {len(text)} characters, {len(vocab)} different"
        )
    index = {c: i for i, c in enumerate(vocab)}
    ids = [index[c] for c in text]
    train: list[int] = []
    validation: list[int] = []
    for start in range(0, len(ids), CHUNK):
        (validation if start // CHUNK % 10 == 9 else train).extend(ids[start : start + CHUNK])

    counts = Counter(train)
    unigram = -sum(log((counts[i] + 1) / (len(train) + len(vocab))) for i in validation) / len(validation)
    return Corpus(
        source=source,
        digest=hashlib.sha256(text.encode()).hexdigest()[:16],
        vocab=vocab,
        train=torch.tensor(train),
        validation=torch.tensor(validation),
        unigram=unigram,
        bigram=_bigram_loss(train, validation, len(vocab)),
    )
