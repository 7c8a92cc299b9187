// The dashboard of `etl serve`: shows the events of GET /events, and calls the endpoints for people.

import {
  ago, attr, backlogChart, button, count, deadLetters, duration, errors, h, header, levels, number,
  operator, pipeline, rateChart, shortcuts, text, workers,
} from "./parts.js";

const TOKEN = "etl-token";
const THEME = "etl-theme";
const MAX_UNDO = 10_000; // ids that /dlq/discard returns at most
const LOST_SECONDS = 3;
const RETRY_SECONDS = 3;

const $ = (id) => document.getElementById(id);
let state = null;
let heard = 0; // when, on this page's clock
let retryAt = 0;
let range = 120;
let connection = null;
let listening = false;
let wake = () => {};
let answerId = 0;
const answered = { operator: null, dead: null };

// ---- what is shown -----------------------------------------------------------------------------

const parts = [
  header($("header"), act),
  rateChart($("rate"), act),
  backlogChart($("backlog"), act),
  levels($("levels"), act),
  pipeline($("pipeline"), act),
  workers($("workers"), act),
  errors($("errors"), act),
];
const showOperator = operator($("operator"), act, { before: true });
const showDead = deadLetters($("dead"), act, { dryRun: false, undoable: MAX_UNDO });
let drawing = false;

/** Draw once before the next frame, however much has come. */
function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(drawNow);
}

function drawNow() {
  drawing = false;
  const shown = state && { ...state, lost: lost() };
  document.body.classList.toggle("etl-lost", Boolean(shown?.lost));
  for (const part of parts) part(shown);
  showOperator(shown, answered.operator);
  showDead(shown, answered.dead);
  text($("store"), state?.store ?? "");
  document.title = state ? `${state.store} · etl` : "etl";
  drawLive();
}

/** Return for how long nothing has been heard and when it is tried again, or null. */
function lost() {
  const seconds = (performance.now() - heard) / 1000;
  if (seconds < LOST_SECONDS) return null;
  return { seconds, retry: Math.max(0, Math.ceil((retryAt - performance.now()) / 1000)) };
}

function drawLive() {
  const seconds = (performance.now() - heard) / 1000;
  const live = state && seconds < LOST_SECONDS;
  attr($("live"), "class", live ? "page-live" : "page-away");
  text($("live"), live ? `live · updated ${duration(seconds)} ago`
    : state ? `not connected · ${ago(seconds)}` : locked() ? "locked" : "connecting");
}

// ---- what is heard -----------------------------------------------------------------------------

/** Read the server's events for good; try again when they end. */
async function listen() {
  if (listening) return;
  listening = true;
  while (listening) {
    connection = new AbortController();
    try {
      const found = await fetch(`/events?seconds=${range}`, {
        headers: credentials(), signal: connection.signal, cache: "no-store" });
      if (found.status === 401) {
        listening = false;
        lock(sessionStorage.getItem(TOKEN) ? "The token is wrong." : null);
        return;
      }
      if (!found.ok) throw new Error(await problemOf(found));
      unlock();
      for await (const [name, data] of eventsOf(found.body)) hear(name, data);
    } catch (error) {
      if (error.name === "AbortError") continue;
      complain(error instanceof TypeError ? "" : error.message);
    }
    await pause(RETRY_SECONDS);
  }
}

function hear(name, data) {
  if (name === "server") text($("version"), `etl ${data.version}`);
  if (name === "problem") complain(sentence(data.error));
  if (name !== "overview") return; // what is shown gets old, and says so
  complain("");
  state = data;
  heard = performance.now();
  draw();
}

/** Say why nothing is heard, or that it is. */
function complain(words) {
  text($("trouble"), words);
}

/** Wait some seconds, or until `wake` is called. */
function pause(seconds) {
  retryAt = performance.now() + seconds * 1000;
  return new Promise((done) => {
    wake = done;
    setTimeout(done, seconds * 1000);
  });
}

/** Yield the events of a body as pairs of name and data. */
async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const found = (rest + value).split("\n\n");
    rest = found.pop();
    for (const one of found) {
      const fields = Object.fromEntries(one.split("\n").map((line) => line.split(/: (.*)/s, 2)));
      yield [fields.event, JSON.parse(fields.data)];
    }
  }
}

// ---- what a person does ------------------------------------------------------------------------

const WORDS = {
  pause: () => {
    const waiting = state.totals.waiting;
    return waiting ? `Paused. ${count(waiting, "line")} ${waiting === 1 ? "waits" : "wait"} until you resume.`
      : "Paused.";
  },
  resume: () => "Resumed.",
  drain: () => "Draining. The workers end when the queue is empty.",
  replay: ({ replayed }) => `${count(replayed, "line")} requeued.`,
  discard: ({ discarded }) => `${count(discarded, "dead letter")} discarded.`,
  undo: ({ reopened }) => `${count(reopened, "dead letter")} open again.`,
};
const PATHS = { pause: "/pause", resume: "/resume", drain: "/drain", replay: "/dlq/replay",
  discard: "/dlq/discard", undo: "/dlq/reopen" };

async function act(name, detail) {
  if (!(name in PATHS)) return;
  const where = ["pause", "resume", "drain"].includes(name) ? "operator" : "dead";
  answered[where] = null;
  let answer;
  try {
    const given = await post(PATHS[name], name === "undo" ? { ids: detail } : which(detail));
    answer = { text: WORDS[name](given), bad: false, undo: given.ids?.length ? given.ids : null };
  } catch (error) {
    answer = { text: error.message, bad: true, undo: null };
  }
  answerId += 1;
  answered[where] = { id: answerId, action: name, ...answer };
  draw();
}

function which(detail) {
  if (!detail) return null;
  return detail.fingerprint ? { fingerprint: detail.fingerprint } : { all: true };
}

/** Return the answer to a request; raise an Error with the reason why there is none. */
async function post(path, body) {
  let found;
  try {
    found = await fetch(path, { method: "POST", body: body && JSON.stringify(body),
      headers: { ...credentials(), ...(body && { "Content-Type": "application/json" }) } });
  } catch {
    throw new Error("No answer from the server; nothing may have been changed. Try again.");
  }
  if (found.status === 401) lock("The token is no longer accepted.");
  if (!found.ok) throw new Error(await problemOf(found));
  return found.json();
}

async function problemOf(response) {
  const problem = await response.json().catch(() => ({}));
  return sentence(problem.detail ?? `the server answered ${response.status}`);
}

function sentence(words) {
  return `${words[0].toUpperCase()}${words.slice(1)}${words.endsWith(".") ? "" : "."}`;
}

// ---- token -------------------------------------------------------------------------------------

function credentials() {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

function locked() {
  return !$("lock").hidden;
}

/** Forget the token and what was shown with it, and ask for it. */
function lock(reason) {
  sessionStorage.removeItem(TOKEN);
  connection?.abort();
  state = null;
  for (const id of ["grid", "header", "operator", "range", "links"]) $(id).hidden = true;
  text($("version"), "");
  $("lock").hidden = false;
  if (reason !== null) text($("refused"), reason);
  lockButton.hidden = true;
  $("token").value = "";
  $("token").focus();
  drawNow(); // at once, also in a tab behind others
}

function unlock() {
  $("lock").hidden = true;
  const token = Boolean(sessionStorage.getItem(TOKEN));
  for (const id of ["grid", "header", "operator", "range"]) $(id).hidden = false;
  $("links").hidden = token; // a link cannot send it
  lockButton.hidden = !token;
}

$("unlock").onsubmit = (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, $("token").value.trim());
  text($("refused"), "");
  listen();
};

// ---- the page ----------------------------------------------------------------------------------

const lockButton = button("", "lock", { kind: "quiet",
  attributes: { "aria-label": "Lock", title: "Forget the token", hidden: true } });
lockButton.onclick = () => lock("");
const theme = button("", "moon", { kind: "quiet", attributes: { "aria-label": "Dark or light" } });
theme.onclick = () => {
  const next = getComputedStyle(document.body).colorScheme === "dark" ? "light" : "dark";
  localStorage.setItem(THEME, next);
  setTheme(next);
};
$("tools").append(lockButton, theme);

function setTheme(name) {
  document.body.classList.toggle("etl-dark", name === "dark");
  document.body.classList.toggle("etl-light", name === "light");
}

$("range").onclick = (event) => {
  if (!event.target.value) return;
  range = Number(event.target.value);
  for (const one of $("range").children) attr(one, "aria-pressed", String(one === event.target));
  connection?.abort();
};

const keys = h("dialog", { "aria-label": "Keys" }, h("h2", {}, "Keys"),
  h("dl", {}, ...Object.entries({ P: "Pause or resume", R: "Replay the chosen dead letters",
    "/": "Filter the dead letters", "↑ ↓": "Next kind of dead letters", "?": "This list" })
    .flatMap(([key, words]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, words)])),
  h("form", { method: "dialog" }, h("button.etl-btn", {}, "Close")));
document.body.append(keys);
shortcuts(document, {
  p: () => document.querySelector("[data-action=toggle]").click(),
  r: () => document.querySelector("[data-action=replay]").click(),
  "/": () => document.querySelector("[data-action=filter]").focus(),
  "?": () => keys.open || keys.showModal(),
});

document.addEventListener("visibilitychange", () => document.hidden || wake());
setInterval(() => (lost() ? draw() : drawLive()), 1000);
setTheme(localStorage.getItem(THEME));
text($("place"), location.host);
heard = performance.now();
draw();
listen();
