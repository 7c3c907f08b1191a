"""Metrics of the literature: known answers, and each code path on a tiny random model of the real class."""

import json
import tomllib
import urllib.error
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm
from scipy.stats import norm
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessorPil,
    SwinConfig,
)

from tdm_core.errors import ConfigError, EvaluationError, LoadError
from tdm_core.evaluation import report
from tdm_core.evaluation.metrics import PUBLISHED, clip, extras, geneval, load_metric, ocr, sets
from tdm_core.evaluation.metrics.items import SCORES, ItemMetric
from tdm_core.evaluation.runs import Run
from tdm_core.evaluation.suites import Item
from tdm_core.stats import clustered_bootstrap

ROOT = Path(__file__).parents[2]
TOKENIZER = ROOT / "assets" / "models" / "mini-sd3" / "tokenizer"
ITEM = Item(id="a-0", prompt="a cat", tag="a")
RED = np.full((40, 30, 3), (255, 0, 0), dtype=np.uint8)


# --- known answers --------------------------------------------------------------------------------------------------


def gaussian_rows(mean, covariance, n=64, seed=0):
    """Rows whose sample mean and covariance are exactly these."""
    rows = np.random.default_rng(seed).normal(size=(n, len(mean)))
    rows -= rows.mean(axis=0)
    white = np.linalg.solve(np.linalg.cholesky(np.cov(rows, rowvar=False)), rows.T).T
    return white @ np.linalg.cholesky(np.array(covariance)).T + mean


@pytest.mark.parametrize("n", [64, 5])  # more and fewer rows than features
def test_frechet_distance_of_two_gaussians(n):
    if n == 64:
        first, second = [[2.0, 0.5], [0.5, 1.0]], [[1.0, -0.3], [-0.3, 3.0]]
        a, b = gaussian_rows([0, 0], first), gaussian_rows([1, -2], second, n=40, seed=1)
    else:
        rng = np.random.default_rng(0)
        a, b = rng.normal(size=(5, 8)), rng.normal(size=(6, 8))
        first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.sqrt(np.maximum(np.linalg.eigvals(np.array(first) @ np.array(second)).real, 0)).sum()
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(first) + np.trace(second) - 2 * root
    if n == 64:  # well conditioned: SciPy's matrix root is an authority too
        assert expected == pytest.approx(5 + np.trace(np.add(first, second) - 2 * sqrtm(np.dot(first, second)).real))
    assert sets.frechet_distance(a, b) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert sets.frechet_distance(a, a + 3) == pytest.approx(9 * a.shape[1], rel=1e-6)


def test_kernel_distance_by_hand_and_unbiased():
    a, b = np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])
    # (x y + 1)^3: own pairs (0, 1) -> 1 and (1, 2) -> 27; across 1, 1, 8, 27 -> mean 37/4
    assert sets.kernel_distance(a, b) == pytest.approx(1 + 27 - 2 * 37 / 4)
    rng = np.random.default_rng(0)
    draws = [sets.kernel_distance(rng.normal(size=(20, 3)), rng.normal(size=(30, 3))) for _ in range(400)]
    assert abs(np.mean(draws)) < 3 * np.std(draws) / 20  # zero on average where both laws are equal


class Vectors:
    """An encoder whose features are written down."""

    name = "by hand"

    def pictures(self, pictures):
        return np.array([[3.0, 4.0] if picture[0, 0, 0] else [0.0, 2.0] for picture in pictures])

    def texts(self, texts):
        return np.array([[1.0, 0.0] if "cat" in text else [0.0, -1.0] for text in texts])


def test_cosine_scores_of_known_vectors():
    items, pictures = [ITEM, ITEM, replace(ITEM, prompt="a dog")], [RED, 0 * RED, 0 * RED]
    score = clip.CosineScorer(encoder=Vectors()).score(pictures, items)
    assert score == pytest.approx([0.6, 0.0, -1.0], abs=1e-12)
    clamped = clip.CosineScorer(encoder=Vectors(), scale=100, clamp=True)
    assert clamped.score(pictures, items) == pytest.approx([60, 0, 0], abs=1e-12)
    assert clamped.fingerprint()["scale"] == "x100"
    # What is scored is the suite's own prompt, not the lengthened one that was sampled.
    assert clip.CosineScorer(encoder=Vectors()).score([RED], [replace(ITEM, prompt="x", eval_prompt="a cat")]) == [0.6]


def test_hps_preparation_pads_evenly_and_keeps_flat_colours():
    x = clip.letterbox(RED, 16, antialias=True)  # 40 x 30 -> 16 x 12, two columns of padding on each side
    red, black = (1 - clip.MEAN[0]) / clip.STD[0], -clip.MEAN[0] / clip.STD[0]
    assert x.shape == (3, 16, 16)
    assert x[0, 8, 2].item() == pytest.approx(red, abs=1e-5) and x[0, 8, 1].item() == pytest.approx(black, abs=1e-5)
    fine = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    spread = [clip.letterbox(fine, 16, antialias=flag)[0].std().item() for flag in (True, False)]
    assert 2 * spread[0] < spread[1]  # the flag that moves HPS by points


def test_the_aesthetic_head_has_the_published_names_and_no_activation():
    head = clip.aesthetic_head(8)
    assert list(head.state_dict())[::2] == [f"{n}.weight" for n in (0, 2, 4, 6, 7)]
    scorer = clip.AestheticScorer(encoder=Vectors(), head=clip.aesthetic_head(2))
    first, doubled = scorer.score([RED], [ITEM]), clip.AestheticScorer(encoder=Vectors(), head=scorer.head)
    assert first == doubled.score([RED], [ITEM])
    x = torch.tensor([[0.0, 0.0], [0.6, 0.8], [1.2, 1.6]])
    at_0, at_1, at_2 = scorer.head(x).flatten().tolist()
    assert at_2 - at_0 == pytest.approx(2 * (at_1 - at_0), abs=1e-5)  # affine


@pytest.mark.parametrize(
    ("read", "asked", "score"),
    [
        ("OPEN", "open", 1),
        ("we are o pen now", "OPEN", 1),
        ("opem", "open", 0.75),
        ("", "open", 0),
        ("xyzxyzxyz", "ab", 0),
    ],
)
def test_text_scores(read, asked, score):
    assert ocr.text_score(read, asked) == pytest.approx(score)


def test_edit_distance_is_a_metric_on_known_words():
    assert ocr.edit_distance("kitten", "sitting") == 3 == ocr.edit_distance("sitting", "kitten")
    assert ocr.target('A sign that reads "OPEN LATE" at night') == "OPEN LATE"
    with pytest.raises(EvaluationError, match="no text in quotation marks"):
        ocr.target("a cat")


# --- GenEval's rules ------------------------------------------------------------------------------------------------


def seen(name, box=(0, 0, 10, 10), confidence=0.95):
    return geneval.Found(name=name, confidence=confidence, box=box)


TWO_CATS = {"include": [{"class": "cat", "count": 2}], "exclude": [{"class": "cat", "count": 3}]}
RIGHT_OF = {"include": [{"class": "cat", "count": 1}, {"class": "dog", "count": 1, "position": ["right of", 0]}]}
RED_CAT = {"include": [{"class": "cat", "count": 1, "color": "red"}]}


@pytest.mark.parametrize(
    ("found", "clauses", "tag", "passes"),
    [
        ([seen("cat"), seen("cat")], TWO_CATS, "counting", True),
        ([seen("cat")], TWO_CATS, "counting", False),
        ([seen("cat")] * 3, TWO_CATS, "counting", False),
        ([seen("cat"), seen("cat"), seen("cat", confidence=0.85)], TWO_CATS, "counting", True),
        ([seen("cat"), seen("cat"), seen("cat", confidence=0.85)], TWO_CATS, "two_object", False),
        ([seen("cat"), seen("dog", (30, 0, 40, 10))], RIGHT_OF, "position", True),
        ([seen("cat"), seen("dog", (0, 30, 10, 40))], RIGHT_OF, "position", False),
        ([seen("cat"), seen("dog", (1, 0, 11, 10))], RIGHT_OF, "position", False),
        ([seen("dog", (30, 0, 40, 10))], RIGHT_OF, "position", False),
        ([seen("cat", confidence=0.9), seen("cat", (5, 5, 9, 9), 0.8)], RED_CAT, "colors", True),
        ([seen("cat", confidence=0.7), seen("cat", (5, 5, 9, 9), 0.8)], RED_CAT, "colors", False),
        ([seen("mouse")], {"include": [{"class": "computer mouse", "count": 1}]}, "single_object", True),
    ],
)
def test_geneval_rules(found, clauses, tag, passes):
    color_of = {(0, 0, 10, 10): "red"}
    reasons = geneval.judge(found, clauses, tag, lambda each: color_of.get(each.box, "blue"))
    assert (not reasons) is passes


def test_a_relation_needs_more_than_half_of_the_offset():
    assert geneval.relations((20, 10, 30, 20), (0, 0, 10, 10)) == {"right of"}  # (20, 10) -> (18, 8) / 22.4
    assert geneval.relations((20, 20, 30, 30), (0, 0, 10, 10)) == {"right of", "below"}
    assert geneval.relations((1, 1, 11, 11), (0, 0, 10, 10)) == set()


# --- tiny models of the real classes --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("clip"))
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)
    part = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = CLIPConfig(
        text_config=part | ends | {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id},
        vision_config=part | {"image_size": 32, "patch_size": 16},
        projection_dim=768,  # of the published model: the aesthetic head fits no other
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return clip.TransformersClip(folder)


def test_clip_score_of_a_run_is_kept_and_cached(make_run, tiny_clip, monkeypatch):
    run = Run.open(make_run(limit=6, seeds=2, roles=["teacher", "student"]))
    metric = ItemMetric(NAME="clip_score/tiny", make=lambda: clip.CosineScorer(encoder=tiny_clip))
    found = metric.measure(run)
    item, picture = run.pictures("student")[0]
    image, text = tiny_clip.pictures([run.pixels(picture)]), tiny_clip.texts([item.prompt])
    model = torch.cosine_similarity(torch.from_numpy(image), torch.from_numpy(text)).item()
    assert found.items["student"][item.id][0] == pytest.approx(model, abs=1e-6)  # torch's cosine, one at a time
    estimate = clustered_bootstrap(found.items["student"])
    assert (found.arms["student"]["low"], found.arms["student"]["n"]) == (estimate.low, 12)
    assert found.comparisons["student - teacher"]["value"] == pytest.approx(
        found.arms["student"]["value"] - found.arms["teacher"]["value"]
    )
    assert metric.difference(run, run, "student")["value"] == 0
    results = report.score(run, [metric])
    assert results["metrics"]["clip_score/tiny"]["fingerprint"]["model"] == tiny_clip.name
    monkeypatch.setattr(clip.TransformersClip, "pictures", lambda *_: pytest.fail("scored again"))
    assert metric.measure(run).arms == found.arms


def test_diversity_is_the_mean_distance_of_a_prompts_pictures(make_run, tiny_clip):
    run = Run.open(make_run(limit=3, seeds=3, roles=["teacher"]))
    distance = sets.ClipDistance(tiny_clip)
    found = sets.DiversityMetric(NAME="diversity/clip", make=lambda: distance).measure(run)
    shown = [run.pixels(picture) for _, picture in run.pictures("teacher")]
    each = [
        np.mean([distance(a, b) for a, b in zip(s, [*s[1:], s[0]], strict=True)])
        for s in (shown[:3], shown[3:6], shown[6:])
    ]
    assert found.arms["teacher"]["value"] == pytest.approx(np.mean(each), abs=1e-9)
    lonely = Run.open(make_run("lonely", limit=3, seeds=1, roles=["teacher"]))
    with pytest.raises(EvaluationError, match="two pictures of a prompt"):
        sets.DiversityMetric(NAME="diversity/clip", make=lambda: distance).measure(lonely)


class MeanColour:
    name, resize = "mean colour and its spread", "none"

    def features(self, pictures):
        return np.array([[*p.mean(axis=(0, 1)), p.std()] for p in pictures])


def test_distances_to_the_teacher_tell_what_they_are(make_run, monkeypatch):
    monkeypatch.setattr(sets, "RESAMPLES", 20)
    run = Run.open(make_run(limit=12, seeds=2, roles=["teacher", "teacher_few", "student"]))
    metric = sets.SetMetric(NAME="fid-teacher", distance=sets.frechet_distance, make=MeanColour)
    found = metric.measure(run)
    assert "teacher" not in found.arms
    assert 0 <= found.arms["student"]["value"] < found.arms["teacher_few"]["value"]
    assert found.fingerprint | {"resize": ""} == {
        "reference": "teacher", "reference_n": "24", "n": "24", "extractor": MeanColour.name, "resize": ""
    }  # fmt: skip
    folder = replace(metric, NAME="fid", reference=run.folder / "teacher").measure(run)
    assert folder.arms["teacher"]["value"] == pytest.approx(0, abs=1e-6)
    network = torch.nn.PairwiseDistance()
    lpips = sets.PairMetric(
        NAME="lpips-teacher", make=lambda: sets.Lpips("lpips-teacher", lambda a, b: network(a, b).mean())
    )
    assert lpips.measure(run).arms["student"]["value"] > 0
    with pytest.raises(EvaluationError, match="needs the teacher's pictures"):
        metric.measure(Run.open(make_run("alone", limit=3, seeds=1, roles=["student"])))


def test_a_reference_may_hold_pictures_of_many_sizes(make_run, monkeypatch):
    monkeypatch.setattr(sets, "RESAMPLES", 5)

    class Stacking(MeanColour):
        def features(self, pictures):
            return super().features(np.stack(pictures))

    run = Run.open(make_run(limit=6, seeds=1, roles=["teacher"]))
    folder = run.folder.parent / "reference"
    folder.mkdir()
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in [(40, 30, 3), (40, 30, 3), (20, 50, 3)]]
    for number, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    metric = sets.SetMetric(NAME="fid", distance=sets.frechet_distance, make=Stacking, reference=folder)
    assert metric.measure(run).fingerprint["reference_n"] == "3"
    np.testing.assert_array_equal(sets._features(Stacking(), pictures), MeanColour().features(pictures))


def test_every_category_has_a_row_in_the_report(make_run, tiny_clip):
    run = Run.open(make_run(limit=6, seeds=1, roles=["teacher", "student"]))
    metric = ItemMetric(NAME="clip_score/tiny", make=lambda: clip.CosineScorer(encoder=tiny_clip))
    row = report.score(run, [metric])["clip_score/tiny"]["student"]
    assert row["per_tag"] == {tag: interval["value"] for tag, interval in row["per_tag_intervals"].items()}
    assert row["value"] == pytest.approx(np.mean(list(row["per_tag"].values())))  # one prompt of each
    assert "single_object" in (run.folder / report.REPORT).read_text()


@pytest.mark.parametrize("content", ["[]", '{"values": 3}', "EDITION"])
def test_damaged_values_are_computed_again(make_run, tiny_clip, content):
    run = Run.open(make_run(limit=2, seeds=1, roles=["teacher"]))
    metric = ItemMetric(NAME="tiny", make=lambda: clip.CosineScorer(encoder=tiny_clip))
    found, path = metric.measure(run), run.folder / SCORES / "tiny.json"
    known = json.loads(path.read_text())
    path.write_text(json.dumps(known | {"values": dict.fromkeys(known["values"])}) if content == "EDITION" else content)
    assert metric.measure(run).arms == found.arms


def test_geneval_over_a_tiny_mask2former(tmp_path, tiny_clip):
    backbone = SwinConfig(
        image_size=32, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=backbone, hidden_dim=32, feature_size=32, mask_feature_size=32, encoder_layers=1,
        encoder_feedforward_dim=16, decoder_layers=2, dim_feedforward=16, num_attention_heads=2, num_queries=8,
        num_labels=3,
    )  # fmt: skip
    torch.manual_seed(0)
    Mask2FormerForUniversalSegmentation(config).save_pretrained(tmp_path)
    Mask2FormerImageProcessorPil(size={"height": 64, "width": 64}, do_resize=True).save_pretrained(tmp_path)
    detector = geneval.Mask2Former(str(tmp_path))
    pixels = np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)
    for found in detector.detect(pixels):
        left, top, right, bottom = found.box
        assert found.mask.shape == (48, 40) and 0 <= left < right <= 40 and 0 <= top < bottom <= 48
    colors = geneval.ClipColors(tiny_clip)
    whole = geneval.Found(name="cat", confidence=1, box=(0, 0, 40, 48), mask=np.ones((48, 40), dtype=bool))
    assert colors(pixels, whole) in geneval.COLORS
    scorer = geneval.GenevalScorer(detector=detector, colors=colors, notes={})
    item = replace(ITEM, clauses=json.dumps({"include": [{"class": "unicorn", "count": 1}]}))
    assert scorer.score([pixels], [item]) == [0.0]
    with pytest.raises(EvaluationError, match="fits the geneval suite"):
        scorer.score([pixels], [ITEM])


class TinyOpenClip(torch.nn.Module):
    """What open_clip's models offer, three colours wide."""

    visual = SimpleNamespace(image_size=32)

    def __init__(self):
        super().__init__()
        self.head, self.words = torch.nn.Linear(3, 4), torch.nn.Embedding(256, 4)

    def encode_image(self, batch):
        assert batch.shape[1:] == (3, 32, 32)
        return self.head(batch.mean(dim=(2, 3)))

    def encode_text(self, tokens):
        return self.words(tokens).mean(dim=1)


class TinyInception(torch.nn.Module):
    def __init__(self, name, features):
        super().__init__()
        assert (name, features) == ("inception-v3-compat", ["2048"])

    def forward(self, batch):
        assert batch.dtype == torch.uint8
        return (torch.nn.functional.adaptive_avg_pool2d(batch.float(), 2).flatten(1),)


class TinyLpips(torch.nn.Module):
    def __init__(self, net, verbose):
        super().__init__()

    def forward(self, first, second):
        assert -1 <= first.min() and first.max() <= 1
        return (first - second).square().mean(dim=(1, 2, 3), keepdim=True)


class Reader:
    """Sees the one word that the picture's mean is above or below; it takes OpenCV's order of colours."""

    def __call__(self, pixels):
        return [[None, "bright" if pixels.mean() > 128 else "dark", 0.9]], None


def tensors(text):
    return torch.tensor([[ord(letter) % 256 for letter in f"{each:<40}"[:40]] for each in text])


@pytest.fixture
def tiny_packages(tmp_path, monkeypatch, tiny_clip):
    """The packages and weights that published metrics ask for: the contracts of the real ones, at the smallest size."""

    def shrink(picture):
        return torch.from_numpy(np.asarray(picture.resize((32, 32))).copy()).permute(2, 0, 1).float() / 255

    packages = {
        "open_clip": SimpleNamespace(
            create_model_and_transforms=lambda model, pretrained: (TinyOpenClip(), None, shrink),
            get_tokenizer=lambda model: tensors,
        ),
        "torch_fidelity.feature_extractor_inceptionv3": SimpleNamespace(FeatureExtractorInceptionV3=TinyInception),
        "lpips": SimpleNamespace(LPIPS=TinyLpips),
        "rapidocr_onnxruntime": SimpleNamespace(RapidOCR=Reader),
    }
    weights = {
        clip.HPS_HEAD: {"state_dict": TinyOpenClip().state_dict()},
        clip.AESTHETIC_HEAD: {f"layers.{name}": value for name, value in clip.aesthetic_head(768).state_dict().items()},
    }

    def fetch(repository, file, metric):
        torch.save(weights[repository, file], tmp_path / file)
        return tmp_path / file

    monkeypatch.setattr(extras, "import_module", packages.__getitem__)
    monkeypatch.setattr(clip, "hub_file", fetch)
    for module in (clip, sets):
        monkeypatch.setattr(module, "TransformersClip", lambda repository: tiny_clip)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name not in ("geneval", "geneval-hf", "vbench")])
def test_every_metric_scores_a_run_with_intervals_and_a_fingerprint(make_run, tiny_packages, monkeypatch, name):
    """The three that are left have tests of their own, over a tiny detector and over programs."""
    monkeypatch.setattr(sets, "RESAMPLES", 20)
    folder = make_run(limit=6, seeds=2)
    if name == "ocr":
        monkeypatch.setattr(ocr, "target", lambda prompt: "bright")  # no caption of the scenes has words in it
    results = report.score(Run.open(folder), [load_metric(name, "scenes", reference=folder / "teacher")])
    row = results[name]["student"]
    assert row["low"] <= row["value"] <= row["high"] and row["n"] > 0
    assert results["metrics"][name]["fingerprint"]


# --- what is missing is said in one message --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("clip_score/dmd2-g14", "open_clip", "eval"),
        ("hps_v2.1", "open_clip", "eval"),
        ("lpips-teacher", "lpips", "eval"),
        ("fid-teacher", "torch_fidelity", "eval"),
        ("ocr", "rapidocr_onnxruntime", "ocr"),
    ],
)
def test_a_missing_package_is_named_with_its_metric_and_our_extra(make_run, monkeypatch, name, package, extra):
    def missing(module):
        raise ImportError(f"No module named {module!r}")

    monkeypatch.setattr(extras, "import_module", missing)
    run = Run.open(make_run(limit=1, seeds=1, roles=["teacher"]))
    with pytest.raises(ConfigError, match=rf"--metrics {name}: needs {package}") as error:
        load_metric(name, "scenes").measure(run)
    told, cure = str(error.value).splitlines()
    assert cure == f'Install it with: pip install -e ".[{extra}]"'  # to be pasted as it stands
    assert extra in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert ("torchvision" in told) is (extra == "eval")


def offline(*arguments, **options):
    raise urllib.error.URLError("Name or service not known")


@pytest.mark.parametrize(
    ("name", "cache"),
    [
        ("clip_score/openai-l14", "HF_HOME"),
        ("clip_score/dmd2-g14", "HF_HOME"),
        ("hps_v2.1", "HF_HOME"),
        ("aesthetic", "HF_HOME"),
        ("diversity/clip", "HF_HOME"),
        ("geneval-hf", "HF_HOME"),
        ("fid-teacher", "TORCH_HOME"),
        ("lpips-teacher", "TORCH_HOME"),
        ("diversity/lpips", "TORCH_HOME"),
    ],
)
def test_weights_that_cannot_be_fetched_are_told_with_the_cure(make_run, monkeypatch, name, cache):
    packages = {
        "open_clip": SimpleNamespace(create_model_and_transforms=offline),
        "torch_fidelity.feature_extractor_inceptionv3": SimpleNamespace(FeatureExtractorInceptionV3=offline),
        "lpips": SimpleNamespace(LPIPS=offline),
    }
    monkeypatch.setattr(extras, "import_module", packages.__getitem__)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    for model in (CLIPModel, Mask2FormerForUniversalSegmentation):
        monkeypatch.setattr(model, "from_pretrained", offline)
    run = Run.open(make_run(limit=1, seeds=2, roles=["teacher"]))
    with pytest.raises(LoadError, match=rf"Name or service not known>?\nCall this once .* set {cache} to") as error:
        load_metric(name, "scenes").measure(run)
    assert len(str(error.value).splitlines()) == 2


def test_damaged_weights_are_told_with_the_cure(make_run, tiny_packages, monkeypatch, tmp_path):
    (tmp_path / "half.pt").write_bytes(b"PK half a file")
    monkeypatch.setattr(clip, "hub_file", lambda *_: tmp_path / "half.pt")
    run = Run.open(make_run(limit=1, seeds=1, roles=["teacher"]))
    for name in ("hps_v2.1", "aesthetic"):
        with pytest.raises(LoadError, match=f"{name}: .*not here or damaged") as error:
            load_metric(name, "scenes").measure(run)
        assert len(str(error.value).splitlines()) == 2


def test_missing_weights_and_references_are_named(tmp_path):
    with pytest.raises(LoadError, match=r"CLIP .*none: not here") as error:
        clip.TransformersClip(str(tmp_path / "none"))
    assert len(str(error.value).splitlines()) == 2
    with pytest.raises(ConfigError, match="--reference"):
        load_metric("fid", "scenes")
    (tmp_path / "bridges.toml").write_text(
        '[geneval]\ncommand = ["{pictures}{results}"]\n[vbench]\ncommand = ["{videos}{results}{dimension}"]\n'
    )
    places = {"reference": tmp_path, "bridges": tmp_path / "bridges.toml"}
    assert {load_metric(name, "scenes", **places).NAME for name in PUBLISHED} == set(PUBLISHED)


# --- intervals ------------------------------------------------------------------------------------------------------


def test_bootstrap_covers_the_truth_of_clustered_data():
    rng, covered, studies = np.random.default_rng(0), 0, 600
    for study in range(studies):
        level = rng.normal(0, 0.8, size=80)
        truth = norm.cdf(0)  # P(level + noise > 0)
        data = {f"{i:03d}": (level[i] + rng.normal(size=4) > 0).astype(float).tolist() for i in range(80)}
        estimate = clustered_bootstrap(data, resamples=400, seed=study)
        covered += estimate.low <= truth <= estimate.high
    assert 0.93 <= covered / studies <= 0.97
