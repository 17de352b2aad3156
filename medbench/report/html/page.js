"use strict";
// The leaderboard: sort by any column, filter, show a part at a time. Without this script it is a plain table of everything.
(() => {
  const board = document.getElementById("board");
  const body = board.tBodies[0];
  const heads = [...board.tHead.rows[0].cells];
  const form = document.getElementById("filters");
  const find = document.getElementById("find");
  const count = document.getElementById("count");
  const paging = document.getElementById("paging");
  const STEP = 100;
  let shown = STEP;
  const rows = [...body.rows].map((row, place) => ({
    row, place,
    words: row.textContent.toLowerCase(),
    cells: [...row.cells].map((cell) => cell.textContent.trim()),
  }));
  const value = (entry, column, kind) => {
    if (kind === "word") return entry.cells[column];
    const own = entry.row.cells[column].dataset.v;
    return parseFloat((own ?? entry.cells[column]).replaceAll(",", "").replace("\u2212", "-"));
  };
  const selects = [...form.querySelectorAll("select")].map((select) => ({
    select, column: heads.findIndex((head) => head.dataset.key === select.dataset.column),
  }));
  for (const { select, column } of selects) {
    const names = [...new Set(rows.map((entry) => entry.cells[column]))];
    for (const name of names) select.add(new Option(name, name));
    select.parentElement.hidden = names.length < 2;
  }
  let order = [...rows];
  const draw = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = selects.filter(({ select }) => select.value);
    const kept = order.filter((entry) =>
      wanted.every(({ select, column }) => entry.cells[column] === select.value) && words.every((word) => entry.words.includes(word)));
    body.replaceChildren(...kept.slice(0, shown).map((entry) => entry.row));
    count.textContent = kept.length > shown ? `${shown} of ${kept.length} lines` : `${kept.length} ${kept.length === 1 ? "line" : "lines"}`;
    paging.hidden = kept.length <= shown;
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const kind = head.dataset.kind;
      const first = kind === "number" ? "descending" : "ascending";
      const now = head.getAttribute("aria-sort");
      const next = now === null ? first : now === "ascending" ? "descending" : "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", next);
      const sign = next === "ascending" ? 1 : -1;
      order = [...rows].sort((one, other) => {
        const a = value(one, column, kind), b = value(other, column, kind);
        if (kind === "number" && (Number.isNaN(a) || Number.isNaN(b))) return Number.isNaN(a) - Number.isNaN(b) || one.place - other.place;
        return sign * (kind === "word" ? a.localeCompare(b) : a - b) || one.place - other.place;
      });
      draw();
    });
  });
  for (const event of ["input", "change"]) form.addEventListener(event, () => { shown = STEP; draw(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("more").addEventListener("click", () => { shown += STEP; draw(); });
  document.getElementById("all").addEventListener("click", () => { shown = Infinity; draw(); });
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((part) => { part.open = true; });
    shown = Infinity;
    draw();
  });
  form.hidden = false;
  draw();
})();
document.querySelectorAll("button[data-copy]").forEach((button) => {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(text.textContent);
    } catch {
      const range = document.createRange();
      range.selectNodeContents(text);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
});
