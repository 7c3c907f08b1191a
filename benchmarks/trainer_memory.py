"""Memory of the roles: one base with two trained adapters against three networks, counted on the meta device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from benchmarks.rows import Measure, save
from tdm_core.backbones.adapters import TRAINED_ROLES, LoraRoles, NetworkRole
from tdm_core.backbones.shapes import network_shape

SD3 = "stabilityai/stable-diffusion-3-medium-diffusers"
SD3_TARGETS = [
    *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
    *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
]
RANK, GIBI = 64, 2**30


def main() -> None:
    network = network_shape(SD3, torch.bfloat16)
    copies = three_copies_bytes(network)
    roles = role_bytes(network, rank=RANK, targets=SD3_TARGETS)
    measures = [
        Measure(what="base, two adapters (r64) with gradients and AdamW, EMA", value=roles / GIBI, unit="GiB"),
        Measure(what="weights alone of three bfloat16 copies", value=copies / GIBI, unit="GiB"),
        Measure(what="ratio at SD3 medium's shapes", value=roles / copies, bar="<= 0.45", met=roles <= 0.45 * copies),
    ]
    for measure in measures:
        print(f"{measure.what:56} {measure.value:6.3f} {measure.unit} {measure.bar}")
    print(save("trainer-memory", "make bench ARGS=trainer_memory", measures))


def three_copies_bytes(network: nn.Module) -> int:
    """Of the weights alone, in bfloat16."""
    return 3 * 2 * sum(parameter.numel() for parameter in network.parameters())


def role_bytes(network: nn.Module, *, rank: int, targets: Sequence[str]) -> int:
    """Of all tensors that a run holds after its first update; the network gets the adapters."""
    roles = LoraRoles(network, rank=rank, alpha=rank, targets=targets, seed=0)
    held: list[Tensor] = list(network.parameters())
    for role in TRAINED_ROLES:
        weights = list(roles.parameters(role).values())
        optimiser = torch.optim.AdamW(weights, foreach=True)
        for weight in weights:
            weight.grad = torch.zeros_like(weight)
            held.append(weight.grad)
        optimiser.step()
        held += [value for state in optimiser.state.values() for value in state.values() if value.ndim]
    held += [torch.zeros_like(weight) for weight in roles.parameters(NetworkRole.STUDENT).values()]
    return _bytes(held)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


if __name__ == "__main__":
    main()
