// An extension of JupyterLab, as a build would make one, but written by hand: it shows the output
// of the cell with the tag `console` in a pane at the right of the control room's notebook.

const TAG = "console";
const TITLE = "Console";
const FAILED = "Error displaying widget";
const TRIES = 30; // of two seconds

/** Resolve once something holds; it is looked at whenever a node changes. */
function until(node, holds) {
  return new Promise((done) => {
    if (holds()) return done();
    const watch = new MutationObserver(() => {
      if (!holds()) return;
      watch.disconnect();
      done();
    });
    watch.observe(node, { childList: true, subtree: true });
  });
}

/** Wait until the server has run the notebook. */
async function hasRun({ serverSettings }) {
  const { baseUrl, token, fetch } = serverSettings;
  const headers = token ? { Authorization: `token ${token}` } : {};
  const answer = await fetch(`${baseUrl}etl/has-run`, { headers, credentials: "same-origin" });
  if (!answer.ok) throw new Error(`etl: the server answers ${answer.status}`);
}

/** Return where the console's cell is. */
const place = (panel) =>
  panel.content.widgets.findIndex((cell) => cell.model.getMetadata("tags")?.includes(TAG));

/** Return the outputs of a cell: what draws each, and what is drawn. */
const outputs = ({ outputArea }) =>
  (outputArea?.widgets ?? []).map((row, index) => ({
    renderer: row.widgets.at(-1),
    model: outputArea.model.get(index),
  }));

const failed = ({ renderer }) => renderer.node.textContent.startsWith(FAILED);
const shown = ({ renderer }) => renderer.node.querySelector(".lm-Widget") != null;

/** Draw again what has failed: JupyterLab waits two seconds for a widget, a kernel may take more. */
async function showLate(panel) {
  for (let tries = 0; tries < TRIES && !panel.isDisposed; tries += 1) {
    const late = panel.content.widgets.flatMap(outputs).filter(failed);
    if (!late.length) return;
    await Promise.all(late.map(({ renderer, model }) => renderer.renderModel(model)));
  }
}

/** Return the panes of a notebook that show the output of a cell. */
const views = (app, path) =>
  [...app.shell.widgets("main")].filter(
    ({ content }) => content?.hasClass?.("jp-LinkedOutputView") && content.path === path,
  );

/** Close the side bars, once: who opens one finds it open after a reload. */
function makeRoom(app, path) {
  const done = `etl-console:${path}`;
  if (sessionStorage.getItem(done)) return;
  sessionStorage.setItem(done, "1");
  app.shell.collapseLeft();
  app.shell.collapseRight();
}

/** Show the console beside its notebook, once the server has run that. */
async function show(app, panel) {
  makeRoom(app, panel.context.path);
  await Promise.all([panel.context.ready, panel.sessionContext.ready]);
  await hasRun(app.serviceManager);
  const { path } = panel.context;
  const cell = () => panel.content.widgets[place(panel)];
  if (!cell()) return;
  // A page that came earlier has the notebook without outputs.
  if (!cell().model.outputs.length) await panel.context.revert();
  await until(panel.node, () => outputs(cell()).some((one) => shown(one) || failed(one)));
  await showLate(panel);
  if (panel.isDisposed || !outputs(cell()).some(shown)) return;

  const restored = views(app, path);
  await app.commands.execute("notebook:create-output-view", { path, index: place(panel) });
  const view = views(app, path).find((one) => !restored.includes(one));
  view.title.label = TITLE;
  // A pane that JupyterLab has restored says "Loading widget..." for good: it was made before the
  // widgets had a manager. The new one takes its place.
  const where = restored.length
    ? { mode: "tab-after", ref: restored[0].id }
    : { mode: "split-right", ref: panel.id };
  app.shell.add(view, "main", { ...where, activate: false });
  restored.forEach((one) => one.dispose());
  app.shell.activateById(panel.id);
}

function activate(app) {
  const page = JSON.parse(document.getElementById("jupyter-config-data").textContent);
  const seen = new WeakSet();
  const look = () => {
    if (app.shell.mode === "single-document") return; // there is no place beside it
    for (const panel of app.shell.widgets("main")) {
      if (panel.context?.path !== page.etlNotebook || seen.has(panel)) continue;
      seen.add(panel);
      show(app, panel).catch(console.error);
    }
  };
  app.restored.then(() => {
    look();
    app.shell.layoutModified.connect(look);
  });
}

const plugin = { id: "etl-console:pane", autoStart: true, activate };
window._JUPYTERLAB ??= {};
window._JUPYTERLAB["etl-console"] = {
  init: () => {},
  get: async () => () => ({ __esModule: true, default: plugin }),
};
