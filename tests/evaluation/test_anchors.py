"""Published figures stand beside ours with an honest word on whether the two may be compared."""

from dataclasses import replace

import pytest

from tdm_core.evaluation.anchors import COMPARABLE, Published, Table, anchors_beside, load_anchors, verdict

ROW = Published(family="sd3", system="SD3, TDM", role="student", steps=4, value=0.6, base="org/sd3")
TABLE = Table(
    metric="GenEval",
    source="a paper",
    trust="primary",
    protocol="553 x 4",
    beside=("geneval",),
    comparable_if={"suite": "geneval", "metric": "geneval", "seeds": "4"},
    rows=(ROW,),
)
OURS = {"suite": "geneval", "metric": "geneval", "seeds": "4", "base": "org/sd3", "limit": "none"}


def test_an_equal_protocol_is_comparable_and_every_other_is_told():
    assert verdict(TABLE, ROW, OURS) == COMPARABLE
    for name in ("suite", "metric", "seeds", "base"):
        told = verdict(TABLE, ROW, {**OURS, name: "other"})
        assert told.startswith("not comparable") and f"{name} is" in told and "other here" in told
        unstated = {key: value for key, value in OURS.items() if key != name}
        assert "not stated here" in verdict(TABLE, ROW, unstated)


def test_what_the_source_does_not_say_is_at_best_near():
    told = verdict(replace(TABLE, unknown=("the prompts",)), ROW, OURS)
    assert told == "near: not published: the prompts"


def test_a_system_that_no_preset_can_load_is_never_comparable():
    assert verdict(TABLE, replace(ROW, base=None), OURS).startswith("not comparable: base is SD3, TDM there")


def test_only_figures_of_the_family_and_metric_stand_beside_ours():
    assert [each.row for each in anchors_beside("geneval", OURS, family="sd3", tables=[TABLE])] == [ROW]
    assert anchors_beside("geneval", OURS, family="sdxl", tables=[TABLE]) == []
    assert anchors_beside("fid", OURS, family="sd3", tables=[TABLE]) == []


def test_the_fid_of_20_44_is_teacher_against_student():
    facts = {"suite": "coco_10k", "reference": "COCO-2014 val", "extractor": "Inception-v3"}
    found = [each for each in anchors_beside("fid", facts, family="sd3") if each.row.value == 20.44]
    assert "reference is teacher there, COCO-2014 val here" in found[0].verdict
    assert "Table 2" in found[0].table.source


def test_the_shipped_figures_agree_with_themselves():
    tables = load_anchors()
    totals = {row.system: row.value for t in tables if t.metric == "VBench, total" for row in t.rows}
    # (4 quality + semantic) / 5 of the published parts
    assert totals["CogVideoX-2B"] == pytest.approx((4 * 82.18 + 75.83) / 5, abs=0.01)
    assert totals["CogVideoX-2B, TDM"] == pytest.approx((4 * 82.66 + 77.64) / 5, abs=0.015)
    for each in tables:
        assert each.beside and each.rows and {"metric", "scale"} & each.comparable_if.keys(), each.source
