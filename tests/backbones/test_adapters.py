"""Three roles on one base: right gradients, and none of the silent failures of switching adapters."""

import copy

import pytest
import torch
from peft import get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch.testing import assert_close

from tdm_core.backbones.adapters import TRAINED_ROLES, LoraRoles, NetworkRole
from tdm_core.errors import ConfigError, LoadError
from tests.tiny import TARGETS, tiny_pipeline

TEACHER, STUDENT, FAKE = NetworkRole.TEACHER, NetworkRole.STUDENT, NetworkRole.FAKE


@pytest.fixture
def network():
    return tiny_pipeline().transformer


@pytest.fixture
def roles(network):
    """Roles whose LoRA weights are all random, so that student and fake differ from the base and each other."""
    roles = LoraRoles(network, rank=4, alpha=8, targets=TARGETS, seed=0)
    generator = torch.Generator().manual_seed(1)
    for role in TRAINED_ROLES:
        for parameter in roles.parameters(role).values():
            parameter.data.normal_(0, 0.1, generator=generator)
    return roles


def forward(network):
    generator = torch.Generator().manual_seed(2)
    return network(
        hidden_states=torch.randn(2, 16, 8, 8, generator=generator),
        encoder_hidden_states=torch.randn(2, 5, 64, generator=generator),
        pooled_projections=torch.randn(2, 64, generator=generator),
        timestep=torch.tensor([500.0, 300.0]),
        return_dict=False,
    )[0]


def student_gradients(roles, between=lambda: None):
    """Gradients of the student after a forward, something in between, and a backward."""
    with roles.active(STUDENT):
        loss = forward(roles.network).square().mean()
    between()
    roles.backward(loss, STUDENT)
    return {name: parameter.grad.clone() for name, parameter in roles.parameters(STUDENT).items()}


def test_the_teacher_is_the_base_to_the_bit(network):
    before = forward(network)
    roles = LoraRoles(network, rank=4, alpha=8, targets=TARGETS, seed=0)
    for parameter in roles.parameters(STUDENT).values():
        parameter.data.fill_(0.1)
    assert torch.equal(forward(network), before)
    with roles.active(TEACHER):
        assert torch.equal(forward(network), before)


def test_fresh_roles_start_as_the_teacher(network):
    roles = LoraRoles(network, rank=4, alpha=8, targets=TARGETS, seed=0)
    before = forward(network)
    for role in TRAINED_ROLES:
        with roles.active(role):
            assert_close(forward(network), before)


def test_the_seed_decides_the_first_weights_and_leaves_the_callers_random_state(network):
    state = torch.get_rng_state()
    roles = [LoraRoles(copy.deepcopy(network), rank=4, alpha=8, targets=TARGETS, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    first, same, other = (torch.cat([p.flatten() for p in r.parameters(STUDENT).values()]) for r in roles)
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_student_fake_and_teacher_are_three_networks(roles):
    outputs = []
    for role in NetworkRole:
        with roles.active(role):
            outputs.append(forward(roles.network))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.allclose(outputs[one], outputs[other])


def test_our_forward_is_pefts_in_output_and_gradient(network, roles):
    """Ours saves two passes over each output; the same layers with PEFT's own forward must say the same."""
    plain = copy.deepcopy(network)
    for module in plain.modules():
        module.__dict__.pop("forward", None)
    theirs = {name: parameter for name, parameter in plain.named_parameters() if ".student." in name}
    for module in plain.modules():
        if isinstance(module, BaseTunerLayer):
            module._disable_adapters, module._active_adapter = False, ["student"]
    forward(plain).square().mean().backward()
    with roles.active(STUDENT):
        assert_close(forward(network), forward(plain))
    for name, gradient in student_gradients(roles).items():
        where = name.replace(".lora_A.", ".lora_A.student.").replace(".lora_B.", ".lora_B.student.")
        assert_close(gradient, theirs[where].grad)


def test_switching_never_touches_requires_grad(roles):
    for role in NetworkRole:
        with roles.active(role):
            trainable = {name for name, parameter in roles.network.named_parameters() if parameter.requires_grad}
            assert len(trainable) == 2 * len(roles.parameters(STUDENT))
            assert all("lora_" in name for name in trainable)


def test_a_role_is_restored_even_after_an_error(roles):
    with roles.active(STUDENT):
        with pytest.raises(KeyError), roles.active(FAKE):
            raise KeyError
        assert roles.current is STUDENT
    assert roles.current is TEACHER


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "gradient checkpointing"])
def test_other_roles_between_forward_and_backward_leave_the_students_gradient_alone(roles, checkpointing):
    """PEFT's own switches give a zero gradient here, or a wrong one where the forward is recomputed."""
    if checkpointing:
        roles.network.enable_gradient_checkpointing()
        roles.network.train()

    def critic_and_teacher():
        with roles.active(FAKE):
            loss = forward(roles.network).square().mean()
        roles.backward(loss, FAKE)
        with torch.no_grad():
            forward(roles.network)

    expected = student_gradients(roles)
    for parameter in roles.parameters(STUDENT).values():
        parameter.grad = None
    found = student_gradients(roles, between=critic_and_teacher)
    for name, gradient in expected.items():
        assert_close(found[name], gradient)
        assert gradient.abs().sum() > 0


def test_the_gradient_of_one_role_does_not_reach_the_other(roles):
    student_gradients(roles)
    assert all(parameter.grad is None for parameter in roles.parameters(FAKE).values())


def test_a_backward_for_the_wrong_role_is_not_silent(roles):
    with roles.active(FAKE):
        loss = forward(roles.network).square().mean()
    with pytest.raises(RuntimeError, match=r"no gradient for .* weights of the student"):
        roles.backward(loss, STUDENT)


def test_names_are_those_of_peft(roles):
    expected = get_peft_model_state_dict(roles.network, adapter_name="student")
    assert roles.parameters(STUDENT).keys() == expected.keys()
    for name, parameter in roles.parameters(STUDENT).items():
        assert torch.equal(parameter, expected[name])


def test_lent_weights_are_given_back(roles):
    before = {name: parameter.clone() for name, parameter in roles.parameters(STUDENT).items()}
    zeros = {name: torch.zeros_like(parameter) for name, parameter in before.items()}
    with roles.weights(STUDENT, zeros), roles.active(STUDENT):
        lent = forward(roles.network)
    assert_close(lent, forward(roles.network))
    for name, parameter in roles.parameters(STUDENT).items():
        assert torch.equal(parameter, before[name])


def test_adapters_stay_in_float32_on_a_half_precision_base(network):
    roles = LoraRoles(network.to(torch.bfloat16), rank=4, alpha=8, targets=TARGETS, seed=0)
    assert {parameter.dtype for role in TRAINED_ROLES for parameter in roles.parameters(role).values()} == {
        torch.float32
    }


def test_a_target_that_is_no_layer_is_refused(network):
    with pytest.raises(ConfigError, match=r"lora.targets: 'attn.to_z' is no layer of SD3Transformer2DModel"):
        LoraRoles(network, rank=4, alpha=8, targets=["attn.to_q", "attn.to_z"], seed=0)


def test_weights_of_another_base_are_refused(roles):
    state = dict(roles.parameters(STUDENT))
    name = next(iter(state))
    with pytest.raises(LoadError, match="names differ"):
        roles.load(STUDENT, {key: value for key, value in state.items() if key != name})
    with pytest.raises(LoadError, match="not"):
        roles.load(STUDENT, {**state, name: torch.zeros(3, 3)})


def test_a_folded_role_speaks_as_before_and_leaves_no_trace(roles):
    base = {name: parameter.clone() for name, parameter in roles.network.named_parameters()}
    with torch.no_grad(), roles.active(STUDENT):
        expected = forward(roles.network)
    with roles.merged(STUDENT):
        assert_close(forward(roles.network), expected, atol=1e-5, rtol=1e-5)
        with roles.active(STUDENT):
            assert_close(forward(roles.network), expected, atol=1e-5, rtol=1e-5)
    assert roles.current is TEACHER
    for name, parameter in roles.network.named_parameters():
        assert torch.equal(parameter, base[name])


def test_folding_between_forward_and_backward_leaves_the_gradient_alone(roles):
    def fold():
        with roles.merged(FAKE):
            forward(roles.network)

    expected = student_gradients(roles)
    for parameter in roles.parameters(STUDENT).values():
        parameter.grad = None
    for name, gradient in student_gradients(roles, between=fold).items():
        assert torch.equal(gradient, expected[name])


def test_nobody_else_speaks_while_a_role_is_folded_in(roles):
    with roles.merged(STUDENT), pytest.raises(RuntimeError, match="student's LoRA is folded in"), roles.active(FAKE):
        pass
    assert roles.current is TEACHER


def test_a_half_precision_base_is_not_folded(network):
    roles = LoraRoles(network.to(torch.bfloat16), rank=4, alpha=8, targets=TARGETS, seed=0)
    weights = [parameter.data_ptr() for parameter in network.parameters()]
    with roles.merged(STUDENT):
        assert roles.current is STUDENT
        assert weights == [parameter.data_ptr() for parameter in network.parameters()]
