# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models out of family files: one shape, the settings its members share, and the members."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..core.refusals import Refusal, did_you_mean
from ..core.text_checks import FOLDER
from .entries import Model
from .loading import typed
from .shapes import ModelShape, Quantization, derive_quantization, derive_shape
from .sharding import checkpoint_bytes

FAMILY_KEYS = ("family", "name", "licence", "shape", "common", "models")
SETTINGS = (
    "tool_call_parser",
    "reasoning_parser",
    "trust_remote_code",
    "speculative",
    "thinking_budget",
    "preserved_thinking",
    "arguments",
    "files",
    "kv_dtype",
    "licence",
    "community",
    "notes",
)
OF_A_FAMILY = (
    "tool_call_parser",
    "reasoning_parser",
    "speculative",
    "thinking_budget",
    "preserved_thinking",
)
"""Settings that a model of a directory takes from its relatives."""
MEMBER_KEYS = ("name", "ids", "revisions", "shape", "quantization", "weights", *SETTINGS)
WEIGHT_KEYS = ("bytes", "gib", "origin", "source")
ORIGINS = ("published", "reported", "computed")
GIB = 1 << 30


def load_models(documents: Mapping[str, Any]) -> tuple[dict[str, Model], list[Refusal]]:
    """Models of several family files {file name: its content}, later files winning, and every problem found."""
    models: dict[str, Model] = {}
    refusals: list[Refusal] = []
    for source, document in documents.items():
        members, problems = load_family(source, document)
        models.update(members)
        refusals += problems
    return models, refusals


def load_family(source: str, document: Any) -> tuple[dict[str, Model], list[Refusal]]:
    """The models of one file."""
    refusals: list[Refusal] = []
    if not isinstance(document, Mapping):
        return {}, [_refusal(source, "is not a mapping", f"write the keys {', '.join(FAMILY_KEYS)}")]
    refusals += _unknown(source, document, FAMILY_KEYS)
    refusals += [
        _refusal(f"{source}: {key}", "is missing", f"add {key}: to the file")
        for key in ("family", "shape", "models")
        if not document.get(key)
    ]
    if any(not isinstance(document.get(key, {}), Mapping) for key in ("shape", "common", "models")):
        return {}, [
            *refusals,
            _refusal(source, "shape, common and models must be mappings", "indent their keys"),
        ]
    common = document.get("common", {})
    refusals += _unknown(f"{source}: common", common, SETTINGS)
    models: dict[str, Model] = {}
    for key, member in document.get("models", {}).items():
        where = f"{source}: models.{key}"
        if not isinstance(member, Mapping):
            refusals.append(_refusal(where, "is not a mapping", f"write keys among {', '.join(MEMBER_KEYS)}"))
            continue
        model, problems = _member(where, str(key), member, document)
        refusals += problems
        if model is not None:
            models[model.key] = model
    return models, refusals


def model_of_config(
    key: str,
    config: Mapping[str, Any],
    weight_bytes: int = 0,
    where: str = "config.json",
    pickled_weights: bool = False,
    known: Mapping[str, Model] | None = None,
) -> Model:
    """A model that no catalogue knows, out of its config.json; raises RefusedError naming what is missing.

    Settings that are not in a config come from its relatives among `known`.
    """
    shape, quantization = derive_shape(config, where), derive_quantization(config)
    made = Model(
        key=key,
        name=key,
        ids={},
        revisions={},
        shape=shape,
        quantization=quantization,
        weight_bytes=weight_bytes or checkpoint_bytes(shape, quantization),
        weight_bytes_origin="published" if weight_bytes else "computed",
        family=key,
        checkpoint_code=bool(config.get("auto_map")),
        pickled_weights=pickled_weights,
        notes=("Parsers and speculative decoding are not in config.json: say them under options.",),
    )
    return with_family(made, known or {})


def with_family(model: Model, known: Mapping[str, Model]) -> Model:
    """A model of a directory with the settings of its relatives in the catalogue.

    Relatives have the same architecture and vocabulary. Where the directory is called like one of their families, only
    that family counts. A setting on which they differ stays unknown.
    """
    shape = model.shape
    kin = [
        other
        for other in known.values()
        if (other.shape.architecture, other.shape.vocab_size) == (shape.architecture, shape.vocab_size)
    ]
    folder = _plain(model.key.rstrip("/").rpartition("/")[2])
    named = [other for other in kin if _plain(other.family) in folder]
    longest = max((len(other.family) for other in named), default=0)
    kin = [other for other in named if len(other.family) == longest] or kin
    alike = [other for other in kin if other.quantization.weight_dtype == model.quantization.weight_dtype]
    found: dict[str, Any] = {
        name: getattr(kin[0], name)
        for name in OF_A_FAMILY
        if kin and all(getattr(other, name) == getattr(kin[0], name) for other in kin if _drafts(other, name))
    }
    if not shape.mtp_layers:
        found.pop("speculative", None)
    if alike and all(other.arguments == alike[0].arguments for other in alike):
        found["arguments"] = alike[0].arguments
    families = sorted({other.family for other in kin})
    notes = (f"Parsers and settings as of {', '.join(families)}.",) if found else model.notes
    return replace(model, **found, notes=notes)


def _drafts(model: Model, name: str) -> bool:
    """Whether a member counts for a setting: one without an MTP layer says nothing about drafts."""
    return name != "speculative" or bool(model.shape.mtp_layers)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _member(
    where: str, key: str, member: Mapping[str, Any], document: Mapping[str, Any]
) -> tuple[Model | None, list[Refusal]]:
    refusals = [*_unknown(where, member, MEMBER_KEYS), *_unsafe(where, key, member.get("revisions"))]
    overrides = member.get("shape", {})
    if not isinstance(overrides, Mapping):
        return None, [*refusals, _refusal(f"{where}.shape", "is not a mapping", "indent its keys")]
    shape, problems = typed(ModelShape, {**document.get("shape", {}), **overrides}, f"{where}.shape")
    refusals += problems
    quantization, problems = typed(Quantization, member.get("quantization", {}), f"{where}.quantization")
    refusals += problems
    known, origin, problems = _weights(f"{where}.weights", member.get("weights", {}))
    refusals += problems
    if shape is None or quantization is None or problems or _unsafe(where, key, member.get("revisions")):
        return None, refusals
    common = document.get("common", {})
    own = {name: value for name, value in member.items() if name in SETTINGS}
    values = {
        "licence": document.get("licence", ""),
        **{name: value for name, value in common.items() if name in SETTINGS},
        **own,
        "key": key,
        "name": member.get("name", document.get("name", key)),
        "ids": member.get("ids", {}),
        "revisions": member.get("revisions", {}),
        "shape": shape,
        "quantization": quantization,
        "weight_bytes": known or checkpoint_bytes(shape, quantization),
        "weight_bytes_origin": origin,
        "family": document.get("family", ""),
    }
    # These two add to what the family says; everything else replaces it.
    if isinstance(common.get("arguments"), Mapping) and isinstance(own.get("arguments"), Mapping):
        values["arguments"] = _of_engines(common["arguments"], own["arguments"])
    if isinstance(common.get("notes"), list) and isinstance(own.get("notes"), list):
        values["notes"] = [*common["notes"], *own["notes"]]
    model, problems = typed(Model, values, where)
    return model, refusals + problems


def _of_engines(common: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Engine -> flags; what is not a mapping stays, for the check of types to refuse."""
    merged = {**common, **own}
    for engine, flags in own.items():
        if isinstance(flags, Mapping) and isinstance(common.get(engine), Mapping):
            merged[engine] = {**common[engine], **flags}
    return merged


def _unsafe(where: str, key: str, revisions: Any) -> list[Refusal]:
    """Key and revision name the folder of the weights, which root makes, renames and removes."""
    found = []
    if not FOLDER.match(key):
        fix = "use letters, digits, dots, dashes and underscores, no dot first: glm-4.7"
        found.append(_refusal(where, "this key cannot be the name of a folder", fix))
    for hub, revision in revisions.items() if isinstance(revisions, Mapping) else ():
        if revision and not FOLDER.match(str(revision)):
            fix = "write the commit that the hub shows, or a tag without slashes"
            found.append(
                _refusal(
                    f"{where}.revisions.{hub} = {str(revision)!r}", "this cannot be the name of a folder", fix
                )
            )
    return found


def _weights(where: str, values: Any) -> tuple[int, str, list[Refusal]]:
    """(bytes where known, how far they can be trusted)."""
    refusals = _unknown(where, values, WEIGHT_KEYS)
    if not isinstance(values, Mapping):
        return 0, "", refusals
    amount = {name: values[name] for name in ("bytes", "gib") if name in values}
    refusals += [
        _refusal(
            f"{where}.{name} = {value!r}", "must be a positive number", "write a number, or leave it out"
        )
        for name, value in amount.items()
        if not isinstance(value, (int, float)) or isinstance(value, bool) or value <= 0
    ]
    origin = str(values.get("origin", "reported" if amount else "computed"))
    if origin not in ORIGINS:
        refusals.append(_refusal(f"{where}.origin = {origin}", "unknown origin", f"say {', '.join(ORIGINS)}"))
    if refusals:
        return 0, origin, refusals
    return round(amount.get("bytes") or amount.get("gib", 0) * GIB), origin, []


def _unknown(where: str, values: Any, known: Iterable[str]) -> list[Refusal]:
    if not isinstance(values, Mapping):
        return [_refusal(where, "is not a mapping", "indent its keys")]
    names = list(known)
    return [
        Refusal("unknown-key", "", where, f"unknown key {key}", did_you_mean(str(key), names))
        for key in values
        if key not in names
    ]


def _refusal(where: str, what: str, fix: str) -> Refusal:
    return Refusal("catalogue-entry", "", where, what, fix)
