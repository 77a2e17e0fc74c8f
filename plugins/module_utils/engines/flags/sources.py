# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Source text of a wheel, and the values that can be read from it without running any of it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

MAX_DEPTH = 30


class UnreadableError(Exception):
    """The value depends on code that would have to be run."""


@dataclass(frozen=True)
class EnumMember:
    name: str
    value: Any


@dataclass(frozen=True)
class ClassReference:
    path: str
    node: ast.ClassDef


@dataclass(frozen=True)
class FunctionReference:
    path: str
    node: ast.FunctionDef


@dataclass(frozen=True)
class Scope:
    """Where a name is looked up: locals first, then the class, then the module and its imports."""

    path: str
    locals: Mapping[str, ast.expr] = field(default_factory=dict)
    bound: Mapping[str, Any] = field(default_factory=dict)
    owner: ast.ClassDef | None = None


def assigned(body: list[ast.stmt], name: str) -> ast.expr | None:
    """What the last plain assignment to a name in a body gives it."""
    found: ast.expr | None = None
    for statement in body:
        if isinstance(statement, ast.Assign):
            if any(isinstance(target, ast.Name) and target.id == name for target in statement.targets):
                found = statement.value
        elif (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and statement.target.id == name
            and statement.value is not None
        ):
            found = statement.value
    return found


class Sources:
    """{path: text} of the modules of a wheel, parsed when first asked for."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files
        self._trees: dict[str, ast.Module] = {}

    def paths(self) -> list[str]:
        return sorted(self._files)

    def tree(self, path: str) -> ast.Module:
        if path not in self._trees:
            self._trees[path] = ast.parse(self._files[path].lstrip("\ufeff"))
        return self._trees[path]

    def module_path(self, dotted: str) -> str | None:
        stem = dotted.replace(".", "/")
        return next((path for path in (f"{stem}.py", f"{stem}/__init__.py") if path in self._files), None)

    def find(self, path: str, name: str, depth: int = 0) -> tuple[str, ast.AST] | None:
        """The definition of a module-level name, through `from x import y` where x is in the wheel."""
        if depth > MAX_DEPTH:
            return None
        body = self.tree(path).body
        for statement in body:
            if isinstance(statement, (ast.ClassDef, ast.FunctionDef)) and statement.name == name:
                return path, statement
        value = assigned(body, name)
        if value is not None:
            return path, value
        for node in ast.walk(self.tree(path)):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        target = self.module_path(node.module or "")
                        return self.find(target, alias.name, depth + 1) if target else None
        return None

    # Reading values ---------------------------------------------------------------------------

    def read(self, node: ast.AST, scope: Scope, depth: int = 0) -> Any:
        """The value of an expression; UnreadableError when code would have to run for it."""
        if depth > MAX_DEPTH:
            raise UnreadableError("too deep")
        reader = _READERS.get(type(node))
        if reader is None:
            raise UnreadableError(type(node).__name__)
        return reader(self, node, scope, depth + 1)

    def _name(self, node: ast.Name, scope: Scope, depth: int) -> Any:
        if node.id in scope.bound:
            return scope.bound[node.id]
        if node.id in scope.locals:
            return self.read(scope.locals[node.id], scope, depth)
        if scope.owner is not None:
            value = assigned(scope.owner.body, node.id)
            if value is not None:
                return self.read(value, scope, depth)
        found = self.find(scope.path, node.id)
        if found is None:
            raise UnreadableError(node.id)
        return self._definition(found, depth)

    def _definition(self, found: tuple[str, ast.AST], depth: int) -> Any:
        path, definition = found
        if isinstance(definition, ast.ClassDef):
            return ClassReference(path, definition)
        if isinstance(definition, ast.FunctionDef):
            return FunctionReference(path, definition)
        return self.read(definition, Scope(path), depth)

    def _attribute(self, node: ast.Attribute, scope: Scope, depth: int) -> Any:
        base = self.read(node.value, scope, depth)
        if isinstance(base, EnumMember) and node.attr in ("name", "value"):
            return base.name if node.attr == "name" else base.value
        if isinstance(base, ClassReference):
            value = assigned(base.node.body, node.attr)
            if value is not None:
                return self.read(value, Scope(base.path, owner=base.node), depth)
        raise UnreadableError(node.attr)

    def _sequence(self, node: ast.List | ast.Tuple | ast.Set, scope: Scope, depth: int) -> list[Any]:
        result: list[Any] = []
        for item in node.elts:
            if isinstance(item, ast.Starred):
                result.extend(self._items(self.read(item.value, scope, depth), depth))
            else:
                result.append(self.read(item, scope, depth))
        return result

    def _dict(self, node: ast.Dict, scope: Scope, depth: int) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values):
            if key is None:
                raise UnreadableError("** in a dict")
            try:
                read = self.read(value, scope, depth)
            except UnreadableError:
                read = None
            result[self.read(key, scope, depth)] = read
        return result

    def _operation(self, node: ast.BinOp, scope: Scope, depth: int) -> Any:
        left, right = self.read(node.left, scope, depth), self.read(node.right, scope, depth)
        numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
        if isinstance(node.op, ast.Add) and (numbers or type(left) is type(right)):
            return left + right
        if isinstance(node.op, ast.Mult) and numbers:
            return left * right
        if isinstance(node.op, ast.Pow) and numbers and abs(right) < 64:
            return left**right
        raise UnreadableError("operator")

    def _subscript(self, node: ast.Subscript, scope: Scope, depth: int) -> Any:
        base, index = self.read(node.value, scope, depth), self.read(node.slice, scope, depth)
        try:
            return base[index]
        except (TypeError, LookupError):
            raise UnreadableError("subscript") from None

    def _negative(self, node: ast.UnaryOp, scope: Scope, depth: int) -> Any:
        value = self.read(node.operand, scope, depth)
        if isinstance(node.op, ast.USub) and isinstance(value, (int, float)):
            return -value
        raise UnreadableError("operator")

    def _comprehension(self, node: ast.ListComp, scope: Scope, depth: int) -> list[Any]:
        generator = node.generators[0]
        if len(node.generators) > 1 or generator.ifs or not isinstance(generator.target, ast.Name):
            raise UnreadableError("comprehension")
        items = self._items(self.read(generator.iter, scope, depth), depth)
        name = generator.target.id
        return [
            self.read(
                node.elt, Scope(scope.path, scope.locals, {**scope.bound, name: item}, scope.owner), depth
            )
            for item in items
        ]

    def _items(self, value: Any, depth: int) -> list[Any]:
        if isinstance(value, ClassReference):
            scope = Scope(value.path, owner=value.node)
            names = [
                target.id
                for statement in value.node.body
                if isinstance(statement, ast.Assign)
                for target in statement.targets
                if isinstance(target, ast.Name)
            ]
            return [
                EnumMember(
                    name, self.read(assigned(value.node.body, name) or ast.Constant(None), scope, depth)
                )
                for name in names
            ]
        if isinstance(value, (list, dict)):
            return list(value)
        raise UnreadableError("not iterable")

    def _call(self, node: ast.Call, scope: Scope, depth: int) -> Any:
        function = node.func
        if isinstance(function, ast.Attribute) and not node.args and not node.keywords:
            base = self.read(function.value, scope, depth)
            if function.attr == "keys" and isinstance(base, dict):
                return list(base)
            if function.attr in ("lower", "upper") and isinstance(base, str):
                return base.lower() if function.attr == "lower" else base.upper()
        if isinstance(function, ast.Name):
            builtin = _BUILTINS.get(function.id)
            if builtin and len(node.args) == 1 and not node.keywords:
                return builtin(self._items(self.read(node.args[0], scope, depth), depth))
            if not node.args and not node.keywords:
                called = self.read(function, scope, depth)
                if isinstance(called, FunctionReference):
                    return self._returned(called, depth)
        raise UnreadableError("call")

    def _returned(self, called: FunctionReference, depth: int) -> Any:
        """What a function's unconditional `return` gives: earlier ones are special cases of it."""
        body = called.node.body
        if not isinstance(body[-1], ast.Return) or body[-1].value is None:
            raise UnreadableError(called.node.name)
        return self.read(body[-1].value, Scope(called.path, local_values(called.node)), depth)


def local_values(function: ast.FunctionDef) -> dict[str, ast.expr]:
    """Names that a function assigns at its top level."""
    return {
        target.id: statement.value
        for statement in function.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }


def _plain_constant(sources: Sources, node: ast.Constant, scope: Scope, depth: int) -> Any:
    return node.value


_BUILTINS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": list,
    "set": sorted,
    "frozenset": sorted,
    "sorted": sorted,
}
_READERS: dict[type, Callable[..., Any]] = {
    ast.Constant: _plain_constant,
    ast.Name: Sources._name,
    ast.Attribute: Sources._attribute,
    ast.List: Sources._sequence,
    ast.Tuple: Sources._sequence,
    ast.Set: Sources._sequence,
    ast.Dict: Sources._dict,
    ast.BinOp: Sources._operation,
    ast.Subscript: Sources._subscript,
    ast.UnaryOp: Sources._negative,
    ast.ListComp: Sources._comprehension,
    ast.Call: Sources._call,
}
