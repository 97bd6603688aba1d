// SPDX-License-Identifier: LGPL-3.0-or-later
#include "yaml.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>

#include "array.h"
#include "yaml_scalar.h"

namespace deepmd::native {

namespace {

using nlohmann::json;

/** Levels of a tree, as in deepmd/base/reading.py. */
constexpr int kMaxDepth = 64;

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  json document() {
    for (const std::string_view mark : {"\xef\xbb\xbf", "---\n", "---\r\n"}) {
      if (text_.substr(pos_, mark.size()) == mark) pos_ += mark.size();
    }
    start_ = pos_;
    json found = block(0);
    skip();
    if (!end()) refuse("what stands here belongs to nothing before it");
    return found;
  }

 private:
  /** A level of the tree while it is read. */
  struct Level {
    explicit Level(Parser& parser) : parser(parser) {
      if (++parser.depth_ > kMaxDepth) parser.refuse("it is nested too deeply");
    }
    ~Level() { --parser.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    Parser& parser;
  };

  [[noreturn]] void refuse(const std::string& problem) const {
    throw Failure("line " + std::to_string(line_) + ": " + problem +
                  "; the native engine reads YAML as dp writes it: write the file again with dp "
                  "convert-backend, or make a .dp file of it");
  }

  // -- places ---------------------------------------------------------------------------------

  bool end() const { return pos_ >= text_.size(); }
  char at(size_t k = 0) const { return pos_ + k < text_.size() ? text_[pos_ + k] : '\0'; }
  int64_t column() const { return static_cast<int64_t>(pos_ - start_); }

  static bool is_bracket(char c) { return c != '\0' && std::strchr(",[]{}", c) != nullptr; }

  /** Whether a mark of one character stands for itself: a blank, or the end, is behind it. */
  bool is_alone() const {
    return pos_ + 1 >= text_.size() || std::strchr(" \r\n", at(1)) != nullptr ||
           (brackets_ > 0 && is_bracket(at(1)));
  }
  bool is_entry() const { return at() == '-' && is_alone(); }
  bool is_colon() const { return at() == ':' && is_alone(); }

  /** Pass blanks and ends of lines; how many ends. */
  int64_t fold() {
    int64_t lines = 0;
    for (; !end(); ++pos_) {
      const char c = at();
      if (c == '\t') refuse("a tab");
      if (c != ' ' && c != '\r' && c != '\n') break;
      if (c != '\n') continue;
      ++lines;
      ++line_;
      start_ = pos_ + 1;
    }
    return lines;
  }

  /** Pass blanks, ends of lines and comments. */
  void skip() {
    for (fold(); at() == '#' && (column() == 0 || text_[pos_ - 1] == ' '); fold()) {
      pos_ = std::min(text_.find('\n', pos_), text_.size());
    }
  }

  /** Go on behind an entry of a block, which ends with its line. */
  void next_entry() {
    skip();
    if (!end() && text_.substr(start_, pos_ - start_).find_first_not_of(' ') != text_.npos) {
      refuse("more behind a value");
    }
  }

  // -- blocks ---------------------------------------------------------------------------------

  /** What comes next, if it stands at a column from `least` on; otherwise null. */
  json block(int64_t least) {
    skip();
    if (end() || column() < least) return nullptr;
    if (is_entry()) return sequence();
    const int64_t left = column(), line = line_;
    json found = value(least);
    if (!is_colon()) return found;
    if (!found.is_primitive() || line != line_) refuse("this is no key");
    return mapping(left, key_);
  }

  json sequence() {
    const Level level(*this);
    const int64_t left = column();
    json found = json::array();
    while (true) {
      ++pos_;
      found.push_back(block(left + 1));
      next_entry();
      if (end() || column() < left || (column() == left && !is_entry())) return found;
      if (column() > left) refuse("more to the right than what is before it");
    }
  }

  json mapping(int64_t left, std::string key) {
    const Level level(*this);
    json found = json::object();
    while (true) {
      ++pos_;
      found[key] = value_of_key(left);
      next_entry();
      if (end() || column() < left) return found;
      if (column() > left) refuse("more to the right than what is before it");
      const int64_t line = line_;
      scalar(left + 1);
      if (!is_colon() || line != line_) refuse("a key without a colon");
      key = key_;
    }
  }

  json value_of_key(int64_t left) {
    const int64_t line = line_;
    skip();
    if (line == line_) return end() ? json() : value(left + 1);
    if (!end() && column() == left && is_entry()) return sequence();
    return block(left + 1);
  }

  /** Brackets, or text. */
  json value(int64_t least) {
    if (at() == '[' || at() == '{') return bracket();
    return scalar(least);
  }

  // -- brackets -------------------------------------------------------------------------------

  json bracket() {
    const Level level(*this);
    const bool list = at() == '[';
    const char close = list ? ']' : '}';
    json found = list ? json::array() : json::object();
    ++brackets_;
    ++pos_;
    for (skip(); at() != close; skip()) {
      if (list) {
        found.push_back(value(0));
      } else {
        scalar(0);
        const std::string key = key_;
        skip();
        if (!is_colon()) refuse("a key without a colon");
        ++pos_;
        skip();
        found[key] = at() == ',' || at() == close ? json() : value(0);
      }
      skip();
      if (at() == ',') {
        ++pos_;
      } else if (at() != close) {
        refuse("a bracket is not closed");
      }
    }
    ++pos_;
    --brackets_;
    return found;
  }

  // -- text -----------------------------------------------------------------------------------

  /** A text or number, whose further lines begin at `least`. `key_` is its text. */
  json scalar(int64_t least) {
    key_.clear();
    if (at() == '\'' || at() == '"') {
      quoted();
      return key_;
    }
    const std::string_view first = plain();
    key_ = first;
    // A key ends here, and so do most values.
    while (!is_colon() && (at() == '\n' || at() == '\r' || (brackets_ > 0 && !is_bracket(at())))) {
      const int64_t lines = fold();
      const bool inside = brackets_ > 0 ? !is_bracket(at()) && !is_colon() : column() >= least;
      if (lines == 0 || end() || !inside || at() == '#') break;
      key_ += lines == 1 ? std::string(" ") : std::string(static_cast<size_t>(lines - 1), '\n');
      key_ += plain(false);
    }
    json found;
    const std::string problem = resolve_yaml(key_, found);
    if (!problem.empty()) refuse(problem);
    return found;
  }

  /** Plain text up to the end of the line, a colon, a comment or, within brackets, their marks. */
  std::string_view plain(bool first = true) {
    if (first) check_first();
    const size_t start = pos_;
    for (; !end(); ++pos_) {
      const char c = at();
      if (c == '\n' || c == '\r' || is_colon() || (brackets_ > 0 && is_bracket(c))) break;
      if (c == '#' && pos_ > start && text_[pos_ - 1] == ' ') break;
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) refuse("a control character");
    }
    std::string_view found = text_.substr(start, pos_ - start);
    while (!found.empty() && found.back() == ' ') found.remove_suffix(1);
    return found;
  }

  void check_first() const {
    const char c = at();
    if (end()) refuse("the text ends in the middle");
    const bool marked = std::strchr("&*!|>%@`#,[]{}\"'", c) != nullptr && c != '\0';
    const bool document =
        column() == 0 && (text_.substr(pos_, 3) == "---" || text_.substr(pos_, 3) == "...");
    if (marked || document || ((c == '-' || c == '?' || c == ':') && is_alone())) {
      refuse(std::string("\"") + c + "\" has a meaning here that is not known");
    }
  }

  void quoted() {
    const char mark = at();
    for (++pos_; at() != mark || (mark == '\'' && at(1) == mark);) {
      if (end()) refuse("a quote is not closed");
      const char c = at();
      if (c == '\n' || c == '\r') {
        while (!key_.empty() && key_.size() > kept_ && key_.back() == ' ') key_.pop_back();
        const int64_t lines = fold();
        key_ += lines == 1 ? std::string(" ") : std::string(static_cast<size_t>(lines - 1), '\n');
      } else if (c == '\\' && mark == '"') {
        escape();
      } else {
        if (static_cast<unsigned char>(c) < 0x20 && c != '\t') refuse("a control character");
        key_ += c;
        pos_ += c == mark ? 2 : 1;
      }
    }
    ++pos_;
    kept_ = 0;
  }

  /** A character behind a backslash. */
  void escape() {
    ++pos_;
    if (at() == '\n' || at() == '\r') {  // the line goes on, blanks before the backslash stay
      pos_ += at() == '\r' ? 1 : 0;
      if (at() != '\n') refuse("a backslash at the end of a line");
      const int64_t lines = fold();
      key_ += std::string(static_cast<size_t>(lines - 1), '\n');
    } else {
      const size_t length = append_escaped(text_.substr(pos_), key_);
      if (length == 0) refuse("a backslash before what needs none");
      pos_ += length;
    }
    kept_ = key_.size();
  }

  std::string_view text_;
  size_t pos_ = 0, start_ = 0;  ///< where it is, and where the line begins
  int64_t line_ = 1;
  int depth_ = 0, brackets_ = 0;
  std::string key_;  ///< of the last text
  size_t kept_ = 0;  ///< of it is not folded: the blanks are written with a backslash
};

}  // namespace

json parse_yaml(std::string_view text) { return Parser(text).document(); }

}  // namespace deepmd::native
