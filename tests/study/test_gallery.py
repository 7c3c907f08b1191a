"""Which pairs a closed study shows."""

from tdm_core.study.analysis import PromptShare
from tdm_core.study.gallery import MOST, choose
from tests.studies import FakePairs

PAIRS = FakePairs(12).pairs()


def told(judged):
    return [each.pair.prompt for each in judged]


def shares(*of_each):
    return [PromptShare(prompt=f"prompt {index}", votes=votes, share=share) for index, (votes, share) in of_each]


def test_the_clearest_come_first_and_many_votes_are_clearer_than_one():
    gallery = choose(shares(*enumerate([(1, 1.0), (4, 0.9), (1, 0.0), (6, 0.1), (2, 0.5), (8, 0.55)])), PAIRS)
    assert told(gallery.preferred) == ["prompt 1", "prompt 0"]
    assert told(gallery.rejected) == ["prompt 3", "prompt 2"]
    assert told(gallery.even) == ["prompt 5", "prompt 4"]


def test_one_tie_is_no_disagreement():
    assert choose(shares((0, (1, 0.5))), PAIRS).even == ()


def test_of_each_kind_there_are_only_so_many_and_only_pairs_that_are_there():
    gallery = choose(shares(*enumerate([(3, 1.0)] * 40)), PAIRS)
    assert len(gallery.preferred) == MOST and not gallery.rejected
    assert choose(shares((40, (3, 1.0))), PAIRS).preferred == ()
