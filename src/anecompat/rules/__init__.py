"""The rules: one function each, grouped by what they look at. Importing this package registers them all."""

from anecompat.rules import indices, numerics, operations, tensors, windows
from anecompat.rules.registry import Rule, all_rules, find, rules_for
from anecompat.rules.scope import Scope

__all__ = ["Rule", "Scope", "all_rules", "find", "indices", "numerics", "operations", "rules_for", "tensors", "windows"]
