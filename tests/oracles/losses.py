"""Distances between maps and between predictions, summed term by term."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tests.oracles.cam import Array
from tests.oracles.maps import normalize, resize


def squared_error(p: Sequence[float], q: Sequence[float]) -> float:
    """sum (p - q)^2."""
    return math.fsum((a - b) ** 2 for a, b in zip(p, q, strict=True))


def l1(p: Sequence[float], q: Sequence[float]) -> float:
    """sum |p - q|."""
    return math.fsum(abs(a - b) for a, b in zip(p, q, strict=True))


def cosine(p: Sequence[float], q: Sequence[float]) -> float:
    """1 - p.q / (|p| |q|)."""
    dot = math.fsum(a * b for a, b in zip(p, q, strict=True))
    return 1.0 - dot / math.sqrt(math.fsum(a * a for a in p)) / math.sqrt(math.fsum(b * b for b in q))


def jensen_shannon(p: Sequence[float], q: Sequence[float]) -> float:
    """(KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2, in nats, of the shares of p and q; 0 log 0 is 0."""
    total = 0.0
    for a, b in zip(p, q, strict=True):
        a, b = a / math.fsum(p), b / math.fsum(q)
        for value in (a, b):
            if value > 0:
                total += value * math.log(2 * value / (a + b)) / 2
    return total


DISTANCES: dict[str, Callable[[Sequence[float], Sequence[float]], float]] = {
    "squared_error": squared_error,
    "cosine": cosine,
    "l1": l1,
    "jensen_shannon": jensen_shannon,
}


def explanation(student: Array, teacher: Array, how: str, distance: str) -> float:
    """Resize the teacher's map, normalise both, sum over the sites, average over the samples."""
    resized = resize(teacher, student.shape[1:])
    mine, theirs = normalize(student, how), normalize(resized, how)
    pairs = zip(mine.reshape(len(mine), -1).tolist(), theirs.reshape(len(mine), -1).tolist(), strict=True)
    return math.fsum(DISTANCES[distance](p, q) for p, q in pairs) / len(mine)


def log_softmax(logits: Sequence[float]) -> list[float]:
    """z - log sum exp(z), the largest taken out first."""
    top = max(logits)
    log_total = top + math.log(math.fsum(math.exp(z - top) for z in logits))
    return [z - log_total for z in logits]


def soft_targets(student: Array, teacher: Array, temperature: float) -> float:
    """T^2 KL(softmax(z_t / T) || softmax(z_s / T)), summed over classes, mean over samples."""
    total = 0.0
    for mine, theirs in zip(student.tolist(), teacher.tolist(), strict=True):
        log_p = log_softmax([z / temperature for z in theirs])
        log_q = log_softmax([z / temperature for z in mine])
        total += math.fsum(math.exp(a) * (a - b) for a, b in zip(log_p, log_q, strict=True))
    return temperature**2 * total / len(student)


def cross_entropy(logits: Array, labels: Sequence[int]) -> float:
    """-log softmax(z)_y, mean over samples."""
    return -math.fsum(log_softmax(z)[y] for z, y in zip(logits.tolist(), labels, strict=True)) / len(labels)


def attention(activations: Array) -> list[float]:
    """Of one sample (K, *S): sum_k A_k^2 at every site, over the norm of them all; nothing where all are 0."""
    sites = [math.fsum(a * a for a in column) for column in activations.reshape(len(activations), -1).T.tolist()]
    norm = math.sqrt(math.fsum(value * value for value in sites))
    return [value / norm if norm else 0.0 for value in sites]


def attention_transfer(student: Array, teacher: Array, form: str) -> float:
    """Zagoruyko & Komodakis 2017: |q_s - q_t|_2 of a layer (eq. 2), or the mean of (q_s - q_t)^2 (their code)."""
    each = []
    for mine, theirs in zip(student, teacher, strict=True):
        squares = [(a - b) ** 2 for a, b in zip(attention(mine), attention(theirs), strict=True)]
        each.append(math.sqrt(math.fsum(squares)) if form == "paper" else math.fsum(squares) / len(squares))
    return math.fsum(each) / len(each)
