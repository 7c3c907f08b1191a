"""One iteration of the trainer: what it evaluates, what it changes, and when it stops."""

from collections import Counter
from itertools import pairwise

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


def test_anchored_rows_cost_three_guided_evaluations_for_each_of_their_steps(tmp_path):
    calls = Counter(rows_evaluated(make(tmp_path, objective={"anchored_steps": 2})))
    without = Counter(rows_evaluated(make(tmp_path / "without")))
    ours = {(TEACHER, 8, False): 3, (TEACHER, 4, False): 3}  # 2 of 8 rows exit at each step, once with, once without
    assert calls - without == ours


def test_the_last_of_fewer_steps_is_never_anchored(tmp_path):
    tables = {"trajectory": {"steps": 4, "also_steps": [1, 2]}, "objective": {"anchored_steps": 4}}
    assert make(tmp_path, **tables)._losses.anchored == {4: 4, 1: 0, 2: 1}


@torch.no_grad()
def test_the_anchor_is_the_guided_teachers_own_way_from_the_noise(tmp_path):
    """Euler steps by hand; a student that lands there pays nothing, one beside it its distance."""
    trainer = make(tmp_path, objective={"anchored_steps": 2, "guidance_scale": 2.0})
    losses, backbone = trainer._losses, trainer.backbone
    start = trainer._start()[0]
    landing = losses.land(start, keep_graph=False)
    x, x0, uncond = start.noise, landing.prediction.x0.clone(), trainer.uncond.repeat(8)
    for step, (t, s) in enumerate(pairwise(trainer.nodes[:3])):
        for now, then in pairwise([t, t + (s - t) / 3, t + 2 * (s - t) / 3, s]):
            told = (start.conditioning, uncond)
            cond, free = (backbone.network_output(TEACHER, x, now.expand(8), text) for text in told)
            x = x + (then - now).float() * (free + 2.0 * (cond - free))
        rows = start.exits == step
        x0[rows] = landing.x_t[rows] - (t / (t - s)).float() * (landing.x_t[rows] - x[rows])
    assert_close(losses._anchor_losses(landing, x0), torch.zeros(8), atol=1e-4, rtol=0)
    beside = losses._anchor_losses(landing, x0 + 1)
    expected = torch.where(start.exits < 2, x0[0].numel() ** 0.5, 0.0)
    assert_close(beside, expected, atol=0, rtol=1e-2)


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


def test_the_critic_may_keep_its_rate_while_the_student_settles(tmp_path):
    optimiser = {"iterations": 4, "decay_share": 1.0, "student_lr": 1e-4, "fake_lr": 1e-3, "decays": "student"}
    trainer = make(tmp_path, optimiser=optimiser)
    assert [trainer.train_step().learning_rate for _ in range(4)] == pytest.approx([1e-4, 7.5e-5, 5e-5, 2.5e-5])
    assert trainer.state()["optimisers"]["fake"]["param_groups"][0]["lr"] == 1e-3


def test_the_average_follows_the_student(tmp_path):
    trainer = make(tmp_path, optimiser={"ema_decay": 0.5})
    before = {name: average.clone() for name, average in trainer.ema.items()}
    trainer.train_step()
    for name, weight in weights(trainer, STUDENT).items():
        assert_close(trainer.ema[name], before[name].lerp(weight, 0.9))  # young: decay (1 + 0) / (10 + 0)


@pytest.mark.parametrize(
    "tables",
    [
        {"objective": {"normaliser_floor": 0.0, "guidance_scale": 1.0}},
        {"trajectory": {"steps": 1}},
        {"trajectory": {"steps": 3}, "optimiser": {"batch_size": 5}},
    ],
    ids=str,
)
def test_every_option_runs(tmp_path, tables):
    row = make(tmp_path, **tables).train_step()
    assert row.disagreement > 0 and row.latents_std > 0


OPTIONS = [
    {"interval": "reverse"},
    {"margin": 0.1},
    {"latest": 0.9},
    {"student_times": {"law": "logit_normal"}},
    {"student_times": {"law": "unshifted"}},
    {"fake_times": {"law": "logit_normal", "mean": 1.0}},
    {"fake_target": "x0"},
    {"fake_target": "x0_importance"},
    {"fake_target": "x0", "snr_weight": "native"},
    {"fake_target": "x0", "snr_weight": "none"},
    {"fake_target": "x0", "snr_cap": 0.5},
    {"ambient_largest_weight": 1.0},
    {"teacher_weight": 0.5},
    {"student_point": "landing"},
    {"student_loss": "squared"},
    {"student_loss": "pseudo_huber_elementwise"},
    {"huber_c": 0.5},
    {"normaliser_floor": 0.0},
    {"normaliser_floor": 5.0},
    {"guidance": "decoupled"},
    {"guidance": "decoupled", "guidance_part_weight": 0.5},
    {"guidance_scale": 1.0},
    {"anchored_steps": 2},
    {"anchored_steps": 2, "anchor_weight": 3.0},
    {"trajectory": {"eta": 0.9}},
    {"trajectory": {"also_steps": [1, 2]}},
    {"trajectory": {"nodes": [1.0, 0.9, 0.7, 0.4]}},
    {"trajectory": {"exits": "drawn"}},
]


def test_every_option_changes_the_run(tmp_path):
    """A flag that nothing reads is a bug; two updates, so that the fake's options reach the student."""
    runs = {}
    for option in [{}, *OPTIONS]:
        tables = option if "trajectory" in option else {"objective": option}
        trainer = make(tmp_path, optimiser={"batch_size": 6}, **tables)
        rows = [trainer.train_step() for _ in range(2)]
        assert rows[-1].disagreement > 0 and rows[-1].latents_std > 0
        state = torch.cat([weight.flatten() for role in TRAINED_ROLES for weight in weights(trainer, role).values()])
        runs[str(option)] = state.tolist()
    assert len({tuple(run) for run in runs.values()}) == len(runs)


def test_the_regulariser_on_the_critic_costs_one_forward(tmp_path):
    calls = rows_evaluated(make(tmp_path, objective={"teacher_weight": 0.1}))
    assert calls.count((TEACHER, 8, False)) == 1 and calls.count((TEACHER, 16, False)) == 1


def test_each_number_of_steps_is_trained_on_its_own_grid(tmp_path):
    trainer = make(tmp_path, trajectory={"steps": 4, "also_steps": [1, 2], "nodes": [1.0, 0.9, 0.7, 0.4]})
    assert {steps: grid.tolist() for steps, grid in trainer.grids.items()} == {
        4: [1.0, 0.9, 0.7, 0.4, 0.0],
        1: [1.0, 0.0],
        2: pytest.approx([1.0, 0.6, 0.0]),
    }
    assert {trainer.train_step().steps for _ in range(10)} == {1, 2, 4}


def test_further_grids_begin_where_the_given_one_does_on_whole_timesteps(tmp_path):
    nodes = {"steps": 2, "shift": 1.0, "nodes": [0.8, 0.4], "also_steps": [1, 3], "apart": 0.01}
    grids = make(tmp_path, trajectory=nodes).grids
    assert grids[2].tolist() == [0.8, 0.4, 0.0]
    assert grids[1].tolist() == [0.792, 0.0]  # 0.8 x 0.99
    assert grids[3].tolist() == [0.784, 0.523, 0.261, 0.0]  # 0.8 x 0.98 and its thirds


def test_a_number_of_steps_with_all_turns_but_one_has_nearly_every_iteration(tmp_path):
    trainer = make(tmp_path, trajectory={"steps": 2, "also_steps": [1], "turns": 9})
    drawn = [trainer.train_step().steps for _ in range(20)]
    assert 15 <= drawn.count(2) < 20


def test_micro_batches_change_nothing_but_rounding_and_cost_one_forward_a_row(tmp_path):
    """Eight rows as 3 + 3 + 2; the option of the landing covers the recomputed step."""
    tables = {"optimiser": {"fake_steps": 2}, "trajectory": {"eta": 0.8}, "objective": {"student_point": "landing"}}
    whole, cut = make(tmp_path, **tables), make(tmp_path, **tables, run={"micro_batch": 3})
    one, other = whole.train_step(), cut.train_step()
    assert other.fake_loss == pytest.approx(one.fake_loss, rel=1e-5)
    assert other.student_gradient == pytest.approx(one.student_gradient, rel=1e-4)
    assert other.disagreement == pytest.approx(one.disagreement, rel=1e-4)
    evaluated = [sum(rows for role, rows, _ in rows_evaluated(t) if role is STUDENT) for t in (whole, cut)]
    assert evaluated[1] == evaluated[0] + 8
    assert max(rows for role, rows, _ in rows_evaluated(cut) if role is not TEACHER) == 3


@pytest.mark.parametrize("micro_batch", [0, 4])
def test_gradient_checkpointing_changes_nothing_but_rounding(tmp_path, micro_batch):
    plain, saving = (make(tmp_path, run={"micro_batch": micro_batch}) for _ in range(2))
    saving.backbone.roles.checkpoint_gradients()
    for _ in range(2):
        one, other = plain.train_step(), saving.train_step()
    assert other.student_gradient == pytest.approx(one.student_gradient, rel=1e-4)
    assert other.fake_gradient == pytest.approx(one.fake_gradient, rel=1e-4)


def test_a_base_in_half_precision_trains_adapters_in_full(tmp_path):
    """Products are computed in bfloat16, so the run is near the full one, and not equal to it."""
    full, half = make(tmp_path), make(tmp_path)
    for parameter in half.backbone.network.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    outputs = []
    layer = next(m for n, m in half.backbone.network.named_modules() if n.endswith("attn.to_q"))
    layer.register_forward_hook(lambda _, __, output: outputs.append(output.dtype))
    one, other = full.train_step(), half.train_step()
    assert set(outputs) == {torch.bfloat16}
    for role in TRAINED_ROLES:
        assert all(p.dtype == p.grad.dtype == torch.float32 for p in half.backbone.roles.parameters(role).values())
    assert one.fake_loss != other.fake_loss == pytest.approx(one.fake_loss, rel=0.02)
    assert other.student_gradient == pytest.approx(one.student_gradient, rel=0.1)


def test_a_student_that_gets_no_gradient_stops_the_run(tmp_path):
    """Pulled nowhere: the silent failure of switched adapters would look like this."""
    trainer = make(tmp_path)
    real = trainer._losses.student_losses
    trainer._losses.student_losses = lambda *arguments: ((loss := real(*arguments))[0] * 0, loss[1])
    with pytest.raises(TrainingError, match=r"step 0: the student's gradient is zero"):
        trainer.train_step()


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
