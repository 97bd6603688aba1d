// SPDX-License-Identifier: LGPL-3.0-or-later
/** What a program may do: the operators of deepmd/pt/torchscript/allowed_operators.txt, and no
 * others. */
#include <torch/csrc/jit/api/compilation_unit.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <unordered_set>

#include "program.h"

namespace deepmd::torch_backend {
namespace {

using torch::jit::Block;
using torch::jit::Node;

const std::unordered_set<std::string>& allowed() {
  static const std::unordered_set<std::string> names = {
#include "allowed_operators.inc"
  };
  return names;
}

[[noreturn]] void refuse(const std::string& what) {
  throw Failure("the program in the file uses " + what +
                ", which no model needs and may do harm; freeze or convert the model again, or do "
                "not open the file");
}

void check(const Node& node) {
  const std::string name = node.kind().toQualString();
  if (!allowed().count(name) && !is_of_plugin(name)) refuse("the operator " + name);
  if (node.kind() == c10::prim::CreateObject) {
    const auto type = node.output()->type()->cast<c10::ClassType>();
    // Objects of native classes have methods that are no operators.
    if (!type || !type->name() ||
        type->name()->qualifiedName().rfind("__torch__.torch.classes", 0) == 0) {
      refuse("a native class");
    }
  }
}

template <typename Visit>
void visit_nodes(const Block& block, const Visit& visit) {
  for (const Node* node : block.nodes()) {
    visit(*node);
    for (const Block* inner : node->blocks()) visit_nodes(*inner, visit);
  }
}

/** Call a function with each node of a program. */
template <typename Visit>
void visit_nodes(const torch::jit::Module& module, const Visit& visit) {
  for (torch::jit::Function* function : module._ivalue()->compilation_unit()->get_functions()) {
    if (!function->isGraphFunction()) refuse("a native function");
    torch::jit::GraphFunction& program = torch::jit::toGraphFunction(*function);
    program.ensure_defined();
    visit_nodes(*program.graph()->block(), visit);
  }
}

}  // namespace

void check_operators(const torch::jit::Module& module) { visit_nodes(module, check); }

bool differentiates(const torch::jit::Module& module) {
  bool found = false;
  visit_nodes(module, [&](const Node& node) {
    found = found || std::string("aten::set_grad_enabled") == node.kind().toQualString();
  });
  return found;
}

void visit_constants(const torch::jit::Module& module,
                     const std::function<void(const torch::jit::IValue&)>& visit) {
  visit_nodes(module, [&](const Node& node) {
    if (node.kind() != c10::prim::Constant) return;
    if (const auto value = torch::jit::toIValue(node.output())) visit(*value);
  });
}

}  // namespace deepmd::torch_backend
