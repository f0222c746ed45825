"""What ``limbeck new`` writes: what is measured, what follows from it, and the texts."""
