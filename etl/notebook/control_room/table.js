// A table of text. Rows keep their nodes by key; cells are only ever set as text.
function render({ model, el }) {
  const table = document.createElement("table"), head = table.createTHead().insertRow();
  const body = table.createTBody(), empty = document.createElement("p");
  const nodes = new Map();
  el.classList.add("etl-table");
  el.append(table, empty);
  const number = (title) => title.startsWith("#");
  for (const title of model.get("columns")) {
    const cell = document.createElement("th");
    cell.textContent = title.replace("#", "");
    cell.classList.toggle("etl-number", number(title));
    head.append(cell);
  }
  function make(key) {
    const row = document.createElement("tr");
    row.tabIndex = 0;
    const choose = () => {
      model.set("chosen", model.get("chosen") === key ? "" : key);
      model.save_changes();
    };
    row.onclick = choose;
    row.onkeydown = (event) => { // JupyterLab would open the cell for editing
      if (event.key === "Enter") { event.stopPropagation(); choose(); }
    };
    for (const title of model.get("columns"))
      row.insertCell().classList.toggle("etl-number", number(title));
    nodes.set(key, row);
    return row;
  }
  function fill() {
    const rows = model.get("rows"), keys = new Set(rows.map((row) => row[0]));
    for (const [key, row] of nodes) if (!keys.has(key)) { row.remove(); nodes.delete(key); }
    rows.forEach(([key, ...cells], place) => {
      const row = nodes.get(key) ?? make(key);
      cells.forEach((text, column) => {
        const cell = row.cells[column];
        if (cell.textContent !== text) { cell.textContent = text; cell.title = text; }
      });
      if (body.rows[place] !== row) body.insertBefore(row, body.rows[place] ?? null);
    });
    table.hidden = !rows.length;
    empty.textContent = rows.length ? "" : model.get("empty");
    mark();
  }
  function mark() {
    for (const [key, row] of nodes) row.classList.toggle("etl-chosen", key === model.get("chosen"));
  }
  model.on("change:rows", fill);
  model.on("change:chosen", mark);
  fill();
  return () => { model.off("change:rows", fill); model.off("change:chosen", mark); };
}
export default { render };
