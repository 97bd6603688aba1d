// SPDX-License-Identifier: LGPL-3.0-or-later
/** Values of YAML 1.1 texts without quotes, and the escapes of those in double quotes. */
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace deepmd::native {

/** The value of a plain text: null, bool, number or text; returns a problem, empty if none. */
std::string resolve_yaml(const std::string& text, nlohmann::json& value);

/** Append the character that an escape, without its backslash, stands for; its length, 0: none. */
size_t append_escaped(std::string_view escape, std::string& to);

}  // namespace deepmd::native
