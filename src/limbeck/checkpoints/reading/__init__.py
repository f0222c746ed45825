"""From the bytes of a file to named tensors, without running any code that it names."""
