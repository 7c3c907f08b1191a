"""One iteration of the trainer: what it evaluates, what it changes, and when it stops."""

from collections import Counter

import pytest
import torch
from torch.testing import assert_close

from tdm_core.backbones.adapters import TRAINED_ROLES, NetworkRole
from tdm_core.errors import TrainingError
from tests.training.recipes import recipe, tiny_trainer

TEACHER, STUDENT, FAKE = NetworkRole.TEACHER, NetworkRole.STUDENT, NetworkRole.FAKE


def make(tmp_path, **tables):
    return tiny_trainer(recipe(tmp_path, **tables))


def rows_evaluated(trainer):
    """Batch sizes of all network calls of one iteration, by role, in order; and whether each kept a graph."""
    calls = []

    def note(_, positional, arguments):
        (latents,) = positional or (arguments["hidden_states"],)
        calls.append((trainer.backbone.roles.current, len(latents), torch.is_grad_enabled()))

    handle = trainer.backbone.network.register_forward_pre_hook(note, with_kwargs=True)
    trainer.train_step()
    handle.remove()
    return calls


def weights(trainer, role):
    return {name: parameter.detach().clone() for name, parameter in trainer.backbone.roles.parameters(role).items()}


def test_an_iteration_costs_six_and_a_half_evaluations_a_row(tmp_path):
    """K = 4: student 1.5 to roll out and 1 to train, fake 1 and 1, teacher 2; the published script takes 11."""
    assert rows_evaluated(make(tmp_path)) == [
        (STUDENT, 6, False),
        (STUDENT, 4, False),
        (STUDENT, 2, False),
        (STUDENT, 8, True),
        (FAKE, 8, True),
        (TEACHER, 16, False),
        (FAKE, 8, False),
    ]


def test_without_guidance_the_teacher_is_evaluated_once_a_row(tmp_path):
    calls = rows_evaluated(make(tmp_path, objective={"guidance_scale": 1.0}))
    assert (TEACHER, 8, False) in calls


def test_a_drawn_exit_is_one_step_for_the_whole_batch(tmp_path):
    trainer = make(tmp_path, trajectory={"exits": "drawn"})
    calls = [row for role, row, _ in rows_evaluated(trainer) if role is STUDENT]
    assert set(calls) == {8} and 1 <= len(calls) <= 4


def test_more_fake_steps_reuse_the_landings(tmp_path):
    """The critic's extra updates cost its own evaluations and nothing of the student's."""
    trainer = make(tmp_path, optimiser={"warmup_iterations": 1, "warmup_fake_steps": 4, "fake_steps": 2})
    warm, later = (Counter((role, grad) for role, _, grad in rows_evaluated(trainer)) for _ in range(2))
    assert warm[FAKE, True] == 4 and later[FAKE, True] == 2
    assert warm[STUDENT, True] == later[STUDENT, True] == 1


def test_both_roles_learn_and_the_base_stays(tmp_path):
    trainer = make(tmp_path)
    base = {n: p.clone() for n, p in trainer.backbone.network.named_parameters() if "lora_" not in n}
    before = {role: weights(trainer, role) for role in TRAINED_ROLES}
    for _ in range(2):
        trainer.train_step()
    for role in TRAINED_ROLES:
        changed = [
            name for name, weight in weights(trainer, role).items() if not torch.equal(weight, before[role][name])
        ]
        assert len(changed) == len(before[role])
    for name, parameter in trainer.backbone.network.named_parameters():
        assert name not in base or torch.equal(parameter, base[name])


def test_both_roles_are_clipped(tmp_path):
    """The published script clips the student alone."""
    trainer = make(tmp_path, optimiser={"student_clip": 1e-3, "fake_clip": 2e-3})
    row = trainer.train_step()
    for role, limit, before in ((STUDENT, 1e-3, row.student_gradient), (FAKE, 2e-3, row.fake_gradient)):
        gradients = [parameter.grad.flatten() for parameter in trainer.backbone.roles.parameters(role).values()]
        assert torch.cat(gradients).norm().item() == pytest.approx(limit, rel=1e-2)
        assert before > limit


def test_both_learning_rates_fall_linearly_over_the_last_share(tmp_path):
    """The published script decays the student's alone."""
    trainer = make(tmp_path, optimiser={"iterations": 10, "decay_share": 0.5, "student_lr": 1e-4, "fake_lr": 1e-3})
    rates = [trainer.train_step().learning_rate for _ in range(10)]
    assert rates == pytest.approx([1e-4] * 6 + [8e-5, 6e-5, 4e-5, 2e-5])
    assert trainer.state()["optimisers"]["fake"]["param_groups"][0]["lr"] == pytest.approx(2e-4)


def test_the_average_follows_the_student(tmp_path):
    trainer = make(tmp_path, optimiser={"ema_decay": 0.5})
    before = {name: average.clone() for name, average in trainer.ema.items()}
    trainer.train_step()
    for name, weight in weights(trainer, STUDENT).items():
        assert_close(trainer.ema[name], before[name].lerp(weight, 0.9))  # young: decay (1 + 0) / (10 + 0)


@pytest.mark.parametrize(
    "tables",
    [
        {"objective": {"fake_target": "published"}},
        {"objective": {"student_loss": "squared"}},
        {"objective": {"interval": "to_noise"}},
        {"objective": {"normaliser_floor": 0.0}},
        {"trajectory": {"steps": 1}},
        {"trajectory": {"steps": 3}, "optimiser": {"batch_size": 5}},
    ],
    ids=str,
)
def test_every_option_runs(tmp_path, tables):
    row = make(tmp_path, **tables).train_step()
    assert row.disagreement > 0 and row.latents_std > 0


def test_options_change_the_student(tmp_path):
    """A flag that nothing reads is a bug."""
    students = []
    for objective in ({}, {"fake_target": "published"}, {"interval": "to_noise"}, {"margin": 0.1}, {"latest": 0.9}):
        trainer = make(tmp_path, objective=objective)
        trainer.train_step()
        students.append(torch.cat([weight.flatten() for weight in weights(trainer, STUDENT).values()]))
    assert all(not torch.equal(students[0], other) for other in students[1:])


@pytest.mark.parametrize("role", TRAINED_ROLES)
def test_a_loss_that_is_not_finite_stops_the_run_with_step_and_role(tmp_path, role):
    trainer = make(tmp_path)
    trainer.train_step()
    name, broken = next(iter(trainer.backbone.roles.parameters(role).items()))
    broken.data[0, 0] = torch.nan
    before = weights(trainer, FAKE)
    with pytest.raises(TrainingError, match=r"step 1: the (student|fake)'s loss"):
        trainer.train_step()
    if role is FAKE:  # nothing was updated with the bad gradient
        del before[name]
        for other, weight in before.items():
            assert torch.equal(weight, trainer.backbone.roles.parameters(FAKE)[other])


def test_equal_seeds_give_equal_students(tmp_path):
    one, same, other = (make(tmp_path, seed=seed) for seed in (3, 3, 4))
    losses = [trainer.train_step().fake_loss for trainer in (one, same, other)]
    assert losses[0] == losses[1] != losses[2]
