// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Let PyTorch use its own matrix products.
 *
 * libtorch_cpu holds a fast BLAS, but calls it by the usual names (dgemm_), and the dynamic loader
 * looks for these in the main program first. LAMMPS exports a plain BLAS of its own under the same
 * names, which makes evaluation several times slower. (RTLD_DEEPBIND would help as well, but breaks
 * programs with another malloc, and those that have std::cerr in themselves.) Hence: entries of
 * libtorch_cpu's jump table that name functions it defines itself are pointed at these.
 */
#include "model.h"

#if defined(__linux__) && defined(__LP64__)
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

namespace deepmd::torch_backend {
namespace {

#if defined(__aarch64__)
constexpr unsigned kJumpSlot = R_AARCH64_JUMP_SLOT;
#else
constexpr unsigned kJumpSlot = R_X86_64_JUMP_SLOT;
#endif

/** Whether a name is one of BLAS or LAPACK that PyTorch calls: [sdcz]xxx_ or cblas_xxx. */
bool is_algebra(const char* name) {
  const size_t n = std::strlen(name);
  if (std::strncmp(name, "cblas_", 6) == 0) return true;
  return n >= 5 && n <= 8 && name[n - 1] == '_' && name[0] != '_' &&
         std::strchr("sdcz", name[0]) != nullptr && std::strchr(name, '_') == name + n - 1;
}

/** Write a pointer even where the table was made read-only after loading. */
void replace(void** slot, void* target) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto start = reinterpret_cast<uintptr_t>(slot) & ~(page - 1);
  if (mprotect(reinterpret_cast<void*>(start), page, PROT_READ | PROT_WRITE) == 0) *slot = target;
}

}  // namespace

int use_own_blas() {
  auto* library = static_cast<link_map*>(dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD));
  if (library == nullptr) return 0;
  const ElfW(Sym)* symbols = nullptr;
  const char* names = nullptr;
  const ElfW(Rela)* table = nullptr;
  size_t bytes = 0;
  bool with_addends = false;
  for (const ElfW(Dyn)* d = library->l_ld; d->d_tag != DT_NULL; ++d) {
    const auto address = d->d_un.d_ptr;
    if (d->d_tag == DT_SYMTAB) symbols = reinterpret_cast<const ElfW(Sym)*>(address);
    if (d->d_tag == DT_STRTAB) names = reinterpret_cast<const char*>(address);
    if (d->d_tag == DT_JMPREL) table = reinterpret_cast<const ElfW(Rela)*>(address);
    if (d->d_tag == DT_PLTRELSZ) bytes = d->d_un.d_val;
    if (d->d_tag == DT_PLTREL) with_addends = d->d_un.d_val == DT_RELA;
  }
  int count = 0;
  if (symbols != nullptr && names != nullptr && table != nullptr && with_addends) {
    for (size_t k = 0; k < bytes / sizeof(*table); ++k) {
      const ElfW(Sym) & symbol = symbols[ELF64_R_SYM(table[k].r_info)];
      if (ELF64_R_TYPE(table[k].r_info) != kJumpSlot || symbol.st_shndx == SHN_UNDEF) continue;
      if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || !is_algebra(names + symbol.st_name))
        continue;
      auto** slot = reinterpret_cast<void**>(library->l_addr + table[k].r_offset);
      auto* own = reinterpret_cast<void*>(library->l_addr + symbol.st_value);
      // Entries that were not looked up yet point into the library, too: these are set as well.
      if (*slot == own) continue;
      replace(slot, own);
      ++count;
    }
  }
  dlclose(library);
  return count;
}

}  // namespace deepmd::torch_backend

#else
namespace deepmd::torch_backend {
int use_own_blas() { return 0; }
}  // namespace deepmd::torch_backend
#endif
