"use strict";
// Heads of columns become buttons that sort the rows of their section, those shown and those folded
// together. Without this script the tables are as they came: the worst first, and no dead buttons.
(() => {
  const NUMBER = /^[-+]?(?:\d+(?:\.\d+)?(?:e[-+]?\d+)?|inf(?:inity)?)$/i;
  const collator = new Intl.Collator("en", { numeric: true });
  const asNumber = (text) => Number(text.replace(/inf(?:inity)?$/i, "Infinity"));

  // What a row is sorted by in a column: its machine value, or its text where there is none.
  function valuesOf(rows, column) {
    const cells = rows.map((row) => row.cells[column]);
    const given = cells.map((cell) => cell.dataset.sort);
    const useless = given.every((value) => !value);
    return cells.map((cell, n) => (useless ? cell.textContent : given[n] ?? cell.textContent).trim());
  }

  function comparison(values) {
    if (values.every((value) => value === "" || NUMBER.test(value))) {
      return (a, b) => (asNumber(a) > asNumber(b)) - (asNumber(a) < asNumber(b));
    }
    return collator.compare;
  }

  // What is unknown stays last, whichever way the rest goes; equal rows stay as they stand.
  function sorted(rows, column, direction) {
    const values = valuesOf(rows, column);
    const compare = comparison(values);
    const order = rows.map((_, n) => n).sort((a, b) => {
      const x = values[a];
      const y = values[b];
      return x === "" || y === "" ? (x === "") - (y === "") : direction * compare(x, y);
    });
    return order.map((n) => rows[n]);
  }

  for (const section of document.querySelectorAll("section.part")) {
    const heads = Array.from(section.querySelectorAll("thead tr"));
    const bodies = Array.from(section.querySelectorAll("tbody"));
    const rowsNow = () => bodies.flatMap((body) => Array.from(body.rows));
    const asCame = rowsNow();
    if (asCame.length < 2) continue;
    const sizes = bodies.map((body) => body.rows.length);
    let state = { column: -1, turn: 0 };

    const click = (column, number) => {
      // The largest number first, then the smallest, then the order in which they came.
      const turn = state.column === column ? (state.turn + 1) % 3 : 1;
      state = turn ? { column, turn } : { column: -1, turn: 0 };
      const direction = (turn === 1) === number ? -1 : 1;
      const rows = turn ? sorted(rowsNow(), column, direction) : asCame;
      let from = 0;
      bodies.forEach((body, n) => {
        body.append(...rows.slice(from, (from += sizes[n])));
      });
      for (const head of heads) {
        Array.from(head.cells).forEach((cell, n) => {
          cell.removeAttribute("aria-sort");
          if (turn && n === column) {
            cell.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
          }
        });
      }
    };

    for (const head of heads) {
      Array.from(head.cells).forEach((cell, column) => {
        const button = document.createElement("button");
        button.type = "button";
        button.append(...cell.childNodes);
        cell.append(button);
        button.addEventListener("click", () => click(column, cell.classList.contains("num")));
      });
    }
  }
})();
