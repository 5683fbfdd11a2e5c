"""Files that are written whole, and damages of them that are known."""

import json

import numpy as np
import pytest

from kdarts.genotypes.cuboid import Cuboid, HyperPath, path_of
from kdarts.genotypes.distance import OPERATIONS, read_weights
from kdarts.genotypes.errors import DamageError, KdartsError
from kdarts.genotypes.files import check_archive, sweep, write_with
from kdarts.genotypes.genotype import Genotype
from kdarts.genotypes.path_space import PathSpace
from kdarts.training.workdir import read_arrays, read_json, read_summary, write_arrays, write_json

VALUE = {"accuracy": 0.5, "name": "é", "rows": [1, None, {"a": True}]}
ARRAYS = {"alpha": np.arange(6, dtype=np.float32).reshape(2, 3), "text": np.array("{}")}


def test_no_array_changes_and_no_part_of_an_archive_is_lost_unnoticed(tmp_path):
    path = tmp_path / "file.npz"
    write_arrays(path, ARRAYS)
    whole, noticed = path.read_bytes(), 0
    for place in range(len(whole)):
        for change in (1, 32, 255):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])
            try:
                arrays = read_arrays(path)
            except DamageError as error:
                assert str(path) in str(error)
                noticed += 1
            else:  # A byte beside the content, such as one of a time.
                assert all(np.array_equal(array, ARRAYS[name]) for name, array in arrays.items())
    assert noticed > 2 * len(whole)
    for end in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:end])
        for read in (read_arrays, check_archive):
            with pytest.raises(DamageError):
                read(path)


def test_an_archive_of_another_program_is_checked_too(tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez_compressed(path, a=np.arange(100))
    check_archive(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamageError):
        check_archive(path)
    with pytest.raises(KdartsError, match="cannot be read"):
        check_archive(tmp_path / "none.npz")


def test_half_a_json_file_is_damaged_and_a_summary_is_then_made_again(tmp_path, capsys):
    path = tmp_path / "summary.json"
    assert read_summary(tmp_path) is None
    write_json(path, VALUE)
    assert read_json(path) == read_summary(tmp_path) == VALUE == json.loads(path.read_text("utf-8"))
    whole = path.read_bytes()
    for end in range(len(whole) - 2):
        path.write_bytes(whole[:end])
        with pytest.raises(DamageError, match=r"summary\.json: cannot be read as (JSON|text)"):
            read_json(path)
    assert capsys.readouterr().out == ""
    assert read_summary(tmp_path) is None
    assert f"{path}: cannot be read as JSON" in (told := capsys.readouterr().out) and told.endswith("; made again\n")


def _sealed(path):
    """Gives a file the checksum that earlier releases wrote."""
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "sha256": "0" * 64}))


def test_files_with_the_checksum_of_earlier_releases_are_read(tmp_path):
    path = tmp_path / "file.json"
    genotype = Genotype(((("none", 2, 0),),) * 2, ((2,),) * 2, name="x")
    cuboid = Cuboid({"stage": [0, 1]}, {"width": [1, 2]}, {"operation": ["a", "b"]})
    steps = [{"width": 1, "operation": "a"}, {"width": 2, "operation": "b"}]
    hyper_path = path_of(cuboid, {"width": 1}, steps)
    paths = PathSpace(((((2, 0, ("none",)),),) * 2)[:2], ((2,), (2,)), (1,))
    for value, kind in ((genotype, Genotype), (hyper_path, HyperPath), (paths, PathSpace)):
        value.save(path)
        _sealed(path)
        assert kind.load(path) == value
    write_json(path, VALUE)
    _sealed(path)
    assert read_json(path) == VALUE
    write_json(path, dict.fromkeys(OPERATIONS, 1.0))
    _sealed(path)
    assert len(read_weights(str(path))) == len(OPERATIONS)


def test_a_write_that_fails_or_is_killed_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, VALUE)

    def fail(temporary):
        temporary.write_text("half")
        raise OSError(28, "full")

    with pytest.raises(KdartsError, match=r"file\.json: cannot be written \(No space left"):
        write_with(path, fail)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.json"] and read_json(path) == VALUE
    (tmp_path / "part" / ".file.x.writing").mkdir(parents=True)
    sweep(tmp_path)
    assert not list(tmp_path.rglob(".*"))
