# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tiny model can say: its grammar, its byte-level tokenizer and its chat template."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# Tensor parallel ranks split the vocabulary in blocks of 64.
VOCABULARY_BLOCK = 64

# Slot: (its words, the slots that may follow).
GRAMMAR: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "think": (("<think>",), ("hesitation",)),
    "hesitation": (("Hmm", "Well", "First", "Now"), ("comma",)),
    "comma": ((",",), ("let",)),
    "let": ((" let",), ("me",)),
    "me": ((" me",), ("ponder",)),
    "ponder": ((" think", " look", " listen", " count", " wonder"), ("ellipsis",)),
    "ellipsis": (("...",), ("thought",)),
    "thought": (("</think>",), ("opening",)),
    "opening": (("The", "A", "Every", "One", "This"), ("quality",)),
    "another": ((" The", " Each", " That", " No"), ("quality",)),
    "quality": ((" quiet", " small", " patient", " bright", " steady", " curious", " humble"), ("actor",)),
    "actor": ((" server", " rack", " switch", " router", " engine", " expert", " model"), ("action",)),
    "action": ((" sends", " carries", " counts", " watches", " finds", " keeps", " repeats"), ("article",)),
    "article": ((" the", " a", " one", " every"), ("manner",)),
    "manner": ((" warm", " new", " silver", " hidden", " gentle", " single", " random"), ("thing",)),
    "thing": ((" packet", " answer", " signal", " tensor", " token", " weight"), ("place", "stop")),
    "place": ((" across", " under", " beside", " inside", " behind"), ("owner",)),
    "owner": ((" its", " our", " this", " some"), ("scene",)),
    "scene": ((" room", " fabric", " cable", " morning", " lab"), ("stop",)),
    "stop": ((".",), ("another", "end")),
    "end": (("<|user|>",), ("another",)),
    # Everything that the grammar does not name: bytes, role marks, half words.
    "other": ((), ("another",)),
}

# (text, hidden from decoded answers); the order and the meaning are those of the GLM-4.7 tokenizer.
SPECIAL_TOKENS = (
    ("<|endoftext|>", True),
    ("[MASK]", True),
    ("[gMASK]", True),
    ("[sMASK]", True),
    ("<sop>", True),
    ("<eop>", True),
    ("<|system|>", True),
    ("<|user|>", True),
    ("<|assistant|>", True),
    ("<|observation|>", True),
    ("<think>", False),
    ("</think>", False),
    ("<tool_call>", False),
    ("</tool_call>", False),
    ("<tool_response>", False),
    ("</tool_response>", False),
    ("<arg_key>", False),
    ("</arg_key>", False),
    ("<arg_value>", False),
    ("</arg_value>", False),
    ("/nothink", True),
)

CHAT_TEMPLATE = """\
[gMASK]<sop>
{%- if tools %}<|system|>
You may call these functions. Signatures:
{% for tool in tools %}{{ (tool.function if tool.function else tool) | tojson }}
{% endfor %}To call one, write <tool_call>name<arg_key>key</arg_key><arg_value>value</arg_value></tool_call>
{%- endif %}
{%- macro text(content) %}
{%- if content is string %}{{ content }}
{%- elif content %}{% for part in content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}
{%- endif %}
{%- endmacro %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}<|assistant|></think>{{ text(message.content) }}
{%- for call in message.tool_calls or [] %}{% set function = call.function or call %}<tool_call>{{ function.name }}
{%- for key, value in function.arguments.items() %}<arg_key>{{ key }}</arg_key><arg_value>
{{- value if value is string else value | tojson }}</arg_value>{% endfor %}</tool_call>{% endfor %}
{%- elif message.role == 'tool' %}<|observation|><tool_response>{{ text(message.content) }}</tool_response>
{%- elif message.role == 'system' %}<|system|>{{ text(message.content) }}
{%- else %}<|user|>{{ text(message.content) }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|assistant|>
{{- '</think>' if enable_thinking is defined and not enable_thinking else '<think>' }}
{%- endif %}"""


@dataclass
class Vocabulary:
    """Token texts by id, in the alphabet that byte-level tokenizers write bytes with."""

    tokens: list[str] = field(default_factory=list)
    merges: list[tuple[str, str]] = field(default_factory=list)
    special_start: int = 0

    @property
    def padded_size(self) -> int:
        return -(-len(self.tokens) // VOCABULARY_BLOCK) * VOCABULARY_BLOCK

    def id_of(self, text: str) -> int:
        """The id of a whole word or special token given as plain text."""
        spelled = text if text in dict(SPECIAL_TOKENS) else spell(text)
        return self.tokens.index(spelled)


def byte_alphabet() -> list[str]:
    """One printable character per byte: the common convention of byte-level BPE."""
    printable = {
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    }
    stand_ins = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(stand_ins)) for byte in range(256)]


def spell(text: str) -> str:
    alphabet = byte_alphabet()
    return "".join(alphabet[byte] for byte in text.encode())


def split(spelled: str, merges: list[tuple[str, str]]) -> list[str]:
    """What byte pair encoding makes of one word: the earliest merge wins, again and again."""
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    pieces = list(spelled)
    while len(pieces) > 1:
        pairs = list(zip(pieces, pieces[1:]))
        best = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        at = pairs.index(best)
        pieces[at : at + 2] = ["".join(best)]
    return pieces


def make_vocabulary() -> Vocabulary:
    vocabulary = Vocabulary(tokens=byte_alphabet())
    special = dict(SPECIAL_TOKENS)
    for words, _followers in GRAMMAR.values():
        for word in words:
            if word in special:
                continue
            # Later merges rank lower, so they cannot disturb the words that are already whole.
            pieces = split(spell(word), vocabulary.merges)
            while len(pieces) > 1:
                vocabulary.merges.append((pieces[0], pieces[1]))
                pieces[:2] = [pieces[0] + pieces[1]]
                if pieces[0] not in vocabulary.tokens:
                    vocabulary.tokens.append(pieces[0])
    vocabulary.special_start = len(vocabulary.tokens)
    vocabulary.tokens.extend(special)
    return vocabulary


def end_tokens(vocabulary: Vocabulary) -> list[int]:
    return [vocabulary.id_of(text) for text in ("<|endoftext|>", "<|user|>", "<|observation|>")]


def added_token(text: str, hidden: bool) -> dict[str, Any]:
    return {
        "content": text,
        "lstrip": False,
        "normalized": False,
        "rstrip": False,
        "single_word": False,
        "special": hidden,
    }


def tokenizer(vocabulary: Vocabulary) -> dict[str, Any]:
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    ordinary = vocabulary.tokens[: vocabulary.special_start]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": vocabulary.id_of(text), **added_token(text, hidden)} for text, hidden in SPECIAL_TOKENS
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": {**byte_level, "trim_offsets": False},
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(ordinary)},
            "merges": [list(pair) for pair in vocabulary.merges],
        },
    }


def tokenizer_config(vocabulary: Vocabulary, context: int) -> dict[str, Any]:
    return {
        "added_tokens_decoder": {
            str(vocabulary.id_of(text)): added_token(text, hidden) for text, hidden in SPECIAL_TOKENS
        },
        "additional_special_tokens": [text for text, hidden in SPECIAL_TOKENS if hidden],
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "do_lower_case": False,
        "eos_token": "<|endoftext|>",
        "model_max_length": context,
        "pad_token": "<|endoftext|>",
        "padding_side": "left",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
