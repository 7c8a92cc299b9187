// The control room's own parts, behind those that it shares with the dashboard (etl/web/parts.js),
// of which this text is the continuation: the queue with its icons, the drawer of one kind of dead
// letters, the tabs, the hints. A widget `Part` says by its `part` which of them it is.

const MAX_MOVED = 80; // icons that are moved step by step; the rest jump
const MAX_FLIGHTS = 3; // icons that fly at once
const FAST = 20; // lines a second from which nothing flies
const LOST_SECONDS = 3.5;

const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
const rootOf = (el) => el.closest(".etl-console");

// ---- header ------------------------------------------------------------------------------------

/** The header; it also tells the kernel how wide and how dark the page is, and hears silence. */
function roomHeader(el, act) {
  const update = header(el);
  let [state, heard, told] = [null, performance.now(), ""];
  const show = () => {
    const seconds = (performance.now() - heard) / 1000;
    const lost = Boolean(state) && seconds > LOST_SECONDS;
    rootOf(el)?.classList.toggle("etl-lost", lost);
    update(state && lost ? { ...state, lost: { seconds, retry: 1 } } : state);
  };
  const look = () => {
    const root = rootOf(el);
    const plot = root?.querySelector(".etl-charts .etl-plotly");
    if (!root || !root.clientWidth) return;
    const dark = getComputedStyle(root).colorScheme.includes("dark");
    const size = plot ? [plot.clientWidth, plot.clientHeight] : [0, 0];
    const key = JSON.stringify([dark, size]);
    if (key === told || size[0] < 120) return;
    told = key;
    act("look", { dark, width: size[0], height: size[1] });
  };
  const sizes = new ResizeObserver(() => requestAnimationFrame(look));
  const themes = new MutationObserver(() => setTimeout(look, 200));
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  const begin = setInterval(() => { // the widgets around come one after another
    const plot = rootOf(el)?.querySelector(".etl-charts .etl-plotly");
    if (!plot) return;
    clearInterval(begin);
    sizes.observe(plot);
    keysOf(rootOf(el));
  }, 100);
  const timer = setInterval(show, 1000);
  themes.observe(document.body, { attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
  scheme.addEventListener("change", look);
  show();
  const shown = (next) => {
    [state, heard] = [next, performance.now()];
    show();
  };
  return Object.assign(shown, { end: () => {
    for (const one of [begin, timer]) clearInterval(one);
    sizes.disconnect();
    themes.disconnect();
    scheme.removeEventListener("change", look);
  } });
}

const KEYS = [["P", "pause or resume"], ["S", "step"], ["D", "dry run"], ["R", "replay"],
  ["/", "filter"], ["1 – 5", "tabs"], ["Esc", "close the drawer"], ["?", "this list"]];

/** Let keys work while the focus is somewhere in the console. */
function keysOf(root) {
  if (!root || root.etlKeysThere) return;
  root.etlKeysThere = true;
  const press = (selector) => () => [...root.querySelectorAll(selector)]
    .find((node) => node.checkVisibility() && !node.disabled)?.click();
  const help = h("dialog.etl-keys", { "aria-label": "Keys" },
    h("dl", {}, ...KEYS.flatMap(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)])));
  help.onclick = () => help.close();
  root.append(help);
  const tabs = Object.fromEntries([1, 2, 3, 4, 5].map((number) =>
    [String(number), press(`.etl-tabs [role=tab]:nth-child(${number})`)]));
  shortcuts(root, { p: press(".etl-toggle-pause"), s: press(".etl-do-step"),
    d: press("[data-action='dry-run']"), r: press("[data-action='replay']"),
    "/": () => [...root.querySelectorAll("[data-action='filter']")]
      .find((node) => node.checkVisibility())?.focus(),
    "?": () => help.showModal(), Escape: press("[data-action='close']"), ...tabs });
  // JupyterLab takes some keys, in its command mode: not while the focus is in here
  root.addEventListener("keydown", (event) => event.stopPropagation());
}

// ---- queue -------------------------------------------------------------------------------------

/** What workers have, in a tray, and an icon for each of the first lines that wait. */
function queueView(el, _act) {
  const { beside, end } = card(el, "queue", "Queue");
  const many = h("span.etl-cap");
  beside.append(h("span.etl-cap", {}, "oldest first"));
  end.append(many);
  const held = h("div.etl-held");
  const trayText = h("span.etl-cap");
  const tray = h("div.etl-tray", {}, held, trayText);
  const icons = h("div.etl-icons", { role: "img" });
  const none = h("span.etl-soft.etl-none", {}, "Queue is empty.");
  const more = h("span.etl-tag.etl-more", { hidden: true });
  el.append(h("div.etl-lines", {}, tray, icons, none));
  const nodes = new Map();
  let [shrink, first, across, state, wanted] = [0, true, 20, null, 1];

  /** Hide the icons that do not fit, and return how many. */
  function hide(kept) {
    const root = rootOf(el);
    const narrow = (root?.clientWidth ?? 1280) < 1040
      || Boolean(root?.querySelector(".etl-area-demo:not(.etl-closed)"));
    across = Math.max(4, Math.floor((icons.clientWidth || 520) / 26));
    const room = across * (narrow ? 2 : 4);
    const own = [...kept.values()].filter((node) => node.parentElement === icons);
    const shown = own.length > room || state?.more ? room - 4 : room;
    own.forEach((node, index) => { node.hidden = index >= shown; });
    return Math.max(0, own.length - shown);
  }

  const place = (node) => node.getBoundingClientRect();
  const make = ([, level, words]) => levelIcon(level, visible(words));

  function fly(node, from) {
    const target = rootOf(el)?.querySelector(
      ".etl-dead-letters .etl-latest li, .etl-dead-letters tbody tr, .etl-drawer, .etl-dead-letters");
    if (!target || !target.checkVisibility()) return;
    const to = place(target);
    const ghost = node.cloneNode(true);
    ghost.classList.add("etl-flying");
    attr(ghost, "aria-hidden", "true");
    Object.assign(ghost.style, { left: `${from.left}px`, top: `${from.top}px` });
    rootOf(el).append(ghost);
    const [dx, dy] = [to.left + 14 - from.left, to.top + Math.min(to.height / 2, 14) - 11 - from.top];
    const flight = ghost.animate([{ transform: "none" },
      { transform: `translate(${dx * 0.55}px, ${dy * 0.35 - 28}px) scale(1.15)`, offset: 0.5 },
      { transform: `translate(${dx}px, ${dy}px) scale(.7)` }],
    { duration: 700, easing: "cubic-bezier(.45,.05,.3,1)" });
    const end = () => ghost.remove();
    flight.finished.then(end, end);
  }

  return (next) => {
    state = next;
    const waiting = state?.waiting ?? [];
    const processing = state?.processing ?? [];
    const lively = !calm() && (state?.rate ?? 0) <= FAST && document.visibilityState === "visible";
    const before = new Map();
    const moved = [...nodes.keys()].slice(0, MAX_MOVED);
    if (lively) for (const key of moved) before.set(key, place(nodes.get(key)));

    const kept = new Map();
    const fill = (box, items) => keyed(box, items, ([key]) => key, (item) => {
      const known = nodes.get(item[0]);
      if (!known?.isConnected || kept.has(item[0])) return make(item);
      known.parentElement.etlKeys?.delete(item[0]); // it comes from the other box
      return known;
    }, (node, [key]) => kept.set(key, node));
    more.remove(); // it is no icon
    fill(held, processing);
    fill(icons, waiting);
    icons.append(more);
    const unfit = hide(kept);
    const hidden = (state?.more ?? 0) + unfit;
    more.hidden = !hidden;
    text(more, `+ ${number(hidden)} more`);

    const died = new Set(state?.died ?? []);
    let flights = 0;
    if (lively) {
      for (const [key, node] of nodes) {
        if (kept.has(key) || !died.has(key) || !before.has(key)) continue;
        if (flights < MAX_FLIGHTS) fly(node, before.get(key));
        flights += 1;
      }
      const fresh = [...kept].filter(([key]) => !nodes.has(key)).slice(0, first ? 0 : 40);
      fresh.forEach(([, node], index) => node.animate(
        [{ opacity: 0, transform: "scale(0)" }, { opacity: 1, transform: "scale(1)" }],
        { id: "etl-come", duration: 420, delay: index * 20, fill: "backwards",
          easing: "linear(0, .5 18%, 1.1 42%, 1.14 52%, .98 74%, 1)" }));
      const after = moved.filter((key) => kept.has(key)).map((key) => [key, place(kept.get(key))]);
      for (const [key, now] of after) {
        const then = before.get(key);
        const [dx, dy] = [then.left - now.left, then.top - now.top];
        if (dx || dy) {
          kept.get(key).animate([{ transform: `translate(${dx}px, ${dy}px)` }, { transform: "none" }],
            { duration: 260, easing: "cubic-bezier(.2,.8,.2,1)" });
        }
      }
    }
    nodes.clear();
    for (const [key, node] of kept) nodes.set(key, node);
    first = first && !state;

    const total = state?.waiting_lines ?? 0;
    text(many, total ? `${number(total)} waiting` : "");
    none.hidden = waiting.length > 0 || !state;
    attr(icons, "aria-label", `${number(total)} lines wait, ${number(state?.leased ?? 0)} are processed`);
    const busy = state?.leased ?? 0;
    tray.classList.toggle("etl-tall", busy > 1);
    text(trayText, busy > 1 ? `${number(busy)} processing` : "Processing");
    // it grows at once, and shrinks only after two seconds
    wanted = Math.max(1, Math.ceil((waiting.length - unfit + (hidden ? 4 : 0)) / across));
    const set = () => {
      clearTimeout(shrink);
      shrink = 0;
      el.style.setProperty("--rows", wanted);
    };
    if (wanted >= Number(el.style.getPropertyValue("--rows") || 1)) set();
    else shrink ||= setTimeout(set, 2000);
  };
}

// ---- dead letters ------------------------------------------------------------------------------

/** The list of kinds, or in its place a drawer with the lines of one of them. */
function deadRoom(el, act) {
  el.classList.add("etl-dead-room");
  const [listBox, drawerBox] = [h("section"), h("section")];
  el.append(listBox, drawerBox);
  let [opened, asked] = [null, false];
  const told = (name, detail) => {
    asked ||= name === "choose"; // by this view, of which there may be two
    act(name, detail);
  };
  const list = deadLetters(listBox, told, { keep: false });
  const drawer = kindDrawer(drawerBox, told);
  return (state, answer) => {
    const kind = state?.drawer?.kind.fingerprint ?? null;
    listBox.hidden = kind !== null;
    drawerBox.hidden = kind === null;
    rootOf(el)?.classList.toggle("etl-with-drawer", kind !== null);
    const at = kind !== null && state.answer_in === "drawer";
    list(state, at ? null : answer);
    drawer(state?.drawer ?? null, state, at ? answer : null);
    if (asked && opened !== kind) {
      const row = opened && `[data-fingerprint="${CSS.escape(opened)}"] .etl-why`;
      if (kind === null) listBox.querySelector(row)?.focus({ preventScroll: true });
      else if (opened === null) drawerBox.querySelector("button").focus({ preventScroll: true });
      asked = false;
    }
    opened = kind;
  };
}

const SHOWN = { all: "All", pass: "✓", fail: "✗" };

function kindDrawer(el, act) {
  el.classList.add("etl-part", "etl-card", "etl-drawer");
  attr(el, "aria-label", "One kind of dead letters");
  const quiet = (label, picture, name, attributes = {}) => button(label, picture,
    { kind: "quiet small", attributes: { "data-action": name, ...attributes } });
  const back = quiet("‹ All dead letters", "", "back");
  const place = h("span.etl-cap");
  const earlier = quiet("‹", "", "earlier", { "aria-label": "Kind before" });
  const later = quiet("›", "", "later", { "aria-label": "Next kind" });
  const close = quiet("", "close", "close", { "aria-label": "Close (Esc)" });
  const title = h("h2.etl-cut");
  const path = h("span.etl-path");
  const meta = h("span.etl-cap.etl-cut");
  const main = button("Dry run", "dryRun", { kind: "main", attributes: { "data-action": "main" } });
  const again = button("Dry run", "dryRun", { attributes: { "data-action": "again" } });
  const discard = button("Discard…", "discard", { kind: "danger",
    attributes: { "data-action": "discard-kind", "aria-haspopup": "dialog" } });
  const actions = h("div.etl-foot.etl-top", {}, main, again, h("span.etl-grow"), discard);
  const ask = confirmation(actions);
  const said = h("div");
  const show = answers(said, act);
  const passed = h("span.etl-tag.etl-tag-good");
  const failed = h("span.etl-tag.etl-tag-bad");
  const tried = h("span.etl-cap.etl-grow.etl-cut");
  const choice = h("span.etl-choice", { role: "group", "aria-label": "Lines shown" },
    ...Object.entries(SHOWN).map(([name, label]) => h("button", { type: "button", "data-show": name }, label)));
  const result = h("div.etl-row.etl-result", {}, passed, failed, tried, choice);
  const { box, body } = table("Lines of this kind", [["OK", "mark", "34px"], ["Line", "num", "54px"],
    ["Text", "", ""], ["Now", "", "34%"]]);
  const lineTitle = h("b");
  const lineMeta = h("span.etl-cap.etl-cut.etl-grow");
  const edit = h("textarea.etl-field.etl-mono", { rows: 2, "aria-label": "The line, to be edited",
    spellcheck: "false" });
  const replayEdited = button("Replay edited line", "replay", { attributes: { "data-action": "edited" } });
  const original = h("span.etl-cap", {}, "The original stays as it was.");
  const details = h("details", {}, h("summary.etl-cap", {}, "traceback and fields"), h("pre.etl-mono"));
  const detail = h("div.etl-detail", {}, h("div.etl-row", {}, lineTitle, lineMeta), edit, details,
    h("div.etl-row", {}, replayEdited, h("span.etl-grow"), original));
  el.append(h("div.etl-head", {}, back, h("span.etl-grow"), place, earlier, later, close),
    h("div.etl-about", {}, title, h("div.etl-row", {}, path, meta)), actions, said, result, box, detail);

  let [state, which, line] = [null, "all", null];
  const selection = () => ({ fingerprint: state.kind.fingerprint, lines: state.kind.lines });
  const go = (name, more = {}) => {
    show.clear();
    act(name, { ...selection(), ...more });
  };
  const leave = () => act("choose", null);
  back.onclick = close.onclick = leave;
  earlier.onclick = () => act("choose", state.before);
  later.onclick = () => act("choose", state.after);
  again.onclick = () => go("dry-run");
  main.onclick = () => go(state.tried && !state.tried.stale ? "replay-passing" : "dry-run");
  discard.onclick = () => ask.open(() => state?.kind.lines ?? 0, Infinity, discard, () => go("discard"));
  choice.onclick = (event) => {
    which = event.target.dataset?.show ?? which;
    draw();
  };
  replayEdited.onclick = () => go("replay-edited", { id: state.line.id, line: edit.value });
  edit.oninput = () => enable(replayEdited, edit.value === state.line.text ? "Edit the line first" : "");
  edit.onkeydown = (event) => event.stopPropagation();
  body.onkeydown = (event) => {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const row = event.target.closest("tr");
    if (step) row[step]?.focus();
    else if (event.key === "Enter" || event.key === " ") row.click();
    else return;
    event.preventDefault();
  };

  function draw() {
    if (!state) return;
    const { kind, tried: done } = state;
    text(title, visible(kind.reason));
    attr(title, "title", visible(kind.reason));
    keyed(path, state.path, (name, index) => `${index} ${name}`, () => h("span"), (node, name, index) => {
      const last = index === state.path.length - 1;
      attr(node, "class", `etl-tag etl-mono${last ? " etl-tag-bad" : ""}`);
      text(node, last ? `${visible(name)} ✗` : visible(name));
    });
    const span = kind.first === kind.last ? clock(kind.first) : `${clock(kind.first)} – ${clock(kind.last)}`;
    text(meta, [count(kind.lines, "line"), `from ${visible(kind.source)}`, span,
      kind.replays ? `replayed ${count(kind.replays, "time")}` : ""].filter(Boolean).join(" · "));
    text(place, `${state.number} of ${state.total}`);
    enable(earlier, state.before ? "" : "This is the first");
    enable(later, state.after ? "" : "This is the last");
    const off = state.locked;
    const fresh = done && !done.stale;
    const words = !fresh ? "Dry run" : !done.pass ? "None pass yet"
      : done.fail ? `Replay the ${number(done.pass)} that pass` : `Replay all ${number(done.pass)}`;
    if (main.lastChild.textContent !== words) {
      main.replaceChildren(shape(fresh ? "replay" : "dryRun"), h("span", {}, words));
    }
    enable(main, off || (fresh && !done.pass ? "Fix the processor or edit the lines" : ""));
    again.hidden = !fresh;
    enable(again, off);
    enable(discard, "");
    result.hidden = !done;
    if (done) {
      text(passed, `✓ ${number(done.pass)} pass`);
      text(failed, `✗ ${number(done.fail)} fail`);
      passed.hidden = done.stale || !done.pass;
      failed.hidden = done.stale || !done.fail;
      text(tried, done.stale ? "the pipeline has changed since: dry run again"
        : `tried ${ago(Math.max(0, state.at - done.at))}`);
    }
    for (const node of choice.children) attr(node, "aria-pressed", String(node.dataset.show === which));
    const lines = state.lines.filter((one) => which === "all" || one.ok === (which === "pass"));
    keyed(body, lines, (one) => one.id, (one) => {
      const row = h("tr", { tabindex: 0 }, h("td"), h("td.etl-num.etl-soft"), h("td.etl-mono"), h("td"));
      row.onclick = () => act("choose-line", one.id);
      return row;
    }, (row, one) => {
      const [mark, line_number, words_, now] = row.children;
      text(mark, one.ok === null ? "" : one.ok ? "✓" : "✗");
      attr(mark, "class", `etl-mark ${one.ok === null ? "" : one.ok ? "etl-good" : "etl-bad"}`);
      text(line_number, number(one.number));
      text(words_, visible(one.text) || "blank line");
      attr(words_, "title", visible(one.text));
      text(now, one.ok === null ? "" : one.ok ? "passes" : visible(one.reason));
      attr(now, "title", now.textContent);
      attr(now, "class", one.ok === false ? "etl-bad" : "etl-soft");
      row.classList.toggle("etl-chosen", one.id === state.line?.id);
    });
    const chosen = state.line;
    detail.hidden = !chosen;
    if (chosen) {
      text(lineTitle, `Line ${number(chosen.number)}`);
      text(lineMeta, visible(`${chosen.processor}: ${chosen.message}`));
      attr(lineMeta, "title", lineMeta.textContent);
      if (line !== chosen.id) {
        edit.value = chosen.text;
        enable(replayEdited, "Edit the line first");
      }
      text(details.lastChild, chosen.facts);
      details.hidden = !chosen.facts;
    }
    line = chosen?.id ?? null;
    reachable(box);
  }

  return (next, room, answer) => {
    if (next?.kind.fingerprint !== state?.kind.fingerprint) {
      show.clear();
      ask.close();
      which = "all";
    }
    state = next && { ...next, at: room.at, locked: unable(room) || (next.can_run ? "" :
      "This room does not know the pipeline: open it with one, or use etl dlq") };
    draw();
    if (next) show(answer);
  };
}

// ---- tabs --------------------------------------------------------------------------------------

const TABS = ["traces", "workers", "queue", "errors", "tap"];

function tabs(el, act) {
  el.classList.add("etl-part", "etl-card", "etl-tabs");
  const list = h("div.etl-tablist", { role: "tablist", "aria-label": "Details" });
  const filter = h("input.etl-field.etl-small", { type: "search", placeholder: "Filter",
    "aria-label": "Filter this list", "data-action": "filter" });
  const panel = h("div.etl-tabpanel", { role: "tabpanel" });
  const boxes = Object.fromEntries(TABS.map((name) => [name, h("div.etl-tabbox")]));
  const id = `etl-tab-${Math.random().toString(36).slice(2)}`;
  const heads = TABS.map((name) => h("button", { type: "button", role: "tab", id: `${id}-${name}` },
    name[0].toUpperCase() + name.slice(1), " ", h("span.etl-cap")));
  attr(panel, "id", id);
  list.append(...heads);
  panel.append(...Object.values(boxes));
  el.append(h("div.etl-tabhead", {}, list, h("span.etl-grow"), filter), panel);
  const show = { traces: tracesTab(boxes.traces, act), workers: workersTab(boxes.workers),
    queue: queueTab(boxes.queue), errors: errorsTab(boxes.errors), tap: tapTab(boxes.tap, act) };
  let [state, tab] = [null, ""];
  heads.forEach((head, index) => {
    attr(head, "aria-controls", id);
    head.onclick = () => choose(TABS[index]);
    head.onkeydown = (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = (index + step + TABS.length) % TABS.length;
      heads[next].focus();
      choose(TABS[next]);
    };
  });
  const choose = (name) => {
    filter.value = "";
    tab = name;
    act("tab", name);
    draw();
  };
  filter.oninput = () => draw();

  function draw() {
    TABS.forEach((name, index) => {
      const on = name === tab;
      attr(heads[index], "aria-selected", String(on));
      attr(heads[index], "tabindex", on ? 0 : -1);
      text(heads[index].lastChild, state?.counts?.[name] ? number(state.counts[name]) : "");
      boxes[name].hidden = !on;
    });
    attr(panel, "aria-labelledby", `${id}-${tab}`);
    filter.hidden = tab === "tap";
    const wanted = filter.value.trim().toLowerCase();
    const fits = (row) => !wanted || JSON.stringify(row).toLowerCase().includes(wanted);
    if (tab) show[tab]?.(state, fits);
  }
  return (next, answer) => {
    if (next && next.tab !== state?.tab) tab = next.tab;
    state = next;
    draw();
    show.tap(state, null, answer);
  };
}

/** Show rows in a table; return what fills it. */
function listing(el, label, columns, cells, nothing, more = {}) {
  const { box, body } = table(label, columns);
  const none = empty(nothing);
  el.append(box, none);
  return (rows, key, chosen = null) => {
    box.hidden = !rows.length;
    none.hidden = rows.length > 0;
    keyed(body, rows, key, (row) => {
      const node = h("tr", more.choose ? { tabindex: 0 } : {}, ...columns.map(([, kind]) => h(tag("td", kind))));
      if (more.choose) {
        node.onclick = () => more.choose(key(row));
        node.onkeydown = (event) => {
          const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
          if (step) node[step]?.focus();
          else if (event.key === "Enter") node.click();
          else return;
          event.preventDefault();
        };
      }
      return node;
    }, (node, row) => {
      cells(row).forEach((value, index) => {
        text(node.children[index], value);
        attr(node.children[index], "title", String(value));
      });
      more.fill?.(node, row);
      node.classList.toggle("etl-chosen", chosen !== null && key(row) === chosen);
    });
    reachable(box);
  };
}

const STATE_KINDS = { done: "etl-good", dead: "etl-bad", filtered: "etl-soft" };

function tracesTab(el, act) {
  el.classList.add("etl-split");
  const [left, right] = [h("div.etl-side"), h("div.etl-side.etl-hops")];
  el.append(left, right);
  const list = listing(left, "The last lines", [["State", "", "70px"], ["At", "soft", "70px"],
    ["Line", "mono", ""], ["Path", "soft wide", "24%"], ["µs", "num", "62px"]],
  (one) => [one.state, clock(one.at), visible(one.line) || "blank line",
    one.path.join(" → ") + (one.state === "dead" ? " ✗" : ""), number(one.seconds * 1e6)],
  "No line has been processed yet", { choose: (key) => act("trace", key),
    fill: (node, one) => attr(node.firstChild, "class", STATE_KINDS[one.state]) });
  const title = h("div.etl-mono.etl-cut");
  const { box, body } = table("Hop by hop", [["Processor", "", "22%"], ["µs", "num", "52px"],
    ["Before", "mono", ""], ["After", "mono", ""]]);
  right.append(title, box);
  return (state, fits) => {
    if (!state?.traces) return;
    list(state.traces.filter(fits), (one) => one.key, state.trace?.key ?? null);
    right.hidden = !state.trace;
    if (!state.trace) return;
    text(title, visible(state.trace.line));
    keyed(body, state.trace.hops, (hop, index) => `${index} ${hop.processor}`,
      () => h("tr", {}, h("td"), h("td.etl-num"), h("td.etl-mono"), h("td.etl-mono")), (row, hop) => {
        const values = [hop.processor, hop.us === null ? "–" : hop.us.toFixed(1), hop.before, hop.after];
        values.forEach((value, index) => {
          text(row.children[index], visible(value));
          attr(row.children[index], "title", visible(value));
        });
        row.lastChild.classList.toggle("etl-bad", hop.failed);
      });
  };
}

function workersTab(el) {
  const update = workers(el);
  return (state, fits) => state?.workers && update({ ...state, workers: state.workers.filter(fits) });
}

function queueTab(el) {
  const list = listing(el, "Lines that wait", [["Level", "", "90px"], ["Put", "soft", "70px"],
    ["From", "soft", "22%"], ["Line", "num soft", "66px"], ["Text", "mono", ""]],
  (one) => ["", clock(one.put_at), visible(one.source), number(one.line_number),
    visible(one.line) || "blank line"], "Queue is empty", { fill: (node, one) => {
    if (!node.firstChild.firstChild?.dataset) {
      const word = one.level === "OTHER" ? "no level" : one.level;
      node.firstChild.replaceChildren(levelIcon(one.level, "", "small"), ` ${word}`);
    }
  } });
  return (state, fits) => state?.queue && list(state.queue.filter(fits), (one) => one.key);
}

function errorsTab(el) {
  el.classList.add("etl-split");
  const [left, right] = [h("div.etl-side.etl-minutes"), h("div.etl-side")];
  el.append(left, right);
  const rows = h("div");
  left.append(h("div.etl-cap", {}, "Errors a minute, by processor: the last 12 minutes"), rows);
  const list = listing(right, "Recent errors", [["At", "soft", "70px"], ["Processor", "", "18%"],
    ["Error", "", ""], ["Lines", "num", "56px"], ["", "soft", "70px"]],
  (one) => [clock(one.at), visible(one.processor), visible(one.message || one.error), number(one.lines),
    one.action], "No errors");
  return (state, fits) => {
    if (!state?.errors) return;
    let seen = 0;
    list(state.errors.filter(fits), (one) => one.seq ?? `${one.at} ${one.processor} ${one.batch} ${(seen += 1)}`);
    left.hidden = !state.error_minutes?.length;
    keyed(rows, state.error_minutes ?? [], ([name]) => name,
      () => h("div.etl-row", {}, h("span.etl-cut"), bars(), h("b")), (row, [name, minutes]) => {
        text(row.firstChild, visible(name));
        fillBars(row.children[1], minutes);
        text(row.lastChild, number(minutes.reduce((sum, one) => sum + one, 0)));
      });
  };
}

function tapTab(el, act) {
  const processor = h("select.etl-field", { "aria-label": "Rows after this processor" });
  const where = h("input.etl-field.etl-grow", { type: "text", placeholder: "where, such as level = 'INFO'",
    "aria-label": "Condition" });
  const limit = h("input.etl-field", { type: "number", min: 1, max: 50, value: 5, "aria-label": "Rows" });
  const open = button("Tap", "", { attributes: { "data-action": "tap" } });
  const said = h("div");
  const show = answers(said, act);
  const head = h("tr");
  const body = h("tbody");
  const box = h("div.etl-scroll", { role: "region", "aria-label": "Rows" },
    h("table.etl-table", {}, h("thead", {}, head), body));
  const none = h("div.etl-soft.etl-none");
  el.append(h("div.etl-row.etl-tap", {}, h("span.etl-cap", {}, "Rows after"), processor, where, limit, open, said),
    box, none);
  open.onclick = () => {
    show.clear();
    act("tap", { processor: processor.value, where: where.value, limit: Number(limit.value) });
  };
  where.onkeydown = (event) => { if (event.key === "Enter") open.click(); };
  return (state, _fits, answer) => {
    if (answer !== undefined) show(answer);
    if (!state) return;
    const names = state.processors ?? [];
    const chosen = processor.value;
    keyed(processor, names, (name) => name, (name) => h("option", { value: name }, visible(name)));
    if (names.includes(chosen)) processor.value = chosen;
    const tapping = Boolean(state.tap);
    text(open.lastChild, tapping ? "Close tap" : "Tap");
    for (const node of [processor, where, limit]) node.disabled = tapping;
    enable(open, names.length ? (state.can_tap ? "" : "This room does not know the pipeline")
      : "No line has been processed yet");
    const rows = state.tapped?.rows ?? [];
    box.hidden = !rows.length;
    none.hidden = rows.length > 0;
    text(none, state.tapped ? "No such row has passed yet." : "Look at rows as they leave a processor.");
    keyed(head, state.tapped?.columns ?? [], (name) => name, (name) => h("th", { scope: "col" }, visible(name)));
    keyed(body, rows, (_row, index) => index, () => h("tr"), (row, values) => {
      keyed(row, values, (_value, index) => index, () => h("td.etl-mono"), (cell, value) => {
        text(cell, visible(value));
        attr(cell, "title", visible(value));
      });
    });
  };
}

// ---- demo --------------------------------------------------------------------------------------

/** Hints, one at a time, that can be dismissed. */
function hints(el, act) {
  el.classList.add("etl-hints");
  const dots = h("span.etl-dots", { "aria-hidden": "true" });
  const words = h("span.etl-grow", { role: "status", "aria-live": "polite" });
  const next = button("Next", "", { kind: "quiet small" });
  const close = button("", "close", { kind: "quiet small", attributes: { "aria-label": "Hide the hints" } });
  el.append(dots, words, next, close);
  next.onclick = () => act("hint", 1);
  close.onclick = () => act("hint", null);
  return (state) => {
    el.hidden = !state || state.at === null;
    if (el.hidden) return;
    const [bold, rest] = state.hints[state.at];
    keyed(dots, state.hints, (_hint, index) => index, () => h("i"), (dot, _hint, index) => attr(dot, "class",
      index < state.at ? "etl-past" : index === state.at ? "etl-here" : null));
    if (words.dataset.at !== String(state.at)) {
      words.dataset.at = state.at;
      words.replaceChildren(h("b", {}, bold), ` ${rest}`);
    }
    next.hidden = state.at === state.hints.length - 1;
  };
}

/** A file that is being fed: how much of it, how long yet, and Stop. */
function feeding(el, act) {
  el.classList.add("etl-feeding");
  const fill = h("i");
  const words = h("span.etl-cap");
  const stop = button("Stop", "", { kind: "small", attributes: { "data-action": "stop-feed" } });
  el.append(h("span.etl-track", { role: "progressbar", "aria-label": "Share of the file that is fed",
    "aria-valuemin": 0, "aria-valuemax": 100 }, fill), words, stop);
  stop.onclick = () => act("stop-feed", null);
  return (state) => {
    el.hidden = state?.share === undefined || state?.share === null;
    if (el.hidden) return;
    const percent = Math.floor(state.share * 100);
    sizedBy(fill, `${percent}%`);
    attr(fill.parentElement, "aria-valuenow", percent);
    text(words, `${percent} %${state.left === null ? "" : ` · ${duration(state.left)} left`}`);
  };
}

/** What was said beside some buttons. */
function saying(el, act) {
  const show = answers(el, act);
  return (_state, answer) => show(answer);
}

const ROOM = { header: roomHeader, queue: queueView, pipeline: (el) => pipeline(el), dead: deadRoom, tabs,
  hints, feeding, saying };

function render({ model, el }) {
  const act = (name, detail) => model.send({ name, detail });
  const given = (name) => (Object.keys(model.get(name) ?? {}).length ? model.get(name) : null);
  const update = ROOM[model.get("part")](el, act);
  const show = () => update(given("state"), given("answer"));
  model.on("change:state", show);
  model.on("change:answer", show);
  show();
  return () => {
    model.off("change:state", show);
    model.off("change:answer", show);
    update.end?.();
  };
}
export default { render };
