// Leaderboard: sorting, filters, columns and ticks, all kept in the fragment. Without script the table is complete.
(() => {
  const all = (what, where = document) => [...where.querySelectorAll(what)];
  const one = (what, where = document) => where.querySelector(what);
  const read = () => new URLSearchParams(location.hash.slice(1));
  const make = (name, text, more = {}) => Object.assign(document.createElement(name), { textContent: text }, more);

  function board(table) {
    const form = one(".filters"), body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
    const find = one("#find"), type = one("#type"), open = one("#open"), here = one("#here");
    const columns = all(".columns input"), go = one("#compare"), none = one(".empty.none"), state = one(".printed-state");
    const picked = new Set(), more = one(".more");
    let sort = 0, down = false, most = +table.dataset.most || Infinity;
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    one("#protocol").addEventListener("change", ({ target }) => { location.href = target.value; });

    heads.forEach((head, k) => {
      const label = one(".label", head), button = make("button", label.textContent, { type: "button", className: "sort" });
      label.replaceWith(button);
      button.addEventListener("click", () => {
        if (sort === k) down = !down; else { sort = k; down = false; }
        write();
      });
    });
    table.classList.add("picking");
    for (const row of rows) {
      const tick = make("input", "", { type: "checkbox" }), label = make("label", "", { className: "tick" });
      const name = one(".name", row).textContent, cell = row.cells[0], both = make("div", ""), rest = make("span", "");
      tick.setAttribute("aria-label", `Compare ${name}`);
      rest.append(...cell.childNodes);
      label.append(tick);
      both.append(label, rest);
      cell.append(both);
      tick.addEventListener("change", () => { picked[tick.checked ? "add" : "delete"](row.id); write(); });
    }

    const value = (row) => {
      const cell = row.cells[sort], text = cell.dataset.v;
      return text === undefined ? (sort === 1 || sort === heads.length - 1 ? cell.textContent.trim().toLowerCase() : null) : +text;
    };
    const before = (a, b) => {
      const x = value(a), y = value(b);
      if (x === null || y === null) return (x === null) - (y === null);
      return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
    };

    function paint() {
      const asked = read(), words = (asked.get("q") || "").toLowerCase(), hidden = new Set((asked.get("hide") || "").split(","));
      find.value = asked.get("q") || "";
      type.value = asked.get("type") || "";
      open.checked = asked.has("open");
      here.checked = asked.has("here");
      picked.clear();
      for (const id of (asked.get("pick") || "").split(",")) if (rows.some((row) => row.id === id)) picked.add(id);
      const at = asked.get("sort");
      sort = at === null ? 0 : Math.min(Math.max(+at || 0, 0), heads.length - 1);
      down = asked.has("down");
      // The order of the file is by rank; sorting starts from it, so that ties keep it.
      const order = at === null ? rows : [...rows].sort(before);
      let shown = 0;
      for (const row of order) {
        const data = row.dataset, fits = !!((data.name || "").includes(words) && (!type.value || data.type === type.value) && (!open.checked || data.open) && (!here.checked || data.here));
        shown += fits;
        row.hidden = !fits || shown > most;
        one("input", row).checked = picked.has(row.id);
      }
      // Twenty thousand cells are touched only where something changes.
      for (const box of columns) {
        box.checked = !hidden.has(box.value);
        const head = heads[box.value];
        if (head.hidden === box.checked) for (const row of [head.parentNode, ...rows]) row.cells[box.value].hidden = !box.checked;
      }
      // Rows that cannot be seen need no place.
      const seen = order.filter((row) => !row.hidden);
      if (seen.some((row, k) => row !== body.rows[k])) body.prepend(...seen);
      table.classList.toggle("sorted", at !== null);
      heads.forEach((head, k) => {
        if (at === null ? k === 2 : k === sort) head.setAttribute("aria-sort", at === null ? first : down ? "descending" : "ascending");
        else head.removeAttribute("aria-sort");
      });
      one(".found output").textContent = `${shown} of ${rows.length} models`;
      if (more) more.hidden = shown <= most;
      none.hidden = shown > 0;
      const ids = [...picked];
      go.textContent = ids.length > 1 ? `Compare ${ids.length} models` : "Tick two models";
      go.classList.toggle("primary", ids.length > 1);
      if (ids.length > 1) {
        go.href = `${table.dataset.compare}#${new URLSearchParams({ t: table.dataset.table, m: ids.slice(0, 6).join(",") })}`;
        go.removeAttribute("aria-disabled");
      } else { go.removeAttribute("href"); go.setAttribute("aria-disabled", "true"); }
      state.textContent = `Shown: ${shown} of ${rows.length} models. ${asked.toString().replaceAll("&", ", ")}`;
    }
    const first = heads[2] ? heads[2].getAttribute("aria-sort") : "ascending";
    function write() {
      const asked = new URLSearchParams(), hide = columns.filter((box) => !box.checked).map((box) => box.value);
      if (find.value) asked.set("q", find.value);
      if (type.value) asked.set("type", type.value);
      if (open.checked) asked.set("open", "");
      if (here.checked) asked.set("here", "");
      if (hide.length) asked.set("hide", hide.join(","));
      if (sort || down) { asked.set("sort", sort); if (down) asked.set("down", ""); }
      if (picked.size) asked.set("pick", [...picked].join(","));
      history.replaceState(null, "", asked.size ? `#${asked}` : location.pathname + location.search);
      paint();
    }
    form.addEventListener("input", write);
    const clear = () => { history.replaceState(null, "", location.pathname + location.search); paint(); };
    form.addEventListener("reset", (event) => { event.preventDefault(); clear(); });
    one("button", none).addEventListener("click", clear);
    if (more) one("button", more).addEventListener("click", () => { most = Infinity; paint(); });
    addEventListener("hashchange", paint);
    paint();
    table.classList.remove("waiting");
  }

  addEventListener("DOMContentLoaded", () => {
    const table = one("table.board");
    if (table) board(table);
  });
})();
