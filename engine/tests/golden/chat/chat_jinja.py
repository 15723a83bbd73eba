#!/usr/bin/env python3
"""Make chat_jinja.json: what small templates give in Transformers' jinja2 environment, dates, floats.

One snippet for each thing that chat templates use and that another engine may do otherwise. A null stands where jinja2
raises an error. The same versions give the same file.
"""

import datetime
import json
import os
import pathlib
import re
from random import Random

os.environ["HF_HUB_OFFLINE"] = "1"

from transformers.utils.chat_template_utils import _compile_jinja_template

HERE = pathlib.Path(__file__).resolve().parent
CONTEXT = {
    "s": "  Hello, wörld 🙂\n",
    "t": "a,b,,c",
    "w": "\u001c\u0085\u00a0x\u3000\u200b\u001f",
    "quotes": "it's \"so\"",
    "think": "<think>\nhm\n</think>\n\nanswer</think>rest",
    "markup": "<b>&amp; 'x'</b>",
    "i": 7,
    "minus": -7,
    "big": 123456789012345678901234567890,
    "huge": 10**45 + 7,
    "f": 2.5,
    "whole": 3.0,
    "tiny": 1e-7,
    "small": 0.0001,
    "large": 1e16,
    "larger": 1.5e300,
    "zero": -0.0,
    "yes": True,
    "no": False,
    "nothing": None,
    "empty": "",
    "l": [1, "two", 3.0, None, True, [4, 5], {"k": "v"}],
    "numbers": [3, 1, 2],
    "words": ["pear", "Apple", "fig"],
    "blank": [],
    "d": {"b": 1, "a": [1, 2], "c": {"x": None, "y": 1e100}, "é": "ü\u2028\u007f\u0001/"},
    "schema": {"type": "object", "items": {"type": "string"}, "keys": 1, "get": 2, "properties": {"q": {"type": "string"}}},
    "messages": [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U1"},
        {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]},
        {"role": "tool", "content": "T", "name": "f"},
        {"role": "assistant", "content": "A2"},
        {"role": "user", "content": "U2"},
    ],
}
SNIPPETS = r"""
{{ yes }} {{ no }} {{ nothing }} {{ i }} {{ minus }} {{ f }} {{ whole }} {{ big }}
{{ huge }}|{{ huge|tojson }}|{{ [huge] }}|{{ huge|string }}|{{ huge is number }}
{{ tiny }} {{ small }} {{ large }} {{ larger }} {{ zero }} {{ 1e3 }} {{ 0.1 + 0.2 }} {{ 1/3 }}
{{ [tiny, large, whole, zero] }} {{ {'a': tiny} }}
{{ tiny ~ '' }} {{ large ~ '' }} {{ whole ~ '' }} {{ yes ~ nothing ~ i }} {{ l }} {{ d }} {{ l ~ '' }} {{ d.c ~ '' }}
{{ quotes }} {{ [quotes] }} {{ ["it's"] }} {{ ['"'] }} {{ (1, 2) }} {{ (1,) }} {{ () }} {{ [] }} {{ {} }}
{{ missing }}|{{ [missing] }}|{{ missing.x is defined }} {{ missing.x.y }}
{{ missing }}|{{ missing|length }}|{{ missing|trim }}|{{ missing|list }}|{{ missing or 'x' }}|{{ missing is none }}|{{ missing == missing }}
{{ nothing|trim }}|{{ i|trim }}|{{ f|upper }}|{{ yes|lower }}
{{ nothing.x }}|{{ nothing.x is defined }}|{{ s.nope is defined }}|{{ i.nope is defined }}
{{ nothing['x'] is defined }} {{ missing + 'a' }} {{ 'a' + missing }} {{ 'a' + nothing }} {{ 'a' + 1 }}
{{ 'a' ~ 1 ~ nothing ~ missing }}
{{ messages[99] is defined }} {{ messages[-1].role }} {{ messages[-9] is defined }} {{ s[2] }} {{ s[-2] }} {{ s[99] is defined }}
{{ messages[99].role }}
{% for x in missing %}x{% else %}none{% endfor %}
{{ 'x' in missing }} {{ 'x' in nothing }}
{{ 'wör' in s }} {{ 'role' in messages[0] }} {{ 1 in numbers }} {{ 'z' not in d }} {{ nothing not in l }} {{ true in l }}
{{ s|tojson }} {{ d|tojson }} {{ l|tojson }} {{ markup|tojson }} {{ d|tojson(indent=4) }}
{{ d|tojson(indent=2, ensure_ascii=False) }} {{ d|tojson(ensure_ascii=true) }} {{ d|tojson(sort_keys=true) }}
{{ d|tojson(separators=(',', ':')) }} {{ d|tojson(separators=(',', ':'), indent=1) }} {{ d|tojson(indent='--') }}
{{ d|tojson(indent=0) }} {{ [[], {}, [[]], {'a': {}}]|tojson(indent=2) }}
{{ [tiny, large, whole, zero, larger, small, i, big, yes, nothing]|tojson }}
{{ {1: 2, true: 3, none: 4, 2.5: 1}|tojson }} {{ missing|tojson }}
{{ messages[2].tool_calls[0].function.arguments|tojson }} {{ messages|map(attribute='role')|list|tojson }}
{{ messages[1:3]|tojson }}
{{ s|trim }}|{{ s.strip() }}|{{ s.lstrip() }}|{{ s.rstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'xyaxy'.rstrip('yx') }}
{{ w|trim|tojson }} {{ w.strip()|tojson }} {{ w.split()|tojson }} {{ w.lstrip()|tojson }} {{ w.rstrip()|tojson }}
{{ 'xxaxx'|trim('x') }}|{{ '  a '|trim(chars=' ') }}
{{ t.split(',') }} {{ t.split(',', 1) }} {{ s.split() }} {{ 'a  b '.split(' ') }} {{ t.rsplit(',', 1) }} {{ t.split(',')[-1] }}
{{ t.split(sep=',', maxsplit=1) }}
{{ think.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') }}|{{ think.split('</think>')[-1].lstrip('\n') }}
{{ t.partition('z') }} {{ t.rpartition('z') }} {{ t.partition(',') }} {{ 'a  b c '.rsplit(none, 1) }} {{ ' a b c'.split(none, 1) }}
{{ think.split('</think>', 1)[1] }}|{{ think.partition('</think>')[2] }}|{{ think.rpartition('</think>')[0] }}
{{ s.startswith('  H') }} {{ s.endswith('\n') }} {{ s.startswith(('x', ' ')) }}
{{ s.upper() }} {{ s.lower() }} {{ 'hello wORLD it\'s'.title() }} {{ 'hELLO'.capitalize() }} {{ 'ß'.upper() }} {{ 'İ'.lower() }}
{{ 'hello wORLD it\'s'|title }} {{ 'hELLO'|capitalize }}
{{ t.replace(',', ';') }} {{ t.replace(',', ';', 1) }} {{ 'ab'.replace('', '-') }} {{ t|replace(',', ';') }} {{ t|replace(',', ';', 2) }}
{{ t.find('b') }} {{ t.find('zz') }} {{ t.rfind(',') }} {{ t.count(',') }} {{ t.index('b') }} {{ 'wörld'.find('l') }}
{{ t.index('z') }} {{ 'a-b'.removeprefix('a') }} {{ 'a-b'.removesuffix('b') }}
{{ 'abc'.isalpha() }} {{ '12'.isdigit() }} {{ '²'.isdigit() }} {{ '½'.isnumeric() }} {{ ' '.isspace() }} {{ 'a1'.isalnum() }} {{ 'Ab'.islower() }} {{ 'AB'.isupper() }}
{{ 'a\nb\r\nc\u2028d\x0be'.splitlines() }} {{ 'a\nb\n'.splitlines(true) }} {{ ''.splitlines() }}
{{ ', '.join(words) }} {{ words|join(', ') }} {{ numbers|join }} {{ messages|join(',', attribute='role') }} {{ [1.5, none, true]|join('-') }}
{{ 'x{}y{}'.format(1, 'b') }} {{ '{0}-{1}-{0}'.format('a', 'b') }} {{ '{:>5}|{:.2f}'.format('a', 2.345) }} {{ '{a}'.format(a=1) }}
{{ '%s-%d'|format('a', 3) }} {{ '%.2f'|format(2.345) }} {{ '%05d'|format(42) }}
{{ d.items()|list }} {{ d.keys()|list }} {{ d.values()|list }} {{ d.get('a') }} {{ d.get('zz') }} {{ d.get('zz', 5) }}
{{ d|items|list }} {{ d|list }} {{ d|length }} {{ d|dictsort }}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}
{% for k, v in d|items %}{{ k }}={{ v }};{% endfor %}
{% for k in d %}{{ k }}{% endfor %}
{% for k, v in d|dictsort(reverse=true) %}{{ k }}{% endfor %}
{{ schema['items'] }} {{ schema['keys'] }} {{ schema['get'] }} {{ schema.type }} {{ schema.items is defined }}
{{ d.nope is defined }} {{ d.b }} {{ d['b'] }} {{ d.c.x }}
{{ messages[::-1]|map(attribute='role')|join(',') }} {{ messages[1:-1]|length }} {{ numbers[::-1] }} {{ numbers[:2] }} {{ numbers[-2:] }} {{ s[::-1] }} {{ s[2:7] }} {{ numbers[::2] }} {{ numbers[5:] }} {{ numbers[2:0:-1] }}
{{ blank[0:1] }} {{ 'abc'[1:] }} {{ 'abc'[:-1] }} {{ 'abc'[5:] }}
{{ s is string }} {{ i is string }} {{ i is number }} {{ yes is number }} {{ yes is boolean }} {{ f is float }} {{ i is integer }} {{ yes is integer }} {{ nothing is none }} {{ l is sequence }} {{ s is sequence }} {{ d is sequence }} {{ d is mapping }} {{ l is mapping }} {{ s is iterable }} {{ l is iterable }} {{ i is iterable }} {{ d is iterable }} {{ nothing is iterable }} {{ missing is iterable }} {{ missing is sequence }} {{ missing is string }}
{{ i is odd }} {{ i is even }} {{ i is divisibleby 7 }} {{ i is divisibleby(2) }} {{ yes is true }} {{ no is false }} {{ 1 is true }} {{ yes is sameas true }} {{ 1 is sameas true }} {{ none is none }}
{{ i is eq 7 }} {{ i is equalto 8 }} {{ i is gt 3 }} {{ i is in numbers }} {{ i is lt 9 }} {{ i is ne 7 }} {{ i is ge 7 }} {{ 'a' is in 'abc' }}
{{ 'abc' is lower }} {{ 'ABC' is upper }} {{ raise_exception is callable }} {{ i is callable }} {{ s is escaped }} {{ 'trim' is filter }} {{ 'defined' is test }}
{{ raise_exception is defined }} {{ strftime_now is defined }} {{ namespace is defined }} {{ range is defined }} {{ nope is defined }} {{ nope is not defined }}
{{ not nope is defined }} {{ not yes and no }} {{ not (yes and no) }} {{ yes and 'x' or 'y' }} {{ empty or nothing }} {{ empty and 1 }}
{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 6 / 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 7.5 // 2 }} {{ 2 * 3 + 4 }} {{ 2 + 3 * 4 }} {{ (2 + 3) * 4 }} {{ -i }}
{{ 1 / 0 }} {{ 'ab' * 3 }} {{ [1] * 2 }} {{ [1] + [2] }} {{ numbers + ['x'] }} {{ 3 * 'a' }}
{{ 1 < 2 < 3 }} {{ 3 > 2 > 2 }} {{ 1 == 1.0 }} {{ true == 1 }} {{ 'a' == 'a' }} {{ 'a' != 'b' }} {{ [1] == [1] }} {{ {'a': 1} == {'a': 1} }} {{ nothing == no }} {{ 'a' < 'b' }} {{ (loop is defined) }}
{{ 'x' if yes }}|{{ 'x' if no }}|{{ 'x' if no else 'y' }}|{{ ('x' if no) is defined }} {{ 'a' 'b' "c" }}
{{ '\x41\u00e9\n\t\\ \' \" \/ \d \101 \0' }} {{ '\U0001F600 \r\a\b\f\v'|tojson }} {{ 'tab	in' }}
{{ 0x1F }} {{ 0b11 }} {{ 0o17 }} {{ 1.5e3 }} {{ 1E2 }} {{ 10.0 }}
{{ words|first }} {{ words|last }} {{ words|length }} {{ words|count }} {{ words|reverse|list }} {{ 'abc'|reverse }} {{ (blank|first) is defined }} {{ s|first }} {{ 'abc'|last }}
{{ words|sort }} {{ words|sort(case_sensitive=true) }} {{ words|sort(reverse=true) }} {{ numbers|sort }} {{ messages|sort(attribute='role')|map(attribute='role')|list }} {{ numbers|max }} {{ numbers|min }} {{ numbers|sum }} {{ words|unique|list }}
{{ words|upper }}
{{ words|map('upper')|list }} {{ words|map('replace', 'p', 'q')|list }} {{ messages|map(attribute='name', default='-')|list }} {{ messages|map('length')|list }}
{{ messages|selectattr('role', 'equalto', 'user')|list|length }} {{ messages|selectattr('name')|list|length }} {{ messages|rejectattr('role', 'equalto', 'user')|map(attribute='role')|list }} {{ messages|selectattr('name', 'defined')|list|length }} {{ messages|selectattr('role', 'in', ['user', 'tool'])|list|length }}
{{ numbers|select('odd')|list }} {{ numbers|reject('odd')|list }} {{ numbers|select('>', 1)|list }} {{ l|select|list }} {{ [0, 1, '']|reject|list }} {{ ['a', 'b']|reject('equalto', 'a')|join(', ') }}
{{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|join('|') }}
{{ messages|selectattr("role", "==", "assistant")|selectattr('content', 'none')|list|length }}
{{ s|length }} {{ '🙂'|length }} {{ numbers|string }} {{ i|string + 'x' }} {{ '5'|int + 1 }} {{ 'x'|int }} {{ 'x'|int(9) }} {{ '2.5'|float }} {{ 2.7|int }} {{ '0x1f'|int(0, 16) }} {{ 2.5|round }} {{ 2.567|round(2) }} {{ 2.1|round(0, 'ceil') }} {{ -3|abs }} {{ nothing|int }} {{ nothing|string }} {{ yes|int }}
{{ 7|round }} {{ 3.5|round }} {{ 1234567.891|round(1) }} {{ '3'|float }} {{ 1e20|int }}
{{ nothing|default('x') }} {{ missing|default('x') }} {{ missing|d('x') }} {{ empty|default('x', true) }} {{ nothing|default('x', boolean=true) }} {{ d.zz|default([]) }}
{{ markup|escape }} {{ markup|e }} {{ markup|safe }} {{ (markup|safe) ~ '<' }} {{ markup|forceescape }}
{{ 'a\nb\n\nc'|indent }} {{ 'a\nb'|indent(2, true) }} {{ 'a\n\nb'|indent(width=2, first=False, blank=true) }}
{{ numbers|batch(2)|list }} {{ numbers|slice(2)|list }} {{ messages|groupby('role')|map(attribute='grouper')|list }} {{ [1, 2]|list }} {{ 'ab'|list }}
{{ 'é'|upper }}
{% set ns = namespace(a=1, b=none) %}{% for x in numbers %}{% set ns.a = ns.a + x %}{% endfor %}{{ ns.a }} {{ ns.b }} {{ ns.c is defined }}
{% set x = 1 %}{% for y in numbers %}{% set x = x + y %}{{ x }}{% endfor %}{{ x }}
{% set x = 1 %}{% if yes %}{% set x = 2 %}{% endif %}{{ x }}
{% set a, b = 1, 2 %}{{ a }}{{ b }} {% set (c, e) = (3, 4) %}{{ c }}{{ e }}
{% set x %}<{{ i }}>{% endset %}{{ x }} {{ x is string }} {% set x | upper %}abc{% endset %}{{ x }}
{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}
{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.revindex }}{{ loop.length }} {% endfor %}
{% for m in messages if m.role == 'user' %}{{ loop.index }}{{ m.content }}{{ loop.last }} {% else %}none{% endfor %}
{% for m in messages %}{{ loop.previtem.role if loop.previtem is defined }}>{{ loop.nextitem.role if not loop.last }};{% endfor %}
{% for m in messages %}{{ loop.cycle('a', 'b') }}{{ loop.changed(m.role) }}{{ loop.depth }}{% endfor %}
{% for m in messages %}{% if loop.index == 2 %}{% continue %}{% endif %}{% if loop.index == 4 %}{% break %}{% endif %}{{ m.role }} {% endfor %}
{% for x in [1, [2, [3]]] recursive %}{% if x is number %}{{ x }}{% else %}({{ loop(x) }}){% endif %}{% endfor %}
{% for x in numbers %}{% for y in numbers %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}
{% for x in range(3) %}{{ x }}{% endfor %} {% for x in range(5, 0, -2) %}{{ x }}{% endfor %} {{ range(3)|list }} {{ range(2, 4)|list }} {{ range(3)|length }}
{% for a, b in [(1, 2), [3, 4]] %}{{ a }}{{ b }}{% endfor %}
{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}
{% macro f(a, b='x', c=none) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ f(1) }}{{ f(1, c=2) }}{{ f(b=3, a=4) }}{{ f() }}
{% macro f(a) -%}{%- if a > 0 %}{{ a }}{{ f(a - 1) }}{%- endif %}{%- endmacro %}{{ f(3) }}
{% macro f() %}{{ caller('x') }}!{% endmacro %}{% call(y) f() %}<{{ y }}{{ i }}>{% endcall %}
{% macro f(x) %}{% set i = 1 %}{{ x }}{{ i }}{{ messages|length }}{% endmacro %}{{ f(i) }}{{ i }} {{ f(2)|upper }} {{ f(1) + 'x' }} {{ f(1) is string }} {{ f(1) == '116' }}
{% macro f() %}  a  {% endmacro %}{{ f()|trim }}|{{ f().strip() }}|
{% filter upper %}abc{{ t }}{% endfilter %}
{% raw %}{{ x }}{% endraw %}
{# comment #}a{#- c -#} b
{% if no %}a{% elif yes %}b{% else %}c{% endif %}
{%- if yes -%}   a   {%- endif -%}   b
a {%- if yes %} b {% endif -%} c
a {%+ if yes %} b {%+ endif %} c
{% if nothing %}a{% elif none %}b{% elif d %}c{% endif %}{% if not none %}d{% endif %}{% if whole %}e{% endif %}{% if 0 %}f{% endif %}{% if zero %}g{% endif %}{% if ' ' %}h{% endif %}
{{ raise_exception('no') }} {{ nope() }} {{ s|nope }} {{ s is nope }} {{ s.nope() }} {{ i.strip() }}
{{ nothing.strip() }} {{ messages.append(1) }} {{ d.update({'x': 1}) }} {{ d.__class__ }} {{ ''.__class__.__mro__ }}
{{ dict(a=1, b='x') }} {{ dict(d, z=1)|length }} {{ dict is defined }} {{ caller is defined }} {{ loop is defined }}
{{ numbers.index(1) }} {{ numbers.count(1) }} {{ words.index('fig') }}
{{ messages|map(attribute='content')|select('string')|list }}
{{ messages[2]['tool_calls'][0]['function']['name'] }} {{ messages[2].tool_calls[0].function.arguments.items()|list }} {{ 'tool_calls' in messages[2] }} {{ messages[0].tool_calls is defined }} {{ messages[0].tool_calls }} {{ not messages[0].tool_calls }}
{{ messages|length - 1 }} {{ (messages|length - 1) - 0 }} {{ messages|last }} {{ (messages|selectattr('role', 'equalto', 'user')|list)[-1].content }} {{ (messages|first).role }}
{{ d.c.y }} {{ d['c']['x'] is none }} {{ d['zz'] is defined }} {{ d['zz']['y'] is defined }}
{{ '' if nothing is none else nothing }}{{ i if i is not none }}
{{ s if s is string else '' }}{{ 'a' + ('b' if yes else 'c') + 'd' }}
{{ {'a': 1, 'b': [1, 2]}['b'][0] }} {{ {'a': 1}.a }} {{ [1, 2, 3][1] }} {{ {'a': none}.get('a', 1) }} {{ {"x": true}|tojson }}
{{ [1, 2, 3,] }} {{ {'a': 1,} }} {{ f(1,) if f is callable }} {{ [x for x in numbers] }} {{ lambda }}
{% include 'x' %}
{% nope %}
{{ 1 +
{% for x in numbers %}
{{ 'unclosed }}
{{ 'a'|upper|lower ~ 'B' + 'c' }} {{ 'a' + 'b'|upper }} {{ -1|abs }} {{ (-1)|abs }} {{ 'x' ~ 1 + 2 }} {{ 1 + 2 ~ 'x' }} {{ not 'a' in 'b' }} {{ 1 + 1 == 2 }} {{ 'a' in 'abc' and 'b' in 'abc' }}
{{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ 10 - 3 - 2 }} {{ 2 * 3 % 4 }} {{ 'a' ~ 'b' * 2 }}
{{ i == 7 and 'a' or 'b' }} {{ i != 7 }} {{ (i > 3) ~ '' }} {{ i >= 7 and i <= 7 }}
{{ strftime_now is callable }} {{ strftime_now('literal') }}
{{ True }} {{ False }} {{ None }} {{ true }} {{ false }} {{ none is iterable }}
{{ '\n' in s }} {{ '\\n' }} {{ "\"" }} {{ '\t|' }}
{{ words|map('length')|sum }} {{ words|map('first')|join }} {{ [[1, 2], [3]]|map('join', '+')|list }} {{ [[1, 2], [3]]|sum(start=[]) }} {{ ['b', 'a']|sort|first }}
{{ numbers|tojson|length }} {{ d|tojson is string }} {{ (d|tojson)[0] }} {{ d|tojson|replace('"', "'") }} {{ ('a' ~ d|tojson)|length }}
{{ d.items()|first|first }} {{ d.keys()|first }} {{ d.values()|first }} {{ (d.keys()|list)[0] }} {{ 'b' in d.keys() }} {{ d.items()|length }} {{ d.keys()|join(',') }}
{{ loop }}
{{ 3.0 == 3 }} {{ 3.0|string }} {{ 3.0|int }} {{ '3.0' }} {{ 1e16|int }} {{ 123456789.123456789 }} {{ 5e-324 }} {{ 1.7976931348623157e308 }} {{ 100000.0 * 10 }} {{ 1e22 }} {{ 1e15 }} {{ 123456789012345680.0 }}
{{ 1e308 * 10 }} {{ -1e308 * 10 }} {{ [1e308 * 10]|tojson }}
{{ 9223372036854775807 + 1 }} {{ 2 ** 64 }} {{ 18446744073709551616 }} {{ -9223372036854775808 - 1 }} {{ 2 ** 100 }}
{% set x = {'a': 1} %}{% set _ = x.update({'b': 2}) %}{{ x }}
{% set x = [1] %}{% do x.append(2) %}{{ x }}
{% set ns.x = 1 %}
{% set x.y = 1 %}
{% for x in 'héy' %}{{ x }}.{% endfor %}{% for x in 5 %}{% endfor %}
{% for x in 'héy' %}{{ x }}.{% endfor %}
{{ messages[0].content.split('x')|length }} {{ (messages[0]).role[0] }} {{ messages[0]['role'][1:3] }} {{ 'S' == messages[0].content }}
{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set sys = messages[0]['content'] %}{% else %}{% set rest = messages %}{% endif %}{{ sys }}{% for m in rest %}{{ loop.index0 }}{{ m['role'] }}{% endfor %}{{ rest[0].role }}{{ rest|length }}{{ rest[-1].role }}{{ rest[1:]|length }}
{% for m in messages[::-1] %}{{ m.role[0] }}{% endfor %}{% for m in messages|reverse %}{{ m.role[0] }}{% endfor %}{% for m in (messages|reverse|list)[1:] %}{{ m.role[0] }}{% endfor %}
{% set last = messages|selectattr('role', 'equalto', 'user')|list|last %}{{ last.content }} {{ last == messages[5] }} {{ last == messages[-1] }} {{ messages[1] == messages[-1] }}
{% set a = messages|selectattr('role', 'equalto', 'user')|list %}{% for m in messages %}{{ m in a }}{% endfor %}
{{ '' | default('x', true) ~ 'y' }} {{ i | default(1) }} {{ missing is defined and missing.x }} {{ missing is undefined }} {{ missing is not none }}
{{ ['a'] is sequence and ['a'] is not string }} {{ {} is mapping }} {{ messages[1:] is sequence }} {{ messages[1:] is iterable }} {{ d.items() is iterable }} {{ messages|map(attribute='role') is iterable }} {{ range(3) is sequence }} {{ (1, 2) is sequence }}
{{ [1, 2] is eq [1, 2] }} {{ 'a' is eq('a') }} {{ (messages[0].role) is in(['system']) }} {{ i is not in numbers }} {{ i is not string }}
""".strip("\n")
LONGER = [
    "{% for m in messages %}\n  {% if m.role == 'user' %}\n{{ m.content }}\n  {% endif %}\n{% endfor %}\nend\n",
    "  {% if yes %}  \n  a\n  {% endif %}  \n\n",
    "a\n{# comment #}\nb\n  {# comment #}\nc {# x #}\nd\n  {#- y -#}  \ne",
    "a\n  {{ i }}\n  {{- i }}\n  {{ i -}}\n  b\n",
    "a\r\nb{% if yes %}\r\nc\r{% endif %}\r\n{{ 'x\r\ny' }}",
    "line\n\n",
    "line\n",
    "{{ i }}\n",
    "{% set x = 1 %}\n{% set y = 2 %}\n\n{{ x + y }}\n",
    "  {%- for x in numbers -%}\n    {{ x }}\n  {%- endfor -%}\n  tail",
    "{% macro f(x) %}\n  {{ x }}\n{% endmacro %}\n[{{ f(1) }}]",
    "{%- macro f(x) -%}\n  {{- x -}}\n{%- endmacro -%}\n[{{ f(1) }}]",
    "x {%+ if yes %}y{% endif +%}\nz",
    "\t{% if yes %}\ta\n\t{% endif %}\nb",
    "{% raw %}\n  {% x %}\n{% endraw %}\ny",
    "{{\n  i\n  +\n  1\n}}",
    "{%\n  if yes\n%}a{%\n  endif\n%}",
    "{% set x %}\n  a\n{% endset %}[{{ x }}]",
    "a{% for x in [] %}{% else %}\n  none\n{% endfor %}b",
    "{{ '{% x %}' }}{{ '{{' }}{{ '}}' }}{{ \"{# #}\" }}",
    "a }} b %} c #} d { e {",
    "{% for m in messages %}{% set role = m.role %}{% if loop.first %}{% set seen = role %}{% endif %}{{ seen is defined }}{% endfor %}{{ seen is defined }}",
    "{% set found = false %}{% for x in numbers %}{% if x == 1 %}{% set found = true %}{% endif %}{% endfor %}{{ found }}",
    "{% for x in numbers %}{% set ns = namespace(v=x) %}{% for y in numbers %}{% set ns.v = ns.v * y %}{% endfor %}{{ ns.v }} {% endfor %}",
    "{{ '中文' }}é{{ 'a\u2028b' }}\u00a0{%- if yes %} x{% endif %}",
    "a\u00a0 {%- if yes -%} \u00a0b\u2003{%- endif -%}\u3000 c",
    "{{ 'a'\n 'b' }}",
    '{{ "a\\\nb" }}',
]


MOMENTS = [0, 951_782_399, 951_782_400, 1_709_164_800, 1_735_603_200, 1_741_523_696, 4_107_542_399, -86_401]
FORMATS = ["%d %b %Y", "%Y-%m-%d", "%B %d, %Y", "%A %a %j %U %W %u %w", "%H:%M:%S %I %p %P", "%-d/%-m/%y %_d %e %k %l"]
FORMATS += ["%c|%x|%X|%D|%F|%T|%R|%r|%h|%C", "%Z%z%%%n%t", "100% %"]


def main() -> None:
    # Expressions that stand side by side are snippets of their own.
    parts = [re.split(r"(?<=\}\}) (?=\{\{)", line) if line.startswith("{{") else [line] for line in SNIPPETS.split("\n")]
    snippets = list(dict.fromkeys(part for line in parts for part in line)) + LONGER
    made = []
    for snippet in snippets:
        try:
            made.append([snippet, _compile_jinja_template(snippet).render(**CONTEXT)])
        except Exception:  # Whatever it is, the template does not render.
            made.append([snippet, None])
    rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in made)
    context = json.dumps(CONTEXT, ensure_ascii=False)
    moment = lambda seconds: datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    dates = [[seconds, format, moment(seconds).strftime(format)] for seconds in MOMENTS for format in FORMATS]
    dates = ",\n".join(json.dumps(row) for row in dates)
    # Among them numbers that lie between two texts of as many digits.
    random = Random(7)
    ties = [random.randrange(2**53) / 2 ** random.randrange(1, 40) for _ in range(150)]
    others = [random.random() * 10 ** random.randrange(-320, 308) for _ in range(100)]
    whole = [float(random.randrange(10 ** random.randrange(1, 25))) for _ in range(50)]
    floats = json.dumps([repr(number) for number in ties + others + whole + [5e-324, 1.7976931348623157e308, 1e15, 1e16, 1e22]])
    text = f'{{"context": {context},\n"snippets": [\n{rows}\n],\n"dates": [\n{dates}\n],\n"floats": {floats}}}\n'
    (HERE / "chat_jinja.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
