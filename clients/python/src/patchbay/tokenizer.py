"""The server's tokenizer, as far as notebooks need one."""

from __future__ import annotations

from typing import Any

from .arrays import torch
from .client import Patchbay


class Encoded(dict):
    """`input_ids` and `attention_mask`, as fields and as items."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Tokenizer:
    """Text to tokens and back, on the server."""

    padding_side = "left"

    def __init__(self, bay: Patchbay, model: str, chat_template: bool | None = None):
        self._bay, self._model = bay, model
        #: True where the model has one; it stays with the server. None where it has none.
        self.chat_template = chat_template or None
        self._ids: dict[str, list[int]] = {}

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Ids of a text."""
        key = f"{add_special_tokens}{text}"
        if key not in self._ids:
            # a text without tokens is no row of an input, and has none
            if text == "":
                return []
            told = self._bay.tokenize(self._model, {"text": text, "add_special_tokens": add_special_tokens})
            self._ids[key] = told["ids"][0]
        return list(self._ids[key])

    def __call__(
        self, text: str | list[str], add_special_tokens: bool = True, return_tensors: str | None = None
    ) -> Encoded:
        texts, one = ([text], True) if isinstance(text, str) else (text, False)
        rows = [self.encode(row, add_special_tokens) for row in texts]
        mask = [[1] * len(row) for row in rows]
        if return_tensors == "pt" and torch is not None:
            return Encoded(input_ids=torch.tensor(rows), attention_mask=torch.tensor(mask))
        return Encoded(input_ids=rows[0] if one else rows, attention_mask=mask[0] if one else mask)

    def apply_chat_template(
        self,
        conversation: list[dict[str, Any]],
        tokenize: bool = True,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        **more: Any,
    ) -> Any:
        """Messages as the model's chat template writes them: ids, or with `tokenize=False` their text. `tools` and `documents` go to the template."""
        options = {name: more[name] for name in ("tools", "documents") if more.get(name)}
        options |= {"add_generation_prompt": add_generation_prompt, "continue_final_message": continue_final_message}
        ids = self._bay.tokenize(self._model, {"messages": conversation} | options)["ids"][0]
        return ids if tokenize else self.decode(ids)

    def tokenize(self, text: str, add_special_tokens: bool = False) -> list[str]:
        """Token strings of a text."""
        return self.convert_ids_to_tokens(self.encode(text, add_special_tokens))

    def decode(self, ids: Any, skip_special_tokens: bool = False) -> str:
        """The text of ids."""
        ids = ids.tolist() if hasattr(ids, "tolist") else ids
        ids = [ids] if isinstance(ids, int) else [int(token) for token in ids]
        return self._bay.detokenize(self._model, [ids], skip_special_tokens)["text"][0]

    def batch_decode(self, rows: Any, skip_special_tokens: bool = False) -> list[str]:
        """The texts of rows of ids."""
        rows = rows.tolist() if hasattr(rows, "tolist") else [list(row) for row in rows]
        return self._bay.detokenize(self._model, rows, skip_special_tokens)["text"]

    def convert_ids_to_tokens(self, ids: Any) -> Any:
        """Token strings of ids, or of one."""
        ids = ids.tolist() if hasattr(ids, "tolist") else ids
        if isinstance(ids, int):
            return self._bay.detokenize(self._model, [[ids]])["tokens"][0][0]
        return self._bay.detokenize(self._model, [[int(token) for token in ids]])["tokens"][0] if len(ids) else []
