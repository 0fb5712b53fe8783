"""The zoo of networks and their pretrained weights."""
