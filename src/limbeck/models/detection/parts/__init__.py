"""The parts that several families of detectors share."""
