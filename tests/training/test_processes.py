from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from limbeck.training.processes import let_parameters_rest


def test_ddp_looks_for_parameters_without_a_gradient_unless_it_is_told_otherwise() -> None:
    for stated, expected in (({}, True), ({"find_unused_parameters": False}, False)):
        strategy = DDPStrategy(**stated)
        let_parameters_rest(strategy)
        assert strategy._ddp_kwargs["find_unused_parameters"] is expected
    let_parameters_rest(SingleDeviceStrategy())
