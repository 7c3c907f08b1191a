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
OURS = {"suite": "geneval", "metric": "geneval", "seeds": "4", "base": "org/sd3", "limit": "none", "steps": "4"}


def test_an_equal_protocol_is_comparable_and_every_other_is_told():
    assert verdict(TABLE, ROW, OURS) == COMPARABLE
    for name in ("suite", "metric", "seeds", "base", "steps"):
        told = verdict(TABLE, ROW, {**OURS, name: "other"})
        assert told.startswith("not comparable") and f"{name} is" in told and "other here" in told
        unstated = {key: value for key, value in OURS.items() if key != name}
        assert "not stated here" in verdict(TABLE, ROW, unstated)


def test_what_the_source_does_not_say_is_at_best_near():
    told = verdict(replace(TABLE, unknown=("the prompts",)), ROW, OURS)
    assert told == "near: not published: the prompts"


def test_a_system_that_no_preset_can_load_is_never_comparable():
    assert verdict(TABLE, replace(ROW, base=None), OURS).startswith("not comparable: base is SD3, TDM there")


def test_size_and_guidance_count_where_the_source_gives_them():
    row = replace(ROW, size="512x512", guidance=4.5)
    assert verdict(TABLE, row, {**OURS, "size": "512x512", "guidance": "4.5"}) == COMPARABLE
    told = verdict(TABLE, row, {**OURS, "size": "1024x1024", "guidance": "7"})
    assert told == "not comparable: guidance is 4.5 there, 7 here; size is 512x512 there, 1024x1024 here"


def test_a_renamed_repository_is_the_same_model():
    row = replace(ROW, base="THUDM/CogVideoX-2b")
    assert verdict(TABLE, row, {**OURS, "base": "zai-org/CogVideoX-2b"}) == COMPARABLE
    assert (
        verdict(TABLE, replace(row, base="zai-org/CogVideoX-2b"), {**OURS, "base": "THUDM/CogVideoX-2b"}) == COMPARABLE
    )
    assert verdict(TABLE, row, {**OURS, "base": "zai-org/CogVideoX-5b"}) != COMPARABLE


def test_each_row_is_held_against_its_own_arm():
    rows = (ROW, replace(ROW, role="teacher", steps=28))
    arms = {"teacher": {"steps": "28"}, "student": {"steps": "8"}}
    found = anchors_beside("geneval", OURS, family="sd3", arms=arms, tables=[replace(TABLE, rows=rows)])
    assert [each.verdict for each in found] == ["not comparable: steps is 4 there, 8 here", COMPARABLE]


def _verdicts(metric, facts, **arms):
    return {each.row.value: each.verdict for each in anchors_beside(metric, facts, family=facts["family"], arms=arms)}


def test_vbenchs_figures_are_of_the_lengthened_prompts():
    facts = {"family": "cogvideox", "base": "zai-org/CogVideoX-2b", "seeds": "5", "limit": "none", "size": "720x480"}
    student = {"steps": "4", "guidance": "1"}
    assert _verdicts("vbench", {**facts, "suite": "vbench_long"}, student=student)[81.65].startswith("near:")
    short = _verdicts("vbench", {**facts, "suite": "vbench"}, student=student)[81.65]
    assert short == "not comparable: suite is vbench_long there, vbench here"


def test_the_figure_at_512_px_and_40_steps_is_of_such_a_run_alone():
    facts = {"family": "sd3", "base": "stabilityai/stable-diffusion-3.5-medium", "suite": "geneval", "seeds": "4"}
    teacher = {"steps": "40", "guidance": "4.5"}
    assert _verdicts("geneval", {**facts, "limit": "none", "size": "512x512"}, teacher=teacher)[0.63] == COMPARABLE
    told = _verdicts("geneval", {**facts, "limit": "none", "size": "1024x1024"}, teacher={**teacher, "steps": "28"})[
        0.63
    ]
    assert "size is 512x512 there" in told and "steps is 40 there" in told


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
    styles = {
        row.system: (row.value, list(row.per_tag.values()))
        for t in tables
        if t.metric.startswith("HPS")
        for row in t.rows
        if row.per_tag and row.steps > 1
    }
    assert styles["Dreamshaper-7, TDM LoRA"] == (31.37, [32.91, 31.73, 32.18, 29.95])  # as printed: they average 31.69
    del styles["Dreamshaper-7, TDM LoRA"]
    for value, of_styles in styles.values():
        assert sum(of_styles) / 4 == pytest.approx(value, abs=0.12)  # the paper's own slips: Hyper-SD on SD1.5, YOSO
    for each in tables:
        assert each.beside and each.rows and {"metric", "scale", "device", "prompts"} & each.comparable_if.keys(), (
            each.source
        )
        for row in each.rows:
            stated = {"size"} & {*each.comparable_if, *row.wanted} or "the size" in " ".join(each.unknown)
            assert stated or each.beside in (("preference",), ("fid",)), (each.source, row.system)
