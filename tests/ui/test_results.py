from dataclasses import replace

import pytest

from tdm_core.errors import StorageError, StudyOpenError
from tdm_core.stats import Interval, ShareEstimate
from tdm_core.study import Choice, StudyRules, Trial, Vote, analyse
from tdm_core.study.analysis import PromptShare, SideBalance
from tdm_core.study.gallery import choose
from tdm_core.study.rules import DEMO
from tdm_core.ui import texts
from tdm_core.ui.plots import percent
from tdm_core.ui.results import results_html
from tests.ui.fakes import FakePair


def a_report(*, value=0.5, low=0.4, high=0.6, raters=3):
    share = ShareEstimate(
        value=value, low=low, high=high, standard_error=0.05, effective_votes=60, raters=raters, prompts=20
    )
    return replace(
        analyse([], rules=StudyRules()),
        votes=80,
        raters=raters,
        prompts=20,
        wins={"student": 30, "teacher": 28},
        ties=12,
        both_bad=10,
        share=share,
        decisive_share=30 / 58,
        decisive_interval=Interval(0.39, 0.64),
        sides=SideBalance(left=29, right=29, p_value=1.0, first_arm_left=40, first_arm_right=40),
    )


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ({"low": 0.51, "value": 0.6, "high": 0.7}, "The student was preferred"),
        ({"low": 0.3, "value": 0.4, "high": 0.49}, "The teacher was preferred"),
        ({"low": 0.4, "value": 0.5, "high": 0.6}, "No preference was shown"),
    ],
)
def test_the_verdict_follows_the_interval_and_not_the_share(interval, verdict):
    assert f"<h2>{verdict}</h2>" in results_html(lambda: a_report(**interval))


def test_the_plot_is_to_scale():
    html = results_html(lambda: a_report(value=0.5))
    assert 'cx="320.0"' in html  # the middle of 640
    assert html.count("<svg") == 4


def test_prompts_and_questions_are_shown_as_text():
    prompt = '<img src=x onerror="alert(1)">'
    trial = Trial(
        id="a",
        rater_id="r",
        position=0,
        pair_id="p",
        prompt=prompt,
        left_arm="student",
        right_arm="teacher",
        media_token="m",
        issued_at_ms=0,
        expires_at_ms=9,
        sent_at_ms=1,
    )
    vote = Vote(trial=trial, choice=Choice.LEFT, cast_at_ms=5000, criteria={"<b>": Choice.TIE})
    html = results_html(lambda: analyse([vote], rules=replace(DEMO, criteria=("<b>",))))
    assert "<img" not in html
    assert "<b></text>" not in html
    assert "&lt;img src=x" in html


def test_the_plots_name_what_was_measured():
    report = replace(a_report(), per_prompt=(PromptShare(prompt="a cat", votes=3, share=1.0),))
    html = results_html(lambda: report)
    assert f"a cat: {percent(1.0)} of 3" in html
    assert "all 80 votes" in html
    assert "clean, 0 votes" not in html  # nothing clean, no line
    assert "at any time, by rater" in html
    assert html.count('r="6"') == 1  # of all votes; the interval at any time has no estimate
    assert "Raters left out of the clean estimate" in html


def test_the_pairs_behind_the_result_are_shown_with_their_votes():
    report = replace(a_report(), per_prompt=(PromptShare(prompt="<b> 1", votes=3, share=1.0),))
    pair = FakePair(id='pair-"1', prompt="<b> 1")
    html = results_html(lambda: report, lambda report: choose(report.per_prompt, [pair]))
    assert '<img src="gradio_api/study/pairs/pair-&quot;1" alt="&lt;b&gt; 1"' in html
    assert "Where raters preferred the student" in html and f"student {percent(1.0)}, 3 votes" in html
    assert "Where raters were even" not in html
    assert texts.JUDGED_SIDES not in results_html(lambda: report)  # nobody looks for what is not there


def test_a_single_rater_is_pointed_out():
    assert "single rater" in results_html(lambda: a_report(raters=1))
    assert "single rater" not in results_html(lambda: a_report(raters=2))


def test_an_open_study_shows_no_figures():
    def refuse():
        raise StudyOpenError("open")

    assert texts.RESULTS_OPEN in results_html(refuse)


def test_an_unreadable_database_is_told():
    def refuse():
        raise StorageError("study.sqlite3: <locked>")

    assert "study.sqlite3: &lt;locked&gt;" in results_html(refuse)
