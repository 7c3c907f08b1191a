"""A recipe and a trainer of the smallest size, for tests."""

from pathlib import Path

from tdm_core.backbones.sd3_training import SD3Training
from tdm_core.toml_config import from_mapping
from tdm_core.training.config import DistillConfig
from tdm_core.training.processes import ALONE, Processes
from tdm_core.training.prompts import draw_from_list
from tdm_core.training.trainer import Trainer
from tests.tiny import TARGETS, tiny_pipeline

PROMPTS = ("a cat", "a dog", "a cat and a dog", "two cats", "a red dog")


def recipe(folder: Path, **tables: object) -> DistillConfig:
    """A recipe on the tiny pipeline; ``tables`` add to or replace single keys (``optimiser={"iterations": 3}``)."""
    values: dict = {
        "title": "tiny",
        "base": {"path": str(folder / "base")},
        "prompts": {"file": str(folder / "prompts.txt")},
        "trajectory": {"steps": 4, "shift": 1.5},
        "lora": {"rank": 4, "alpha": 8, "targets": list(TARGETS)},
        "objective": {},
        "optimiser": {"iterations": 6, "batch_size": 8, "warmup_iterations": 0},
        "run": {"folder": str(folder / "run"), "threads": 1, "text_cache": str(folder / "text"), "tracker": "none"},
        "export": {"folder": str(folder / "student"), "dtype": "float32"},
    }
    for table, keys in tables.items():
        values[table] = values[table] | keys if isinstance(keys, dict) else keys
    return from_mapping(DistillConfig, values, where="recipe")


def tiny_trainer(config: DistillConfig, *, processes: Processes = ALONE) -> Trainer:
    """A trainer in its first state."""
    lora = config.lora
    backbone = SD3Training(
        tiny_pipeline(), rank=lora.rank, alpha=lora.alpha, targets=lora.targets, seed=config.seed, max_sequence_length=0
    )
    return Trainer(config, backbone, draw_from_list(backbone, PROMPTS), processes=processes)
