"""Chat templates, short forms of those in common use, broken in many ways; a model file for each.

Right is: an answer, or one line that names the model and says what is wrong. Wrong: a traceback, a hang, a process that
dies, and silently a prompt without its question.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from .common import Case

N_LONG, N_SHORT = 100, 15

_ALTERNATE = (
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
)
_SYSTEM_FIRST = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set rest = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}"
)

FAMILIES = {
    "chatml": (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "llama2": (
        _SYSTEM_FIRST + "{% for m in rest %}" + _ALTERNATE + "{% if m['role'] == 'user' %}{{ bos_token }}[INST] "
        "{% if loop.first and system %}<<SYS>>\n{{ system }}\n<</SYS>>\n\n{% endif %}{{ m['content'].strip() }} [/INST]"
        "{% else %} {{ m['content'].strip() }} {{ eos_token }}{% endif %}{% endfor %}"
    ),
    "llama3": (
        "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
        "{{ m['content'] | trim }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}"
        "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    ),
    "mistral": (
        _SYSTEM_FIRST + "{{ bos_token }}{% for m in rest %}" + _ALTERNATE + "{% if m['role'] == 'user' %}[INST] "
        "{{ system ~ '\n\n' if loop.last and system }}{{ m['content'] }}[/INST]{% elif m['role'] == 'assistant' %}"
        " {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
    ),
    "gemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}{% for m in messages %}" + _ALTERNATE + "<start_of_turn>"
        "{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
    ),
    "phi3": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}<|user|>\n{{ m['content'] }}<|end|>\n"
        "<|assistant|>\n{% elif m['role'] == 'assistant' %}{{ m['content'] }}<|end|>\n{% endif %}{% endfor %}"
    ),
    "deepseek-r1": (
        "{% set ns = namespace(system='') %}{% for m in messages %}{% if m['role'] == 'system' %}"
        "{% set ns.system = m['content'] %}{% endif %}{% endfor %}{{ bos_token }}{{ ns.system }}{% for m in messages %}"
        "{% if m['role'] == 'user' %}<｜User｜>{{ m['content'] }}{% elif m['role'] == 'assistant' %}<｜Assistant｜>"
        "{{ m['content'].split('</think>')[-1] }}<｜end▁of▁sentence｜>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
    ),
    "qwen3": (
        "{% set ns = namespace(last=messages | length - 1) %}{% for m in messages[::-1] %}{% if m.role == 'user' and "
        "not (m.content.startswith('<tool_response>') and m.content.endswith('</tool_response>')) %}{% endif %}"
        "{% endfor %}"
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and '</think>' in m.content and "
        "loop.index0 < ns.last %}{{ m.content.split('</think>')[-1].lstrip('\n') }}{% else %}{{ m.content }}{% endif %}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
    ),
    "command-r": (
        "{{ bos_token }}{% for m in messages %}<|START_OF_TURN_TOKEN|>{% if m['role'] == 'system' %}<|SYSTEM_TOKEN|>"
        "{% elif m['role'] == 'user' %}<|USER_TOKEN|>{% else %}<|CHATBOT_TOKEN|>{% endif %}{{ m['content'].strip() }}"
        "<|END_OF_TURN_TOKEN|>{% endfor %}{% if add_generation_prompt %}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"
        "{% endif %}"
    ),
    "zephyr": (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token }}\n"
        "{% if loop.last and add_generation_prompt %}<|assistant|>\n{% endif %}{% endfor %}"
    ),
    "vicuna": (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}\n\n{% elif m['role'] == 'user' %}"
        "USER: {{ m['content'] }}\n{% else %}ASSISTANT: {{ m['content'] }}{{ eos_token }}\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    ),
    "granite": (
        "{% if strftime_now is defined %}<|start_of_role|>system<|end_of_role|>Today's Date: "
        "{{ strftime_now('%B %d, %Y') }}.<|end_of_text|>\n{% endif %}{% for m in messages %}<|start_of_role|>"
        "{{ m['role'] }}<|end_of_role|>{{ m['content'] }}<|end_of_text|>\n{% endfor %}{% if add_generation_prompt %}"
        "<|start_of_role|>assistant<|end_of_role|>{% endif %}"
    ),
    "gpt-oss": (
        "{% macro turn(role, channel, text) %}<|start|>{{ role }}{% if channel %}<|channel|>{{ channel }}{% endif %}"
        "<|message|>{{ text }}{% endmacro %}{{ turn('system', none, 'You are ChatGPT.') }}<|end|>"
        "{% for m in messages %}"
        "{% if m.role in ['system', 'developer'] %}{{ turn('developer', none, '# Instructions\n\n' + m.content) }}"
        "<|end|>{% elif m.role == 'assistant' %}{{ turn('assistant', 'final', m.content) }}<|return|>"
        "{% else %}{{ turn(m.role, none, m.content) }}<|end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
    ),
    "parts": (
        "{% for m in messages %}<|im_start|>{{ m['role'] | capitalize }}{% if m['content'][0]['type'] == 'image' %}:"
        "{% else %}: {% endif %}{% for part in m['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
        "{% endif %}{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
    ),
}

Mutation = Callable[[str, random.Random], str]


def _cut(source: str, rng: random.Random) -> str:
    return source[: rng.randrange(1, len(source))]


def _without_a_tag(source: str, rng: random.Random) -> str:
    tags = [at for at in range(len(source)) if source.startswith("{%", at)]
    if not tags:
        return source[1:]
    at = rng.choice(tags)
    return source[:at] + source[source.index("%}", at) + 2 :]


def _flipped(source: str, rng: random.Random) -> str:
    letters = list(source)
    for _ in range(rng.randrange(1, 6)):
        letters[rng.randrange(len(letters))] = rng.choice("{}%'\"()[]|abc \n\x00é数")
    return "".join(letters)


def _shuffled_tags(source: str, rng: random.Random) -> str:
    parts = source.split("{% endif %}")
    rng.shuffle(parts)
    return "{% endif %}".join(parts)


def _fixed(*texts: str) -> Mutation:
    return lambda source, rng: rng.choice(texts)


def _appended(*texts: str) -> Mutation:
    return lambda source, rng: source + rng.choice(texts)


MUTATIONS: dict[str, Mutation] = {
    "as it is": lambda source, rng: source,
    "cut off": _cut,
    "a tag missing": _without_a_tag,
    "characters changed": _flipped,
    "branches shuffled": _shuffled_tags,
    "other quotes": lambda source, rng: source.replace("'", rng.choice(["’", '"', ""])),
    "other braces": lambda source, rng: source.replace("{%", rng.choice(["{{", "{", "{#"])),
    "no texts": lambda source, rng: source.replace("content", rng.choice(["contents", "text", "value"])),
    "no roles": lambda source, rng: source.replace("role", rng.choice(["from", "speaker", "name"])),
    "undefined names": lambda source, rng: source.replace("messages", rng.choice(["history", "message", "xs"])),
    "only one role": lambda source, rng: source.replace("user", rng.choice(["human", "assistant", "system"])),
    "wrong types": lambda source, rng: source.replace(
        "['content']", rng.choice(["['content'] + 1", "['content'][0]", "['content'].items()"])
    ),
    "always raises": _appended(
        "{{ raise_exception('no') }}", "{{ raise_exception() }}", "{{ 1 / 0 }}", "{{ none.x.y }}"
    ),
    "blanks only": _fixed(" ", "\n\n", "\t", "{# nothing #}", "{% if false %}x{% endif %}"),
    "plain text": _fixed("Answer the question.", "<|im_start|>assistant\n", "{{ bos_token }}", "{{ eos_token }}", "}}"),
    "no end": _appended(
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(70) }}",
        "{% set r = range(9999) %}{% for a in r %}{% for b in r %}{% for c in r %}{% endfor %}{% endfor %}{% endfor %}",
    ),
    "no bounds": _appended(
        "{{ 'x' * 99999999999 }}",
        "{{ 2 ** 9999999999 }}",
        "{{ 'x' | center(99999999999) }}",
        "{{ range(10 ** 12) | list }}",
        "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(999) %}xxxxxxxxxxxxxxxx{% endfor %}{% endfor %}",
    ),
    "deeply nested": lambda source, rng: "{% if true %}" * rng.choice([50, 400, 5000]) + source,
    "recursive": _appended(
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{% block a %}{{ self.a() }}{% endblock %}"
    ),
    "out of the sandbox": _appended(
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(messages) }}",
        "{% include '/etc/passwd' %}",
        "{{ cycler.__init__.__globals__.os.system('false') }}",
        "{% import 'os' as os %}",
        "{{ raise_exception.__globals__ }}",
    ),
    "time": _appended("{{ strftime_now('%Y-%m-%d %H:%M:%S') }}", "{{ strftime_now(3) }}", "{{ strftime_now('%') }}"),
    "texts twice": lambda source, rng: source.replace("['content']", "['content'] * 2"),
    "huge": lambda source, rng: source + "{# " + "x" * 2_000_000 + " #}",
    "odd characters": _appended("\ue000\uf8ff", "\ufeff", "\u2028", "数" * 100),
}  # fmt: skip

PROMPTS: tuple[object, ...] = (
    [{"role": "user", "content": "wait"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "wait"}],
    [{"role": "user", "content": "wait"}, {"role": "assistant", "content": "so"}, {"role": "user", "content": "now"}],
    [{"role": "user", "content": "wait"}, {"role": "assistant", "content": "so"}],
    [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "<|im_end|></think>"}],
    [{"role": "user", "content": "wait"}, {"role": "tool", "content": "12"}],
)


_WORDS = ("--file", "prompts.jsonl", "--max-tokens", "3", "--seed", "1", "--proposals", "0", "--quiet")
_ON_THE_LEADER = 0.7


def cases(rng: random.Random, folder: Path, long: bool) -> Iterator[Case]:
    """Their models in the folder: every mutation in turn, each of a family that is drawn."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
    from real import tiny_gguf

    sound = tiny_gguf.write_llama(folder / "sound.gguf", seed=1, chat_template=FAMILIES["chatml"])
    prompts = "".join(json.dumps({"messages": prompt}) + "\n" for prompt in PROMPTS).encode()
    for i in range(N_LONG if long else N_SHORT):
        how = list(MUTATIONS)[i % len(MUTATIONS)]
        family = rng.choice(list(FAMILIES))
        source = MUTATIONS[how](FAMILIES[family], rng)
        broken = tiny_gguf.write_llama(folder / f"template-{i}.gguf", seed=2, chat_template=source)
        roles = ("--leader", "--draft") if rng.random() < _ON_THE_LEADER else ("--draft", "--leader")
        command = ("gen", roles[0], "broken.gguf", roles[1], "sound.gguf", *_WORDS)
        files = {"broken.gguf": broken, "sound.gguf": sound, "prompts.jsonl": prompts}
        yield Case(f"{i} {family}, {how}", command, files)
