"""The Benchmarks tab: published reports and the bars, as text, whatever they hold."""

from __future__ import annotations

import re
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
import pytest

from tdm_core.generation.media import encode_png
from tdm_core.ui.benchmarks import benchmarks_html
from tdm_core.ui.report import Pair, Plot, Report, Side, Table

ROOT = Path(__file__).parents[2]


@pytest.fixture
def reports(tmp_path):
    for name in ("00.png", "01.png"):
        (tmp_path / name).write_bytes(encode_png(np.zeros((8, 8, 3), dtype=np.uint8)))
    sides = (Side(role="teacher", file="00.png", value="1"), Side(role="student", file="01.png", value="0"))
    table = Table(title="scenes", header=("row", "value"), rows=(("student", "0.8 [0.7, 0.9]"),))
    return [
        Report(
            title="mini on scenes",
            lead="555 prompts",
            tables=(table,),
            plots=(Plot(title="scenes against seconds", svg="<svg></svg>"),),
            pairs=(Pair(title="Teacher better", prompt="<script>alert(1)</script>", seed=1, sides=sides),),
            foot="Made with care",
            folder=tmp_path,
        )
    ]


def test_a_report_shows_its_plots_its_table_and_the_pairs_behind_them(reports):
    html = benchmarks_html(reports, [Table(title="startup", header=("", "measured"), rows=(("page", "2 s"),))])
    for told in ("mini on scenes", "0.8 [0.7, 0.9]", "<svg></svg>", "Where the teacher is right", "startup", "2 s"):
        assert told in html
    assert html.count("data:image/png;base64,") == 2
    assert "<script>" not in html
    assert not re.search(r"https?://", html)


def test_a_plot_says_in_words_what_it_shows_and_which_way_is_better(reports):
    svg = '<svg><text class="name">color attr</text><text>0.0129</text><text>0.25</text></svg>'
    table = replace(reports[0].tables[0], title="frechet (lower is better)")
    report = replace(reports[0], tables=(table,), plots=(Plot(title="frechet by category", svg=svg),))
    html = benchmarks_html([report], [])
    assert "<span>Fréchet distance by category</span> <small>lower is better</small>" in html
    assert re.findall(r">([^<]*)</text>", html) == ["two objects, a colour each", "0.013", "0.25"]


def test_without_reports_the_tab_says_how_to_make_one():
    assert "evaluate publish" in benchmarks_html([], [])


def test_committed_reports_and_rows_can_be_shown():
    from app import benchmark_tables
    from tdm_core.settings import Settings
    from tdm_core.wiring import Wiring

    tables = benchmark_tables()
    [quality] = [table for table in tables if table.title.startswith("quality-mini-sd3:")]
    assert {row[0] for row in quality.rows} >= {"teacher, full steps", "student", "student - teacher"}
    assert all("n = 2220" in row[1] for row in quality.rows if row[0] == "student")
    reports = Wiring(Settings()).reports()
    assert [report.title.split()[0] for report in reports] == [
        "mini-sd3",
        "mini-cogvideox",
        "mini-pixart",
        "mini-sd3-four",
    ]
    html = benchmarks_html(reports, tables)
    assert "**" not in html
    judged = [row[2] for table in tables for row in table.rows if row[2]]
    assert judged and all(re.search(r": (not )?met$", bar) and escape(bar) in html for bar in judged)
