"""What the paper printed and claims, and what our rows say to it."""
