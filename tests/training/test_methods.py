"""The rivals and the number of steps in the trainer: what an iteration costs, what it changes, what is refused."""

import pytest
import torch

from tdm_core.backbones.adapters import NetworkRole
from tdm_core.errors import ConfigError, TrainingError
from tdm_core.training.export import Provenance, export_student
from tdm_core.training.prompts import draw_from_list
from tdm_core.training.trainer import Trainer
from tests.training.recipes import PROMPTS, recipe, tiny_trainer

STUDENT, FAKE = NetworkRole.STUDENT, NetworkRole.FAKE


def clean_trainer(tmp_path, **tables):
    """A trainer whose clean samples are noise of a smaller scale."""
    config = recipe(tmp_path, **tables)
    backbone = tiny_trainer(recipe(tmp_path)).backbone
    draw = draw_from_list(backbone, PROMPTS)

    def clean(size, generator, rows):
        latents = 0.3 * torch.randn(size, *backbone.latent_shape, generator=generator)
        return draw(size, generator, rows), latents[rows]

    return Trainer(config, backbone, draw, clean=clean)


def state(trainer, role):
    return {name: weight.detach().clone() for name, weight in trainer.backbone.roles.parameters(role).items()}


def changed(trainer, role, before):
    return any(
        not torch.equal(weight, before[name]) for name, weight in trainer.backbone.roles.parameters(role).items()
    )


def test_consistency_costs_four_evaluations_a_row_and_has_no_critic(tmp_path):
    trainer = clean_trainer(tmp_path, objective={"method": "lcm"})
    before = {role: state(trainer, role) for role in (STUDENT, FAKE)}
    report = trainer.train_step()
    assert report.forwards == 4 * 8
    assert changed(trainer, STUDENT, before[STUDENT])
    assert not changed(trainer, FAKE, before[FAKE])
    assert report.fake_loss == 0


def test_consistency_is_learnt_from_where_the_student_starts(tmp_path):
    trainer = clean_trainer(tmp_path, objective={"method": "lcm"}, trajectory={"steps": 2, "nodes": [0.8, 0.4]})
    nodes = trainer._losses.teacher_nodes
    assert (float(nodes[0]), float(nodes[-1]), len(nodes)) == (0.8, 0.0, 51)


def test_micro_batches_do_not_change_the_consistency_loss(tmp_path):
    losses = [
        clean_trainer(tmp_path, objective={"method": "lcm"}, run={"micro_batch": size}).train_step().student_loss
        for size in (0, 4)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_consistency_without_clean_samples_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="lcm needs clean samples"):
        tiny_trainer(recipe(tmp_path, objective={"method": "lcm"}))


def test_dmd2_costs_what_tdm_does_and_each_critic_update_one_more(tmp_path):
    costs = [
        tiny_trainer(recipe(tmp_path, objective={"method": method}, optimiser={"fake_steps": fake_steps}))
        .train_step()
        .forwards
        for method, fake_steps in (("tdm", 1), ("dmd2", 1), ("dmd2", 5))
    ]
    assert costs == [6.5 * 8, 6.5 * 8, 10.5 * 8]


def test_dmd2_is_asked_about_its_clean_samples_at_any_time(tmp_path):
    trainer = tiny_trainer(recipe(tmp_path, objective={"method": "dmd2"}))
    landing = trainer._losses.land(trainer._start()[0], keep_graph=False)
    torch.testing.assert_close(landing.x_s, landing.prediction.x0)
    assert not landing.s.any()
    (query,) = trainer._query(1)
    query.u.fill_(1)
    _, tau = trainer._losses._query_point(landing, query, trainer.config.objective.fake_times)
    assert tau.tolist() == [trainer.config.objective.latest] * 8


def test_dmd2_and_tdm_train_other_students(tmp_path):
    losses = {m: tiny_trainer(recipe(tmp_path, objective={"method": m})).train_step() for m in ("tdm", "dmd2")}
    assert losses["tdm"].student_loss != losses["dmd2"].student_loss
    assert losses["tdm"].fake_loss != losses["dmd2"].fake_loss


MANY = {"steps": 4, "shift": 1.5, "also_steps": [1, 2]}


def test_grids_that_lie_apart_share_no_time_but_the_end(tmp_path):
    grids = recipe(tmp_path, trajectory=MANY | {"apart": 0.008}).trajectory.grids()
    times = [float(time) for nodes in grids.values() for time in nodes[:-1]]
    gaps = torch.tensor(sorted(times)).diff()
    assert float(gaps.min()) >= 0.0025  # of 1: two and a half of 1000 timesteps
    assert grids[4].tolist() == recipe(tmp_path, trajectory=MANY).trajectory.grids()[4].tolist()


@pytest.mark.parametrize(("told", "roles"), [("fake", {FAKE}), ("both", {STUDENT, FAKE})])
def test_who_is_told_learns_a_vector_for_each_number_of_steps(tmp_path, told, roles):
    trainer = tiny_trainer(recipe(tmp_path, trajectory=MANY | {"told": told}))
    drawn = {trainer.train_step().steps for _ in range(3)}
    for role in (STUDENT, FAKE):
        parameters = trainer.backbone.roles.parameters(role)
        assert ("steps" in parameters) == (role in roles)
        if role in roles:
            learnt = {[4, 1, 2][row] for row, vector in enumerate(parameters["steps"]) if vector.any()}
            assert learnt == drawn


def test_a_told_role_answers_by_the_number_of_steps(tmp_path):
    trainer = tiny_trainer(recipe(tmp_path, trajectory=MANY | {"told": "fake"}))
    roles, backbone = trainer.backbone.roles, trainer.backbone
    with torch.no_grad():
        roles.parameters(FAKE)["steps"][1] = 1.0  # of K = 1
    latents, told = torch.zeros(2, *backbone.latent_shape), backbone.encode(PROMPTS[:2])
    outputs = {}
    for role in NetworkRole:
        for roles.steps in (4, 1):
            with torch.no_grad():
                outputs[role, roles.steps] = backbone.network_output(role, latents, torch.full((2,), 0.5), told)
    assert not torch.equal(outputs[FAKE, 4], outputs[FAKE, 1])
    assert torch.equal(outputs[STUDENT, 4], outputs[STUDENT, 1])
    assert torch.equal(outputs[NetworkRole.TEACHER, 4], outputs[NetworkRole.TEACHER, 1])


def test_a_student_that_is_told_is_not_exported_and_a_told_fake_is_no_hindrance(tmp_path):
    provenance = Provenance(iterations=0, minutes=0.0, machine="m", commit="c", num_prompts=1)
    for told in ("fake", "both"):
        config = recipe(tmp_path, trajectory=MANY | {"told": told})
        trainer = tiny_trainer(config)
        if told == "fake":
            export_student(config, trainer.backbone, trainer.ema, provenance)
            continue
        with pytest.raises(TrainingError, match=r"trajectory\.told"):
            export_student(config, trainer.backbone, trainer.ema, provenance)
