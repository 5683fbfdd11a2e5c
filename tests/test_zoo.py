"""The zoo: every published genotype by its name, as it was published."""

import dataclasses

import pytest

from kdarts.genotypes import text
from kdarts.genotypes.errors import KdartsError, choice
from kdarts.genotypes.genotype import Genotype, get_genotype
from kdarts.genotypes.text import describe, genotype_names

DDARTS = [name for name in genotype_names() if name.startswith(("D-DARTS", "DD-"))]
HANDCRAFTED = ["ResNet18", "ResNet50", "Xception", "InceptionV4", "resnet18", "resnet50", "xception"]
DARTOPTI = [name for name in genotype_names() if name.startswith(("DO-", "ResNet", "Xception", "Inception"))]
SHARP = {name for name in genotype_names() if "sharpDARTS" in describe(name)}  # see test_sharp
TWO_CELLS = [name for name in genotype_names() if name not in {*DDARTS, *DARTOPTI, *HANDCRAFTED}]


def _message(name):
    with pytest.raises(KdartsError) as caught:
        get_genotype(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", TWO_CELLS)
def test_every_other_name_gives_two_cells_that_reach_their_output(name):
    genotype = get_genotype(name)
    assert genotype == Genotype.load(name) and genotype.name == name
    assert len(genotype.cells) == 2 and genotype.sequence is genotype.reductions is None
    assert all(cell and concat for cell, concat in zip(genotype.cells, genotype.concats, strict=True))
    assert genotype.at_depth(20)[1] == (6, 13)
    assert len(describe(name)) > 5


def test_names_are_many_and_each_is_given_once():
    names = genotype_names()
    assert len(names) == len(set(names)) > 100
    for known in ("DARTS_V1", "DARTS_V2", "PC_DARTS_cifar", "PDARTS", "NASNet", "AmoebaNet", "FairDARTS_a", "DARTS"):
        assert known in names


def test_darts_is_the_published_cell():
    assert get_genotype("DARTS_V2").cells[0] == (
        ("sep_conv_3x3", 2, 0),
        ("sep_conv_3x3", 2, 1),
        ("sep_conv_3x3", 3, 0),
        ("sep_conv_3x3", 3, 1),
        ("sep_conv_3x3", 4, 1),
        ("skip_connect", 4, 0),
        ("skip_connect", 5, 0),
        ("dil_conv_3x3", 5, 2),
    )
    assert get_genotype("NASNet").concats == ((2, 3, 4, 5, 6), (4, 5, 6))


def test_an_alias_is_its_genotype_under_its_own_name():
    for alias, name in (("DARTS", "DARTS_V2"), ("PCDARTS", "PC_DARTS_cifar")):
        assert get_genotype(alias) == get_genotype(name).named(alias)
        assert describe(alias) == describe(name)


def test_two_cell_genotypes_are_as_published(golden):
    published = golden("darts_genotypes.json")["genotypes"]
    assert len(published) == 79
    for name, entry in published.items():
        genotype = get_genotype(name)
        for cell, concat, key in zip(genotype.cells, genotype.concats, ("normal", "reduce"), strict=True):
            expected = [(op, 2 + i // 2, source) for i, (op, source) in enumerate(entry[key])]
            assert list(cell) == expected, name
            assert list(concat) == entry[f"{key}_concat"], name
        assert entry["source"] in describe(name)


def test_threshold_genotypes_are_as_published(golden):
    published = golden("darts_genotypes.json")["fairdarts_genotypes"]["genotypes"]
    for name, entry in published.items():
        genotype = get_genotype(name)
        for cell, concat, key in zip(genotype.cells, genotype.concats, ("normal", "reduce"), strict=True):
            assert [list(edge) for edge in cell] == entry[key], name
            assert list(concat) == entry[f"{key}_concat"], name
    gapped = [name for name in published if get_genotype(name).gaps()]
    assert "FairDARTS_a" in gapped and "FairDARTS_b" not in gapped


def test_nothing_published_is_left_out_and_aliases_lead_where_they_did(golden):
    table = golden("darts_genotypes.json")
    assert set(TWO_CELLS) - SHARP == {
        *("COURSE_V1", "COURSE_V2"),  # as tests/test_course.py has them
        "rule",  # a baseline
        "EDARTS_rerun",  # found here, as the paper's cells are not published
        *table["genotypes"],
        *table["fairdarts_genotypes"]["genotypes"],
        *table["aliases"],
    }
    assert len(table["aliases"]) == 22
    for alias, name in table["aliases"].items():
        while name in table["aliases"]:
            name = table["aliases"][name]
        assert get_genotype(alias) == get_genotype(name).named(alias)


def test_the_cells_of_ddarts_are_as_published(golden):
    entries = {e["name"]: e for e in golden("ddarts_genotypes.json")["genotypes"] if e["name"].startswith("D-DARTS")}
    assert set(entries) | {"DD-1", "DD-2", "DD-4", "DD-5"} == set(DDARTS) and len(entries) == 4
    for name, entry in entries.items():
        expected = Genotype(entry["cells"], [entry["concat"]] * 8, entry["reductions"], range(8), name)
        assert get_genotype(name) == Genotype.load(name) == expected and expected.reductions == (2, 6)
        assert entry["source"] in describe(name) and entry["dataset"].upper().replace("R", "R-") in describe(name)
        assert expected.gaps() == []


def test_the_papers_names_have_the_reductions_that_give_its_sizes():
    for number, rule, data in ((1, "sparse", "cifar10"), (2, "edge", "cifar10"), (4, "edge", ""), (5, "sparse", "")):
        name, of = f"DD-{number}", f"D-DARTS_threshold_{rule}_{data or 'abl0.5_fair7_cifar100'}_0.85_50"
        assert get_genotype(name) == dataclasses.replace(get_genotype(of), reductions=(2, 5), name=name)
        assert of in describe(name) and "reductions at 2 and 5" in describe(name)
        assert ("presumed" in describe(name)) == (number < 3)


def test_the_cells_of_dartopti_are_as_published(golden):
    entries = {e["name"]: e for e in golden("ddarts_genotypes.json")["genotypes"] if e["kind"] != "placeholder"}
    found = {name: entries[name] for name in DARTOPTI if name in entries}
    assert len(found) == 16 and {e["op_set"] for e in found.values()} == {"S_o"}
    assert set(entries) - set(found) == {n for n in DDARTS if n not in ("DD-1", "DD-2", "DD-4", "DD-5")}
    for name, entry in found.items():
        genotype = get_genotype(name)
        cells = [[tuple(edge) for edge in cell] for cell in entry["cells"]]
        assert [list(cell) for cell in genotype.cells] == cells and genotype.name == name
        assert list(genotype.sequence) == (entry["seq"] or list(range(entry["n_cells"])))
        assert list(genotype.reductions) == entry["reductions"] and entry["source"] in describe(name)
        # The authors' network joins the nodes that exist, whatever the file says.
        lives = [list(genotype.live(index)[1]) for index in range(len(genotype.cells))]
        if name == "Xception_cifar100_threshold_edge_0.85":
            assert lives.pop() == [2] and entry["out_nodes"].pop() == [3, 4, 5] and "cannot compute" in describe(name)
        assert lives == [sorted(nodes) for nodes in entry["out_nodes"]], name
        joined = tuple(range(2, 8)) if entry["baseline"] == "ResNet50" else tuple(entry["concat"])
        assert set(genotype.concats) == {joined}
        if entry["kind"] == "nested":
            data = entry["dataset"].upper().replace("R", "R-")
            assert f"{entry['baseline']} optimised by DARTOpti on {data}; {entry['parse']}:" in describe(name)
            assert ("the file says 4 to 7" in describe(name)) == (entry["baseline"] == "ResNet50")


def test_dartoptis_names_are_its_sparse_cells(golden):
    models = {e["paper_model"]: e["name"] for e in golden("ddarts_genotypes.json")["genotypes"] if e["paper_model"]}
    names = [name for name in DARTOPTI if name.startswith("DO-")]
    assert len(names) == 6
    for name in names:
        (of,) = [file for model, file in models.items() if model.split(" ")[0] == name]
        assert get_genotype(name) == get_genotype(of).named(name) and of in describe(name)
        assert ("presumed" in describe(name)) == ("Xception" in name)


def test_the_zoo_can_hold_cells_that_repeat(monkeypatch):
    genes = [[["sep_conv_3x3", 2, 0]], [["skip_connect", 2, 1], ["max_pool_3x3", 4, 3]]]
    entry = {"genes": genes, "seq": [0, 1, 0], "concat": [2, 3], "reductions": [1], "source": "here"}
    other = {"of": "a", "seq": [1, 1], "source": "there"}
    monkeypatch.setattr(text, "_zoo", lambda: {"genotypes": {"a": entry, "b": other}, "aliases": {"c": "b"}})
    assert get_genotype("a") == Genotype(genes, ((2, 3),) * 2, (1,), (0, 1, 0), "a")
    assert get_genotype("c") == Genotype(genes, ((2, 3),) * 2, (1,), (1, 1), "c")
    assert (describe("a"), describe("c")) == ("here", "there; the cells of a")
    with pytest.raises(KdartsError, match="unknown genotype 'd'"):
        describe("d")


@pytest.mark.parametrize(
    "given, near",
    [("DARTS_V9", "DARTS_V"), ("PDART", "PDARTS"), ("AmebaNet", "AmoebaNet"), ("FairDARTS", "FairDARTS_")],
)
def test_an_unknown_name_is_answered_with_a_near_one(given, near):
    message = _message(given)
    assert message.startswith(f"unknown genotype {given!r} (did you mean '{near}")
    assert f"one of {len(genotype_names())} known names" in message


@pytest.mark.parametrize("given", ["", "?", "\n", "0" * 10_000, 7, [0]])
def test_a_name_like_no_other_is_answered_without_a_guess(given):
    assert "did you mean" not in _message(given)


def test_a_choice_is_returned_or_refused_with_what_is_allowed():
    assert choice("fruit", "pear", ["apple", "pear"]) == "pear"
    assert choice("fruit", "pear", {"pear": 1}) == "pear"
    with pytest.raises(KdartsError, match=r"^unknown fruit 'peer' \(did you mean 'pear'\?\); allowed: apple, pear$"):
        choice("fruit", "peer", ["apple", "pear"])
    with pytest.raises(KdartsError, match=r"^unknown fruit 3 \(did you mean '3'\?\); allowed: apple, 3$"):
        choice("fruit", 3, ["apple", "3"])
    assert issubclass(KdartsError, ValueError)
