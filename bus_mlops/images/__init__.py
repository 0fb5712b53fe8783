"""From the bytes of an image to the arrays that a network takes; numpy and Pillow only."""
