// Makes the pages quicker to use: without it every link and form works as well.
"use strict";
(() => {
  const root = document.documentElement;
  const $ = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const PART = { headers: { "Viewer-Part": "part" }, credentials: "same-origin" };

  // Light or dark

  const remembered = (() => { try { return localStorage.getItem("theme"); } catch { return null; } })();
  if (remembered === "light" || remembered === "dark") root.dataset.theme = remembered;
  function turn() {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* not allowed to remember */ }
  }

  // Values: what is folded is loaded when it is opened

  function parsed(text) {
    return new DOMParser().parseFromString(text, "text/html");
  }
  async function load(link) {
    link.classList.add("busy");
    try {
      const response = await fetch(link.href, PART);
      if (!response.ok) throw new Error(response.statusText);
      const part = parsed(await response.text());
      const details = link.parentElement.closest("details[data-load]");
      const conversation = link.nextElementSibling;
      const nodes = [...part.body.childNodes];
      if (!details && conversation?.matches("ol.conversation") && part.body.querySelector(":scope > ol.conversation")) {
        const height = document.body.scrollHeight;
        link.replaceWith(...nodes);
        scrollBy(0, document.body.scrollHeight - height); // what was read stays where it is
      } else {
        link.replaceWith(...nodes);
      }
      if (details) delete details.dataset.load;
    } catch {
      link.classList.remove("busy");
      link.textContent = "That could not be loaded. Try again";
    }
  }
  document.addEventListener("toggle", (event) => {
    const details = event.target;
    if (details.open && details.dataset?.load) {
      const link = $(":scope > a.more", details);
      if (link) load(link);
    }
  }, true);

  // A thread: steps and tabs change what is beside them

  let latest = 0;
  async function pane(link, push = true) {
    const target = $("#detail");
    const mine = ++latest;
    const response = await fetch(link.href ?? link, { headers: { "Viewer-Part": "detail" }, credentials: "same-origin" });
    if (!response.ok) { location.href = link.href ?? link; return; }
    const part = parsed(await response.text());
    if (mine !== latest) return; // another was asked for meanwhile
    target.replaceChildren(...part.body.childNodes);
    if (push) history.pushState({ pane: true }, "", link.href);
    const step = link.closest?.(".step");
    if (step) {
      all(".step.selected").forEach((one) => { one.classList.remove("selected"); $("a", one).removeAttribute("aria-current"); });
      step.classList.add("selected");
      $("a", step).setAttribute("aria-current", "true");
      if (scrollY > target.offsetTop) target.scrollIntoView({ block: "start" });
      moveHalo(step);
    }
  }
  function moveHalo(step) {
    const svg = $(".lanes"), halo = $(".halo", svg);
    const row = all(".step").indexOf(step);
    const middle = row * step.offsetHeight + step.offsetHeight / 2;
    const dot = all(".dot", svg)[row];
    if (!halo || !dot) return;
    const box = dot.getBBox();
    halo.setAttribute("cx", box.x + box.width / 2);
    halo.setAttribute("cy", middle);
    halo.setAttribute("class", "halo " + [...dot.classList].filter((name) => name.startsWith("hue-")).join(" "));
  }
  addEventListener("popstate", () => location.reload());

  document.addEventListener("click", (event) => {
    if (event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target.closest("a, button");
    if (!link) return;
    if (link.dataset.copy !== undefined) {
      navigator.clipboard?.writeText(link.dataset.copy).then(() => {
        link.classList.add("copied");
        setTimeout(() => link.classList.remove("copied"), 1200);
      }, () => {});
    } else if (link.dataset.more !== undefined || (link.matches("a.more") && link.closest("details[data-load]"))) {
      event.preventDefault();
      load(link);
    } else if (link.dataset.pane && $("#detail")) {
      event.preventDefault();
      pane(link).catch(() => { location.href = link.href; });
    } else if (link.id === "theme") {
      turn();
    } else if (link.id === "help") {
      $("#keys").showModal();
    }
  });

  // Live: ask for a stamp, and for the page only if it is another

  const live = $("#live");
  if (live) {
    live.classList.add("on");
    let stamp = live.dataset.stamp, wait = 2000;
    const look = async () => {
      if (!document.hidden) {
        try {
          const response = await fetch(live.dataset.live, PART);
          if (!response.ok) throw new Error(response.statusText);
          const now = (await response.json()).stamp;
          live.classList.remove("lost");
          wait = 2000;
          if (stamp !== undefined && now !== stamp) await refresh();
          stamp = now;
        } catch {
          live.classList.add("lost");
          wait = Math.min(wait * 2, 30000);
        }
      }
      setTimeout(look, wait);
    };
    setTimeout(look, live.dataset.stamp === undefined ? 300 : 2000);
  }
  async function refresh() {
    const response = await fetch(location.href, { credentials: "same-origin" });
    if (!response.ok) return;
    const page = parsed(await response.text());
    for (const old of all("[data-refresh]")) {
      const fresh = page.getElementById(old.id);
      if (!fresh) continue;
      const top = old.scrollTop, cursor = $(".cursor a", old)?.getAttribute("href");
      old.replaceChildren(...fresh.childNodes);
      old.scrollTop = top;
      if (cursor) all("[data-row] a", old).find((a) => a.getAttribute("href") === cursor)?.closest("[data-row]").classList.add("cursor");
    }
    for (const selector of [".facts", ".lead"]) {
      const old = $(selector), fresh = $(selector, page);
      if (old && fresh) old.replaceChildren(...fresh.childNodes);
    }
    const detail = $("#detail"), fresh = page.getElementById("detail");
    // Who has chosen no step follows the newest; of a chosen one, only its writes can be news.
    const follows = !new URL(location.href).searchParams.has("at");
    if (detail && fresh && (follows || $(".tabs small", detail)?.textContent !== $(".tabs small", fresh)?.textContent)) {
      detail.replaceChildren(...fresh.childNodes);
    }
    live.classList.remove("news");
    void live.offsetWidth; // restart the animation
    live.classList.add("news");
  }

  // Keys

  const rows = () => all("[data-row]");
  function move(by) {
    const list = rows();
    if (!list.length) return;
    let at = list.findIndex((row) => row.classList.contains("cursor"));
    if (at < 0) at = list.findIndex((row) => row.classList.contains("selected"));
    at = at < 0 ? (by > 0 ? 0 : list.length - 1) : Math.max(0, Math.min(list.length - 1, at + by));
    list.forEach((row) => row.classList.remove("cursor"));
    list[at].classList.add("cursor");
    list[at].scrollIntoView({ block: "nearest" });
    const link = $("a", list[at]);
    if (link.dataset.pane) pane(link).catch(() => {});
  }
  function fold() {
    const trees = all("main details:not([data-load])");
    const open = trees.some((tree) => !tree.open);
    trees.forEach((tree) => { tree.open = open; });
  }
  const follow = (selector) => { const link = $(selector); if (link) link.click(); return link; };
  const keys = {
    j: () => move(1), k: () => move(-1),
    Enter: () => $(".cursor a")?.click(),
    "/": () => { const box = $("#search"); if (box) { box.focus(); box.select(); } else location.href = "/#search"; },
    "?": () => $("#keys").showModal(),
    t: turn, e: fold,
    c: () => follow("[data-compare]"),
    u: () => follow("[rel=up]") ?? (location.href = "/"),
    "[": () => follow("[rel=prev]"), "]": () => follow("[rel=next]"),
    1: () => follow("[data-tab='1']"), 2: () => follow("[data-tab='2']"), 3: () => follow("[data-tab='3']"), 4: () => follow("[data-tab='4']"),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("dialog[open]")) return;
    if (event.target.matches("input, select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (event.key === "Enter" && event.target.matches("a, button, summary")) return;
    const act = Object.hasOwn(keys, event.key) ? keys[event.key] : null;
    if (act) { event.preventDefault(); act(); }
  });

  // What the page came with

  if (location.hash === "#search") $("#search")?.focus();
  const timeline = $("#timeline"), selected = $(".step.selected");
  if (timeline && selected) {
    // The list alone, not the page.
    const over = selected.getBoundingClientRect().bottom - timeline.getBoundingClientRect().bottom;
    if (over > 0) timeline.scrollTop += over + timeline.clientHeight / 3;
  }
  if ($("#retry")) setTimeout(() => location.reload(), 5000);
  const url = new URL(location.href);
  if (url.searchParams.has("done")) {
    const toast = document.createElement("div");
    toast.className = "toast";
    toast.setAttribute("role", "status");
    toast.textContent = url.searchParams.get("done") === "deleted" ? "Deleted" : "Saved";
    document.body.append(toast);
    setTimeout(() => toast.remove(), 2500);
    url.searchParams.delete("done");
    history.replaceState(null, "", url);
  }
})();
