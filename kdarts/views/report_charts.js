// Charts over the epochs. `clock` is a run's chosen epoch: `clock.now`, `clock.on(f)`, `clock.set(epoch)`; null: none.

function pickable(svg, clock, epochAt) {
  if (!clock) return;
  const pick = (event) => clock.set(epochAt(event.clientX - svg.getBoundingClientRect().left));
  svg.addEventListener("pointerdown", pick);
  svg.addEventListener("pointermove", (event) => { if (event.buttons) pick(event); });
}

function range(lines) {
  const values = lines.flatMap((line) => line.values).filter((v) => v !== null);
  let low = Math.min(...values), high = Math.max(...values);
  if (!values.length) return [0, 1];
  if (low >= 0 && low < 0.4 * high) low = 0;
  if (high === low) [low, high] = low >= 0 ? [0, high * 1.3 || 1] : [low * 1.3, 0];
  const room = (high - low) * 0.04;
  return [low === 0 ? 0 : low - room, high + room];
}

function spoken(chart) {
  const say = (line) => {
    const values = line.values.filter((v) => v !== null);
    return values.length ? `${line.name} from ${short(values[0])} to ${short(values[values.length - 1])}` : `${line.name} none`;
  };
  return `${chart.title}${chart.unit ? `, ${chart.unit}` : ""}, by epoch: ${chart.lines.map(say).join("; ")}`;
}

// A chart: { title, unit, lines: [{ name, values }], epochs, stages, range?, looks?, even? }; returns its node.
// `even` are values by epoch of a line that is not of the data: where α prefers nothing.
function lineChart(chart, clock, withLegend = true) {
  const host = make("div", { class: "plot" });
  const looks = chart.looks || chart.lines.map((_, k) => k);
  const [low, high] = chart.range || range(chart.lines);
  let cursor = null, across = null;
  const move = () => {
    if (!cursor || !clock) return;
    const x = across(clock.now);
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
  };
  sized(host, (width) => {
    const height = Math.round(Math.min(230, Math.max(150, width * 0.55)));
    const whole = chart.lines.every((line) => line.values.every((v) => v === null || Number.isInteger(v)));
    const vertical = ticks(low, high, 4).filter((t) => !whole || Number.isInteger(t)), wide = Math.max(...vertical.map((t) => short(t).length));
    const box = { left: 12 + 7 * wide, right: width - 10, top: 8, bottom: height - 32 };
    across = (epoch) => box.left + 8 + (chart.epochs > 1 ? epoch / (chart.epochs - 1) : 0.5) * (box.right - box.left - 16);
    const up = (value) => box.bottom - ((value - low) / (high - low)) * (box.bottom - box.top);
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": spoken(chart) });
    for (const value of vertical) {
      svg.append(draw("line", { class: "grid", x1: box.left, x2: box.right, y1: up(value), y2: up(value) }));
      svg.append(draw("text", { x: box.left - 5, y: up(value) + 4, "text-anchor": "end", class: "muted" }, short(value)));
    }
    for (const epoch of ticks(1, Math.max(chart.epochs, 2), Math.min(8, width / 55)).filter((n) => n >= 1 && n <= chart.epochs && Number.isInteger(n))) {
      svg.append(draw("text", { x: across(epoch - 1), y: box.bottom + 15, "text-anchor": "middle", class: "muted" }, String(epoch)));
    }
    svg.append(draw("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
    svg.append(draw("text", { x: (box.left + box.right) / 2, y: height - 3, "text-anchor": "middle", class: "muted" }, "epoch"));
    for (const [start, name] of chart.stages || []) {
      const x = across(Math.max(0, start - 0.5));
      if (start) svg.append(draw("line", { class: "stage", x1: x, x2: x, y1: box.top, y2: box.bottom }, draw("title", {}, name)));
    }
    if (chart.even) {
      const points = chart.even.map((v, epoch) => (v === null ? null : [across(epoch), up(v)])).filter((p) => p);
      svg.append(draw("path", { class: "even", d: `M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}` }));
      const [x, y] = points[points.length - 1];
      svg.append(draw("text", { x, y: y < box.top + 24 ? y + 14 : y - 14, "text-anchor": "end", class: "muted" }, "uniform"));
    }
    chart.lines.forEach((line, k) => {
      const points = line.values.map((v, epoch) => (v === null ? null : [across(epoch), up(v)])).filter((p) => p);
      if (!points.length) return;
      const way = points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");
      svg.append(draw("path", { d: `M${way}`, ...lineLook(looks[k]) }));
      const every = Math.max(1, Math.ceil(points.length / 6)), shift = Math.floor((k * every) / Math.max(1, chart.lines.length));
      points.forEach(([x, y], n) => { if (n % every === shift || points.length === 1) svg.append(mark(looks[k], x, y)); });
    });
    if (clock) svg.append((cursor = draw("line", { class: "cursor", y1: box.top, y2: box.bottom })));
    pickable(svg, clock, (x) => Math.round(((x - box.left - 8) / (box.right - box.left - 16)) * (chart.epochs - 1)));
    host.replaceChildren(svg);
    move();
  });
  const node = make("div", {}, host);
  if (clock) clock.on(move);
  if (!withLegend) return node;
  const key = legend(chart.lines.map((line) => line.name), looks);
  node.append(key.node);
  const tell = () => chart.lines.forEach((line, k) => {
    key.values[k].textContent = short(upTo(line.values, clock ? clock.now : chart.epochs));
  });
  tell();
  if (clock) clock.on(tell);
  return node;
}

// Rows of counts by epoch as a field of colours, with the chosen epoch's counts beside it.
function countGrid(title, names, counts, at, epochs, clock) {
  const host = make("div", { class: "plot" });
  const most = Math.max(1, ...counts.flat());
  let cursor = null, values = [], across = null;
  const move = () => {
    if (!cursor) return;
    cursor.setAttribute("x", across(clock.now));
    const place = placeOf(at, clock.now);
    values.forEach((text, k) => { text.textContent = String(counts[k][place]); });
  };
  sized(host, (width) => {
    const longest = Math.max(...names.map((name) => name.length));
    const label = Math.min(longest, Math.floor(width * 0.42 / 7.2)), left = label * 7.2 + 8, row = 20;
    const step = (width - left - 26) / epochs, height = names.length * row + 32;
    across = (epoch) => left + epoch * step;
    const last = counts.map((row, k) => `${names[k]} ${row[row.length - 1]}`).join(", ");
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": `${title}; at the end: ${last}` });
    values = names.map((name, k) => {
      const shown = name.length > label ? `${name.slice(0, label - 1)}…` : name;
      svg.append(draw("text", { x: left - 6, y: k * row + 15, "text-anchor": "end" }, shown, draw("title", {}, name)));
      svg.append(draw("line", { class: "grid", x1: left, x2: across(epochs), y1: (k + 1) * row, y2: (k + 1) * row }));
      for (let n = 0, end; n < at.length; n = end) {
        for (end = n + 1; end < at.length && counts[k][end] === counts[k][n];) end++;
        const stop = end < at.length ? at[end] : at[at.length - 1] + 1;
        const field = { class: "field", x: across(at[n]), y: k * row + 2, width: (stop - at[n]) * step, height: row - 3, fill: colourOf(most > 1 ? (counts[k][n] - 1) / (most - 1) : 1) };
        if (counts[k][n]) svg.append(draw("rect", field, draw("title", {}, `${name}: ${counts[k][n]}, epochs ${at[n] + 1} to ${stop}`)));
      }
      const text = draw("text", { x: across(epochs) + 8, y: k * row + 15, "font-weight": "bold" });
      svg.append(text);
      return text;
    });
    for (const epoch of ticks(1, Math.max(epochs, 2), Math.min(8, (width - left) / 45)).filter((n) => n >= 1 && n <= epochs && Number.isInteger(n))) {
      svg.append(draw("text", { x: across(epoch - 0.5), y: names.length * row + 14, "text-anchor": "middle", class: "muted" }, String(epoch)));
    }
    svg.append(draw("text", { x: across(epochs / 2), y: height - 4, "text-anchor": "middle", class: "muted" }, "epoch"));
    svg.append((cursor = draw("rect", { class: "cursor", y: 0, width: Math.max(step, 2), height: names.length * row })));
    pickable(svg, clock, (x) => Math.floor((x - left) / step));
    host.replaceChildren(svg);
    move();
  });
  clock.on(move);
  const key = most > 1 ? scale(1, most, String) : make("p", { class: "scale" }, "colour: 1");
  key.append(make("span", { class: "muted" }, "· blank: none"));
  return make("div", {}, host, key);
}

function scale(low, high, form) {
  const bar = make("canvas", { width: 33, height: 1, "aria-hidden": "true" });
  const pen = bar.getContext("2d");
  for (let k = 0; k < 33; k++) {
    pen.fillStyle = DATA.colours[k];
    pen.fillRect(k, 0, 1, 1);
  }
  return make("p", { class: "scale" }, form(low), bar, form(high));
}

// Networks by size and accuracy: all candidates as dots, the chosen ones as diamonds.
function scatter(family) {
  const host = make("div", { class: "plot" });
  const all = [...family.candidates, ...family.chosen];
  const [sizes, accuracies] = [0, 1].map((k) => range([{ values: all.map((p) => p[k] * (k ? 100 : 1)) }]));
  sized(host, (width) => {
    const height = 240, box = { left: 44, right: width - 10, top: 8, bottom: height - 34 };
    const across = (v) => box.left + ((v - sizes[0]) / (sizes[1] - sizes[0])) * (box.right - box.left);
    const up = (v) => box.bottom - ((v - accuracies[0]) / (accuracies[1] - accuracies[0])) * (box.bottom - box.top);
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img",
      "aria-label": `accuracy by size of ${family.candidates.length} candidates and the ${family.chosen.length} networks of the family` });
    for (const v of ticks(...accuracies, 4)) {
      svg.append(draw("line", { class: "grid", x1: box.left, x2: box.right, y1: up(v), y2: up(v) }));
      svg.append(draw("text", { x: box.left - 5, y: up(v) + 4, "text-anchor": "end", class: "muted" }, short(v)));
    }
    for (const v of ticks(...sizes, Math.min(6, width / 70))) svg.append(draw("text", { x: across(v), y: box.bottom + 15, "text-anchor": "middle", class: "muted" }, short(v)));
    svg.append(draw("text", { x: (box.left + box.right) / 2, y: height - 4, "text-anchor": "middle", class: "muted" }, family.size));
    for (const [x, y] of family.candidates) svg.append(draw("circle", { class: "dot", r: 2.4, cx: across(x), cy: up(100 * y) }));
    for (const [x, y] of family.chosen) svg.append(draw("path", { class: "chosen-dot", d: MARKS[3], transform: `translate(${across(x)} ${up(100 * y)})` }));
    host.replaceChildren(svg);
  });
  return make("div", {}, host, make("p", { class: "unit" }, "Dots: all candidates. Diamonds: the family."));
}
