"""Layouts keep what the caption promises; pictures show the layout."""

from itertools import combinations

import numpy as np
import pytest

from tdm_core.scenes.grammar import CANVASES, KINDS, TILES, Group, Relation, Scene, parse
from tdm_core.scenes.render import (
    CELL_PX,
    JITTER_PX,
    SIZE_PX,
    TILE_PX,
    Layout,
    Placed,
    draw,
    glyphs,
    layout,
    render,
    tile_mask,
)
from tdm_core.scenes.sampling import sample_scene


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.mark.parametrize("relation", Relation)
def test_layouts_fulfil_their_relation_plainly(relation, rng):
    scene = parse(f"a cat {relation} a dog")
    for _ in range(200):
        first, second = layout(scene, rng).objects
        dx, dy = second.x - first.x, second.y - first.y
        along = {Relation.LEFT_OF: dx, Relation.RIGHT_OF: -dx, Relation.ABOVE: dy, Relation.BELOW: -dy}[relation]
        assert along >= CELL_PX - 2 * JITTER_PX


def test_layouts_hold_what_was_asked_and_nothing_else(rng):
    for _ in range(300):
        scene = sample_scene(rng)
        made = layout(scene, rng)
        asked = sorted((group.kind, group.tile or "") for group in scene.groups for _ in range(group.count))
        assert sorted((item.kind, item.tile or "") for item in made.objects) == asked
        assert scene.canvas in (None, made.canvas)


def test_objects_keep_their_distance_and_stay_inside(rng):
    for _ in range(300):
        objects = layout(sample_scene(rng), rng).objects
        assert all(14 <= value <= SIZE_PX - 14 for item in objects for value in (item.x, item.y))
        for a, b in combinations(objects, 2):
            assert max(abs(a.x - b.x), abs(a.y - b.y)) >= CELL_PX - 2 * JITTER_PX


def test_a_scene_of_ten_does_not_fit(rng):
    scene = Scene(groups=(Group(kind="cat", count=4), Group(kind="dog", count=4), Group(kind="owl", count=2)))
    with pytest.raises(ValueError, match="10 objects"):
        layout(scene, rng)


def test_one_seed_draws_one_picture():
    scene = parse("two cats and a dog")
    first, again, other = (render(scene, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("canvas", CANVASES)
def test_the_canvas_has_its_colour(canvas):
    pixels = draw(Layout(objects=(), canvas=canvas))
    assert pixels.shape == (SIZE_PX, SIZE_PX, 3) and pixels.dtype == np.uint8
    assert (pixels == CANVASES[canvas]).all()


@pytest.mark.parametrize("tile", TILES)
def test_a_tile_shows_its_colour_around_the_glyph(tile):
    pixels = draw(Layout(objects=(Placed(kind="cactus", tile=tile, x=48, y=48),), canvas="cream"))
    assert (pixels[48 - TILE_PX // 2 + 1, 48 - 4 : 48 + 4] == TILES[tile]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_glyph_lies_over_its_canvas_where_it_was_put(kind):
    sprite, canvas = glyphs()[kind], np.float32(CANVASES["sky"])  # type: ignore[arg-type]
    expected = sprite[..., :3] * 255 + (1 - sprite[..., 3:]) * canvas
    pixels = draw(Layout(objects=(Placed(kind=kind, tile=None, x=40, y=50),), canvas="sky"))
    assert np.abs(pixels[37:63, 27:53] - expected).max() <= 0.51  # rounding


def test_glyphs_and_tiles_are_antialiased_and_premultiplied():
    for sprite in glyphs().values():
        assert ((sprite[..., 3] > 0.1) & (sprite[..., 3] < 0.9)).any()
        assert (sprite[..., :3] <= sprite[..., 3:] + 1e-3).all()
    assert ((tile_mask() > 0.1) & (tile_mask() < 0.9)).any()


def test_objects_are_cut_at_the_border_not_wrapped():
    pixels = draw(Layout(objects=(Placed(kind="ball", tile="red", x=0, y=0),), canvas="cream"))
    assert (pixels[40:] == CANVASES["cream"]).all() and (pixels[:, 40:] == CANVASES["cream"]).all()


def test_a_larger_picture_holds_the_same_objects():
    scene = Layout(objects=(Placed(kind="ball", tile="red", x=40, y=40),), canvas="cream")
    assert np.array_equal(draw(scene, size_px=128)[:96, :96], draw(scene))
