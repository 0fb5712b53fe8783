"""From trained networks to the package that consumers load."""
