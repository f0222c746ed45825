"""What each library calls a detector's tensors, and what its configurations say of them."""
