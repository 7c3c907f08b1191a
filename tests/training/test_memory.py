"""Too little memory: what counts as such, and which cures are named."""

import pytest
import torch

from tdm_core.errors import TrainingError
from tdm_core.training.memory import enough_memory
from tests.training.recipes import recipe


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
    ],
    ids=lambda error: str(error)[:30],
)
@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({}, r"8 rows at once and no gradient_checkpointing.\n.*--resume --set run.micro_batch=4 or less and --set "),
        ({"micro_batch": 1}, r"1 row at once and no .*\nContinue with --resume --set run.gradient_checkpointing=true:"),
        ({"micro_batch": 2, "gradient_checkpointing": True}, r"\nContinue with --resume --set run.micro_batch=1:"),
        ({"micro_batch": 1, "gradient_checkpointing": True}, r"\nTake a device with more memory"),
    ],
    ids=["neither", "one row", "checkpointing", "both"],
)
def test_it_is_told_with_where_and_what_is_left_to_try(tmp_path, error, run, message):
    with pytest.raises(TrainingError, match=rf"(?s)^step 2: out of memory, with .*{message}") as told:
        with enough_memory(recipe(tmp_path, run=run), lambda: "step 2"):
            raise error
    assert len(str(told.value).splitlines()) == 2


@pytest.mark.parametrize("error", [RuntimeError("size mismatch"), ValueError("can't allocate memory")], ids=repr)
def test_another_error_goes_its_way(tmp_path, error):
    with pytest.raises(type(error)) as caught, enough_memory(recipe(tmp_path), lambda: "step 2"):
        raise error
    assert caught.value is error


def test_a_real_allocation_that_fails_is_seen_as_one(tmp_path):
    with pytest.raises(TrainingError, match="out of memory"), enough_memory(recipe(tmp_path), lambda: "step 2"):
        torch.empty(2**60, dtype=torch.uint8)
