// Icons for waiting lines. Nodes are kept: only what comes and goes is touched.
const GLYPHS = { DEBUG: "·", INFO: "i", WARNING: "!", ERROR: "×", CRITICAL: "‼", OTHER: "–" };

function render({ model, el }) {
  const box = document.createElement("div"), more = document.createElement("div");
  const nodes = new Map();
  box.className = "etl-icons";
  box.setAttribute("role", "list");
  more.className = "etl-more";
  el.classList.add("etl-queue");
  el.append(box, more);

  const lively = () => (nodes.size > 120 ? 3 : 40); // of each change, so many icons are animated
  function come([key, level, text], place) {
    if (nodes.has(key)) return;
    const icon = document.createElement("span");
    icon.className = `etl-icon etl-${level}`;
    icon.setAttribute("role", "listitem");
    icon.textContent = GLYPHS[level] ?? "–";
    icon.title = text;
    if (place < lively()) {
      icon.classList.add("etl-coming");
      icon.style.setProperty("--wait", `${place * 22}ms`);
    }
    nodes.set(key, icon);
    box.append(icon);
  }
  function leave(key, place) {
    const icon = nodes.get(key);
    if (!icon) return;
    nodes.delete(key);
    if (place >= lively()) { icon.remove(); return; }
    icon.classList.add("etl-leaving");
    setTimeout(() => icon.remove(), 260);
  }
  function settle() {
    const keys = new Set(model.get("items").map((item) => item[0]));
    [...nodes.keys()].filter((key) => !keys.has(key)).forEach(leave);
    model.get("items").forEach(come);
  }
  function count() {
    const left = model.get("more");
    more.textContent = left ? `and ${left.toLocaleString("en")} more` : "";
  }
  function change({ came, left }) { left.forEach(leave); came.forEach(come); }
  function look() {
    const ink = getComputedStyle(el).color.match(/[\d.]+/g).map(Number);
    model.set("dark", ink[0] + ink[1] + ink[2] > 384);
    const width = Math.round(el.clientWidth / 10) * 10;
    if (width > 200) model.set("width", width);
    model.save_changes();
  }

  model.on("msg:custom", change);
  model.on("change:items", settle);
  model.on("change:more", count);
  const sizes = new ResizeObserver(() => requestAnimationFrame(look));
  const themes = new MutationObserver(() => setTimeout(look, 300));
  sizes.observe(el);
  themes.observe(document.body, { attributeFilter: ["data-jp-theme-name", "class"] });
  settle();
  count();
  return () => {
    sizes.disconnect();
    themes.disconnect();
    model.off("msg:custom", change);
    model.off("change:items", settle);
    model.off("change:more", count);
  };
}
export default { render };
