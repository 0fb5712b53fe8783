"""Which part of each fold an image is in: made, imported, checked for leaks."""
