// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * YAML text as a tree: that part of the language in which dictionaries of models are written.
 *
 * Blocks and brackets, plain text over several lines, both kinds of quotes, comments; types of
 * plain text as in YAML 1.1, which Python reads (deepmd/io/yaml.py). Anchors, tags, block scalars,
 * documents, tabs and numbers in other bases are refused, as whatever is nested too deeply.
 */
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

namespace deepmd::native {

/** Parse a text, which must outlive the call only; throws Failure with the line. */
nlohmann::json parse_yaml(std::string_view text);

}  // namespace deepmd::native
