"""
How a status page looks, and what keeps it live: its style and its script, which travel inside of it.

The script asks for the page again and exchanges the parts that differ. There is so one place that
writes HTML, and one that escapes. Without a script the page is the same, as of when it was loaded.
"""

from __future__ import annotations

__all__ = ["SCRIPT", "STYLE"]

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #f6f7f9; --card: #fff; --ink: #1a1f27; --quiet: #59636f; --line: #dfe3e8; --accent: #0b5cc4;
  --bar: #7da7e0; --good: #116932; --good-paper: #dcf3e4; --warn: #7c4a00; --warn-paper: #fdeccb;
  --bad: #a3161c; --bad-paper: #fde0e0; --hatch: #fff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #0f1318; --card: #181d24; --ink: #e4e8ee; --quiet: #9aa5b1; --line: #2b323c; --accent: #7ab4ff;
    --bar: #3f6cab; --good: #7fdc9f; --good-paper: #12331f; --warn: #f4c063; --warn-paper: #3b2b0b;
    --bad: #ff9a98; --bad-paper: #461b1d; --hatch: #11151a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1rem; max-width: 70rem; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; overflow-wrap: anywhere;
}
h1, h2, h3, p, dl, dd, ol, figure { margin: 0; }
h1 { font-size: 1.15rem; letter-spacing: .02em; }
h2 { font-size: 1.25rem; }
h3 { font-size: .95rem; margin: 1.25rem 0 .4rem; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.top { display: flex; flex-wrap: wrap; align-items: end; gap: .25rem 1rem; margin-bottom: 1rem; }
.clock { color: var(--quiet); font-size: .85rem; font-variant-numeric: tabular-nums; padding-bottom: .1rem; }
.clock.lost { color: var(--bad); font-weight: 600; }
form { flex: 1 1 20rem; max-width: 30rem; margin-left: auto; }
label { display: block; font-size: .85rem; color: var(--quiet); margin-bottom: .2rem; }
.ask { display: flex; gap: .4rem; }
input, button { font: inherit; padding: .4rem .6rem; border-radius: .4rem; border: 1px solid var(--quiet); }
input { flex: 1; min-width: 0; background: var(--card); color: inherit; }
button { background: var(--accent); border-color: var(--accent); color: var(--card); font-weight: 600; cursor: pointer; }
.problem { color: var(--bad); font-size: .9rem; margin-top: .3rem; }
section {
  background: var(--card); border: 1px solid var(--line); border-radius: .7rem; padding: 1rem 1.25rem 1.25rem;
  margin-bottom: 1rem;
}
.name { display: flex; flex-wrap: wrap; align-items: center; gap: .3rem .8rem; }
.state { border-radius: 1rem; padding: .05rem .7rem; font-weight: 600; font-size: .85rem; }
.state.fresh { color: var(--good); background: var(--good-paper); }
.state.starting, .state.stale, .state.missing { color: var(--warn); background: var(--warn-paper); }
.state.empty, .state.closed { color: var(--bad); background: var(--bad-paper); }
.why { margin-top: .25rem; max-width: 60rem; }
.why.fresh { color: var(--quiet); }
.overview { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; margin-top: .8rem; align-items: flex-start; }
.overview > div { flex: 1 1 18rem; min-width: 0; }
figure { flex: 0 1 18rem; margin: 0 auto; }
figcaption { color: var(--quiet); font-size: .8rem; text-align: center; margin-top: .3rem; }
.ring { display: block; width: 100%; max-width: 18rem; margin: 0 auto; }
.band { fill: none; stroke-width: 30; }
.shares { fill: none; stroke-width: 12; }
.hatch { fill: var(--hatch); }
.nobody { fill: none; stroke: var(--line); stroke-width: 30; }
.ring text { text-anchor: middle; fill: var(--ink); font: 13px system-ui, sans-serif; }
.ring .many { font-size: 28px; font-weight: 600; }
.ring .what { fill: var(--quiet); }
.ring .out { fill: var(--warn); font-weight: 600; }
dl > div { display: flex; gap: 1rem; padding: .22rem 0; border-bottom: 1px solid var(--line); }
dt { flex: 0 0 8rem; color: var(--quiet); }
dd { min-width: 0; font-variant-numeric: tabular-nums; }
.answer { border-left: 4px solid var(--accent); padding: .1rem 0 .2rem .9rem; margin-bottom: 1rem; }
.answer h3 { margin: 0 0 .2rem; }
.answer ol { padding-left: 1.4rem; }
.answer li:first-child { font-weight: 600; }
.answer li:first-child small { font-weight: 400; }
.moved { color: var(--warn); font-weight: 600; }
.quiet, small { color: var(--quiet); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tbody th { font-weight: 500; }
thead th { color: var(--quiet); font-size: .82rem; font-weight: 500; }
.number { text-align: right; white-space: nowrap; }
.scroll { max-height: 36rem; overflow: auto; border-radius: .3rem; }
.scroll thead th { position: sticky; top: 0; background: var(--card); z-index: 1; box-shadow: inset 0 -1px var(--line); }
.scroll th:last-child, .scroll td:last-child { padding-right: .5rem; }
.swatch { width: .8rem; height: .8rem; border-radius: .2rem; margin-right: .5rem; vertical-align: -.08rem; }
.number svg { width: 5rem; height: .5rem; margin-right: .6rem; vertical-align: .08rem; }
.number.flight svg { margin: 0 0 0 .6rem; }
.number rect { fill: var(--bar); }
.me { background: var(--good-paper); color: var(--good); border-radius: .3rem; padding: 0 .35rem; font-size: .8rem;
  white-space: nowrap; }
.changes th { white-space: nowrap; }
.joined { color: var(--good); }
.left { color: var(--bad); }
tr.out { background: var(--warn-paper); }
.ejected { color: var(--warn); font-weight: 600; }
footer { color: var(--quiet); font-size: .8rem; }
@media (max-width: 42rem) {
  body { padding: .6rem; }
  section { padding: .8rem; }
  form { max-width: none; }
  table, tbody { display: block; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  tr { display: flex; flex-wrap: wrap; gap: 0 .8rem; padding: .4rem .3rem; border-bottom: 1px solid var(--line); }
  th, td { border: 0; padding: 0; }
  th { flex: 1 0 100%; }
  td:empty { display: none; }
  .address, .zone { color: var(--quiet); font-size: .85rem; }
  .address { flex: 1 1 auto; }
  .flight::after { content: " in flight"; color: var(--quiet); font-size: .85rem; }
  .age::before { content: "there for "; }
  .age { color: var(--quiet); font-size: .85rem; }
  td.ejected::before { content: "ejected "; }
  .changes .number::after { content: " of the keys moved"; color: var(--quiet); }
  .number svg { width: 2.5rem; }
  .number.flight svg { display: none; }
  .me { margin-left: .3rem; }
}
@media (prefers-reduced-motion: no-preference) {
  .clock.live::before {
    content: ""; display: inline-block; width: .55rem; height: .55rem; border-radius: 50%; background: var(--good);
    margin-right: .35rem; animation: beat 2s ease-in-out infinite;
  }
  @keyframes beat { 50% { opacity: .35; } }
}
"""

SCRIPT = """
(() => {
  "use strict";
  const main = document.getElementById("rings"), at = document.getElementById("at");
  const live = document.getElementById("live"), clock = live.parentElement;
  // Only what differs, or it would be read aloud again and again.
  const say = (text, state) => {
    if (live.textContent !== text) live.textContent = text;
    clock.className = `clock ${state}`;
  };
  const exchange = (then, now) => { if (!then.isEqualNode(now)) then.replaceWith(document.adoptNode(now)); };
  const look = async () => {
    const answer = await fetch(location.href, {
      headers: {accept: "text/html"}, cache: "no-store", redirect: "error", signal: AbortSignal.timeout(10000)
    });
    const text = await answer.text();
    // From the body on: the style of that page has another nonce, and would be a violation in this one.
    const page = new DOMParser().parseFromString(text.slice(text.indexOf("<body")), "text/html");
    const rings = page.getElementById("rings");
    if (!rings) throw new Error("this is another page");
    for (const section of [...rings.children]) {
      const then = document.getElementById(section.id);
      const parts = [...section.querySelectorAll("[data-live]")];
      if (!then || then.querySelectorAll("[data-live]").length !== parts.length) {
        exchange(then, section);
        continue;
      }
      for (const part of parts) exchange(document.getElementById(part.id), part);
    }
    main.dataset.every = rings.dataset.every;
    exchange(document.getElementById("at"), page.getElementById("at"));
  };
  const turn = async () => {
    if (!document.hidden) {
      try {
        await look();
        say("Live,", "live");
      } catch {
        say("No answer from here since", "lost");
      }
    }
    setTimeout(turn, Number(main.dataset.every));
  };
  document.addEventListener("visibilitychange", () => { if (!document.hidden) clock.className = "clock"; });
  setTimeout(turn, 500);
})();
"""
