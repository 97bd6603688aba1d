# SPDX-License-Identifier: LGPL-3.0-or-later
"""Operations in blocks that stay in the cache, with their derivatives written out."""
