"""The Python side of Alyx functions."""
