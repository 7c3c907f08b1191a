"""Muon: singular values close to one, the reference's update, steps that do not grow with the gradient."""

import pytest
import torch
from torch import nn

from tdm_core.training.muon import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(8, 8), (24, 8), (8, 24)])
def test_singular_values_end_near_one_and_directions_stay(shape):
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    u, values, v = torch.linalg.svd(matrices, full_matrices=False)
    result = orthogonalize(matrices)
    new = (u.mT @ result @ v.mT).diagonal(dim1=1, dim2=2)  # the values along the old directions
    kept = values / values.amax(dim=1, keepdim=True) > 0.1
    assert new[kept].min() > 0.6 and new[kept].max() < 1.3
    assert torch.allclose(u @ torch.diag_embed(new) @ v, result, atol=1e-5)


def test_updates_agree_with_torchs_muon_within_bfloat16():
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape)) for shape in [(16, 16), (64, 16), (16, 16)]]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    start = [p.detach().clone() for p in ours]
    muon = Muon(ours, lr=0.01)
    reference = torch.optim.Muon(theirs, lr=0.01, weight_decay=0, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        muon.step()
        reference.step()
    for mine, other, first in zip(ours, theirs, start, strict=True):
        assert (mine - other).norm() < 0.02 * (mine - first).norm()


def test_a_parameter_without_gradient_stays():
    idle = nn.Parameter(torch.ones(4, 4))
    Muon([idle], lr=1.0).step()
    assert torch.equal(idle, torch.ones(4, 4))


def test_a_convolution_is_a_matrix_of_a_row_for_each_channel():
    torch.manual_seed(0)
    convolution = nn.Parameter(torch.randn(8, 4, 3, 3))
    matrix = nn.Parameter(convolution.detach().flatten(1))
    convolution.grad = torch.randn_like(convolution)
    matrix.grad = convolution.grad.flatten(1)
    Muon([convolution, matrix], lr=0.01).step()
    assert torch.equal(convolution.flatten(1), matrix)
