// What every part of the page uses: elements, figures and looks. Text goes in as text alone, never as HTML.

const DATA = JSON.parse(document.getElementById("data").textContent);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function card(title, unit, ...children) {
  const heading = make("h3", {}, title);
  if (unit) heading.append(make("span", { class: "unit" }, ` (${unit})`));
  return make("div", { class: "card" }, heading, ...children);
}

function table(head, rows, first = true) {
  const top = make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)));
  const cell = (text, k) => (k === 0 && first ? make("th", { scope: "row" }, text) : make("td", {}, text));
  const body = rows.map((row) => make("tr", {}, ...row.map(cell)));
  return make("div", { class: "wide" }, make("table", {}, make("thead", {}, top), make("tbody", {}, ...body)));
}

function short(value) {
  if (value === null || value === undefined) return "–";
  if (value !== 0 && Math.abs(value) < 1e-3) return value.toExponential(1);
  return String(Number(value.toPrecision(4)));
}

// The last figure at or before an epoch.
function upTo(values, epoch) {
  for (let k = Math.min(epoch, values.length - 1); k >= 0; k--) if (values[k] !== null) return values[k];
  return null;
}

// The place in a rising list of the last number at or below an epoch; the first where there is none.
function placeOf(at, epoch) {
  let place = 0;
  at.forEach((one, k) => { if (one <= epoch) place = k; });
  return place;
}

// Of long runs not every epoch is kept.
function asOf(epoch, now) {
  return epoch < now ? `as of epoch ${epoch + 1}, the last one before that is shown` : "";
}

function ticks(low, high, count) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(Number((k * step).toPrecision(12)));
  return found;
}

// Lines differ by colour, dashes and marks, so that they can be told apart in grey.
const DASHES = ["", "7 3", "2 2.5", "9 3 2 3", "12 4", "4 2 1 2", "1 4"];
const MARKS = ["M-3.4 0a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0 -6.8 0", "M-3-3h6v6h-6z", "M0-4L3.8 3H-3.8z", "M0-4.4L4 0L0 4.4L-4 0z",
  "M-4-1.3h2.7v-2.7h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7z"];

function lineLook(k) {
  return { class: `line k${k % 8}`, "stroke-dasharray": DASHES[k % DASHES.length] };
}

function mark(k, x, y) {
  return draw("g", { class: `k${k % 8}`, transform: `translate(${x} ${y})` }, draw("path", { d: MARKS[k % MARKS.length], class: "mark" }));
}

function legend(names, looks = names.map((_, k) => k)) {
  const values = names.map(() => make("b"));
  const items = names.map((name, k) => {
    const sample = draw("svg", { "aria-hidden": "true", viewBox: "0 0 34 14" });
    sample.append(draw("path", { d: "M1 7H33", ...lineLook(looks[k]) }), mark(looks[k], 17, 7));
    return make("li", {}, sample, make("span", {}, name), values[k]);
  });
  return { node: make("ul", { class: "legend" }, ...items), values };
}

// Colours whose lightness grows with the value; ink that can be read on them.
function colourOf(share) {
  return DATA.colours[Math.round(32 * Math.min(1, Math.max(0, share)))];
}

function inkOn(colour) {
  const parts = [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16) / 255);
  const [r, g, b] = parts.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b < 0.27 ? "#ffffff" : "#1f1f1f";
}

// Calls `render(width)` once the host has a width, and again whenever it gets another.
function sized(host, render) {
  let last = 0;
  new ResizeObserver(() => {
    const width = host.clientWidth;
    if (width > 0 && Math.abs(width - last) > 1) render((last = width));
  }).observe(host);
}
