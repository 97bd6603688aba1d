"""Components that are written for PyTorch, as the specification of plugins has them."""
