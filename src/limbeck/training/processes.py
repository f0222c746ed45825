"""What the processes of a run have to agree on before they exchange gradients."""

from lightning.pytorch.strategies import DDPStrategy, Strategy


def let_parameters_rest(strategy: Strategy) -> None:
    """Let some parameters of the student have no gradient in a step, the same on all processes.

    A step on images without labels reaches only what the methods read, and leaves the rest as it
    is, as on one process. DDP waits for a gradient of every parameter unless it is told to look
    which ones have none; a strategy that states ``find_unused_parameters`` keeps what it states.

    Args:
        strategy: The strategy of the trainer, before it has wrapped the module. Only DDP's needs
            anything.
    """
    if isinstance(strategy, DDPStrategy):
        strategy._ddp_kwargs.setdefault("find_unused_parameters", True)
