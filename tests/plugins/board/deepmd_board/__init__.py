"""A backend of a third party: arrays that are none of NumPy, and files of their own."""
