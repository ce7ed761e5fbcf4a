"""Jinja chat templates, written from the documented formats of well-known model families."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

_NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
_CHATML = "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
_CHATML_PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"


@dataclass(frozen=True)
class Template:
    """source: the template. end: what it writes right after an answer, up to the end token. trims: blanks around it."""

    source: str
    end: str
    system: bool = True
    trims: bool = False


CHATML = Template("{% for m in messages %}" + _CHATML + "{% endfor %}" + _CHATML_PROMPT, "<|im_end|>")
DEFAULT_SYSTEM = Template(
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}" + _CHATML + "{% endfor %}" + _CHATML_PROMPT,
    "<|im_end|>",
)
LLAMA2 = Template(
    "{% if messages[0]['role'] == 'system' %}{% set talk = messages[1:] %}"
    "{% set system = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
    "{% else %}{% set talk = messages %}{% set system = '' %}{% endif %}"
    "{% for m in talk %}{% set content = system + m['content'] if loop.first else m['content'] %}"
    "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
    " </s>",
    trims=True,
)
LLAMA3 = Template(
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    "<|eot_id|>",
    trims=True,
)
# The last answer gets thinking, empty if it has none; earlier ones lose theirs.
QWEN3 = Template(
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m['role'] == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{% set content = m['content'] %}{% set thinking = '' %}{% if '</think>' in content %}"
    "{% set thinking = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ '<|im_start|>assistant\n' }}{% if loop.index0 > ns.last %}"
    "{{ '<think>\n' + thinking.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}"
    "{% else %}{{ content }}{% endif %}"
    "{{ '<|im_end|>\n' }}{% else %}" + _CHATML + "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}",
    "<|im_end|>",
    trims=True,
)
GEMMA = Template(
    "{{ bos_token }}" + _NO_SYSTEM + "{% for m in messages %}"
    "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
    "<end_of_turn>",
    system=False,
    trims=True,
)
MISTRAL = Template(
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}",
    "</s>",
    system=False,
)
# Answers lose their thinking wherever they are; the generation prompt begins one.
R1 = Template(
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}"
    "{% elif m['role'] == 'user' %}{{ '<|User|>' + m['content'] }}"
    "{% else %}{{ '<|Assistant|>' + m['content'].split('</think>')[-1] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}",
    "</s>",
)
PLAIN = Template(
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}",
    "\n",
)
TEMPLATES = {
    "chatml": CHATML,
    "default_system": DEFAULT_SYSTEM,
    "llama2": LLAMA2,
    "llama3": LLAMA3,
    "qwen3": QWEN3,
    "gemma": GEMMA,
    "mistral": MISTRAL,
    "r1": R1,
    "plain": PLAIN,
}


@dataclass(frozen=True)
class ToolTemplate(Template):
    """learned: what is written from the text and the calls, (name, arguments), of an answer, up to the end token.

    text: whether the text of an answer is written beside its calls.
    """

    learned: Callable[[str, list[tuple[str, dict]]], str] = lambda text, calls: ""
    text: bool = True


def _hermes(text: str, calls: list[tuple[str, dict]]) -> str:
    parts = [text] * bool(text) + [f"<tool_call>\n{_call(call, 'arguments')}\n</tool_call>" for call in calls]
    return "\n".join(parts) + "<|im_end|>"


def _mistral(text: str, calls: list[tuple[str, dict]]) -> str:
    calls_text = ", ".join(_call(call, "arguments") for call in calls)
    return (f"[TOOL_CALLS] [{calls_text}]" if calls else f" {text}") + "</s>"


def _call(call: tuple[str, dict], arguments: str) -> str:
    return json.dumps({"name": call[0], arguments: call[1]})


# Results of tools are the user's; calls follow the text (Hermes, Qwen2.5).
HERMES = ToolTemplate(
    "{% if tools %}{{ '<|im_start|>system\n' + tools | tojson + '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{% if m.role == 'tool' %}"
    "{{ '<|im_start|>user\n<tool_response>\n' + m.content + '\n</tool_response><|im_end|>\n' }}"
    "{% elif m.tool_calls %}{{ '<|im_start|>assistant' }}{% if m.content %}{{ '\n' + m.content }}{% endif %}"
    "{% for c in m.tool_calls %}"
    """{{ '\n<tool_call>\n{"name": "' + c.function.name + '", "arguments": ' + c.function.arguments | tojson }}"""
    "{{ '}\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}"
    "{% else %}" + _CHATML + "{% endif %}{% endfor %}" + _CHATML_PROMPT,
    "<|im_end|>",
    learned=_hermes,
)
# User and assistant must alternate, apart from messages of tools and their calls; the text beside a call is left out.
MISTRAL_TOOLS = ToolTemplate(
    "{% set ns = namespace(index=0) %}{% for m in messages %}{% if m.role != 'tool' and not m.tool_calls %}"
    "{% if (m.role == 'user') != (ns.index % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}"
    "{% set ns.index = ns.index + 1 %}{% endif %}{% endfor %}"
    "{{ bos_token }}{% if tools %}{{ '[AVAILABLE_TOOLS] ' + tools | tojson + '[/AVAILABLE_TOOLS]' }}{% endif %}"
    "{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% elif m.role == 'tool' %}{{ '[TOOL_RESULTS] ' + m.content + '[/TOOL_RESULTS]' }}"
    "{% elif m.tool_calls %}{{ '[TOOL_CALLS] [' }}{% for c in m.tool_calls %}{{ ', ' if not loop.first }}"
    """{{ '{"name": "' + c.function.name + '", "arguments": ' + c.function.arguments | tojson + '}' }}{% endfor %}"""
    "{{ ']' + eos_token }}{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}",
    "</s>",
    system=False,
    learned=_mistral,
    text=False,
)
TOOL_TEMPLATES = {"hermes": HERMES, "mistral": MISTRAL_TOOLS}
