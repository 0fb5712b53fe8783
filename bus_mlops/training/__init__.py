"""Losses, augmentation, optimizers and the compiled program that trains cells."""
