"""Teacher, student and fake on **one** frozen base: two LoRA adapters, and none for the teacher.

Three full copies of a network are what makes distillation expensive; adapters cost a few per cent.  The traps are in
PEFT's switching (peft 0.21): ``set_adapter`` and ``disable_adapters`` also flip ``requires_grad``, so a switch between
forward and backward gives a *silent zero gradient*, and a recomputed forward under gradient checkpointing uses whatever
adapter is active then.  So here a switch changes the active name and nothing else, all LoRA weights require gradients
from the start, and ``backward`` makes its role active first.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from types import MethodType
from typing import Any

import torch
from diffusers.models.embeddings import TimestepEmbedding
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn import functional

from tdm_core.errors import ConfigError, LoadError


class NetworkRole(StrEnum):
    """Whose score a forward computes."""

    TEACHER = "teacher"
    STUDENT = "student"
    FAKE = "fake"


TRAINED_ROLES = (NetworkRole.STUDENT, NetworkRole.FAKE)


class LoraRoles:
    """The three roles of one network.  Outside ``active`` the teacher is active."""

    def __init__(self, network: nn.Module, *, rank: int, alpha: float, targets: Sequence[str], seed: int) -> None:
        """Freeze ``network`` and give it both adapters, in float32, initialised alike (B = 0) from ``seed``.

        Args:
            targets: suffixes of module names, as in PEFT's ``target_modules``.

        Raises:
            ConfigError: if a target names no layer of this network.
        """
        _check_targets(network, targets)
        network.requires_grad_(False)
        # Sorted, since PEFT keeps a set, and an exported file should not depend on the order of hashes.
        self.config = LoraConfig(
            r=rank, lora_alpha=alpha, target_modules=sorted(targets), init_lora_weights=True, lora_dropout=0.0
        )
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # two adapters are meant
            torch.manual_seed(seed)
            for role in TRAINED_ROLES:
                inject_adapter_in_model(self.config, network, adapter_name=role)
        self.network = network
        self._folded: NetworkRole | None = None
        self._layers = [module for module in network.modules() if isinstance(module, BaseTunerLayer)]
        for layer in self._layers:
            if type(layer) is LoraLinear:
                layer.forward = MethodType(_forward, layer)
        self.steps = 0
        """How many steps the trajectory takes that is being trained or sampled, for the roles that are told."""
        self._numbers: list[int] = []
        self._steps_tables: dict[NetworkRole, nn.Parameter] = {}
        self.evaluations = 0
        """Rows that went through the network so far, in any role."""
        network.register_forward_pre_hook(self._count, with_kwargs=True)
        self._parameters = {role: _parameters_of(network, role) for role in TRAINED_ROLES}
        for role in TRAINED_ROLES:
            for parameter in self._parameters[role].values():
                parameter.data = parameter.data.float()
                parameter.requires_grad_(True)
        self._switch(NetworkRole.TEACHER)

    def tell_steps(self, roles: Sequence[NetworkRole], numbers: Sequence[int]) -> None:
        """From now on these roles learn a vector for each number of steps, added to their embedding of time.

        The vectors start at zero and are one of the role's parameters, ``steps`` [N, D].

        Raises:
            ConfigError: if the network has no embedding of time of the usual kind.
        """
        found = [module for module in self.network.modules() if isinstance(module, TimestepEmbedding)]
        if not found:
            raise ConfigError(f"trajectory.told: {type(self.network).__name__} has no TimestepEmbedding to add to")
        self._numbers, weight = list(numbers), found[0].linear_2.weight
        for role in roles:
            table = nn.Parameter(torch.zeros(len(numbers), len(weight), device=weight.device))
            self._steps_tables[role] = self._parameters[role]["steps"] = table
        found[0].register_forward_hook(self._add_steps)

    def _add_steps(self, _: nn.Module, __: object, embedding: Tensor) -> Tensor:
        table = self._steps_tables.get(self._current)
        return embedding if table is None else embedding + table[self._numbers.index(self.steps)].to(embedding)

    def checkpoint_gradients(self) -> None:
        """From now on compute activations again in backwards instead of keeping them."""
        self.network.enable_gradient_checkpointing()  # type: ignore[operator]

    @property
    def num_layers(self) -> int:
        """How many layers carry adapters; what a loaded file must match."""
        return len(self._layers)

    @property
    def base_dtype(self) -> torch.dtype:
        """In which the frozen weights are held, and products are computed."""
        weight: Tensor = self._layers[0].get_base_layer().weight
        return weight.dtype

    @property
    def current(self) -> NetworkRole:
        return self._current

    @contextmanager
    def active(self, role: NetworkRole) -> Iterator[None]:
        """Forwards inside are this role's; the role before is restored afterwards."""
        before = self._current
        self._switch(role)
        try:
            yield
        finally:
            self._switch(before)

    @contextmanager
    def merged(self, role: NetworkRole) -> Iterator[None]:
        """Forwards of a role inside, without gradient, cost no more than the teacher's: its LoRA is folded in.

        The folded weights are new tensors that take the base's place for the time being, so the base and any graph that
        waits for its backward keep theirs.  A base in half precision is not folded, for that would round the LoRA.
        """
        bases = [layer.get_base_layer().weight for layer in self._layers]
        if any(weight.dtype != torch.float32 for weight in bases):
            with torch.no_grad(), self.active(role):
                yield
            return
        originals, before = [weight.data for weight in bases], self._current
        with torch.no_grad():
            for layer, weight in zip(self._layers, bases, strict=True):
                weight.data = _folded(layer, role)
            self._folded = role
            self._switch(role)
            try:
                yield
            finally:
                for weight, original in zip(bases, originals, strict=True):
                    weight.data = original
                self._folded = None
                self._switch(before)

    def backward(self, loss: Tensor, role: NetworkRole) -> None:
        """Gradients of this role's loss, with the role active, as checkpointed forwards need.

        Raises:
            RuntimeError: if some weight of the role got no gradient: the forward ran under another role.
        """
        with self.active(role):
            loss.backward()
        missing = [name for name, parameter in self._parameters[role].items() if parameter.grad is None]
        if missing:
            raise RuntimeError(f"no gradient for {len(missing)} weights of the {role}, first {missing[0]}")

    def parameters(self, role: NetworkRole) -> dict[str, nn.Parameter]:
        """The LoRA weights of a trained role by name, without the adapter's name (``....to_q.lora_A.weight``)."""
        return self._parameters[role]

    @torch.no_grad()
    def load(self, role: NetworkRole, state: Mapping[str, Tensor]) -> None:
        """Set the LoRA weights of a role from a mapping as ``parameters`` gives it.

        Raises:
            LoadError: if names or shapes differ.
        """
        mine = self._parameters[role]
        if mine.keys() != state.keys():
            odd = sorted(mine.keys() ^ state.keys())
            raise LoadError(f"LoRA of the {role}: {len(odd)} names differ, first {odd[0]}; was it made for this base?")
        for name, parameter in mine.items():
            if parameter.shape != state[name].shape:
                raise LoadError(
                    f"LoRA of the {role}: {name} is {tuple(state[name].shape)}, not {tuple(parameter.shape)}"
                )
            parameter.copy_(state[name])

    @contextmanager
    def weights(self, role: NetworkRole, state: Mapping[str, Tensor]) -> Iterator[None]:
        """Lend a role other weights (its moving average) for forwards inside; never between forward and backward."""
        mine = {name: parameter.detach().clone() for name, parameter in self._parameters[role].items()}
        self.load(role, state)
        try:
            yield
        finally:
            self.load(role, mine)

    def _count(self, _: nn.Module, positional: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        self.evaluations += len(next(iter((*positional, *named.values()))))

    def _switch(self, role: NetworkRole) -> None:
        # The public switches (`set_adapter`, `enable_adapters`) would flip requires_grad: see the module docstring.
        if self._folded not in (None, role):
            raise RuntimeError(f"the {self._folded}'s LoRA is folded in, so the {role} cannot speak")
        silent = role in (NetworkRole.TEACHER, self._folded)
        for layer in self._layers:
            layer._disable_adapters = silent
            layer._active_adapter = [] if silent else [role.value]
        self._current = role


def _forward(layer: LoraLinear, x: Tensor) -> Tensor:
    """A LoRA layer's output for one active adapter, in the type of its input.

    PEFT's own forward is general, and takes two passes more over each output (scale, then add) and its gradient: 5 % of
    a small network's iteration.
    """
    if layer.disable_adapters:
        return layer.base_layer(x)
    (role,) = layer.active_adapters
    rows = x.flatten(0, -2)
    down = functional.linear(rows, layer.lora_A[role].weight.to(x.dtype))
    up = layer.lora_B[role].weight.to(x.dtype)
    # In place, since nobody needs the base's own output, not even its backward; flat, so that no view is written to.
    out = layer.base_layer(rows).addmm_(down, up.t(), alpha=layer.scaling[role])
    return out.view(*x.shape[:-1], -1)


def _folded(layer: Any, role: NetworkRole) -> Tensor:
    """The layer's weight with the role's LoRA in it, as a new tensor."""
    weight: Tensor = layer.get_base_layer().weight
    if type(layer) is LoraLinear:
        up, down = layer.lora_B[role.value].weight, layer.lora_A[role.value].weight
        return torch.addmm(weight, up, down, alpha=layer.scaling[role.value])
    return layer.get_delta_weight(role.value).add_(weight)


def _check_targets(network: nn.Module, targets: Sequence[str]) -> None:
    names = [name for name, _ in network.named_modules()]
    for target in targets:
        if not any(name == target or name.endswith("." + target) for name in names):
            raise ConfigError(f"lora.targets: {target!r} is no layer of {type(network).__name__}")


def _parameters_of(network: nn.Module, role: NetworkRole) -> dict[str, nn.Parameter]:
    marker = f".{role}."
    return {
        name.replace(marker, "."): parameter
        for name, parameter in network.named_parameters()
        if marker in name and "lora_" in name
    }
