"""Dense detectors of the library LibreYOLO, as limbeck trains and measures them."""
