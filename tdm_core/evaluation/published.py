"""Published prompt suites: where each comes from, under which licence, and how its files become prompts.

GenEval's prompts are shipped.  The others are not: a licence is unknown or covers the repository rather than its data,
or the list is kept up where it lies.  They are downloaded when used, into the data folder, and counted, since a list
that has changed is another benchmark.
"""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tdm_core.errors import ConfigError
from tdm_core.generation.media import write_whole
from tdm_core.generation.sample import MediaKind

SHIPPED = Path(__file__).parents[2] / "assets" / "prompts"
TIMEOUT_SECONDS = 60
GITHUB = "https://raw.githubusercontent.com/"
HPD = "https://huggingface.co/datasets/zhwang/HPDv2/resolve/main/benchmark/"
HPS_STYLES = ("anime", "concept-art", "paintings", "photo")


@dataclass(frozen=True, kw_only=True)
class Question:
    """A prompt with its category; what is scored may differ from what is sampled."""

    prompt: str
    tag: str
    eval_prompt: str = ""
    clauses: str = ""
    """What the picture must show, as the suite's own JSON."""


Texts = Mapping[str, str]
"""File name -> content."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a suite's files are; ``prompts`` of them make it what it is called."""

    files: dict[str, str]
    licence: str
    prompts: int
    parse: Callable[[Texts], list[Question]]
    note: str = ""
    media: MediaKind = "image"
    """What its prompts ask for."""
    shipped: bool = False


def questions(name: str, folder: Path) -> list[Question]:
    """A published suite's prompts, downloaded into ``folder`` if they are not there.

    Raises:
        ConfigError: if a file can be neither found nor fetched, or is not what it was.
    """
    source = SOURCES[name]
    texts = {file: _text(name, where(name, folder) / file, url) for file, url in source.files.items()}
    try:
        found = source.parse(texts)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        found = []
    if len(found) != source.prompts:
        raise ConfigError(
            f"--suite {name}: {where(name, folder)} holds {len(found)} prompts, the suite has {source.prompts}.\n"
            "Delete that folder and call again; if it stays so, the source has changed."
        )
    return found


def where(name: str, folder: Path) -> Path:
    """The folder of a suite's files: this project's own if it ships them, else one in ``folder``."""
    return (SHIPPED if SOURCES[name].shipped else folder) / name


def _text(name: str, path: Path, url: str) -> str:
    if not path.exists():
        content = _fetch(name, path, url)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"--suite {name}: {path} is no text.\nDelete it and call again.") from None


def _fetch(name: str, path: Path, url: str) -> bytes:
    """The file; of an archive (``...zip#member``) its member."""
    address, _, member = url.partition("#")
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_SECONDS) as response:
            content: bytes = response.read()
        if member:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                return archive.read(member)
        return content
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise ConfigError(
            f"--suite {name}: not shipped with this project, and {address} cannot be fetched ({reason}).\n"
            f"Fetch it where there is a network and put {member or 'it'} here: {path}"
        ) from None


def _geneval(texts: Texts) -> list[Question]:
    rows = [json.loads(line) for line in texts["evaluation_metadata.jsonl"].splitlines() if line.strip()]
    return [
        Question(
            prompt=row["prompt"],
            tag=row["tag"],
            clauses=json.dumps({key: row[key] for key in ("include", "exclude") if key in row}),
        )
        for row in rows
    ]


def _hps(texts: Texts) -> list[Question]:
    return [Question(prompt=str(p), tag=style) for style in HPS_STYLES for p in json.loads(texts[f"{style}.json"])]


def _drawbench(texts: Texts) -> list[Question]:
    return [Question(prompt=str(prompt), tag="drawbench") for prompt in json.loads(texts["drawbench.json"])]


def _ocr(texts: Texts) -> list[Question]:
    return [Question(prompt=line, tag="ocr") for line in texts["test.txt"].splitlines() if line.strip()]


def _coco(texts: Texts) -> list[Question]:
    first: dict[int, str] = {}
    rows = json.loads(texts["captions_val2014.json"])["annotations"]
    for row in sorted(rows, key=lambda row: (row["image_id"], row["id"])):
        first.setdefault(row["image_id"], " ".join(row["caption"].split()))
    return [Question(prompt=caption, tag="coco") for caption in list(first.values())[:10_000]]


def _vbench(texts: Texts, sampled: str = "all_dimension.txt") -> list[Question]:
    """A prompt belongs to several dimensions; its tag is the first, its clauses are all."""
    entries = json.loads(texts["VBench_full_info.json"])
    dimensions = {row["prompt_en"].strip(): row["dimension"] for row in entries}
    asked, scored = (texts[name].splitlines() for name in (sampled, "all_dimension.txt"))
    return [
        Question(
            prompt=prompt,
            eval_prompt=short.strip(),
            tag=dimensions[short.strip()][0],
            clauses=json.dumps(dimensions[short.strip()]),
        )
        for prompt, short in zip(asked, scored, strict=True)
        if short.strip()
    ]


COMPBENCH = {
    "consistent_attr": "1_consistent_attr.txt",
    "dynamic_attr": "2_dynamic_attr.txt",
    "spatial_relationship": "3_spatial_relationship.txt",
    "motion_binding": "4_motion_binding.txt",
    "action_binding": "5_action_binding.txt",
    "interaction": "6_interaction.txt",
    "numeracy": "7_numeracy.txt",
}
"""T2V-CompBench's categories and their files, in its order."""


def _compbench(texts: Texts) -> list[Question]:
    return [
        Question(prompt=line.strip(), tag=tag)
        for tag, file in COMPBENCH.items()
        for line in texts[file].splitlines()
        if line.strip()
    ]


_VBENCH = GITHUB + "Vchitect/VBench/"
_VBENCH_FILES = {
    "VBench_full_info.json": _VBENCH + "master/vbench/VBench_full_info.json",
    "all_dimension.txt": _VBENCH
    + "cd950ee89d1a2466512a91a0fee77c28dcb0d677/prompts/prompts_per_dimension/all_dimension.txt",
}

SOURCES = {
    "geneval": Source(
        files={"evaluation_metadata.jsonl": GITHUB + "djghosh13/geneval/main/prompts/evaluation_metadata.jsonl"},
        licence="MIT",
        prompts=553,
        parse=_geneval,
        note="arXiv:2310.11513; four pictures a prompt",
        shipped=True,
    ),
    "hps_v2": Source(
        files={f"{style}.json": f"{HPD}{style}.json" for style in HPS_STYLES},
        licence="not stated for the data",
        prompts=3200,
        parse=_hps,
        note="arXiv:2306.09341; one picture a prompt",
    ),
    "drawbench": Source(
        files={"drawbench.json": HPD + "drawbench.json"},
        licence="unknown",
        prompts=200,
        parse=_drawbench,
        note="arXiv:2205.11487",
    ),
    "coco_10k": Source(
        files={
            "captions_val2014.json": "http://images.cocodataset.org/annotations/annotations_trainval2014.zip"
            "#annotations/captions_val2014.json"
        },
        licence="CC BY 4.0",
        prompts=10_000,
        parse=_coco,
        note="the first caption of the first 10,000 pictures by number; other papers took other 10,000",
    ),
    "ocr": Source(
        files={"test.txt": GITHUB + "yifan123/flow_grpo/main/dataset/ocr/test.txt"},
        licence="MIT",
        prompts=1018,
        parse=_ocr,
        note="Flow-GRPO; the text to draw stands in quotation marks",
    ),
    "vbench": Source(
        files=_VBENCH_FILES,
        licence="Apache-2.0",
        prompts=946,
        parse=_vbench,
        note="arXiv:2311.17982; five clips a prompt, 25 for temporal flickering",
        media="video",
    ),
    "vbench_long": Source(
        files=_VBENCH_FILES
        | {
            "all_dimension_longer.txt": _VBENCH
            + "a3327d1b3ed860dea47cbec9d1615ae4f9d9f220/prompts/gpt_enhanced_prompts/all_dimension_longer.txt"
        },
        licence="Apache-2.0",
        prompts=946,
        parse=lambda texts: _vbench(texts, "all_dimension_longer.txt"),
        note="VBench's lengthened prompts, scored against the short ones",
        media="video",
    ),
    "t2v_compbench": Source(
        files={file: f"{GITHUB}KaiyueSun98/T2V-CompBench/main/prompts/{file}" for file in COMPBENCH.values()},
        licence="not stated",
        prompts=1400,
        parse=_compbench,
        note="arXiv:2407.14505 (its first edition had 700); exported for its own scripts, not scored here",
        media="video",
    ),
}
