// The parts of the screens: the dashboard of `etl serve` and the control room in notebooks.
//
// A part is `part(el, act, options?) -> update(state, …)`. It builds its nodes once, in the element
// that it is given, and `update` changes only what differs: nodes stay, so focus, scrolling and
// transitions do too. `state` is what `etl.analysis.overview` returns, or null before the first one
// has come. `act(name, detail)` is called with what a person does. Text of logs is only ever put
// into text nodes and attributes. The look is in console.css.
//
// A screen may add to a state: `lost: {seconds, retry}` once nothing has been heard for a while,
// `path` with names of processors to light up, `chosen` with the fingerprint of a kind of dead
// letters, `draining` if no lines are taken though no worker says so.
//
// Nothing is imported and nothing runs on loading, so that the text can also be put in front of
// another module's.

// ---- numbers and words -------------------------------------------------------------------------

/** Return a count as people read it: 12,345, or 1.24 M from a million on. */
export function number(count) {
  if (count === null || count === undefined) return "–";
  const [unit, size] = count >= 1e9 ? ["bn", 1e9] : ["M", 1e6];
  if (Math.abs(count) < 1e6) return Math.round(count).toLocaleString("en");
  return `${(count / size).toPrecision(3).replace(/e.*/, "")} ${unit}`;
}

/** Return lines per second: one decimal below 100. */
export function rate(lines) {
  if (lines === null || lines === undefined) return "–";
  return lines < 99.95 ? lines.toFixed(1) : number(lines);
}

/** Return a length of time in seconds as words: 0.4 s, 38 s, 1 min 7 s, 2 h 5 min, 3 d 4 h. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => whole >= size);
  const [unit, size] = units[first];
  const [next, small] = units[first + 1] ?? ["", 1];
  const rest = Math.floor((whole % size) / small);
  return `${Math.floor(whole / size)} ${unit}${next && rest ? ` ${rest} ${next}` : ""}`;
}

/** Return how long ago something was, coarsely: just now, 12 s ago, 1 min ago. */
export function ago(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1.5) return "just now";
  const whole = Math.round(seconds);
  return `${whole < 60 ? `${whole} s` : duration(whole).split(" ").slice(0, 2).join(" ")} ago`;
}

/** Return the time of day of a moment in Unix seconds, as this browser's clock has it. */
export function clock(at) {
  return new Date(at * 1000).toLocaleTimeString("en-GB");
}

/** Return a count with its noun: 1 kind, 6 kinds. */
export function count(many, noun) {
  return `${number(many)} ${noun}${many === 1 ? "" : "s"}`;
}

/** Return text of a log on one line, with what cannot be seen made visible. */
export function visible(text) {
  return String(text)
    .slice(0, 2000)
    .replace(/\t/g, "⇥ ")
    .replace(/[\0-\x1f]/g, (sign) => String.fromCharCode(0x2400 + sign.charCodeAt(0)))
    .replace(/[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, "\ufffd");
}

// ---- nodes -------------------------------------------------------------------------------------

export const LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];
const GLYPHS = { DEBUG: "·", INFO: "i", WARNING: "!", ERROR: "×", CRITICAL: "!!" };
const SVG = "http://www.w3.org/2000/svg";
const SHAPES = {
  pause: "M2.5 1.5h2.4v9H2.5zM7.1 1.5h2.4v9H7.1z",
  resume: "M2.5 1 10.5 6l-8 5z",
  step: "M1.5 1.2 7 6l-5.5 4.8zM8.3 1.2h2.2v9.6H8.3z",
  drain: "M4.9 1h2.2v5.4h3L6 11 1.9 6.4h3z",
  dryRun: "M3.8.5h4.4v1.3h-.6v3l3.2 5.3c.4.7-.1 1.4-.8 1.4H2c-.7 0-1.2-.7-.8-1.4l3.2-5.3v-3h-.6z",
  replay: "M6.6 0v2.1a4.5 4.5 0 1 1-5 4.4h1.5a3 3 0 1 0 3.5-2.9v2L3.2 2.8z",
  discard: "M4.2.5h3.6v1h2.9V3H1.3V1.5h2.9zM2.1 4h7.8l-.7 7.5H2.8z",
  lock: "M2.2 5.2h.9V3.9a2.9 2.9 0 0 1 5.8 0v1.3h.9v6.3H2.2zm2.4 0h2.8V3.9a1.4 1.4 0 0 0-2.8 0z",
  moon: "M7.2.8a5.3 5.3 0 1 0 4 7.7A4.6 4.6 0 0 1 7.2.8z",
  close: "m2.3 1.2 3.7 3.7 3.7-3.7 1.1 1.1L7.1 6l3.7 3.7-1.1 1.1L6 7.1l-3.7 3.7-1.1-1.1L4.9 6 1.2 2.3z",
};

/** Return an element: `h("b.etl-unit", {title: "…"}, "text", child, …)`. */
export function h(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const node = document.createElement(tag);
  if (classes.length) node.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) attr(node, key, value);
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Set the text of a node if it is another. */
export function text(node, value) {
  const words = String(value);
  if (node.textContent !== words) node.textContent = words;
}

/** Set an attribute if it is another; false and null remove it. */
export function attr(node, name, value) {
  if (value === false || value === null || value === undefined) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value === true ? "" : value)) {
    node.setAttribute(name, value === true ? "" : value);
  }
}

/** Return a drawing, or a part of one. */
function s(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) attr(node, key, value);
  node.append(...children);
  return node;
}

/** Return the picture of a button. */
function shape(name) {
  return s("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" },
    s("path", { d: SHAPES[name], "fill-rule": "evenodd" }));
}

/** Return a button with a picture of `SHAPES`, or none, and a word. */
export function button(label, picture, options = {}) {
  const node = h("button.etl-btn", { type: "button", ...options.attributes });
  if (options.kind) node.classList.add(...options.kind.split(" ").map((kind) => `etl-${kind}`));
  if (picture) node.append(shape(picture));
  if (label) node.append(h("span", {}, label));
  return node;
}

/** Enable a button, or disable it and say why. */
export function enable(node, reason, tip = "") {
  if (node.disabled !== Boolean(reason)) node.disabled = Boolean(reason);
  attr(node, "title", reason || tip || null);
}

/** Return the picture of a level. */
export function levelIcon(level, title = "", size = "") {
  const known = level in GLYPHS ? level : "OTHER";
  const name = known === "OTHER" ? "no level" : level;
  const classes = `span.etl-icon.etl-${known}${size ? `.etl-${size}` : ""}`;
  return h(classes, { role: "img", "aria-label": title ? `${name}: ${title}` : name,
    title: title || name }, GLYPHS[level] ?? "–");
}

/** Make the children of a node those of some items; a child stays as long as its key does. */
export function keyed(parent, items, key, make, fill) {
  const old = (parent.etlKeys ??= new Map());
  const kept = new Map();
  items.forEach((item, index) => {
    const name = String(key(item, index));
    const node = old.get(name) ?? make(item);
    kept.set(name, node);
    fill?.(node, item, index);
  });
  for (const [name, node] of old) if (!kept.has(name)) node.remove();
  parent.etlKeys = kept;
  let at = parent.firstElementChild;
  for (const node of kept.values()) {
    if (node === at) at = at.nextElementSibling;
    else parent.insertBefore(node, at);
  }
}

/** Make an element a card with a title; return what stands beside the title, and its right end. */
function card(el, name, title) {
  el.classList.add("etl-part", "etl-card", `etl-${name}`);
  attr(el, "role", el.tagName === "SECTION" ? null : "region");
  attr(el, "aria-label", title);
  const beside = h("span.etl-beside");
  const end = h("span.etl-end");
  el.append(h("div.etl-head", {}, h("h2", {}, title), beside, h("span.etl-grow"), end));
  return { beside, end };
}

/** Let a keyboard reach a box that scrolls, while it does. */
function reachable(box) {
  attr(box, "tabindex", box.scrollHeight > box.clientHeight + 1 ? 0 : null);
}

/** Return a table: its box that scrolls, and its body. Columns are [title, classes, width]. */
function table(label, columns) {
  const body = h("tbody");
  const column = ([, kind, width]) => sizedBy(h(tag("col", kind)), width);
  const box = h("div.etl-scroll", { role: "group", "aria-label": label },
    h("table.etl-table", {},
      h("colgroup", {}, ...columns.map(column)),
      h("thead", {}, h("tr", {}, ...columns.map(([title, kind]) =>
        h(tag("th", kind), { scope: "col" }, title)))),
      body));
  return { box, body };
}

/** Set the width of a node: by its style object, since a strict policy forbids the attribute. */
function sizedBy(node, width) {
  if (width && node.style.width !== width) node.style.width = width;
  return node;
}

function tag(name, kind) {
  return [name, ...(kind ? kind.split(" ") : [])].join(kind ? ".etl-" : "");
}

/** Put words where a part would be empty. */
function empty(title, ...lines) {
  return h("div.etl-empty", {}, h("b", {}, title), ...lines.map((line) => h("span", {}, line)));
}

/** Call a function with the size of a box, now and whenever it changes. */
function sized(box, draw) {
  new ResizeObserver(() => draw(box.clientWidth, box.clientHeight)).observe(box);
}

// ---- header ------------------------------------------------------------------------------------

const STATES = { working: "Working", idle: "Idle", paused: "Paused", draining: "Draining",
  absent: "No workers", lost: "Not connected" };
const TERMS = ["accepted", "done", "filtered", "dead", "leased", "waiting"];
const TERM_WORDS = { leased: "processing" };

/** Thresholds of what is coloured amber, in seconds. */
export const LIMITS = { oldest: 30, empty: 60 };

/** The state of the workers, the figures, and the sum of all lines. */
export function header(el) {
  el.classList.add("etl-part", "etl-header");
  const light = h("i.etl-light", { "aria-hidden": "true" });
  const word = h("b");
  const workers = h("span.etl-cap");
  const waiting = figure("waiting", "waiting");
  const speed = figure("rate", "lines/s");
  const line = s("path", { class: "etl-line" });
  const area = s("path", { class: "etl-area" });
  const dot = s("circle", { r: 2.2 });
  const spark = s("svg", { class: "etl-spark", viewBox: "0 0 92 26", "aria-hidden": "true" },
    area, line, dot);
  speed.node.append(spark);
  const dead = figure("open", "dead letters");
  const terms = Object.fromEntries(TERMS.map((name) => [name, h("b")]));
  const tick = h("span.etl-tick");
  const sum = h("div.etl-sum", { role: "img" }, ...TERMS.flatMap((name, index) => [
    index ? h("span.etl-op", {}, index === 1 ? "=" : "+") : null,
    h(`div.etl-term.etl-term-${name}`, {}, terms[name], h("span", {}, TERM_WORDS[name] ?? name)),
  ]).filter(Boolean), tick);
  const bar = h("div.etl-bar", {},
    h("div.etl-state", { role: "status" }, light, h("div", {}, word, workers)),
    waiting.node, speed.node, dead.node, sum);
  el.append(bar);

  return (state) => {
    const now = state?.lost ? "lost" : (state?.state ?? "lost");
    attr(bar, "class", `etl-bar etl-is-${now}`);
    text(word, state ? STATES[now] : "–");
    const late = (state?.workers ?? []).filter((one) => one.state === "late").length;
    const failing = (state?.targets ?? []).filter((one) => one.error);
    workers.classList.toggle("etl-warn", (late > 0 || failing.length > 0) && !state.lost);
    text(workers, !state ? "–" : state.lost ? `trying again in ${state.lost.retry} s`
      : failing.length ? `${count(failing.length, "target")} failing` : workersText(state, late));
    attr(workers, "title", state?.reason || failing.map(targetText).join("; ") || null);
    const heard = state?.lost && ago(state.lost.seconds);

    waiting.set(state?.totals.waiting, ...(heard ? [heard] : state ? waitingText(state) : ["–"]));
    waiting.cap.classList.toggle("etl-warn", Boolean(state && !heard && isLate(state)));
    speed.set(state?.rate, heard || (state ? (now === "paused" ? "paused" : "last 10 s") : "–"), "",
      rate(state?.rate));
    dead.set(state?.open, ...(state ? deadText(state, heard) : ["–"]));
    dead.node.classList.toggle("etl-bad", Boolean(state?.open));
    dead.node.classList.toggle("etl-discarded", Boolean(state?.discarded && !heard));

    const points = thin(state?.history.rate ?? [], 60);
    const top = Math.max(...points, 1);
    const at = (value, index) => `${((index * 92) / Math.max(points.length - 1, 1)).toFixed(1)} `
      + (24.5 - (value / top) * 22).toFixed(1);
    const drawn = points.map((value, index) => `${index ? "L" : "M"}${at(value, index)}`).join("");
    attr(line, "d", drawn);
    attr(area, "d", drawn && `${drawn}V26H0Z`);
    attr(dot, "cx", 92);
    attr(dot, "display", points.length ? null : "none");
    attr(dot, "cy", 24.5 - ((points.at(-1) ?? 0) / top) * 22);

    setSum(state);
  };

  function setSum(state) {
    const totals = state?.totals;
    for (const name of TERMS) {
      text(terms[name], number(totals?.[name]));
      attr(terms[name], "title", totals && totals[name] >= 1e6 ? exact(totals[name]) : null);
      terms[name].parentElement.classList.toggle("etl-zero", totals?.[name] === 0);
    }
    terms.dead.parentElement.classList.toggle("etl-bad", Boolean(state?.open));
    const gap = totals ? TERMS.slice(1).reduce((left, name) => left - totals[name], totals.accepted)
      : 0;
    const right = !totals || (state.conserved && !gap);
    text(tick, !totals ? "" : right ? "✓" : gap ? `✗ ${number(Math.abs(gap))}` : "✗");
    tick.classList.toggle("etl-off", !right);
    attr(tick, "title", !totals ? null : right ? "Every line is accounted for"
      : `${count(Math.abs(gap), "line")} ${gap < 0 ? "too many" : "missing"}`);
    const discarded = state?.discarded ?? 0;
    attr(terms.dead.parentElement, "title",
      totals ? `${exact(state.open)} open + ${exact(discarded)} discarded` : null);
    const said = (name) => `${exact(totals[name])} ${TERM_WORDS[name] ?? name}`;
    attr(sum, "aria-label", !totals ? "not known yet"
      : `${said("accepted")} = ${TERMS.slice(1).map(said).join(" + ")}: `
        + (right ? "it adds up" : "it does not add up"));
  }
}

function exact(many) {
  return many.toLocaleString("en");
}

/** A large number with its unit and a line of two halves below it. */
function figure(name, unit) {
  const value = h("b");
  const [first, joint, second] = [h("span.etl-first"), h("span.etl-joint"), h("span.etl-second")];
  const cap = h("span.etl-cap", {}, first, joint, second);
  const node = h(`div.etl-figure.etl-figure-${name}`, {},
    h("div.etl-grow", {}, value, h("span.etl-unit", {}, unit), cap));
  const set = (many, before, after = "", shown = number(many)) => {
    text(value, shown);
    attr(value, "title", many >= 1e6 ? exact(Math.round(many)) : null);
    text(first, before);
    text(joint, before && after ? " · " : "");
    text(second, after);
    attr(cap, "title", [before, after].filter(Boolean).join(" · "));
  };
  return { node, cap, set };
}

function targetText(target) {
  return `${visible(target.name)} fails, ${count(target.lines, "line")} wait: ${visible(target.error)}`;
}

function workersText(state, late) {
  const many = state.workers.length;
  const words = !many ? "no worker" : late ? `${count(many, "worker")}, ${late} late`
    : count(many, "worker");
  if (state.state === "paused") {
    return state.paused_by === "worker" ? `${words} · by a worker` : words;
  }
  return many ? words : state.totals.waiting ? "start one: etl work" : "none is running";
}

function waitingText(state) {
  if (!state.totals.waiting) return ["queue is empty"];
  const oldest = `oldest ${duration(state.oldest)}`;
  if (state.state === "paused") return [oldest, "waits for Resume"];
  if (state.growing) return [oldest, "growing"];
  return state.empty_in === null ? [oldest] : [oldest, `empty in ${duration(state.empty_in)}`];
}

function isLate(state) {
  return state.totals.waiting > 0 && state.state !== "paused"
    && (state.oldest > LIMITS.oldest || state.empty_in > LIMITS.empty || state.growing);
}

function deadText(state, heard) {
  const kinds = state.open ? count(state.kinds.length, "kind")
    : state.discarded ? "0 open" : "none open";
  if (heard) return [kinds, heard];
  if (state.discarded) return [kinds, `${number(state.discarded)} discarded`];
  if (!state.open) return [kinds];
  const fresh = state.dead_last_minute;
  return [kinds, fresh ? `${number(fresh)} in the last minute` : "none new"];
}

/** Return at most `most` of some numbers: the highest of each few that follow one another. */
function thin(values, most) {
  const step = Math.max(1, Math.ceil(values.length / most));
  return Array.from({ length: Math.ceil(values.length / step) }, (_, index) =>
    Math.max(...values.slice(index * step, (index + 1) * step)));
}

// ---- operator's row ----------------------------------------------------------------------------

/** Pause or Resume, Step if `options.step`, Drain. Their answers stand beside them. */
export function operator(el, act, options = {}) {
  el.classList.add("etl-operator");
  const named = (name) => ({ "data-action": name });
  const toggle = button("Pause", "pause", { kind: "toggle", attributes: named("toggle") });
  const step = button("Step", "step", { attributes: named("step") });
  const drain = button("Drain", "drain", { attributes: named("drain") });
  const answer = h("span");
  const show = answers(answer, act);
  const go = (name) => () => {
    show.clear();
    act(name, null);
  };
  let stopped = false;
  toggle.onclick = () => go(stopped ? "resume" : "pause")();
  step.onclick = go("step");
  drain.onclick = go("drain");
  el.append(...(options.before ? [answer] : []), toggle, ...(options.step ? [step] : []), drain,
    ...(options.before ? [] : [answer]));

  return (state, given) => {
    const off = unable(state);
    const paused = state?.state === "paused";
    const draining = state?.state === "draining" || Boolean(state?.draining);
    if (state) stopped = paused || draining;
    const [word, picture] = stopped ? ["Resume", "resume"] : ["Pause", "pause"];
    if (toggle.textContent !== word) {
      toggle.replaceChildren(shape(picture), h("span", {}, word));
      toggle.classList.toggle("etl-main", stopped);
    }
    enable(toggle, off, stopped ? "Let the workers take lines again (P)"
      : "Let the workers take no more lines (P)");
    enable(step, off || (paused ? "" : "Pause first"), "Process one batch (S)");
    enable(drain, off || (draining ? "It drains already" : ""),
      "Take no more lines, and end the workers when the queue is empty");
    show(given);
  };
}

/** Return why nothing can be changed now, or an empty text. */
function unable(state) {
  if (!state) return "Nothing is known yet";
  return state.lost ? "Not connected" : "";
}

/** The answer to what a person did: successes go after 6 s, those with Undo after 10 s.
 *
 * An answer is `{id, text, bad, undo}` or null; one with the `id` of the last one is not shown
 * again. `undo` is given back by `act("undo", undo)`.
 */
export function answers(el, act) {
  el.classList.add("etl-answer");
  const [good, bad] = [h("span"), h("span")];
  const status = h("span.etl-cut", { role: "status", "aria-live": "polite" }, good);
  const alarm = h("span.etl-cut.etl-answer-bad", { role: "alert", "aria-live": "assertive" }, bad);
  const left = h("span.etl-cap", { "aria-hidden": "true" });
  const undo = button("Undo", "replay", { kind: "small" });
  const after = h("span.etl-undo", { hidden: true }, left, undo);
  el.append(status, alarm, after);
  let last = null;
  let undoable = null;
  let timer = 0;

  const clear = () => {
    clearInterval(timer);
    set(null);
  };
  undo.onclick = () => {
    const which = undoable;
    clear();
    act("undo", which);
  };
  const show = (answer) => {
    const key = answer && String(answer.id ?? JSON.stringify(answer));
    if (!answer || key === last) return;
    last = key;
    clearInterval(timer);
    set(answer);
    if (answer.bad) return;
    let seconds = answer.undo ? 10 : 6;
    text(left, `${seconds} s`);
    timer = setInterval(() => {
      seconds -= 1;
      text(left, `${seconds} s`);
      if (seconds <= 0) clear();
    }, 1000);
  };
  const set = (answer) => {
    undoable = answer?.undo ?? null;
    text(good, answer && !answer.bad ? answer.text : "");
    text(bad, answer?.bad ? answer.text : "");
    attr(alarm, "title", bad.textContent || null);
    attr(status, "title", good.textContent || null);
    attr(alarm, "title", bad.textContent || null);
    after.hidden = !undoable;
    el.classList.toggle("etl-said", Boolean(answer));
  };
  return Object.assign(show, { clear });
}

// ---- pipeline ----------------------------------------------------------------------------------

/** The processors as boxes with what passes them; as a list where it is narrow. */
export function pipeline(el) {
  const { beside, end } = card(el, "pipeline", "Pipeline");
  const name = h("span.etl-cap");
  beside.append(name);
  end.append(h("span.etl-key.etl-key-share", {}, h("i"), "share of time"),
    h("span.etl-key.etl-key-dead", {}, h("i"), "open dead letters"));
  const svg = s("svg", { role: "img" });
  const plot = h("div.etl-plot.etl-map", {}, svg);
  const list = h("div.etl-list");
  const none = empty("No line has been processed yet");
  el.append(plot, list, none);
  let [state, built, parts, size] = [null, "", null, [0, 0]];
  sized(plot, (width, height) => {
    size = [width, height];
    draw();
  });

  function draw() {
    const nodes = state ? columns(state.pipeline).flat() : [];
    const [width, height] = size;
    none.hidden = nodes.length > 1 || !state;
    const others = state?.pipeline.others;
    text(name, [visible(state?.pipeline.name ?? ""), others
      ? `without ${count(others, "processor")} of other pipelines` : ""].filter(Boolean).join(" · "));
    if (!state) {
      svg.replaceChildren();
      attr(svg, "aria-label", "Pipeline");
      built = "";
    }
    plot.hidden = !none.hidden; // its size is then 0, and told when it is shown again
    if (nodes.length < 2 || !width || !height) return;
    const labels = nodes.map((node) => Boolean(node.open || node.filtered));
    const key = JSON.stringify([nodes.map((node) => node.name), state.pipeline.edges, size, labels]);
    if (key !== built) {
      parts = buildMap(svg, { nodes, edges: state.pipeline.edges }, width, height, labels);
      built = key;
    }
    fillMap(parts, nodes, state.pipeline.edges, state.path ?? []);
    attr(svg, "aria-label", `Pipeline: ${nodes.map((node) =>
      `${node.name} ${exact(node.received)} lines${node.open ? `, ${exact(node.open)} dead` : ""}`)
      .join("; ")}`);
    reachable(plot);
  }

  return (next) => {
    state = next;
    draw();
    fillList(list, state ? columns(state.pipeline).flat() : []);
  };
}

/** Return the nodes column by column: each stands right of all that it gets lines from, and at the
 * right end if that is not known.
 */
export function columns({ nodes, edges }) {
  const depth = new Map(nodes.map((node) => [node.name, 0]));
  for (let round = 0; round < nodes.length; round += 1) {
    for (const [from, to] of edges) {
      if (depth.has(to)) depth.set(to, Math.max(depth.get(to), (depth.get(from) ?? 0) + 1));
    }
  }
  const reached = new Set(edges.map(([, to]) => to));
  const last = Math.max(...depth.values());
  for (const { name } of nodes) if (name !== "input" && !reached.has(name)) depth.set(name, last);
  const found = [];
  for (const node of nodes) (found[Math.min(depth.get(node.name), nodes.length)] ??= []).push(node);
  return found.filter(Boolean);
}

function buildMap(svg, { nodes, edges }, width, height, labels) {
  const cols = columns({ nodes, edges });
  const most = Math.max(...cols.map((column) => column.length));
  const pad = 14;
  const wide = Math.max(width, pad * 2 + cols.length * 84);
  const boxWidth = Math.min(most === 1 && wide > 560 ? 118 : 98, (wide - 2 * pad) / cols.length - 16);
  const labelled = new Set(nodes.filter((_, index) => labels[index]).map((node) => node.name));
  const inside = cols.some((column) => column.slice(0, -1).some((node) => labelled.has(node.name)));
  const boxHeight = most * 54 + (most - 1) * 10 <= height ? 50 : most * 44 <= height ? 38 : 28;
  const room = height - most * boxHeight - 4;
  const gap = Math.max(inside ? 36 : 4, Math.min(20, most > 1 ? room / (most - 1) : 0));
  const last = cols.some((column) => column.length === most && labelled.has(column.at(-1).name));
  const tall = Math.max(height, most * boxHeight + (most - 1) * gap + 4 + (last ? 34 : 0));
  const middle = tall / 2 - (most === 1 || last ? 14 : 0);
  const places = new Map();
  cols.forEach((column, x) => {
    const top = middle - (column.length * boxHeight + (column.length - 1) * gap) / 2;
    column.forEach((node, y) => places.set(node.name, {
      x: cols.length > 1 ? pad + (x * (wide - 2 * pad - boxWidth)) / (cols.length - 1)
        : (wide - boxWidth) / 2,
      y: Math.max(2, top) + y * (boxHeight + gap) }));
  });
  attr(svg, "width", wide);
  attr(svg, "height", tall);
  const lines = edges.filter(([from, to]) => places.has(from) && places.has(to)).map((edge) => {
    const [from, to] = edge.map((name) => places.get(name));
    const [x, y, x2, y2] = [from.x + boxWidth, from.y + boxHeight / 2, to.x, to.y + boxHeight / 2];
    const bend = (x + x2) / 2;
    return { edge, path: s("path", { class: "etl-edge",
      d: `M${x} ${y}C${bend} ${y} ${bend} ${y2} ${x2} ${y2}` }) };
  });
  const boxes = nodes.map((node) =>
    buildBox(node.name, places.get(node.name), boxWidth, boxHeight));
  svg.replaceChildren(...lines.map((one) => one.path), ...boxes.map((one) => one.group));
  return { lines, boxes };
}

function buildBox(name, { x, y }, width, height) {
  const [center, bar] = [x + width / 2, height >= 36];
  const fits = Math.floor((width - 8) / 6.8);
  const shown = name.length > fits ? `${name.slice(0, fits - 1)}…` : name;
  const parts = {
    title: s("title"),
    box: s("rect", { class: "etl-box", x, y, width, height, rx: 6 }),
    count: s("text", { class: "etl-soft", x: center,
      y: y + (height >= 48 ? 34 : bar ? 26 : 23) }),
    share: s("rect", { class: "etl-share", x: x + 8, y: y + height - 7, height: 3, rx: 1.2 }),
    drop: s("path", { class: "etl-drop", d: `M${center} ${y + height}v12` }),
    tip: s("path", { class: "etl-tip", d: `M${center - 5} ${y + height + 11}h10l-5 6z` }),
    label: s("text", { class: "etl-label", x: center, y: y + height + 30 }),
  };
  const track = s("rect", { class: "etl-track", x: x + 8, y: y + height - 7, width: width - 16,
    height: 3, rx: 1.2 });
  const word = s("text", { class: "etl-name", x: center, y: y + (height >= 48 ? 18 : bar ? 13.5 : 12) },
    visible(shown));
  const bars = bar && name !== "input" ? [track, parts.share] : [];
  const group = s("g", { "data-processor": name }, parts.title, parts.drop, parts.tip, parts.label,
    parts.box, ...bars, word, parts.count);
  return { group, room: width - 16, ...parts };
}

function fillMap({ lines, boxes }, nodes, edges, path) {
  const named = new Map(nodes.map((node) => [node.name, node]));
  const carried = ([from, to]) => {
    const parents = edges.filter(([, other]) => other === to).length;
    const children = edges.filter(([other]) => other === from).length;
    if (parents === 1) return named.get(to).received;
    return children === 1 ? named.get(from).emitted
      : Math.min(named.get(from).emitted, named.get(to).received);
  };
  const most = Math.max(...nodes.map((node) => node.received), 1);
  for (const { edge, path: line } of lines) {
    const many = carried(edge);
    attr(line, "stroke-width", (many ? 1.5 + 5 * Math.sqrt(many / most) : 1.5).toFixed(1));
    const [from, to] = edge.map((name) => path.indexOf(name));
    const lit = to >= 0 && (from === to - 1 || (edge[0] === "input" && to === 0));
    attr(line, "class", `etl-edge${many ? "" : " etl-none"}${lit ? " etl-lit" : ""}`);
  }
  boxes.forEach((box, index) => {
    const node = nodes[index];
    const kind = node.open ? "etl-dead" : node.filtered ? "etl-filtered" : "etl-clean";
    attr(box.group, "class", `${kind}${node.name === "input" ? " etl-input" : ""}`
      + (path.includes(node.name) ? " etl-lit" : ""));
    text(box.title, `${node.name}: ${exact(node.received)} lines`
      + `${node.share > 0 ? `, ${Math.round(node.share * 100)} % of the time` : ""}`
      + `${node.filtered ? `, ${exact(node.filtered)} filtered` : ""}`
      + `${node.open ? `, ${exact(node.open)} open dead letters` : ""}`);
    text(box.count, number(node.received));
    attr(box.share, "width", Math.max(node.share > 0 ? 2 : 0, box.room * (node.share ?? 0)).toFixed(1));
    attr(box.drop, "stroke-width",
      node.open ? (1.5 + 4 * Math.sqrt(Math.min(1, node.open / most))).toFixed(1) : 1.5);
    text(box.label, lost(node));
  });
}

function lost(node) {
  if (node.open) return `${number(node.open)} dead`;
  return node.filtered ? `${number(node.filtered)} filtered` : "";
}

function fillList(list, nodes) {
  const most = Math.max(...nodes.map((node) => node.received), 1);
  keyed(list, nodes, (node) => node.name,
    (node) => h("div", { "data-processor": node.name }, h("span.etl-cut", {}, visible(node.name)),
      h("span.etl-track", {}, h("i")), h("b"), h("span.etl-lost")),
    (row, node) => {
      const [, track, many, left] = row.children;
      sizedBy(track.firstChild, `${((node.received / most) * 100).toFixed(1)}%`);
      track.firstChild.hidden = !node.received;
      text(many, number(node.received));
      text(left, lost(node));
      left.classList.toggle("etl-bad", node.open > 0);
    });
}

// ---- levels and charts -------------------------------------------------------------------------

/** How many lines of each level were processed. */
export function levels(el) {
  card(el, "levels", "Processed by level");
  const rows = h("div.etl-rows", { role: "list" });
  el.append(rows);
  const fill = (row, [level, many], most) => {
    const [, , track, value] = row.children;
    sizedBy(track.firstChild, `${((many / most) * 100).toFixed(1)}%`);
    track.firstChild.hidden = !many;
    text(value, number(many));
    attr(value, "title", many >= 1e6 ? exact(many) : null);
    value.classList.toggle("etl-zero", !many);
  };
  return (state) => {
    const given = state?.levels ?? LEVELS.map((level) => [level, null]);
    const most = Math.max(...given.map(([, many]) => many ?? 0), 1);
    keyed(rows, given, ([level]) => level, ([level]) => {
      const icon = levelIcon(level, "", "small");
      attr(icon, "aria-hidden", "true");
      const known = LEVELS.includes(level);
      return h("div", { role: "listitem" }, icon, h("span", {}, known ? level : "no level"),
        h("span.etl-track", {}, h(`i.etl-${known ? level : "OTHER"}`)), h("b"));
    }, (row, item) => fill(row, item, most));
  };
}

/** The lines processed per second, over the seconds of `state.history`. */
export function rateChart(el) {
  return chart(el, "rate", "Rate", "lines/s", (state) => rate(state.rate));
}

/** The lines that waited, over the seconds of `state.history`. */
export function backlogChart(el) {
  return chart(el, "waiting", "Backlog", "waiting lines", (state) => number(state.totals.waiting));
}

/** Both in one: the rate with the left axis, the backlog dotted with the right one. */
export function overTime(el) {
  const { beside } = card(el, "over", "Over time");
  beside.append(h("span.etl-key.etl-key-rate", {}, h("i"), "lines/s"),
    h("span.etl-key.etl-key-waiting", {}, h("i"), "waiting"));
  return plotted(el, ["rate", "waiting"], "Lines per second and waiting lines");
}

function chart(el, series, title, unit, value) {
  const { beside, end } = card(el, `chart-${series}`, title);
  beside.append(h("span.etl-cap", {}, unit));
  const now = h(`b.etl-now.etl-now-${series}`);
  end.append(now);
  const draw = plotted(el, [series], `${title}, ${unit}`);
  return (state) => {
    text(now, state ? value(state) : "–");
    draw(state);
  };
}

/** Draw one or two series below a card's title. */
function plotted(el, names, label) {
  const svg = s("svg", { role: "img", "aria-label": label });
  const plot = h("div.etl-plot.etl-graph", {}, svg);
  el.append(plot);
  const grid = s("g");
  const curves = names.map((name, index) => ({ name,
    area: s("path", { class: `etl-area etl-area-${name}`, display: index ? "none" : null }),
    line: s("path", { class: `etl-line etl-line-${name}${index ? " etl-dotted" : ""}` }) }));
  svg.append(grid, ...curves.flatMap(({ area, line }) => [area, line]));
  let [history, size, axes] = [null, [0, 0], ""];
  sized(plot, (width, height) => {
    size = [width, height];
    draw();
  });

  function draw() {
    const [width, height] = size;
    if (!width || !height) return;
    const box = { left: 38, top: 8, width: width - 38 - (names.length > 1 ? 38 : 10),
      height: height - 26 };
    const tops = names.map((name) => nice(Math.max(...(history?.[name] ?? []), 0)));
    const range = span(history?.seconds[0] ?? -120);
    const key = JSON.stringify([size, tops, range]);
    if (key !== axes) {
      axes = key;
      attr(svg, "width", width);
      attr(svg, "height", height);
      grid.replaceChildren(...axesOf(box, names, tops, range));
    }
    curves.forEach(({ name, area, line }, index) => {
      const points = (history?.[name] ?? []).map((value, at) =>
        [box.left + box.width * (1 + Math.max(-1, history.seconds[at] / range)),
          box.top + box.height * (1 - value / tops[index])].map((one) => one.toFixed(1)));
      const drawn = points.length ? `M${points.map((point) => point.join(" ")).join("L")}` : "";
      attr(line, "d", drawn);
      const floor = box.top + box.height;
      attr(area, "d", drawn && `${drawn}V${floor}H${points[0][0]}Z`);
    });
  }
  return (state) => {
    history = state?.history ?? null;
    draw();
  };
}

function axesOf(box, names, tops, range) {
  const marks = [];
  for (const part of [0, 0.5, 1]) {
    const y = box.top + box.height * (1 - part);
    marks.push(s("line", { class: "etl-grid", x1: box.left, x2: box.left + box.width, y1: y, y2: y }));
    names.forEach((name, side) => marks.push(s("text", { class: `etl-axis etl-axis-${name}`, y: y + 4,
      x: side ? box.left + box.width + 6 : box.left - 6, "text-anchor": side ? "start" : "end" },
    short(tops[side] * part))));
  }
  const many = box.width > 240 && names.length > 1 && range !== 900 ? 4 : 2;
  for (let index = 0; index <= many; index += 1) {
    const anchor = index === 0 ? "start" : index === many ? "end" : "middle";
    marks.push(s("text", { class: "etl-axis", x: box.left + (box.width * index) / many,
      y: box.top + box.height + 14, "text-anchor": anchor }, when(range * (1 - index / many))));
  }
  return marks;
}

/** Return the next of 10, 20, 50, 100, … that is not below a number. */
function nice(value) {
  for (let top = 10; ; top *= 10) {
    const fits = [1, 2, 5].map((times) => times * top).find((one) => one >= value);
    if (fits) return fits;
  }
}

function span(first) {
  return [120, 900, 3600].find((one) => one >= -first - 5) ?? -first;
}

function short(value) {
  if (value >= 1e6) return `${value / 1e6}M`;
  return value >= 1000 ? `${value / 1000}k` : String(value);
}

function when(seconds) {
  if (!seconds) return "now";
  if (seconds < 120) return `−${seconds} s`;
  return seconds < 3600 ? `−${seconds / 60} m` : `−${seconds / 3600} h`;
}

// ---- dead letters ------------------------------------------------------------------------------

/** The kinds of open dead letters with samples, and what can be done with them.
 *
 * `update(state, answer)`, the answer as in `answers`. Calls `act("choose", fingerprint)` when a
 * kind is clicked (null: no kind), and `act("dry-run" | "replay" | "discard", {fingerprint, lines})`
 * with null for all kinds; a discard only once it is confirmed.
 *
 * Options:
 *   dryRun: whether there is a button for it (true)
 *   keep: whether a click chooses the kind here (true); else only `state.chosen` does
 *   undoable: the most dead letters of which a discard can be undone
 */
export function deadLetters(el, act, options = {}) {
  const { dryRun = true, keep = true, undoable = Infinity } = options;
  const { beside, end } = card(el, "dead-letters", "Dead letters");
  const open = h("span.etl-tag.etl-tag-bad");
  const discarded = h("span.etl-cap");
  const filter = h("input.etl-field.etl-small", { type: "search", placeholder: "Filter",
    "aria-label": "Filter dead letters", "data-action": "filter" });
  beside.append(open, discarded);
  end.append(filter);
  const { box, body } = table("Kinds of dead letters", [["Lines", "num", "62px"],
    ["Why, and a sample", "", ""], ["Where, from", "where", "122px"], ["Last", "num last", "92px"]]);
  box.firstChild.classList.add("etl-kinds");
  const latest = h("ul", { "aria-label": "Latest lines" });
  const latestBox = h("div.etl-latest", {}, h("h3", {}, "Latest lines"), latest);
  const none = empty("No dead letters", "A line that a processor rejects is kept here, with the",
    "reason, so that you can fix the processor and replay it.");
  const nothing = empty("No kind matches the filter");
  const said = h("div");
  const show = answers(said, act);
  const chosenText = h("span.etl-chosen-text", {}, h("b"), " ", h("span.etl-soft"));
  const buttons = {
    "dry-run": button("Dry run", "dryRun", { attributes: { "data-action": "dry-run" } }),
    replay: button("Replay", "replay", { attributes: { "data-action": "replay" } }),
    discard: button("Discard…", "discard", { kind: "danger",
      attributes: { "data-action": "discard", "aria-haspopup": "dialog" } }),
  };
  const foot = h("div.etl-foot", {}, chosenText, ...(dryRun ? [buttons["dry-run"]] : []),
    buttons.replay, h("span.etl-grow"), buttons.discard);
  const ask = confirmation(foot);
  el.append(box, nothing, latestBox, none, said, foot);

  let [state, chosen, order, held] = [null, null, [], false];
  let adrift = false; // whether the focus was on a button that may have gone
  const hold = (value) => () => {
    held = value;
    if (!value) draw();
  };
  box.onpointerenter = hold(true);
  box.onpointerleave = hold(false);
  filter.oninput = () => draw();
  filter.onkeydown = (event) => {
    if (event.key !== "Escape") return;
    filter.value = "";
    draw();
  };

  function kinds() {
    const given = state?.kinds ?? [];
    const place = new Map(order.map((name, index) => [name, index]));
    const sorted = [...given].sort((a, b) => (held
      ? (place.get(a.fingerprint) ?? 1e9) - (place.get(b.fingerprint) ?? 1e9) : 0)
      || b.lines - a.lines);
    order = sorted.map((kind) => kind.fingerprint);
    const wanted = filter.value.trim().toLowerCase();
    return sorted.filter((kind) => [kind.reason, kind.sample, kind.processor, kind.source, kind.code]
      .some((words) => String(words ?? "").toLowerCase().includes(wanted)));
  }

  function selection(shown) {
    const kind = shown.find((one) => one.fingerprint === chosen);
    if (kind) return { fingerprint: chosen, lines: kind.lines };
    return { fingerprint: null, lines: filter.value.trim() ? 0 : (state?.open ?? 0) };
  }

  function choose(fingerprint) {
    show.clear();
    if (keep) chosen = chosen === fingerprint ? null : fingerprint;
    act("choose", keep ? chosen : fingerprint);
    draw();
  }

  function start(name) {
    const which = selection(kinds());
    if (!which.lines) return;
    show.clear();
    if (name !== "discard") act(name, which);
    else ask.open(() => selection(kinds()).lines, undoable, buttons.discard, () => {
      const agreed = selection(kinds());
      if (agreed.lines) act("discard", agreed);
    });
  }
  for (const [name, node] of Object.entries(buttons)) node.onclick = () => start(name);

  const make = (kind) => {
    const why = h("button.etl-why", { type: "button" });
    const row = h("tr", { "data-fingerprint": kind.fingerprint }, h("td.etl-num", {}, h("b")),
      h("td", {}, why, h("span.etl-sample.etl-mono.etl-cut"), h("span.etl-cap.etl-small-only")),
      h("td.etl-where", {}, h("span.etl-tag.etl-mono"), h("span.etl-cap.etl-cut")),
      h("td.etl-num.etl-last", {}, bars(), h("span.etl-cap")));
    row.onclick = () => choose(kind.fingerprint);
    why.onkeydown = (event) => {
      const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
      if (!step) return;
      event.preventDefault();
      row[step]?.querySelector(".etl-why").focus();
    };
    return row;
  };
  const fill = (row, kind) => {
    const [lines, why, where, last] = row.children;
    text(lines.firstChild, number(kind.lines));
    attr(lines.firstChild, "title", kind.lines >= 1e6 ? exact(kind.lines) : null);
    text(why.children[0], visible(kind.reason));
    attr(why.children[0], "title", kind.reason);
    attr(why.children[0], "aria-pressed", keep ? String(kind.fingerprint === chosen) : null);
    text(why.children[1], visible(kind.sample) || "blank line");
    attr(why.children[1], "title", visible(kind.sample));
    const at = ago(Math.max(0, state.at - kind.last));
    const source = visible(kind.source ?? "");
    text(why.children[2], [visible(kind.processor), source, at].filter(Boolean).join(" · "));
    text(where.children[0], visible(kind.processor));
    text(where.children[1], source);
    attr(where.children[1], "title", source);
    fillBars(last.children[0], kind.last_minutes);
    text(last.children[1], at);
    row.classList.toggle("etl-chosen", kind.fingerprint === chosen);
  };

  function draw() {
    const shown = kinds();
    if (chosen !== null && !shown.some((kind) => kind.fingerprint === chosen)) chosen = null;
    keyed(body, shown, (kind) => kind.fingerprint, make, fill);
    const all = state?.kinds.length ?? 0;
    box.hidden = !shown.length;
    nothing.hidden = shown.length > 0 || !all;
    none.hidden = !state || all > 0 || state.open > 0;
    filter.hidden = all < 3 && !filter.value;
    latestBox.hidden = !all || all > 3 || !shown.length || !state.latest?.length;
    box.classList.toggle("etl-fit", !latestBox.hidden);
    fillLatest();
    text(open, `${number(state?.open ?? 0)} open`);
    open.hidden = !state?.open;
    text(discarded, state?.discarded ? `${number(state.discarded)} discarded` : "");
    drawFoot(shown);
    reachable(box);
  }

  function drawFoot(shown) {
    const which = selection(shown);
    foot.hidden = !state?.open;
    const words = which.fingerprint ? number(which.lines) : which.lines ? `All ${number(which.lines)}`
      : "None";
    text(chosenText.children[0], words);
    text(chosenText.children[1], "chosen");
    const off = unable(state) || (state.open ? "" : "No dead letters")
      || (which.lines ? "" : "Choose a kind, or clear the filter");
    enable(buttons["dry-run"], off, "Try them on the pipeline as it is now; changes nothing (D)");
    enable(buttons.replay, off, "Put them back into the queue (R)");
    enable(buttons.discard, off, "Close them without processing");
    if (off) ask.close();
    else ask.update();
  }

  function fillLatest() {
    const first = !latest.etlKeys?.size;
    keyed(latest, latestBox.hidden ? [] : state.latest, (line) => line.id, (line) => {
      const shown = visible(line.line);
      const row = h("li", { "data-id": line.id }, levelIcon(line.level, "", "small"),
        h("span.etl-soft", {}, clock(line.at)),
        h("span.etl-mono.etl-cut.etl-grow", { title: shown }, shown || "blank line"),
        h("span.etl-tag.etl-mono", {}, visible(line.processor)));
      if (!first) row.classList.add("etl-landed");
      return row;
    });
  }

  return (next, answer) => {
    const focus = el.getRootNode().activeElement;
    adrift = foot.contains(focus) || (adrift && (!focus || focus === document.body));
    state = next;
    if (state && "chosen" in state) chosen = state.chosen;
    draw();
    show(answer);
    if (adrift && foot.hidden) said.querySelector(".etl-undo:not([hidden]) button")?.focus();
  };
}

/** Ask before a discard, beside its button, with the focus on Keep. */
function confirmation(foot) {
  const title = h("b", { id: `etl-ask-${Math.random().toString(36).slice(2)}` });
  const note = h("p.etl-soft", { id: `${title.id}-note` });
  const keepIt = button("Keep", "");
  const goOn = button("Discard", "discard", { kind: "alarm" });
  const dialog = h("div.etl-ask", { role: "alertdialog", "aria-labelledby": title.id,
    "aria-describedby": note.id, hidden: true }, title, note,
  h("div.etl-row", {}, keepIt, goOn));
  foot.append(dialog);
  let [lines, most, opener, agree] = [() => 0, Infinity, null, null];

  const update = () => {
    if (dialog.hidden) return;
    const many = lines();
    const noun = many === 1 ? "dead letter" : "dead letters";
    text(title, `Discard ${exact(many)} ${noun}?`);
    text(goOn.lastChild, `Discard ${exact(many)}`);
    text(note, many > most ? "They will not be replayed. Only etl dlq reopen can undo so many."
      : "They will not be replayed. You can undo this for 10 seconds.");
  };
  const close = () => {
    if (dialog.hidden) return;
    const focused = dialog.contains(document.activeElement)
      || dialog.contains(dialog.getRootNode().activeElement);
    dialog.hidden = true;
    if (focused) opener.focus();
  };
  keepIt.onclick = close;
  goOn.onclick = () => {
    close();
    agree();
  };
  dialog.onkeydown = (event) => {
    event.stopPropagation();
    if (event.key === "Escape") close();
    if (event.key !== "Tab") return;
    event.preventDefault();
    (dialog.getRootNode().activeElement === keepIt ? goOn : keepIt).focus();
  };
  const open = (...given) => {
    [lines, most, opener, agree] = given;
    dialog.hidden = false;
    update();
    keepIt.focus();
  };
  return { open, close, update };
}

/** Twelve small bars for the dead letters of the last twelve minutes. */
function bars() {
  return s("svg", { class: "etl-bars", viewBox: "0 0 62 14", "aria-hidden": "true" },
    ...Array.from({ length: 12 }, (_, index) => s("rect", { x: (index * 5.2).toFixed(1), width: 4.2 })));
}

function fillBars(svg, minutes) {
  const most = Math.max(...minutes, 1);
  minutes.forEach((many, index) => {
    const high = many ? Math.max(2, (many / most) * 14) : 1;
    const rect = svg.children[index];
    attr(rect, "y", (14 - high).toFixed(1));
    attr(rect, "height", high.toFixed(1));
    attr(rect, "class", many ? "etl-some" : null);
  });
}

// ---- workers and errors ------------------------------------------------------------------------

/** The workers that run, and what each is doing. */
export function workers(el) {
  const { beside } = card(el, "workers", "Workers");
  const late = h("span.etl-cap.etl-warn");
  beside.append(late);
  const { box, body } = table("Workers", [["Worker", "", "20%"], ["Host", "wide", "12%"],
    ["PID", "num wide", "8%"], ["State", "", "108px"], ["Batch", "", ""], ["For", "num wide", "62px"],
    ["Lines/s", "num wide", "68px"], ["Heartbeat", "num", "92px"]]);
  const none = empty("No worker is running", "Start one with etl work");
  el.append(box, none);
  return (state) => {
    const rows = state?.workers ?? [];
    const silent = rows.filter((one) => one.state === "late").length;
    text(late, silent ? `${silent} of ${rows.length} without a heartbeat` : "");
    box.hidden = !rows.length;
    none.hidden = !state || rows.length > 0;
    keyed(body, rows, (one) => `${one.name} ${one.host} ${one.pid}`,
      () => h("tr", {}, h("td", {}, h("i.etl-dot", { "aria-hidden": "true" }), h("span")),
        ...["soft wide", "num soft wide", "", "", "num wide", "num wide", "num"].map((kind) =>
          h(tag("td", kind)))),
      (row, one) => {
        const slow = one.state === "late";
        const values = [visible(one.name), visible(one.host), one.pid ?? "",
          slow ? "no heartbeat" : one.state, visible(one.batch ?? "") || "–",
          one.for === null ? "–" : duration(one.for), rate(one.rate),
          `${duration(one.heartbeat)} ago`];
        values.forEach((value, index) => {
          const cell = row.children[index];
          text(index ? cell : cell.lastChild, value);
          if (index < 5) attr(cell, "title", String(value));
        });
        attr(row.firstChild.firstChild, "class",
          `etl-dot etl-dot-${one.state}`);
        for (const index of [3, 7]) row.children[index].classList.toggle("etl-warn", slow);
      });
    reachable(box);
  };
}

/** The last errors, newest first. */
export function errors(el) {
  card(el, "errors", "Recent errors");
  const { box, body } = table("Recent errors", [["At", "", "76px"], ["Processor", "", "20%"],
    ["Error", "", ""], ["From", "wide", "30%"]]);
  const none = empty("No errors");
  el.append(box, none);
  return (state) => {
    const rows = state?.errors ?? [];
    box.hidden = !rows.length;
    none.hidden = !state || rows.length > 0;
    const seen = new Map();
    const key = (one) => {
      const name = JSON.stringify([one.at, one.processor, one.error, one.source, one.lines]);
      seen.set(name, (seen.get(name) ?? 0) + 1);
      return `${name}${seen.get(name)}`;
    };
    keyed(body, rows, key,
      (one) => {
        const where = [one.source, one.lines > 1 ? count(one.lines, "line") : ""].filter(Boolean);
        const values = [clock(one.at), one.processor, one.message || one.error, where.join(" · ")];
        return h("tr", {}, ...values.map((value, index) =>
          h(tag("td", ["soft", "", "", "soft wide"][index]), { title: visible(value) },
            visible(value))));
      });
    reachable(box);
  };
}

// ---- keys --------------------------------------------------------------------------------------

/** Call functions by key while the focus is inside an element and nobody types. */
export function shortcuts(el, map) {
  el.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const call = map[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!call) return;
    event.preventDefault();
    call();
  });
}
