"""The viewer's pages on a store with all that a thread can have."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from tests.viewer_client import viewing

from langcairn import Checkpoint, CheckpointSaver, MemoryCheckpointStore
from langcairn.viewer.demo import CLAIM, REPORT, TRAIL, fill
from langcairn.viewer.viewing import url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langcairn import CheckpointStore


@pytest.fixture(scope="module")
def store() -> Iterator[CheckpointStore]:
    """A store that no test changes."""
    with MemoryCheckpointStore() as store:
        fill(store)
        yield store


async def test_threads_with_what_they_do(store: CheckpointStore) -> None:
    async with viewing(store) as client:
        page = await client.page("/")
    assert page.text.index(TRAIL) < page.text.index(REPORT) < page.text.index(CLAIM)
    assert page.tags["li"] == len(store.executions()) == 31
    assert page.classes.count("waiting") == 3  # row, dot and badge of one thread
    assert page.classes.count("failed") == 2
    assert "read-only" in page.text
    assert "31 checkpoints" in page.text


@pytest.mark.parametrize(
    ("sort", "first"), [("size", TRAIL), ("checkpoints", TRAIL), ("name", "ada"), ("recent", TRAIL)]
)
async def test_orders(store: CheckpointStore, sort: str, first: str) -> None:
    async with viewing(store) as client:
        page = await client.page(f"/?sort={sort}")
    assert page.link("/thread?").startswith(f"/thread?id={first}")


async def test_search(store: CheckpointStore) -> None:
    async with viewing(store) as client:
        page = await client.page("/?q=RePort")
        assert page.tags["li"] == 1
        assert "1 thread with" in page.text
        page = await client.page("/?q=%3Cb%3E")
        assert "No thread has “<b>” in its id" in page.text


async def test_pages_of_threads() -> None:
    async with MemoryCheckpointStore() as store:
        await store.asave_many(
            [Checkpoint(execution_id=f"t{n:03}", id="1", state={}) for n in range(120)]
        )
        async with viewing(store) as client:
            seen: list[str] = []
            path: str | None = "/?sort=name"
            while path:
                page = await client.page(path)
                seen += [link for link in page.links if link.startswith("/thread?")]
                path = page.related.get("next")
            assert seen == [f"/thread?id=t{n:03}" for n in range(120)]


async def test_empty_store() -> None:
    async with MemoryCheckpointStore() as store, viewing(store, title="memory:") as client:
        page = await client.page("/")
        assert "Nothing here yet" in page.text
        assert 'CheckpointSaver("memory:")' in page.text
        assert "Nothing is stored yet" in (await client.page("/storage")).text


async def test_timeline_with_branches(store: CheckpointStore) -> None:
    forks = store.forks(TRAIL)
    async with viewing(store) as client:
        page = await client.page(f"/thread?id={TRAIL}")
    steps = [link for link in page.links if "at=" in link and "tab=" not in link]
    assert len({link for link in steps if link.startswith("/thread?")}) == 31
    assert "winter" in page.text
    assert "summer" in page.text
    assert page.html.count('<path class="lane') == len(forks) == 2
    assert "Node “review” waits for an answer" in page.text
    assert "Publish the winter guide, 8 stages?" in page.text
    assert "Write a guide to the Cairn Trail, all 11 stages." in page.text


async def test_timeline_with_subgraphs(store: CheckpointStore) -> None:
    async with viewing(store) as client:
        page = await client.page(f"/thread?id={REPORT}")
        assert "2 subgraph calls" in page.text
        assert page.html.count('<path class="lane hue-1 sub"') == 1
        assert page.classes.count("sub") == 8 + 2  # rows and lanes
        inside = await client.page(next(link for link in page.links if "ns=research" in link))
        assert "in research:" in inside.text.replace("\n", " ").replace("  ", "")


async def test_failed_node(store: CheckpointStore) -> None:
    async with viewing(store) as client:
        page = await client.page(f"/thread?id={CLAIM}")
    assert "ConnectionError('no answer from the assessor about A-2291')" in page.text


async def test_a_part_of_a_thread_is_only_the_detail(store: CheckpointStore) -> None:
    tip = store.forks(TRAIL)[0].tip
    async with viewing(store) as client:
        part = await client.page(f"/thread?id={TRAIL}&at={tip.id}", viewer_part="detail")
    assert "html" not in part.tags
    assert "publish" in part.text
    assert "The guide is out." in part.text


@pytest.mark.parametrize(
    ("tab", "text"),
    [
        ("state", "researching"),
        ("changes", "winter guide, 8 stages"),
        ("writes", "__interrupt__"),
        ("details", "channel_versions"),
    ],
)
async def test_tabs(store: CheckpointStore, tab: str, text: str) -> None:
    async with viewing(store) as client:
        assert text in (await client.page(f"/thread?id={TRAIL}&tab={tab}")).text


async def test_long_thread_in_windows() -> None:
    async with MemoryCheckpointStore() as store:
        ids = [f"{n:05}" for n in range(1050)]
        await store.asave_many(
            [
                Checkpoint(execution_id="t", id=id, parent_id=parent, state={"n": id})
                for id, parent in zip(ids, [None, *ids[:-1]], strict=True)
            ]
        )
        async with viewing(store) as client:
            page = await client.page("/thread?id=t")
            assert page.classes.count("step") == 100
            assert "beat" in page.classes
            seen: list[str] = []
            path: str | None = "/thread?id=t"
            while path:
                page = await client.page(path)
                rows = re.findall(r'<li class="step.*?at=(\d+)', page.html, re.DOTALL)
                assert len(rows) == min(100, 1050 - len(seen))
                seen += rows
                path = page.related.get("next")
            assert seen == ids[::-1]
            # A step in the middle is shown in its window.
            middle = await client.page("/thread?id=t&at=00500")
            assert "selected" in middle.classes
            assert "500 newer" in middle.text


async def test_compare(store: CheckpointStore) -> None:
    summer, winter = store.forks(TRAIL)
    async with viewing(store) as client:
        path = url("/compare", id=TRAIL, a=f"0:{summer.tip.id}", b=f"0:{winter.tip.id}")
        page = await client.page(path)
        assert "winter guide, 8 stages" in page.text
        assert "removed" in page.classes
        assert "added" in page.classes
        with_parent = await client.page(url("/compare", id=TRAIL, b=f"0:{winter.tip.id}"))
        assert "1 added" in with_parent.text
        same = await client.page(
            url("/compare", id=TRAIL, a=f"0:{winter.tip.id}", b=f"0:{winter.tip.id}")
        )
        assert "the same channels with the same content" in same.text
        first = await client.page(url("/compare", id=TRAIL, b=f"0:{summer.steps[0].id}"))
        assert "Choose what to compare with" in first.text


async def test_text_is_compared_word_by_word() -> None:
    async with MemoryCheckpointStore() as store:
        for id, said, number in (
            ("1", "the cat sat there " * 9, 1),
            ("2", "the dog sat there " * 9, 2),
        ):
            state = {"messages": [HumanMessage(said, id="m")], "n": number}
            await store.asave(Checkpoint(execution_id="t", id=id, state=state))
        async with viewing(store) as client:
            page = await client.page("/compare?id=t&a=0:1&b=0:2")
    assert page.html.count("<del>cat</del><ins>dog</ins>") == 9
    assert '<del><span class="v num">1</span></del>' in page.html


async def test_storage(store: CheckpointStore) -> None:
    async with viewing(store) as client:
        page = await client.page("/storage")
    assert 'class="curve"' in page.html
    assert TRAIL in page.text
    assert "11 more threads" in page.text


async def test_live_stamps() -> None:
    async with MemoryCheckpointStore() as store, viewing(store) as client:

        async def stamp(path: str) -> str:
            return str((await client.http.get(path)).json()["stamp"])

        assert await stamp("/live?id=t") == "none"
        saver = CheckpointSaver(store)
        await store.asave(Checkpoint(execution_id="t", id="1", state={}))
        seen = [await stamp("/live?id=t")]
        await store.asave(Checkpoint(execution_id="t", id="2", state={}))
        seen.append(await stamp("/live?id=t"))
        config = {"configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "2"}}
        await saver.aput_writes(config, [("n", 1)], "task")  # type: ignore[arg-type]  # a RunnableConfig
        seen.append(await stamp("/live?id=t"))
        await store.adelete("1", execution_id="t")
        seen.append(await stamp("/live?id=t"))
        assert len(set(seen)) == 4
        assert await stamp("/live?id=t") == seen[-1]
        listed = await stamp("/live")
        await store.asave(Checkpoint(execution_id="t", id="3", state={}))
        assert await stamp("/live") != listed


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/thread?id=nobody", 404, "There is no such thread"),
        (f"/thread?id={TRAIL}&at=none", 404, "There is no such checkpoint"),
        (f"/thread?id={TRAIL}&tab=x", 400, "tab='x'"),
        (f"/thread?id={TRAIL}&start=-1", 400, "start='-1'"),
        ("/thread?id=", 400, "is empty"),
        ("/thread", 400, "lacks id="),
        ("/thread?id=" + "x" * 5000, 400, "5000 characters"),
        ("/thread?id=a%00b", 400, "NUL"),
        ("/thread?id=%ed%a0%80", 404, "There is no such thread"),
        ("/?sort=x", 400, "sort='x'"),
        ("/?page=²", 400, "page="),
        ("/?page=" + "9" * 15, 200, ""),
        (f"/compare?id={TRAIL}&b=x", 400, "names no checkpoint"),
        (f"/compare?id={TRAIL}&b=0:x&a=0:y", 404, "no checkpoint 'x'"),
        ("/value?id=t&at=1&path=../..", 400, "leads nowhere"),
        ("/confirm?action=fork&id=t", 403, "only shows"),
        ("/nothing", 404, "There is no such page"),
        ("/static/../../store.py", 404, ""),
        ("/static/%2e%2e/viewing.py", 404, ""),
    ],
)
async def test_bad_addresses(store: CheckpointStore, path: str, status: int, text: str) -> None:
    async with viewing(store) as client:
        answer = await client.http.get(path)
    assert answer.status_code == status
    assert text in answer.text.replace("&#39;", "'")


async def test_thread_emptied() -> None:
    async with MemoryCheckpointStore() as store, viewing(store) as client:
        await store.asave(Checkpoint(execution_id="t", id="1", state={}))
        await store.adelete("1", execution_id="t")
        assert "no checkpoints" in (await client.page("/")).text
        assert "All of them were deleted" in (await client.page("/thread?id=t", 404)).text


async def test_parent_is_gone() -> None:
    async with MemoryCheckpointStore() as store, viewing(store) as client:
        await store.asave(Checkpoint(execution_id="t", id="2", parent_id="1", state={"a": 1}))
        page = await client.page("/thread?id=t&tab=changes")
        assert "Its parent was pruned or deleted" in page.text


async def test_conversation() -> None:
    call = {"name": "add", "args": {"a": 1, "text": "two\nlines"}, "id": "c1", "type": "tool_call"}
    messages = [
        HumanMessage("hello", id="h"),
        AIMessage(
            [
                {"type": "thinking", "thinking": "hm"},
                {"type": "text", "text": "I call a tool"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "tool_use", "id": "c1", "name": "add", "input": {}},
            ],
            id="a",
            tool_calls=[call],
            usage_metadata={"input_tokens": 1000, "output_tokens": 234, "total_tokens": 1234},
        ),
    ]
    async with MemoryCheckpointStore() as store, viewing(store) as client:
        await store.asave(Checkpoint(execution_id="t", id="1", state={"messages": messages}))
        page = await client.page("/thread?id=t")
        for text in (
            "hello",
            "I call a tool",
            "add",
            "two\nlines",
            "1\u202f234 tokens",
            "Reasoning",
        ):
            assert text in page.text, text
        fields = await client.page(page.link("/value?"), viewer_part="part")
        assert "additional_kwargs" in fields.text


async def test_earlier_messages_on_demand() -> None:
    messages = [HumanMessage(f"said {n}.", id=str(n)) for n in range(100)]
    async with MemoryCheckpointStore() as store, viewing(store) as client:
        await store.asave(Checkpoint(execution_id="t", id="1", state={"messages": messages}))
        page = await client.page("/thread?id=t")
        assert page.classes.count("human") == 30
        assert "said 69." not in page.text
        earlier = await client.page(page.link("start=70"), viewer_part="part")
        assert "said 69." in earlier.text
        assert "said 70." not in earlier.text
        assert "start=40" in earlier.link("start=40")
