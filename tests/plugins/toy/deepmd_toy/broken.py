"""A module that cannot be imported: the others work."""

import package_that_is_not_there  # noqa: F401
