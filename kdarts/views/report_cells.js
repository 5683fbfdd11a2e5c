// The cells, or the path of a HyperCuboid, at the chosen epoch.

// A box or line in its own look, which dark pages lighten.
function looking(node, colour) {
  node.style.setProperty("--look", colour);
  return node;
}

// A smooth line through level pieces [from x, to x, y], with an arrow head at its end.
function wire(route, colour, dashed, heavy) {
  const [, end, level] = route[route.length - 1], head = 7;
  let way = `M${route[0][0]} ${route[0][2]}`;
  for (let k = 0; k + 1 < route.length; k++) {
    const a = route[k][1], b = route[k + 1][0], middle = (a + b) / 2;
    way += `L${a} ${route[k][2]}C${middle} ${route[k][2]} ${middle} ${route[k + 1][2]} ${b} ${route[k + 1][2]}`;
  }
  way += `L${end - head * 0.8} ${level}`;
  const line = draw("path", { class: "wire", d: way, "stroke-width": heavy ? 1.8 : 1.2, ...(dashed ? { "stroke-dasharray": "5 3.5" } : {}) });
  const tip = draw("path", { class: "tip", d: `M${end - head} ${level - head * 0.45}L${end} ${level}L${end - head} ${level + head * 0.45}z` });
  return looking(draw("g", {}, line, tip), colour);
}

function plate(x, y, width, height, round, fill, line, content) {
  const box = draw("rect", { class: "box", x: x - width / 2, y: y - height / 2, width, height, rx: round, fill });
  const text = draw("text", { x, y, fill: inkOn(fill) }, ...content);
  text.style.setProperty("fill", inkOn(fill));
  return draw("g", {}, looking(box, line), text);
}

function nodeName(node) {
  if (node === "output" || node < 2) return ["c", draw("tspan", { dy: 3, "font-size": 7 }, node === "output" ? "k" : node ? "k−1" : "k−2")];
  return [String(node)];
}

function cellPicture(cell, title, looks, nodeLooks) {
  const [width, height] = cell.size, room = 6;
  const inWords = cell.edges.map(([name, , to, from]) => `${name} from ${from} to ${to}`).join(", ");
  const svg = draw("svg", { viewBox: `${-room} ${-room} ${width + 2 * room} ${height + 2 * room}`, role: "img",
    "aria-label": `${title}: ${inWords}` });
  svg.style.width = `${1.15 * (width + 2 * room)}px`;
  svg.style.minWidth = `${0.8 * (width + 2 * room)}px`;
  for (const route of cell.routes) svg.append(wire(route, "#6b6b6b", cell.routes.length > 1, false));
  for (const [, family, , , , , , route] of cell.edges) svg.append(wire(route, looks[family][3], false, family !== "skip"));
  for (const [name, family, , , x, y, wide] of cell.edges) svg.append(plate(x, y, wide, 19, 8.6, looks[family][2], looks[family][3], [name]));
  for (const [node, x, y, wide, high] of cell.nodes) {
    const look = nodeLooks[node === "output" ? "output" : node < 2 ? "input" : "node"];
    svg.append(plate(x, y, wide, high, 6, look[2], look[3], nodeName(node)));
  }
  return svg;
}

function cellLegend(given) {
  const item = (look, dashed, box) => {
    const sample = draw("svg", { viewBox: "0 0 34 14", "aria-hidden": "true" });
    if (!box) sample.append(wire([[1, 32, 7]], look[3], dashed, true));
    if (!dashed) sample.append(looking(draw("rect", { class: "box", x: box ? 6 : 7, y: 1.5, width: box ? 20 : 14, height: 11, rx: box ? 3 : 5, fill: look[2] }), look[3]));
    return make("li", {}, sample, make("span", {}, look[1]));
  };
  const items = [...given.nodes.map((look) => item(look, false, true)), ...given.families.map((look) => item(look, false, false))];
  if (given.cells.some((cell) => cell.routes.length > 1)) items.push(item(["", "concatenation", "", "#6b6b6b"], true, false));
  return make("ul", { class: "legend" }, ...items);
}

function cells(given, clock) {
  const looks = Object.fromEntries(given.families.map((look) => [look[0], look]));
  const nodeLooks = Object.fromEntries(given.nodes.map((look) => [look[0], look]));
  const count = Math.max(...given.frames.map((frame) => frame.length));
  const places = Array.from({ length: count }, () => make("div", { class: "wide cell", tabindex: "0", role: "group" }));
  const shown = places.map(() => null);
  const notes = make("div", { class: "muted" });
  const tell = () => {
    const place = placeOf(given.at, clock.now), frame = given.frames[place];
    notes.replaceChildren(...[asOf(given.at[place], clock.now), ...given.gaps[place]].map((line) => make("p", {}, line)));
    places.forEach((place, k) => {
      const title = given.titles[k] || `cell ${k}`;
      if (shown[k] === frame[k]) return;
      shown[k] = frame[k];
      place.setAttribute("aria-label", `drawing of ${title}`);
      place.replaceChildren(...(frame[k] === undefined ? [] : [cellPicture(given.cells[frame[k]], title, looks, nodeLooks)]));
    });
  };
  tell();
  clock.on(tell);
  const each = places.map((place, k) => make("div", {}, make("h3", {}, given.titles[k] || `cell ${k}`), place));
  return make("div", { class: "card" }, make("div", { class: "charts drawings" }, ...each), cellLegend(given), notes);
}

// A column of states between any two stages; the path is the thick line, its choices the labels on it.
function trellis(given, clock) {
  const host = make("div", { class: "wide", tabindex: "0", role: "group", "aria-label": "drawing of the path" });
  const wide = Math.max(...given.states.map((text) => text.length)) * 7 + 22, row = 46;
  const widest = Math.max(...[...given.choices, ...given.stages.flat()].map((text) => text.length));
  const column = wide + 34 + 6.6 * widest, lines = Math.max(...given.stages.map((stage) => stage.length));
  const across = (k) => 6 + wide / 2 + k * column, down = (state) => lines * 15 + 26 + state * row;
  const tell = () => {
    const [states, choices] = given.frames[placeOf(given.at, clock.now)];
    const width = across(given.stages.length) + wide / 2 + 6, height = down(given.states.length - 1) + 36;
    const named = states.map((s, k) => given.states[s] + (k < choices.length && given.choices[choices[k]] ? `, ${given.choices[choices[k]]}` : ""));
    const svg = draw("svg", { class: "trellis", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `path: ${named.join(" → ")}` });
    given.stages.forEach((stage, k) => {
      const middle = (across(k) + across(k + 1)) / 2;
      stage.forEach((text, n) => svg.append(draw("text", { x: middle, y: 13 + 15 * n, "text-anchor": "middle", class: "muted" }, text)));
      svg.append(draw("line", { class: "step", x1: across(k), x2: across(k + 1), y1: down(states[k]), y2: down(states[k + 1]) }));
      const choice = given.choices[choices[k]], y = (down(states[k]) + down(states[k + 1])) / 2;
      if (!choice) return;
      svg.append(draw("rect", { x: middle - 3.3 * choice.length - 6, y: y - 9, width: 6.6 * choice.length + 12, height: 18, rx: 8 }));
      svg.append(draw("text", { x: middle, y: y + 4, "text-anchor": "middle" }, choice));
    });
    for (let k = 0; k <= given.stages.length; k++) given.states.forEach((text, s) => {
      const on = states[k] === s ? { class: "on" } : { class: "muted" };
      svg.append(draw("rect", { ...on, x: across(k) - wide / 2, y: down(s) - 12, width: wide, height: 24, rx: 9 }));
      svg.append(draw("text", { ...on, x: across(k), y: down(s) + 4, "text-anchor": "middle" }, text));
    });
    if (given.axis) svg.append(draw("text", { x: width / 2, y: height - 4, "text-anchor": "middle", class: "muted" }, `states: ${given.axis}`));
    host.replaceChildren(svg);
  };
  tell();
  clock.on(tell);
  return card("Path", "thick line, labelled with its operations", host);
}
