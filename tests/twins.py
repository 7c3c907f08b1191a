"""The tiny twin of every published system, as a folder that the app takes: bases, LoRA files, presets.

``python -m tests.twins FOLDER`` writes them; then ``TDM_PRESETS=FOLDER/presets make run`` shows every card at work.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tdm_core.generation.presets import SHIPPED
from tests import tiny_systems as tiny
from tests.published import FRAMES, SIDE_PX, SYSTEMS, Published


def write(folder: Path) -> list[str]:
    """Every system's twin under its own name; returns the names."""
    (folder / "presets").mkdir(parents=True)
    tiny.taesd3().save_pretrained(folder / "taesd3")
    bases: dict[tuple[str, str | None], Path] = {}
    for name, published in SYSTEMS.items():
        key = published.base, published.variant
        if key not in bases:
            bases[key] = tiny.save_base(published.base, folder / "-".join(filter(None, key)), variant=published.variant)
        pipeline = tiny.BASES[published.base]()
        network = getattr(pipeline, "unet", None) or pipeline.transformer
        lora = published.save_lora(tiny.random_lora(network, published.targets), folder / "loras" / name)
        shipped = tomllib.loads((SHIPPED / f"{name}.toml").read_text(encoding="utf-8"))
        twin = _twin(shipped, published, base=bases[key], lora=lora, taesd3=folder / "taesd3")
        (folder / "presets" / f"{name}.toml").write_text("\n".join(_lines(twin)), encoding="utf-8")
    return list(SYSTEMS)


def _twin(shipped: dict[str, Any], published: Published, *, base: Path, lora: Path, taesd3: Path) -> dict[str, Any]:
    """The shipped preset on tiny weights that lie here; sizes alone are its own."""
    student = shipped["student"] | {"lora": str(lora.parent), "file": lora.name}
    if "tensor_list" in student:
        student["tensor_list"] |= {"rank": tiny.RANK, "alpha": 2 * tiny.RANK}
    left = {key: value for key, value in shipped.items() if key not in ("vae", "revision", "memory_gb")}
    changed = {"base": str(base), "width": SIDE_PX, "height": SIDE_PX, "dtype": "float32", "student": student}
    changed |= {"frames": FRAMES} if "frames" in shipped else {}
    changed |= {"vae_tiling": False} if "vae_tiling" in shipped else {}
    changed |= {"vae": str(taesd3)} if published.tiny_vae else {}
    return left | changed


def _lines(table: Mapping[str, Any], path: str = "") -> list[str]:
    """TOML of plain values, tables and arrays of tables."""
    inner = {key: value for key, value in table.items() if isinstance(value, dict) or _is_tables(value)}
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items() if key not in inner]
    for key, value in inner.items():
        name = f"{path}{key}"
        for item in value if _is_tables(value) else [value]:
            lines += [f"[[{name}]]" if _is_tables(value) else f"[{name}]", *_lines(item, f"{name}.")]
    return lines


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


if __name__ == "__main__":
    print("\n".join(write(Path(sys.argv[1]))))
