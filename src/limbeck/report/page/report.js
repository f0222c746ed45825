"use strict";
// Sorts tables, and draws the gallery. Names are set as text, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const PAGE = 12; // images that are added at a time
const COLOURS = [
  ["#0072B2", "#fff"], ["#D55E00", "#000"], ["#009E73", "#000"],
  ["#CC79A7", "#000"], ["#E69F00", "#000"], ["#56B4E9", "#000"],
];
const state = { order: "first", label: "", threshold: data.threshold, count: PAGE };

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function named(name) {
  return element("bdi", "", name);
}

// --- Tables ---

function cellValue(row, column) {
  const cell = row.cells[column];
  if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
  const text = cell.textContent.trim();
  return text === "-" ? null : text;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

function sortBy(head) {
  const table = head.closest("table");
  const descending = head.getAttribute("aria-sort") !== "descending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [cellValue(row, head.cellIndex), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null); // what is not known, last
    return descending ? compare(b, a) : compare(a, b);
  });
  body.append(...rows.map(([, row]) => row));
}

for (const button of document.querySelectorAll("button.sort")) {
  button.addEventListener("click", () => sortBy(button.closest("th")));
}

// --- Gallery ---

function isRight(box, truth, taken) {
  const [label, , x1, y1, x2, y2] = box;
  let best = -1, most = 0.5;
  truth.forEach(([other, u1, v1, u2, v2], index) => {
    const width = Math.min(x2, u2) - Math.max(x1, u1);
    const height = Math.min(y2, v2) - Math.max(y1, v1);
    if (other !== label || taken.has(index) || width <= 0 || height <= 0) return;
    const common = width * height;
    const overlap = common / ((x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - common);
    if (overlap >= most) [best, most] = [index, overlap];
  });
  if (best >= 0) taken.add(best);
  return best >= 0;
}

function drawBox([label, score, x1, y1, x2, y2], right, [width, height]) {
  const box = element("div", right ? "box" : "box wrong");
  const [colour, letters] = COLOURS[label % COLOURS.length];
  box.style.cssText = `--class: ${colour}; --on-class: ${letters}; left: ${(100 * x1) / width}%; ` +
    `top: ${(100 * y1) / height}%; width: ${(100 * (x2 - x1)) / width}%; ` +
    `height: ${(100 * (y2 - y1)) / height}%`;
  if (y1 < 0.1 * height) box.classList.add("high");
  if (x1 > 0.6 * width) box.classList.add("right-hand");
  const text = element("span");
  text.append(named(data.classes[label]), score === null ? "" : ` ${score.toFixed(2)}`);
  box.append(text);
  return box;
}

function picture(card, alt) {
  const image = element("img", Math.max(...card.size) <= 64 ? "tiny" : "");
  [image.src, image.alt] = [card.picture, alt];
  [image.width, image.height] = card.size;
  return image;
}

function caption(model, card) {
  const made = element("figcaption");
  if (model === null) {
    made.append("truth");
    return made;
  }
  const mark = element("span", `mark ${model.kind}`, model.glyph);
  mark.setAttribute("aria-hidden", "true");
  made.append(mark, " ", named(model.name), ` ${card.scores[model.kind].toFixed(2)}`);
  return made;
}

function boxesPanel(card, model) {
  const panel = element("figure", "panel");
  const frame = element("div", "frame");
  const taken = new Set();
  const boxes = model === null
    ? card.truth.map(([label, ...sides]) => [label, null, ...sides])
    : card.found[model.kind].filter((box) => box[1] >= state.threshold);
  const told = boxes.map(([label, score]) => data.classes[label] + (score === null ? "" : ` ${score}`));
  frame.append(picture(card, `${model === null ? "truth" : model.name}: ${told.join(", ") || "no boxes"}`));
  for (const box of boxes) {
    frame.append(drawBox(box, model === null || isRight(box, card.truth, taken), card.size));
  }
  panel.append(frame, caption(model, card));
  return panel;
}

function guessesPanel(card, model) {
  const panel = element("figure", "panel");
  const list = element("ul", "guesses");
  for (const [label, share] of card.found[model.kind]) {
    if (share < state.threshold) continue;
    const line = element("li", card.classes.includes(label) ? "true" : "");
    line.style.setProperty("--share", share);
    line.append(named(data.classes[label]), element("span", "number", share.toFixed(2)));
    list.append(line);
  }
  panel.append(caption(model, card), list);
  return panel;
}

function truthPanel(card) {
  if (data.task === "detection") return boxesPanel(card, null);
  const panel = element("figure", "panel");
  const frame = element("div", "frame");
  const name = data.classes[card.classes[0]];
  const under = element("figcaption");
  under.append("truth: ", named(name));
  frame.append(picture(card, name));
  panel.append(frame, under);
  return panel;
}

function drawCard(card) {
  const article = element("article", "card");
  const sign = card.gain > 0 ? "+" : card.gain < 0 ? "−" : "";
  const head = element("h3", "", `Image ${card.index}, ${data.order} `);
  head.append(element("strong", "number", sign + Math.abs(card.gain).toFixed(3)));
  const panels = element("div", `panels ${data.task}`);
  const models = data.models.map((model) =>
    data.task === "detection" ? boxesPanel(card, model) : guessesPanel(card, model));
  panels.append(truthPanel(card), ...models);
  article.append(head, panels);
  return article;
}

function draw() {
  const wanted = state.label === "" ? null : Number(state.label);
  const cards = data.cards.filter((card) => wanted === null || card.classes.includes(wanted));
  if (state.order === "last") cards.reverse();
  const shown = cards.slice(0, state.count);
  document.getElementById("cards").replaceChildren(...shown.map(drawCard));
  document.getElementById("status").textContent =
    `${shown.length} of ${cards.length} images are shown.`;
  document.getElementById("more").hidden = shown.length === cards.length;
  document.getElementById("class").value = state.label;
  document.getElementById("threshold-value").textContent = state.threshold.toFixed(2);
  for (const button of document.querySelectorAll("button.filter")) {
    button.setAttribute("aria-pressed", String(button.dataset.class === state.label));
  }
  for (const button of document.querySelectorAll("[data-order]")) {
    button.setAttribute("aria-pressed", String(button.dataset.order === state.order));
  }
}

function change(changes) {
  Object.assign(state, changes);
  draw();
}

const select = document.getElementById("class");
data.classes.forEach((name, label) => select.add(new Option(name, label)));
select.addEventListener("change", () => change({ label: select.value, count: PAGE }));
const slider = document.getElementById("threshold");
slider.value = state.threshold;
state.threshold = Number(slider.value);
slider.addEventListener("input", () => change({ threshold: Number(slider.value) }));
document.getElementById("controls").addEventListener("submit", (event) => event.preventDefault());
for (const button of document.querySelectorAll("[data-order]")) {
  button.addEventListener("click", () => change({ order: button.dataset.order, count: PAGE }));
}
document.getElementById("more").addEventListener("click", () => change({ count: state.count + PAGE }));
for (const button of document.querySelectorAll("button.filter")) {
  button.addEventListener("click", () => {
    const label = button.dataset.class;
    change({ label: label === state.label ? "" : label, count: PAGE });
  });
}
draw();
