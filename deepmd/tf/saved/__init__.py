# SPDX-License-Identifier: LGPL-3.0-or-later
"""SavedModels of TensorFlow: folders with a program that other programs call by function names.

A program is the evaluation entry of a model, whoever compiled it, and around it, in operators of
TensorFlow, the search for neighbors, their packing, and the assembly of forces and virials.
"""
