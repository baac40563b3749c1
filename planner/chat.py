"""How dialogues become text where a model has no chat template of its own."""

from __future__ import annotations

LLAMA_2 = (
    "{% set system = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n'"
    " if messages[0]['role'] == 'system' else '' %}"
    "{% for message in (messages[1:] if system else messages) %}"
    "{% if message['role'] == 'user' %}"
    "{{ (bos_token or '') + '[INST] ' + (system if loop.first else '') + message['content'].strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ ' ' + message['content'].strip() + (eos_token or '') }}"
    "{% else %}{{ raise_exception('a system message must come first') }}{% endif %}"
    "{% endfor %}"
)
"""The instruction format of Llama 2: <s>[INST] <<SYS>>...<</SYS>> user [/INST] response</s>."""
