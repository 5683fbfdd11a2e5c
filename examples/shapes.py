"""Generated pictures for the examples: discs, squares and triangles in any colour on noise, where they are known."""

import numpy as np

CLASSES = ("disc", "square", "triangle")


def draw(count: int, most: int = 3, side: int = 64, seed: int = 0):
    """Pictures of 1 to `most` shapes, each 16 to 32 pixels wide, none upon another.

    Returns:
        Images float32 `[count, side, side, 3]` of mean 0; boxes float32 `[count, most, 4]` (left, top, right, bottom,
        in pixels; -1 where there is no shape); labels int32 `[count, most]`, -1 likewise; masks int32
        `[count, side, side]`, 0 for the background and 1 more than the label elsewhere.
    """
    rng = np.random.default_rng(seed)
    images = rng.normal(0, 0.3, (count, side, side, 3)).astype("float32")
    boxes = np.full((count, most, 4), -1, "float32")
    labels = np.full((count, most), -1, "int32")
    masks = np.zeros((count, side, side), "int32")
    y, x = np.mgrid[:side, :side]
    for i in range(count):
        taken = np.zeros((side, side), bool)
        for k in range(rng.integers(1, most + 1)):
            for _ in range(20):  # tries to find room
                width, label = rng.integers(16, 33), rng.integers(len(CLASSES))
                left, top = rng.integers(0, side - width, 2)
                if not taken[top : top + width, left : left + width].any():
                    break
            else:
                break
            u, v = (x - left + 0.5) / width, (y - top + 0.5) / width  # 0 to 1 across the box
            inside = (u > 0) & (u < 1) & (v > 0) & (v < 1)
            shape = ((u - 0.5) ** 2 + (v - 0.5) ** 2 < 0.25, inside, inside & (abs(u - 0.5) < v / 2))[label]
            masks[i][shape] = label + 1
            images[i][shape] += rng.choice((-1, 1)) * rng.uniform(0.5, 1.5, 3)
            taken |= inside
            boxes[i, k], labels[i, k] = (left, top, left + width, top + width), label
    return images, boxes, labels, masks


def overlap(box, boxes):
    """Intersection over union of a box `[4]` with each of `boxes` `[n, 4]`."""
    corners = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.clip(corners[1] - corners[0], 0, None), axis=1)
    area = np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return shared / np.maximum(area - shared, 1e-9)


def mean_average_precision(found: dict, boxes, labels, thresholds=(0.5,)) -> float:
    """Area under precision over recall, the mean of the classes that are there and of the thresholds.

    Args:
        found: `boxes` `[n, m, 4]`, `labels` and `confidence` `[n, m]` of a detector; label -1: none.
        boxes, labels: the truth, as `draw` gives it.
        thresholds: least overlaps of a hit.
    """
    averages = []
    for label in np.unique(labels[labels >= 0]):
        at = np.argwhere(found["labels"] == label)
        at = at[np.argsort(-found["confidence"][tuple(at.T)], kind="stable")]
        true = [np.flatnonzero(row == label) for row in labels]
        shares = [overlap(found["boxes"][i, k], boxes[i, true[i]]) for i, k in at]
        for threshold in thresholds:
            taken, hits = [np.zeros(len(row), bool) for row in true], []
            for (i, _), share in zip(at, shares, strict=True):
                free = np.where(taken[i], -1, share)
                hits.append(bool(len(free)) and free.max() >= threshold)
                if hits[-1]:
                    taken[i][free.argmax()] = True
            precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
            precision = np.maximum.accumulate(precision[::-1])[::-1]  # the best at this recall or more
            averages.append(np.sum(precision * hits) / sum(map(len, true)))
    return float(np.mean(averages))
