"""Metrics of single images, one pixel at a time, in float64; None where an image has no score."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tests.oracles.cam import Array, sites
from tests.oracles.maps import resize

Score = float | None


def at_size(heat: Array, size: Sequence[int]) -> Array:
    """Relu, then linear interpolation to a size."""
    positive = heat.copy()
    for site in sites(heat):
        positive[site] = max(float(heat[site]), 0.0)
    return resize(positive[None], size)[0]


def divergence(logits: Sequence[float], reference: Sequence[float]) -> float:
    """sum p_r log(p_r / p) in nats, the logarithms from the logits."""

    def log_total(row: Sequence[float]) -> float:
        return max(row) + math.log(math.fsum(math.exp(z - max(row)) for z in row))

    terms = []
    for z, r in zip(logits, reference, strict=True):
        log_p, log_q = r - log_total(reference), z - log_total(logits)
        terms.append(math.exp(log_p) * (log_p - log_q))
    return math.fsum(terms)


def calibration_error(confidence: Sequence[float], correct: Sequence[float], bins: int) -> float:
    """Image by image into the bin (b / bins, (b + 1) / bins], then the weighted gaps."""
    total = 0.0
    for b in range(bins):
        inside = [
            (sure, hit)
            for sure, hit in zip(confidence, correct, strict=True)
            if b / bins < sure <= (b + 1) / bins or (b == 0 and sure == 0)
        ]
        if inside:
            gap = sum(hit for _, hit in inside) / len(inside) - sum(sure for sure, _ in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(gap)
    return total


def ranks(values: Sequence[float]) -> list[float]:
    """How many are smaller, plus half of the others that are equal."""
    return [
        sum(1.0 for other in values if other < value) + (sum(1.0 for other in values if other == value) - 1) / 2
        for value in values
    ]


def pearson(a: Sequence[float], b: Sequence[float]) -> Score:
    mean_a, mean_b = math.fsum(a) / len(a), math.fsum(b) / len(b)
    square_a, square_b = math.fsum((x - mean_a) ** 2 for x in a), math.fsum((y - mean_b) ** 2 for y in b)
    if min(a) == max(a) or min(b) == max(b):
        return None
    return math.fsum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True)) / math.sqrt(square_a * square_b)


def spearman(a: Sequence[float], b: Sequence[float]) -> Score:
    return pearson(ranks(a), ranks(b))


def top_iou(a: Sequence[float], b: Sequence[float], share: float) -> Score:
    if not any(a) or not any(b):
        return None
    count = max(math.floor(share * len(a) + 0.5), 1)
    one, other = (set(sorted(range(len(m)), key=lambda i: (-m[i], i))[:count]) for m in (a, b))
    return len(one & other) / len(one | other)


def jensen_shannon(a: Sequence[float], b: Sequence[float]) -> Score:
    """H((p + q) / 2) - (H(p) + H(q)) / 2, in bits."""
    if not any(a) or not any(b):
        return None

    def bits(shares: Sequence[float]) -> float:
        return -math.fsum(x * math.log2(x) for x in shares if x > 0)

    p, q = [x / math.fsum(a) for x in a], [y / math.fsum(b) for y in b]
    return bits([(x + y) / 2 for x, y in zip(p, q, strict=True)]) - (bits(p) + bits(q)) / 2


def pointing(heat: Array, mask: Array, tolerance: float) -> Score:
    heat = at_size(heat, mask.shape)
    if heat.max() == 0 or not mask.any():
        return None
    best, at = -1.0, (0, 0)
    for site in sites(heat):
        if heat[site] > best:
            best, at = float(heat[site]), (site[0], site[1])
    distances = [math.dist(at, site) for site in sites(mask) if mask[site]]
    return 1.0 if min(distances) <= tolerance else 0.0


def loc(heat: Array, mask: Array, delta: float) -> Score:
    heat = at_size(heat, mask.shape)
    low, high = heat.min(), heat.max()
    if low == high or not mask.any():
        return None
    inside = outside = area = 0
    for site in sites(heat):
        above = (heat[site] - low) / (high - low) > delta
        area += int(mask[site] != 0)
        inside += int(above and mask[site] != 0)
        outside += int(above and mask[site] == 0)
    return inside / (area + outside)


def hit(heat: Array, instances: Array, delta: float) -> Score:
    heat = at_size(heat, instances.shape)
    known = {int(i) for i in instances.ravel() if i}
    if heat.max() == 0 or not known:
        return None
    touched = {int(instances[site]) for site in sites(heat) if instances[site] and heat[site] / heat.max() >= delta}
    return len(touched) / len(known)


def numbered(boxes: NDArray[np.int64], height: int, width: int) -> NDArray[np.int64]:
    """Paint the boxes with their numbers from the largest to the smallest, of equal ones the first last."""
    found = np.zeros((len(boxes), height, width), dtype=np.int64)
    for n, instances in enumerate(boxes):
        areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in instances]
        for i in sorted(range(len(instances)), key=lambda i: (-areas[i], -i)):
            x0, y0, x1, y1 = instances[i]
            for y in range(max(y0, 0), min(y1, height)):
                for x in range(max(x0, 0), min(x1, width)):
                    found[n, y, x] = i + 1
    return found


def blurred(image: Array, sigma: float, radius: int) -> Array:
    """A window of weights at every pixel of a plane; outside, the mirrored pixel, the edge itself not twice."""

    def mirrored(i: int, size: int) -> int:
        while not 0 <= i < size:
            i = -i if i < 0 else 2 * (size - 1) - i
            i = 0 if size == 1 else i
        return i

    weights = [math.exp(-(o**2) / (2 * sigma**2)) for o in range(-radius, radius + 1)]
    result = np.zeros_like(image)
    height, width = image.shape
    for y, x in sites(image):
        for i, u in enumerate(weights):
            for j, v in enumerate(weights):
                pixel = image[mirrored(y + i - radius, height), mirrored(x + j - radius, width)]
                result[y, x] += u * v * pixel / sum(weights) ** 2
    return result


def ssim(a: Array, b: Array) -> Score:
    """Local means, variances and covariance by the window of 11 pixels and sigma 1.5, a map over its maximum."""
    if a.max() == 0 or b.max() == 0:
        return None
    a, b = a / a.max(), b / b.max()
    mean_a, mean_b, aa, bb, ab = (blurred(x, 1.5, 5) for x in (a, b, a * a, b * b, a * b))
    values = []
    for s in sites(a):
        variance = max(aa[s] - mean_a[s] ** 2, 0) + max(bb[s] - mean_b[s] ** 2, 0)
        top = (2 * mean_a[s] * mean_b[s] + 1e-4) * (2 * (ab[s] - mean_a[s] * mean_b[s]) + 9e-4)
        values.append(float(top / (mean_a[s] ** 2 + mean_b[s] ** 2 + 1e-4) / (variance + 9e-4)))
    return math.fsum(values) / len(values)


def masked(image: Array, heat: Array, baseline: str) -> Array:
    """Every channel, every pixel: m x + (1 - m) b."""
    weights = at_size(heat, image.shape[1:])
    weights = weights / weights.max() if weights.max() > 0 else weights
    rest = [blurred(plane, 5.0, 5) if baseline == "blur" else 0 * plane for plane in image]
    result = np.zeros_like(image)
    for c, y, x in sites(image):
        result[c, y, x] = weights[y, x] * image[c, y, x] + (1 - weights[y, x]) * rest[c][y, x]
    return result


def drop(before: float, after: float) -> Score:
    return max(0.0, before - after) / before if before > 0 else None


def curve(score: Callable[[Array], float], image: Array, heat: Array, *, insert: bool, steps: int) -> list[float]:
    """Black out (or bring back) the pixels one after the other, the brightest first, and note every step."""
    heat = at_size(heat, image.shape[1:])
    order = sorted(sites(heat), key=lambda site: (-float(heat[site]), site))
    now = np.zeros_like(image) if insert else image.copy()
    points = {len(order) * i // steps for i in range(steps + 1)}
    found = []
    for count in range(len(order) + 1):
        if count in points:
            found.append(score(now))
        if count < len(order):
            y, x = order[count]
            now[:, y, x] = image[:, y, x] if insert else 0.0
    return found


def area(fractions: Sequence[float], scores: Sequence[float]) -> float:
    pairs = zip(fractions[:-1], fractions[1:], scores[:-1], scores[1:], strict=True)
    return math.fsum((right - left) * (a + b) / 2 for left, right, a, b in pairs)


def gini(values: Sequence[float]) -> Score:
    """Half of the mean difference of all pairs over the mean."""
    if not any(values):
        return None
    differences = math.fsum(abs(x - y) for x in values for y in values)
    return differences / (2 * len(values) * math.fsum(values))


def entropy(values: Sequence[float]) -> Score:
    if not any(values):
        return None
    shares = [value / math.fsum(values) for value in values]
    return -math.fsum(p * math.log(p) for p in shares if p > 0) / math.log(len(values))


def complexity(values: Sequence[float]) -> Score:
    return math.fsum(value / max(values) for value in values) / len(values) if any(values) else None


def adcc(coherency: float, complexity: float, drop: float) -> float:
    parts = (coherency, 1 - complexity, 1 - drop)
    return 0.0 if min(parts) == 0 else 3 / math.fsum(1 / part for part in parts)
