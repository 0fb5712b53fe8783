"""How far a grid is, for people."""
