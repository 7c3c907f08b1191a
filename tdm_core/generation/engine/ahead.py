"""Denoisers as code that is made before anybody asks: what there is in ``torch.compile``'s place on ZeroGPU.

There each sample runs in a process of its own, whose compiled code would be gone with it.  So each side's denoiser is
exported once as one sample calls it, in one such process, and its code goes back to the one that all others are forked
from.  Calls of any other shape, and a student at another strength, run as they always do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from tdm_core.generation.engine.run import SampleRun
from tdm_core.generation.sample import Role

Code = Callable[..., Any]


class Call(Protocol):
    """What a module was called with."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Compiler(Protocol):
    """What is needed of the package ``spaces``."""

    def aoti_capture(self, module: Any) -> AbstractContextManager[Call]:
        """Breaks off the block when the module is called, and keeps what with."""
        ...

    def aoti_compile(self, exported: Any) -> Code:
        """The code of an exported program; it can be pickled."""
        ...


@dataclass(frozen=True)
class Ahead:
    """The code of one side's denoiser, and the shapes that it was made for."""

    student: bool
    code: Code
    shapes: object


def compile_ahead(runs: Sequence[SampleRun], compiler: Compiler) -> list[Ahead]:
    """Make each run's denoiser into code for the device that it is on; takes minutes."""
    import torch

    made = []
    for run in runs:
        denoiser = run.denoiser
        with compiler.aoti_capture(denoiser) as call:
            run.warm_up()
        with torch.no_grad():
            exported = torch.export.export(denoiser, call.args, call.kwargs, strict=False)
        code = compiler.aoti_compile(exported)
        made.append(Ahead(run.plan.role is Role.STUDENT, code, shapes_of(call.args, call.kwargs)))
    return made


def forward(denoiser: Any, ahead: Ahead) -> Code:
    """The denoiser's ``forward``: the code for calls of the shapes that it was made for, else its own."""
    own = type(denoiser).forward.__get__(denoiser)

    def choose(*args: Any, **kwargs: Any) -> Any:
        known = shapes_of(args, kwargs) == ahead.shapes
        return ahead.code(*args, **kwargs) if known else own(*args, **kwargs)

    return choose


def shapes_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    """Shapes and types of the tensors among what a module is called with, and everything else as it is."""
    import torch

    def of(value: Any) -> object:
        return (tuple(value.shape), value.dtype) if isinstance(value, torch.Tensor) else value

    return [of(value) for value in args], {name: of(value) for name, value in kwargs.items()}
