// Sorts the trials of a page that is complete without this.
(() => {
  "use strict";
  const table = document.getElementById("sortable");
  const heads = Array.from(table?.querySelectorAll("thead th") ?? []);

  function sort(column, rising) {
    const body = table.tBodies[0];
    const of = (row) => {
      const cell = row.cells[column];
      return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
    };
    const compare = (first, second) => {
      const [a, b] = [of(first), of(second)];
      if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
      const order = typeof a === "number" ? a - b : a.localeCompare(b);
      return rising ? order : -order;
    };
    body.append(...Array.from(body.rows).sort(compare));
  }

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const rising = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      sort(column, rising);
    });
  });
  addEventListener("beforeprint", () => {
    for (const each of document.querySelectorAll("details")) each.open = true;
  });
})();
