"""The judge can be trusted: it passes true pictures wherever they lie, and fails all else for the right reason."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from tdm_core.scenes.detect import THRESHOLDS, Detection, canvas_color, detect
from tdm_core.scenes.grammar import CANVASES, KINDS, TILES, Relation, parse
from tdm_core.scenes.render import Layout, Placed, draw, glyphs, layout
from tdm_core.scenes.scorer import Reason, judge, overall, per_tag, score, score_batch
from tdm_core.scenes.suite import Tag, limited, load_suite

ITEMS = limited(load_suite(), 240)
TAGS = [item.tag for item in ITEMS]
PROMPTS = [item.prompt for item in ITEMS]


@pytest.fixture(scope="module")
def layouts():
    rng = np.random.default_rng(11)
    return [layout(parse(prompt), rng) for prompt in PROMPTS]


@pytest.fixture(scope="module")
def pictures(layouts):
    return [draw(scene) for scene in layouts]


@pytest.fixture(scope="module")
def verdicts(pictures):
    return score_batch(pictures, PROMPTS, TAGS)


def soften(pixels, sigma, noise, seed=0):
    """About what a small autoencoder does to a picture: 0.7 and 5 are 30 dB."""
    soft = ndimage.gaussian_filter(pixels.astype(np.float32), (sigma, sigma, 0), mode="nearest")
    soft += np.random.default_rng(seed).normal(0, noise, soft.shape)
    return soft.clip(0, 255).round().astype(np.uint8)


def blend(first: Placed, second: Placed | None, share: float):
    """``share`` of a picture with another object in the same place, or with none."""
    base = draw(Layout(objects=(first,), canvas="mint")).astype(np.float32)
    other = draw(Layout(objects=() if second is None else (second,), canvas="mint")).astype(np.float32)
    return ((1 - share) * base + share * other).round().astype(np.uint8)


def truth(scene: Layout):
    """What a perfect detector would report."""
    return [Detection(kind=item.kind, x=item.x, y=item.y, confidence=1.0, tile=item.tile) for item in scene.objects]


# --- true pictures pass ---------------------------------------------------------------------------------------------


def test_true_renders_pass_in_every_category(verdicts):
    shares = per_tag(TAGS, verdicts)
    assert set(shares) == {tag.value for tag in Tag}
    assert min(shares.values()) >= 0.99


def test_detections_agree_with_the_layout(layouts, verdicts):
    for scene, verdict in zip(layouts, verdicts, strict=True):
        seen = {(d.kind, d.x, d.y, d.tile) for d in verdict.detections}
        assert seen == {(item.kind, item.x, item.y, item.tile) for item in scene.objects}
        assert all(d.confidence > 0.8 for d in verdict.detections)


def test_the_canvas_is_named(layouts, pictures, verdicts):
    for scene, pixels, verdict in zip(layouts, pictures, verdicts, strict=True):
        assert canvas_color(pixels, verdict.detections) == scene.canvas


def test_soft_and_noisy_reconstructions_pass(pictures):
    shares = per_tag(TAGS[:90], score_batch([soften(p, 0.7, 5) for p in pictures[:90]], PROMPTS[:90], TAGS[:90]))
    assert min(shares.values()) >= 0.95


@pytest.mark.parametrize("dx,dy", [(0, 0), (5, -3), (-7, 9), (16, 16), (-11, 2)])
def test_renders_off_the_grid_pass(dx, dy):
    objects = Placed(kind="cat", tile="red", x=34 + dx, y=48 + dy), Placed(kind="dog", tile="blue", x=64 + dx, y=48)
    pixels = draw(Layout(objects=objects, canvas="sand"))
    assert score(pixels, "a cat on red and a dog on blue", Tag.COLOR_ATTR).passed
    assert score(pixels, "a cat left of a dog", Tag.POSITION).passed


@pytest.mark.parametrize("size_px", [48, 64, 100, 128])
def test_pictures_of_other_sizes_are_searched(size_px):
    pixels = draw(Layout(objects=(Placed(kind="owl", tile=None, x=size_px - 15, y=20),), canvas="navy"), size_px)
    assert score(pixels, "an owl", Tag.SINGLE_OBJECT).passed


# --- everything else fails ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("canvas", [*CANVASES, "black", "red"])
def test_an_empty_picture_shows_nothing(canvas):
    color = (CANVASES | TILES | {"black": (0, 0, 0)})[canvas]
    assert detect(np.full((96, 96, 3), color, dtype=np.uint8)) == []


def test_noise_shows_nothing():
    rng = np.random.default_rng(0)
    for scale in (1, 2, 4, 8, 16):
        coarse = rng.integers(0, 256, (96 // scale, 96 // scale, 3), dtype=np.uint8)
        assert detect(coarse.repeat(scale, axis=0).repeat(scale, axis=1)) == []


def test_shuffled_prompts_score_the_chance_floor(layouts, verdicts, capsys):
    by_chance, floors = {}, {}
    for tag in Tag:
        indices = [i for i, item in enumerate(ITEMS) if item.tag is tag]
        pairs = [(i, j) for i in indices for j in indices if i != j]
        by_chance[tag] = np.mean([judge(verdicts[i].detections, parse(PROMPTS[j]), tag).passed for i, j in pairs])
        floors[tag] = np.mean([judge(truth(layouts[i]), parse(PROMPTS[j]), tag).passed for i, j in pairs])
    with capsys.disabled():
        print("\nchance floors:", {tag.value: round(float(floor), 3) for tag, floor in floors.items()})
    assert by_chance == pytest.approx(floors, abs=0.005)
    assert max(floors.values()) < 0.06


@pytest.mark.parametrize("levels", [[(s, 0) for s in (0, 0.8, 1.6, 2.4, 4)], [(0, n) for n in (0, 30, 60, 90, 150)]])
def test_scores_fall_steadily_under_blur_and_noise(pictures, levels):
    scores = [
        overall(TAGS[:48], score_batch([soften(p, *level) for p in pictures[:48]], PROMPTS[:48], TAGS[:48]))
        for level in levels
    ]
    assert scores[0] == 1 and scores[-1] <= 0.05
    assert all(earlier >= later for earlier, later in pairwise(scores))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.4, 0.5])
def test_a_faint_glyph_is_rejected(kind, share):
    assert not score(blend(Placed(kind=kind, tile=None, x=48, y=48), None, share), f"one {kind}").passed


def test_two_glyphs_half_blended_are_neither():
    kinds = list(KINDS)
    for i, first in enumerate(kinds):
        for second in kinds[:i]:
            pixels = blend(Placed(kind=first, tile=None, x=48, y=48), Placed(kind=second, tile=None, x=48, y=48), 0.5)
            assert all(item.confidence < THRESHOLDS.found for item in detect(pixels)), (first, second)


def test_a_slightly_tinted_glyph_still_counts():
    pixels = blend(Placed(kind="cat", tile=None, x=48, y=48), None, 0.08)
    assert score(pixels, "a cat", Tag.SINGLE_OBJECT).passed


def test_a_muddy_tile_has_no_colour():
    red, green = (
        draw(Layout(objects=(Placed(kind="cat", tile=t, x=48, y=48),), canvas="sky")) for t in ("red", "green")
    )
    pixels = ((red.astype(np.uint16) + green) // 2).astype(np.uint8)
    assert detect(pixels)[0].tile is None
    assert score(pixels, "a cat on red", Tag.COLORS).reasons == (Reason.WRONG_COLOR,)


def test_a_red_picture_is_not_a_red_tile():
    pixels = np.empty((96, 96, 3), dtype=np.uint8)
    pixels[:] = TILES["red"]
    cat = draw(Layout(objects=(Placed(kind="cat", tile="red", x=48, y=48),), canvas="sky"))
    pixels[36:60, 36:60] = cat[36:60, 36:60]
    assert score(pixels, "a cat", Tag.SINGLE_OBJECT).passed
    assert not score(pixels, "a cat on red", Tag.COLORS).passed


# --- each fault hits its own category -------------------------------------------------------------------------------


def mutated_scores(layouts, change):
    pictures = [draw(change(scene)) for scene in layouts[:90]]
    return per_tag(TAGS[:90], score_batch(pictures, PROMPTS[:90], TAGS[:90]))


def test_swapped_colours_hit_the_binding_and_nothing_else(layouts):
    def swap(scene):
        tiles = [item.tile for item in scene.objects][::-1]
        objects = tuple(replace(item, tile=tile) for item, tile in zip(scene.objects, tiles, strict=True))
        return replace(scene, objects=objects)

    shares = mutated_scores(layouts, swap)
    assert shares.pop("color_attr") == 0
    assert set(shares.values()) == {1.0}


def test_swapped_places_hit_relations_and_nothing_else(layouts):
    def swap(scene):
        places = [(item.x, item.y) for item in scene.objects][::-1]
        return replace(
            scene, objects=tuple(replace(o, x=x, y=y) for o, (x, y) in zip(scene.objects, places, strict=True))
        )

    shares = mutated_scores(layouts, swap)
    assert shares.pop("position") == 0
    assert set(shares.values()) == {1.0}


@pytest.mark.parametrize("relation", Relation)
def test_a_mirror_flips_left_and_right_only(relation):
    rng = np.random.default_rng(5)
    symmetric = ("cat", "frog", "owl", "crab", "robot")
    sideways = relation in (Relation.LEFT_OF, Relation.RIGHT_OF)
    for first, second in pairwise(symmetric):
        pixels = draw(layout(parse(f"a {first} {relation} a {second}"), rng))[:, ::-1]
        assert score(pixels, f"a {first} and a {second}", Tag.TWO_OBJECT).passed
        assert score(pixels, f"a {first} {relation} a {second}", Tag.POSITION).passed is not sideways
        assert score(pixels, f"a {first} {relation.inverse} a {second}", Tag.POSITION).passed is sideways


@pytest.mark.parametrize(
    "prompt,tag,reason",
    [
        ("three cats", Tag.COUNTING, Reason.MISSING),
        ("a cat", Tag.COUNTING, Reason.EXTRA),
        ("a dog", Tag.SINGLE_OBJECT, Reason.MISSING),
        ("a cat on blue", Tag.COLORS, Reason.WRONG_COLOR),
        ("a cat below an owl", Tag.POSITION, Reason.WRONG_RELATION),
        ("two cats", None, Reason.EXTRA),
    ],
)
def test_a_failure_names_its_reason(prompt, tag, reason):
    objects = (
        Placed(kind="cat", tile="red", x=16, y=16),
        Placed(kind="cat", tile="red", x=48, y=16),
        Placed(kind="owl", tile=None, x=48, y=80),
    )
    assert score(draw(Layout(objects=objects, canvas="lilac")), prompt, tag).reasons == (reason,)


def test_a_glyph_that_is_not_sure_enough_to_count_is_named_faint():
    cat = Detection(kind="cat", x=48, y=48, confidence=0.55, tile=None)
    assert judge([cat], parse("a cat"), Tag.SINGLE_OBJECT).passed
    assert judge([cat], parse("a cat"), Tag.COUNTING).reasons == (Reason.FAINT,)


@pytest.mark.parametrize("dx,dy,expected", [(-32, 0, True), (-32, 32, True), (-20, 40, False), (-4, 0, False)])
def test_relations_follow_genevals_centre_rule(dx, dy, expected):
    first = Detection(kind="cat", x=48 + dx, y=48 + dy, confidence=1.0, tile=None)
    second = Detection(kind="dog", x=48, y=48, confidence=1.0, tile=None)
    assert judge([first, second], parse("a cat left of a dog"), Tag.POSITION).passed is expected


def test_the_overall_score_is_the_mean_of_the_categories_not_of_the_pictures():
    cat = Detection(kind="cat", x=48, y=48, confidence=1.0, tile=None)
    tags = [Tag.SINGLE_OBJECT, Tag.SINGLE_OBJECT, Tag.SINGLE_OBJECT, Tag.TWO_OBJECT]
    prompts = ["a cat", "a cat", "a cat", "a cat and a dog"]
    assert overall(tags, [judge([cat], parse(p), t) for p, t in zip(prompts, tags, strict=True)]) == 0.5


def test_glyph_templates_cover_every_kind():
    assert list(glyphs()) == list(KINDS)
