"""The quality benchmark: which figure is held against which bar, and the scores at a card's end."""

from benchmarks.quality import bars, write_scores

EQUAL = ("teacher_equal_unguided", "teacher_equal_unguided_student_grid", "teacher_equal_guided")


def results(student=0.79, low=0.01):
    def row(value, low=None):
        return {"value": value, "low": value - 0.02 if low is None else low, "high": value + 0.02, "n": 8}

    values = dict(zip(EQUAL, (0.5, 0.6, 0.55), strict=True)) | {"teacher": 0.8, "teacher_few": 0.7, "student": student}
    compared = {f"student - {arm}": row(student - value, low) for arm, value in values.items() if arm != "student"}
    compared |= {f"teacher - {arm}": row(0.8 - values[arm]) for arm in EQUAL}
    compared["gap closed: (student - x) / (teacher - x)"] = row((student - 0.6) / 0.2)
    comparisons = {"scenes": compared, "frechet": {"student / teacher": {"value": 1.1, "low": 1.0, "high": 1.2}}}
    distances = {arm: row(0.02) | {"floor": 0.018, "floor_low": 0.01, "floor_high": 0.06} for arm in values}
    scored = {arm: row(value) for arm, value in values.items()}
    return {"scenes": scored, "frechet": distances, "comparisons": comparisons}


def verdicts(**changes):
    return {measure.what: measure.met for measure in bars(results(**changes), "scenes")}


def test_a_good_student_meets_every_bar_against_the_better_grid():
    met = verdicts()
    assert all(met[what] for what in met if met[what] is not None)
    assert [what for what, verdict in met.items() if verdict is None] == [
        "student",
        "Frechet distance, teacher",
        "Frechet distance, student",
        "Frechet distance, true renders drawn anew [least, most]",
    ]
    assert "student - teacher_equal_unguided_student_grid" in met and "student - teacher_equal_unguided" not in met


def test_a_weak_student_fails_the_bars_that_are_its_own():
    failed = {what for what, met in verdicts(student=0.69, low=-0.01).items() if met is False}
    assert failed == {
        "student - teacher",
        "student - teacher_few",
        "student - teacher_equal_unguided_student_grid",
        "student - teacher_equal_guided",
        "share of that gap which the student closes",
    }


def test_scores_replace_older_ones_and_nothing_else(tmp_path):
    card = tmp_path / "README.md"
    card.write_text("# mini\n\nMade so.\n")
    for section in ("## Scores\n\nfirst\n", "## Scores\n\nsecond\n"):
        write_scores(card, section)
    assert card.read_text() == "# mini\n\nMade so.\n\n## Scores\n\nsecond\n"
