// SPDX-License-Identifier: LGPL-3.0-or-later
#include "plan.h"

#include <algorithm>
#include <map>

namespace deepmd::native::traced {

namespace {

constexpr size_t kMostMembers = 48;

}  // namespace

Plan::Plan(const Operations& operations, const std::vector<ValueId>& outputs) {
  find_users(operations, outputs);
  form_chains(operations);
  release(operations, outputs);
}

void Plan::find_users(const Operations& operations, const std::vector<ValueId>& outputs) {
  users_.resize(static_cast<size_t>(operations.count()));
  // An output has a user that is no operation.
  for (const ValueId id : outputs) users_[id].push_back(-1);
  for (ValueId id = operations.count() - 1; id >= operations.first_operation(); --id) {
    if (users_[id].empty()) continue;
    for (const ValueId arg : operations.operation(id)->args) users_[arg].push_back(id);
  }
}

void Plan::form_chains(const Operations& operations) {
  const ValueId first = operations.first_operation(), n = operations.count();
  end_.assign(static_cast<size_t>(n), -1);
  std::vector<size_t> members(static_cast<size_t>(n), 0);
  for (ValueId id = n - 1; id >= first; --id) {
    const Operation& operation = *operations.operation(id);
    if (!operation.is_elementwise() || users_[id].empty()) continue;
    // It joins the chain that all its users are in, if that has its shape.
    ValueId end = users_[id][0] < 0 ? -1 : end_[users_[id][0]];
    for (const ValueId user : users_[id]) {
      if (user < 0 || end_[user] != end) end = -1;
    }
    if (end >= 0 && (members[end] >= kMostMembers ||
                     operations.operation(end)->shape != operation.shape)) {
      end = -1;
    }
    end_[id] = end >= 0 ? end : id;
    ++members[end_[id]];
  }
  std::map<ValueId, std::vector<ValueId>> of;
  for (ValueId id = first; id < n; ++id) {
    if (end_[id] >= 0) of[end_[id]].push_back(id);
  }
  for (ValueId id = first; id < n; ++id) {
    if (end_[id] >= 0 && end_[id] != id) continue;
    if (users_[id].empty()) continue;
    steps_.push_back({id, -1, {}});
    if (end_[id] == id) add_chain(operations, id, of[id]);
  }
}

void Plan::add_chain(const Operations& operations, ValueId result,
                     const std::vector<ValueId>& members) {
  Chain chain;
  std::map<ValueId, int32_t> place;
  for (const ValueId id : members) {
    for (const ValueId arg : operations.operation(id)->args) {
      if (end_[arg] == result || place.count(arg)) continue;
      place[arg] = static_cast<int32_t>(chain.operands.size());
      chain.operands.push_back(arg);
      chain.operand_types.push_back(operations.facts(arg).type);
    }
  }
  const auto n_operands = static_cast<int32_t>(chain.operands.size());
  std::map<ValueId, size_t> last_use;
  for (size_t k = 0; k < members.size(); ++k) {
    for (const ValueId arg : operations.operation(members[k])->args) last_use[arg] = k;
  }
  std::vector<int32_t> spare;
  for (size_t k = 0; k < members.size(); ++k) {
    const Operation& operation = *operations.operation(members[k]);
    Link link{operation.op, operation.function, operations.facts(operation.args[0]).type,
              operation.type, {-1, -1, -1}, 0};
    for (size_t a = 0; a < operation.args.size(); ++a) link.args[a] = place[operation.args[a]];
    if (spare.empty()) spare.push_back(n_operands + chain.registers++);
    link.result = place[members[k]] = spare.back();
    spare.pop_back();
    chain.links.push_back(link);
    std::vector<ValueId> args = operation.args;
    std::sort(args.begin(), args.end());
    args.erase(std::unique(args.begin(), args.end()), args.end());
    for (const ValueId arg : args) {
      if (end_[arg] == result && last_use[arg] == k) spare.push_back(place[arg]);
    }
  }
  steps_.back().chain = static_cast<int32_t>(chains_.size());
  chains_.push_back(std::move(chain));
}

void Plan::release(const Operations& operations, const std::vector<ValueId>& outputs) {
  std::vector<size_t> last(static_cast<size_t>(operations.count()), 0);
  std::vector<char> used(last.size(), 0);
  for (size_t k = 0; k < steps_.size(); ++k) {
    const Step& step = steps_[k];
    const std::vector<ValueId>& args = step.chain >= 0 ? chains_[step.chain].operands
                                                       : operations.operation(step.result)->args;
    for (const ValueId arg : args) {
      last[arg] = k;
      used[arg] = 1;
    }
  }
  for (const ValueId id : outputs) used[id] = 0;
  for (ValueId id = operations.first_operation(); id < operations.count(); ++id) {
    if (used[id]) steps_[last[id]].released.push_back(id);
  }
}

}  // namespace deepmd::native::traced
