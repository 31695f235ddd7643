"""A whole zoo: opened, its graph of steps, plans and runs of it, and what came out."""
