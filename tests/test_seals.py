"""A file says itself that it is damaged."""

import json

import numpy as np
import pytest

from kdarts.genotypes.errors import DamageError, KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.genotypes.seals import check_archive, sealed_lines, unsealed_lines
from kdarts.training.files import read_arrays, read_json, write_arrays, write_json

VALUE = {"accuracy": 0.5, "name": "é", "rows": [1, None, {"a": True}]}
ARRAYS = {"alpha": np.arange(6, dtype=np.float32).reshape(2, 3), "text": np.array("{}")}


def _same(one, other) -> bool:
    if isinstance(one, dict) and "alpha" in one:
        return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
    return one == other


def _genotype(path, value):
    value.save(path)


@pytest.mark.parametrize(
    ("write", "read", "value"),
    [
        (write_json, read_json, VALUE),
        (write_arrays, read_arrays, ARRAYS),
        (_genotype, Genotype.load, Genotype(((("none", 2, 0),),) * 2, ((2,),) * 2, name="x")),
        (
            lambda path, text: path.write_text(sealed_lines(text)),
            lambda path: unsealed_lines(_text(path), path),
            "--a\n",
        ),
    ],
    ids=["json", "arrays", "genotype", "lines"],
)
def test_no_byte_changes_and_no_part_is_lost_unseen(tmp_path, write, read, value):
    path = tmp_path / "file.npz"
    write(path, value)
    assert _same(read(path), value)
    whole = path.read_bytes()
    noticed = 0
    for place in range(len(whole)):
        for change in (1, 32, 255):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])
            try:
                found = read(path)
            except KdartsError as error:
                assert str(path) in str(error)
                noticed += 1
            else:
                found.pop("shb256", None) if isinstance(found, dict) else None
                text = _text(path)
                assert _same(found, value) or '"sha256"' not in text, place  # Only the name of the checksum is lost.
    assert noticed > 2 * len(whole)
    for end in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:end])
        with pytest.raises(KdartsError):
            read(path)


def _text(path) -> str:
    return path.read_bytes().decode("utf-8", "replace")


def test_what_people_write_needs_no_checksum_and_what_they_change_is_told(tmp_path):
    path = tmp_path / "genotype.json"
    genotype = Genotype(((("none", 2, 0),),) * 2, ((2,),) * 2)
    path.write_text(genotype.to_json())
    assert Genotype.load(path) == genotype
    genotype.save(path)
    data = json.loads(path.read_text())
    data["cells"][0][0][0] = "sep_conv_3x3"
    path.write_text(json.dumps(data))
    with pytest.raises(DamageError, match=r'genotype\.json: damaged \(checksum\); if .* remove its "sha256"'):
        Genotype.load(path)
    path.write_text(json.dumps({name: value for name, value in data.items() if name != "sha256"}))
    assert Genotype.load(path).cells[0][0][0] == "sep_conv_3x3"


def test_an_archive_of_another_program_is_held_against_its_own_sums(tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez(path, a=np.arange(100))
    check_archive(path, foreign=True)
    with pytest.raises(DamageError):
        check_archive(path)
    content = bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamageError):
        check_archive(path, foreign=True)
