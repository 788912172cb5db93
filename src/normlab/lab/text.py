"""The text that models learn: characters of real English, split into training and validation."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from math import log
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

DEFAULT = "pydoc_data.topics"
LEAST_CHARACTERS = 20_000
LEAST_UNIGRAM = 0.5
CHUNK = 1024


@dataclass(frozen=True, slots=True)
class Baselines:
    """What guessing costs, in nats per character, on given targets.

    Attributes:
        uniform: ln V: all characters alike.
        unigram: by the training text's character frequencies: what a model reaches that has learned only these.
        bigram: by its frequencies given the character before.
    """

    uniform: float
    unigram: float
    bigram: float


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text as character ids.

    Attributes:
        source: "pydoc_data.topics", or the file's name.
        digest: first 16 hex digits of the SHA-256 of the text in UTF-8.
        vocab: its characters, sorted; a character's id is its place here.
        train, validation: ids, int64. Of every ten chunks of 1024 characters the last is for validation, so
            that both come from all parts of the text.
    """

    source: str
    digest: str
    vocab: tuple[str, ...]
    train: Tensor
    validation: Tensor

    def baselines(self, inputs: Int[Tensor, "batch time"], targets: Int[Tensor, "batch time"]) -> Baselines:
        """What guessing costs on these targets, each preceded by its input. Frequencies are add-one smoothed."""
        size, train = len(self.vocab), self.train.numpy()
        before, after = inputs.numpy().ravel(), targets.numpy().ravel()
        counts = np.bincount(train, minlength=size)
        pairs, n_pairs = np.unique(train[:-1] * size + train[1:], return_counts=True)
        asked = before * size + after
        place = np.searchsorted(pairs, asked).clip(max=len(pairs) - 1)
        n_asked = np.where(pairs[place] == asked, n_pairs[place], 0)
        firsts = np.bincount(train[:-1], minlength=size)
        return Baselines(
            uniform=log(size),
            unigram=float(-np.log((counts[after] + 1) / (len(train) + size)).mean()),
            bigram=float(-np.log((n_asked + 1) / (firsts[before] + size)).mean()),
        )


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
    # A character's code is its place in UTF-32, so that sorting codes sorts characters.
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    ids = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    for_validation = np.arange(len(ids)) // CHUNK % 10 == 9
    corpus = Corpus(
        source=source,
        digest=hashlib.sha256(text.encode()).hexdigest()[:16],
        vocab=vocab,
        train=torch.from_numpy(ids[~for_validation]),
        validation=torch.from_numpy(ids[for_validation]),
    )
    whole = corpus.validation[None]
    if (unigram := corpus.baselines(whole[:, :-1], whole[:, 1:]).unigram) < LEAST_UNIGRAM:
        raise ValueError(
            f"--data must name a text with something to learn: guessing its characters by their frequencies costs "
            f"{unigram:.2f} nats, and at least {LEAST_UNIGRAM} is needed"
        )
    return corpus
