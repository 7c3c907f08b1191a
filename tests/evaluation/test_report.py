"""The reports: one page that needs nothing beside it, and says of every published figure whether it may be compared."""

import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from tdm_core.errors import EvaluationError
from tdm_core.evaluation import html_report, report
from tdm_core.evaluation.anchors import Anchor, Published, load_anchors
from tdm_core.evaluation.charts import Mark, _round_ticks, bars, scatter
from tdm_core.evaluation.gallery import pairs
from tdm_core.evaluation.metrics import Measured, frechet, scenes
from tdm_core.evaluation.publish import PUBLISHED, publish
from tdm_core.evaluation.runs import Run
from tdm_core.toml_config import from_mapping
from tdm_core.ui.report import Report


class Reader(HTMLParser):
    """Collects what a page would fetch, and fails on tags that do not close."""

    VOID = frozenset({"meta", "img", "path", "circle", "rect", "wbr"})

    def __init__(self):
        super().__init__()
        self.open, self.fetched, self.counts = [], [], {}

    def handle_starttag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.fetched += [value for key, value in attrs if key in ("src", "href") and not value.startswith("data:")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.fixture
def run(make_run, monkeypatch):
    monkeypatch.setattr(frechet, "RESAMPLES", 5)
    return Run.open(make_run(limit=12, seeds=2, roles=["teacher", "teacher_few", "student"]))


def test_the_page_is_whole_and_fetches_nothing(run):
    report.score(run, [scenes, frechet])
    text = (run.folder / report.PAGE).read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(text)
    assert reader.open == [] and reader.fetched == []
    assert "default-src 'none'" in text and "@media(prefers-color-scheme:dark)" in text
    assert not re.search(r"https?://|nan|@import|url\(", text)
    assert reader.counts["svg"] == 5  # NFE and seconds for both metrics, categories for one
    assert reader.counts["img"] >= 4


def test_published_figures_stand_beside_ours_and_are_refused(run):
    report.score(run, [scenes])
    for name in (report.REPORT, report.PAGE):
        text = re.sub("</?b>", "", (run.folder / name).read_text(encoding="utf-8"))
        assert "GenEval, overall" in text
        assert "not comparable: suite is geneval there, scenes here" in text


def test_results_hold_the_published_figures_as_the_report_prints_them(run):
    results = report.score(run, [scenes])
    text = (run.folder / report.REPORT).read_text(encoding="utf-8")
    for rows in results[report.ANCHORS].values():
        assert rows and all(len(row) == len(report.ANCHORS_HEADER) for row in rows)
        assert all("| " + " | ".join(row) + " |" in text for row in rows)
    verdicts = [row[-1] for row in results[report.ANCHORS]["scenes"] if row[0] == "SD3.5-medium"]
    assert len(verdicts) == 1 and "size is 512x512 there, 96x96 here" in verdicts[0]
    assert "steps is 40 there, 28 here" in verdicts[0] and "guidance is 4.5 there, 3 here" in verdicts[0]
    assert any("device is NVIDIA A100 there" in row[-1] for row in results[report.ANCHORS]["seconds"])


def test_published_categories_stand_beside_ours():
    row = Published(
        family="sd3", system="A system", role="student", steps=4, value=30, per_tag={"anime": 31.5, "photo": 28.5}
    )
    table = next(table for table in load_anchors() if table.beside == ("hps_v2.1",))
    measured = Measured(arms={"student": {"value": 29.0, "per_tag": {"anime": 30.25}}})
    text = report._anchor_tags_table(measured, [Anchor(table=table, row=row, verdict="near")])
    assert "| A system | 4 | 31.5 (30.250) | 28.5 (-) |" in text
    assert report._anchor_tags_table(measured, []) == ""


def test_categories_of_few_prompts_are_told(run, make_run):
    report.score(run, [scenes])
    assert "has 2 prompts; under 4 a category" in (run.folder / report.REPORT).read_text(encoding="utf-8")
    whole = Run.open(make_run("whole", limit=24, seeds=1, roles=["student"]))
    report.score(whole, [scenes])
    assert "Too few" not in (whole.folder / report.REPORT).read_text(encoding="utf-8")


def test_pairs_show_where_the_student_gains_and_loses(run):
    found = pairs(run, {"scenes": scenes.measure(run)})
    assert all(pair.values == (1.0, 0.0) for pair in found["Teacher better"])
    assert "Student better" not in found  # the teacher's pictures are all true
    different = [pair.prompt for pair in found["Most different"]]
    assert len(different) == len(set(different)) == 4
    # Where lower is better, the same values read the other way round.
    assert "Student better" in pairs(run, {"scenes": scenes.measure(run)}, lower_is_better=["scenes"])


def test_a_run_without_a_student_has_no_pairs(make_run):
    run = Run.open(make_run(limit=6, seeds=1, roles=["teacher"]))
    assert pairs(run, {"scenes": Measured(arms={})}) == {}


def test_prompts_are_text_in_the_page(run, monkeypatch):
    monkeypatch.setattr(scenes, "NAME", "<script>alert(1)</script>")
    report.score(run, [scenes])
    assert "<script>" not in (run.folder / report.PAGE).read_text(encoding="utf-8")


def test_marks_lie_where_their_values_are():
    marks = [
        Mark(label="a", kind="student", value=0.5, low=0.4, high=0.6, x=4),
        Mark(label="b", kind="teacher", value=1.0, low=0.9, high=1.0, x=56),
    ]
    svg = scatter(marks, x_label="evaluations", y_label="score", height=250)
    (x1, y1), (x2, y2) = ((float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', svg))
    assert x1 < x2
    assert (y1, y2) == (pytest.approx((12 + 210) / 2), pytest.approx(12))  # half of 0 .. 1, and its top
    widths = [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', bars({"all": marks}))]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.2)


def test_the_labels_of_long_figures_do_not_touch():
    marks = [Mark(label="", kind="student", value=0.5, low=0.4, high=0.6, x=x) for x in (0.0121, 0.0143, 0.0169, 0.2)]
    svg = scatter(marks, x_label="seconds", y_label="score")
    labels = re.findall(r'<text x="([\d.]+)"[^>]*text-anchor="middle">(0\.[\d]+)</text>', svg)
    places = sorted((float(x), 6.6 * len(text)) for x, text in labels)
    assert len(places) >= 2
    assert all(right - left > (a + b) / 2 for (left, a), (right, b) in pairwise(places))


def test_a_published_report_is_what_the_page_reads(run, tmp_path):
    results = report.score(run, [scenes])
    publish(run, tmp_path / "mini")
    published = json.loads((tmp_path / "mini" / PUBLISHED).read_text(encoding="utf-8"))
    shown = from_mapping(Report, published, where="report")
    assert {plot.title for plot in shown.plots} == {
        "scenes against network evaluations", "scenes against seconds a picture", "scenes by category"
    }  # fmt: skip
    assert all(plot.svg.startswith("<svg") for plot in shown.plots)
    student = next(row for row in shown.tables[0].rows if row[0] == "student")
    value = results["scenes"]["student"]
    assert student[1:3] == ("4", "4") and student[3].startswith(f"{value['value']:.3f} [{value['low']:.3f}")
    files = [side.file for pair in shown.pairs for side in pair.sides]
    assert sorted({PUBLISHED, *files}) == sorted(path.name for path in (tmp_path / "mini").iterdir())
    first = shown.pairs[0]
    source = run.folder / results["pairs"][first.title][0]["teacher"]
    assert (tmp_path / "mini" / first.sides[0].file).read_bytes() == source.read_bytes()
    publish(run, tmp_path / "mini")  # a second time replaces the first
    assert len(list((tmp_path / "mini").iterdir())) == len(files) + 1


def test_a_run_that_was_not_scored_cannot_be_published(run, tmp_path):
    with pytest.raises(EvaluationError, match="not scored yet"):
        publish(run, tmp_path / "mini")
    assert not (tmp_path / "mini").exists()


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, [0, 0.25, 0.5, 0.75, 1]), (-1.48, 4.35, [0, 2, 4]), (0, 31, [0, 10, 20, 30]), (27.1, 29.9, [28, 29])],
)
def test_axes_have_round_ticks(low, high, ticks):
    assert _round_ticks(low, high) == pytest.approx(ticks)


def test_a_students_further_numbers_of_steps_stand_in_no_bar_of_its_own():
    arms = {"student": {"value": 0.7}, "student_8": {"value": 0.9}, "teacher_few": {"value": 0.5}}
    assert html_report._best_of_each_kind(arms) == ["student", "teacher_few"]
