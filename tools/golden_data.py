"""Packs the reference arrays that the tests read into tests/data, and unpacks them.

`python tools/golden_data.py FOLDER` packs the files of FOLDER. Arrays stay what they are, bit by bit: those of one type
lie end to end in one, and weights that PyTorch drew from a known seed are drawn again.
"""

import collections
import gzip
import json
import math
import pathlib
import re
import sys

import numpy as np

DATA = pathlib.Path(__file__).parent.parent / "tests" / "data"
UNREAD = {"course_tables.json", "dartspd_tables.json", "ddarts_tables.json", "sharp_tables.json"}
TOO_LARGE = {"darts_eval_imagenet.npz", "darts_second_order_smooth.npz", "sharp_ops.npz"}
OF_DDARTS = ".*(_initial$|_code$|_train$)|bufafter|cell_out|grad_ce|released|train"
OF_SHARP = ".*(cell._out|stem_out|loss|grad_global_norm|grad:(?!stem.0.weight))"
LEFT_OUT = {
    "course_supernet.npz": "edge",
    "darts_second_order.npz": "hyper|val_loss|fd_implicit|fd64_implicit|fd_scalars|fd64_scalars|fd_.*_nomom",
    "darts_supernet.npz": "(logits|loss|dalpha_normal|dalpha_reduce)$|out",
    "ddarts_fair_supernet.npz": "alpha_initial|ce|genotypes|grad_alpha_l01|hyper",
    "ddarts_opti_supernet.npz": OF_DDARTS,
    "ddarts_supernet.npz": OF_DDARTS,
    "multichannelnet.npz": "A/weights|.*/pruned/|.*/grad:|meta",
    "pcdarts_supernet.npz": "(logits|d(alphas|betas)_(normal|reduce))$|gnorm",
    "sharp_eval.npz": ".*/(grad:|loss|y$)|meta",
    "sharp_supernet.npz": OF_SHARP,
    "sharp_supernet_ssc.npz": f"{OF_SHARP}|weights_|genotype",
}
"""The arrays of a file that no test reads, by the beginnings of their names."""

DRAWN = {
    "course_learned.npz": [(92, 24)],
    "course_supernet.npz": [(91, 24)],
    "darts_aux.npz": [(46, 24)],
    "darts_eval.npz": [(41, 24)],
    "darts_eval_amoebanet.npz": [(44, 24)],
    "darts_eval_nasnet.npz": [(44, 24)],
    "darts_second_order.npz": [(21, 24)],
    "darts_supernet.npz": [(11, 24)],
    "ddarts_fair_supernet.npz": [(21, 53)],
    "ddarts_final.npz": [(9, 53)],
    "ddarts_opti_supernet.npz": [(12, 53)],
    "ddarts_supernet.npz": [(11, 53)],
    "multichannelnet.npz": [(3, 24)],
    "nasbench201.npz": [(901, 24), (902, 24)],
    "pcdarts_supernet.npz": [(71, 24)],
    "pdarts_supernet.npz": [(81, 24)],
    "sharp_eval.npz": [(40, 24), (41, 24), (42, 24), (43, 24)],
    "sharp_supernet.npz": [(7, 24)],
    "sharp_supernet_ssc.npz": [(17, 24)],
}
"""The seeds of a file's weights, each with the bits of a draw: 24 in float32, 53 in float64."""


def _stream(seed: int, bits: int, count: int):
    """What PyTorch's generator draws between 0 and 1."""
    words = np.random.RandomState(seed).randint(2**32, size=count * (bits // 24), dtype=np.uint32).astype(np.uint64)
    words = words if bits == 24 else words[::2] << 32 | words[1::2]
    return (words & (2**bits - 1)) / 2**bits


def _weights(draws, bits: int, fan_in: int):
    """PyTorch's initial weights: from minus to plus one over the root of `fan_in`."""
    bound = fan_in**-0.5 if bits == 53 else float(np.float32(fan_in**-0.5))
    return (draws * (2 * bound) - bound).astype("float32")


def unpack(path) -> dict:
    """The arrays of a packed file by name."""
    with np.load(path) as file:
        index = json.loads(str(file["index"]))
        packed = {kind: np.ascontiguousarray(file[kind].T).view(kind)[:, 0] for kind in file.files if kind != "index"}
    streams = [_stream(*stream) for stream in index["streams"]]
    arrays, places = {}, collections.Counter()
    for name, kind, shape, *drawn in index["arrays"]:
        size = math.prod(shape)
        if drawn:
            number, place, fan_in = drawn
            array = _weights(streams[number][place : place + size], index["streams"][number][1], fan_in)
        else:
            array = packed[kind][places[kind] : places[kind] + size]
            places[kind] += size
        arrays[name] = array.reshape(shape)
    return arrays


def _find(array, streams, drawn, last):
    """Where an array was drawn: `(number of the stream, place, fan-in)`; None for what was not drawn.

    `last` is the stream of the array before it, the place behind it, and its fan-in, which an offset shares.
    """
    if array.dtype != np.float32 or array.size < 4:
        return None
    fan_in = math.prod(array.shape[1:]) if array.ndim > 1 else last[2]
    near = (float(array.flat[0]) * fan_in**0.5 + 1) / 2
    for number, stream in enumerate(streams):
        for place in (last[1], *np.flatnonzero(np.abs(stream - near) < 1e-6).tolist()):
            found = _weights(stream[place : place + array.size], drawn[number][1], fan_in)
            if np.array_equal(found, array.ravel()):
                return number, place, fan_in
    return None


def _planes(parts):
    """The first bytes of all numbers, then the second ones: so they compress better."""
    array = np.concatenate(parts)
    return np.ascontiguousarray(array.view("uint8").reshape(array.size, array.itemsize).T)


def pack(path) -> None:
    """Writes to DATA what the tests read of a file of arrays."""
    drawn, left_out = DRAWN.get(path.name, []), LEFT_OUT.get(path.name)
    streams = [_stream(*seed, 600_000) for seed in drawn]
    index, packed, last, counts = [], collections.defaultdict(list), (0, 0, 1), [0] * len(streams)
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files if not left_out or not re.match(left_out, name)}
    for name, array in arrays.items():
        kind = array.dtype.str.lstrip("<|")
        found = _find(array, streams, drawn, last) if "param:" in name else None
        if found:
            last = found[0], found[1] + array.size, found[2]
            counts[found[0]] = max(counts[found[0]], last[1])
        else:
            packed[kind].append(array.ravel())
        index.append([name, kind, array.shape, *(found or ())])
    used = [[*seed, count] for seed, count in zip(drawn, counts, strict=True)]
    text = json.dumps({"streams": used, "arrays": index}, separators=(",", ":"))
    np.savez_compressed(DATA / path.name, index=text, **{kind: _planes(parts) for kind, parts in packed.items()})
    again = unpack(DATA / path.name)
    assert list(again) == list(arrays)
    for name, array in arrays.items():
        assert (again[name].dtype, again[name].shape) == (array.dtype, array.shape), name
        assert again[name].tobytes() == array.tobytes(), name


def main(folder) -> None:
    """Packs the files of a folder."""
    DATA.mkdir(exist_ok=True)
    for path in sorted(pathlib.Path(folder).iterdir()):
        if path.name in UNREAD | TOO_LARGE:
            continue
        if path.suffix == ".npz":
            pack(path)
        elif path.suffix == ".json":
            text = json.dumps(json.loads(path.read_text("utf-8")), separators=(",", ":"))
            (DATA / f"{path.name}.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    main(sys.argv[1])
