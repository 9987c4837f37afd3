"use strict";
// The page's only script: tables are sorted by a column, and pictures are shown large. Without it everything can still be read.

const FEW = 3; // rows, below which there is nothing to sort

function valueOf(cell) {
  const text = cell.textContent.replace(/[①②]/g, "").replace(/−/g, "-").replace(/,/g, "").trim();
  const number = parseFloat(text);
  return Number.isNaN(number) ? text.toLowerCase() : number;
}

function compare(one, other) {
  if (typeof one === typeof other) return typeof one === "number" ? one - other : one.localeCompare(other, undefined, { numeric: true });
  return typeof one === "number" ? -1 : 1; // what was not measured comes last
}

function sort(table, column, head) {
  const falling = head.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = [...body.rows].filter((row) => !row.classList.contains("kept"));
  const keys = new Map(rows.map((row) => [row, valueOf(row.cells[column])]));
  const isText = rows.every((row) => typeof keys.get(row) === "string");
  rows.sort((one, other) => {
    const [a, b] = [keys.get(one), keys.get(other)];
    const order = compare(a, b);
    return falling && (isText || typeof a === typeof b) ? -order : order;
  });
  body.append(...rows, ...body.querySelectorAll(":scope > .kept"));
}

for (const table of document.querySelectorAll("main table")) {
  const head = table.tHead && table.tHead.rows[0];
  const rows = table.tBodies.length ? [...table.tBodies[0].rows].filter((row) => !row.classList.contains("kept")) : [];
  if (!head || rows.length < FEW || rows.some((row) => row.cells.length !== head.cells.length)) continue;
  [...head.cells].forEach((cell, column) => {
    if (rows.every((row) => !row.cells[column].textContent.trim())) return; // a drawing, whose number stands beside it
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...cell.childNodes);
    cell.append(button);
    button.addEventListener("click", () => sort(table, column, cell));
  });
}

const zoom = document.createElement("dialog");
zoom.className = "zoom";
zoom.setAttribute("aria-label", "Enlarged picture");
const figure = document.createElement("figure");
const close = document.createElement("button");
close.type = "button";
close.textContent = "Close";
zoom.append(close, figure);
document.body.append(zoom);
close.addEventListener("click", () => zoom.close());
zoom.addEventListener("click", (event) => event.target === zoom && zoom.close());

function enlarge(drawing) {
  const copy = drawing.cloneNode(true);
  const caption = document.createElement("figcaption");
  caption.textContent = drawing.getAttribute("aria-label") || "";
  copy.removeAttribute("tabindex");
  figure.replaceChildren(copy, caption);
  zoom.showModal();
}

for (const drawing of document.querySelectorAll("main svg.picture, main svg.chart")) {
  if (drawing.closest("summary")) continue;
  drawing.classList.add("zooms");
  if (drawing.getAttribute("role") === "img") drawing.setAttribute("tabindex", "0");
  drawing.addEventListener("click", () => enlarge(drawing));
  drawing.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    enlarge(drawing);
  });
}
