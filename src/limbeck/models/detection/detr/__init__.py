"""Transformer detectors of other libraries, as limbeck trains and measures them."""
