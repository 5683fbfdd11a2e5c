"""The reader of published text forms: what was published is read exactly, anything else is refused, nothing runs."""

import itertools
import random
import time

import pytest

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype, get_genotype
from kdarts.genotypes.text import genotype_names

PAIRS = [("sep_conv_3x3", 1), ("skip_connect", 0), ("none", 0), ("max_pool_3x3", 2)]
PAIRS_MEAN = (("sep_conv_3x3", 2, 1), ("skip_connect", 2, 0), ("none", 3, 0), ("max_pool_3x3", 3, 2))
TRIPLES = [("sep_conv_3x3", 2, 0), ("dil_conv_5x5", 2, 0), ("avg_pool_3x3", 3, 1)]
DARTS = f"Genotype(normal={PAIRS}, normal_concat=[2, 3], reduce={PAIRS[:2]}, reduce_concat=range(2, 3))"
NESTED = f"Genotype_nested(genes=[{TRIPLES}, {TRIPLES[:2]}], concat=range(2, 4), reductions=[1])"
OPT = f"Genotype_opt(genes=[{TRIPLES}, {TRIPLES[:2]}], seq=[0, 0, 1, 0], concat=[2, 3], reductions=range(1, 3))"
READ = {
    DARTS: Genotype((PAIRS_MEAN, PAIRS_MEAN[:2]), ((2, 3), (2,))),
    NESTED: Genotype((TRIPLES, TRIPLES[:2]), ((2, 3), (2, 3)), (1,), (0, 1)),
    OPT: Genotype((TRIPLES, TRIPLES[:2]), ((2, 3), (2, 3)), (1, 2), (0, 0, 1, 0)),
}


def _refusal(text) -> str:
    """What the reader says to a text that must be refused: one line."""
    with pytest.raises(KdartsError) as caught:
        Genotype.from_text(text)
    message = str(caught.value)
    assert message and "\n" not in message
    return message


def _call(name, fields) -> str:
    return f"{name}({', '.join(f'{key}={value}' for key, value in fields)})"


def _tuples(cell):
    return [tuple(entry) for entry in cell]


@pytest.mark.parametrize("text", READ, ids=["darts", "nested", "opt"])
def test_each_form_means_what_it_says(text):
    assert Genotype.from_text(text) == Genotype.from_text(text) == READ[text]


def test_keywords_come_in_any_order():
    for text, fields in (
        (DARTS, {"normal": PAIRS, "normal_concat": [2, 3], "reduce": PAIRS[:2], "reduce_concat": range(2, 3)}),
        (OPT, {"genes": [TRIPLES, TRIPLES[:2]], "seq": [0, 0, 1, 0], "concat": [2, 3], "reductions": range(1, 3)}),
    ):
        name = text.partition("(")[0]
        for order in itertools.permutations(fields.items()):
            assert Genotype.from_text(_call(name, order)) == READ[text]


def test_lists_brackets_quotes_ranges_and_blanks_are_alike():
    for other in (
        DARTS.replace("[", "(").replace("]", ")"),
        DARTS.replace("'", '"'),
        DARTS.replace(" ", ""),
        DARTS.replace(" ", "\n\t  "),
        "  \n" + DARTS + "\n\n",
        "MY_CELL = " + DARTS,
        "MY_CELL=" + DARTS,
        DARTS.replace("range(2, 3)", "[2]"),
        DARTS.replace("range(2, 3)", "(2,)"),
        DARTS.replace("[2, 3]", "[2, 3,]"),
        DARTS.replace("[2, 3]", "range( 2 , 4 )"),
        DARTS.replace("[2, 3]", "range(02, 04)"),
    ):
        assert Genotype.from_text(other) == READ[DARTS], other
    plain = DARTS.replace("[2, 3]", "[0, 1, 2, 3]")
    assert Genotype.from_text(plain.replace("[0, 1, 2, 3]", "range(4)")) == Genotype.from_text(plain)


def test_a_nested_form_without_a_sequence_has_one_cell_for_each_position():
    assert Genotype.from_text(NESTED.replace("_nested", "_opt")) == READ[NESTED]
    assert READ[NESTED].at_depth(None) == ((0, 1), (1,))
    assert READ[OPT].at_depth(None) == ((0, 0, 1, 0), (1, 2))


def test_nodes_that_nothing_leads_to_are_kept_as_they_were_found():
    cell = [("sep_conv_3x3", 2, 0), ("skip_connect", 4, 3), ("skip_connect", 5, 4), ("none", 5, 2)]
    text = f"Genotype(normal={cell}, normal_concat=range(2, 6), reduce={TRIPLES}, reduce_concat=range(2, 6))"
    read = Genotype.from_text(text)
    assert read == Genotype((cell, TRIPLES), (range(2, 6),) * 2)
    assert read.live(0) == ((("sep_conv_3x3", 2, 0), ("none", 5, 2)), (2, 5)) and len(read.gaps()) == 2
    empty = Genotype.from_text(f"Genotype_nested(genes=[[], {cell}], concat=range(2, 6), reductions=[])")
    assert empty == Genotype(((), cell), (range(2, 6),) * 2, (), (0, 1))
    assert Genotype.from_text("Genotype(normal=[], normal_concat=[2], reduce=(), reduce_concat=[2])").cells == ((), ())


def test_the_zoo_is_read_back_from_its_text():
    for name in genotype_names():
        genotype = get_genotype(name)
        if genotype.sequence is not None:
            fields = {"genes": [list(cell) for cell in genotype.cells], "concat": list(genotype.concats[0])}
            fields |= {"reductions": list(genotype.reductions), "seq": list(genotype.sequence)}
            assert Genotype.from_text(_call("Genotype_nested", fields.items())).named(name) == genotype
            continue
        (normal, reduce), (normal_concat, reduce_concat) = genotype.cells, map(list, genotype.concats)
        fields = {
            "normal": list(normal),
            "normal_concat": normal_concat,
            "reduce": list(reduce),
            "reduce_concat": reduce_concat,
        }
        assert Genotype.from_text(f"{name} = {_call('Genotype', fields.items())}").named(name) == genotype


def test_published_two_cell_genotypes_are_read(golden):
    table = golden("darts_genotypes.json")
    families = (table["genotypes"], table["sharpdarts_genotypes"]["genotypes"])
    assert sum(map(len, families)) >= 70
    for name, entry in (item for family in families for item in family.items()):
        fields = {key: entry[key] for key in ("normal", "normal_concat", "reduce", "reduce_concat")}
        text = _call("Genotype", ((k, v if "concat" in k else _tuples(v)) for k, v in fields.items()))
        read = Genotype.from_text(text)
        for cell, key in zip(read.cells, ("normal", "reduce"), strict=True):
            assert cell == tuple((op, 2 + i // 2, source) for i, (op, source) in enumerate(entry[key])), name
        assert read.concats == (tuple(entry["normal_concat"]), tuple(entry["reduce_concat"]))
        assert read.sequence is read.reductions is None


def test_published_threshold_genotypes_are_read(golden):
    triples = golden("darts_genotypes.json")["fairdarts_genotypes"]["genotypes"]
    both = [entry for entry in golden("ddarts_genotypes.json")["fairdarts"] if entry["edge_format"] == "op,to,from"]
    assert len(triples) == len(both) == 9
    for entry in [*triples.values(), *both]:
        concats = [range(entry[k][0], entry[k][-1] + 1) for k in ("normal_concat", "reduce_concat")]
        fields = ("normal", _tuples(entry["normal"])), ("reduce", _tuples(entry["reduce"]))
        read = Genotype.from_text(
            _call("Genotype", (*fields, ("normal_concat", concats[0]), ("reduce_concat", concats[1])))
        )
        for cell, concat, key in zip(read.cells, read.concats, ("normal", "reduce"), strict=True):
            assert list(concat) == entry[f"{key}_concat"] and cell == tuple(_tuples(entry[key]))


def test_published_cell_by_cell_genotypes_are_read(golden):
    entries = [e for e in golden("ddarts_genotypes.json")["genotypes"] if e["cells"]]
    assert {e["kind"] for e in entries} == {"nested", "opt"} and len(entries) == 20
    for entry in entries:
        concat, reductions = entry["concat"], entry["reductions"]
        fields = {"genes": [_tuples(cell) for cell in entry["cells"]], "concat": range(concat[0], concat[-1] + 1)}
        if entry["kind"] == "opt":
            fields["seq"] = entry["seq"]
        fields["reductions"] = reductions
        sequence = entry["seq"] or range(entry["n_cells"])
        expected = Genotype(entry["cells"], [concat] * entry["n_genes"], reductions, sequence)
        assert Genotype.from_text(_call(f"Genotype_{entry['kind']}", reversed(fields.items()))) == expected, entry[
            "name"
        ]
    assert sum(entry["kind"] == "nested" for entry in entries) == 16


def test_the_published_cell_whose_output_nothing_leads_to_passes_its_input_on(golden):
    entries = {entry["name"]: entry for entry in golden("ddarts_genotypes.json")["genotypes"]}
    entry = entries["Xception_cifar100_threshold_edge_0.85"]
    read = Genotype(entry["cells"], [entry["concat"]] * 13, entry["reductions"], range(13))
    assert all("cell 12" in gap for gap in read.gaps())
    assert read.live(12) == ((("skip_connect", 2, 1),), (2,))


CELL = "[('none', 0), ('none', 1)]"
FORM = "Genotype(normal={}, normal_concat=[2], reduce=[('none', 0), ('none', 1)], reduce_concat=[2])"


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "ends where"),
        ("   \n", "ends where"),
        ("Genotype", "ends where"),
        ("Genotype(", "ends where"),
        ("Genotype()", "Genotype with []"),
        ("normal=", "ends where"),
        ("42", "'42' at character 0"),
        ("[]", "'[' at character 0"),
        ("__import__('os').system('true')", "unexpected \".system('true')\""),
        ("__import__('os')", "'os'"),
        (FORM.format("__import__('os')"), "'__import__'"),
        (FORM.format("open('/tmp/x', 'w')"), "'open'"),
        (FORM.format("[x for x in range(3)]"), "'x'"),
        (FORM.format("lambda: 0"), "unexpected ': 0"),
        (FORM.format("[('none', 0), ('none', -1)]"), "unexpected '-1"),
        (FORM.format("[('none', 0), ('none', 1.5)]"), "unexpected '.5"),
        (FORM.format("[('none', 0), ('none', 1e9)]"), "'e9'"),
        (FORM.format("[('none', 0), ('none', 1)] * 9"), "unexpected '*"),
        (FORM.format("[('none' 'x', 0), ('none', 1)]"), "where , should stand"),
        (FORM.format("[('no\\x6ee', 0), ('none', 1)]"), "unexpected"),
        (FORM.format("[(f'none', 0), ('none', 1)]"), "'f'"),
        (FORM.format("[('none', 0), ('none', None)]"), "'None'"),
        (FORM.format("[('none', 0), ('none', 1)"), "'normal_concat' at character 43"),
        (FORM.format("[('none', 0), ('none', 1))"), "')'"),
        (FORM.format("[('none, 0), ('none', 1)]"), "unexpected"),
        (FORM.format("[,]"), "','"),
        (FORM.format("[(,)]"), "','"),
        (FORM.format("[('none', 0),, ('none', 1)]"), "','"),
        (FORM.format("{('none', 0), ('none', 1)}"), "at character 16"),
        (FORM.format("[[[[[[[0]]]]]]]"), "nested too deeply"),
        (FORM.format("[" * 100_000), "nested too deeply"),
        (FORM.format("(" * 100_000 + ")" * 100_000), "nested too deeply"),
        (FORM.format("[('none', 0), ('none', 1234567)]"), "where , should stand"),
        (FORM.format("[('none', 0), ('none', " + "9" * 10_000 + ")]"), "where , should stand"),
        (FORM.format("range(2, 100000)"), "range to 100000 is too long"),
        (FORM.format("range(999999)"), "range to 999999 is too long"),
        (FORM.format("range(2, 3, 4)"), "where ) should stand"),
        (FORM.format("range()"), "where number should stand"),
        (FORM.format("range(range(3))"), "where number should stand"),
        (FORM.format("range"), "where ( should stand"),
        (FORM.format("[()]"), "normal[0]"),
        (FORM.format("[('none', 0), ('none', 1), ('none', 2, 0)]"), "normal: entries must all be"),
        (FORM.format("[('none',), ('none',)]"), "normal: entries must all be"),
        (FORM.format("[('none', 0, 1, 2)]"), "normal: entries must all be"),
        (FORM.format("[('none', 0)]"), "normal has 1 entries"),
        (FORM.format("[('none', 0), (1, 'none')]"), "normal[1]"),
        (FORM.format("[('none', 0), ('none', [1])]"), "normal[1]"),
        (FORM.format("[(['none'], 0), ('none', 1)]"), "normal[0]"),
        (FORM.format("[('none', [2], [0])]"), "normal[0]"),
        (FORM.format("[('none', '2', '0')]"), "normal[0]"),
        (FORM.format("'none'"), "normal must be a list"),
        (FORM.format("['none', 'none']"), "normal must be a list"),
        (FORM.format("5"), "normal must be a list"),
        (FORM.format("range(4)"), "normal must be a list"),
        (FORM.format("[('none', 0), ('none', 2)]"), "cell 0, edge 1 goes from node 2 to node 2"),
        (FORM.format("[('none', 999999, 0)]"), "cell 0, edge 0 leads to node 999999; allowed are 2 to 101"),
        (FORM.format(CELL).replace("normal_concat=[2]", "normal_concat=2"), "concat must be a list"),
        (FORM.format(CELL).replace("normal_concat=[2]", "normal_concat='2'"), "concat must be a list"),
        (FORM.format(CELL).replace("normal_concat=[2]", "normal_concat=['2']"), "concat must be a list"),
        (FORM.format(CELL).replace("normal_concat=[2]", "normal_concat=[[2]]"), "concat must be a list"),
        (FORM.format(CELL).replace("normal_concat=[2]", "normal_concat=[2, 2]"), "names a node twice"),
        (FORM.format(CELL).replace("normal_concat=[2]", "normal_concat=[]"), "concats[0] is empty"),
        (FORM.format(CELL).replace("normal_concat", "concat"), "Genotype with ['concat'"),
        (FORM.format(CELL).replace(", reduce_concat=[2]", ""), "Genotype with ['normal', 'normal_concat', 'reduce']"),
        (FORM.format(CELL).replace("=[2])", "=[2], reductions=[1])"), "Genotype with ["),
        (FORM.format(CELL).replace("=[2])", "=[2], normal=[])"), "normal is given twice"),
        (FORM.format(CELL).replace("Genotype", "genotype"), "genotype with ["),
        (FORM.format(CELL).replace("Genotype", "os.system"), "at character 2"),
        (FORM.format(CELL).replace("Genotype", "A = B = Genotype"), "'='"),
        (FORM.format(CELL).replace("normal=", ""), "'['"),
        (FORM.format(CELL) + ")", "')' after the end"),
        (FORM.format(CELL) + ", ", "',' after the end"),
        (FORM.format(CELL) + "\n" + FORM.format(CELL), "'Genotype' after the end"),
        (FORM.format(CELL) + "; import os", "unexpected '; import os'"),
        (FORM.format(CELL) + "  # DARTS", "unexpected '# DARTS'"),
        (FORM.format(CELL).replace("'", "’"), "unexpected"),
        (FORM.format(CELL).replace("Genotype", "Gеnotype"), "Gеnotype with ["),
        (FORM.format(CELL) + "\0", "unexpected '\\x00'"),
        ("\ufeff" + FORM.format(CELL), "at character 0"),
        ("'" + "x" * 100_000, "unexpected"),
        ("a" * 100_000, "ends where"),
        (NESTED.replace("reductions=[1]", "reductions=[2]"), "reduction at 2; allowed are positions 0 to 1"),
        (NESTED.replace("reductions=[1]", "reductions=1"), "reductions must be a list"),
        (NESTED.replace("reductions=[1]", "reductions=[[1]]"), "reductions must be a list"),
        (NESTED.replace("range(2, 4)", "4"), "concat must be a list"),
        (NESTED.replace(", concat=range(2, 4)", ""), "Genotype_nested with ["),
        ("Genotype_nested(genes=[], concat=[2], reductions=[])", "at least one cell"),
        ("Genotype_nested(genes=[[[]]], concat=[2], reductions=[])", "genes[0][0] must be an operation"),
        ("Genotype_nested(genes=3, concat=[2], reductions=[])", "genes must be a list"),
        ("Genotype_nested(genes=[3], concat=[2], reductions=[])", "genes[0] must be a list"),
        (OPT.replace("seq=[0, 0, 1, 0]", "seq=[0, 2]"), "sequence[1] is 2"),
        (OPT.replace("seq=[0, 0, 1, 0]", "seq=3"), "sequence must be a list"),
        (OPT.replace("seq=[0, 0, 1, 0]", "seq=[]"), "sequence is empty"),
        (OPT.replace("seq=[0, 0, 1, 0]", "seq=['a']"), "sequence must be a list"),
    ],
)
def test_any_other_text_is_refused_by_what_stands_where(text, said):
    start = time.monotonic()
    assert said in _refusal(text)
    assert time.monotonic() - start < 2


def test_the_form_of_the_refusals_is_itself_read():
    assert Genotype.from_text(FORM.format(CELL)).cells[0] == (("none", 2, 0), ("none", 2, 1))


FRAGMENTS = [
    *"()[]=,'\"\\ \n\t-+.:;#{}*0a_é²٣\0\ufeff\u2028",
    *(
        "range",
        "range(",
        "None",
        "Genotype",
        "Genotype_nested(",
        "Genotype_opt",
        "genes=",
        "seq=",
        "concat=",
        "normal=",
    ),
    *("999999", "9999999", "[[[[[[", "('none', 2, 0)", "('none', [0])", "__import__('os')", "range(2, 6)", "[2, [3]]"),
]


def _mutated(text: str, draw: random.Random) -> str:
    """`text` after one to four small accidents."""
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(text) + 1)
        other = draw.randrange(len(text) + 1)
        first, last = sorted((at, min(other, at + 12)))
        match draw.randrange(6):
            case 0:
                text = text[:at] + draw.choice(FRAGMENTS) + text[at:]
            case 1:
                text = text[:first] + text[last:]
            case 2:
                text = text[:at] + draw.choice(FRAGMENTS) + text[at + 1 :]
            case 3:
                text = text[:at] + text[first:last] + text[at:]
            case 4:
                text = text[:at] if draw.random() < 0.3 else text[:at] + text[at + 1 :]
            case 5:
                text = text.replace(draw.choice(FRAGMENTS[:6]), draw.choice(FRAGMENTS), draw.randint(1, 2))
    return text


def test_damaged_texts_are_read_or_refused_but_never_anything_else():
    draw, read, refused = random.Random(0), 0, 0
    texts = list(READ)
    for _ in range(6000):
        text = _mutated(draw.choice(texts), draw)
        try:
            genotype = Genotype.from_text(text)
        except KdartsError as error:
            assert "\n" not in str(error), text
            refused += 1
        else:
            assert Genotype.from_json(genotype.to_json()) == genotype, text
            read += 1
    assert read > 100 and refused > 3000
