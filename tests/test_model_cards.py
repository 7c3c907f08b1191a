"""The examples on the shipped models' cards run with plain diffusers and draw what our engine draws.

All but one do so without this project: diffusers' scheduler of CogVideoX takes no timesteps of one's own.
"""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tdm_core.generation.engine import Engine
from tdm_core.generation.presets import SHIPPED, load_presets
from tdm_core.generation.sample import Role, SampleRequest, finish

ROOT = Path(__file__).parents[1]
CARDS = {
    "mini-sd3": ("mini-sd3", Role.TEACHER),
    "mini-sd3-tdm": ("mini-sd3-four", Role.STUDENT),
    "mini-sd3-any-tdm": ("mini-sd3", Role.STUDENT),
    "mini-pixart": ("mini-pixart", Role.TEACHER),
    "mini-pixart-tdm": ("mini-pixart", Role.STUDENT),
    "mini-cogvideox": ("mini-cogvideox", Role.TEACHER),
    "mini-cogvideox-tdm": ("mini-cogvideox", Role.STUDENT),
}
WITHOUT_OURS = "import sys; sys.modules.update(tdm_core=None, train=None)\n"  # importing either would raise
WITH_OUR_SCHEDULER = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"


@pytest.mark.parametrize("name", CARDS)
def test_a_cards_example_draws_the_engines_picture(name, tmp_path):
    card = (ROOT / "assets" / "models" / name / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    (prompt,) = re.findall(r'^    "(.*)",$', example, re.MULTILINE)
    (seed,) = re.findall(r"manual_seed\((\d+)\)", example)
    made = "frames" if "frames" in example else "picture"
    save = f"import numpy\nnumpy.save('made.npy', numpy.asarray({made}))\n"
    (tmp_path / "assets").symlink_to(ROOT / "assets")  # an example may write files
    head = WITH_OUR_SCHEDULER if name == "mini-cogvideox-tdm" else WITHOUT_OURS
    subprocess.run([sys.executable, "-c", head + example + save], cwd=tmp_path, check=True, capture_output=True)
    theirs = np.load(tmp_path / "made.npy").astype(int)

    engine = Engine(load_presets([SHIPPED]), device="cpu", threads=1)
    preset, role = CARDS[name]
    ours = finish(engine.sample(SampleRequest(preset=preset, role=role, prompt=prompt, seed=int(seed))))
    off = np.abs(ours.media.astype(int) - theirs)
    assert off.max() <= 2 and off.mean() < 0.01  # rounding to 8 bits; a wrong grid or strength differs by 50 and more
