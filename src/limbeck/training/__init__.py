"""Training on Lightning: a module, the data, callbacks, optimizers as recipes state them."""
