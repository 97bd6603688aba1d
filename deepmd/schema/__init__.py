# SPDX-License-Identifier: LGPL-3.0-or-later
"""The training input: its keys, defaults, checks and the upgrade of old inputs."""
