"""Text as conversations with agents hold it: markdown, results of tools in JSON, and code.

All is drawn from seeds, so the same seed makes the same text in every process. Words are English
ones drawn by Zipf's law around a topic, numbers and ids are random: neither letters without
meaning, which compress too badly, nor the same sentences over and over, which compress too well.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, NamedTuple

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata

if TYPE_CHECKING:
    from collections.abc import Callable

_WORDS = (
    "the of and to a in is that for it as was with be by on not he his but at are this have "
    "from or had an they which one you were all her she there would their we him been has when "
    "who will no more if out so up said what its about than into them can only other time new "
    "some could these two may first then do any like my now over such our man me even most made "
    "after also did many off before must well back through years where much your way down "
    "should because long each just state those people too mister how little good world make "
    "very year still see own work men day get here between both being under three never know "
    "same last another while us might great old since against go came right used take states "
    "himself few house use place request response server client error index table column value "
    "record field update delete insert select query result cache memory thread process lock "
    "queue message token model agent graph node edge step checkpoint branch merge commit "
    "release version build test deploy rollback customer order invoice payment refund account "
    "address shipment product price discount tax report summary analysis estimate forecast "
    "budget revenue cost margin quarter region market weather temperature rainfall wind harbour "
    "ferry mountain valley river bridge station railway museum ticket reservation breakfast "
    "kitchen garden window engine battery sensor signal filter measure sample average median "
    "variance threshold window latency throughput capacity timeout retry backoff schedule "
    "interval deadline priority owner group permission secret certificate encryption signature "
    "backup restore archive snapshot replica shard partition leader follower patient diagnosis "
    "treatment dosage appointment insurance contract clause party liability warranty delivery "
    "supplier warehouse inventory forecasted upgrade migration schema constraint transaction "
    "isolation consistency availability durability compaction garbage allocation buffer stream "
    "event handler callback promise future iterator generator decorator annotation interface "
    "argument parameter variable constant expression statement function method attribute "
    "property carefully quickly usually rarely probably certainly however therefore meanwhile "
    "otherwise although unless whether despite instead already perhaps together almost enough "
    "several consider compare explain describe suggest recommend require provide include "
    "contain follow increase decrease improve reduce avoid prevent allow support check verify "
    "confirm reject accept choose decide expect observe remember forget begin continue finish "
    "remain become simple complex small large early late fast slow cheap expensive important "
    "necessary possible local global public private internal external primary secondary "
    "temporary permanent current previous following original final complete partial empty valid "
    "invalid stable available "
)
WORDS = _WORDS.split()
VERBS = ("get", "load", "find", "make", "parse", "check", "update", "fetch", "build", "merge")
NOUNS = ("order", "record", "value", "index", "token", "table", "report", "client", "event", "page")
TOOLS = {
    "search_documents": ("query", "limit", "language"),
    "get_order_status": ("order_id", "include_history"),
    "query_database": ("sql", "timeout_seconds"),
    "read_file": ("path", "start_line", "end_line"),
}


class Kind(NamedTuple):
    """One kind of text."""

    name: str
    make: Callable[[random.Random], str]


def prose(source: random.Random, words: int) -> str:
    """Make sentences of English words; each text has a topic, whose words come again."""
    topic = source.sample(WORDS[150:], 12)
    weights = [1 / (rank + 8) for rank in range(len(WORDS))]
    sentences: list[str] = []
    left = words
    while left > 0:
        count = source.randint(6, 22)
        chosen = [
            source.choice(topic) if source.random() < 0.15 else word
            for word in source.choices(WORDS, weights, k=count)
        ]
        if source.random() < 0.3:
            chosen.insert(count // 2, f"{source.randint(2, 9999):,}")
        if source.random() < 0.4:
            chosen[count // 3] += ","
        sentences.append(" ".join(chosen).capitalize() + source.choice("...?:"))
        left -= count
    return " ".join(sentences)


def question(source: random.Random) -> str:
    """Make what a person asks."""
    return prose(source, source.randint(8, 60))


def markdown(source: random.Random) -> str:
    """Make an answer of a model: headings, lists, a table, here and there a piece of code."""
    parts = [prose(source, source.randint(20, 60))]
    for _ in range(source.randint(0, 3)):
        form = source.random()
        if form < 0.35:
            lines = (
                f"- **{source.choice(WORDS[150:])}**: {prose(source, source.randint(6, 14))}"
                for _ in range(source.randint(2, 5))
            )
            parts.append("\n".join(lines))
        elif form < 0.55:
            heading = " ".join(source.sample(WORDS[150:], 3)).capitalize()
            parts.append(f"## {heading}\n\n{prose(source, source.randint(20, 50))}")
        elif form < 0.75:
            columns = source.sample(WORDS[150:], 3)
            rows = [
                [source.choice(WORDS), str(source.randint(1, 10_000)), f"{source.random():.2%}"]
                for _ in range(source.randint(2, 6))
            ]
            table = [columns, ["---"] * 3, *rows]
            parts.append("\n".join(f"| {' | '.join(row)} |" for row in table))
        else:
            parts.append(f"```python\n{code(source, 1)}\n```")
    return "\n\n".join(parts)


def tool_result(source: random.Random) -> str:
    """Make what a tool returns: JSON with ids, times, numbers and pieces of text."""
    form = source.choice(list(TOOLS))
    if form == "search_documents":
        hits = [
            {
                "id": f"doc_{source.getrandbits(48):012x}",
                "score": round(source.random(), 4),
                "title": prose(source, 5),
                "url": f"https://example.com/{source.choice(WORDS)}/{source.randint(1, 99999)}",
                "snippet": prose(source, source.randint(12, 40)),
            }
            for _ in range(source.randint(1, 5))
        ]
        return json.dumps({"query": prose(source, 6), "total": len(hits), "results": hits})
    if form == "get_order_status":
        events = [
            {
                "timestamp": _time(source),
                "status": source.choice(["created", "paid", "packed", "shipped", "delivered"]),
                "location": source.choice(WORDS[150:]).title(),
            }
            for _ in range(source.randint(1, 5))
        ]
        order = {
            "order_id": f"ORD-{source.randint(100_000, 999_999)}",
            "customer": {"id": source.randint(1, 10**6), "tier": source.choice(["gold", "basic"])},
            "items": [
                {"sku": f"{source.getrandbits(32):08X}", "quantity": source.randint(1, 9),
                 "unit_price": round(source.random() * 200, 2), "currency": "EUR"}
                for _ in range(source.randint(1, 4))
            ],
            "history": events,
            "estimated_delivery": _time(source)[:10],
        }  # fmt: skip
        return json.dumps(order)
    if form == "query_database":
        rows = [
            {"id": source.randint(1, 10**6), "name": source.choice(WORDS[100:]),
             "created_at": _time(source), "amount": round(source.random() * 1000, 2),
             "active": source.random() < 0.5}
            for _ in range(source.randint(1, 12))
        ]  # fmt: skip
        return json.dumps(
            {"rows": rows, "row_count": len(rows), "elapsed_ms": source.random() * 50}
        )
    return code(source, source.randint(1, 3))


def code(source: random.Random, functions: int | None = None) -> str:
    """Make Python: functions with docstrings, conditions, loops and errors."""
    made = []
    for _ in range(functions or source.randint(1, 4)):
        verb, noun = source.choice(VERBS), source.choice(NOUNS)
        other, field = source.choice(NOUNS), source.choice(WORDS[150:])
        body = [
            f"def {verb}_{noun}(self, {other}_id: str, limit: int = {source.randint(1, 500)}) -> "
            f"{source.choice(['None', 'dict[str, Any]', 'list[str]', 'int | None'])}:",
            f'    """{prose(source, 8)}"""',
            f"    {noun} = self._{other}s.get({other}_id)",
        ]
        if source.random() < 0.6:
            why = f"{prose(source, 6)} {{{other}_id!r}}"
            body += [f"    if {noun} is None:", f'        raise ValueError(f"{why}")']
        if source.random() < 0.6:
            body += [f"    for {field} in {noun}.{field}s[:limit]:",
                     f"        if {field}.{source.choice(WORDS[150:])} > {source.randint(0, 99)}:",
                     f"            self._logger.info({prose(source, 4)!r}, {field})",
                     "            continue",
                     f"        results.append({field})"]  # fmt: skip
        if source.random() < 0.3:
            body += ["    try:", f"        return self.{source.choice(VERBS)}_{field}({noun})",
                     f"    except KeyError as error:  # {prose(source, 6)}",
                     "        raise RuntimeError(str(error)) from error"]  # fmt: skip
        made.append("\n".join([*body, "    return results"]))
    return "\n\n".join(made)


def _time(source: random.Random) -> str:
    return (
        f"2026-{source.randint(1, 12):02}-{source.randint(1, 28):02}T{source.randint(0, 23):02}:"
        f"{source.randint(0, 59):02}:{source.randint(0, 59):02}.{source.randint(0, 999):03}Z"
    )


KINDS = (
    Kind("questions", question),
    Kind("markdown", markdown),
    Kind("tool results", tool_result),
    Kind("code", code),
)


def conversation(seed: str, turns: int) -> list[AnyMessage]:
    """Make the messages of one conversation: a question, a tool's call and result, an answer."""
    source = random.Random(seed)
    messages: list[AnyMessage] = []
    for _ in range(turns):
        tool, arguments = source.choice(list(TOOLS.items()))
        call = f"call_{source.getrandbits(96):024x}"
        values = {name: prose(source, 4) for name in arguments}
        read, written = source.randint(100, 20_000), source.randint(9, 900)
        usage = UsageMetadata(input_tokens=read, output_tokens=written, total_tokens=read + written)
        model = {
            "model_name": "a-model-2026-06",
            "finish_reason": "stop",
            "service_tier": "default",
        }
        messages += [
            HumanMessage(question(source), id=_id(source)),
            AIMessage(
                "", id=f"run--{_id(source)}",
                tool_calls=[{"name": tool, "args": values, "id": call}],
                response_metadata={**model, "finish_reason": "tool_calls"},
                usage_metadata=usage,
            ),
            ToolMessage(tool_result(source), id=_id(source), name=tool, tool_call_id=call),
            AIMessage(
                code(source) if source.random() < 0.2 else markdown(source),
                id=f"run--{_id(source)}",
                response_metadata=model,
                usage_metadata=usage,
            ),
        ]  # fmt: skip
    return messages


def _id(source: random.Random) -> str:
    digits = f"{source.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
