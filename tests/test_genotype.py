"""Genotypes: what is accepted, what a refusal says, and that files keep them exactly."""

import dataclasses
import json
import os

import pytest

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype, get_genotype, thirds
from kdarts.genotypes.text import genotype_names

CELL = (("sep_conv_3x3", 2, 0), ("skip_connect", 2, 1), ("max_pool_3x3", 3, 2))
OTHER = (("avg_pool_3x3", 2, 1),)
TWO = Genotype((CELL, OTHER), ((2, 3), (2,)))
DEEP = Genotype((CELL, OTHER, CELL), ((3,), (2,), (0, 2, 3)), reductions=(1, 3), sequence=(0, 1, 2, 1, 0), name="deep")

PUBLISHED = """DARTS_V1 = Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0),
 ('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)],
 normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0),
 ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)], reduce_concat=[2, 3, 4, 5])
"""


def _refusal(call, *args, **kwargs) -> str:
    """What a call that must be refused says: one line."""
    with pytest.raises(KdartsError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert message and "\n" not in message
    return message


def test_lists_tuples_and_ranges_make_the_same_genotype():
    cells = [[list(edge) for edge in cell] for cell in TWO.cells]
    assert Genotype(cells, [[2, 3], range(2, 3)]) == TWO
    assert Genotype(cells, [range(2, 4), [2]], range(1, 2), None) == dataclasses.replace(TWO, reductions=(1,))


def test_its_size_and_its_operations_are_read_from_its_cells():
    assert TWO.nodes == 2
    assert TWO.operations == ("sep_conv_3x3", "skip_connect", "max_pool_3x3", "avg_pool_3x3")
    assert TWO.skip_connects() == 1 and DEEP.skip_connects() == 2
    assert get_genotype("NASNet").nodes == 5
    assert get_genotype("DARTS_V2").nodes == 4
    assert get_genotype("DARTS_V1").skip_connects() == 3 + 3


def test_an_empty_cell_hands_its_inputs_on():
    genotype = Genotype(((), CELL), ((0, 1), (3,)))
    assert genotype.nodes == 2
    assert Genotype(((), ()), ((1,), (0,))).nodes == 0


GAPPED = Genotype(
    (
        CELL,
        (
            ("sep_conv_3x3", 5, 4),
            ("skip_connect", 2, 0),
            ("none", 4, 3),
            ("max_pool_3x3", 5, 2),
            ("skip_connect", 2, 1),
        ),
        (),
        (("sep_conv_3x3", 2, 0), ("dil_conv_3x3", 4, 3)),
        (("avg_pool_3x3", 6, 2), ("avg_pool_3x3", 2, 1)),
    ),
    ((2, 3), (5, 4, 2, 3), (2, 3, 4, 5), (3, 4, 5), (0, 7)),
    (1, 2),
    range(5),
)
"""A whole cell; one with nodes 3 and 4 missing; an empty one; one whose output is missing; one with an input in it."""


def test_the_network_builds_what_the_inputs_reach():
    assert GAPPED.live(0) == (CELL, (2, 3))
    edges = (("skip_connect", 2, 0), ("max_pool_3x3", 5, 2), ("skip_connect", 2, 1))
    assert GAPPED.live(1) == (edges, (5, 2))
    assert GAPPED.live(2) == GAPPED.live(3) == ((("skip_connect", 2, 1),), (2,))
    assert GAPPED.live(4) == (GAPPED.cells[4], (0,))


def test_each_gap_is_a_line():
    assert TWO.gaps() == DEEP.gaps() == []
    assert GAPPED.gaps() == [
        "cell 1: nothing leads to nodes 3, 4, left out with 2 edges that start there",
        "cell 2 is empty and passes its second input on",
        "cell 3: nothing leads to its output, so it passes its second input on",
        "cell 4: nothing leads to node 7, left out",
    ]


def test_what_was_found_is_kept_to_the_letter_whatever_is_missing():
    assert Genotype.from_json(GAPPED.to_json()) == GAPPED
    assert GAPPED.concats[1] == (5, 4, 2, 3) and GAPPED.cells[2] == () and len(GAPPED.cells[1]) == 5
    assert GAPPED.skip_connects() == 1 + 2 and "dil_conv_3x3" in GAPPED.operations and GAPPED.nodes == 5
    long = tuple(("skip_connect", node + 1, node) for node in range(3, 101))
    chain = Genotype((long, long), (range(2, 102),) * 2)
    assert chain.live(0) == ((("skip_connect", 2, 1),), (2,)) and len(chain.gaps()) == 2
    whole = Genotype(((*long[::-1], ("none", 2, 0), ("none", 3, 2)),) * 2, (range(2, 102),) * 2)
    assert whole.live(1) == (whole.cells[0], whole.concats[0]) and whole.gaps() == []


def test_equal_genotypes_are_one_key_and_nothing_can_be_assigned():
    again = Genotype([list(map(list, cell)) for cell in TWO.cells], TWO.concats)
    assert again == TWO and hash(again) == hash(TWO) and len({again, TWO, DEEP}) == 2
    assert TWO.named("two") != TWO and TWO.named("two").cells == TWO.cells and TWO.name == ""
    for field in dataclasses.fields(Genotype):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(TWO, field.name, ())


@pytest.mark.parametrize(
    "fields, place",
    [
        ({"cells": ()}, "at least one cell"),
        ({"cells": "CELL"}, "cells must be a list"),
        ({"cells": None}, "cells must be a list"),
        ({"cells": (CELL, 7)}, "cells must be a list"),
        ({"cells": (CELL, (("skip_connect", 2, 0), 5))}, "cell 1, edge 1"),
        ({"cells": (CELL, (("skip_connect", 2),))}, "cell 1, edge 0"),
        ({"cells": (CELL, (("skip_connect", 2, 0, 1),))}, "cell 1, edge 0"),
        ({"cells": (CELL, ((3, 2, 0),))}, "cell 1, edge 0"),
        ({"cells": (CELL, (("skip_connect", "2", 0),))}, "cell 1, edge 0"),
        ({"cells": (CELL, (("skip_connect", 2, 0.0),))}, "cell 1, edge 0"),
        ({"cells": (CELL, (("skip_connect", 2, True),))}, "cell 1, edge 0"),
        ({"cells": (CELL, (("skip_connect", 2, -1),))}, "cell 1, edge 0 goes from node -1 to node 2"),
        ({"cells": (CELL, (("skip_connect", 2, 2),))}, "cell 1, edge 0 goes from node 2 to node 2"),
        ({"cells": (CELL, (("skip_connect", 2, 3),))}, "cell 1, edge 0 goes from node 3 to node 2"),
        ({"cells": (CELL, (("skip_connect", 1, 0),))}, "cell 1, edge 0 goes from node 0 to node 1"),
        ({"cells": (CELL, (("skip_connect", 102, 0),))}, "cell 1, edge 0 leads to node 102; allowed are 2 to 101"),
        ({"concats": ((2, 3),)}, "2 cells need as many concats, got 1"),
        ({"concats": ((2, 3), (2,), (2,))}, "2 cells need as many concats, got 3"),
        ({"concats": 2}, "concats must be a list"),
        ({"concats": (2, 3)}, "concats must be a list"),
        ({"concats": ((2, "3"), (2,))}, "concats[0]"),
        ({"concats": ((2, 3), (2.0,))}, "concats[1]"),
        ({"concats": ((2, 3), ())}, "concats[1] is empty"),
        ({"concats": ((2, 102), (2,))}, "concats[0] names node 102; allowed are 0 to 101"),
        ({"concats": ((2, 3), (-1,))}, "concats[1] names node -1"),
        ({"concats": ((3, 3), (2,))}, "concats[0] names a node twice"),
        ({"cells": (CELL,), "concats": ((3,),)}, "1 distinct cells need a sequence"),
        ({"cells": (CELL, OTHER, CELL), "concats": ((3,), (2,), (3,))}, "3 distinct cells need a sequence"),
        ({"sequence": ()}, "sequence is empty"),
        ({"sequence": (0, 2)}, "sequence[1] is 2; allowed are 0 to 1"),
        ({"sequence": (-1,)}, "sequence[0] is -1"),
        ({"sequence": 1}, "sequence must be a list"),
        ({"sequence": (0, 1.0)}, "sequence must be a list"),
        ({"sequence": (0, 1), "reductions": (2,)}, "reduction at 2; allowed are positions 0 to 1"),
        ({"sequence": (0, 1), "reductions": (-1,)}, "reduction at -1"),
        ({"reductions": "12"}, "reductions must be a list"),
        ({"reductions": (True,)}, "reductions must be a list"),
        ({"name": None}, "name must be text"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_place(fields, place):
    message = _refusal(Genotype, **{"cells": TWO.cells, "concats": TWO.concats, **fields})
    assert place in message and message.startswith("genotype: ")


def test_reductions_stand_at_one_and_two_thirds():
    assert [thirds(n) for n in (1, 2, 3, 5, 8, 14, 20)] == [(0,), (0, 1), (1, 2), (1, 3), (2, 5), (4, 9), (6, 13)]


def test_two_cells_fit_any_depth():
    assert TWO.at_depth(8) == ((0, 0, 1, 0, 0, 1, 0, 0), (2, 5))
    assert TWO.at_depth(1) == ((1,), (0,))
    sequence, reductions = TWO.at_depth(20)
    assert [i for i, cell in enumerate(sequence) if cell] == [6, 13] == list(reductions)
    moved = dataclasses.replace(TWO, reductions=(0, 4))
    assert moved.at_depth(5) == ((1, 0, 0, 0, 1), (0, 4))
    assert dataclasses.replace(TWO, reductions=()).at_depth(3) == ((0, 0, 0), ())
    assert "any depth" in _refusal(TWO.at_depth, None)
    assert "at least 1" in _refusal(TWO.at_depth, 0)


def test_a_sequence_has_the_depth_it_has():
    assert DEEP.at_depth(None) == DEEP.at_depth(5) == ((0, 1, 2, 1, 0), (1, 3))
    assert dataclasses.replace(DEEP, reductions=None).at_depth(None) == ((0, 1, 2, 1, 0), (1, 3))
    for cells in (0, 4, 6):
        assert f"has 5 cells, {cells} asked for" in _refusal(DEEP.at_depth, cells)


@pytest.mark.parametrize("name", genotype_names())
def test_json_keeps_every_published_genotype(name):
    genotype = get_genotype(name)
    again = Genotype.from_json(genotype.to_json())
    assert again == genotype and again.name == name


@pytest.mark.parametrize("genotype", [DEEP, TWO, Genotype(((), CELL), ((1,), (3,)), name='α "β" &')])
def test_json_keeps_everything_and_is_plain(genotype):
    text = genotype.to_json()
    data = json.loads(text)
    assert data["format"] == "kdarts-genotype-1" and text.endswith("}\n")
    assert data["cells"] == [[list(edge) for edge in cell] for cell in genotype.cells]
    assert data["reductions"] == (genotype.reductions and list(genotype.reductions))
    assert Genotype.from_json(text) == genotype
    for edge in (edge for cell in genotype.cells for edge in cell):
        assert any(json.dumps(list(edge)) == line.strip().rstrip(",") for line in text.splitlines())


def _without(key):
    data = json.loads(TWO.to_json())
    del data[key]
    return json.dumps(data)


def _with(**fields):
    return json.dumps({**json.loads(TWO.to_json()), **fields})


@pytest.mark.parametrize(
    "text, fault",
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        (TWO.to_json()[:-3], "not JSON"),
        (TWO.to_json() + "}", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"format": ' + "9" * 5000 + "}", "not JSON"),
        ("\ufeff" + TWO.to_json(), "not JSON"),
        ("[]", "not a genotype"),
        ("null", "not a genotype"),
        ('"kdarts-genotype-1"', "not a genotype"),
        ("{}", "not a genotype"),
        (_without("format"), "kdarts-genotype-1"),
        (_with(format="kdarts-genotype-2"), "kdarts-genotype-1"),
        (_with(format=["kdarts-genotype-1"]), "kdarts-genotype-1"),
        (_without("cells"), "missing keys ['cells']"),
        (_without("concats"), "missing keys ['concats']"),
        (_with(colour=1, size=2), "unknown keys ['colour', 'size']"),
        (_with(cells=None), "cells must be a list"),
        (_with(cells={"0": []}), "cells must be a list"),
        (_with(cells=[[["none", 2, 0]], [["none", 2, 7]]]), "cell 1, edge 0"),
        (_with(concats=[[2, 3], [-9]]), "concats[1] names node -9"),
        (_with(reductions=1.5), "reductions must be a list"),
        (_with(sequence=[0, 2]), "sequence[1]"),
        (_with(name=5), "name must be text"),
    ],
)
def test_json_that_is_no_genotype_is_refused_by_its_place(text, fault):
    assert fault in (message := _refusal(Genotype.from_json, text, "here.json"))
    assert message.startswith("here.json: ")


def test_name_reductions_and_sequence_may_be_left_out_of_json():
    text = json.dumps({key: json.loads(TWO.to_json())[key] for key in ("format", "cells", "concats")})
    assert Genotype.from_json(text) == TWO


def test_saved_files_load_again(tmp_path):
    for genotype in (TWO, DEEP, get_genotype("AmoebaNet")):
        path = tmp_path / "new folder" / "found.json"
        genotype.save(path)
        assert Genotype.load(path) == Genotype.load(str(path)) == genotype
        assert os.listdir(path.parent) == ["found.json"]


@pytest.mark.parametrize("failing", ["replace", "fsync"])
def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch, failing):
    path = tmp_path / "found.json"
    TWO.save(path)

    def fail(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        assert "No space left" in (message := _refusal(DEEP.save, path))
        assert str(path) in message
    assert Genotype.load(path) == TWO
    assert os.listdir(tmp_path) == ["found.json"]
    DEEP.save(path)
    assert Genotype.load(path) == DEEP


def test_names_of_the_zoo_come_before_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    TWO.save("DARTS_V2")
    TWO.save("mine")
    assert Genotype.load("DARTS_V2") == get_genotype("DARTS_V2")
    assert Genotype.load("./DARTS_V2") == Genotype.load(tmp_path / "DARTS_V2") == Genotype.load("mine") == TWO


def test_a_published_text_is_read_from_a_file(tmp_path):
    path = tmp_path / "genotype.txt"
    for text in (PUBLISHED, "\n\n  " + PUBLISHED + "\n"):
        path.write_text(text, "utf-8")
        assert Genotype.load(path).named("DARTS_V1") == get_genotype("DARTS_V1")
    assert Genotype.from_text(PUBLISHED) == Genotype.load(path)


@pytest.mark.parametrize("name", ["absent.json", "no/such/file", "no/such.txt"])
def test_a_missing_file_is_named(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert name in (message := _refusal(Genotype.load, name)) and "no genotype file" in message


def test_an_unknown_name_is_answered_with_a_near_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "did you mean 'AmoebaNet'" in _refusal(Genotype.load, "AmebaNet")
    for name in ("", ".", "no_genotype", "x" * 5000, PUBLISHED.replace("\n", ""), "a\0b"):
        _refusal(Genotype.load, name)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"{",
        b'{"format": "kdarts-genotype-1"}',
        TWO.to_json().encode()[:-20],
        TWO.to_json().encode("utf-16"),
        PUBLISHED.encode()[:-3],
        PUBLISHED.encode() + b"; import os",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        bytes(1000),
    ],
)
def test_a_damaged_file_is_refused_by_its_path(tmp_path, content):
    path = tmp_path / "damaged.json"
    path.write_bytes(content)
    assert _refusal(Genotype.load, path).startswith(str(path))


def test_an_output_that_ignores_the_image_is_told(capsys):
    nothing = Genotype.from_text("|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|")
    assert nothing.notes() == []
    nothing = Genotype.from_text("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|nor_conv_3x3~2|")
    told = ["cell 0: only the operation none leads to its output, which is always 0"]
    assert nothing.notes() == [*told, "the network gives every image the same answer"]
    cells = (("skip_connect", 2, 0),), (("none", 2, 0),)
    assert Genotype(cells, ((2,), (2,))).notes() == ["cell 1" + told[0].removeprefix("cell 0")]
