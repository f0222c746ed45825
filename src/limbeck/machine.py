"""What the machine has: cores that a process may use, and the name of a device."""

import os
import platform

import torch


def cores() -> int:
    """The number of cores that this process may use, which may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def device_name(device: torch.device) -> str:
    """What a device is called: a GPU by its model, a CPU as the system calls it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()
