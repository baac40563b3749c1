"""Tokenizers: text to token ids, the same for planning and for training, without importing torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tokenizers import Tokenizer

from ...profiles.errors import LplanError
from ...profiles.hub_errors import errors_for_users
from .chat_template import render

_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_FILES = ("*.json", "*.model", "*.jinja", "*.txt", "*.tiktoken")
_PLAIN_CLASSES = ("TokenizersBackend", "PreTrainedTokenizerFast", "PreTrainedTokenizer", "")


class ChatTokenizer(Protocol):
    """What encoding needs of a tokenizer; transformers' own tokenizers have it too."""

    @property
    def chat_template(self) -> Any: ...
    @property
    def eos_token_id(self) -> int | None: ...
    @property
    def pad_token_id(self) -> int | None: ...

    def __call__(
        self, text: list[str], *, add_special_tokens: bool, return_offsets_mapping: bool
    ) -> Mapping[str, Any]: ...

    def apply_chat_template(
        self,
        conversation: list[dict[str, str]],
        *,
        chat_template: str | None,
        tokenize: bool,
        add_generation_prompt: bool,
    ) -> Any: ...

    def get_added_vocab(self) -> dict[str, int]: ...


class LightTokenizer:
    """A tokenizer.json with its special tokens and chat template: the part of transformers' that is needed here."""

    def __init__(
        self, backend: Tokenizer, *, special_tokens: Mapping[str, str], chat_template: str | None = None
    ) -> None:
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._special_tokens = dict(special_tokens)
        self.chat_template = chat_template

    @property
    def bos_token_id(self) -> int | None:
        """Id of the token that begins a text, if the tokenizer has one."""
        return self._id("bos_token")

    @property
    def eos_token_id(self) -> int | None:
        """Id of the token that ends a text, if the tokenizer has one."""
        return self._id("eos_token")

    @property
    def pad_token_id(self) -> int | None:
        """Id of the filler, if the tokenizer has one."""
        return self._id("pad_token")

    def __len__(self) -> int:
        return self._backend.get_vocab_size(with_added_tokens=True)

    def __call__(
        self, text: list[str], *, add_special_tokens: bool = True, return_offsets_mapping: bool = False
    ) -> dict[str, Any]:
        """`input_ids` of every text, and `offset_mapping`: the (start, end) characters of every token."""
        encodings = self._backend.encode_batch(text, add_special_tokens=add_special_tokens)
        encoded: dict[str, Any] = {"input_ids": [e.ids for e in encodings]}
        if return_offsets_mapping:
            encoded["offset_mapping"] = [e.offsets for e in encodings]
        return encoded

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of one text."""
        return list(self._backend.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """The text of token ids."""
        return self._backend.decode(list(token_ids), skip_special_tokens=skip_special_tokens)

    def apply_chat_template(
        self,
        conversation: list[dict[str, str]],
        *,
        chat_template: str | None = None,
        tokenize: bool = False,
        add_generation_prompt: bool = False,
    ) -> str | list[int]:
        """The text of a dialogue, or with `tokenize` its ids. Raises ChatTemplateError."""
        template = chat_template or self.chat_template
        if template is None:
            raise LplanError("the tokenizer has no chat template", hint="use the template llama-2")
        tokens = self._special_tokens
        text = render(
            template, conversation, special_tokens=tokens, add_generation_prompt=add_generation_prompt
        )
        return self.encode(text, add_special_tokens=False) if tokenize else text

    def get_added_vocab(self) -> dict[str, int]:
        """Ids of the tokens that are markers, not pieces of text."""
        return {
            token.content: token_id for token_id, token in self._backend.get_added_tokens_decoder().items()
        }

    def _id(self, name: str) -> int | None:
        token = self._special_tokens.get(name)
        return None if token is None else self._backend.token_to_id(token)


def load_tokenizer(location: Path | str, *, trust_remote_code: bool = False) -> ChatTokenizer:
    """The tokenizer of a model folder or hub id.

    A LightTokenizer wherever tokenizer.json says it all: always for byte-level ones. Where transformers
    rebuilds the tokenizer from its class (SentencePiece-like, as Llama 2's) or there is no tokenizer.json,
    it is transformers' own. Raises LplanError when there is no tokenizer or it can't be read.
    """
    folder = location if isinstance(location, Path) else _folder_of(location)
    light = _light_tokenizer(folder)
    return light if light is not None else _transformers_tokenizer(folder, trust_remote_code)


def pad_token_id(tokenizer: ChatTokenizer) -> int:
    """What to fill rows with: the tokenizer's own, or the end token, or 0; padding is masked anyway."""
    for token_id in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token_id is not None:
            return token_id
    return 0


def _folder_of(location: str) -> Path:
    folder = Path(location).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    with errors_for_users(location, ""):
        return Path(snapshot_download(location, allow_patterns=list(_FILES)))


def _light_tokenizer(folder: Path) -> LightTokenizer | None:
    file = folder / "tokenizer.json"
    if not file.is_file():
        return None
    config = _read_json(folder / "tokenizer_config.json")
    try:
        backend = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises nothing more specific
        message = f"{file} is no readable tokenizer: {error}"
        raise LplanError(message, hint="download or save the model's tokenizer again") from error
    if not _file_is_all(backend, str(config.get("tokenizer_class") or "")):
        return None
    tokens = {
        **_model_tokens(folder, config, backend),
        **_special_tokens(_read_json(folder / "special_tokens_map.json")),
        **_special_tokens(config),
    }
    return LightTokenizer(backend, special_tokens=tokens, chat_template=_chat_template(folder, config))


def _file_is_all(backend: Tokenizer, tokenizer_class: str) -> bool:
    """Whether transformers would use tokenizer.json as it is.

    For a class of its own, such as LlamaTokenizer, transformers 5 takes only vocabulary and merges from the
    file and rebuilds the rest, which moves SentencePiece's prefix spaces; byte-level files it leaves alone.
    """
    return tokenizer_class in _PLAIN_CLASSES or "ByteLevel" in str(backend.pre_tokenizer)


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """Names and texts, whether written as a string or as an added token."""
    named = {name: config[name] for name in _SPECIAL if config.get(name)}
    return {name: token["content"] if isinstance(token, dict) else token for name, token in named.items()}


def _model_tokens(folder: Path, config: Mapping[str, Any], backend: Tokenizer) -> dict[str, str]:
    """Begin and end as config.json numbers them, where the tokenizer's own files (GPT-2's) don't name them."""
    numbers = _read_json(folder / "config.json")
    found = {}
    for name in ("bos_token", "eos_token"):
        number = numbers.get(f"{name}_id")
        token = backend.id_to_token(number) if isinstance(number, int) else None
        if name not in config and token is not None:
            found[name] = token
    return found


def _chat_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """The default template: chat_template.jinja, or the one in tokenizer_config.json."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):
        return next((t["template"] for t in template if t["name"] == "default"), None)
    return template


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LplanError(f"{file} is no readable JSON: {error}", hint="download or save it again") from error
    return values if isinstance(values, dict) else {}


def _transformers_tokenizer(folder: Path, trust_remote_code: bool) -> ChatTokenizer:
    from transformers import AutoTokenizer

    try:
        tokenizer: ChatTokenizer = AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=trust_remote_code, local_files_only=True
        )
    except Exception as error:  # an OSError, ValueError or whatever a tokenizer's own code raises
        reason = (str(error) or type(error).__name__).splitlines()[0]
        hint = "a model folder needs tokenizer.json or tokenizer.model"
        raise LplanError(f"{folder} holds no readable tokenizer: {reason}", hint=hint) from error
    return tokenizer
