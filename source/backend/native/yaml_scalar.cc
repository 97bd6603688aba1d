// SPDX-License-Identifier: LGPL-3.0-or-later
#include "yaml_scalar.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <locale>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>
#include <utility>

namespace deepmd::native {

namespace {

using nlohmann::json;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/** Position behind digits. */
size_t digits(std::string_view text, size_t from) {
  while (from < text.size() && is_digit(text[from])) ++from;
  return from;
}

/** Whether a text without its sign is a whole number in decimal form. */
bool is_whole(std::string_view text) {
  return !text.empty() && digits(text, 0) == text.size() && (text[0] != '0' || text.size() == 1);
}

/** Whether a text without its sign is a number with a point; an exponent has a sign. */
bool is_real(std::string_view text) {
  const size_t point = digits(text, 0);
  if (point >= text.size() || text[point] != '.') return false;
  const size_t end = digits(text, point + 1);
  if (point == 0 && end == point + 1) return false;
  if (end == text.size()) return true;
  if (text[end] != 'e' && text[end] != 'E') return false;
  if (end + 2 >= text.size() || (text[end + 1] != '-' && text[end + 1] != '+')) return false;
  return digits(text, end + 2) == text.size();
}

double real(std::string_view text) {
  double value = 0.0;
#if defined(__cpp_lib_to_chars)
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc::result_out_of_range) return value;
#endif
  std::istringstream stream{std::string(text)};  // beyond the range: zero, or infinite
  stream.imbue(std::locale::classic());
  stream >> value;
  const bool huge = std::abs(value) == std::numeric_limits<double>::max();
  return huge ? std::copysign(std::numeric_limits<double>::infinity(), value) : value;
}

/** Whether YAML 1.1 makes a number of a text in another form: underscores, bases, times. */
bool is_unusual(const std::string& text) {
  static const std::regex forms(
      "[-+]?(0b[01_]+|0[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*|[1-9][0-9_]*(:[0-5]?[0-9])+|"
      "[0-9][0-9_]*\\.[0-9_]*([eE][-+][0-9]+)?|\\.[0-9][0-9_]*([eE][-+][0-9]+)?|"
      "[0-9][0-9_]*(:[0-5]?[0-9])+\\.[0-9_]*)");
  return text.size() < 64 && std::regex_match(text, forms);
}

const std::set<std::string>& spellings(const json& of) {
  static const std::set<std::string> null = {"", "~", "null", "Null", "NULL"};
  static const std::set<std::string> yes = {"yes",  "Yes", "YES", "true", "True",
                                            "TRUE", "on",  "On",  "ON"};
  static const std::set<std::string> no = {"no",    "No",  "NO",  "false", "False",
                                           "FALSE", "off", "Off", "OFF"};
  return of.is_null() ? null : of.get<bool>() ? yes : no;
}

void append_utf8(uint32_t code, std::string& to) {
  const auto add = [&](uint32_t byte) { to += static_cast<char>(byte); };
  if (code < 0x80) return add(code);
  if (code < 0x800) {
    add(0xc0 | code >> 6);
  } else {
    if (code < 0x10000) {
      add(0xe0 | code >> 12);
    } else {
      add(0xf0 | code >> 18);
      add(0x80 | (code >> 12 & 0x3f));
    }
    add(0x80 | (code >> 6 & 0x3f));
  }
  add(0x80 | (code & 0x3f));
}

}  // namespace

std::string resolve_yaml(const std::string& text, json& value) {
  const bool sign = !text.empty() && (text[0] == '-' || text[0] == '+');
  const std::string_view size = std::string_view(text).substr(sign ? 1 : 0);
  if (size.empty() || (!is_digit(size[0]) && size[0] != '.')) {
    for (const json& known : {json(), json(true), json(false)}) {
      if (!spellings(known).count(text)) continue;
      value = known;
      return "";
    }
    value = text;
    return "";
  }
  const double factor = text[0] == '-' ? -1.0 : 1.0;
  const std::string_view number = std::string_view(text).substr(text[0] == '+' ? 1 : 0);
  const bool whole = is_whole(size);
  int64_t found = 0;
  if (whole &&
      std::from_chars(number.data(), number.data() + number.size(), found).ec == std::errc()) {
    value = found;
  } else if (whole || is_real(size)) {
    value = real(number);
  } else if (size == ".inf" || size == ".Inf" || size == ".INF") {
    value = factor * std::numeric_limits<double>::infinity();
  } else if (!sign && (text == ".nan" || text == ".NaN" || text == ".NAN")) {
    value = std::numeric_limits<double>::quiet_NaN();
  } else if (is_unusual(text)) {
    return "the number " + text + " is in a form that is not read";
  } else {
    value = text;
  }
  return "";
}

size_t append_escaped(std::string_view escape, std::string& to) {
  static const std::array<std::pair<char, uint32_t>, 18> letters = {{{'0', 0},
                                                                     {'a', 7},
                                                                     {'b', 8},
                                                                     {'t', 9},
                                                                     {'n', 10},
                                                                     {'v', 11},
                                                                     {'f', 12},
                                                                     {'r', 13},
                                                                     {'e', 27},
                                                                     {' ', 32},
                                                                     {'"', 34},
                                                                     {'/', 47},
                                                                     {'\\', 92},
                                                                     {'N', 0x85},
                                                                     {'_', 0xa0},
                                                                     {'L', 0x2028},
                                                                     {'P', 0x2029},
                                                                     {'\t', 9}}};
  static const std::array<std::pair<char, size_t>, 3> lengths = {{{'x', 2}, {'u', 4}, {'U', 8}}};
  if (escape.empty()) return 0;
  for (const auto& [letter, code] : letters) {
    if (letter != escape[0]) continue;
    append_utf8(code, to);
    return 1;
  }
  for (const auto& [letter, length] : lengths) {
    if (letter != escape[0] || escape.size() <= length) continue;
    uint32_t code = 0;
    const char *first = escape.data() + 1, *last = first + length;
    if (std::from_chars(first, last, code, 16).ptr != last || code > 0x10ffff) return 0;
    append_utf8(code, to);
    return length + 1;
  }
  return 0;
}

}  // namespace deepmd::native
