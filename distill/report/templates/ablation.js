// Sorts the table of trials; the page is complete without this script.
(() => {
  "use strict";
  const table = document.getElementById("sortable");
  const headings = Array.from(table?.querySelectorAll("thead th") ?? []);

  function sort(column, rising) {
    const body = table.tBodies[0];
    const valueOf = (row) => {
      const cell = row.cells[column];
      return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
    };
    const compare = (first, second) => {
      const [a, b] = [valueOf(first), valueOf(second)];
      if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
      const order = typeof a === "number" ? a - b : a.localeCompare(b);
      return rising ? order : -order;
    };
    body.append(...Array.from(body.rows).sort(compare));
  }

  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const rising = heading.getAttribute("aria-sort") !== "ascending";
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
      sort(column, rising);
    });
  });
  addEventListener("beforeprint", () => {
    for (const each of document.querySelectorAll("details")) each.open = true;
  });
})();
