// α after mixing: a table of one cell at the chosen epoch, and the lines of one node over all epochs.

function choice(text, options, change) {
  const select = make("select", {}, ...options.map((name, k) => make("option", { value: String(k) }, name)));
  select.addEventListener("change", () => change(Number(select.value)));
  return { node: make("label", {}, `${text} `, select), select };
}

function weight(value, digits) {
  return value === null ? "" : (value / DATA.scale).toFixed(digits);
}

// In words how far the weights of a table are from those of an α that prefers nothing.
function distanceInWords(values, even, columns) {
  const shares = values.map((v, k) => (v === null ? null : v / DATA.scale / even[Math.floor(k / columns)])).filter((v) => v !== null);
  const levels = [...new Set(even.map((v) => v.toPrecision(3)))].map(Number);
  const uniform = levels.length > 1 ? `${Math.min(...levels)} to ${Math.max(...levels)}` : `${levels[0]}`;
  const low = Math.min(...shares), high = Math.max(...shares), near = high - low < 0.1;
  return `Uniform, all candidates of an edge alike, is ${uniform}. Here the weights are ${low.toFixed(2)} to ${high.toFixed(2)} times that${near ? ": α hardly prefers anything" : ""}.`;
}

function alphaSection(given, run, clock) {
  const state = { set: 0, node: 0 };
  const digits = given.high < 0.4 ? 3 : 2;
  const evenOf = (set, place) => set.even[Math.min(place, set.even.length - 1)];
  const sheet = make("div", { class: "wide", tabindex: "0", role: "group", "aria-label": "table of weights" }), lines = make("div", { class: "card" });
  const note = make("p", { class: "unit" });
  let fields = [];

  const paint = () => {
    const place = placeOf(given.at, clock.now), set = given.sets[state.set], columns = given.operations.length;
    const values = set.values[place];
    note.textContent = `${distanceInWords(values, evenOf(set, place), columns)} ${asOf(given.at[place], clock.now)}`;
    fields.forEach((row, edge) => {
      const weights = values.slice(edge * columns, (edge + 1) * columns);
      const best = Math.max(...weights.map((v) => (v === null ? -1 : v)));
      row.forEach((field, k) => {
        if (k === columns) return void (field.textContent = weight(set.shares[place][edge], 2));
        const value = weights[k], colour = value === null ? "" : colourOf(value / DATA.scale / given.high);
        field.textContent = weight(value, digits);
        field.style.backgroundColor = colour;
        field.style.color = colour && inkOn(colour);
        field.className = value !== null && value === best ? "best" : "";
      });
    });
  };

  const build = () => {
    const set = given.sets[state.set];
    const names = [...given.operations, ...(set.shares ? ["edge's share (β)"] : [])];
    const head = make("tr", {}, make("th", { scope: "col" }, "edge"), ...names.map((name) => make("th", { scope: "col" }, make("span", {}, name))));
    fields = set.edges.map(() => names.map((_, k) => make("td", k === given.operations.length ? { class: "share" } : {})));
    const bodies = set.nodes.map(([name, rows], n) => {
      const group = { class: n === state.node ? "chosen" : "" };
      const title = make("tr", group, make("th", { scope: "rowgroup", colspan: String(names.length + 1) }, name));
      return make("tbody", {}, title, ...rows.map((k) => make("tr", group, make("th", { scope: "row" }, set.edges[k]), ...fields[k])));
    });
    sheet.replaceChildren(make("table", { class: "alpha" }, make("thead", {}, head), ...bodies));
    paint();
  };

  const trace = () => {
    const set = given.sets[state.set], columns = given.operations.length, rows = set.nodes[state.node][1];
    const along = (pick) => {
      const values = Array(run.epochs).fill(null);
      given.at.forEach((epoch, place) => { const v = pick(place); values[epoch] = v === null ? null : v / DATA.scale; });
      return values;
    };
    const stages = run.stages, epochs = run.epochs, charts = [];
    for (const edge of rows) {
      const found = given.operations.map((name, k) => ({ name, values: along((place) => set.values[place][edge * columns + k]) }));
      const looks = found.map((_, k) => k).filter((k) => found[k].values.some((v) => v !== null));
      if (!looks.length) continue;
      const even = Array(epochs).fill(null);
      given.at.forEach((epoch, place) => { even[epoch] = evenOf(set, place)[edge]; });
      const chart = { title: `edge ${set.edges[edge]}`, unit: "weight", lines: looks.map((k) => found[k]), looks, epochs, stages, range: [0, given.high], even };
      charts.push(make("div", {}, make("h4", {}, `Edge ${set.edges[edge]}`), lineChart(chart, clock, false)));
    }
    if (set.shares) {
      const shares = rows.map((edge) => ({ name: set.edges[edge], values: along((place) => set.shares[place][edge]) }));
      charts.push(make("div", {}, make("h4", {}, "Shares of the edges (β)"), lineChart({ title: "shares of the edges", unit: "β", lines: shares, epochs, stages }, clock)));
    }
    const title = make("h3", {}, `Edges into ${set.nodes[state.node][0]}`, make("span", { class: "unit" }, " (weight by epoch)"));
    lines.replaceChildren(title, legend(given.operations).node, make("div", { class: "charts" }, ...charts));
  };

  const nodes = choice(run.path ? "Into" : "Node", given.sets[0].nodes.map(([name]) => name), (n) => { state.node = n; build(); trace(); });
  const sets = choice(run.path ? "Stage" : "Cell", given.sets.map((set) => set.title), (n) => { state.set = n; build(); trace(); });
  build();
  trace();
  clock.on(paint);
  const chosen = make("div", { class: "choose" }, ...(given.sets.length > 1 ? [sets.node] : []), nodes.node);
  const about = make("p", { class: "unit" }, `Mixing weight (${given.mixing}) of each candidate. The largest of an edge is underlined. The lines belong to the chosen node.`);
  const whole = card("α at the chosen epoch", "", chosen, about, scale(0, given.high, short), note, sheet);
  return [make("div", { class: "pair" }, whole, lines)];
}
