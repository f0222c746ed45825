"""Files as darknet writes them, from the definition: layer by layer, without names."""

import struct
from pathlib import Path

import torch
from torch import nn

NEW, OLD = (0, 2, 0), (0, 1, 0)


def header(version: tuple[int, int, int] = NEW, seen: int = 77) -> bytes:
    """Three int32, and the images seen: int64 since version 0.2."""
    long = version[0] * 10 + version[1] >= 2
    return struct.pack("<iii", *version) + struct.pack("<q" if long else "<i", seen)


def layers(network: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d | None]]:
    """Convolutions with their normalisations, in the order in which the network has them."""
    found: list[tuple[nn.Conv2d, nn.BatchNorm2d | None]] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            found.append((module, None))
        elif isinstance(module, nn.BatchNorm2d):
            found[-1] = (found[-1][0], module)
    return found


def numbers(network: nn.Module) -> bytes:
    """Bias, scale, mean, variance and weight; or bias and weight."""
    values = []
    for convolution, norm in layers(network):
        if norm is None:
            values += [convolution.bias]
        else:
            values += [norm.bias, norm.weight, norm.running_mean, norm.running_var]
        values.append(convolution.weight)
    return b"".join(struct.pack(f"<{v.numel()}f", *v.flatten().tolist()) for v in values)


def write(path: Path, *networks: nn.Module, version: tuple[int, int, int] = NEW) -> Path:
    """One file of all of these, one after the other."""
    path.write_bytes(header(version) + b"".join(numbers(each) for each in networks))
    return path


def scrambled(network: nn.Module) -> nn.Module:
    """Every value its own, and variances above 0."""
    generator = torch.Generator().manual_seed(3)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.1, 1.0, generator=generator)
    return network
