"""What a number of a method does to its weights is found out, whatever the number is called."""

from typing import Any

import pytest
import torch

from limbeck.comparison.argument import Argument, Effect, argument_of, effect_of, grid
from limbeck.methods import HEAD, KD, MGD, TFHEAD
from limbeck.recipe import laid_over, value_at
from limbeck.schedules import EarlyStop, Product, Ramp, StepDecay, WarmUp, Weight

WARM_UP = {"class_path": "limbeck.schedules.WarmUp", "init_args": {"value": 2.0, "steps": 20}}
METHODS = {
    "kd": {"class_path": "limbeck.methods.KD", "init_args": {"temperature": 4.0, "weight": 0.5}},
    "mgd": {"class_path": "limbeck.methods.MGD", "init_args": {"factor": 1e4, "images": 20}},
    "head": {"class_path": "limbeck.methods.HEAD", "init_args": {"akd": WARM_UP, "ckd": None}},
}


def argument(name: str = "weight", stated: Any = 0.5) -> Argument:
    return Argument("m", name, stated)


def test_an_argument_is_a_number_or_a_schedule_with_one() -> None:
    assert argument_of(METHODS, "kd", "weight").number == 0.5
    assert argument_of(METHODS, "kd", "weight").key == "model.methods.kd.init_args.weight"
    assert argument_of(METHODS, "head", "akd").number == 2.0


def test_what_is_laid_over_a_recipe_keeps_the_rest() -> None:
    recipe = {"model": {"methods": METHODS}}
    kd = laid_over([recipe, argument_of(METHODS, "kd", "weight").recipe(3.0)])
    assert value_at(kd, "model.methods.kd.init_args") == {"temperature": 4.0, "weight": 3.0}
    head = laid_over([recipe, argument_of(METHODS, "head", "akd").recipe(3.0)])
    akd = value_at(head, "model.methods.head.init_args.akd")
    assert akd == {**WARM_UP, "init_args": {"value": 3.0, "steps": 20}}


@pytest.mark.parametrize(
    ("method", "name", "message"),
    [
        ("fitnet", "weight", "--method fitnet: these recipes have kd, mgd, head"),
        ("mgd", "weight", "limbeck.methods.MGD has no such argument.*one of factor, images"),
        ("head", "ckd", r"model.methods.head.init_args.ckd is None; expected a number above 0"),
    ],
)
def test_what_is_no_number_of_a_method_is_refused(method: str, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        argument_of(METHODS, method, name)


@pytest.mark.parametrize("stated", [True, 0, -1.0, float("nan"), "1.0", {"class_path": "a"}, [1.0]])
def test_other_values_are_no_number(stated: Any) -> None:
    with pytest.raises(ValueError, match="expected a number above 0"):
        argument(stated=stated).number  # noqa: B018


def weights(method: Any) -> dict[str, Weight]:
    return dict(method.weights)


def test_a_weight_is_what_its_term_has() -> None:
    found = effect_of(argument(), weights(KD(weight=0.5)), weights(KD(weight=1.0)))
    assert found == Effect({"m/logits": 0.5})


def test_a_factor_divides() -> None:
    of = [weights(MGD(["C4.pre", "C5.pre"], factor=factor)) for factor in (100.0, 200.0)]
    found = effect_of(argument("factor", 100.0), *of)
    assert found == Effect({"m/C4.pre": 0.005, "m/C5.pre": 0.01}, divides=True)


def test_only_terms_that_hang_on_the_number_count() -> None:
    of = [weights(TFHEAD(ckd=WarmUp(value, 2000))) for value in (1.3, 2.6)]
    found = effect_of(argument("ckd", WARM_UP), *of)
    assert found.weights == {"m/ckd": pytest.approx(1.3)}
    assert HEAD().settings.akd == WarmUp(2.0, 2000)  # by default, and so a schedule with a value


def test_schedules_that_begin_late_and_end_early() -> None:
    def of(value: float) -> dict[str, Weight]:
        late = StepDecay(value, [400, 800], 0.1)
        return {"late": late, "early": Product((WarmUp(value, 10), EarlyStop(1.0, 3000)))}

    assert effect_of(argument(), of(3.0), of(6.0)).weights == {"m/late": 3.0, "m/early": 3.0}


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({"a": 1.0}, {"a": 1.0}, r"init_args.weight changes no weight of the method's terms \(a\)"),
        ({"a": 0.0}, {"a": 0.0}, "changes no weight"),
        ({"a": 1.0}, {"a": 4.0}, "does not move the weights of a in proportion.* 4 times"),
        ({"a": 1.0, "b": 1.0}, {"a": 2.0, "b": 0.5}, "in proportion"),
        ({"a": 0.0}, {"a": 1.0}, "in proportion"),
        ({"a": WarmUp(1.0, 10)}, {"a": Ramp(0.0, 2.0, 5, 10)}, "in proportion"),
    ],
)
def test_what_is_not_in_proportion_is_refused(before: Any, after: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        effect_of(argument(), before, after)


def test_level_is_where_the_terms_together_have_the_tasks_gradient() -> None:
    gradients = {"m/a": 3.0, "m/b": 1.0}  # of the raw terms; that of the task is 2
    levels = {name: 2.0 / norm for name, norm in gradients.items()}
    one = Effect({"m/a": 0.5}).level(0.5, levels)
    assert one == pytest.approx(levels["m/a"])
    both = Effect({"m/a": 0.1, "m/b": 0.4}).level(10.0, levels)
    assert (0.1 * 3 + 0.4) * both / 10.0 == pytest.approx(2.0)
    divided = Effect({"m/a": 0.1, "m/b": 0.4}, divides=True).level(10.0, levels)
    assert (0.1 * 3 + 0.4) * 10.0 / divided == pytest.approx(2.0)
    with pytest.raises(ValueError, match=r"no level for m/a.*student_weight"):
        Effect({"m/a": 1.0}).level(1.0, {"m/a": None})


def test_the_grid_is_logarithmic_and_around_the_level() -> None:
    assert grid(2.0, 5) == [0.2, 0.63, 2.0, 6.3, 20.0]
    assert grid(3e-5, 1) == [3e-5]
    steps = torch.tensor(grid(1234.0, 8)).log10().diff()
    assert steps.tolist() == pytest.approx([0.5] * 7, abs=0.03)
