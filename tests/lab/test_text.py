"""The default text and files: nothing lost in the split, losses as NumPy counts them, one sentence for a bad file."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from normlab.lab import load_corpus
from normlab.lab.text import CHUNK, LEAST_CHARACTERS


@pytest.fixture
def file(tmp_path):
    """A file of these bytes."""

    def write(content: bytes, name: str = "text.txt") -> str:
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    return write


@pytest.fixture(scope="module")
def topics():
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def prose(n: int = LEAST_CHARACTERS) -> str:
    """n characters, of two bytes and of three among them."""
    return ("Über 5 € läßt sich streiten.\n" * (n // 20))[:n]


def text_of(corpus, ids) -> str:
    return "".join(corpus.vocab[i] for i in ids.tolist())


def chunks(text: str) -> list[str]:
    return [text[i : i + CHUNK] for i in range(0, len(text), CHUNK)]


def test_default_text(corpus, topics):
    assert corpus.source == "pydoc_data.topics"
    assert corpus.vocab == tuple(sorted(set(topics)))
    assert corpus.digest == hashlib.sha256(topics.encode()).hexdigest()[:16]


def test_every_tenth_chunk_is_for_validation_and_none_is_lost(corpus, topics):
    parts = chunks(topics)
    assert text_of(corpus, corpus.validation) == "".join(parts[9::10])
    assert text_of(corpus, corpus.train) == "".join(p for i, p in enumerate(parts) if i % 10 != 9)


def test_baselines_against_numpy(corpus):
    train, v = corpus.train.numpy(), len(corpus.vocab)
    inputs, targets = corpus.validation[:3000].reshape(3, -1), corpus.validation[1:3001].reshape(3, -1)
    baselines = corpus.baselines(inputs, targets)
    assert baselines.uniform == pytest.approx(np.log(v))

    before, after = inputs.numpy().ravel(), targets.numpy().ravel()
    p = (np.bincount(train, minlength=v) + 1) / (len(train) + v)
    assert baselines.unigram == pytest.approx(-np.log(p[after]).mean(), rel=1e-12)

    pairs = np.ones((v, v))
    np.add.at(pairs, (train[:-1], train[1:]), 1)
    p = pairs / pairs.sum(1, keepdims=True)
    assert baselines.bigram == pytest.approx(-np.log(p[before, after]).mean(), rel=1e-12)


def test_a_pair_never_seen_in_training_has_a_finite_cost(corpus):
    last = len(corpus.vocab) - 1
    unseen = torch.full((1, 1), last)
    assert corpus.baselines(unseen, unseen).bigram < 20


def test_baselines_are_ordered_as_knowledge_is(corpus):
    whole = corpus.validation[None]
    baselines = corpus.baselines(whole[:, :-1], whole[:, 1:])
    assert baselines.bigram < baselines.unigram < baselines.uniform


def test_a_text_with_nothing_to_learn_is_refused(file):
    text = ("a" * 999 + "b") * 40
    with pytest.raises(ValueError, match=r"something to learn: .* costs 0\.\d\d nats, and at least 0\.5 is needed"):
        load_corpus(file(text.encode()))


@pytest.mark.parametrize(
    ("before", "line_end"), [(b"", "\n"), (b"\xef\xbb\xbf", "\n"), (b"", "\r\n"), (b"\xef\xbb\xbf", "\r\n")]
)
def test_file(file, before, line_end):
    text = prose()
    corpus = load_corpus(file(before + text.replace("\n", line_end).encode(), "prose.txt"))
    assert corpus.source == "prose.txt"
    assert corpus.digest == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert text_of(corpus, corpus.train) + text_of(corpus, corpus.validation) == "".join(
        [p for i, p in enumerate(chunks(text)) if i % 10 != 9] + chunks(text)[9::10]
    )
    assert "€" in corpus.vocab
    assert "\r" not in corpus.vocab
    assert "\ufeff" not in corpus.vocab


def test_a_changed_file_is_read_again(file):
    path = file(prose().encode())
    before = load_corpus(path)
    file(prose().replace("5", "7").encode())
    assert "7" in load_corpus(path).vocab
    assert "7" not in before.vocab


def test_the_same_text_is_split_once(file):
    assert load_corpus(file(prose().encode())) is load_corpus(file(prose().encode()))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "at least 20000 characters, got an empty file"),
        (b"\xef\xbb\xbf", "got 0 characters, 0 different"),
        (b"ab" * 5_000, "at least 20000 characters, at least 2 of them different, got 10000 characters, 2 different"),
        (b"ab" * 9_999 + b"a", "got 19999 characters, 2 different"),
        (b"a" * 20_000, "at least 2 of them different, got 20000 characters, 1 different"),
        (b"ab" * 10_000 + b"\0", r"text.txt', which is binary \(it holds NUL bytes\)"),
        (b"ab" * 10_000 + b"\xff", "text.txt', which is not UTF-8 at byte 20000"),
        (b"\xef\xbb\xbf" + b"ab" * 10_000 + b"\xff", "not UTF-8 at byte 20003"),
        ("naïve ".encode("latin-1") * 5_000, "not UTF-8 at byte 2"),
        (prose().encode("utf-16"), "not UTF-8 at byte 0"),
    ],
)
def test_bad_content(file, content, sentence):
    with pytest.raises(ValueError, match=rf"^--data must name .*{sentence}$"):
        load_corpus(file(content))


def test_shortest_text(file):
    assert len(load_corpus(file(b"ab" * 10_000)).vocab) == 2


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing.txt", "must name a text file, got '.*missing.txt', which does not exist"),
        ("text.txt/child", "must name a text file, got '.*child', which does not exist"),
        (".", "must name a text file, got .*, which is not a file"),
        ("a" * 300, "must name a readable file, got '.*a': File name too long"),
    ],
)
def test_bad_path(file, tmp_path, name, sentence):
    file(prose().encode())
    with pytest.raises(ValueError, match=f"^--data {sentence}$"):
        load_corpus(str(tmp_path / name))


def test_unreadable_file(file, monkeypatch):
    def denied(_path):
        raise PermissionError(13, "Permission denied")

    # Not by chmod: root reads everything.
    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(ValueError, match=r"^--data must name a readable file, got '.*text.txt': Permission denied$"):
        load_corpus(file(prose().encode()))


def test_python_without_its_documentation(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(ValueError, match=r"^the default text, pydoc_data.topics, is missing .* with --data FILE$"):
        load_corpus()
